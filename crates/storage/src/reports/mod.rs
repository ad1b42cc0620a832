//! Answers: what everyone has left, who used what, and whether the books are right.

pub mod balance;
pub mod explain;
pub mod health;
pub mod requests;
pub mod sponsored;
pub mod usage;
pub mod verify;
