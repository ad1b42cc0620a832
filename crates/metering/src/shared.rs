//! What all requests of a process share.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use accounting::{Clock, Label};
use storage::Catalogue;
use storage::ledger::Ledger;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::flight::Flights;
use crate::refusals::Refusals;
use crate::route::Routes;
use crate::unknown::ToldKinds;

/// How long a client's answer may wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    /// The end, while its charge can't be committed.
    pub settle: Duration,
    /// The head of a streamed one, for its first event.
    pub head: Duration,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub routes: Routes,
    pub catalogue: Catalogue,
    pub ledger: Ledger,
    pub clock: Arc<dyn Clock>,
    pub flights: Flights,
    pub refusals: Refusals,
    /// Kinds of things in requests that we did not know.
    pub told: ToldKinds,
    /// Tasks that must end before the process does: settlements, the heartbeat.
    pub tasks: TaskTracker,
    pub instance: Option<Label>,
    pub waits: Waits,
    /// Cancelled when the process shuts down.
    pub closing: CancellationToken,
    /// A child of `closing`; cancelled and renewed when this process has lost its lease.
    ground: RwLock<CancellationToken>,
}

impl Shared {
    pub(crate) fn new(
        routes: Routes,
        catalogue: Catalogue,
        ledger: Ledger,
        clock: Arc<dyn Clock>,
        instance: Option<Label>,
        waits: Waits,
    ) -> Self {
        let closing = CancellationToken::new();
        let ground = RwLock::new(closing.child_token());
        let (flights, told, tasks) = (Flights::default(), ToldKinds::default(), TaskTracker::new());
        Self {
            routes,
            catalogue,
            ledger,
            clock,
            flights,
            refusals: Refusals::default(),
            told,
            tasks,
            instance,
            waits,
            closing,
            ground,
        }
    }

    /// Cancelled when the streams of the present owner must end.
    pub(crate) fn ground(&self) -> CancellationToken {
        self.ground.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends all streams; those that begin from now on go on.
    pub(crate) fn ground_all(&self) {
        let fresh = self.closing.child_token();
        let old = std::mem::replace(&mut *self.ground.write().unwrap_or_else(PoisonError::into_inner), fresh);
        old.cancel();
    }
}
