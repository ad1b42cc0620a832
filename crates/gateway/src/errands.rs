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

/// Whoever has an errand says at least so often that it goes on.
pub(crate) const SILENCE: Duration = Duration::from_secs(120);
/// How often silent ones are looked for.
const LOOK: Duration = Duration::from_secs(10);

/// The errands under way.
#[derive(Debug, Default, Clone)]
pub(crate) struct Errands(Arc<Mutex<HashMap<RequestId, (Instant, Errand)>>>);

impl Errands {
    pub(crate) fn add(&self, errand: Errand) {
        self.open().insert(errand.id(), (Instant::now(), errand));
    }

    /// Takes one out, to end it.
    pub(crate) fn take(&self, id: RequestId) -> Option<Errand> {
        self.open().remove(&id).map(|(_, errand)| errand)
    }

    /// Does something with one that goes on. `None` if there is none such.
    pub(crate) fn with<T>(&self, id: RequestId, act: impl FnOnce(&mut Errand) -> T) -> Option<T> {
        let mut open = self.open();
        let (heard, errand) = open.get_mut(&id)?;
        *heard = Instant::now();
        Some(act(errand))
    }

    /// Ends those that were not heard of for too long, as long as it is polled.
    pub(crate) async fn end_silent_ones(&self) {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            self.open().retain(|id, (heard, _)| {
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

    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<RequestId, (Instant, Errand)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
