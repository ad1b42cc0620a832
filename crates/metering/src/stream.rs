//! A streamed answer on its way to the client. Chunks pass unchanged; only the end is held back until the charge is
//! committed. Dropping the stream settles the request.
//!
//! Its head waits for the first event, so that an error in its place has a status ([`MeteredStream::begin`]).

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use providers::{AnswerStream, ProviderError, Reported, StreamEvent, What};
use storage::ledger::Outcome;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::answer::Tell;
use crate::flight::Flight;
use crate::held_back::HeldBack;
use crate::settlement::Bill;
use crate::{bounds, count};

type Ending = Pin<Box<dyn Future<Output = Vec<Bytes>> + Send>>;

/// The chunks of a metered answer, as server-sent events. Never fails: errors are events too.
#[must_use = "dropping the stream ends the request"]
pub struct MeteredStream {
    state: State,
    /// What came before the head was sent.
    ahead: Vec<Bytes>,
    settle_wait: std::time::Duration,
}

enum State {
    Flowing(Box<Flowing>),
    Ending(Ending),
    Ended,
}

struct Flowing {
    upstream: AnswerStream,
    flight: Flight,
    tell: Tell,
    /// Chunks that may be the last ones.
    held_back: HeldBack,
    /// A chunk of the answer, to make one like it.
    pattern: Option<StreamEvent>,
    /// How much was said.
    said: Begun,
    /// Whether the server has marked the end.
    is_marked: bool,
    grounded: Pin<Box<WaitForCancellationFutureOwned>>,
    bound: Option<Bound>,
}

/// How far an answer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Begun {
    /// Nothing but comments came.
    No,
    /// Events came that say nothing, such as one that an answer has begun.
    Event,
    /// It says something.
    Answer,
}

/// The most output that a strict hold covers.
struct Bound {
    tokens: u64,
    /// Below so many bytes it can't be passed: a token has at least one byte.
    look_at: u64,
    counting: Option<JoinHandle<u64>>,
    last: Option<StreamEvent>,
}

/// Why a stream ends.
enum End {
    Complete,
    Failed(ProviderError),
    Grounded,
    Cut(Option<StreamEvent>),
}

/// The head waits no longer once so many bytes have come that say nothing.
const MOST_AHEAD: usize = 64 * 1024;
/// A larger chunk is no pattern to keep.
const LARGEST_PATTERN: usize = 64 * 1024;

/// Behind a first event that says nothing, the head waits for so long for the next: a server that fails at once often says
/// first that it begins. Longer would hold back what has come.
const NEXT_EVENT: std::time::Duration = std::time::Duration::from_millis(50);

impl MeteredStream {
    /// `bound`: the output tokens of all choices that a strict hold covers.
    pub(crate) fn new(
        upstream: AnswerStream,
        flight: Flight,
        tell: Tell,
        bound: Option<u64>,
        settle_wait: std::time::Duration,
    ) -> Self {
        let grounded = Box::pin(flight.ground.clone().cancelled_owned());
        let bound = bound.map(|tokens| {
            let tokens = bounds::cut_above(tokens);
            Bound { tokens, look_at: tokens, counting: None, last: None }
        });
        let flowing = Flowing {
            upstream,
            flight,
            tell,
            held_back: HeldBack::default(),
            pattern: None,
            said: Begun::No,
            is_marked: false,
            grounded,
            bound,
        };
        Self { state: State::Flowing(Box::new(flowing)), ahead: Vec::new(), settle_wait }
    }

    /// Waits for the first event, but no longer than that: what fails until then has no answer yet.
    ///
    /// # Errors
    /// Why it failed, with what is left to be ended.
    pub(crate) async fn begin(
        mut self,
        longest: std::time::Duration,
    ) -> Result<Self, Box<(Flight, ProviderError)>> {
        let State::Flowing(mut flowing) = std::mem::replace(&mut self.state, State::Ended) else {
            return Ok(self);
        };
        let wait = sleep(longest);
        tokio::pin!(wait);
        let mut ahead = 0;
        while flowing.said < Begun::Answer {
            let before = flowing.said;
            let polled = std::future::poll_fn(|cx| match flowing.poll(cx) {
                // Something came that is held back.
                Poll::Pending if flowing.said != before => Poll::Ready(None),
                polled => polled.map(Some),
            });
            let polled = tokio::select! {
                biased;
                polled = polled => polled,
                () = &mut wait => break,
            };
            match polled {
                None => {}
                Some(Ok(bytes)) => {
                    ahead += bytes.len();
                    self.ahead.push(bytes);
                    if ahead > MOST_AHEAD {
                        break;
                    }
                }
                Some(Err(End::Failed(error))) => return Err(Box::new((flowing.flight, error))),
                Some(Err(end)) => {
                    self.state = State::Ending(Box::pin(flowing.end(end, self.settle_wait)));
                    return Ok(self);
                }
            }
            if before == Begun::No && flowing.said == Begun::Event {
                let soon = Instant::now() + NEXT_EVENT;
                let deadline = wait.deadline().min(soon);
                wait.as_mut().reset(deadline);
            }
        }
        self.state = State::Flowing(flowing);
        Ok(self)
    }
}

