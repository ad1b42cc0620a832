//! Memory that is free goes back to the system.
//!
//! The allocator keeps what was freed for a second, in case it is needed again, and then gives it back when it has something
//! to do anyway: so a process that became idle after large requests would keep it for ever. The end of any thread is such an
//! occasion.

use std::time::Duration;

/// How often memory is given back.
const EVERY: Duration = Duration::from_secs(2);

/// Threads for what takes long end when they had nothing to do for so long: what they used last is theirs until then.
pub(crate) const IDLE_THREAD: Duration = Duration::from_secs(2);

/// Gives free memory back, as long as it is polled.
pub(crate) async fn give_back() {
    let mut looks = tokio::time::interval(EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        // It has to have allocated something to be known to the allocator.
        let thread = std::thread::Builder::new().name("memory".into()).stack_size(64 * 1024);
        let ended = thread.spawn(|| drop(std::hint::black_box(vec![0_u8; 64])));
        if let Err(error) = ended {
            tracing::debug!(%error, "free memory was not given back");
        }
    }
}
