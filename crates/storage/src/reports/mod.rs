//! Answers: what everyone has left, who used what, and whether the books are right.

pub mod balance;
pub mod entry;
pub mod explain;
pub mod export;
pub mod health;
pub mod person;
pub mod recovered;
pub mod requests;
pub mod sponsored;
pub mod usage;
pub mod verify;
