//! The heartbeat of a process: renews its lease, saves how far its requests have come, settles what dead processes left,
//! and ends it all in order.

use std::sync::Arc;
use std::time::Duration;

use accounting::{Credits, RequestId};
use storage::ledger::{Lease, Recovery};
use storage::{original, rollup};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::settlement;
use crate::shared::Shared;

/// Leases last 12 s (see `storage::ledger`).
const BEAT: Duration = Duration::from_secs(2);
/// A lease that could not be renewed is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// With the time that writing it takes, what a crash loses of a stream is less than half a second.
const SAVE: Duration = Duration::from_millis(250);
/// How often it looks for days to sum.
const SUM: Duration = Duration::from_secs(60);
/// After so long it leaves the rest for the next time.
const SUM_FOR: Duration = Duration::from_secs(2);
/// How long the last settlements may take once nothing new comes.
const LAST_SETTLEMENTS: Duration = Duration::from_secs(10);
/// How often a draining process looks whether its requests have ended.
const LOOK: Duration = Duration::from_millis(20);

/// Renews the lease and saves how far requests have come, until the process closes.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut saves = interval(SAVE);
    saves.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut renew_at, mut renewed, mut saved) = (Instant::now(), true, true);
    loop {
        tokio::select! {
            biased;
            () = shared.closing.cancelled() => return,
            _ = saves.tick() => {}
        }
        if Instant::now() >= renew_at {
            let began = Instant::now();
            renewed = renew(&shared, renewed).await;
            renew_at = began + if renewed { BEAT } else { AGAIN };
        }
        saved = save(&shared, saved).await;
    }
}

/// Settles what dead processes left, until the process closes. Beside the beats, because it may be much.
pub(crate) async fn recover_all(shared: Arc<Shared>) {
    let mut looks = interval(BEAT);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let recovering = async {
        loop {
            looks.tick().await;
            recover(&shared).await;
        }
    };
    shared.closing.run_until_cancelled(recovering).await;
}

/// Follows what the original, or somebody by hand, writes into its tables, until the process closes. Beside the beats, because
/// thousands of rows take longer than one.
pub(crate) async fn follow(shared: Arc<Shared>) {
    let mut looks = interval(BEAT);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let following = async {
        loop {
            looks.tick().await;
            match original::follow(&shared.ledger, &*shared.clock).await {
                Ok(synced) => {
                    if !synced.prices.is_empty() {
                        shared.catalogue.changed();
                        tracing::info!(prices = ?synced.prices, "took over prices from the original's table");
                    }
                    if synced.usage.rows + synced.usage.unusable > 0 {
                        let original::Imported { rows, charge, unpriced, unusable, .. } = &synced.usage;
                        tracing::info!(rows, %charge, ?unpriced, unusable, "took over usage from the original's log");
                    }
                }
                Err(error) => tracing::warn!(%error, "could not follow the original's tables"),
            }
        }
    };
    shared.closing.run_until_cancelled(following).await;
}

/// Sums days that are over, so that reports are quick, until the process closes. Beside the beats, because it reads a lot at
/// times, and no lease may wait for it.
pub(crate) async fn sum(shared: Arc<Shared>) {
    let mut looks = interval(SUM);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let summing = async {
        loop {
            looks.tick().await;
            match rollup::roll_up(shared.catalogue.database(), &*shared.clock, Some(SUM_FOR), |_, _| {}).await
            {
                Ok(0) => {}
                Ok(days) => tracing::debug!(days, "summed the usage of days that are over"),
                Err(error) => tracing::debug!(%error, "no days were summed; trying again in a minute"),
            }
        }
    };
    shared.closing.run_until_cancelled(summing).await;
}

/// Whether the lease was renewed. What could not be done before either is no news.
async fn renew(shared: &Shared, renewed_before: bool) -> bool {
    let progress = shared.flights.to_note();
    let noted: Vec<RequestId> = progress.iter().map(|(id, _)| *id).collect();
    match shared.ledger.renew(progress).await {
        Ok(Lease::Held) => {
            if !renewed_before {
                tracing::info!("the lease is renewed again");
            }
            true
        }
        Ok(Lease::Lost) => {
            lost(shared).await;
            true
        }
        Err(error) => {
            shared.flights.note_again(&noted);
            if renewed_before {
                tracing::warn!(%error, "the lease could not be renewed; it is tried every second");
            }
            false
        }
    }
}

