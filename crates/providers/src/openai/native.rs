//! Answers of OpenAI's Responses API as they pass: unchanged, and only looked at (API reference, "Responses", "Streaming
//! events").

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::failure::{error, make_safe};
use super::usage;
use super::wire::Content;
use crate::ProviderError;
use crate::answer::{Chunk, Complete, Reported, StreamEvent, What};
use crate::framing::Event;
use crate::lenient::{self, Scratch};
use crate::protocol::{Conversion, ended_too_soon};
use crate::report::Report;

/// An event, as far as we read it.
#[derive(Debug, Deserialize)]
struct Streamed<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    delta: Option<Content<'a>>,
    #[serde(borrow, default)]
    response: Option<Response<'a>>,
}

/// A whole answer, as far as we read it.
#[derive(Debug, Deserialize)]
struct Response<'a> {
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    output: Option<Vec<Item<'a>>>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Item<'a> {
    #[serde(borrow, default)]
    content: Option<Vec<Part<'a>>>,
    #[serde(borrow, default)]
    summary: Option<Vec<Part<'a>>>,
    #[serde(borrow, default)]
    name: Option<Content<'a>>,
    #[serde(borrow, default)]
    arguments: Option<Content<'a>>,
    #[serde(borrow, default)]
    input: Option<Content<'a>>,
}

#[derive(Debug, Deserialize)]
struct Part<'a> {
    #[serde(borrow, default)]
    text: Option<Content<'a>>,
    #[serde(borrow, default)]
    refusal: Option<Content<'a>>,
}

/// A whole answer.
///
/// # Errors
/// [`ProviderError::BadAnswer`] if it is none.
pub(super) fn complete(body: Bytes) -> Result<Complete, ProviderError> {
    let (usage, model, text, mended) = {
        let scratch = Scratch::default();
        let response: Response<'_> = lenient::read(&body, &scratch)
            .ok_or(ProviderError::BadAnswer { what: "not JSON of a response" })?;
        let items = response.output.ok_or(ProviderError::BadAnswer { what: "a response without output" })?;
        let usage = response.usage.and_then(|raw| usage::of_chat(&usage::read(raw.get())));
        let model = response.model.map(Cow::into_owned);
        let mended = match response.error.filter(|raw| raw.get() != "null") {
            None => scratch.instead_of(&body),
            Some(_) => safe_answer(&body),
        };
        (usage, model, produced(&items), mended)
    };
    Ok(Complete::new(mended.unwrap_or(body), usage, model, text))
}

/// An answer with an error beside its output, whose words are safe to show.
fn safe_answer(body: &[u8]) -> Option<Bytes> {
    let Some(Value::Object(mut answer)) = lenient::value(body) else { return None };
    if let Some(error) = answer.get_mut("error") {
        make_safe(error);
    }
    Some(Value::Object(answer).to_string().into())
}

/// The same of an event that has the answer in it.
fn safe_event(event: &StreamEvent) -> Option<Map<String, Value>> {
    let mut data = event.json()?;
    if let Some(error) = data.get_mut("response").and_then(|answer| answer.get_mut("error")) {
        make_safe(error);
    }
    Some(data)
}

fn produced(items: &[Item<'_>]) -> String {
    let mut text = String::new();
    for item in items {
        let parts = item.content.iter().chain(&item.summary).flatten();
        let of_parts = parts.flat_map(|part| [&part.text, &part.refusal]);
        for piece in of_parts.chain([&item.name, &item.arguments, &item.input]).flatten() {
            text.push_str(Content::text(Some(piece)).unwrap_or_default());
        }
    }
    text
}

/// Events pass as they came. The last one carries the usage.
#[derive(Debug, Default)]
pub(super) struct PassingResponse {
    ended: bool,
    /// Whether output came piece by piece.
    produced: bool,
    /// Whether the answer has failed although it was made.
    failed: bool,
    report: Report,
}

impl Conversion for PassingResponse {
    fn event(&mut self, event: Event, out: &mut Vec<StreamEvent>) -> Result<(), ProviderError> {
        let data = event.data.unwrap_or_default();
        let scratch = Scratch::default();
        let what = match lenient::read::<Streamed<'_>>(&data, &scratch) {
            Some(read) => self.look(read, &data)?,
            None => What::Other,
        };
        let mended = scratch.instead_of(&data);
        let passed = StreamEvent::passed_or_mended(event.raw, data, mended, what);
        let safe = if self.failed { safe_event(&passed) } else { None };
        out.push(match safe {
            Some(data) => passed.rewritten(&data),
            None => passed,
        });
        Ok(())
    }

    fn end(&mut self, _: &mut Vec<StreamEvent>) -> Result<(), ProviderError> {
        if self.ended { Ok(()) } else { Err(ended_too_soon()) }
    }

    fn is_whole(&self) -> bool {
        self.ended
    }
}

