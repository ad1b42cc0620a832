//! The flow of one request. Every way in hands a typed request to [`Meter::chat`], and gets an answer that is metered:
//!
//! 1. price and limits, from the catalogue (`route`)
//! 2. quote: what may this cost? (`quote`, and `bounds` for the strict policy)
//! 3. hold: one atomic write on all accounts concerned (`storage::ledger`)
//! 4. send to the provider (`providers`)
//! 5. stream on, noting usage and progress (`stream`, `flight`)
//! 6. settle: charge = price × usage, committed before the end of the answer is released (`settlement`, `answer`)
//!
//! Beside it runs the heartbeat (`beat`): leases, progress, and the requests of processes that died.

mod answer;
mod beat;
mod bounds;
mod count;
mod error;
mod families;
mod flight;
mod meter;
mod quote;
mod route;
mod settlement;
mod shared;
mod stream;

pub use error::{LimitReached, MeterError};
pub use meter::{Labels, Meter, MeterOptions, MeteredAnswer, MeteredBody};
pub use quote::Payer;
pub use route::OfferedModel;
pub use storage::ledger::WayIn;
pub use stream::MeteredStream;
