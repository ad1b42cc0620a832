//! Answers of OpenAI's older Completions API as they pass: unchanged, and only looked at. They are those of chats with `text`
//! in the place of a message.

use std::collections::HashMap;

use bytes::Bytes;
use serde::Deserialize;

use super::{Passing, convert};
use crate::answer::{Complete, StreamEvent, What};
use crate::framing::Event;
use crate::protocol::Conversion;
use crate::{ChatRequest, ProviderError};

/// What is left of the prompt that a choice begins with, by its index.
#[derive(Debug, Default)]
struct Echoes(HashMap<u64, String>);

/// A text in an answer, as far as it is read to know what of it was made.
#[derive(Debug, Deserialize)]
struct Texts {
    #[serde(default)]
    choices: Vec<Text>,
}

#[derive(Debug, Deserialize)]
struct Text {
    #[serde(default)]
    index: u64,
    #[serde(default)]
    text: Option<String>,
}

impl Echoes {
    fn of(request: &ChatRequest) -> Self {
        let echoes = request.echoes().unwrap_or_default();
        Self((0_u64..).zip(echoes).map(|(index, prompt)| (index, prompt.to_owned())).collect())
    }

    /// What was made of the texts of an answer or a chunk, if that is known: all but the prompt that they repeat.
    fn made(&mut self, data: &[u8]) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let mut made = String::new();
        for Text { index, text } in serde_json::from_slice::<Texts>(data).ok()?.choices {
            let text = text.unwrap_or_default();
            let Some(left) = self.0.get_mut(&index) else {
                made.push_str(&text);
                continue;
            };
            if left.starts_with(&text) {
                left.drain(..text.len());
            } else {
                // Whoever does not repeat the prompt has made all of it.
                made.push_str(text.strip_prefix(left.as_str()).unwrap_or(&text));
                self.0.remove(&index);
            }
        }
        Some(made)
    }
}

/// A whole answer. Where a server does not tell its usage, what it made beside it is counted as what came.
///
/// # Errors
/// [`ProviderError::BadAnswer`] if it is none.
pub(super) fn complete(request: &ChatRequest, body: Bytes) -> Result<Complete, ProviderError> {
    let made = Echoes::of(request).made(&body);
    let mut complete = convert::complete(body)?;
    if let Some(made) = made {
        complete.produced.text = made;
    }
    let times = usize::try_from(request.made_for_one()).unwrap_or(usize::MAX);
    if times > 1 && complete.usage.is_none() {
        complete.produced.text = complete.produced.text.repeat(times);
    }
    Ok(complete)
}

/// Chunks pass as they came.
#[derive(Debug)]
pub(super) struct Continuing {
    passing: Passing,
    echoes: Echoes,
}

impl Continuing {
    pub(super) fn new(request: &ChatRequest) -> Self {
        Self { passing: Passing::new(request.answers()), echoes: Echoes::of(request) }
    }
}

impl Conversion for Continuing {
    fn event(&mut self, event: Event, out: &mut Vec<StreamEvent>) -> Result<(), ProviderError> {
        let made = event.data.as_deref().and_then(|data| self.echoes.made(data));
        let before = out.len();
        self.passing.event(event, out)?;
        if let (Some(made), Some(StreamEvent { what: What::Chunk(chunk), .. })) = (made, out.get_mut(before))
        {
            chunk.produced = made;
        }
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<StreamEvent>) -> Result<(), ProviderError> {
        self.passing.end(out)
    }

    fn is_whole(&self) -> bool {
        self.passing.is_whole()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::Shape;

    fn request(fields: Value) -> ChatRequest {
        let mut body = json!({"model": "m", "prompt": "one two"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        ChatRequest::parse_as(Shape::Completions, body.to_string().into()).unwrap()
    }

    fn choices(texts: &[(u64, &str)]) -> Vec<u8> {
        let choice =
            |(index, text): &(u64, &str)| json!({"index": index, "text": text, "finish_reason": null});
        json!({"choices": texts.iter().map(choice).collect::<Value>()}).to_string().into_bytes()
    }

    #[test]
    fn what_is_repeated_was_not_made() {
        let echo = json!({"echo": true});
        for (fields, chunks, made) in [
            (json!({}), vec![vec![(0, "one two three")]], vec![None]),
            (echo.clone(), vec![vec![(0, "one two three")]], vec![Some(" three")]),
            (
                echo.clone(),
                vec![vec![(0, "one")], vec![(0, " two thr")], vec![(0, "ee")], vec![(0, "")]],
                vec![Some(""), Some(" thr"), None, None],
            ),
            // A server that does not repeat it.
            (echo.clone(), vec![vec![(0, "three")], vec![(0, "one two")]], vec![Some("three"), None]),
            (
                json!({"echo": true, "prompt": ["a", "b"], "n": 2}),
                vec![vec![(0, "ax"), (1, "ay"), (2, "bz"), (3, "b")], vec![(3, "b"), (7, "c")]],
                vec![Some("xyz"), Some("bc")],
            ),
        ] {
            let mut echoes = Echoes::of(&request(fields.clone()));
            let told: Vec<_> = chunks.iter().map(|texts| echoes.made(&choices(texts))).collect();
            let told: Vec<_> = told.iter().map(Option::as_deref).collect();
            assert_eq!(told, made, "{fields}");
        }
        assert_eq!(Echoes::of(&request(echo)).made(b"{oops"), None);
    }

    #[test]
    fn as_many_are_billed_as_are_made() {
        for (fields, answers, made) in [
            (json!({}), 1, 1),
            (json!({"n": 3}), 3, 3),
            (json!({"best_of": 3}), 1, 3),
            (json!({"n": 2, "best_of": 5, "prompt": ["a", [1, 2]]}), 4, 10),
            (json!({"prompt": [1, 2, 3]}), 1, 1),
            (json!({"prompt": [[1], [2], [3]]}), 3, 3),
        ] {
            let request = request(fields.clone());
            assert_eq!((request.answers(), request.choices()), (answers, made), "{fields}");
        }
    }
}