/// Saves how far requests have come, if that was not `saved` before or one of them has moved. Whether it is saved now.
async fn save(shared: &Shared, saved: bool) -> bool {
    let Some(progress) = shared.flights.to_save(!saved) else { return true };
    match shared.ledger.save(&progress).await {
        Ok(Lease::Held) => true,
        Ok(Lease::Lost) => {
            lost(shared).await;
            false
        }
        Err(error) => {
            tracing::debug!(%error, "the progress of requests could not be saved");
            false
        }
    }
}

async fn lost(shared: &Shared) {
    tracing::warn!(
        "this process was silent for so long that others settled its requests; ending its streams"
    );
    shared.ground_all();
    if let Err(error) = shared.ledger.register_again().await {
        tracing::error!(%error, "no new lease yet; trying again at the next beat");
    }
}

/// Settles the holds of processes that are gone.
async fn recover(shared: &Shared) {
    // Where a newer version has taken the database over, the holds are its own to settle.
    if let Err(error) = shared.catalogue.snapshot().await {
        return tracing::warn!(%error, "holds of dead processes are not looked for");
    }
    let abandoned = match shared.ledger.abandoned().await {
        Ok(abandoned) => abandoned,
        Err(error) => return tracing::warn!(%error, "could not look for holds of dead processes"),
    };
    for hold in abandoned {
        // Held under a name of this process that is lost, and still in its hands: what it says itself is better.
        if shared.flights.has(hold.id) {
            continue;
        }
        let price = match hold.record.price_version {
            Some(version) => match shared.catalogue.price_version(version).await {
                Ok(price) => price,
                // A newer version has to settle it.
                Err(error @ storage::Error::NewerData { .. }) => {
                    if shared.ledger.postpone(hold.id) {
                        tracing::error!(%error, request = %hold.id, "a request of a dead process is left to a newer version");
                    }
                    continue;
                }
                Err(error) => {
                    return tracing::warn!(%error, "could not read the price of an abandoned request");
                }
            },
            None => None,
        };
        let request = hold.id;
        let (charge, recovered) = match settlement::recovered(hold, price.as_ref(), shared) {
            Ok(settlement) => (settlement.charge, shared.ledger.recover(settlement).await),
            Err(error) => (Credits::ZERO, Err(error.into())),
        };
        match recovered {
            Ok(Recovery::Charged) => tracing::info!(%request, %charge, "settled a request of a dead process"),
            Ok(Recovery::Moot) => {
                tracing::debug!(%request, "somebody else has ended a request of a dead process")
            }
            // The database is away, or this process ends.
            Err(error @ storage::Error::Unavailable { .. }) => {
                return tracing::warn!(%error, "requests of dead processes could not be settled");
            }
            Err(error) => {
                if shared.ledger.postpone(request) {
                    tracing::error!(%error, %request, "an abandoned request can't be settled; its hold stands");
                }
            }
        }
    }
}

/// Drains, closes, settles.
pub(crate) async fn shutdown(shared: &Shared, drain: Duration) {
    until_idle(shared, drain).await;
    shared.closing.cancel();
    shared.tasks.close();
    until_idle(shared, LAST_SETTLEMENTS).await;
    if tokio::time::timeout(LAST_SETTLEMENTS, shared.tasks.wait()).await.is_err() {
        tracing::error!("not everything could be settled in time; another process will settle the rest");
    }
    if let Err(error) = shared.ledger.resign().await {
        tracing::warn!(%error, "could not sign off; others will notice that this process is gone");
    }
}

async fn until_idle(shared: &Shared, at_most: Duration) {
    let until = Instant::now() + at_most;
    let mut looks = interval(LOOK);
    while shared.flights.count() > 0 && Instant::now() < until {
        looks.tick().await;
    }
}
