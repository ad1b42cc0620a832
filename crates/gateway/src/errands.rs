//! The requests that foreign code sends by itself, between its calls.
//!
//! The rule it protects: code that stops calling does not keep its hold for ever, and does not get its answer for nothing.
//! What is not heard of for [`SILENCE`], or is open when this process ends, is settled with what was reported last.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use accounting::RequestId;
use metering::Errand;
use tokio::time::Instant;

use crate::bounds::Reserved;

/// Whoever has an errand says at least so often that it goes on.
pub(crate) const SILENCE: Duration = Duration::from_secs(120);
/// How often silent ones are looked for.
const LOOK: Duration = Duration::from_secs(10);

/// The errands under way.
#[derive(Debug, Default, Clone)]
pub(crate) struct Errands(Arc<Mutex<HashMap<RequestId, Open>>>);

#[derive(Debug)]
struct Open {
    heard: Instant,
    errand: Errand,
    /// What its request takes of the bounds.
    _body: Reserved,
}

impl Errands {
    pub(crate) fn add(&self, errand: Errand, body: Reserved) {
        self.open().insert(errand.id(), Open { heard: Instant::now(), errand, _body: body });
    }

    /// Takes one out, to end it.
    pub(crate) fn take(&self, id: RequestId) -> Option<Errand> {
        self.open().remove(&id).map(|open| open.errand)
    }

    /// Does something with one that goes on. `None` if there is none such.
    pub(crate) fn with<T>(&self, id: RequestId, act: impl FnOnce(&mut Errand) -> T) -> Option<T> {
        let mut open = self.open();
        let open = open.get_mut(&id)?;
        open.heard = Instant::now();
        Some(act(&mut open.errand))
    }

    /// Ends those that were not heard of for too long, as long as it is polled.
    pub(crate) async fn end_silent_ones(&self) {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            self.open().retain(|id, Open { heard, .. }| {
                let silent = heard.elapsed() > SILENCE;
                if silent {
                    tracing::warn!(request = %id, "not heard of for too long: settled with what was reported");
                }
                !silent
            });
        }
    }

    /// Ends all.
    pub(crate) fn end_all(&self) {
        self.open().clear();
    }

    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<RequestId, Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
