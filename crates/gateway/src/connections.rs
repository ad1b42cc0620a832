//! How many connections there may be, in all and from one address, and which one makes room for another.
//!
//! The rule it protects: whoever opens connections and asks nothing keeps nobody out. Where there are too many, the one that
//! has been idle for longest is cut; only where none is idle, the new one is.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Files for the database, the log and what else the process has open.
const OTHER_FILES: u64 = 64;
/// More connections than this are useful to nobody.
const MOST: u64 = 20_000;
/// With fewer, nothing works.
const LEAST: u64 = 16;

/// The connections of a gateway.
#[derive(Debug, Clone)]
pub(crate) struct Connections(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    per_address: usize,
    begun: Instant,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    all: HashMap<u64, Arc<Connection>>,
    of_address: HashMap<IpAddr, usize>,
}

/// What is known of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    address: Option<IpAddr>,
    begun: Instant,
    /// Milliseconds after `begun` at which it became idle.
    idle_since: AtomicU64,
    /// Requests under way, until their answer has passed.
    requests: AtomicUsize,
    /// Cancelled when it must make room.
    pub cut: CancellationToken,
}

/// A connection that may be; it is none any more when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    pub connection: Arc<Connection>,
    connections: Connections,
}

/// A request under way on a connection, until dropped.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Connection>);

impl Connections {
    /// `most`: in all, if there are files for so many beside those that the process needs itself; else as many as it may have
    /// files for, with one more for each to a model server.
    /// `per_address`: from one address; else half of them.
    pub(crate) fn new(most: Option<usize>, per_address: Option<usize>) -> Self {
        let files = files();
        let most = most.map_or_else(|| fitting(files), |asked| asked.min(possible(files))).max(1);
        let per_address = per_address.unwrap_or(most / 2).max(1);
        Self(Arc::new(Inner { most, per_address, begun: Instant::now(), open: Mutex::default() }))
    }

    /// A place for one more, for which another may be cut. `None`: there is none.
    pub(crate) fn place(&self, address: Option<IpAddr>) -> Option<Place> {
        let mut open = self.open();
        let of_address =
            address.and_then(|address| open.of_address.get(&address)).copied().unwrap_or_default();
        if of_address >= self.0.per_address && !open.cut_idlest(|other| other.address == address) {
            return None;
        }
        if open.all.len() >= self.0.most && !open.cut_idlest(|_| true) {
            return None;
        }
        let connection = Arc::new(Connection {
            address,
            begun: self.0.begun,
            idle_since: AtomicU64::new(self.0.begun.elapsed().as_millis() as u64),
            requests: AtomicUsize::new(0),
            cut: CancellationToken::new(),
        });
        let number = open.next;
        open.next += 1;
        open.all.insert(number, Arc::clone(&connection));
        if let Some(address) = address {
            *open.of_address.entry(address).or_default() += 1;
        }
        Some(Place { number, connection, connections: self.clone() })
    }

    /// Cuts the one that has been idle for longest: there are no files left for another.
    pub(crate) fn make_room(&self) {
        self.open().cut_idlest(|_| true);
    }

    /// Cuts some of them.
    pub(crate) fn cut(&self, which: impl Fn(&Connection) -> bool) {
        self.open()
            .all
            .values()
            .filter(|connection| which(connection))
            .for_each(|connection| connection.cut.cancel());
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Cuts the one that has been idle for longest; it counts no longer. Whether there was one.
    fn cut_idlest(&mut self, of: impl Fn(&Connection) -> bool) -> bool {
        let idle = self.all.iter().filter(|(_, connection)| connection.is_idle() && of(connection));
        let idlest =
            idle.min_by_key(|(number, connection)| (connection.idle_since.load(Ordering::Relaxed), **number));
        let Some(number) = idlest.map(|(number, _)| *number) else { return false };
        if let Some(connection) = self.remove(number) {
            connection.cut.cancel();
        }
        metrics::counter!("tracking_connections_cut_total").increment(1);
        true
    }

    fn remove(&mut self, number: u64) -> Option<Arc<Connection>> {
        let connection = self.all.remove(&number)?;
        if let Some(address) = connection.address
            && let Some(count) = self.of_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                self.of_address.remove(&address);
            }
        }
        Some(connection)
    }
}

impl Connection {
    /// Notes a request.
    pub(crate) fn busy(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// How long no request has been under way on it.
    pub(crate) fn idle(&self) -> Duration {
        if !self.is_idle() {
            return Duration::ZERO;
        }
        let since = Duration::from_millis(self.idle_since.load(Ordering::Relaxed));
        self.begun.elapsed().saturating_sub(since)
    }

    /// Whether no request is under way on it.
    pub(crate) fn is_idle(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open().remove(self.number);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.begun.elapsed().as_millis() as u64, Ordering::Relaxed);
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many connections fit into so many files.
fn fitting(files: u64) -> usize {
    let most = (files.saturating_sub(OTHER_FILES) / 2).clamp(LEAST, MOST);
    usize::try_from(most).unwrap_or(usize::MAX)
}

/// How many there can be at most: what the database and model servers need files for is left.
fn possible(files: u64) -> usize {
    usize::try_from(files.saturating_sub(OTHER_FILES).max(LEAST)).unwrap_or(usize::MAX)
}

/// How many files this process may have open: as many as the system lets it ask for.
fn files() -> u64 {
    rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
    const BOB: Option<IpAddr> = Some(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST));

    fn is_cut(place: &Place) -> bool {
        place.connection.cut.is_cancelled()
    }

    #[test]
    fn the_idlest_makes_room() {
        let connections = Connections::new(Some(3), Some(3));
        let [first, second, third] = [ANN, BOB, None].map(|address| connections.place(address).unwrap());
        let busy = first.connection.busy();
        let fourth = connections.place(BOB).unwrap();
        assert_eq!([&first, &second, &third, &fourth].map(is_cut), [false, true, false, false]);
        // A connection that was cut and ends later makes no more room.
        drop(second);
        let _busy = [third.connection.busy(), fourth.connection.busy()];
        assert!(connections.place(ANN).is_none());
        drop(busy);
        assert!(connections.place(ANN).is_some());
        assert!(is_cut(&first));
    }

    #[test]
    fn one_address_has_its_share() {
        let connections = Connections::new(Some(10), Some(2));
        let ours = connections.place(BOB).unwrap();
        let theirs: Vec<Place> = (0..5).map(|_| connections.place(ANN).unwrap()).collect();
        assert_eq!(theirs.iter().map(is_cut).collect::<Vec<_>>(), [true, true, true, false, false]);
        assert!(!is_cut(&ours));
        let _busy: Vec<Busy> = theirs.iter().map(|place| place.connection.busy()).collect();
        assert!(connections.place(ANN).is_none());
        assert!(connections.place(BOB).is_some());
        // Unix sockets have no addresses.
        assert!(connections.place(None).is_some());
    }

    #[test]
    fn files_are_shared_with_model_servers() {
        assert_eq!([0, 400, 1024, 1_000_000].map(fitting), [16, 168, 480, 20_000]);
    }
}
