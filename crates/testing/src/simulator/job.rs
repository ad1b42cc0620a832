//! What is to be produced, whatever the format: one job for each request. It knows the words, the thinking, the calls, the
//! usage, the delays and the faults, and keeps the book; how all that is written is a [`Format`]'s business.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde_json::Value;

use super::asked::{Asked, Incoming, Refused};
use super::directive::{Directive, Fault};
use super::plan::{Made, Piece, Plan, words};
use super::{Book, Fate};

/// How the answers to chats are written. Its state is that of one answer.
pub(super) trait Format: Send + 'static {
    /// The content type of a stream.
    const STREAM: &'static str = "text/event-stream";
    /// The header that names the request, if there is one.
    const REQUEST_ID: Option<&'static str> = Some("x-request-id");
    /// The beginning of an event that breaks off.
    const HALF: &'static str;
    /// An event that can't be read.
    const MALFORMED: &'static str;

    /// Reads a request, and refuses what the real server refuses.
    fn read(&mut self, incoming: &Incoming) -> Result<Asked, Refused>;

    /// The body of an error.
    fn error(&self, refused: &Refused) -> Value;

    /// What a stream begins with.
    fn begin(&mut self, _: &Plan) -> String {
        String::new()
    }

    /// A piece of a stream; empty if this format says nothing here.
    fn piece(&mut self, plan: &Plan, piece: &Piece) -> String;

    /// The end of a stream, event by event.
    fn end(&mut self, plan: &Plan) -> Vec<String>;

    /// The error that ends a stream.
    fn broken(&mut self, message: &str) -> String;

    /// A whole answer.
    fn whole(&mut self, plan: &Plan, made: &Made) -> Value;
}

/// Answers a chat.
pub(super) async fn chat<F: Format>(incoming: Incoming, mut format: F) -> Response {
    let asked = format.read(&incoming);
    let keeper = Keeper { book: incoming.book, index: incoming.index, ended: false };
    let asked = match asked {
        Ok(asked) => asked,
        Err(refused) => return keeper.refuse(&refused, format.error(&refused)),
    };
    let directive = Directive::read(&asked.text);
    wait(directive.first).await;
    if let Some(refused) = ordered(&directive) {
        return keeper.refuse(&refused, format.error(&refused));
    }
    if directive.fault == Some(Fault::Html) {
        return keeper.page();
    }
    let stream = asked.stream;
    let plan = Plan::new(asked, directive);
    let job =
        Job { keeper, plan, format, ready: VecDeque::new(), pieces: 0, begun: false, state: State::Going };
    let mut response = if stream { job.stream() } else { job.whole().await };
    if let Some(name) = F::REQUEST_ID {
        let value = HeaderValue::from_static("req-simulated");
        response.headers_mut().insert(HeaderName::from_static(name), value);
    }
    response
}

/// Texts to embed.
#[derive(Debug)]
pub(super) struct Texts {
    pub text: String,
    pub count: usize,
}

/// What was embedded.
#[derive(Debug)]
pub(super) struct Embedded {
    pub count: usize,
    /// Absent if it is not to be told; negative if that is to be told wrongly.
    pub input: Option<i64>,
}

/// Answers a request for embeddings.
pub(super) async fn embeddings(
    incoming: Incoming,
    texts: Result<Texts, Refused>,
    error: impl Fn(&Refused) -> Value,
    write: impl FnOnce(&Embedded) -> Value,
) -> Response {
    let mut keeper = Keeper { book: incoming.book, index: incoming.index, ended: false };
    let texts = match texts {
        Ok(texts) => texts,
        Err(refused) => return keeper.refuse(&refused, error(&refused)),
    };
    let directive = Directive::read(&texts.text);
    wait(directive.first).await;
    if let Some(refused) = ordered(&directive) {
        return keeper.refuse(&refused, error(&refused));
    }
    if directive.fault == Some(Fault::Html) {
        return keeper.page();
    }
    let input = directive.input.unwrap_or_else(|| words(&texts.text));
    let input = match directive.fault {
        Some(Fault::NoUsage) => None,
        Some(Fault::BadUsage) => Some(-5),
        _ => i64::try_from(input).ok(),
    };
    keeper.end(Fate::Answered);
    let mut response =
        json(Body::from(write(&Embedded { count: texts.count, input }).to_string()), directive.fault);
    response.headers_mut().insert("x-request-id", HeaderValue::from_static("req-simulated"));
    response
}

/// Answers a request that makes nothing, such as one for the list of models.
pub(super) fn models(
    incoming: Incoming,
    refused: Option<Refused>,
    error: impl Fn(&Refused) -> Value,
    list: &Value,
) -> Response {
    let mut keeper = Keeper { book: incoming.book, index: incoming.index, ended: false };
    if let Some(refused) = refused {
        return keeper.refuse(&refused, error(&refused));
    }
    keeper.end(Fate::Answered);
    json(Body::from(list.to_string()), None)
}

/// The error that a directive asks for.
fn ordered(directive: &Directive) -> Option<Refused> {
    let status = directive.status?;
    let message = format!("simulated error {status}, key sk-simulated-0123456789");
    Some(Refused { retry_after: directive.retry_after, ..Refused::new(status, message) })
}

