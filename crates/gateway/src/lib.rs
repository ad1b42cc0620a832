//! The gateway: an OpenAI-compatible server in front of the meter.
//!
//! The walk of a request: a route takes it ([`routes`]); its key says whether it may name its user (`keys`); its
//! headers name the user (`identity`), who must be known; bounds keep one user, and all together, from taking too much
//! (`bounds`); its body becomes a typed request, and the meter does the rest. Whatever goes wrong on the way becomes an
//! answer in one place (`error`).

mod bounds;
pub mod config;
mod error;
mod identity;
mod keys;
mod routes;
mod server;

pub use config::{Config, ConfigProblem};
pub use server::{Gateway, serve};
