//! Answers: what everyone has left, who used what, and whether the books are right.

pub mod balance;
pub mod entry;
pub mod export;
pub mod requests;
pub mod usage;
pub mod verify;
