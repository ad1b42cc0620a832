//! The simulated server's answers.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::directive::{Directive, Fault, last_text};
use super::{Book, Fate};

const WORDS: [&str; 12] =
    ["The", " answer", " to", " this", " question", " is", " simple", " enough", " to", " be", " given", "."];
/// Bytes of the end of a stream; a request is answered once they are handed on.
const DONE: &str = "data: [DONE]\n\n";

/// One request and how it is to be answered.
struct Job {
    book: Arc<Book>,
    index: usize,
    directive: Directive,
    model: String,
    input: u64,
    output: u64,
    choices: u64,
    tool: Option<String>,
    limited: bool,
    ended: bool,
}

pub(super) async fn chat(
    State(book): State<Arc<Book>>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let text = last_text(&body);
    let directive = Directive::read(&text);
    let number = |field: &str| body.get(field).and_then(Value::as_u64);
    let limit = [number("max_tokens"), number("max_completion_tokens")].into_iter().flatten().min();
    let wanted = directive.output.unwrap_or(WORDS.len() as u64);
    let output = if directive.overrun { wanted } else { limit.map_or(wanted, |limit| wanted.min(limit)) };
    let tool = directive.tool.then(|| {
        let name = body.pointer("/tools/0/function/name").and_then(Value::as_str).unwrap_or("a_tool");
        name.to_owned()
    });
    let streamed = body.get("stream") == Some(&json!(true));
    let with_usage = body.pointer("/stream_options/include_usage") == Some(&json!(true));
    let asked = body.get("model").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut job = Job {
        model: directive.model.clone().unwrap_or(asked),
        input: directive
            .input
            .unwrap_or_else(|| words(&body.get("messages").unwrap_or(&Value::Null).to_string())),
        limited: output < wanted,
        output,
        choices: number("n").unwrap_or(1),
        tool,
        index: book.add(headers, body),
        book,
        directive,
        ended: false,
    };
    wait(job.directive.first).await;
    if let Some(answer) = job.refused() {
        return answer;
    }
    if streamed { job.stream(with_usage) } else { job.whole().await }
}

pub(super) async fn embeddings(
    State(book): State<Arc<Book>>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let directive = Directive::read(&last_text(&body));
    let count = body.get("input").and_then(Value::as_array).map_or(1, Vec::len);
    let base64 = body.get("encoding_format") == Some(&json!("base64"));
    let model = body.get("model").cloned().unwrap_or_default();
    let input = directive.input.unwrap_or_else(|| words(&last_text(&body)));
    let index = book.add(headers, body);
    let mut job = Job {
        book,
        index,
        model: String::new(),
        input,
        output: 0,
        choices: 1,
        tool: None,
        limited: false,
        directive,
        ended: false,
    };
    wait(job.directive.first).await;
    if let Some(answer) = job.refused() {
        return answer;
    }
    job.end(Fate::Answered);
    // 0.5 and 0.25 as little-endian floats of 32 bits.
    let vector = if base64 { json!("AAAAPwAAgD4=") } else { json!([0.5, 0.25]) };
    let data: Vec<Value> =
        (0..count).map(|index| json!({"object": "embedding", "index": index, "embedding": vector})).collect();
    let usage = json!({"prompt_tokens": job.input, "total_tokens": job.input});
    Json(json!({"object": "list", "model": model, "data": data, "usage": usage})).into_response()
}

pub(super) async fn models() -> Json<Value> {
    let names = ["gpt-test", "embedding-test", "free-test", "unpriced-test"];
    let data: Vec<Value> = names.iter().map(|name| json!({"id": name, "object": "model"})).collect();
    Json(json!({"object": "list", "data": data}))
}

