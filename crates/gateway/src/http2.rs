//! HTTP/2, where a connection carries several requests at once.
//!
//! The rule it protects: what one request of a connection does costs the others nothing, and no connection takes more than
//! a few of HTTP/1 would. A connection that stands still is ended by what watches all connections; here each of its
//! requests is watched too, because a client may take all answers but one.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::HttpBody;
use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper_util::rt::TokioTimer;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::connections::Connection;

/// What a connection of HTTP/2 begins with.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Requests at once on a connection.
const REQUESTS: u32 = 16;
/// The longest head of a request, in bytes of names and values and 32 for each pair.
const LONGEST_HEAD: u32 = 16 * 1024;
/// What a client may send of all its requests before we have taken it, in bytes.
const WINDOW: u32 = 256 * 1024;
/// What waits to be sent of an answer, in bytes.
const WAITING: usize = 32 * 1024;
/// An answer passes in pieces of so many bytes, so that what isn't taken stays with whoever counts it.
const PIECE: usize = 16 * 1024;
/// A connection without a request is ended after this time.
pub(crate) const IDLE: Duration = Duration::from_secs(5 * 60);

tokio::task_local! {
    /// How far the client is with the answer of the request that this task serves.
    static TAKING: Arc<Taking>;
}

/// The server of connections whose requests are ended once their client has taken nothing for that time.
pub(crate) fn server(patience: Duration, tasks: &TaskTracker) -> http2::Builder<Requests> {
    let mut server = http2::Builder::new(Requests { patience, tasks: tasks.clone() });
    server
        .timer(TokioTimer::new())
        .max_concurrent_streams(REQUESTS)
        .max_header_list_size(LONGEST_HEAD)
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW / 4)
        .max_send_buf_size(WAITING);
    server
}

/// Runs the requests of connections, each until its end or until its client takes nothing more.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    patience: Duration,
    tasks: TaskTracker,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Requests {
    fn execute(&self, request: F) {
        let (taking, patience) = (Arc::new(Taking::default()), self.patience);
        let watched = Arc::clone(&taking);
        self.tasks.spawn(TAKING.scope(taking, async move {
            tokio::select! {
                // Dropped, a request tells its client that it is cancelled, and is settled like any that is left.
                () = request => {}
                () = watched.stalls(patience) => {}
            }
        }));
    }
}

/// Whether an answer waits for its client, and since when.
#[derive(Debug)]
struct Taking {
    begun: Instant,
    /// Milliseconds after `begun`, and one; 0 while the client waits for us.
    since: AtomicU64,
}

impl Default for Taking {
    fn default() -> Self {
        Self { begun: Instant::now(), since: AtomicU64::new(0) }
    }
}

impl Taking {
    fn is_given(&self) {
        self.since.store(self.begun.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
    }

    fn is_taken(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    /// Ends when the client has taken nothing for that time.
    async fn stalls(&self, patience: Duration) {
        loop {
            let waited = match self.since.load(Ordering::Relaxed) {
                0 => Duration::ZERO,
                since => self.begun.elapsed().saturating_sub(Duration::from_millis(since - 1)),
            };
            let Some(rest) = patience.checked_sub(waited).filter(|rest| !rest.is_zero()) else { return };
            tokio::time::sleep(rest).await;
        }
    }
}

/// An answer as it passes on a connection of HTTP/2.
pub(crate) fn answer<B>(answer: Response<B>) -> Result<Response<Pieces<B>>, Infallible> {
    let taking = TAKING.try_with(Arc::clone).unwrap_or_default();
    taking.is_given();
    Ok(answer.map(|body| Pieces { body, rest: Bytes::new(), taking }))
}

/// Whether an answer is so short that it is given to the connection at once: whoever doesn't take it is not under way.
pub(crate) fn is_short(body: &impl HttpBody) -> bool {
    body.size_hint().upper().is_some_and(|bytes| bytes <= PIECE as u64)
}

/// A body in pieces, each of which is asked for when the client has taken those before it.
#[derive(Debug)]
pub(crate) struct Pieces<B> {
    body: B,
    rest: Bytes,
    taking: Arc<Taking>,
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Pieces<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.taking.is_taken();
        if self.rest.is_empty() {
            match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let length = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(length);
        self.taking.is_given();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (body, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower().saturating_add(rest));
        if let Some(upper) = body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

/// Ends when a connection has had no request for too long.
pub(crate) async fn idles(connection: &Connection) {
    while let Some(rest) = IDLE.checked_sub(connection.idle()).filter(|rest| !rest.is_zero()) {
        tokio::time::sleep(rest).await;
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use futures_util::{FutureExt as _, stream};
    use http_body_util::BodyExt as _;

    use super::*;

    #[test]
    fn an_answer_waits_for_its_client_only_while_it_has_a_piece() {
        let (model, pieces) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
        let pieces = stream::unfold(pieces, async |mut pieces| {
            Some((Ok::<_, Infallible>(pieces.recv().await?), pieces))
        });
        let mut answer = answer(Response::new(Body::from_stream(pieces))).unwrap().into_body();
        let taking = Arc::clone(&answer.taking);
        let waits_for_client = || taking.since.load(Ordering::Relaxed) != 0;
        // Its head was given.
        assert!(waits_for_client());
        assert!(answer.frame().now_or_never().is_none() && !waits_for_client());
        model.send(vec![b'x'; 2 * PIECE + 1].into()).unwrap();
        for length in [PIECE, PIECE, 1] {
            let piece = answer.frame().now_or_never().unwrap().unwrap().unwrap();
            assert_eq!(piece.into_data().unwrap().len(), length);
            assert!(waits_for_client());
        }
        assert!(answer.frame().now_or_never().is_none() && !waits_for_client());
    }
}
