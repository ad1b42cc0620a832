//! The turn to write an SQLite file, among processes of ours: an advisory lock on a file beside it.
//!
//! Turns make waiting fair; what keeps writers apart is SQLite's own lock. So nobody waits for a turn for long: whoever holds
//! that file locked, without being a writer, stops nothing. The file belongs to the database's owner, and opens only for who
//! may write the database.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::Database;

/// A batch takes milliseconds, and what is written in portions seconds at most.
const PATIENCE: Duration = Duration::from_secs(2);

/// The right to write next; given back when dropped.
#[derive(Debug)]
#[must_use = "a turn that is dropped is over"]
pub(crate) struct Turn(#[expect(dead_code, reason = "closing the file ends the turn")] Option<File>);

/// Whether somebody in this process waits for a turn in vain: then nobody else does.
static IN_VAIN: AtomicBool = AtomicBool::new(false);

/// The file whose lock is the turn.
fn file(database: &Path) -> io::Result<File> {
    let mut beside = database.as_os_str().to_owned();
    beside.push("-tracking-lock");
    let beside = Path::new(&beside);
    let existing = || OpenOptions::new().write(true).open(beside);
    let file = match existing() {
        // Made anew, it is never somebody else's link.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut options = OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            match options.open(beside) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => existing(),
                made => made,
            }?
        }
        opened => opened?,
    };
    #[cfg(unix)]
    belong(&file, database);
    Ok(file)
}

/// Gives the file to the database's owner and group, for those among them who may write the database, as far as we may.
#[cfg(unix)]
fn belong(file: &File, database: &Path) {
    use std::fs::Permissions;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
    let (Ok(ours), Ok(theirs)) = (file.metadata(), std::fs::metadata(database)) else { return };
    if ours.uid() != theirs.uid() {
        let _ = fchown(file, Some(theirs.uid()), None);
    }
    if ours.gid() != theirs.gid() {
        let _ = fchown(file, None, Some(theirs.gid()));
    }
    let writers = theirs.mode() & 0o222;
    let mode = writers | (writers << 1);
    if ours.mode() & 0o777 != mode {
        let _ = file.set_permissions(Permissions::from_mode(mode));
    }
}

impl Turn {
    /// Waits for it, for some time. Needed by nobody on PostgreSQL; where there is none, SQLite's own lock must do.
    pub(crate) async fn take(database: &Database) -> Self {
        let Some(file) = database.url().path().and_then(|path| file(path).ok()) else {
            return Self(None);
        };
        match file.try_lock() {
            Ok(()) => return Self(Some(file)),
            Err(TryLockError::WouldBlock) if !IN_VAIN.load(Ordering::Relaxed) => {}
            Err(_) => return Self(None),
        }
        // A thread that nobody waits for: a process may end while somebody else keeps the lock.
        let (sender, waiting) = tokio::sync::oneshot::channel();
        let wait = move || {
            let locked = file.lock().map(|()| file);
            IN_VAIN.store(false, Ordering::Relaxed);
            // If it comes too late, it is dropped and so given back.
            drop(sender.send(locked));
        };
        if let Err(error) = std::thread::Builder::new().name("turn".into()).spawn(wait) {
            tracing::warn!(%error, "no thread to wait for a turn");
            return Self(None);
        }
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(locked) => Self(locked.ok().and_then(Result::ok)),
            Err(_) => {
                IN_VAIN.store(true, Ordering::Relaxed);
                warn();
                Self(None)
            }
        }
    }
}

fn warn() {
    tracing::warn!(
        "another program keeps the lock file beside the database locked: writing goes on without turns, less fairly \
         among several processes"
    );
}

/// The turns of a thread that takes one after the other. It waits for the lock on a thread beside it, because waiting for a
/// lock has no end of its own.
#[derive(Debug)]
pub(super) struct Turns {
    shared: Arc<Shared>,
    waits: bool,
    held: bool,
}

#[derive(Debug)]
struct Shared {
    file: File,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody waits.
    Idle,
    /// A turn is waited for.
    Asked,
    /// It has come.
    Come,
    /// Nobody wants it any more; when it comes, it is given back.
    InVain,
    /// Nobody will want one.
    Closed,
}

impl Turns {
    pub(super) fn open(database: &Path) -> io::Result<Self> {
        let shared =
            Shared { file: file(database)?, state: Mutex::new(State::Idle), changed: Condvar::new() };
        Ok(Self { shared: Arc::new(shared), waits: false, held: false })
    }

