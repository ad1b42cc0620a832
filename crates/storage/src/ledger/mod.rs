//! The ledger: holds, settlements and releases, each exactly once, on both databases.
//!
//! Callers queue what they want on the [`Ledger`]; one writer per process takes up to 256 of them together
//! ([`writer`]), locks and loads the accounts concerned in key order, decides in pure Rust ([`plan`]), writes the result
//! and commits. A row in `token_tracking_hold` is consumed by whoever settles or releases it, so that happens once.
//!
//! The rule it protects: for each account, spent is the sum of its ledger rows and held the sum of its open holds.

pub(crate) mod booking;
mod carry;
mod checkpoint;
mod entry;
mod foreign;
mod hold;
mod memory;
pub(crate) mod owner;
mod plan;
mod postgres;
mod postponed;
mod progress;
mod sqlite;
mod turn;
mod writable;
mod writer;

pub(crate) use turn::Turn;

pub(crate) use entry::TEXTS_REMOVED;
pub use entry::{EntryKind, Estimated, Outcome, Progress, RequestRecord, Settlement, WayIn};
pub(crate) use foreign::{ForeignRow, UNUSABLE};
pub use hold::{Abandoned, Hold, HoldOutcome, HoldRequest, Recovery, Settled};
pub use owner::Lease;
pub(crate) use owner::{LiveOwner, live, live_owners, select_live};

use std::sync::Arc;
use std::time::Duration;

use accounting::{OwnerId, RequestId};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use crate::{Database, Error, Kind};
use hold::Op;
use writable::Writable;
use writer::Writer;

/// A handle on the ledger of one process. Cheap to clone; the writer ends when the last handle and hold are gone.
#[derive(Clone, Debug)]
pub struct Ledger {
    database: Database,
    queue: Queue,
    owner: Arc<owner::Owner>,
    carrier: Arc<carry::Carrier>,
    writable: Arc<Writable>,
}

/// Where operations wait for the writer. Unbounded by type, bounded by use: each caller waits for its own answer.
#[derive(Clone, Debug)]
struct Queue(mpsc::UnboundedSender<Op>);

impl Queue {
    fn send(&self, op: Op) -> Result<(), Error> {
        self.0.send(op).map_err(|_| Error::Unavailable { what: "the ledger's writer has stopped".into() })
    }

    async fn ask<T>(&self, op: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Op) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(op(reply))?;
        answer.await.map_err(|_| Error::Unavailable { what: "the ledger's writer has stopped".into() })?
    }
}

/// So many holds are told together how far they have come, so that no other operation waits long behind them.
const PORTION: usize = 128;
/// Beyond a hold's own waiting time, how long a caller waits for a writer that does not answer.
const ANSWER_GRACE: Duration = Duration::from_secs(2);

impl Ledger {
    /// Opens the ledger for this process and registers the process as an owner of holds.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the database can't be reached or written.
    pub async fn open(database: &Database) -> Result<Self, Error> {
        let owner = Arc::new(owner::Owner::register(database).await?);
        let (sender, receiver) = mpsc::unbounded_channel();
        let queue = Queue(sender);
        let runtime = tokio::runtime::Handle::current();
        let seat = Arc::clone(&owner);
        let database_of_writer = database.clone();
        let writable = Arc::new(Writable::default());
        let (seen, open) = (Arc::clone(&writable), database.writer());
        // A thread of its own: SQLite blocks, and neither database's writer should wait behind other tasks.
        let run = move || {
            match database_of_writer.kind() {
                Kind::Sqlite => {
                    let engine = sqlite::SqliteEngine::new(&database_of_writer);
                    runtime.block_on(Writer::new(engine, receiver, seat, seen).run());
                }
                Kind::Postgres => {
                    let engine = postgres::PostgresEngine::new(&database_of_writer);
                    runtime.block_on(Writer::new(engine, receiver, seat, seen).run());
                }
            }
            // The engine's connection is closed.
            drop(open);
        };
        std::thread::Builder::new()
            .name("ledger".into())
            .spawn(run)
            .map_err(|error| Error::Unavailable { what: format!("no thread for the ledger: {error}") })?;
        Ok(Self { database: database.clone(), queue, owner, carrier: Arc::default(), writable })
    }

    /// The owner under whose name this process holds at present.
    pub fn owner(&self) -> OwnerId {
        self.owner.id()
    }

