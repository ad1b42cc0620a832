//! What of a stream is held back, because it may be its end: the end waits for the charge.
//!
//! The rule it protects: nothing that says something waits. A chunk that tells both a text and that it ends is cut in two,
//! because servers that put a finish reason on every chunk would otherwise not stream at all.

use bytes::Bytes;
use providers::{Shape, StreamEvent, What};
use serde_json::{Map, Value, json};

/// A server that goes on with events that say nothing gets them passed on: the oldest of more than so many, and of those that
/// have more than so many bytes beside the last one.
const MOST: usize = 256;
const MOST_BYTES: usize = 256 * 1024;

/// The events that are held back.
#[derive(Debug, Default)]
pub(crate) struct HeldBack(Vec<Held>);

#[derive(Debug)]
struct Held {
    event: StreamEvent,
    /// The choices whose end it is, if it was cut off a chunk that told a text too.
    cut_off: Option<Vec<u64>>,
}

impl HeldBack {
    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an event is to go through [`Self::pass`].
    pub(crate) fn concerns(&self, event: &StreamEvent) -> bool {
        match &event.what {
            What::Chunk(chunk) => chunk.finish || chunk.no_choices || !self.is_empty(),
            What::Done | What::Other => false,
        }
    }

    /// Takes an event of an answer in that shape that may be its end, or comes behind one; returns what goes on now.
    pub(crate) fn pass(&mut self, event: StreamEvent, shape: Shape) -> Option<Bytes> {
        let What::Chunk(chunk) = &event.what else { return Some(event.raw) };
        if chunk.produced.is_empty() {
            // Azure begins with a chunk that has no choices.
            let begins = self.is_empty() && !chunk.finish && chunk.usage.is_none() && !has_usage(&event);
            if begins {
                return Some(event.raw);
            }
            self.hold(event, None);
            return self.too_much();
        }
        if !chunk.finish {
            // Another choice goes on: what was held back was not the end.
            return Some(self.flush(Some(event.raw)));
        }
        let Some(parts) = Parts::of(&event, shape) else {
            self.hold(event, None);
            return self.too_much();
        };
        let mut now = self.drop_ends_of(&parts.choices, shape);
        self.hold(parts.end, Some(parts.choices));
        now.extend(self.too_much());
        now.push(parts.text);
        Some(now.concat().into())
    }

    /// All of it, in order.
    pub(crate) fn into_events(self) -> Vec<StreamEvent> {
        self.0.into_iter().map(|held| held.event).collect()
    }

    fn hold(&mut self, event: StreamEvent, cut_off: Option<Vec<u64>>) {
        self.0.push(Held { event, cut_off });
    }

    /// What is too much to be held back: all but the last event, which may be the end.
    fn too_much(&mut self) -> Option<Bytes> {
        let before = self.0.len().checked_sub(1).filter(|before| *before > 0)?;
        let bytes: usize = self.0[..before].iter().map(|held| held.event.raw.len()).sum();
        if before < MOST && bytes <= MOST_BYTES {
            return None;
        }
        let passed: Vec<Bytes> = self.0.drain(..before).map(|held| held.event.raw).collect();
        Some(passed.concat().into())
    }

    fn flush(&mut self, next: Option<Bytes>) -> Bytes {
        let together: Vec<Bytes> = self.0.drain(..).map(|held| held.event.raw).chain(next).collect();
        together.concat().into()
    }

    /// These choices go on: what was said of their end means nothing. Returns what was held back beside that.
    fn drop_ends_of(&mut self, choices: &[u64], shape: Shape) -> Vec<Bytes> {
        let goes_on = |ends: &[u64]| ends.iter().all(|index| choices.contains(index));
        let mut now = Vec::new();
        for held in std::mem::take(&mut self.0) {
            match &held.cut_off {
                Some(ends) if goes_on(ends) => {}
                Some(_) => self.0.push(held),
                None => match Parts::of(&held.event, shape) {
                    Some(parts) if goes_on(&parts.choices) => now.push(parts.text),
                    _ => now.push(held.event.raw),
                },
            }
        }
        now
    }
}

/// A choice of a chunk that says nothing but why it ends; `None` for shapes that have no chunks with choices.
pub(crate) fn nothing(shape: Shape, index: Value, finish_reason: Value) -> Option<Value> {
    match shape {
        Shape::Chat => Some(json!({"index": index, "delta": {}, "finish_reason": finish_reason})),
        Shape::Completions => {
            Some(json!({"index": index, "text": "", "logprobs": null, "finish_reason": finish_reason}))
        }
        Shape::Responses | Shape::Messages => None,
    }
}

/// A chunk of a chat with an end, in two.
struct Parts {
    /// All but the end.
    text: Bytes,
    end: StreamEvent,
    /// The choices that end.
    choices: Vec<u64>,
}

impl Parts {
    /// `None` for other shapes, which tell their end in an event of its own, and for a chunk without an end.
    fn of(event: &StreamEvent, shape: Shape) -> Option<Self> {
        nothing(shape, json!(0), Value::Null)?;
        let mut text = event.json()?;
        let mut ends = Vec::new();
        let mut indices = Vec::new();
        for choice in text.get_mut("choices")?.as_array_mut()?.iter_mut().filter_map(Value::as_object_mut) {
            if !ends_here(choice) {
                continue;
            }
            let reason = choice.insert("finish_reason".into(), Value::Null);
            let index = choice.get("index").cloned().unwrap_or(json!(0));
            indices.push(index.as_u64().unwrap_or_default());
            ends.push(nothing(shape, index, reason.unwrap_or_default())?);
        }
        if ends.is_empty() {
            return None;
        }
        let mut end = Map::new();
        for (name, value) in &mut text {
            match name.as_str() {
                "choices" => {
                    end.insert(name.clone(), ends.clone().into());
                }
                // The last word on it comes with the end.
                "usage" => {
                    end.insert(name.clone(), value.take());
                }
                "id" | "object" | "created" | "model" | "system_fingerprint" | "service_tier" => {
                    end.insert(name.clone(), value.clone());
                }
                _ => {}
            }
        }
        Some(Self { text: event.with_data(&text), end: event.end_with(&end), choices: indices })
    }
}

/// Whether a choice ends; some servers say so with an empty text all the time.
pub(crate) fn ends_here(choice: &Map<String, Value>) -> bool {
    choice.get("finish_reason").is_some_and(|reason| !reason.is_null() && reason.as_str() != Some(""))
}

fn has_usage(event: &StreamEvent) -> bool {
    event.json().is_some_and(|data| data.get("usage").is_some_and(|usage| !usage.is_null()))
}
