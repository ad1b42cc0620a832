//! Writing SQLite's log back into the database file, beside the writer and out of its way.
//!
//! Left to itself, SQLite does so inside whichever commit finds the log long enough, and everyone in that batch waits for
//! the disk twice. Here a thread with a connection of its own does it while batches go on. It can't reach the end of a log
//! that grows meanwhile, and only a log that is written back to its end begins anew: so once the log is long, the writer
//! takes the short rest upon itself, between two batches.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

/// The log is written back each time so many rows were written; a row changes about one page.
const ROWS: usize = 1000;
/// A log of more pages than this (32 MiB) is to begin anew.
const LONG: i64 = 8000;

/// The thread that writes the log back; ends when dropped, after a last time.
pub(super) struct Checkpointer {
    bell: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Whether the log is long and its end was not reached.
    long: Arc<AtomicBool>,
    /// Written since the bell was rung.
    rows: usize,
}

impl Checkpointer {
    /// Starts the thread, which uses only this connection.
    pub(super) fn start(connection: Connection) -> io::Result<Self> {
        // One ring is enough, however often the writer rings while the thread is busy.
        let (bell, rings) = sync_channel(1);
        let long = Arc::new(AtomicBool::new(false));
        let said = Arc::clone(&long);
        let thread = std::thread::Builder::new()
            .name("ledger-log".into())
            .spawn(move || serve(&connection, &rings, &said))?;
        Ok(Self { bell: Some(bell), thread: Some(thread), long, rows: 0 })
    }

    /// Notes what the writer has committed, and finishes a long log on the writer's own connection.
    pub(super) fn committed(&mut self, rows: usize, writer: &Connection) {
        self.rows += rows;
        if self.long.swap(false, Ordering::Relaxed) {
            write_back(writer);
        }
        if let Some(bell) = self.bell.as_ref().filter(|_| self.rows >= ROWS) {
            // A full channel means that the thread will look anyway.
            let _ = bell.try_send(());
            self.rows = 0;
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.bell = None;
        if let Some(thread) = self.thread.take() {
            // It can only have ended.
            let _ = thread.join();
        }
    }
}

fn serve(connection: &Connection, rings: &Receiver<()>, long: &AtomicBool) {
    while rings.recv().is_ok() {
        long.store(write_back(connection), Ordering::Relaxed);
    }
    write_back(connection);
}

/// Writes back what no reader needs any more, and says whether the log is long and its end was not reached. Failures are
/// tried again with the next ring: the log keeps everything until then.
fn write_back(connection: &Connection) -> bool {
    let pages = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        Ok((row.get::<_, i64>("log")?, row.get::<_, i64>("checkpointed")?))
    });
    match pages {
        Ok((log, written)) => log > LONG && written < log,
        Err(error) => {
            tracing::warn!(%error, "the log of the database could not be written back; it is tried again");
            false
        }
    }
}