    /// Whether the database answers, has a schema that this program may use, and takes what the writer writes. Writes nothing
    /// itself: the writer renews its lease every two seconds anyway.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn ping(&self) -> Result<(), Error> {
        self.writable.check(tokio::time::Instant::now())?;
        self.database.ping().await?;
        crate::migrate::require_usable(&self.database).await
    }

    /// Asks for credits to be set aside on all accounts of the bid, or on none.
    ///
    /// Waits up to `request.wait` while only other holds stand in the way. If the caller goes away meanwhile, nothing
    /// stays held.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the database could not be written within that time.
    pub async fn hold(&self, request: HoldRequest) -> Result<HoldOutcome, Error> {
        let patience = request.wait + ANSWER_GRACE;
        let queue = self.queue.clone();
        let asked = async {
            let at = Timestamp::from_microsecond(request.record.started_at).unwrap_or_default();
            self.carrier.carry(&self.database, &request.bid, request.record.day, at).await?;
            self.queue.ask(move |reply| Op::hold(request, queue, reply)).await
        };
        tokio::time::timeout(patience, asked).await.unwrap_or_else(|_| {
            Err(Error::Unavailable { what: "the database is busy or away: nothing was held in time".into() })
        })
    }

    /// Charges a request in the name of its owner, whether or not its hold still stands: what a recovery has charged
    /// meanwhile is replaced. Retried until it commits.
    ///
    /// # Errors
    /// Only what no retry can mend, such as an overflow of the account.
    pub async fn settle(&self, settlement: Settlement) -> Result<Settled, Error> {
        self.queue.ask(|reply| Op::Settle { settlement: Box::new(settlement), reply }).await
    }

    /// Replaces a hold that a dead process left by its charge, unless it has ended meanwhile: whatever its owner or another
    /// process has made of it stands. Retried until it commits.
    ///
    /// # Errors
    /// Only what no retry can mend, such as an overflow of the account.
    pub async fn recover(&self, settlement: Settlement) -> Result<Recovery, Error> {
        self.queue.ask(|reply| Op::Recover { settlement: Box::new(settlement), reply }).await
    }

    /// Renews this process's lease, and notes in these holds how far they have come, for programs that don't know what
    /// [`save`](Self::save) writes.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the database could not be written; try again at the next beat.
    pub async fn renew(&self, mut progress: Vec<(RequestId, Progress)>) -> Result<Lease, Error> {
        loop {
            let rest = progress.split_off(progress.len().min(PORTION));
            let lease = self.queue.ask(|reply| Op::Renew { progress, reply }).await?;
            if rest.is_empty() || lease == Lease::Lost {
                return Ok(lease);
            }
            progress = rest;
        }
    }

    /// Saves how far this process's requests have come, in place of what it saved before: all that are under way.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the database could not be written; try again at the next beat.
    pub async fn save(&self, progress: &[(RequestId, Progress)]) -> Result<Lease, Error> {
        let progress = progress::text(progress)?;
        self.queue.ask(|reply| Op::Save { progress, reply }).await
    }

    /// Enters rows that the original wrote, all or none, and marks them.
    ///
    /// # Errors
    /// [`Error::Conflict`] if another process has entered some of them meanwhile: read again. [`Error::Unavailable`] if the
    /// database could not be written.
    pub(crate) async fn import(&self, rows: Vec<ForeignRow>) -> Result<(), Error> {
        self.queue.ask(|reply| Op::Import { rows, reply }).await
    }

    /// The database that it is in.
    pub(crate) const fn database(&self) -> &Database {
        &self.database
    }

    /// Takes a new owner's name after the old one was declared dead.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the database could not be written.
    pub async fn register_again(&self) -> Result<(), Error> {
        self.owner.register_again(&self.database).await
    }

    /// Declares owners dead whose lease ran out by the database's clock, or whose process on this host is gone, and
    /// returns the holds that they left. Settle each of them; several processes may do so at once.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the database could not be reached.
    pub async fn abandoned(&self) -> Result<Vec<Abandoned>, Error> {
        owner::abandoned(&self.database, &self.owner).await
    }

    /// Says that an abandoned hold could not be settled: it is returned again after a minute, then ever more rarely. Whether it
    /// is the first time.
    pub fn postpone(&self, id: RequestId) -> bool {
        self.owner.postponed.failed(&id.to_string(), tokio::time::Instant::now())
    }

    /// Gives a hold that this process can't settle to whoever can: as those of dead processes, it is tried again, and shown.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the database could not be written.
    pub async fn leave(&self, id: RequestId) -> Result<(), Error> {
        owner::leave(&self.database, id).await
    }

    /// Gives up this process's name: what it still holds is then settled by others at once.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the database could not be written.
    pub async fn resign(&self) -> Result<(), Error> {
        self.owner.resign(&self.database).await
    }
}
