//! What may happen very often is logged once a second at most.

use std::time::Duration;

use tokio::time::Instant;

const PAUSE: Duration = Duration::from_secs(1);

/// One thing that may happen very often.
#[derive(Debug, Default)]
pub(crate) struct Rarely {
    said: Option<Instant>,
    times: u64,
}

impl Rarely {
    /// Notes that it happened; how often since it was said last, if it is to be said now.
    pub(crate) fn say(&mut self, now: Instant) -> Option<u64> {
        self.times += 1;
        if !self.may_say(now) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.times))
    }

    /// Whether it would be said.
    pub(crate) fn may_say(&self, now: Instant) -> bool {
        self.said.is_none_or(|said| now.saturating_duration_since(said) >= PAUSE)
    }
}
