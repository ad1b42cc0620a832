//! Whether the database takes what the writer writes: so readiness costs no write of its own.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::Error;

/// Nothing was written for so long: that is no other writer's turn any more.
const LONG: Duration = Duration::from_secs(2);

/// What the writer has seen last.
#[derive(Debug, Default)]
pub(super) struct Writable(Mutex<Option<Unwritten>>);

/// A time in which nothing could be written.
#[derive(Debug)]
struct Unwritten {
    since: Instant,
    /// When the last attempt ended; `None` while one is under way.
    until: Option<Instant>,
    why: String,
}

impl Writable {
    fn unwritten(&self) -> MutexGuard<'_, Option<Unwritten>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attempt begins.
    pub(super) fn trying(&self, now: Instant) {
        let mut unwritten = self.unwritten();
        match &mut *unwritten {
            Some(unwritten) => unwritten.until = None,
            None => {
                let why = "the database does not answer".into();
                *unwritten = Some(Unwritten { since: now, until: None, why });
            }
        }
    }

    /// It was written.
    pub(super) fn written(&self) {
        *self.unwritten() = None;
    }

    /// It was not, for that reason.
    pub(super) fn failed(&self, error: &Error, now: Instant) {
        let mut unwritten = self.unwritten();
        match (&mut *unwritten, error) {
            (Some(unwritten), Error::Unavailable { what }) => {
                unwritten.until = Some(now);
                unwritten.why.clone_from(what);
            }
            // The database answers; what it was asked is at fault.
            (unwritten, _) => *unwritten = None,
        }
    }

    /// Whether something could be written of late.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if not.
    pub(super) fn check(&self, now: Instant) -> Result<(), Error> {
        let unwritten = self.unwritten();
        let Some(Unwritten { since, until, why }) = &*unwritten else { return Ok(()) };
        // Between two attempts nobody knows whether the next one fails too.
        let span = until.unwrap_or(now).duration_since(*since);
        if span < LONG {
            return Ok(());
        }
        Err(Error::Unavailable { what: format!("nothing could be written for {} s: {why}", span.as_secs()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy() -> Error {
        Error::Unavailable { what: "it is locked".into() }
    }

    #[test]
    fn one_failure_says_nothing_and_two_with_time_between_them_do() {
        let (writable, begin) = (Writable::default(), Instant::now());
        assert!(writable.check(begin).is_ok());
        writable.trying(begin);
        writable.failed(&busy(), begin);
        let later = begin + LONG * 2;
        assert!(writable.check(later).is_ok(), "nobody has tried since");
        writable.trying(later);
        writable.failed(&busy(), later);
        let said = writable.check(later).unwrap_err().to_string();
        assert!(said.contains("for 4 s: it is locked"), "{said}");
        writable.trying(later);
        writable.written();
        assert!(writable.check(later).is_ok());
    }

    #[test]
    fn an_attempt_without_an_end_is_a_failure() {
        let (writable, begin) = (Writable::default(), Instant::now());
        writable.trying(begin);
        assert!(writable.check(begin).is_ok());
        let later = begin + LONG;
        assert!(writable.check(later).unwrap_err().to_string().contains("does not answer"));
        writable.failed(&Error::Invalid { what: "a bad request".into() }, later);
        assert!(writable.check(later).is_ok(), "the database answers");
    }
}
