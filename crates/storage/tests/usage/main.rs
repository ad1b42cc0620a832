//! Reports, the roll-up, exports, privacy and retention, on both databases.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers included")]

mod books;
mod privacy;
mod refusals;
mod rollup;
mod unknown;
