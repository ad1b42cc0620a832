//! Counting tokens that a provider did not report. Runs off the runtime's threads; the vocabularies load when first used.

use std::borrow::Cow;

use accounting::UserId;
use providers::{ChatRequest, EmbeddingsRequest, Outline, Shape, TextSize};
use tiktoken_rs::CoreBPE;
use tokio::task::JoinHandle;

use crate::families::{self, Family, Vocabulary};
use crate::output::Output;
use crate::reading::{self, Room};

/// Each message costs so many tokens beside its text: three, and one for its role (OpenAI's cookbook, "How to count tokens
/// with tiktoken").
const PER_MESSAGE: u64 = 4;
/// So many begin the answer (ibid.).
const ANSWER: u64 = 3;
/// A piece of text is cut here: some encoders need quadratic time for one long word.
const LONGEST_PIECE: usize = 8 * 1024;

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
    /// Waits until there is room to read it, which is that user's.
    async fn room(&self, user: &UserId) -> Option<Room> {
        let outline = match self {
            Self::Chat(_, body) => Outline::read(body),
            Self::Embeddings(body) => Outline::of_embeddings(body),
            Self::Told => return None,
        };
        let memory = outline.map_or(usize::MAX, |outline| outline.memory);
        Some(reading::room(user, memory).await)
    }

    fn length(&self) -> u64 {
        match self {
            Self::Chat(_, body) | Self::Embeddings(body) => body.len() as u64,
            Self::Told => 0,
        }
    }
}

/// The input tokens of `input`, which is that user's, and the output tokens of `produced`, by the vocabulary of `model`.
pub(crate) async fn count(model: String, user: &UserId, input: Input, produced: Output) -> (u64, u64) {
    let bytes = produced.bytes();
    let (before, rest) = produced.finish().await;
    let room = input.room(user).await;
    let counted = tokio::task::spawn_blocking(move || {
        let _room = room;
        let family = families::of(&model);
        (input_tokens(family, input), output_tokens(family, before, &rest))
    });
    counted.await.unwrap_or_else(|_| (0, by_length(bytes)))
}

/// The size of the texts of `input`, without its images and sounds; and their tokens, if the model is certain to have the
/// vocabulary of that name.
pub(crate) async fn text_of(
    vocabulary: Option<Vocabulary>,
    user: &UserId,
    input: Input,
) -> (TextSize, Option<u64>) {
    let length = input.length();
    let room = input.room(user).await;
    let counted = tokio::task::spawn_blocking(move || {
        let _room = room;
        match input {
            Input::Chat(shape, body) => ChatRequest::parse_as(shape, body).map_or_else(
                |_| (TextSize::default(), None),
                |request| {
                    let count = |vocabulary| {
                        tokens_of_chat(self::vocabulary(vocabulary), &request, &request.input_text())
                    };
                    (request.size_at_most(), vocabulary.map(count))
                },
            ),
            Input::Embeddings(body) => EmbeddingsRequest::parse(body).map_or_else(
                |_| (TextSize::default(), None),
                |request| {
                    let mut size = request.size_at_most();
                    size.bytes += request.token_count();
                    let count = |vocabulary| tokens_of_embeddings(self::vocabulary(vocabulary), &request);
                    (size, vocabulary.map(count))
                },
            ),
            Input::Told => (TextSize::default(), None),
        }
    });
    // No text is longer than the body that it is in, nor taken apart than twelve times that.
    counted.await.unwrap_or((TextSize { bytes: 12 * length, ..TextSize::default() }, None))
}

/// The tokens of what a model produced: portions with `before` tokens of the vocabulary, and the text after them.
pub(crate) fn produced(model: String, before: u64, rest: String) -> JoinHandle<u64> {
    tokio::task::spawn_blocking(move || output_tokens(families::of(&model), before, &rest))
}

/// The tokens of the vocabulary in a portion of what a model produced.
pub(crate) fn portion(model: String, text: String) -> JoinHandle<u64> {
    tokio::task::spawn_blocking(move || text_tokens(vocabulary(families::of(&model).vocabulary), &text))
}

/// Up to here a text is counted in the same pieces, whatever follows it.
pub(crate) fn whole_pieces(text: &str) -> usize {
    text.len() - pieces(text).last().map_or(0, str::len)
}

/// What stands around so many messages, in tokens.
const fn around(messages: usize) -> u64 {
    PER_MESSAGE * messages as u64 + ANSWER
}

