//! What one request, one user, and all together may take: the size of a body, the memory of all bodies at a time and of one
//! user's, the requests of one user at a time.
//!
//! The rule it protects: what counts is what has come, not what is announced, and of a compressed body what it becomes; and
//! who takes too much is refused, not others. Answers, which are made already, wait for their room ([`answers`]).

mod answers;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use accounting::UserId;
use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use providers::{Decoder, Gathering, LARGE, Outline, UnknownCoding, WithoutMark};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

pub(crate) use answers::Share;

use crate::error::ApiError;

/// Of the body of a request that is refused by its head, so many bytes are read, for so long.
const SKIMMED: usize = 1024 * 1024;
const SKIMMING: Duration = Duration::from_secs(2);
/// Of so many requests at a time: their connections keep a place meanwhile, and whoever sends them has shown no key.
static SKIMS: Semaphore = Semaphore::const_new(8);
/// This part of all bytes is kept for users who take little.
const KEPT_PART: usize = 8;
/// Little is this part of all bytes.
const LITTLE_PART: usize = 64;

/// How much may be taken. All in bytes, but for the requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub body: usize,
    pub in_flight: usize,
    /// The share of one user. A single request of theirs may go beyond it.
    pub per_user: usize,
    pub requests_per_user: usize,
    /// For so long an answer waits for room.
    pub patience: Duration,
}

/// How fast a body must come: within `grace`, and at `rate` from then on.
#[derive(Debug, Clone, Copy)]
struct Pace {
    grace: Duration,
    /// Bytes in a second.
    rate: u64,
}

const PACE: Pace = Pace { grace: Duration::from_secs(30), rate: 64 * 1024 };

/// The bounds of a gateway.
#[derive(Debug)]
pub(crate) struct Bounds {
    pace: Pace,
    books: Arc<Books>,
}

/// What is taken at present, and of how much.
#[derive(Debug)]
struct Books {
    limits: Limits,
    taken: Mutex<Taken>,
    /// Told when something is given back that somebody waits for.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    bytes: usize,
    /// What answers take beyond the bytes in flight.
    beyond: usize,
    /// Whether there is an answer that may.
    is_led: bool,
    users: HashMap<UserId, OfUser>,
    /// How many answers wait for room.
    waiting: usize,
}

#[derive(Debug, Default)]
struct OfUser {
    requests: usize,
    bytes: usize,
    /// Of these, those of whole answers.
    whole: usize,
    /// Whether there is an answer that may go beyond their share.
    is_led: bool,
}

/// A user's place among their running requests; given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    user: UserId,
    books: Arc<Books>,
}

/// A part of the bytes in flight, which is given back when dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    /// Nobody: whoever administers.
    user: Option<UserId>,
    bytes: usize,
    books: Arc<Books>,
}

