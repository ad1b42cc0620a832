//! A streamed answer on its way to the client. Chunks pass unchanged; only the end is held back until the charge is
//! committed. Dropping the stream settles the request.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use providers::{AnswerStream, ProviderError, StreamEvent, What};
use storage::ledger::Outcome;
use tokio::task::JoinHandle;
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::answer::Tell;
use crate::flight::Flight;
use crate::settlement::Bill;
use crate::{bounds, count};

type Ending = Pin<Box<dyn Future<Output = Vec<Bytes>> + Send>>;

/// The chunks of a metered answer, as server-sent events. Never fails: errors are events too.
#[must_use = "dropping the stream ends the request"]
pub struct MeteredStream {
    state: State,
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
    held_back: Vec<StreamEvent>,
    grounded: Pin<Box<WaitForCancellationFutureOwned>>,
    bound: Option<Bound>,
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
        let flowing = Flowing { upstream, flight, tell, held_back: Vec::new(), grounded, bound };
        Self { state: State::Flowing(Box::new(flowing)), settle_wait }
    }
}

impl Stream for MeteredStream {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let this = &mut *self;
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
                        return Poll::Ready(Some(last.concat().into()));
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
                if chunk.finish || chunk.no_choices {
                    self.held_back.push(event);
                    return None;
                }
                if self.held_back.is_empty() {
                    return Some(event.raw);
                }
                // Another choice goes on: what was held back was not the end.
                let mut together: Vec<Bytes> = self.held_back.drain(..).map(|event| event.raw).collect();
                together.push(event.raw);
                Some(together.concat().into())
            }
            What::Done => None,
            What::Other => Some(event.raw),
        }
    }

    async fn end(self: Box<Self>, end: End, settle_wait: std::time::Duration) -> Vec<Bytes> {
        let Self { upstream, flight, tell, held_back, .. } = *self;
        // Closing the connection tells the provider to stop.
        drop(upstream);
        let outcome = match &end {
            End::Complete => Outcome::Complete,
            End::Failed(ProviderError::TimedOut { .. }) => Outcome::TimedOut,
            End::Failed(_) => Outcome::ProviderFailed,
            End::Grounded => Outcome::Shutdown,
            End::Cut(_) => Outcome::Cut,
        };
        let settled = flight.settle(outcome);
        let bill: Option<Bill> = tokio::time::timeout(settle_wait, settled).await.ok().and_then(Result::ok);
        let bill = bill.as_ref();
        match end {
            End::Complete => tell.end_of_stream(&held_back, bill),
            End::Cut(last) => tell.cut(last.as_ref(), bill),
            End::Failed(error) => vec![tell.error(&error.message(), "provider_error")],
            End::Grounded => {
                vec![tell.error("the service is shutting down; please ask again", "shutting_down")]
            }
        }
    }
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
