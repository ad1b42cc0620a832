//! The time as an argument: who needs to know what time it is holds a [`Clock`].

use jiff::Timestamp;

/// Tells the time. The real one lives in `storage`; tests set theirs.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The present moment, UTC.
    fn now(&self) -> Timestamp;
}
