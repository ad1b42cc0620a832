//! Answers in our inner shape, whole or streamed, with what they tell of usage and output.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use accounting::{ProviderName, Usage};
use bytes::Bytes;
use futures_util::Stream;
use http::HeaderMap;
use hyper::body::Body;
use serde_json::{Map, Value};
use tokio::time::{Instant, Sleep};

use crate::client::{AnswerBody, LAST_LOOK};
use crate::framing::{Event, Framing, Parser};
use crate::lenient;
use crate::protocol::{Conversion, ended_too_soon};
use crate::{ProviderError, failure, unknown_numbers};

/// An answer of a model server.
#[derive(Debug)]
pub enum Answer {
    /// All at once.
    Complete(Complete),
    /// Piece by piece.
    Stream(AnswerStream),
}

/// What a server reported that a request used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reported {
    /// All of it.
    Final(Usage),
    /// Its input, and so much output so far: the answer goes on.
    SoFar(Usage),
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complete {
    /// JSON in the shape of the request.
    pub body: Bytes,
    /// What the provider reported; `None` if nothing.
    pub usage: Option<Usage>,
    /// Whether that does not tell of all output.
    pub usage_goes_on: bool,
    /// The model that it names.
    pub model: Option<String>,
    /// Its output.
    pub produced: Produced,
    /// The provider's own id of the request.
    pub request_id: Option<String>,
    /// Fields of the request that this provider can't take.
    pub omitted: Vec<String>,
    /// Its headers about rates and times.
    pub headers: HeaderMap,
}

impl Complete {
    /// An answer with what it tells; `produced`: all its output, as text.
    pub(crate) fn new(body: Bytes, usage: Option<Usage>, model: Option<String>, produced: String) -> Self {
        let produced = Produced { text: produced };
        let (usage_goes_on, request_id, omitted) = (false, None, Vec::new());
        let headers = HeaderMap::new();
        Self { body, usage, usage_goes_on, model, produced, request_id, omitted, headers }
    }
}

/// All output that a provider bills, as text: content, reasoning, refusals, tool calls, of all choices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Produced {
    /// The text.
    pub text: String,
}

/// One event of a streamed answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEvent {
    /// As it came, to be passed on unchanged.
    pub raw: Bytes,
    /// What it tells.
    pub what: What,
    data: Bytes,
}

/// What an event tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A piece of the answer.
    Chunk(Chunk),
    /// The end.
    Done,
    /// A comment, or what we don't know.
    Other,
}

/// What a piece of an answer tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Its output that is billed.
    pub produced: String,
    /// Whether a choice ends here.
    pub finish: bool,
    /// Whether it has no choices, as a chunk that only tells the usage.
    pub no_choices: bool,
    /// What the provider reports.
    pub usage: Option<Reported>,
    /// The model that it names.
    pub model: Option<String>,
}

impl StreamEvent {
    /// An event as it came, with a view of its data.
    pub(crate) const fn passed(raw: Bytes, data: Bytes, what: What) -> Self {
        Self { raw, what, data }
    }

    /// A piece of an answer that we wrote: its data as JSON.
    pub(crate) fn written(json: &str, chunk: Chunk) -> Self {
        let raw = Bytes::from(format!("data: {json}\n\n"));
        let data = raw.slice(6..raw.len() - 2);
        Self { raw, what: What::Chunk(chunk), data }
    }

    /// The end of an answer, of which nothing is passed on.
    pub(crate) const fn done() -> Self {
        Self { raw: Bytes::new(), what: What::Done, data: Bytes::new() }
    }

    /// An event as it came; where its data is no JSON, with what clients can read in its place: `mended`, from
    /// [`Scratch::instead_of`](crate::lenient::Scratch::instead_of).
    pub(crate) fn passed_or_mended(raw: Bytes, data: Bytes, mended: Option<Bytes>, what: What) -> Self {
        match mended {
            Some(json) => Self { raw: with_json(&raw, &json), what, data: json },
            None => Self::passed(raw, data, what),
        }
    }

