//! Holds of dead processes that could not be settled.
//!
//! The rule it protects: one hold that can't be settled takes nothing from the others, neither their turn nor the
//! administrator's attention. It is tried again after a minute, then ever more rarely, and is said once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The first time again; each further one waits twice as long.
const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(60 * 60);

#[derive(Debug, Clone, Copy)]
struct Tried {
    wait: Duration,
    again: Instant,
}

/// Those that failed here, by the id of their row.
#[derive(Debug, Default)]
pub(super) struct Postponed(Mutex<HashMap<String, Tried>>);

impl Postponed {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.all().len()
    }

    /// Whether that one may be tried now.
    pub(super) fn is_due(&self, id: &str, now: Instant) -> bool {
        self.all().get(id).is_none_or(|tried| tried.again <= now)
    }

    /// It failed; whether for the first time.
    pub(super) fn failed(&self, id: &str, now: Instant) -> bool {
        let mut all = self.all();
        let before = all.get(id).map(|tried| tried.wait);
        let wait = before.map_or(SHORTEST, |wait| (wait * 2).min(LONGEST));
        all.insert(id.to_owned(), Tried { wait, again: now + wait });
        before.is_none()
    }

    /// Forgets those that are not there any more.
    pub(super) fn keep(&self, is_there: impl Fn(&str) -> bool) {
        self.all().retain(|id, _| is_there(id));
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Tried>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_tried_ever_more_rarely_and_said_once() {
        let (postponed, began) = (Postponed::default(), Instant::now());
        assert!(postponed.is_due("a", began) && postponed.failed("a", began));
        let mut tries = 0;
        for seconds in (0..24 * 60 * 60).step_by(2) {
            let now = began + Duration::from_secs(seconds);
            if postponed.is_due("a", now) {
                assert!(!postponed.failed("a", now), "it was said before");
                tries += 1;
            }
        }
        assert!((23..=30).contains(&tries), "{tries}");
        postponed.keep(|id| id != "a");
        assert!(postponed.is_due("a", began) && postponed.count() == 0);
    }
}
