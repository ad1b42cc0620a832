//! What fuzzers and benchmarks call: every parser and converter on any bytes, with what must hold whatever comes. Only with
//! the feature `fuzzing`.
#![expect(clippy::panic, reason = "a panic is how a fuzzer is told of a finding")]

mod fields;

pub use fields::broken_fields;

use accounting::Usage;
use bytes::Bytes;
use url::Url;

use crate::answer::{Chunk, Complete, Reported, StreamEvent, What};
use crate::framing::{Framing, Parser};
use crate::protocol::{Asked, Protocol, Setup};
use crate::registry::ENTRIES;
use crate::{BadRequest, ChatRequest, EmbeddingsRequest, Kind, ProviderOptions, Shape, Unknown};

const SHAPES: [Shape; 4] = [Shape::Chat, Shape::Responses, Shape::Messages, Shape::Completions];

/// Cuts bytes into events, whole and in two pieces: both give the same.
pub fn framing(data: &[u8]) {
    let Some((head, data)) = data.split_first_chunk::<2>() else { return };
    let framing = if head[0] & 1 == 0 { Framing::Sse } else { Framing::Ndjson };
    let at = usize::from(head[1]).min(data.len());
    let (whole, split) = (cut(framing, &[data]), cut(framing, &[&data[..at], &data[at..]]));
    if whole != split {
        panic!("cut at {at}, the stream gives other events");
    }
}

fn cut(framing: Framing, pieces: &[&[u8]]) -> Vec<Option<Bytes>> {
    let mut parser = Parser::new(framing);
    let mut events = Vec::new();
    for piece in pieces {
        parser.push(piece);
        while let Ok(Some(event)) = parser.next() {
            events.push(event.data);
        }
    }
    while let Ok(Some(event)) = parser.last() {
        events.push(event.data);
    }
    events
}

/// Reads bytes as requests of every shape and converts them for every kind of server: what is sent is JSON.
pub fn requests(data: &[u8]) {
    let data = Bytes::copy_from_slice(data);
    for shape in SHAPES {
        let Ok(request) = ChatRequest::parse_as(shape, data.clone()) else { continue };
        let _ = (request.input_text(), request.input_length(), request.media());
        assert_unknown(|unknown| request.refuse_unpriced_fields(unknown));
        for protocol in protocols().filter(|protocol| protocol.takes(shape)) {
            if let Ok(outgoing) = protocol.chat(&request) {
                assert_json(&outgoing.body);
            }
        }
    }
    let Ok(request) = EmbeddingsRequest::parse(data) else { return };
    let _ = request.input_length();
    assert_unknown(|unknown| request.refuse_unpriced_fields(unknown));
    for protocol in protocols() {
        if let Ok(outgoing) = protocol.embeddings(&request) {
            assert_json(&outgoing.body);
        }
    }
}

/// Reads bytes as whole answers of every kind of server.
pub fn answers(data: &[u8]) {
    let data = Bytes::copy_from_slice(data);
    let embeddings =
        EmbeddingsRequest::parse(Bytes::from_static(b"{\"model\":\"m\",\"input\":[\"a\",\"b\"]}"));
    for protocol in protocols() {
        for shape in SHAPES {
            let Some(request) = request(shape).filter(|_| protocol.takes(shape)) else { continue };
            if let Ok(complete) = protocol.answer(&request, &asked(), data.clone()) {
                assert_complete(&complete);
            }
        }
        if let Ok(request) = &embeddings
            && let Ok(complete) = protocol.embeddings_answer(request, &asked(), data.clone())
        {
            assert_complete(&complete);
        }
        let _ = protocol.models_answer(&data);
    }
}

/// Reads bytes as a streamed answer of one kind of server: every chunk that we write is JSON.
pub fn streams(data: &[u8]) {
    let Some((head, data)) = data.split_first_chunk::<2>() else { return };
    let Some(protocol) = protocols().nth(usize::from(head[0]) % ENTRIES.len()) else { return };
    let shape = SHAPES[usize::from(head[1]) % SHAPES.len()];
    let Some(request) = request(shape).filter(|_| protocol.takes(shape)) else { return };
    let mut conversion = protocol.conversion(&request, asked());
    let mut parser = Parser::new(protocol.framing());
    parser.push(data);
    let mut out = Vec::new();
    while let Ok(Some(event)) = parser.next() {
        if conversion.event(event, &mut out).is_err() {
            return;
        }
    }
    while let Ok(Some(event)) = parser.last() {
        if conversion.event(event, &mut out).is_err() {
            return;
        }
    }
    let _ = conversion.end(&mut out);
    out.iter().for_each(assert_event);
}

