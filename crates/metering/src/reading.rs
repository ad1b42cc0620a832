//! Room to read inputs once more, to be counted.
//!
//! The rule it protects: memory is bounded, and nobody waits for the large inputs of another. Small ones have room of their own,
//! and so have those that take all that there is; of each user one large input is read at a time.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use accounting::UserId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// So many KiB are read at a time, of inputs that take no more than a part of them.
const AT_A_TIME: u32 = 8 * 1024;
/// Inputs that take no more KiB are small.
const SMALL: u32 = 256;
/// The share of one user in KiB. What takes more is read alone.
const SHARE: u32 = AT_A_TIME / 2;

static READING_SMALL: Semaphore = Semaphore::const_new(AT_A_TIME as usize);
static READING_LARGE: Semaphore = Semaphore::const_new(AT_A_TIME as usize);
static READING_ALONE: Semaphore = Semaphore::const_new(1);

/// Those who have a large input read at present, or wait for it.
static TURNS: LazyLock<Mutex<HashMap<UserId, Weak<Semaphore>>>> = LazyLock::new(Mutex::default);

/// Room for one input, until dropped.
#[derive(Debug)]
pub(crate) struct Room {
    _memory: Option<SemaphorePermit<'static>>,
    _turn: Option<OwnedSemaphorePermit>,
}

/// Waits until there is room for an input of that user which takes so many bytes in memory.
pub(crate) async fn room(user: &UserId, bytes: usize) -> Room {
    let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX);
    if kib <= SMALL {
        return Room { _memory: READING_SMALL.acquire_many(kib).await.ok(), _turn: None };
    }
    let turn = turn_of(user).acquire_owned().await.ok();
    let memory =
        if kib <= SHARE { READING_LARGE.acquire_many(kib).await } else { READING_ALONE.acquire().await };
    Room { _memory: memory.ok(), _turn: turn }
}

fn turn_of(user: &UserId) -> Arc<Semaphore> {
    let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    turns.retain(|_, turn| turn.strong_count() > 0);
    if let Some(turn) = turns.get(user).and_then(Weak::upgrade) {
        return turn;
    }
    let turn = Arc::new(Semaphore::new(1));
    turns.insert(user.clone(), Arc::downgrade(&turn));
    turn
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const KIB: usize = 1024;

    fn at_once(user: &str, kib: usize) -> Option<Room> {
        room(&UserId::new(user).unwrap(), kib * KIB).now_or_never()
    }

    /// All of it in one test, because the room is that of the whole process.
    #[tokio::test]
    async fn nobody_waits_for_the_large_inputs_of_another() {
        let huge = at_once("ann", 100 * 1024).unwrap();
        // Her next ones wait for her first, small ones excepted.
        assert!(at_once("ann", 1024).is_none());
        assert!(at_once("ann", 100).is_some());
        let waiting = tokio_util::task::TaskTracker::new();
        let next = waiting.spawn(async { room(&UserId::new("ann").unwrap(), 1024 * KIB).await });
        tokio::task::yield_now().await;
        let of_others = [at_once("bob", 4000).unwrap(), at_once("cid", 4000).unwrap()];
        assert!(at_once("dot", 4000).is_none());
        assert!(at_once("dot", 100).is_some());
        drop(of_others);
        assert!(at_once("dot", 4000).is_some());
        drop(huge);
        drop(next.await.unwrap());
        assert!(at_once("ann", 100 * 1024).is_some());
        drop(turn_of(&UserId::new("eve").unwrap()));
        assert_eq!(TURNS.lock().unwrap().len(), 1);
    }
}