impl PassingResponse {
    fn look(&mut self, event: Streamed<'_>, data: &[u8]) -> Result<What, ProviderError> {
        let response = event.response;
        let raw_usage = response.as_ref().and_then(|response| response.usage);
        let usage = raw_usage.filter(|raw| raw.get() != "null").and_then(|raw| {
            self.report.grow(&usage::read(raw.get()));
            usage::of_chat(&self.report)
        });
        match &*event.kind {
            "response.created" => {
                let model = response.and_then(|response| response.model).map(Cow::into_owned);
                Ok(What::Chunk(Chunk { usage: usage.map(Reported::SoFar), model, ..Chunk::default() }))
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                self.ended = true;
                let failed =
                    response.as_ref().and_then(|response| response.error).filter(|raw| raw.get() != "null");
                if let (Some(raw), None) = (failed, usage) {
                    return Err(error(raw.get().as_bytes()).reported());
                }
                self.failed = failed.is_some();
                // Some servers send the items whole, at the end alone.
                let items = response.as_ref().and_then(|response| response.output.as_deref());
                let items = items.filter(|_| !self.produced).unwrap_or_default();
                let produced = produced(items);
                let model = response.and_then(|response| response.model).map(Cow::into_owned);
                let usage = usage.map(Reported::Final);
                Ok(What::Chunk(Chunk { produced, finish: true, usage, model, ..Chunk::default() }))
            }
            "error" => Err(error(data).reported()),
            // Text, refusals, summaries, arguments: all that a model writes comes as a text of this name. Sound is none.
            kind if kind.ends_with(".delta") && !kind.ends_with("audio.delta") => {
                let produced = Content::text(event.delta.as_ref()).unwrap_or_default().to_owned();
                self.produced |= !produced.is_empty();
                Ok(What::Chunk(Chunk { produced, ..Chunk::default() }))
            }
            _ => match usage {
                Some(usage) => {
                    Ok(What::Chunk(Chunk { usage: Some(Reported::SoFar(usage)), ..Chunk::default() }))
                }
                None => Ok(What::Other),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use accounting::Usage;

    use super::*;

    const USAGE: &str = r#"{"input_tokens":10,"input_tokens_details":{"cached_tokens":4},"output_tokens":6,
        "output_tokens_details":{"reasoning_tokens":2},"total_tokens":16}"#;

    fn usage() -> Usage {
        Usage { cached_input: 4, reasoning: 2, ..Usage::tokens(10, 6) }
    }

    #[test]
    fn whole_answers() {
        let body = format!(
            r#"{{"id":"r","model":"m","output":[{{"type":"reasoning","summary":[{{"type":"summary_text","text":"hm "}}]}},
            {{"type":"message","content":[{{"type":"output_text","text":"hi "}}]}},
            {{"type":"function_call","name":"f","arguments":"{{}}"}}],"usage":{USAGE}}}"#
        );
        let complete = complete(body.into()).unwrap();
        assert_eq!((complete.usage, complete.produced.text.as_str()), (Some(usage()), "hm hi f{}"));
        assert!(super::complete(Bytes::from_static(b"{}")).is_err());
    }

    #[test]
    fn the_words_of_an_answer_that_failed_are_safe_to_show() {
        let failed = format!(
            r#"{{"id":"r","model":"m","status":"failed","error":{{"code":"server_error","message":"no worker at 10.0.0.7:9000"}},
            "output":[{{"type":"message","content":[{{"type":"output_text","text":"hi from 10.0.0.7:9000"}}]}}],"usage":{USAGE}}}"#
        );
        let event = format!(r#"{{"type":"response.failed","response":{failed},"sequence_number":7}}"#);
        let (mut passing, mut out) = (PassingResponse::default(), Vec::new());
        let raw = Bytes::from(format!("event: response.failed\ndata: {}\n\n", event.replace('\n', " ")));
        passing.event(Event { raw, data: Some(event.into()) }, &mut out).unwrap();
        let text = String::from_utf8(out[0].raw.to_vec()).unwrap();
        assert!(text.starts_with("event: response.failed\ndata: {"), "{text}");
        assert!(matches!(&out[0].what, What::Chunk(Chunk { usage: Some(_), finish: true, .. })));
        let whole = complete(failed.into()).unwrap();
        let answers =
            [out[0].json().unwrap()["response"].clone(), serde_json::from_slice(&whole.body).unwrap()];
        for answer in answers {
            let said = &answer["error"];
            assert_eq!(
                (&said["code"], &said["message"]),
                (&"server_error".into(), &"no worker at ***".into())
            );
            // What the model says is its own affair.
            assert_eq!(answer["output"][0]["content"][0]["text"], "hi from 10.0.0.7:9000");
        }
        assert_eq!(whole.usage, Some(usage()));
    }

    #[test]
    fn what_is_no_json_passes_as_what_clients_can_read() {
        let json = r#"{"type":"response.output_text.delta","delta":"ab","logprob":NaN}"#;
        let (raw, mut out) = (Bytes::from(format!("event: x\ndata: {json}\n\n")), Vec::new());
        PassingResponse::default().event(Event { raw, data: Some(json.into()) }, &mut out).unwrap();
        let read = r#"{"type":"response.output_text.delta","delta":"ab","logprob":null}"#;
        assert_eq!(out[0].raw, format!("event: x\ndata: {read}\n\n"));
    }

    #[test]
    fn events_pass_and_tell() {
        let mut passing = PassingResponse::default();
        let mut out = Vec::new();
        let mut tell = |json: String| {
            out.clear();
            let raw = Bytes::from(format!("event: x\ndata: {json}\n\n"));
            passing.event(Event { raw, data: Some(json.into()) }, &mut out).map(|()| out[0].what.clone())
        };
        let delta = tell(r#"{"type":"response.output_text.delta","delta":"ab"}"#.into()).unwrap();
        assert_eq!(delta, What::Chunk(Chunk { produced: "ab".into(), ..Chunk::default() }));
        assert_eq!(tell(r#"{"type":"response.in_progress"}"#.into()).unwrap(), What::Other);
        let end =
            tell(format!(r#"{{"type":"response.completed","response":{{"model":"m","usage":{USAGE}}}}}"#))
                .unwrap();
        let usage = Some(Reported::Final(usage()));
        assert_eq!(
            end,
            What::Chunk(Chunk { finish: true, usage, model: Some("m".into()), ..Chunk::default() })
        );
        assert!(tell(r#"{"type":"error","error":{"message":"no"}}"#.into()).is_err());
        assert!(passing.end(&mut Vec::new()).is_ok());
        assert!(PassingResponse::default().end(&mut Vec::new()).is_err());
    }
}
