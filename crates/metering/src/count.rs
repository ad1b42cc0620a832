//! Counting tokens that a provider did not report. Runs off the runtime's threads; the vocabularies load when first used.

use providers::{ChatRequest, EmbeddingsRequest, Outline, Shape};
use tiktoken_rs::CoreBPE;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinHandle;

use crate::families::{self, Family, Vocabulary};
use crate::output::Output;

/// Each message costs so many tokens beside its text, and the answer's start as many (OpenAI's cookbook, "How to count
/// tokens with tiktoken").
const PER_MESSAGE: u64 = 3;
/// A piece of text is cut here: some encoders need quadratic time for one long word.
const LONGEST_PIECE: usize = 8 * 1024;

/// Inputs are read once more to be counted, together with so many KiB of memory at a time; a larger one alone.
const READ_AT_A_TIME: u32 = 16 * 1024;
static READING: Semaphore = Semaphore::const_new(READ_AT_A_TIME as usize);

/// What of a request counts as input, kept until its end.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// A chat in that shape, as its client sent it.
    Chat(Shape, bytes::Bytes),
    /// Texts to embed, as their client sent them.
    Embeddings(bytes::Bytes),
    /// Nothing to count: whoever sent the request says what it used.
    Told,
}

impl Input {
    /// Waits until there is room to read it.
    async fn room(&self) -> Option<SemaphorePermit<'static>> {
        let outline = match self {
            Self::Chat(_, body) => Outline::read(body),
            Self::Embeddings(body) => Outline::of_embeddings(body),
            Self::Told => return None,
        };
        let memory = outline.map_or(usize::MAX, |outline| outline.memory);
        let kib = u32::try_from(memory / 1024 + 1).unwrap_or(u32::MAX).min(READ_AT_A_TIME);
        READING.acquire_many(kib).await.ok()
    }

    fn length(&self) -> u64 {
        match self {
            Self::Chat(_, body) | Self::Embeddings(body) => body.len() as u64,
            Self::Told => 0,
        }
    }
}

/// The input tokens of `input` and the output tokens of `produced`, by the vocabulary of `model`.
pub(crate) async fn count(model: String, input: Input, produced: Output) -> (u64, u64) {
    let bytes = produced.bytes();
    let (before, rest) = produced.finish().await;
    let room = input.room().await;
    let counted = tokio::task::spawn_blocking(move || {
        let _room = room;
        let family = families::of(&model);
        (input_tokens(family, input), output_tokens(family, before, &rest))
    });
    counted.await.unwrap_or_else(|_| (0, by_length(bytes)))
}

/// The tokens of the text of `input` alone, by the vocabulary: without its images and sounds, and whatever the family makes
/// of them.
pub(crate) async fn text_of(model: String, input: Input) -> u64 {
    let length = input.length();
    let room = input.room().await;
    let counted = tokio::task::spawn_blocking(move || {
        let _room = room;
        let vocabulary = vocabulary(families::of(&model));
        match input {
            Input::Chat(shape, body) => {
                ChatRequest::parse_as(shape, body).map_or(0, |request| chat_text(vocabulary, &request))
            }
            Input::Embeddings(body) => {
                EmbeddingsRequest::parse(body).map_or(0, |request| tokens_of_embeddings(vocabulary, &request))
            }
            Input::Told => 0,
        }
    });
    // A text has at most as many tokens as bytes.
    counted.await.unwrap_or(length)
}

/// The tokens of what a model produced: portions with `before` tokens of the vocabulary, and the text after them.
pub(crate) fn produced(model: String, before: u64, rest: String) -> JoinHandle<u64> {
    tokio::task::spawn_blocking(move || output_tokens(families::of(&model), before, &rest))
}

/// The tokens of the vocabulary in a portion of what a model produced.
pub(crate) fn portion(model: String, text: String) -> JoinHandle<u64> {
    tokio::task::spawn_blocking(move || text_tokens(vocabulary(families::of(&model)), &text))
}

/// Up to here a text is counted in the same pieces, whatever follows it.
pub(crate) fn whole_pieces(text: &str) -> usize {
    text.len() - pieces(text).last().map_or(0, str::len)
}

/// A guess from a number of bytes: four to a token, rounded up.
pub(crate) const fn by_length(bytes: u64) -> u64 {
    bytes.div_ceil(4)
}

fn output_tokens(family: &Family, before: u64, rest: &str) -> u64 {
    family.counted(before.saturating_add(text_tokens(vocabulary(family), rest)))
}

fn input_tokens(family: &Family, input: Input) -> u64 {
    let vocabulary = vocabulary(family);
    match input {
        Input::Chat(shape, body) => ChatRequest::parse_as(shape, body).map_or(0, |request| {
            let media: u64 = request.media().iter().map(|media| family.media(media)).sum();
            family.counted(chat_text(vocabulary, &request)) + media
        }),
        Input::Embeddings(body) => {
            let tokens = EmbeddingsRequest::parse(body)
                .map_or(0, |request| tokens_of_embeddings(vocabulary, &request));
            family.counted(tokens)
        }
        Input::Told => 0,
    }
}

fn chat_text(vocabulary: &CoreBPE, request: &ChatRequest) -> u64 {
    let texts: u64 = request.input_text().iter().map(|text| text_tokens(vocabulary, text)).sum();
    texts + PER_MESSAGE * (request.message_count() as u64 + 1)
}

fn tokens_of_embeddings(vocabulary: &CoreBPE, request: &EmbeddingsRequest) -> u64 {
    let texts: u64 = request.input_text().map(|text| text_tokens(vocabulary, text)).sum();
    let others: u64 = request.other_text().map(|text| text_tokens(vocabulary, &text)).sum();
    texts + others + request.token_count()
}

fn text_tokens(vocabulary: &CoreBPE, text: &str) -> u64 {
    pieces(text).map(|piece| vocabulary.encode_ordinary(piece).len() as u64).sum()
}

/// The text in pieces of bounded length, cut at characters.
fn pieces(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let (piece, rest) = text.split_at(text.floor_char_boundary(LONGEST_PIECE.min(text.len())));
        text = rest;
        Some(piece)
    })
}

fn vocabulary(family: &Family) -> &'static CoreBPE {
    match family.vocabulary {
        Vocabulary::Cl100k => tiktoken_rs::cl100k_base_singleton(),
        Vocabulary::O200k => tiktoken_rs::o200k_base_singleton(),
    }
}

/// What a model produced, counted in one.
#[cfg(test)]
pub(crate) fn in_one(model: &str, text: &str) -> u64 {
    output_tokens(families::of(model), 0, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_as_the_model_does() {
        for (model, text, tokens) in
            [("gpt-4o", "Hello, world!", 4), ("gpt-4", "Hello, world!", 4), ("other", "", 0)]
        {
            assert_eq!(text_tokens(vocabulary(families::of(model)), text), tokens, "{model}");
        }
    }

    #[test]
    fn long_words_are_cut_at_characters() {
        let word = "ü".repeat(LONGEST_PIECE);
        assert_eq!(pieces(&word).map(str::len).sum::<usize>(), word.len());
        assert!(pieces(&word).all(|piece| piece.len() <= LONGEST_PIECE));
    }
}
