//! From Mistral's answers to OpenAI's shape: where the content is a list, its thinking becomes `reasoning_content` and its
//! text the content; references to documents are left out; calls of tools get the type that clients look for. All else stays
//! byte for byte. Pure.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;
use memchr::memmem;
use serde_json::Value;
use serde_json::value::RawValue;

use super::wire;
use crate::answer::{Complete, StreamEvent};
use crate::framing::Event;
use crate::lenient::{self, Scratch};
use crate::openai::{self, Passing};
use crate::protocol::{Asked, Conversion};
use crate::{EmbeddingsRequest, ProviderError, chunk};

/// The chunks of a streamed answer.
#[derive(Debug)]
pub(super) struct Chunks(Passing);

impl Chunks {
    pub(super) const fn new(choices: u64) -> Self {
        Self(Passing::new(choices))
    }
}

impl Conversion for Chunks {
    fn event(&mut self, event: Event, out: &mut Vec<StreamEvent>) -> Result<(), ProviderError> {
        let Some(json) = event.data.as_ref().and_then(rewritten) else { return self.0.event(event, out) };
        let raw = Bytes::from([b"data: ", &json[..], b"\n\n"].concat());
        let data = raw.slice(b"data: ".len()..raw.len() - 2);
        self.0.pass(raw, data, out)
    }

    fn end(&mut self, out: &mut Vec<StreamEvent>) -> Result<(), ProviderError> {
        self.0.end(out)
    }

    fn is_whole(&self) -> bool {
        self.0.is_whole()
    }
}

/// An answer or a chunk in OpenAI's shape, if it is not already.
pub(super) fn rewritten(json: &Bytes) -> Option<Bytes> {
    if !differs(json) {
        return None;
    }
    let Ok(answer) = serde_json::from_slice::<wire::Answer<'_>>(json) else {
        // What can't be read as it came is read, and passes, as its client would read it.
        let mended = Bytes::from(lenient::value(json)?.to_string());
        let readable = serde_json::from_slice::<wire::Answer<'_>>(&mended).is_ok();
        return readable.then(|| rewritten(&mended).unwrap_or(mended));
    };
    let mut changes: Vec<(Range<usize>, String)> = Vec::new();
    for choice in answer.choices.iter().flatten() {
        for message in choice.delta.iter().chain(&choice.message) {
            if let Some(raw) = message.content
                && let Some(said) = said(raw)
            {
                changes.push((place(json, raw)?, said));
            }
            if let Some(raw) = message.tool_calls {
                add_types(json, raw, &mut changes)?;
            }
        }
        if let Some(raw) = choice.finish_reason.filter(|raw| raw.get() == MODEL_LENGTH) {
            changes.push((place(json, raw)?, "\"length\"".into()));
        }
    }
    changes.sort_unstable_by_key(|(place, _)| place.start);
    let mut out = Vec::with_capacity(json.len());
    let mut from = 0;
    for (place, change) in &changes {
        out.extend_from_slice(json.get(from..place.start)?);
        out.extend_from_slice(change.as_bytes());
        from = place.end;
    }
    out.extend_from_slice(json.get(from..)?);
    (!changes.is_empty()).then(|| out.into())
}

/// The end of an answer that filled the model's context.
const MODEL_LENGTH: &str = "\"model_length\"";

/// A quick look for what has to be rewritten. Within a text, a quotation mark has a backslash before it.
fn differs(json: &[u8]) -> bool {
    const KEY: &[u8] = b"\"content\"";
    let list = |at: usize| {
        let rest = json[at + KEY.len()..].trim_ascii_start();
        rest.strip_prefix(b":").is_some_and(|rest| rest.trim_ascii_start().starts_with(b"["))
    };
    memmem::find_iter(json, KEY).any(list)
        || memmem::find(json, b"\"tool_calls\"").is_some()
        || memmem::find(json, MODEL_LENGTH.as_bytes()).is_some()
}

/// Calls without a type are functions: OpenAI's clients look at it.
fn add_types(json: &Bytes, calls: &RawValue, changes: &mut Vec<(Range<usize>, String)>) -> Option<()> {
    for raw in serde_json::from_str::<Vec<&RawValue>>(calls.get()).unwrap_or_default() {
        let Ok(call) = serde_json::from_str::<HashMap<Cow<'_, str>, &RawValue>>(raw.get()) else { continue };
        match call.get("type") {
            _ if !call.contains_key("function") => {}
            None => {
                let start = place(json, raw)?.start + 1;
                changes.push((start..start, "\"type\":\"function\",".into()));
            }
            Some(kind) if kind.get() == "null" => changes.push((place(json, kind)?, "\"function\"".into())),
            Some(_) => {}
        }
    }
    Some(())
}

/// Where in the JSON a value of it stands.
fn place(json: &Bytes, raw: &RawValue) -> Option<Range<usize>> {
    let start = (raw.get().as_ptr() as usize).checked_sub(json.as_ptr() as usize)?;
    let end = start.checked_add(raw.get().len())?;
    (end <= json.len()).then_some(start..end)
}

/// A content that is a list, as a text, with what was thought behind it as a field of its own.
fn said(raw: &RawValue) -> Option<String> {
    if !raw.get().starts_with('[') {
        return None;
    }
    let scratch = Scratch::default();
    let parts: Vec<wire::SaidPart<'_>> = lenient::read(raw.get().as_bytes(), &scratch)?;
    let (mut text, mut thoughts) = (String::new(), String::new());
    for part in &parts {
        match &*part.kind {
            "text" => text.push_str(part.text.as_deref().unwrap_or_default()),
            "thinking" => thought(part, &mut thoughts),
            // References, pictures and the like have no place in OpenAI's shape.
            _ => {}
        }
    }
    let mut said = serde_json::to_string(&text).ok()?;
    if !thoughts.is_empty() {
        said.push_str(",\"reasoning_content\":");
        said.push_str(&serde_json::to_string(&thoughts).ok()?);
    }
    Some(said)
}

fn thought(part: &wire::SaidPart<'_>, thoughts: &mut String) {
    let Some(raw) = part.thinking else { return };
    let scratch = Scratch::default();
    if let Some(pieces) = lenient::read::<Vec<wire::SaidPart<'_>>>(raw.get().as_bytes(), &scratch) {
        pieces.iter().filter_map(|piece| piece.text.as_deref()).for_each(|text| thoughts.push_str(text));
    } else if let Ok(text) = serde_json::from_str::<Cow<'_, str>>(raw.get()) {
        thoughts.push_str(&text);
    }
}

/// Vectors; in base64, as OpenAI writes it, where the request asks for that.
///
/// # Errors
/// If it is no list of them.
pub(super) fn embeddings(
    request: &EmbeddingsRequest,
    asked: &Asked,
    body: Bytes,
) -> Result<Complete, ProviderError> {
    let complete = openai::embeddings(body)?;
    if request.body().get("encoding_format").and_then(Value::as_str) != Some("base64") {
        return Ok(complete);
    }
    let answer: wire::Embedded = serde_json::from_slice(&complete.body)
        .map_err(|_| ProviderError::BadAnswer { what: "not a list of vectors" })?;
    let vectors = answer.data.iter().map(|vector| chunk::vector_in_base64(&vector.embedding).into());
    let encoded = chunk::embeddings(asked, vectors.collect(), complete.usage);
    Ok(Complete { body: encoded.body, ..complete })
}
