//! Answers in our inner shape, whole or streamed, with what they tell of usage and output.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use accounting::Usage;
use bytes::Bytes;
use futures_util::Stream;

use hyper::body::{Body, Incoming};
use serde_json::{Map, Value};
use tokio::time::{Instant, Sleep};

use crate::sse::{Event, Parser};
use crate::{ProviderError, openai};

/// An answer of a model server.
#[derive(Debug)]
pub enum Answer {
    /// All at once.
    Complete(Complete),
    /// Piece by piece.
    Stream(AnswerStream),
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complete {
    /// JSON in OpenAI's shape.
    pub body: Bytes,
    /// What the provider reported; `None` if nothing, or nonsense.
    pub usage: Option<Usage>,
    /// The model that it names.
    pub model: Option<String>,
    /// Its output.
    pub produced: Produced,
    /// The provider's own id of the request.
    pub request_id: Option<String>,
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
    pub usage: Option<Usage>,
    /// The model that it names.
    pub model: Option<String>,
}

impl StreamEvent {
    /// Its data, if that is a JSON object.
    pub fn json(&self) -> Option<Map<String, Value>> {
        serde_json::from_slice(&self.data).ok()
    }

    /// An event with that data, as it goes over the wire.
    pub fn from_json(data: &Map<String, Value>) -> Bytes {
        let json = serde_json::to_string(data).unwrap_or_default();
        format!("data: {json}\n\n").into()
    }
}

/// A streamed answer. Dropping it closes the connection, which tells the server to stop.
pub struct AnswerStream {
    /// The provider's own id of the request.
    pub request_id: Option<String>,
    body: Incoming,
    parser: Parser,
    idle: Duration,
    silence: Pin<Box<Sleep>>,
    state: State,
    /// Whether a choice has come to its end: then the stream may end without `[DONE]`.
    finished: bool,
    ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Flowing,
    /// The body has ended; what is left is in the parser.
    Draining,
    Done,
}

impl AnswerStream {
    pub(crate) fn new(body: Incoming, idle: Duration, request_id: Option<String>) -> Self {
        let silence = Box::pin(tokio::time::sleep(idle));
        let parser = Parser::default();
        Self { request_id, body, parser, idle, silence, state: State::Flowing, finished: false, ended: false }
    }

    /// Whether the answer has come to its end.
    pub const fn is_done(&self) -> bool {
        self.ended
    }

    fn take(&mut self, event: Event, cx: &mut Context<'_>) -> Result<StreamEvent, ProviderError> {
        let Event { raw, data } = event;
        let data = data.unwrap_or_default();
        let what = openai::event(&data)?;
        match &what {
            What::Done => {
                self.ended = true;
                // The end of the body is mostly there already; taking it lets the connection be used again.
                let _ = Pin::new(&mut self.body).poll_frame(cx);
            }
            What::Chunk(chunk) => self.finished |= chunk.finish,
            What::Other => {}
        }
        Ok(StreamEvent { raw, what, data })
    }

    fn fail(&mut self, error: ProviderError) -> Poll<Option<Result<StreamEvent, ProviderError>>> {
        self.ended = true;
        self.state = State::Done;
        Poll::Ready(Some(Err(error)))
    }
}

impl Stream for AnswerStream {
    type Item = Result<StreamEvent, ProviderError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if this.ended {
                return Poll::Ready(None);
            }
            match this.state {
                State::Done => return Poll::Ready(None),
                State::Draining => {
                    let Some(event) = this.parser.last() else {
                        this.state = State::Done;
                        if this.finished {
                            this.ended = true;
                            return Poll::Ready(None);
                        }
                        return this
                            .fail(ProviderError::Broken { what: "the stream ended without an end".into() });
                    };
                    return match this.take(event, cx) {
                        // Half a line that is no JSON is a break, not an event.
                        Ok(event) if event.what == What::Other && !event.data.is_empty() => {
                            this.fail(ProviderError::Broken {
                                what: "the stream ended in the middle of a line".into(),
                            })
                        }
                        Ok(event) => Poll::Ready(Some(Ok(event))),
                        Err(error) => this.fail(error),
                    };
                }
                State::Flowing => {}
            }
            match this.parser.next() {
                Ok(Some(event)) => {
                    return match this.take(event, cx) {
                        Ok(event) => Poll::Ready(Some(Ok(event))),
                        Err(error) => this.fail(error),
                    };
                }
                Ok(None) => {}
                Err(_) => return this.fail(ProviderError::BadAnswer { what: "an event without end" }),
            }
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(bytes) = frame.data_ref() {
                        this.parser.push(bytes);
                    }
                    this.silence.as_mut().reset(Instant::now() + this.idle);
                }
                Poll::Ready(Some(Err(error))) => {
                    return this.fail(ProviderError::Broken { what: error.to_string() });
                }
                Poll::Ready(None) => this.state = State::Draining,
                Poll::Pending => {
                    ready!(this.silence.as_mut().poll(cx));
                    return this.fail(ProviderError::TimedOut { before_output: false });
                }
            }
        }
    }
}

impl std::fmt::Debug for AnswerStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnswerStream")
            .field("request_id", &self.request_id)
            .field("state", &self.state)
            .finish()
    }
}