/// What stands around the texts of a request, in tokens: nothing where they are no messages.
pub(crate) fn around_all(request: &ChatRequest) -> u64 {
    if request.has_messages() { around(request.message_count()) } else { 0 }
}

/// A guess from a number of bytes: four to a token, rounded up.
pub(crate) const fn by_length(bytes: u64) -> u64 {
    bytes.div_ceil(4)
}

fn output_tokens(family: &Family, before: u64, rest: &str) -> u64 {
    family.counted(before.saturating_add(text_tokens(vocabulary(family.vocabulary), rest)))
}

fn input_tokens(family: &Family, input: Input) -> u64 {
    let vocabulary = vocabulary(family.vocabulary);
    match input {
        Input::Chat(shape, body) => ChatRequest::parse_as(shape, body).map_or(0, |request| {
            let media: u64 = request.media().iter().map(|media| family.media(media)).sum();
            let tools = text_tokens(vocabulary, &request.tools_text(family.tools.form));
            let text = tokens_of_chat(vocabulary, &request, &request.input_text_without_tools());
            family.counted(text) + family.counted_tools(tools) + media
        }),
        Input::Embeddings(body) => {
            let tokens = EmbeddingsRequest::parse(body)
                .map_or(0, |request| tokens_of_embeddings(vocabulary, &request));
            family.counted(tokens)
        }
        Input::Told => 0,
    }
}