impl Bounds {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { pace: PACE, books: Arc::new(Books { limits, taken: Mutex::default(), freed: Notify::new() }) }
    }

    /// A place for one more request of that user.
    pub(crate) fn seat(&self, user: &UserId) -> Result<Seat, ApiError> {
        let mut taken = lock(&self.books);
        let of_user = taken.users.entry(user.clone()).or_default();
        if of_user.requests >= self.books.limits.requests_per_user {
            return Err(ApiError::too_many_requests());
        }
        of_user.requests += 1;
        Ok(Seat { user: user.clone(), books: Arc::clone(&self.books) })
    }

    /// The whole body, if it keeps within the bounds. One that says that it is too large is not read at all.
    pub(crate) async fn read(
        &self,
        user: Option<&UserId>,
        headers: &HeaderMap,
        mut body: Body,
    ) -> Result<(Bytes, Reserved), ApiError> {
        let read = self.read_from(user, headers, &mut body).await;
        // What is refused for its coding is mostly small.
        if read.is_err() && headers.contains_key(CONTENT_ENCODING) {
            Box::pin(skim(body)).await;
        }
        read
    }

    async fn read_from(
        &self,
        user: Option<&UserId>,
        headers: &HeaderMap,
        body: &mut Body,
    ) -> Result<(Bytes, Reserved), ApiError> {
        let said: Option<usize> =
            headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if said.is_some_and(|length| length > self.books.limits.body) {
            return Err(self.too_large());
        }
        let mut decoder = Decoder::of(headers).map_err(|coding| unknown_coding(&coding))?;
        let nothing = || Reserved::nothing(user.cloned(), &self.books);
        // A decoder remembers what it gave, up to a bound.
        let (mut reserved, mut window) = (nothing(), nothing());
        let length = said.filter(|_| decoder.is_none()).unwrap_or_default();
        let mut whole = Gathering::new(length, self.books.limits.body).map_err(no_memory)?;
        let (begun, mut come, mut mark) = (Instant::now(), 0, WithoutMark::default());
        loop {
            let frame = match timeout_at(begun + self.pace.allows(come), body.frame()).await {
                Err(_) => return Err(too_slow()),
                Ok(None) => break,
                Ok(Some(Err(_))) => {
                    return Err(ApiError::bad_request("The body of the request broke off.", None));
                }
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(bytes) = frame.into_data() else { continue };
            come += bytes.len();
            let Some(decoder) = &mut decoder else {
                self.add(&mut whole, &mut reserved, 0, &mark.pass(bytes))?;
                continue;
            };
            decoder.push(bytes);
            while let Some(piece) = decoder.next_piece().map_err(|_| wrong_coding(decoder))? {
                if window.bytes < Decoder::WINDOW {
                    self.reserve(&mut window, reserved.bytes, piece.len())?;
                }
                self.add(&mut whole, &mut reserved, window.bytes, &mark.pass(piece))?;
                // A few bytes may become many.
                tokio::task::consume_budget().await;
            }
        }
        Ok((whole.freeze(), reserved))
    }

    /// Adds bytes to a body, if it keeps within the bounds. `beside`: what the same request has in another reservation.
    fn add(
        &self,
        whole: &mut Gathering,
        reserved: &mut Reserved,
        beside: usize,
        bytes: &[u8],
    ) -> Result<(), ApiError> {
        if whole.len() + bytes.len() > self.books.limits.body {
            return Err(self.too_large());
        }
        self.reserve(reserved, beside, bytes.len())?;
        whole.push(bytes).map_err(no_memory)
    }

    /// Room for what becomes of a body, beside the body itself.
    ///
    /// # Errors
    /// If it is more than one body may take, or more than is left.
    pub(crate) fn room(&self, body: &Reserved, outline: &Outline) -> Result<Reserved, ApiError> {
        let most = self.books.limits.body.saturating_mul(2);
        if outline.memory > most {
            let message = format!(
                "The values in the body of the request would take {} bytes of memory, more than the {most} that one \
                 request may take: send fewer values.",
                outline.memory
            );
            return Err(ApiError::new(
                StatusCode::BAD_REQUEST,
                "invalid_request_error",
                "body_too_complex",
                message,
            ));
        }
        let mut room = Reserved::nothing(body.user.clone(), &self.books);
        // It is read into values, and written again for the model server.
        self.reserve(&mut room, body.bytes, outline.memory.saturating_add(body.bytes))?;
        Ok(room)
    }

    /// What was taken for nobody becomes that user's, if they may have it.
    pub(crate) fn hand_over(&self, mut from: Reserved, user: &UserId) -> Result<Reserved, ApiError> {
        let mut theirs = Reserved::nothing(Some(user.clone()), &self.books);
        let bytes = from.bytes;
        from.give_back();
        self.reserve(&mut theirs, 0, bytes)?;
        Ok(theirs)
    }

    /// `beside`: what the same request has in another reservation.
    fn reserve(&self, reserved: &mut Reserved, beside: usize, bytes: usize) -> Result<(), ApiError> {
        let Limits { in_flight, per_user, .. } = self.books.limits;
        let mut taken = lock(&self.books);
        let all = taken.bytes.saturating_add(bytes);
        if all > in_flight {
            return Err(too_many_bytes());
        }
        if let Some(user) = &reserved.user {
            let of_user = taken.users.entry(user.clone()).or_default();
            let theirs = of_user.bytes.saturating_add(bytes);
            let others = of_user.bytes.saturating_sub(beside + reserved.bytes);
            if theirs > per_user && others > in_flight / LITTLE_PART {
                return Err(share_is_taken());
            }
            if all > in_flight - in_flight / KEPT_PART && theirs > in_flight / LITTLE_PART {
                return Err(too_many_bytes());
            }
            of_user.bytes = theirs;
        }
        taken.bytes = all;
        reserved.bytes += bytes;
        Ok(())
    }

    fn too_large(&self) -> ApiError {
        let message = format!("The body of the request is larger than {} bytes.", self.books.limits.body);
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", "body_too_large", message)
    }
}

