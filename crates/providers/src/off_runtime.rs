//! Work on large bodies, which must not keep others waiting.

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::large::LARGE;

/// Does what takes long for a body of so many bytes, if that is large, while another thread goes on with whatever else this
/// one has to do. Small ones are done at once.
pub fn off_runtime<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let has_others =
        || Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if bytes > LARGE && has_others() { tokio::task::block_in_place(work) } else { work() }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio_util::task::TaskTracker;

    use super::*;

    /// Without that, nobody could say the word that is waited for.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn large_work_leaves_the_runtime_to_others() {
        let (say, heard) = mpsc::channel();
        let tasks = TaskTracker::new();
        let working = tasks.spawn(async move {
            tasks_word(say);
            off_runtime(LARGE + 1, || heard.recv())
        });
        assert_eq!(working.await.unwrap(), Ok("word"));
    }

    fn tasks_word(say: mpsc::Sender<&'static str>) {
        TaskTracker::new().spawn(async move { say.send("word") });
    }

    #[tokio::test]
    async fn where_there_is_no_other_thread_it_is_done_here() {
        assert_eq!(off_runtime(LARGE + 1, || 7), 7);
        assert_eq!(off_runtime(1, || 8), 8);
    }
}