/// The place of a request in the book.
#[derive(Debug)]
struct Keeper {
    book: Arc<Book>,
    index: usize,
    ended: bool,
}

impl Keeper {
    fn produced(&self, tokens: u64) {
        self.book.produce(self.index, tokens);
    }

    fn end(&mut self, fate: Fate) {
        if !std::mem::replace(&mut self.ended, true) {
            self.book.end(self.index, fate);
        }
    }

    fn refuse(mut self, refused: &Refused, body: Value) -> Response {
        self.end(Fate::Answered);
        let status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(body)).into_response();
        if let Some(seconds) = refused.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }

    fn page(mut self) -> Response {
        self.end(Fate::Answered);
        ([(CONTENT_TYPE, "text/html")], "<html><body>Welcome</body></html>").into_response()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end(Fate::Cancelled);
    }
}

/// One answer under way.
struct Job<F> {
    keeper: Keeper,
    plan: Plan,
    format: F,
    /// Written, and not handed on yet.
    ready: VecDeque<Bytes>,
    pieces: u64,
    begun: bool,
    state: State,
}

/// How far a stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Going,
    /// The connection breaks once all is handed on.
    Breaking,
    /// It ends once all is handed on.
    Ending,
    Over,
}

impl<F: Format> Job<F> {
    async fn whole(mut self) -> Response {
        let fault = self.plan.directive.fault;
        if fault == Some(Fault::Hang) {
            std::future::pending::<()>().await;
        }
        let broken = matches!(fault, Some(Fault::Disconnect | Fault::Half | Fault::Malformed));
        if !broken {
            wait(self.plan.directive.delay).await;
        }
        let made = self.plan.make();
        self.keeper.produced(made.tokens * self.plan.choices);
        let body = self.format.whole(&self.plan, &made).to_string();
        self.keeper.end(Fate::Answered);
        let half = body.get(..body.len() / 2).unwrap_or("{").to_owned();
        let body = match fault {
            Some(Fault::Disconnect | Fault::Half) => {
                Body::from_stream(stream::iter([Ok(Bytes::from(half)), Err(io::Error::other("simulated"))]))
            }
            Some(Fault::Malformed) => Body::from(format!("{half} oops")),
            _ => Body::from(body),
        };
        json(body, fault)
    }

    /// A stream that makes each piece when the connection wants it, so that what is produced is what was handed on.
    fn stream(self) -> Response {
        let Directive { split, fault, .. } = self.plan.directive;
        let events =
            stream::unfold(self, |mut job| async move { job.next().await.map(|event| (event, job)) });
        let body = if split {
            Body::from_stream(events.flat_map(|bytes| {
                let bytes = bytes.unwrap_or_default();
                stream::iter((0..bytes.len()).map(move |at| Ok::<_, Infallible>(bytes.slice(at..=at))))
            }))
        } else {
            Body::from_stream(events)
        };
        let mut response = Response::new(body);
        let content_type = if fault == Some(Fault::WrongType) { "text/plain" } else { F::STREAM };
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }

    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                if self.ready.is_empty() && self.state == State::Ending {
                    self.over();
                }
                return Some(Ok(bytes));
            }
            match self.state {
                State::Going => self.step().await,
                State::Breaking => {
                    self.over();
                    return Some(Err(io::Error::other("simulated")));
                }
                State::Ending => self.over(),
                State::Over => return None,
            }
        }
    }

    async fn step(&mut self) {
        if !std::mem::replace(&mut self.begun, true) {
            let begin = self.format.begin(&self.plan);
            return self.say(begin);
        }
        let delay = self.plan.directive.delay;
        let due = self.plan.directive.fault.filter(|_| self.pieces == self.plan.directive.at);
        match due {
            Some(Fault::Disconnect) => {
                // What was produced before goes out first.
                wait(delay).await;
                self.state = State::Breaking;
                return;
            }
            Some(Fault::Hang) => std::future::pending::<()>().await,
            Some(Fault::Half) => return self.last(F::HALF.to_owned()),
            Some(Fault::Error) => {
                let error = self.format.broken("simulated, key sk-simulated-0123456789");
                return self.last(error);
            }
            Some(Fault::Malformed) => {
                self.plan.directive.fault = None;
                return self.say(F::MALFORMED.to_owned());
            }
            Some(Fault::End) => {
                self.state = State::Ending;
                return;
            }
            _ => {}
        }
        match self.plan.next() {
            Some((piece, tokens)) => {
                wait(delay).await;
                self.pieces += 1;
                self.keeper.produced(tokens * self.plan.choices);
                let event = self.format.piece(&self.plan, &piece);
                self.say(event);
            }
            None => {
                let events = self.format.end(&self.plan);
                events.into_iter().for_each(|event| self.say(event));
                self.state = State::Ending;
            }
        }
    }

    fn say(&mut self, event: String) {
        if !event.is_empty() {
            self.ready.push_back(event.into());
        }
    }

    fn last(&mut self, event: String) {
        self.say(event);
        self.state = State::Ending;
    }

    fn over(&mut self) {
        self.state = State::Over;
        self.keeper.end(Fate::Answered);
    }
}

fn json(body: Body, fault: Option<Fault>) -> Response {
    let mut response = Response::new(body);
    let content_type = if fault == Some(Fault::WrongType) { "text/plain" } else { "application/json" };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

async fn wait(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}