/// Converts the pieces of a streamed answer as they come, as on its way from that kind of server to a client. How many
/// events it became; `None` if such a server takes no requests of that shape, or the answer breaks off.
pub fn convert<'a>(kind: Kind, shape: Shape, pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<usize> {
    let protocol = protocol_of(kind)?;
    let request = request(shape).filter(|_| protocol.takes(shape))?;
    let mut conversion = protocol.conversion(&request, asked());
    let mut parser = Parser::new(protocol.framing());
    let (mut out, mut events) = (Vec::new(), 0);
    for piece in pieces {
        parser.push(piece);
        while let Some(event) = parser.next().ok()? {
            conversion.event(event, &mut out).ok()?;
            events += out.len();
            out.clear();
        }
    }
    conversion.end(&mut out).ok()?;
    Some(events + out.len())
}

/// Reads bytes as errors of every kind of server: what is shown holds no key and is short.
pub fn errors(data: &[u8]) {
    for protocol in protocols() {
        let failure = protocol.error(data);
        let of_reported = protocol.reported(data).map(|error| error.message());
        let texts = [failure.code, failure.kind, failure.param, failure.message, of_reported];
        for text in texts.into_iter().flatten() {
            if text.chars().count() > 400 || holds_key(&text) {
                panic!("unsafe words: {text}");
            }
        }
    }
}

/// Whether a word of it is a key of OpenAI's form: what a word only has in its middle, or what is too short, is none.
fn holds_key(text: &str) -> bool {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && !matches!(letter, '-' | '_'));
    words
        .filter_map(|word| word.strip_prefix("sk-"))
        .any(|rest| rest.len() >= 12 && rest.bytes().any(|byte| byte.is_ascii_digit()))
}

fn protocols() -> impl Iterator<Item = Box<dyn Protocol>> {
    let base = Url::parse("http://localhost/v1").ok();
    ENTRIES.iter().filter_map(move |entry| {
        (entry.open)(&Setup { base_url: base.clone()?, options: ProviderOptions::default() }).ok()
    })
}

fn protocol_of(kind: Kind) -> Option<Box<dyn Protocol>> {
    let base_url = Url::parse("http://localhost/v1").ok()?;
    (kind.entry().open)(&Setup { base_url, options: ProviderOptions::default() }).ok()
}

fn request(shape: Shape) -> Option<ChatRequest> {
    let body = match shape {
        Shape::Chat | Shape::Messages => {
            r#"{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"a"}]}"#
        }
        Shape::Responses => r#"{"model":"m","stream":true,"input":"a"}"#,
        Shape::Completions => r#"{"model":"m","stream":true,"prompt":"a","echo":true}"#,
    };
    ChatRequest::parse_as(shape, Bytes::from_static(body.as_bytes())).ok()
}

fn asked() -> Asked {
    Asked { model: "m".into(), created: 1, request_id: None }
}

/// What passes where the unknown is refused passes everywhere, and has nothing unknown.
fn assert_unknown(check: impl Fn(Unknown) -> Result<Vec<String>, BadRequest>) {
    if let Ok(told) = check(Unknown::Refuse)
        && (!told.is_empty() || check(Unknown::Count) != Ok(told))
    {
        panic!("what is known here is unknown there");
    }
}

fn assert_json(body: &[u8]) {
    if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_err() {
        panic!("no JSON: {}", String::from_utf8_lossy(body));
    }
}

fn assert_usage(usage: Option<Usage>) {
    if let Some(error) = usage.and_then(|usage| usage.checked().err()) {
        panic!("{error}");
    }
}

fn assert_complete(complete: &Complete) {
    assert_json(&complete.body);
    assert_usage(complete.usage);
}

fn assert_event(event: &StreamEvent) {
    let What::Chunk(Chunk { usage, .. }) = &event.what else { return };
    assert_usage(usage.map(|reported| match reported {
        Reported::Final(usage) | Reported::SoFar(usage) => usage,
    }));
    // What passes unchanged may hold bytes that are no UTF-8; its structure is JSON all the same.
    if !event.is_json() {
        panic!("a chunk that is no JSON: {}", String::from_utf8_lossy(&event.raw));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    type Target = fn(&[u8]);

    #[test]
    fn every_kind_and_shape_is_reached() {
        assert_eq!(protocols().count(), ENTRIES.len());
        for shape in SHAPES {
            assert!(request(shape).is_some(), "{shape:?}");
        }
    }

    #[test]
    fn streams_are_converted_piece_by_piece() {
        let stream = b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n";
        assert_eq!(convert(Kind::OPENAI, Shape::Chat, stream.chunks(7)), Some(2));
        assert_eq!(convert(Kind::OPENAI, Shape::Chat, stream[..60].chunks(7)), None);
        assert_eq!(convert(Kind::OPENAI, Shape::Messages, stream.chunks(7)), None);
    }

    #[test]
    fn no_seed_is_a_finding() {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
        let targets: [(&str, Target); 6] = [
            ("framing", framing),
            ("requests", requests),
            ("answers", answers),
            ("streams", streams),
            ("errors", errors),
            ("fields", broken_fields),
        ];
        for (name, target) in targets {
            let files: Vec<_> = std::fs::read_dir(seeds.join(name)).unwrap().collect();
            assert!(files.len() > 4, "{name}");
            for file in files {
                target(&std::fs::read(file.unwrap().path()).unwrap());
            }
        }
    }
}