impl Job {
    /// An error, or a page that is no answer.
    fn refused(&mut self) -> Option<Response> {
        if let Some(status) = self.directive.status {
            self.end(Fate::Answered);
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let message = format!("simulated error {}, key sk-simulated-0123456789", status.as_u16());
            let error = json!({"error": {"message": message, "type": "simulated", "param": null, "code": "simulated"}});
            let mut response = (status, Json(error)).into_response();
            if let Some(seconds) = self.directive.retry_after {
                response.headers_mut().insert(RETRY_AFTER, seconds.into());
            }
            return Some(response);
        }
        if self.directive.fault == Some(Fault::Html) {
            self.end(Fate::Answered);
            return Some(
                ([(CONTENT_TYPE, "text/html")], "<html><body>Welcome</body></html>").into_response(),
            );
        }
        None
    }

    async fn whole(mut self) -> Response {
        match self.directive.fault {
            Some(Fault::Hang) => std::future::pending::<()>().await,
            Some(Fault::Disconnect | Fault::Half) => {
                self.produced(self.output);
                self.end(Fate::Answered);
                let half = stream::iter([
                    Ok(Bytes::from_static(b"{\"choices\":[")),
                    Err(io::Error::other("simulated")),
                ]);
                return json_response(Body::from_stream(half));
            }
            Some(Fault::Malformed) => {
                self.produced(self.output);
                self.end(Fate::Answered);
                return json_response(Body::from("{\"choices\": oops}"));
            }
            _ => {}
        }
        wait(self.directive.delay).await;
        self.produced(self.output * self.choices);
        self.end(Fate::Answered);
        let message = match &self.tool {
            Some(name) => json!({"role": "assistant", "content": null, "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": name, "arguments": "{\"city\":\"Bern\"}"}}
            ]}),
            None => json!({"role": "assistant", "content": (0..self.output).map(word).collect::<String>()}),
        };
        let choices: Vec<Value> = (0..self.choices)
            .map(|index| json!({"index": index, "message": message, "finish_reason": self.reason()}))
            .collect();
        let mut answer = json!({
            "id": "chatcmpl-simulated", "object": "chat.completion", "created": 1, "model": self.model, "choices": choices
        });
        if let Some(usage) = self.usage() {
            answer["usage"] = usage;
        }
        let mut response = json_response(Body::from(answer.to_string()));
        response.headers_mut().insert("x-request-id", HeaderValue::from_static("req-simulated"));
        response
    }

    /// A stream that makes each chunk when the connection wants it, so that what is produced is what was handed on.
    fn stream(self, with_usage: bool) -> Response {
        let split = self.directive.split;
        let chunks = stream::unfold((self, Step::Next(0)), move |(mut job, step)| async move {
            let (bytes, next) = job.step(step, with_usage).await?;
            Some((bytes, (job, next)))
        });
        let body = if split {
            use futures_util::StreamExt;
            Body::from_stream(chunks.flat_map(|bytes| {
                let bytes = bytes.unwrap_or_default();
                stream::iter((0..bytes.len()).map(move |at| Ok::<_, Infallible>(bytes.slice(at..=at))))
            }))
        } else {
            Body::from_stream(chunks)
        };
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        response.headers_mut().insert("x-request-id", HeaderValue::from_static("req-simulated"));
        response
    }

    async fn step(&mut self, step: Step, with_usage: bool) -> Option<(io::Result<Bytes>, Step)> {
        let null_usage = with_usage && self.directive.fault != Some(Fault::NoUsage);
        match step {
            Step::Next(count) => {
                if let Some(fault) = self.directive.fault.filter(|_| count == self.directive.at) {
                    match fault {
                        Fault::Disconnect => {
                            // What was produced before goes out first.
                            wait(self.directive.delay).await;
                            self.end(Fate::Answered);
                            return Some((Err(io::Error::other("simulated")), Step::Over));
                        }
                        Fault::Hang => std::future::pending::<()>().await,
                        Fault::Half => {
                            self.end(Fate::Answered);
                            return Some((Ok(Bytes::from_static(b"data: {\"choices\":[{\"del")), Step::Over));
                        }
                        Fault::Error => {
                            self.end(Fate::Answered);
                            let error =
                                "data: {\"error\":{\"message\":\"simulated\",\"code\":\"overloaded\"}}\n\n";
                            return Some((Ok(error.into()), Step::Over));
                        }
                        Fault::Malformed => {
                            self.directive.fault = None;
                            return Some((Ok(Bytes::from_static(b"data: {oops\n\n")), Step::Next(count)));
                        }
                        Fault::End => {
                            self.end(Fate::Answered);
                            return None;
                        }
                        Fault::Html | Fault::NoUsage | Fault::BadUsage => {}
                    }
                }
                let from = count * self.directive.chunk;
                if from >= self.output {
                    return Some((Ok(self.finish(null_usage)), Step::Usage));
                }
                wait(self.directive.delay).await;
                let tokens = self.directive.chunk.min(self.output - from);
                let delta = match &self.tool {
                    Some(name) if from == 0 => json!({"role": "assistant", "tool_calls": [
                        {"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": ""}}
                    ]}),
                    Some(_) => {
                        let piece = if from == 1 {
                            "{\"city\":"
                        } else if from == 2 {
                            "\"Bern\"}"
                        } else {
                            ""
                        };
                        json!({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
                    }
                    None => json!({"content": (from..from + tokens).map(word).collect::<String>()}),
                };
                self.produced(tokens * self.choices);
                let choices: Vec<Value> = (0..self.choices)
                    .map(|index| json!({"index": index, "delta": delta, "finish_reason": null}))
                    .collect();
                Some((Ok(self.chunk(&choices, null_usage.then_some(Value::Null))), Step::Next(count + 1)))
            }
            Step::Usage => match self.usage().filter(|_| with_usage) {
                Some(usage) => Some((Ok(self.chunk(&[], Some(usage))), Step::Done)),
                None => Some((Ok(self.done()), Step::Over)),
            },
            Step::Done => Some((Ok(self.done()), Step::Over)),
            Step::Over => None,
        }
    }

    fn finish(&self, null_usage: bool) -> Bytes {
        let choices: Vec<Value> = (0..self.choices)
            .map(|index| json!({"index": index, "delta": {}, "finish_reason": self.reason()}))
            .collect();
        self.chunk(&choices, null_usage.then_some(Value::Null))
    }

    fn done(&mut self) -> Bytes {
        self.end(Fate::Answered);
        Bytes::from_static(DONE.as_bytes())
    }

    fn chunk(&self, choices: &[Value], usage: Option<Value>) -> Bytes {
        let mut chunk = json!({
            "id": "chatcmpl-simulated", "object": "chat.completion.chunk", "created": 1, "model": self.model,
            "choices": choices
        });
        if let Some(usage) = usage {
            chunk["usage"] = usage;
        }
        format!("data: {chunk}\n\n").into()
    }

    fn reason(&self) -> &'static str {
        match (&self.tool, self.limited) {
            (Some(_), _) => "tool_calls",
            (None, true) => "length",
            (None, false) => "stop",
        }
    }

    fn usage(&self) -> Option<Value> {
        let output = self.output * self.choices;
        match self.directive.fault {
            Some(Fault::NoUsage) => None,
            Some(Fault::BadUsage) => {
                Some(json!({"prompt_tokens": -5, "completion_tokens": output, "total_tokens": 0}))
            }
            _ => Some(json!({
                "prompt_tokens": self.input, "completion_tokens": output, "total_tokens": self.input + output,
                "prompt_tokens_details": {"cached_tokens": self.directive.cached},
                "completion_tokens_details": {"reasoning_tokens": self.directive.reasoning},
            })),
        }
    }

    fn produced(&self, tokens: u64) {
        self.book.produce(self.index, tokens);
    }

    fn end(&mut self, fate: Fate) {
        if !std::mem::replace(&mut self.ended, true) {
            self.book.end(self.index, fate);
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.end(Fate::Cancelled);
    }
}

/// How far a stream has come.
enum Step {
    /// This chunk is next.
    Next(u64),
    Usage,
    Done,
    Over,
}

fn json_response(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn word(at: u64) -> &'static str {
    let length = WORDS.len() as u64;
    usize::try_from(at % length).ok().and_then(|at| WORDS.get(at)).copied().unwrap_or_default()
}

fn words(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

async fn wait(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}
