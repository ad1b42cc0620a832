//! What administrators do: prices, groups, sponsored allowances, settings, users, keys. Each change is one transaction.

pub mod audit;
pub mod credits;
pub mod directory;
pub mod groups;
pub mod keys;
pub mod price_list;
pub mod prices;
pub mod settings;
pub mod sponsored;
pub mod users;