impl Pace {
    /// The time that a body may have taken until more comes than these bytes.
    fn allows(self, bytes: usize) -> Duration {
        self.grace + Duration::from_millis((bytes as u64).saturating_mul(1000) / self.rate)
    }
}

fn no_memory(error: std::io::Error) -> ApiError {
    tracing::error!(%error, "no memory for a body");
    too_many_bytes()
}

fn too_slow() -> ApiError {
    let message = "The body of the request came too slowly.";
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", "body_timeout", message)
}

fn unknown_coding(UnknownCoding(name): &UnknownCoding) -> ApiError {
    let message = format!(
        "The body of the request comes in the coding `{name}` (Content-Encoding), which is not known here: send it \
         without one, or in one of {}.",
        Decoder::KNOWN
    );
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    ApiError::new(status, "invalid_request_error", "unsupported_content_encoding", message)
}

fn wrong_coding(decoder: &Decoder) -> ApiError {
    let message = format!(
        "The body of the request is not in the coding that its Content-Encoding names, {decoder}: send it in that, or \
         leave out the header."
    );
    ApiError::bad_request(message, None)
}

fn too_many_bytes() -> ApiError {
    let message = "Too many large requests at a time; try again in a moment.";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", "too_many_bytes", message).after(5)
}

fn share_is_taken() -> ApiError {
    let message = "You have too many large requests running at a time; wait for one of them to end.";
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "too_many_bytes", message).after(5)
}

/// Reads an ordinary body without keeping it: a connection whose request was left unread is cut, and its client's next
/// request with it. Large ones are left to that, and all of whoever sends many at a time.
pub(crate) async fn skim(mut body: Body) {
    let Ok(_skim) = SKIMS.try_acquire() else { return };
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

fn lock(books: &Books) -> MutexGuard<'_, Taken> {
    books.taken.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Books {
    /// Something was given back.
    fn tell_waiting(&self, taken: &Taken) {
        if taken.waiting > 0 {
            self.freed.notify_waiters();
        }
    }
}

impl Taken {
    /// Changes what a user has, and forgets who has nothing.
    fn of(&mut self, user: &UserId, change: impl FnOnce(&mut OfUser)) {
        if let Some(of_user) = self.users.get_mut(user) {
            change(of_user);
            if of_user.requests == 0 && of_user.bytes == 0 {
                self.users.remove(user);
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.books).of(&self.user, |of_user| of_user.requests -= 1);
    }
}

impl Reserved {
    fn nothing(user: Option<UserId>, books: &Arc<Books>) -> Self {
        Self { user, bytes: 0, books: Arc::clone(books) }
    }

    fn give_back(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let mut taken = lock(&self.books);
        taken.bytes -= bytes;
        if let Some(user) = &self.user {
            taken.of(user, |of_user| of_user.bytes -= bytes);
        }
        self.books.tell_waiting(&taken);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests;
