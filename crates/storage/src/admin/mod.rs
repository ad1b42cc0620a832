//! What administrators do: prices, groups, sponsored allowances, settings, users, keys. Each change is one transaction.

pub mod audit;
pub mod credits;
pub mod directory;
pub mod files;
pub mod forget;
pub mod groups;
pub mod keys;
pub mod price_list;
pub mod prices;
pub mod prune;
pub mod repair;
pub mod settings;
pub mod sponsored;
pub mod users;
