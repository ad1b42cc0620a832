//! What an answer has produced, kept to be counted where its provider does not tell.
//!
//! The rule it protects: an answer of any length takes bounded memory, and its count is what a count of the whole would be.
//! What is long is counted in portions as it passes, off the request's path. They end where a count of the whole would cut
//! the text anyway.

use std::borrow::Cow;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt;
use tokio::task::JoinHandle;

use crate::count;

/// From so many bytes on, a portion is counted: far more than any model's answer of today.
const PORTION: usize = if cfg!(test) { 256 * 1024 } else { 4 * 1024 * 1024 };
/// An answer waits for its count where so many bytes have gathered meanwhile.
const MOST: usize = 2 * PORTION;
/// Whoever reports output without an answer that could wait: what is beyond this is counted by its length.
const FLOOD: usize = 4 * PORTION;

/// The output of an answer, as text.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// Not counted yet.
    text: String,
    /// Bytes in all.
    bytes: u64,
    /// Tokens of the vocabulary in the portions that are counted.
    counted: u64,
    /// The portion that is being counted, and its bytes.
    counting: Option<(JoinHandle<u64>, u64)>,
}

impl Output {
    /// Bytes in all.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is not counted yet.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Notes more of it, of that model.
    pub(crate) fn push<'a>(&mut self, produced: impl Into<Cow<'a, str>>, model: &str) {
        let produced = produced.into();
        if self.text.len() >= FLOOD {
            self.counted = self.counted.saturating_add(count::by_length(self.text.len() as u64));
            self.text = String::new();
        }
        self.bytes = self.bytes.saturating_add(produced.len() as u64);
        match produced {
            // All of a whole answer: it is not there twice.
            Cow::Owned(whole) if self.text.is_empty() => self.text = whole,
            produced => self.text.push_str(&produced),
        }
        if self.text.len() >= PORTION && self.take_counted() {
            let rest = self.text.split_off(count::whole_pieces(&self.text));
            let portion = std::mem::replace(&mut self.text, rest);
            let bytes = portion.len() as u64;
            self.counting = Some((count::portion(model.to_owned(), portion), bytes));
        }
    }

    /// Notes so many bytes that nobody has read: they are counted by their length.
    pub(crate) fn add_unread(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.counted = self.counted.saturating_add(count::by_length(bytes));
    }

    /// Ready when there is room for more.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.text.len() < MOST { Poll::Ready(()) } else { self.poll_counted(cx).map(drop) }
    }

    /// The tokens in all portions that were given to be counted, once they are.
    pub(crate) fn poll_counted(&mut self, cx: &mut Context<'_>) -> Poll<u64> {
        if let Some((counting, bytes)) = &mut self.counting {
            let tokens = ready!(counting.poll_unpin(cx)).unwrap_or(count::by_length(*bytes));
            self.counted = self.counted.saturating_add(tokens);
            self.counting = None;
        }
        Poll::Ready(self.counted)
    }

    /// The tokens in the portions before, and the text after them.
    pub(crate) async fn finish(mut self) -> (u64, String) {
        let counted = std::future::poll_fn(|cx| self.poll_counted(cx)).await;
        (counted, self.text)
    }

    /// Whether nothing is being counted any more.
    fn take_counted(&mut self) -> bool {
        if self.counting.as_ref().is_some_and(|(counting, _)| !counting.is_finished()) {
            return false;
        }
        std::future::poll_fn(|cx| self.poll_counted(cx)).now_or_never().is_some()
    }
}

#[cfg(test)]
impl From<&str> for Output {
    fn from(text: &str) -> Self {
        let mut output = Self::default();
        output.push(text, "");
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::count::Input;

    /// Each piece is another word, so that cutting at another place would show.
    fn words(bytes: usize) -> String {
        (0_u64..)
            .map(|number| format!("wörter{number} "))
            .scan(0, |length, word| {
                *length += word.len();
                (*length <= bytes).then_some(word)
            })
            .collect()
    }

    #[tokio::test]
    async fn portions_are_counted_as_the_whole_would_be() {
        let text = words(2 * PORTION + 12_345);
        let mut output = Output::default();
        for piece in text.as_bytes().chunks(16 * 1024).map(String::from_utf8_lossy) {
            // Characters that are cut in two become other ones, and longer.
            output.push(&*piece, "gpt-4o");
            std::future::poll_fn(|cx| output.poll_room(cx)).await;
            assert!(output.text().len() < MOST + 32 * 1024);
        }
        let whole: String = text.as_bytes().chunks(16 * 1024).map(String::from_utf8_lossy).collect();
        assert_eq!(output.bytes(), whole.len() as u64);
        let (_, counted) =
            count::count("gpt-4o".into(), &accounting::UserId::new("ann").unwrap(), Input::Told, output)
                .await;
        assert_eq!(counted, count::in_one("gpt-4o", &whole));
    }

    #[tokio::test]
    async fn a_flood_without_anybody_to_wait_is_bounded() {
        let mut output = Output::default();
        let text = "word ".repeat(PORTION / 5);
        for _ in 0..40 {
            output.push(&text, "gpt-4o");
            assert!(output.text().len() <= FLOOD + PORTION);
        }
        assert_eq!(output.bytes(), 40 * text.len() as u64);
    }
}
