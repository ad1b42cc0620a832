//! What tests and the demonstration need: fresh databases of both kinds, a model server that speaks the real protocol, and
//! a clock that can be set. Not published.

pub mod clock;
pub mod codings;
pub mod databases;
pub mod pgbouncer;
pub mod postgres;
pub mod proxy;
pub mod records;
pub mod round_trips;
pub mod simulator;
pub mod tls;