    /// The event as it came, with other data.
    pub fn with_data(&self, data: &Map<String, Value>) -> Bytes {
        with_json(&self.raw, &serde_json::to_vec(data).unwrap_or_default())
    }

    /// The event with other data: an end of the answer that tells nothing else.
    pub fn end_with(&self, data: &Map<String, Value>) -> Self {
        let what = What::Chunk(Chunk { finish: true, ..Chunk::default() });
        let raw = self.with_data(data);
        let data = serde_json::to_vec(data).unwrap_or_default().into();
        Self { raw, what, data }
    }

    /// The same event with other data, which tells the same.
    pub(crate) fn rewritten(&self, data: &Map<String, Value>) -> Self {
        let raw = self.with_data(data);
        Self { raw, what: self.what.clone(), data: serde_json::to_vec(data).unwrap_or_default().into() }
    }

    /// A copy of its data alone, which keeps nothing of what came with it.
    pub fn copied(&self) -> Self {
        Self { raw: Bytes::new(), what: What::Other, data: Bytes::copy_from_slice(&self.data) }
    }

    /// Whether it has data: a comment, for one, has none.
    pub fn has_data(&self) -> bool {
        !self.data.is_empty()
    }

    /// Its data, if that is a JSON object.
    pub fn json(&self) -> Option<Map<String, Value>> {
        let read = serde_json::from_slice(&self.data).ok();
        read.or_else(|| match lenient::value(&self.data)? {
            Value::Object(data) => Some(data),
            _ => None,
        })
    }

    /// Whether its data is JSON by its structure, whatever stands in its texts.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn is_json(&self) -> bool {
        serde_json::from_slice::<serde::de::IgnoredAny>(&self.data).is_ok()
    }

    /// An event with that data, as it goes over the wire.
    pub fn from_json(data: &Map<String, Value>) -> Bytes {
        let json = serde_json::to_string(data).unwrap_or_default();
        format!("data: {json}\n\n").into()
    }
}

/// An event with other data, which is JSON in one line. All other lines stay, such as the event's name, which some servers
/// send behind the data.
fn with_json(raw: &[u8], json: &[u8]) -> Bytes {
    let mut event = Vec::with_capacity(raw.len() + json.len());
    for line in raw.split(|byte| matches!(byte, b'\n' | b'\r')) {
        if !line.is_empty() && !line.starts_with(b"data:") {
            event.extend_from_slice(line);
            event.push(b'\n');
        }
    }
    [&event[..], b"data: ", json, b"\n\n"].concat().into()
}

/// A streamed answer. Dropping it closes the connection, which tells the server to stop.
pub struct AnswerStream {
    /// The provider's own id of the request.
    pub request_id: Option<String>,
    /// Fields of the request that this provider can't take.
    pub omitted: Vec<String>,
    /// Its headers about rates and times.
    pub headers: HeaderMap,
    /// How long to wait with another try, if the head of the answer says so.
    pub(crate) retry_after: Option<Duration>,
    /// Whose answer it is.
    pub(crate) provider: Option<ProviderName>,
    body: AnswerBody,
    parser: Parser,
    conversion: Box<dyn Conversion>,
    /// Converted, and not taken yet.
    waiting: VecDeque<StreamEvent>,
    fresh: Vec<StreamEvent>,
    idle: Duration,
    silence: Pin<Box<Sleep>>,
    /// Whether the silence has lasted too long, and what may be there by now is looked for.
    last_look: bool,
    state: State,
    done: bool,
}

enum State {
    Flowing,
    /// The body has ended; what is left is in the parser.
    Draining,
    /// What is waiting is the rest, and then this error, if it is one.
    Ended(Option<ProviderError>),
}