fn tokens_of_chat(vocabulary: &CoreBPE, request: &ChatRequest, texts: &[Cow<'_, str>]) -> u64 {
    let texts: u64 = texts.iter().map(|text| text_tokens(vocabulary, text)).sum();
    texts + request.token_count() + around_all(request)
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

fn vocabulary(vocabulary: Vocabulary) -> &'static CoreBPE {
    match vocabulary {
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
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn counts_as_the_model_does() {
        for (model, text, tokens) in
            [("gpt-4o", "Hello, world!", 4), ("gpt-4", "Hello, world!", 4), ("other", "", 0)]
        {
            assert_eq!(text_tokens(vocabulary(families::of(model).vocabulary), text), tokens, "{model}");
        }
    }

    /// A text of so many tokens in any vocabulary.
    fn words(tokens: usize) -> String {
        vec!["a"; tokens].join(" ")
    }

    /// A tool of that name, with words of so many tokens and these parameters.
    fn tool(name: &str, described: usize, parameters: Value, required: &[&str]) -> Value {
        let schema = json!({"type": "object", "properties": parameters, "required": required});
        json!({"type": "function",
            "function": {"name": name, "description": words(described), "parameters": schema}})
    }

    /// What servers told of requests with tools: OpenAI's cookbook ("How to count tokens with tiktoken"), and recordings of real
    /// traffic in public tests. Texts are replaced by others of as many tokens: of a message of the system, if there is one,
    /// and of the user's.
    fn recorded() -> Vec<(&'static str, [usize; 2], Vec<Value>, u64)> {
        let text = || json!({"type": "string"});
        let named = |described: usize| json!({"type": "string", "description": words(described)});
        let unit = json!({"type": "string", "description": words(6), "enum": ["celsius", "fahrenheit"]});
        let weather = json!({"location": named(12), "unit": unit});
        let current = || vec![tool("get_current_weather", 8, weather.clone(), &["location"])];
        let city = json!({"city": text(), "country": text()});
        let country = || tool("get_user_country", 0, json!({}), &[]);
        let person = json!({"age": {"type": "integer"}, "name": text()});
        let user = json!({"age": {"type": "integer"}, "email": text(), "name": text()});
        let fruit = json!({"color": text(), "name": text()});
        let vehicle = json!({"name": text(), "wheels": {"type": "integer"}});
        let capital = || tool("get_capital", 7, json!({"country": named(4)}), &["country"]);
        let topics = json!({"response": {"type": "array", "items": text()}});
        vec![
            ("gpt-4o", [14, 7], current(), 101),
            ("gpt-4", [14, 8], current(), 105),
            ("gpt-4o", [0, 10], vec![country(), tool("final_result", 7, city, &["city", "country"])], 68),
            (
                "gpt-4.1-mini",
                [6, 7],
                vec![tool("get_temperature", 0, json!({"city": text()}), &["city"])],
                50,
            ),
            ("gpt-4.1-mini", [0, 7], vec![tool("get_weather", 6, json!({"location": text()}), &[])], 51),
            (
                "claude-sonnet-4-0",
                [0, 7],
                vec![tool("final_result", 7, user, &["name", "email", "age"])],
                443,
            ),
            ("claude-sonnet-4-0", [0, 3], vec![tool("final_result", 7, person, &["name", "age"])], 426),
            (
                "claude-sonnet-4-0",
                [0, 5],
                vec![
                    tool("return_fruit", 9, fruit, &["name", "color"]),
                    tool("return_vehicle", 9, vehicle, &["name", "wheels"]),
                ],
                508,
            ),
            ("claude-sonnet-4-5", [0, 23], vec![country()], 383),
            ("gemini-2.5-flash", [0, 7], vec![capital()], 50),
            ("gemini-2.5-pro", [6, 7], vec![capital()], 57),
            (
                "gemini-3-flash-preview",
                [12, 0],
                vec![
                    tool("generate_topic", 0, json!({}), &[]),
                    tool("final_result", 7, topics, &["response"]),
                ],
                83,
            ),
            ("pixtral-12b-latest", [0, 19], vec![tool("get_image", 0, json!({}), &[])], 65),
        ]
    }

    /// The margin that the documentation names, in hundredths: in a small request, whose surroundings weigh most.
    fn margin(model: &str) -> u64 {
        match model {
            _ if model.starts_with("gpt") => 5,
            _ if model.starts_with("gemini") => 20,
            _ => 10,
        }
    }

    #[test]
    fn tools_are_counted_as_servers_tell_them() {
        for (model, [system, user], tools, told) in recorded() {
            let message = |role, tokens| json!({"role": role, "content": words(tokens)});
            let messages = match system {
                0 => vec![message("user", user)],
                _ => vec![message("system", system), message("user", user)],
            };
            let body = json!({"model": model, "messages": messages, "tools": tools});
            let counted =
                input_tokens(families::of(model), Input::Chat(Shape::Chat, body.to_string().into()));
            let off = counted.abs_diff(told);
            assert!(100 * off <= margin(model) * told, "{model}: {counted} of {told}");
        }
    }

    #[test]
    fn pictures_count_by_their_size_on_every_route() {
        // The head of a PNG of 2048 × 4096 pixels.
        let base64 = "iVBORw0KGgoAAAANSUhEUgAACAAAABAACAYAAAA=";
        let url = format!("data:image/png;base64,{base64}");
        let image = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
        let chat = |part: Value| json!([{"role": "user", "content": [part]}]);
        let source = json!({"type": "base64", "media_type": "image/png", "data": base64});
        for (shape, model, messages, tokens) in [
            (Shape::Chat, "gpt-4o", chat(image(&url)), 1105),
            (Shape::Chat, "gpt-4.1-mini", chat(image(&url)), 2489),
            (Shape::Chat, "gemini-2.5-flash", chat(image(&url)), 16 * 258),
            (Shape::Chat, "gpt-4o", chat(image("https://example.org/a.png")), 765),
            (Shape::Responses, "gpt-4o", chat(json!({"type": "input_image", "image_url": url})), 1105),
            (Shape::Messages, "claude-sonnet-4-5", chat(json!({"type": "image", "source": source})), 1600),
        ] {
            let field = if shape == Shape::Responses { "input" } else { "messages" };
            let body = json!({"model": model, field: messages}).to_string();
            let counted = input_tokens(families::of(model), Input::Chat(shape, body.into()));
            // Around a message of its own.
            let around = families::of(model).counted(around(1));
            assert_eq!(counted, tokens + around, "{model}");
        }
    }

    #[test]
    fn a_strict_bound_covers_what_servers_add_for_tools() {
        // The most that was recorded: a tool had to be called, of two.
        let city = json!({"city": {"type": "string"}, "country": {"type": "string"}});
        let tools = [
            tool("get_user_country", 0, json!({}), &[]),
            tool("final_result", 7, city, &["city", "country"]),
        ];
        let body = json!({"model": "claude-sonnet-4-5", "tools": tools,
            "messages": [{"role": "user", "content": words(10)}]});
        let request = ChatRequest::parse(body.to_string().into()).unwrap();
        let family = families::of("claude-sonnet-4-5");
        let size = request.size_at_most();
        assert_eq!(size.calls, 2);
        assert!(family.input_bound(&size, None, &[]) >= Some(711));
    }

    #[test]
    fn long_words_are_cut_at_characters() {
        let word = "ü".repeat(LONGEST_PIECE);
        assert_eq!(pieces(&word).map(str::len).sum::<usize>(), word.len());
        assert!(pieces(&word).all(|piece| piece.len() <= LONGEST_PIECE));
    }
}
