//! The turn to write an SQLite file, among processes of ours: an advisory lock on a file beside it.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use crate::{Database, Error};

/// The right to write next; given back when dropped.
#[derive(Debug)]
#[must_use = "a turn that is dropped is over"]
pub(crate) struct Turn(#[expect(dead_code, reason = "closing the file ends the turn")] Option<File>);

/// The file whose lock is the turn.
pub(super) fn file(database: &Path) -> io::Result<File> {
    let mut beside = database.as_os_str().to_owned();
    beside.push("-tracking-lock");
    OpenOptions::new().create(true).truncate(false).write(true).open(&beside)
}

impl Turn {
    /// Waits for it. Needed by nobody on PostgreSQL; where the file can't be opened, SQLite's own lock must do.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the lock fails.
    pub(crate) async fn take(database: &Database) -> Result<Self, Error> {
        let Some(file) = database.url().path().and_then(|path| file(path).ok()) else {
            return Ok(Self(None));
        };
        let failed = |what: String| Error::Unavailable { what: format!("no turn to write: {what}") };
        let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await;
        match locked {
            Ok(Ok(file)) => Ok(Self(Some(file))),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}
