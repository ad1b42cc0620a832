//! What administrators do: prices, groups, settings, users, keys. Each change is one transaction.

pub mod keys;
