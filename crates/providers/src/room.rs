//! Room for whole answers, which whoever asks counts and gives.
//!
//! The rule it protects: a large answer takes no memory that nobody has counted. Where there is no room for it, its server
//! has to wait with the rest.

use std::pin::Pin;

/// Answers of so many bytes need no room: they are as ordinary as they are short.
pub(crate) const UNCOUNTED: usize = 64 * 1024;
/// While an answer is read and passed on it counts so many times: as it came, as its text, and as it is handed on. The text is
/// gone before that, but the allocator may not have given it back yet.
pub(crate) const TIMES: usize = 3;

/// There was no room for an answer, for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom;

/// The room that one answer takes. It is asked only for answers that are larger than an ordinary one.
pub trait AnswerRoom: Send {
    /// Waits until the answer, with all that is made of it, may take so many bytes in all.
    fn reach(&mut self, bytes: usize) -> Pin<Box<dyn Future<Output = Result<(), NoRoom>> + Send + '_>>;

    /// From now on it takes so many bytes only, and grows no more.
    fn keep(&mut self, bytes: usize);
}

/// Room for whoever asks for themselves, and counts nothing.
#[derive(Debug, Clone, Copy)]
pub struct Uncounted;

impl AnswerRoom for Uncounted {
    fn reach(&mut self, _: usize) -> Pin<Box<dyn Future<Output = Result<(), NoRoom>> + Send + '_>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn keep(&mut self, _: usize) {}
}

/// What an answer of so many bytes, of which more come, is to have room for next.
pub(crate) const fn next_step(bytes: usize) -> usize {
    const LEAST: usize = 256 * 1024;
    let part = bytes / 4;
    bytes + if part > LEAST { part } else { LEAST }
}
