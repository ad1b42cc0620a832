//! The gateway in this process, with a database and a simulated model server: what clients get, and what the ledger says.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers included")]

mod allowances;
mod answers;
mod app;
mod bounds;
mod codings;
mod completions;
mod dialects;
mod doors;
mod errors;
mod expected;
mod fields;
mod flow;
mod http2;
mod local;
mod mutations;
mod native_counts;
mod network;
mod newer_data;
mod pauses;
mod periods;
mod prices;
mod provider_options;
mod providers;
mod recovered;
mod refusals;
mod scripted;
mod sponsored;
mod staged;
mod streams;
mod texts;
