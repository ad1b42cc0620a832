//! Google's answers in OpenAI's shape, whole and streamed. Pure.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::failure;
use super::reader::{Delta, Piece, Reader};
use super::routes::bare_name;
use super::wire::Answer;
use crate::answer::{Chunk, Complete, Reported, StreamEvent};
use crate::chunk::{self, Choice, ChunkWriter};
use crate::framing::Event;
use crate::lenient::{self, Scratch};
use crate::protocol::{Asked, Conversion, ended_too_soon};
use crate::{ChatRequest, ProviderError};

/// What the ids of an answer are made of where the server names none.
#[derive(Debug)]
pub(super) struct Origin {
    asked: Asked,
    choices: u64,
    messages: usize,
}

impl Origin {
    pub(super) fn new(request: &ChatRequest, asked: Asked) -> Self {
        Self { asked, choices: request.choices(), messages: request.message_count() }
    }

    /// The id of an answer.
    fn id(&self, answer: &Answer<'_>) -> String {
        match answer.response_id.as_deref().or(self.asked.request_id.as_deref()) {
            Some(id) if !id.is_empty() => id.to_owned(),
            // Each turn of a chat has more messages than the one before, so ids stay apart within a chat.
            _ => format!("{}-{}", self.asked.created, self.messages),
        }
    }

    fn reader(&self, id: &str) -> Reader {
        Reader::new(id.to_owned(), self.choices)
    }
}

/// The model that an answer names.
fn model(answer: &Answer<'_>) -> Option<String> {
    answer.model_version.as_deref().filter(|name| !name.is_empty()).map(|name| bare_name(name).to_owned())
}

/// A whole answer.
pub(super) fn complete(origin: &Origin, body: &Bytes) -> Result<Complete, ProviderError> {
    let scratch = Scratch::default();
    let answer: Answer<'_> =
        lenient::read(body, &scratch).ok_or(ProviderError::BadAnswer { what: "not JSON of an answer" })?;
    if let Some(error) = answer.error {
        return Err(failure::inside(error.get()));
    }
    let (id, model) = (origin.id(&answer), model(&answer));
    let mut reader = origin.reader(&id);
    let mut messages: Vec<Message> = Vec::new();
    let mut produced = String::new();
    for piece in reader.read(answer) {
        produced.push_str(&piece.produced);
        of_index(&mut messages, piece.index).add(piece);
    }
    let mut ends = reader.ends().ok_or(ProviderError::BadAnswer { what: "no candidate that has ended" })?;
    ends.sort_by_key(|end| end.index);
    let choices = ends.into_iter().map(|end| {
        let message = of_index(&mut messages, end.index);
        message.content.push_str(end.explanation.as_deref().unwrap_or_default());
        message.refusal = end.refusal;
        let message = std::mem::take(message);
        Choice { logprobs: message.logprobs.clone(), message: message.json(), reason: end.reason.to_owned() }
    });
    let choices = choices.collect();
    let usage = reader.usage();
    let told = usage.or_else(|| reader.usage_so_far());
    let complete = chunk::complete(&id, &origin.asked, model, choices, told, produced);
    // What does not tell of the text that came tells of the rest all the same.
    Ok(Complete { usage_goes_on: usage.is_none(), ..complete })
}

fn of_index(messages: &mut Vec<Message>, index: u64) -> &mut Message {
    let place = messages.iter().position(|message| message.index == index).unwrap_or_else(|| {
        messages.push(Message { index, ..Message::default() });
        messages.len() - 1
    });
    &mut messages[place]
}

/// The message of a choice, put together.
#[derive(Debug, Default)]
struct Message {
    index: u64,
    content: String,
    reasoning: String,
    details: Vec<Value>,
    calls: Vec<Value>,
    annotations: Vec<Value>,
    logprobs: Option<Value>,
    refusal: Option<String>,
    other: Map<String, Value>,
}

impl Message {
    fn add(&mut self, Piece { delta, logprobs, .. }: Piece<'_>) {
        let Delta {
            content,
            reasoning_content,
            reasoning_details,
            tool_calls,
            annotations,
            grounding,
            citations,
            ..
        } = delta;
        self.content.push_str(content.as_deref().unwrap_or_default());
        self.reasoning.push_str(reasoning_content.as_deref().unwrap_or_default());
        self.details.extend(reasoning_details);
        self.calls.extend(tool_calls);
        self.annotations.extend(annotations);
        self.logprobs = self.logprobs.take().or(logprobs);
        for (name, raw) in [("groundingMetadata", grounding), ("citationMetadata", citations)] {
            if let Some(value) = raw.and_then(|raw| serde_json::from_str(raw.get()).ok()) {
                self.other.insert(name.into(), value);
            }
        }
    }