    /// Waits for a turn, for some time; without it, SQLite's own lock must do.
    pub(super) fn take(&mut self) {
        if *self.shared.state() == State::InVain {
            return;
        }
        match self.shared.file.try_lock() {
            Ok(()) => self.held = true,
            Err(TryLockError::WouldBlock) => self.held = self.wait(),
            Err(TryLockError::Error(error)) => tracing::warn!(%error, "no turn to write"),
        }
    }

    fn wait(&mut self) -> bool {
        if !self.waits {
            let shared = Arc::clone(&self.shared);
            let started =
                std::thread::Builder::new().name("ledger-turn".into()).spawn(move || shared.serve());
            if let Err(error) = started {
                tracing::warn!(%error, "no thread to wait for turns");
                return false;
            }
            self.waits = true;
        }
        let mut state = self.shared.state();
        *state = State::Asked;
        self.shared.changed.notify_all();
        let waited = self.shared.changed.wait_timeout_while(state, PATIENCE, |state| *state == State::Asked);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let has_come = *state == State::Come;
        *state = if has_come { State::Idle } else { State::InVain };
        drop(state);
        if !has_come {
            warn();
        }
        has_come
    }

    /// Gives the turn back, if there is one.
    pub(super) fn give_back(&mut self) {
        if std::mem::take(&mut self.held) {
            // Should this fail, the next lock is one that we still have.
            let _ = self.shared.file.unlock();
        }
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        *self.shared.state() = State::Closed;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for each turn that is asked for.
    fn serve(&self) {
        loop {
            let is_idle = |state: &mut State| !matches!(state, State::Asked | State::Closed);
            let state =
                self.changed.wait_while(self.state(), is_idle).unwrap_or_else(PoisonError::into_inner);
            if *state == State::Closed {
                return;
            }
            drop(state);
            let locked = self.file.lock();
            let mut state = self.state();
            match (*state, locked) {
                (State::Asked, Ok(())) => *state = State::Come,
                (State::Closed, _) => return,
                (_, locked) => {
                    if locked.is_ok() {
                        let _ = self.file.unlock();
                    }
                    *state = State::Idle;
                }
            }
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_one_after_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("x.db");
        std::fs::write(&database, "").unwrap();
        let (mut first, mut second) = (Turns::open(&database).unwrap(), Turns::open(&database).unwrap());
        for _ in 0..3 {
            first.take();
            assert!(first.held);
            let waiting = std::thread::spawn(move || {
                second.take();
                assert!(second.held);
                second.give_back();
                second
            });
            first.give_back();
            second = waiting.join().unwrap();
        }
    }

    #[test]
    fn a_foreign_lock_is_not_waited_for_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("x.db");
        std::fs::write(&database, "").unwrap();
        let foreign = file(&database).unwrap();
        foreign.lock().unwrap();
        let mut turns = Turns::open(&database).unwrap();
        turns.take();
        assert!(!turns.held);
        let began = std::time::Instant::now();
        turns.take();
        assert!(!turns.held && began.elapsed() < PATIENCE, "only the first one waits");
        foreign.unlock().unwrap();
        let until = std::time::Instant::now() + Duration::from_secs(20);
        while !turns.held && std::time::Instant::now() < until {
            turns.take();
            std::thread::yield_now();
        }
        assert!(turns.held, "turns come again");
    }

    #[cfg(unix)]
    #[test]
    fn only_who_may_write_the_database_may_open_the_lock_file() {
        use std::fs::Permissions;
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("x.db");
        std::fs::write(&database, "").unwrap();
        for (mode, expected) in
            [(0o644, 0o600), (0o664, 0o660), (0o666, 0o666), (0o600, 0o600), (0o640, 0o600)]
        {
            std::fs::set_permissions(&database, Permissions::from_mode(mode)).unwrap();
            let lock = file(&database).unwrap().metadata().unwrap();
            assert_eq!(lock.mode() & 0o777, expected, "{mode:o}");
            let owner = std::fs::metadata(&database).unwrap();
            assert_eq!((lock.uid(), lock.gid()), (owner.uid(), owner.gid()));
            assert_eq!(owner.mode() & 0o777, mode, "the database stays as it is");
        }
        // Root makes it for the owner, whoever made it before.
        if std::os::unix::fs::chown(&database, Some(65534), Some(65534)).is_ok() {
            let lock = file(&database).unwrap().metadata().unwrap();
            assert_eq!((lock.uid(), lock.gid()), (65534, 65534));
        }
    }
}
