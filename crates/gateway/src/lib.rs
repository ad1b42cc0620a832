//! The gateway: an OpenAI-compatible server in front of the meter.
//!
//! The walk of a request: a route takes it ([`routes`]); its key says whether it may name its user (`keys`); its
//! headers name the user (`identity`), who must be known; bounds keep one user, and all together, from taking too much
//! (`bounds`); its body becomes a typed request, and the meter does the rest. Whatever goes wrong on the way becomes an
//! answer in one place (`error`), in the form of its API (`form`).
//!
//! A private gateway serves one process of Open WebUI's, on a Unix socket: there each request brings its model server along
//! (`servers`). Code that sends its requests by itself holds and settles by the local routes (`routes::local`, `errands`).

mod bounds;
pub mod config;
mod connections;
mod errands;
mod error;
mod form;
mod hosts;
mod http2;
mod identity;
mod keep_alive;
mod keys;
mod listener;
mod pages;
mod rarely;
mod refused;
mod routes;
mod server;
mod servers;
mod watched;

pub use config::{Config, ConfigProblem, GatewayConfig};
pub use hosts::AllowedHost;
pub use listener::Listener;
pub use pages::AllowedOrigin;
pub use server::{Gateway, serve};
