//! Comments in a streamed answer while its model is silent, so that clients and proxies go on waiting.
//!
//! The rule it protects: a comment stands between events only. What it wraps yields whole events.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Instant, Sleep, sleep};

/// What clients of server-sent events pass over.
const COMMENT: &[u8] = b": waiting\n\n";

/// A stream of events with comments in its silences.
pub(crate) struct KeepAlive<S> {
    stream: S,
    silence: Option<Silence>,
}

struct Silence {
    longest: Duration,
    /// Since when nothing comes, once that was seen.
    since: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl<S> KeepAlive<S> {
    /// With a comment whenever so long nothing comes; without any, if that is no time at all.
    pub(crate) fn new(stream: S, longest: Duration) -> Self {
        let silence =
            (!longest.is_zero()).then(|| Silence { longest, since: None, timer: Box::pin(sleep(longest)) });
        Self { stream, silence }
    }
}

impl<S: Stream<Item = Bytes> + Unpin> Stream for KeepAlive<S> {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.stream).poll_next(cx);
        match (&mut this.silence, polled) {
            (None, polled) => polled,
            (Some(silence), Poll::Ready(item)) => {
                silence.since = None;
                Poll::Ready(item)
            }
            (Some(silence), Poll::Pending) => silence.poll(cx).map(|()| Some(Bytes::from_static(COMMENT))),
        }
    }
}

impl Silence {
    /// Ready when it has lasted too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let end = since + self.longest;
        // The timer is not set anew for each event: it may still be that of an earlier silence.
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            if now >= end {
                self.since = Some(now);
                self.timer.as_mut().reset(now + self.longest);
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};
    use tokio::sync::mpsc;

    use super::*;

    type Events = mpsc::UnboundedSender<Bytes>;

    fn stream(longest: Duration) -> (Events, KeepAlive<impl Stream<Item = Bytes> + Unpin>) {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let events = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
        (sender, KeepAlive::new(events, longest))
    }

    #[tokio::test]
    async fn a_long_silence_has_a_comment_for_each_part_of_it() {
        // A thousand times faster: 15 s of patience in five minutes of silence.
        let part = Duration::from_millis(15);
        let (sender, mut stream) = stream(part);
        let begun = Instant::now();
        for number in 1..=20 {
            assert_eq!(stream.next().await.unwrap(), COMMENT);
            assert!(begun.elapsed() >= number * part, "{number}: {:?}", begun.elapsed());
        }
        sender.send(Bytes::from_static(b"data: 1\n\n")).unwrap();
        assert_eq!(stream.next().await.unwrap(), "data: 1\n\n");
        // The next silence counts from its own beginning.
        let begun = Instant::now();
        assert_eq!(stream.next().await.unwrap(), COMMENT);
        assert!(begun.elapsed() >= part);
        drop(sender);
        assert_eq!(stream.next().await, None);
    }

    #[tokio::test]
    async fn no_time_at_all_means_no_comments() {
        let (_sender, mut stream) = stream(Duration::ZERO);
        assert!(stream.next().now_or_never().is_none());
        assert!(stream.silence.is_none());
    }
}