impl AnswerStream {
    pub(crate) fn new(
        body: AnswerBody,
        framing: Framing,
        conversion: Box<dyn Conversion>,
        idle: Duration,
        request_id: Option<String>,
        omitted: Vec<String>,
    ) -> Self {
        Self {
            request_id,
            omitted,
            headers: HeaderMap::new(),
            retry_after: None,
            provider: None,
            body,
            parser: Parser::new(framing),
            conversion,
            waiting: VecDeque::new(),
            fresh: Vec::new(),
            idle,
            silence: Box::pin(tokio::time::sleep(idle)),
            last_look: false,
            state: State::Flowing,
            done: false,
        }
    }

    /// Whether the answer has come to its end.
    pub fn is_done(&self) -> bool {
        self.done && self.waiting.is_empty()
    }

    fn convert(&mut self, event: Event, cx: &mut Context<'_>) {
        if event.data.is_none()
            && let Some(error) = failure::in_place_of_events(&event.raw)
        {
            self.state = State::Ended(Some(error));
            return;
        }
        let converted = self.conversion.event(event, &mut self.fresh);
        if let Some(provider) = &self.provider {
            unknown_numbers::read_of(provider);
        }
        self.done |= self.fresh.iter().any(|event| event.what == What::Done);
        self.waiting.extend(self.fresh.drain(..));
        match converted {
            Ok(()) if self.done => {
                self.state = State::Ended(None);
                // The end of the body is mostly there already; taking it lets the connection be used again.
                let _ = Pin::new(&mut self.body).poll_frame(cx);
            }
            Ok(()) => {}
            Err(error) => self.state = State::Ended(Some(error)),
        }
    }

    fn finish(&mut self) {
        match self.conversion.end(&mut self.fresh) {
            Ok(()) => {
                self.waiting.extend(self.fresh.drain(..));
                self.done = true;
                self.state = State::Ended(None);
            }
            Err(error) => self.break_off(error),
        }
    }

    /// Nothing comes any more, for that reason: the end all the same, if all was said.
    fn break_off(&mut self, error: ProviderError) {
        if !self.conversion.is_whole() {
            self.state = State::Ended(Some(error));
            return;
        }
        tracing::debug!(%error, "a whole answer broke off");
        // What some have to say when the body has ended; others lack nothing but its mark.
        let _ = self.conversion.end(&mut self.fresh);
        self.waiting.extend(self.fresh.drain(..));
        self.done = true;
        self.state = State::Ended(None);
    }
}

impl Stream for AnswerStream {
    type Item = Result<StreamEvent, ProviderError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(event) = this.waiting.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            match &mut this.state {
                State::Ended(error) => {
                    let wait = this.retry_after;
                    return Poll::Ready(error.take().map(|error| Err(error.or_after(wait))));
                }
                State::Draining => {
                    match this.parser.last() {
                        Ok(Some(event)) => this.convert(event, cx),
                        Ok(None) => this.finish(),
                        Err(_) => this.break_off(ended_too_soon()),
                    }
                    continue;
                }
                State::Flowing => {}
            }
            match this.parser.next() {
                Ok(Some(event)) => {
                    this.convert(event, cx);
                    continue;
                }
                Ok(None) => {}
                Err(_) => {
                    this.break_off(ProviderError::Unreadable { what: "an event without end" });
                    continue;
                }
            }
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(bytes) = frame.data_ref() {
                        this.parser.push(bytes);
                    }
                    this.silence.as_mut().reset(Instant::now() + this.idle);
                    this.last_look = false;
                }
                Poll::Ready(Some(Err(error))) => {
                    this.break_off(ProviderError::Broken { what: error.to_string() });
                }
                Poll::Ready(None) => this.state = State::Draining,
                Poll::Pending => {
                    ready!(this.silence.as_mut().poll(cx));
                    if !this.last_look {
                        this.last_look = true;
                        this.silence.as_mut().reset(Instant::now() + LAST_LOOK);
                        continue;
                    }
                    this.break_off(ProviderError::TimedOut { before_output: false });
                }
            }
        }
    }
}

impl std::fmt::Debug for AnswerStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnswerStream")
            .field("request_id", &self.request_id)
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}
