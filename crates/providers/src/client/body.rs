//! The body of an answer as it is meant: its coding undone as it comes, without a byte order mark.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};

use crate::coding::{Decoder, WithoutMark};

/// A body on its way from a model server.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    incoming: Incoming,
    decoder: Option<Box<Decoder>>,
    mark: WithoutMark,
}

/// Why a body could not be read to its end.
#[derive(Debug)]
pub(crate) enum BrokenBody {
    Connection(hyper::Error),
    Coding(String),
}

impl AnswerBody {
    pub(super) fn new(incoming: Incoming, decoder: Option<Decoder>) -> Self {
        Self { incoming, decoder: decoder.map(Box::new), mark: WithoutMark::default() }
    }

    /// Whether it comes in a coding.
    pub(super) const fn is_coded(&self) -> bool {
        self.decoder.is_some()
    }

    /// The next bytes, decoded.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenBody>>> {
        loop {
            if let Some(decoder) = &mut self.decoder
                && let Some(piece) = decoder
                    .next_piece()
                    .map_err(|error| BrokenBody::Coding(format!("not {decoder}: {error}")))?
            {
                return Poll::Ready(Some(Ok(piece)));
            }
            let Some(frame) = ready!(Pin::new(&mut self.incoming).poll_frame(cx)) else {
                return Poll::Ready(None);
            };
            // Trailers say nothing to us.
            let Ok(bytes) = frame.map_err(BrokenBody::Connection)?.into_data() else { continue };
            match &mut self.decoder {
                None => return Poll::Ready(Some(Ok(bytes))),
                Some(decoder) => decoder.push(bytes),
            }
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BrokenBody;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenBody>>> {
        let this = &mut *self;
        let bytes = ready!(this.poll_bytes(cx));
        Poll::Ready(bytes.map(|bytes| bytes.map(|bytes| Frame::data(this.mark.pass(bytes)))))
    }
}

impl fmt::Display for BrokenBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(error) => error.fmt(f),
            Self::Coding(what) => f.write_str(what),
        }
    }
}
