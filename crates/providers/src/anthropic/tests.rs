//! Tests of the protocol as a whole; those of one part stand beside it.

mod answers;
mod conversations;
mod requests;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use url::Url;

use super::*;
use crate::answer::{Chunk, Reported, StreamEvent, What};
use crate::framing::Framing;
use crate::protocol::Setup;
use crate::{ProviderError, ProviderOptions, samples};

fn protocol() -> Box<dyn Protocol> {
    let base_url = Url::parse(ANTHROPIC.base_url).unwrap();
    open(&Setup { base_url, options: ProviderOptions::default() }).unwrap()
}

fn request(body: &Value) -> ChatRequest {
    ChatRequest::parse(Bytes::from(body.to_string())).unwrap()
}

/// What is sent for a request, and which of its fields are left out.
fn sent(body: &Value) -> Result<(Map<String, Value>, Vec<String>), BadRequest> {
    let outgoing = protocol().chat(&request(body))?;
    Ok((serde_json::from_slice(&outgoing.body).unwrap(), outgoing.omitted))
}

fn asked() -> Asked {
    Asked { model: "m".into(), created: 7, request_id: Some("req_1".into()) }
}

/// All events of a stream that comes in those pieces, and how it ended.
fn converted(
    conversion: Box<dyn Conversion>,
    pieces: &[&[u8]],
) -> (Vec<StreamEvent>, Result<(), ProviderError>) {
    samples::stream(Framing::Sse, conversion, pieces)
}

fn converting() -> Box<dyn Conversion> {
    Box::new(stream::Converting::new(asked(), None))
}

fn passing() -> Box<dyn Conversion> {
    Box::new(native::Passing::new(None))
}

fn chunks(events: &[StreamEvent]) -> Vec<&Chunk> {
    let mut chunks = Vec::new();
    for event in events {
        if let What::Chunk(chunk) = &event.what {
            chunks.push(chunk);
        }
    }
    chunks
}

fn produced(events: &[StreamEvent]) -> String {
    chunks(events).iter().map(|chunk| chunk.produced.as_str()).collect()
}

fn last_usage(events: &[StreamEvent]) -> Option<Reported> {
    chunks(events).iter().rev().find_map(|chunk| chunk.usage)
}

/// A streamed answer put together as a client does it.
fn put_together(events: &[StreamEvent]) -> (Map<String, Value>, Option<String>) {
    let (mut content, mut reasoning, mut details) = (String::new(), String::new(), Vec::new());
    let mut calls: Vec<Map<String, Value>> = Vec::new();
    let mut reason = None;
    for event in events {
        let Some(chunk) = event.json() else { continue };
        for choice in chunk["choices"].as_array().unwrap() {
            let delta = &choice["delta"];
            content.push_str(delta["content"].as_str().unwrap_or_default());
            reasoning.push_str(delta["reasoning_content"].as_str().unwrap_or_default());
            details.extend(delta["reasoning_details"].as_array().cloned().unwrap_or_default());
            for piece in delta["tool_calls"].as_array().into_iter().flatten() {
                let index = piece["index"].as_u64().unwrap() as usize;
                let arguments = piece["function"]["arguments"].as_str().unwrap();
                match calls.get_mut(index) {
                    Some(call) => {
                        let before = call["arguments"].as_str().unwrap().to_owned();
                        call["arguments"] = (before + arguments).into();
                    }
                    None => calls.push(Map::from_iter([
                        ("id".into(), piece["id"].clone()),
                        ("name".into(), piece["function"]["name"].clone()),
                        ("arguments".into(), arguments.into()),
                    ])),
                }
            }
            reason = choice["finish_reason"].as_str().map(Into::into).or(reason);
        }
    }
    (answer(content, reasoning, details, calls), reason)
}

/// The same of a whole answer.
fn taken_apart(body: &[u8]) -> (Map<String, Value>, Option<String>) {
    let body: Value = serde_json::from_slice(body).unwrap();
    let choice = &body["choices"][0];
    let message = &choice["message"];
    let text = |field: &str| message[field].as_str().unwrap_or_default().to_owned();
    let calls = message["tool_calls"].as_array().into_iter().flatten().map(|call| {
        let function = &call["function"];
        Map::from_iter([
            ("id".into(), call["id"].clone()),
            ("name".into(), function["name"].clone()),
            ("arguments".into(), function["arguments"].clone()),
        ])
    });
    let details = message["reasoning_details"].as_array().cloned().unwrap_or_default();
    let answer = answer(text("content"), text("reasoning_content"), details, calls.collect());
    (answer, choice["finish_reason"].as_str().map(Into::into))
}

fn answer(
    content: String,
    reasoning: String,
    mut details: Vec<Value>,
    calls: Vec<Map<String, Value>>,
) -> Map<String, Value> {
    details.sort_by_key(|detail| detail["index"].as_u64());
    let json = json!({"content": content, "reasoning": reasoning, "details": details, "calls": calls});
    json.as_object().unwrap().clone()
}

#[test]
fn an_error_inside_an_answer_keeps_all_that_it_names() {
    let of = |error: Value| {
        let data = json!({"type": "error", "error": error}).to_string();
        let ProviderError::Reported { error, .. } = super::reported(data.as_bytes(), None) else { panic!() };
        *error
    };
    let said = |code: Option<&str>, param: Option<&str>| crate::Said {
        code: code.map(Into::into),
        param: param.map(Into::into),
        words: Some("no".into()),
        rates: None,
    };
    assert_eq!(
        of(
            json!({"type": "invalid_request_error", "message": "no", "status": 422, "code": "bad_tool", "param": "tools"})
        ),
        ProviderError::Rejected { status: 422, said: said(Some("bad_tool"), Some("tools")) }
    );
    assert_eq!(
        of(json!({"type": "rate_limit_error", "message": "no", "retry_after": 7})),
        ProviderError::RateLimited {
            retry_after: Some(std::time::Duration::from_secs(7)),
            said: said(None, None)
        }
    );
    assert_eq!(
        of(json!({"type": "authentication_error", "message": "no"})),
        ProviderError::OurKey { status: 401 }
    );
    // An event that is no JSON: what could be read of it counts.
    let read = super::wire::Failure { kind: Some("overloaded_error".into()), message: Some("no".into()) };
    let ProviderError::Reported { error, .. } = super::reported(b"{\"error\": NaN", Some(&read)) else {
        panic!()
    };
    assert_eq!(*error, ProviderError::Overloaded { status: 529, retry_after: None, said: said(None, None) });
}
