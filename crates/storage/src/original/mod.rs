//! The original, openwebui-token-tracking 0.1, beside us on the same database: its tables at its newest state, its usage in our
//! ledger, ours in its log, its prices ours.
//!
//! The rule it protects: nothing that it has written is lost, changed, or counted twice, and both count what the other serves.

mod downgrade;
mod import;
pub(crate) mod prices;
pub(crate) mod rights;
pub(crate) mod schema;
mod status;
mod stricter;
mod usable;

pub use downgrade::{Removed, downgrade};
pub use import::{Imported, Unpriced, import, preview};
pub use prices::{Absorbed, PricesPreview, preview as preview_prices, priced};
pub(crate) use rights::missing as missing_rights;
pub use schema::Revision;
pub use status::{Status, not_imported, status};
pub use stricter::{Stricter, stricter};
pub use usable::require_usable;

use accounting::Clock;

use crate::ledger::Ledger;
use crate::{Database, Error};

/// What was taken over from the original.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Synced {
    /// Its prices.
    pub prices: Absorbed,
    /// Its usage.
    pub usage: Imported,
}

/// Takes over what the original, or somebody by hand, has written into its tables since the last time. `progress` is told how
/// many rows of usage are entered so far.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away or busy.
pub async fn sync(
    database: &Database,
    clock: &dyn Clock,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<Synced, Error> {
    let prices = prices::sync(database, clock.now()).await?;
    if !import::is_due(database).await? {
        return Ok(Synced { prices, usage: Imported::default() });
    }
    let ledger = Ledger::open(database).await?;
    let usage = import(&ledger, clock, progress).await;
    ledger.resign().await?;
    Ok(Synced { prices, usage: usage? })
}

/// Makes sure that the database user may do what a migration takes.
///
/// # Errors
/// [`Error::NoRights`] names what is missing.
pub async fn require_rights(database: &Database) -> Result<(), Error> {
    let missing = missing_rights(database).await?;
    if missing.is_empty() { Ok(()) } else { Err(Error::NoRights { what: missing.join("; ") }) }
}

/// Takes over what differs in the original's price table.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away or busy.
pub async fn sync_prices(database: &Database, now: jiff::Timestamp) -> Result<Absorbed, Error> {
    prices::sync(database, now).await
}

/// Takes over all of it, for a process that has a ledger already: cheap where there is nothing new.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away or busy.
pub async fn follow(ledger: &Ledger, clock: &dyn Clock) -> Result<Synced, Error> {
    let prices = prices::sync(ledger.database(), clock.now()).await?;
    let usage = import(ledger, clock, &mut |_| {}).await?;
    Ok(Synced { prices, usage })
}
