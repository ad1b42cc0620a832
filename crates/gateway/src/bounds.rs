//! What one request, one user, and all together may take: the size of a body, the bytes of all bodies at a time, the
//! requests of one user at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use accounting::UserId;
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::ApiError;

/// Bytes in flight are counted in pieces of this size.
const PIECE: usize = 1024;
/// Between two pieces of a body, its client may be silent for so long.
const SILENCE: Duration = Duration::from_secs(60);

/// Of the body of a request that is refused by its head, so many bytes are read, for so long.
const SKIMMED: usize = 1024 * 1024;
const SKIMMING: Duration = Duration::from_secs(2);

/// The bounds of a gateway.
#[derive(Debug)]
pub(crate) struct Bounds {
    body_limit: usize,
    in_flight: Arc<Semaphore>,
    requests_per_user: usize,
    running: Arc<Mutex<HashMap<UserId, usize>>>,
}

/// A user's place among their running requests; given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    user: UserId,
    running: Arc<Mutex<HashMap<UserId, usize>>>,
}

/// A body and its share of the bytes in flight, which is given back when dropped.
#[derive(Debug)]
pub(crate) struct Reserved(Vec<OwnedSemaphorePermit>);

impl Bounds {
    pub(crate) fn new(body_limit: usize, bytes_in_flight: usize, requests_per_user: usize) -> Self {
        let pieces = (bytes_in_flight / PIECE).clamp(1, Semaphore::MAX_PERMITS);
        let in_flight = Arc::new(Semaphore::new(pieces));
        Self { body_limit, in_flight, requests_per_user, running: Arc::default() }
    }

    /// A place for one more request of that user.
    pub(crate) fn seat(&self, user: &UserId) -> Result<Seat, ApiError> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let count = running.entry(user.clone()).or_default();
        if *count >= self.requests_per_user {
            return Err(ApiError::too_many_requests());
        }
        *count += 1;
        Ok(Seat { user: user.clone(), running: Arc::clone(&self.running) })
    }

    /// The whole body, if it keeps within the bounds. One that says that it is too large is not read at all.
    pub(crate) async fn read(
        &self,
        headers: &HeaderMap,
        mut body: Body,
    ) -> Result<(Bytes, Reserved), ApiError> {
        let said: Option<usize> =
            headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if said.is_some_and(|length| length > self.body_limit) {
            return Err(self.too_large());
        }
        let mut reserved = Reserved(Vec::new());
        let mut room = 0;
        if let Some(length) = said {
            room = self.reserve(&mut reserved, length)?;
        }
        let mut whole = BytesMut::with_capacity(said.unwrap_or_default().min(self.body_limit));
        loop {
            let frame = match timeout(SILENCE, body.frame()).await {
                Err(_) => {
                    let message = "The body of the request did not come.";
                    return Err(ApiError::new(
                        StatusCode::REQUEST_TIMEOUT,
                        "invalid_request_error",
                        "body_timeout",
                        message,
                    ));
                }
                Ok(None) => break,
                Ok(Some(Err(_))) => {
                    return Err(ApiError::bad_request("The body of the request broke off.", None));
                }
                Ok(Some(Ok(frame))) => frame,
            };
            let Some(bytes) = frame.data_ref() else { continue };
            if whole.len() + bytes.len() > self.body_limit {
                return Err(self.too_large());
            }
            if whole.len() + bytes.len() > room {
                room += self.reserve(&mut reserved, bytes.len())?;
            }
            whole.extend_from_slice(bytes);
        }
        Ok((whole.freeze(), reserved))
    }

    fn reserve(&self, reserved: &mut Reserved, bytes: usize) -> Result<usize, ApiError> {
        let pieces = u32::try_from(bytes.div_ceil(PIECE)).map_err(|_| self.too_large())?;
        let permit = Arc::clone(&self.in_flight).try_acquire_many_owned(pieces).map_err(|_| {
            let message = "Too many large requests at a time; try again in a moment.";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", "too_many_bytes", message).after(5)
        })?;
        reserved.0.push(permit);
        Ok(pieces as usize * PIECE)
    }

    fn too_large(&self) -> ApiError {
        let message = format!("The body of the request is larger than {} bytes.", self.body_limit);
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", "body_too_large", message)
    }
}

/// Reads an ordinary body without keeping it: a connection whose request was left unread is cut, and its client's next
/// request with it. Large ones are left to that.
pub(crate) async fn skim(mut body: Body) {
    let read = async {
        let mut length = 0;
        while let Some(Ok(frame)) = body.frame().await {
            length += frame.data_ref().map_or(0, Bytes::len);
            if length > SKIMMED {
                break;
            }
        }
    };
    let _ = timeout(SKIMMING, read).await;
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(bytes: usize) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_LENGTH, bytes.into())])
    }

    #[tokio::test]
    async fn a_body_that_says_it_is_too_large_is_not_read() {
        let bounds = Bounds::new(1000, 10_000, 2);
        let refused = bounds.read(&length(100_000_000), Body::from("unread")).await.unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.code), (413, "body_too_large"));
        let lying = bounds.read(&HeaderMap::new(), Body::from(vec![b'x'; 1001])).await.unwrap_err();
        assert_eq!(lying.code, "body_too_large");
    }

    #[tokio::test]
    async fn bytes_in_flight_are_given_back() {
        let bounds = Bounds::new(10_000, 4096, 2);
        let body = || Body::from(vec![b'x'; 3000]);
        let (bytes, first) = bounds.read(&length(3000), body()).await.unwrap();
        assert_eq!(bytes.len(), 3000);
        assert_eq!(bounds.read(&length(3000), body()).await.unwrap_err().code, "too_many_bytes");
        assert_eq!(bounds.read(&HeaderMap::new(), body()).await.unwrap_err().code, "too_many_bytes");
        drop(first);
        assert!(bounds.read(&HeaderMap::new(), body()).await.is_ok());
    }

    #[test]
    fn seats_are_given_back() {
        let bounds = Bounds::new(1, 1, 2);
        let (ann, bob) = (UserId::new("ann").unwrap(), UserId::new("bob").unwrap());
        let first = bounds.seat(&ann).unwrap();
        let _second = bounds.seat(&ann).unwrap();
        assert_eq!(bounds.seat(&ann).unwrap_err().code, "too_many_requests");
        assert!(bounds.seat(&bob).is_ok());
        drop(first);
        assert!(bounds.seat(&ann).is_ok());
    }
}