    fn json(self) -> Value {
        let mut message = self.other;
        message.insert("role".into(), "assistant".into());
        let content =
            if self.content.is_empty() && !self.calls.is_empty() { Value::Null } else { self.content.into() };
        message.insert("content".into(), content);
        if !self.reasoning.is_empty() {
            message.insert("reasoning_content".into(), self.reasoning.into());
        }
        let calls = self.calls.into_iter().map(|mut call| {
            // Only pieces of a stream are numbered.
            call.as_object_mut().map(|call| call.shift_remove("index"));
            call
        });
        let calls: Vec<Value> = calls.collect();
        if let Some(refusal) = self.refusal {
            message.insert("refusal".into(), refusal.into());
        }
        for (name, list) in
            [("tool_calls", calls), ("reasoning_details", self.details), ("annotations", self.annotations)]
        {
            if !list.is_empty() {
                message.insert(name.into(), list.into());
            }
        }
        message.into()
    }
}

/// Converts the chunks of one answer. There is no mark at the end of a stream, and a chunk with a `finishReason` need not be
/// the last one, so all that ends an answer is written when the body has ended.
#[derive(Debug)]
pub(super) struct Stream {
    origin: Origin,
    state: Option<(ChunkWriter, Reader)>,
}

impl Stream {
    pub(super) const fn new(origin: Origin) -> Self {
        Self { origin, state: None }
    }
}

impl Conversion for Stream {
    fn event(&mut self, event: Event, out: &mut Vec<StreamEvent>) -> Result<(), ProviderError> {
        let Some(data) = event.data.filter(|data| !data.trim_ascii().is_empty()) else { return Ok(()) };
        let scratch = Scratch::default();
        // Some errors come as a list.
        let answer = if data.trim_ascii_start().starts_with(b"[") {
            lenient::read::<[Answer<'_>; 1]>(&data, &scratch).map(|[answer]| answer)
        } else {
            lenient::read::<Answer<'_>>(&data, &scratch)
        };
        let answer =
            answer.ok_or_else(|| ProviderError::Broken { what: "an event that can't be read".into() })?;
        if let Some(error) = answer.error {
            return Err(failure::inside(error.get()));
        }
        let (writer, reader) = self.state.get_or_insert_with(|| {
            let id = self.origin.id(&answer);
            let asked = &self.origin.asked;
            let model = model(&answer).unwrap_or_else(|| asked.model.clone());
            (ChunkWriter::new(&id, asked.created, &model), self.origin.reader(&id))
        });
        let pieces = reader.read(answer);
        let mut usage = match reader.usage() {
            Some(usage) if reader.all_ended() => Some(Reported::Final(usage)),
            _ => reader.usage_so_far().map(Reported::SoFar),
        };
        // Where nothing was said, what is known is told all the same.
        if let (true, Some(Reported::SoFar(usage))) = (pieces.is_empty(), usage) {
            out.push(writer.delta_so_far(0, &json!({}), String::new(), usage));
        }
        let last = pieces.len().saturating_sub(1);
        out.extend(pieces.into_iter().enumerate().map(|(place, piece)| {
            let Piece { index, delta, logprobs, produced } = piece;
            let usage = if place == last { usage.take() } else { None };
            writer.piece(index, &delta, logprobs.as_ref(), Chunk { produced, usage, ..Chunk::default() })
        }));
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<StreamEvent>) -> Result<(), ProviderError> {
        let Some((writer, reader)) = &self.state else { return Err(ended_too_soon()) };
        let ends = reader.ends().ok_or_else(ended_too_soon)?;
        for end in &ends {
            let Some(explanation) = &end.explanation else { continue };
            let delta = match &end.refusal {
                Some(refusal) => json!({"content": explanation, "refusal": refusal}),
                None => json!({"content": explanation}),
            };
            out.push(writer.delta(end.index, &delta, String::new()));
        }
        out.extend(ends.iter().map(|end| writer.finish(end.index, end.reason)));
        out.extend(reader.usage().map(|usage| writer.usage(Reported::Final(usage))));
        out.push(StreamEvent::done());
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.state.as_ref().is_some_and(|(_, reader)| reader.all_ended())
    }
}
