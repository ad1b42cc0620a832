//! Counting tokens that a provider did not report. Runs off the runtime's threads; the vocabularies load when first used.

use providers::{ChatRequest, EmbeddingsRequest, Media, Shape};
use tiktoken_rs::CoreBPE;
use tokio::task::JoinHandle;

/// Each message costs so many tokens beside its text, and the answer's start as many (OpenAI's cookbook, "How to count
/// tokens with tiktoken").
const PER_MESSAGE: u64 = 3;
/// A piece of text is cut here: some encoders need quadratic time for one long word.
const LONGEST_PIECE: usize = 8 * 1024;

/// What of a request counts as input, kept until its end.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// A chat in that shape, as its client sent it.
    Chat(Shape, bytes::Bytes),
    /// Texts to embed, as their client sent them.
    Embeddings(bytes::Bytes),
}

impl Input {
    fn length(&self) -> u64 {
        match self {
            Self::Chat(_, body) | Self::Embeddings(body) => body.len() as u64,
        }
    }
}

/// The input tokens of `input` and the output tokens of `produced`, by the vocabulary of `model`.
pub(crate) async fn count(model: String, input: Input, produced: String) -> (u64, u64) {
    let length = produced.len();
    let counted = tokio::task::spawn_blocking(move || {
        let vocabulary = vocabulary(&model);
        (input_tokens(vocabulary, input), text_tokens(vocabulary, &produced))
    });
    counted.await.unwrap_or_else(|_| (0, by_length(length as u64)))
}

/// The tokens of the text of `input` alone, without its images and sounds.
pub(crate) async fn text_of(model: String, input: Input) -> u64 {
    let length = input.length();
    let counted = tokio::task::spawn_blocking(move || {
        let vocabulary = vocabulary(&model);
        match input {
            Input::Chat(shape, body) => {
                ChatRequest::parse_as(shape, body).map_or(0, |request| chat_text(vocabulary, &request))
            }
            embeddings @ Input::Embeddings(_) => input_tokens(vocabulary, embeddings),
        }
    });
    // A text has at most as many tokens as bytes.
    counted.await.unwrap_or(length)
}

/// The tokens of a text that a model produced.
pub(crate) fn produced(model: String, text: String) -> JoinHandle<u64> {
    tokio::task::spawn_blocking(move || text_tokens(vocabulary(&model), &text))
}

/// A guess from a number of bytes: four to a token, rounded up.
pub(crate) const fn by_length(bytes: u64) -> u64 {
    bytes.div_ceil(4)
}

fn input_tokens(vocabulary: &CoreBPE, input: Input) -> u64 {
    match input {
        Input::Chat(shape, body) => {
            ChatRequest::parse_as(shape, body).map_or(0, |request| tokens_of_chat(vocabulary, &request))
        }
        Input::Embeddings(body) => {
            EmbeddingsRequest::parse(body).map_or(0, |request| tokens_of_embeddings(vocabulary, &request))
        }
    }
}

fn tokens_of_chat(vocabulary: &CoreBPE, request: &ChatRequest) -> u64 {
    chat_text(vocabulary, request) + request.media().iter().map(media_tokens).sum::<u64>()
}

fn chat_text(vocabulary: &CoreBPE, request: &ChatRequest) -> u64 {
    let texts: u64 = request.input_text().iter().map(|text| text_tokens(vocabulary, text)).sum();
    texts + PER_MESSAGE * (request.message_count() as u64 + 1)
}

fn tokens_of_embeddings(vocabulary: &CoreBPE, request: &EmbeddingsRequest) -> u64 {
    let texts: u64 = request.input_text().map(|text| text_tokens(vocabulary, text)).sum();
    texts + request.token_count()
}

/// The usual cost of an image or a sound, for answers without usage. Images: OpenAI's "Images and vision" guide, low
/// detail 85 tokens, else a picture of four tiles, 765. Audio: about ten tokens a second at 16 kB a second.
pub(crate) fn media_tokens(media: &Media) -> u64 {
    match media {
        Media::Image { low_detail: true, .. } => 85,
        Media::Image { .. } => 765,
        Media::Audio { bytes } => bytes.div_ceil(1600),
        Media::File { bytes } => by_length(bytes.unwrap_or_default()),
    }
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

/// The vocabulary of OpenAI's model families; for all others the newest one, as an approximation.
fn vocabulary(model: &str) -> &'static CoreBPE {
    let old = ["gpt-4-", "gpt-3.5", "text-embedding", "gpt-4"];
    let new = ["gpt-4o", "gpt-4.1", "gpt-4.5"];
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| model.starts_with(prefix));
    if starts(&old) && !starts(&new) {
        tiktoken_rs::cl100k_base_singleton()
    } else {
        tiktoken_rs::o200k_base_singleton()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_as_the_model_does() {
        for (model, text, tokens) in
            [("gpt-4o", "Hello, world!", 4), ("gpt-4", "Hello, world!", 4), ("other", "", 0)]
        {
            assert_eq!(text_tokens(vocabulary(model), text), tokens, "{model}");
        }
    }

    #[test]
    fn long_words_are_cut_at_characters() {
        let word = "ü".repeat(LONGEST_PIECE);
        assert_eq!(pieces(&word).map(str::len).sum::<usize>(), word.len());
        assert!(pieces(&word).all(|piece| piece.len() <= LONGEST_PIECE));
    }
}
