//! A clock that tests set, and a day that doesn't end while they run.

use std::sync::{Mutex, PoisonError};

use accounting::Clock;
use jiff::{SignedDuration, Timestamp};
use storage::SystemClock;

/// Stands still until it is moved.
#[derive(Debug)]
pub struct SettableClock(Mutex<Timestamp>);

impl SettableClock {
    /// Stands at that moment.
    pub const fn at(moment: Timestamp) -> Self {
        Self(Mutex::new(moment))
    }

    /// Moves it to that moment.
    pub fn set(&self, moment: Timestamp) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = moment;
    }

    /// Moves it on.
    pub fn advance(&self, by: SignedDuration) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *now = now.saturating_add(by).unwrap_or(*now);
    }
}

/// A time zone in which today began one to two hours ago: no day, week or month ends during a test on the real clock.
pub fn early_zone() -> String {
    let hour = SystemClock.now().as_second().div_euclid(3600).rem_euclid(24);
    let ahead = (1 - hour + 11).rem_euclid(24) - 11;
    // The signs of these names are the other way round.
    format!("Etc/GMT{:+}", -ahead)
}

impl Clock for SettableClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