impl Stream for MeteredStream {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let this = &mut *self;
        if !this.ahead.is_empty() {
            return Poll::Ready(Some(joined(std::mem::take(&mut this.ahead))));
        }
        loop {
            match &mut this.state {
                State::Flowing(flowing) => match ready!(flowing.poll(cx)) {
                    Ok(bytes) => return Poll::Ready(Some(bytes)),
                    Err(end) => {
                        if let State::Flowing(flowing) = std::mem::replace(&mut this.state, State::Ended) {
                            this.state = State::Ending(Box::pin(flowing.end(end, this.settle_wait)));
                        }
                    }
                },
                State::Ending(ending) => {
                    let last = ready!(ending.as_mut().poll(cx));
                    this.state = State::Ended;
                    if !last.is_empty() {
                        return Poll::Ready(Some(joined(last)));
                    }
                }
                State::Ended => return Poll::Ready(None),
            }
        }
    }
}

impl Flowing {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, End>> {
        loop {
            if self.grounded.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(End::Grounded));
            }
            if let Some(produced) = self.flight.produced() {
                ready!(produced.poll_room(cx));
            }
            if let Some(bound) = &mut self.bound
                && !ready!(bound.poll(cx, &mut self.flight))
            {
                return Poll::Ready(Err(End::Cut(bound.last.take())));
            }
            let event = match ready!(Pin::new(&mut self.upstream).poll_next(cx)) {
                Some(Ok(event)) => event,
                Some(Err(error)) => return Poll::Ready(Err(End::Failed(error))),
                None => return Poll::Ready(Err(End::Complete)),
            };
            if let Some(bytes) = self.pass(event) {
                return Poll::Ready(Ok(bytes));
            }
            if self.upstream.is_done() {
                return Poll::Ready(Err(End::Complete));
            }
        }
    }

    /// Notes what an event tells; returns what may go on to the client now.
    fn pass(&mut self, event: StreamEvent) -> Option<Bytes> {
        match &event.what {
            What::Chunk(chunk) => {
                self.flight.note(&chunk.produced, chunk.usage, chunk.model.clone());
                if let Some(bound) = &mut self.bound {
                    bound.last = Some(event.clone());
                }
                if self.said < Begun::Answer {
                    let is_final = matches!(chunk.usage, Some(Reported::Final(_)));
                    let says = !chunk.produced.is_empty() || chunk.finish || is_final;
                    self.said = if says { Begun::Answer } else { Begun::Event };
                }
                if self.pattern.is_none() && !chunk.no_choices && event.raw.len() <= LARGEST_PATTERN {
                    self.pattern = Some(event.copied());
                }
                if self.held_back.concerns(&event) {
                    return self.held_back.pass(event, self.tell.shape());
                }
                Some(event.raw)
            }
            What::Done => {
                self.is_marked = true;
                None
            }
            What::Other => {
                if self.said == Begun::No && event.has_data() {
                    self.said = Begun::Event;
                }
                Some(event.raw)
            }
        }
    }

    async fn end(self: Box<Self>, end: End, settle_wait: std::time::Duration) -> Vec<Bytes> {
        let Self { upstream, mut flight, tell, held_back, pattern, is_marked, .. } = *self;
        // Closing the connection tells the provider to stop.
        drop(upstream);
        let outcome = match &end {
            End::Complete => {
                if is_marked {
                    flight.close_report();
                }
                Outcome::Complete
            }
            End::Failed(error) => {
                Box::pin(flight.fail(error)).await;
                return vec![tell.error(error)];
            }
            End::Grounded => Outcome::Shutdown,
            End::Cut(_) => Outcome::Cut,
        };
        let settled = flight.settle(outcome);
        let bill: Option<Bill> = tokio::time::timeout(settle_wait, settled).await.ok().and_then(Result::ok);
        let bill = bill.as_ref();
        match end {
            End::Cut(last) => tell.cut(last.as_ref(), bill),
            End::Grounded => {
                vec![tell.fault("the service is shutting down; please ask again", "shutting_down")]
            }
            _ => tell.end_of_stream(&held_back.into_events(), pattern.as_ref(), bill),
        }
    }
}

/// One piece of several.
fn joined(mut pieces: Vec<Bytes>) -> Bytes {
    if pieces.len() == 1 { pieces.swap_remove(0) } else { pieces.concat().into() }
}

impl Bound {
    /// Whether the stream may go on; counts only where the bytes that passed could be too many tokens.
    fn poll(&mut self, cx: &mut Context<'_>, flight: &mut Flight) -> Poll<bool> {
        let Some(produced) = flight.produced() else { return Poll::Ready(true) };
        let bytes = produced.bytes();
        if self.counting.is_none() && bytes > self.look_at {
            let before = ready!(produced.poll_counted(cx));
            let rest = produced.text().to_owned();
            self.counting = Some(count::produced(flight.model().to_owned(), before, rest));
        }
        let Some(counting) = &mut self.counting else { return Poll::Ready(true) };
        let counted = ready!(Pin::new(counting).poll(cx)).unwrap_or(u64::MAX);
        self.counting = None;
        let left = self.tokens.saturating_sub(counted);
        self.look_at = bytes.saturating_add(left.max(1));
        Poll::Ready(counted <= self.tokens)
    }
}
