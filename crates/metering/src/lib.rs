//! The flow of one request. Every way in hands a typed request to [`Meter::chat`], and gets an answer that is metered:
//!
//! 1. price and limits, from the catalogue (`route`); who pays (`payer`)
//! 2. quote: what may this cost? (`quote`, and `bounds` for the strict policy)
//! 3. hold: one atomic write on all accounts concerned (`storage::ledger`)
//! 4. send to the provider (`providers`)
//! 5. stream on, noting usage and progress (`stream`, `flight`)
//! 6. settle: charge = price × usage, committed before the end of the answer is released (`settlement`, `answer`)
//!
//! Code that sends its requests by itself has the same but for step 4 ([`Meter::errand`]).
//!
//! Beside it runs the heartbeat (`beat`): leases, progress, and the requests of processes that died.

mod answer;
mod beat;
mod bounds;
mod count;
mod errand;
mod error;
mod estimate;
mod families;
mod flight;
mod held_back;
mod meter;
mod model_lists;
mod output;
mod payer;
mod pictures;
mod quote;
mod reading;
mod refusals;
mod remark;
mod route;
mod settlement;
mod shared;
mod sponsored;
mod stream;
mod unknown;

pub use errand::{Errand, Recorded, Used};
pub use error::{LimitReached, MeterError, Unserved};
pub use meter::{Labels, Meter, MeterOptions, MeteredAnswer, MeteredBody};
pub use payer::Requester;
pub use remark::Remark;
pub use route::OfferedModel;
pub use settlement::Bill;
pub use sponsored::Audience;
pub use storage::ledger::{Outcome, WayIn};
pub use stream::MeteredStream;
