//! One endpoint per file.

pub(crate) mod chat_completions;
pub(crate) mod completions;
pub(crate) mod embeddings;
pub(crate) mod health;
pub(crate) mod ids;
pub(crate) mod local;
pub(crate) mod messages;
pub(crate) mod metrics;
pub(crate) mod models;
pub(crate) mod responses;
pub(crate) mod unknown;

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use accounting::Credits;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::Stream;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use metering::{Labels, MeterError, MeteredAnswer, MeteredBody, Requester};
use providers::{BadRequest, ChatRequest, Outline, Provider, Shape, off_runtime};
use storage::KnownUser;
use tokio::time::Instant;

use crate::Gateway;
use crate::bounds::{Seat, Share, skim};
use crate::error::ApiError;
use crate::keep_alive::KeepAlive;
use crate::keys::{Access, Allowed};
use crate::pages;
use crate::refused::Asker;

/// Names the fields of a request that its provider can't take, and without which it was sent.
const OMITTED: &str = "x-tracking-omitted";
/// The most characters of those names: clients take only so much of a header.
const LONGEST_NAMES: usize = 2_000;
/// Our id of the request: on each answer to one for which credits were set aside, errors included.
pub(crate) const REQUEST: &str = "x-tracking-request";
/// What a whole answer costs, and what is left on the tightest of the user's accounts.
const CREDITS: HeaderName = HeaderName::from_static("x-tracking-credits");
const REMAINING: HeaderName = HeaderName::from_static("x-tracking-credits-remaining");
/// For how long a request was here, without its provider's time: until the head of its answer.
const OVERHEAD: HeaderName = HeaderName::from_static("x-tracking-overhead-ms");
/// Values that take less memory than this need no look at their model first.
const MUCH: usize = 256 * 1024;
/// Whole answers go out in pieces of so many bytes.
const PIECE: usize = 64 * 1024;
const BETAS: HeaderName = HeaderName::from_static("anthropic-beta");

/// A request whose user is known and whose body is here, with what it takes of the bounds.
pub(crate) struct Admitted {
    pub requester: Requester,
    pub labels: Labels,
    /// The server that the request itself names.
    pub server: Option<Provider>,
    pub body: Bytes,
    pub share: Share,
    /// When it would have begun, had its body been here.
    pub began: Instant,
    /// What is known of it for the log.
    pub asker: Asker,
}

/// Key, identity, user, bounds, body: what every metered route needs.
pub(crate) async fn admitted(
    gateway: &Gateway,
    headers: &HeaderMap,
    body: Body,
) -> Result<Admitted, ApiError> {
    let (began, mut asker) = (Instant::now(), Asker::default());
    let Head { requester, labels, server, seat } = match head(gateway, headers, &mut asker).await {
        Ok(head) => head,
        Err(error) => {
            Box::pin(skim(body)).await;
            return Err(error.asked_by(asker));
        }
    };
    let known = Instant::now();
    let (body, reserved) = match gateway.bounds.read(Some(&requester.user), headers, body).await {
        Ok(read) => read,
        Err(error) => return Err(error.asked_by(asker)),
    };
    let (began, share) = (began + known.elapsed(), Share::new(seat, reserved));
    Ok(Admitted { requester, labels, server, body, share, began, asker })
}

/// Room for what becomes of a body until its request is sent. What takes much gets it only for a model that there is.
pub(crate) async fn room(
    gateway: &Gateway,
    admitted: &mut Admitted,
    outline: Result<Outline, BadRequest>,
) -> Result<(), ApiError> {
    let outline = outline.map_err(|error| ApiError::bad_request(error.message, error.param))?;
    if let Some(model) = &outline.model {
        admitted.asker.set_model(model);
    }
    if outline.memory > MUCH {
        let model = outline.model.as_deref().unwrap_or_default();
        let (server, user) = (admitted.server.as_ref(), &admitted.requester.user);
        let known = gateway.meter.require_model(server, user, model).await;
        known.map_err(|error| ApiError::of_meter(error, gateway.contact()))?;
    }
    let made = gateway.bounds.room(admitted.share.body(), &outline)?;
    admitted.share.make(made);
    Ok(())
}

/// All that the head of a request says.
struct Head {
    requester: Requester,
    labels: Labels,
    server: Option<Provider>,
    seat: Seat,
}

/// Notes on the way who asks.
async fn head(gateway: &Gateway, headers: &HeaderMap, asker: &mut Asker) -> Result<Head, ApiError> {
    let access = access(gateway, headers, asker).await?;
    let user = gateway.identity.user(&access, headers)?;
    let id = user.id.clone();
    asker.user = Some(id.clone());
    let labels = gateway.identity.labels(&access, headers, gateway.way_in())?;
    let server = gateway.servers.named(headers)?;
    let limit = gateway.identity.limit(headers, gateway.is_private())?;
    known(gateway, user).await?;
    let seat = match gateway.bounds.seat(&id) {
        Ok(seat) => seat,
        Err(error) => {
            gateway.meter.refused(&id, &MeterError::TooManyRequests).await;
            return Err(error);
        }
    };
    let by_open_webui = matches!(access, Access::Forwarding);
    let requester = Requester { user: id, limit, sponsored: None, by_open_webui };
    Ok(Head { requester, labels, server, seat })
}

/// What the key of a request to the model routes allows. Notes which key it is, and whose.
pub(crate) async fn access(
    gateway: &Gateway,
    headers: &HeaderMap,
    asker: &mut Asker,
) -> Result<Access, ApiError> {
    let Allowed { access, key } = gateway.keys.access(headers).await?;
    asker.key = key;
    if let Access::Bound(user) = &access {
        asker.user = Some(user.clone());
    }
    if access == Access::Forwarding {
        pages::refuse_forwarding(headers, &gateway.config.allowed_origins)?;
    }
    Ok(access)
}

/// Refuses a user whom Open WebUI does not know; where there is no Open WebUI, remembers them.
async fn known(gateway: &Gateway, user: KnownUser) -> Result<(), ApiError> {
    let id = user.id.clone();
    if is_known(gateway, user).await? { Ok(()) } else { Err(ApiError::unknown_user(id.as_str())) }
}

/// Whether Open WebUI knows a user; where there is no Open WebUI, remembers them.
async fn is_known(gateway: &Gateway, user: KnownUser) -> Result<bool, ApiError> {
    let catalogue = gateway.meter.catalogue();
    if !catalogue.has_user_table().await.map_err(ApiError::of_storage)? {
        catalogue.remember_user(user).await.map_err(ApiError::of_storage)?;
        return Ok(true);
    }
    Ok(catalogue.user(&user.id).await.map_err(ApiError::of_storage)?.is_some())
}

/// A chat in any shape: the whole way from its request to its answer.
pub(crate) async fn answered(
    gateway: &Gateway,
    shape: Shape,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let mut admitted = admitted(gateway, &headers, body).await?;
    let request = match chat_request(gateway, shape, &headers, &mut admitted).await {
        Ok(request) => request,
        Err(error) => return Err(error.asked_by(admitted.asker)),
    };
    let Admitted { requester, labels, server, mut share, began, asker, .. } = admitted;
    let answer = gateway.meter.chat(requester, labels, server.as_ref(), request, &mut share).await;
    share.leave_made();
    match answer {
        Ok(answer) => Ok(respond(gateway, answer, share, began)),
        Err(unserved) => Err(ApiError::of_unserved(unserved, gateway.contact()).asked_by(asker)),
    }
}

/// How many tokens a chat in that shape has.
pub(crate) async fn counted(
    gateway: &Gateway,
    shape: Shape,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let mut admitted = admitted(gateway, headers, body).await?;
    let request = match chat_request(gateway, shape, headers, &mut admitted).await {
        Ok(request) => request,
        Err(error) => return Err(error.asked_by(admitted.asker)),
    };
    let Admitted { requester, labels, server, share, asker, .. } = admitted;
    let count = gateway.meter.count_tokens(requester, &labels, server.as_ref(), request).await;
    drop(share);
    let count = count.map_err(|error| ApiError::of_meter(error, gateway.contact()).asked_by(asker))?;
    Ok(([(CONTENT_TYPE, "application/json")], count).into_response())
}

/// The body of a chat in that shape, read, with room for what is made of it.
async fn chat_request(
    gateway: &Gateway,
    shape: Shape,
    headers: &HeaderMap,
    admitted: &mut Admitted,
) -> Result<ChatRequest, ApiError> {
    let body = std::mem::take(&mut admitted.body);
    let length = body.len();
    let outline = off_runtime(length, || Outline::read(&body));
    room(gateway, admitted, outline).await?;
    let mut request = off_runtime(length, || ChatRequest::parse_as(shape, body))
        .map_err(|error| ApiError::bad_request(error.message, error.param))?;
    if shape == Shape::Messages {
        request.set_headers(betas(headers));
    }
    Ok(request)
}

/// The features of Anthropic's API that a client asks for: the one header that is part of its requests' meaning. What they
/// would buy beside the price is refused by the fields that they need.
fn betas(headers: &HeaderMap) -> HeaderMap {
    let plain = |value: &&HeaderValue| {
        value.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.,: ".contains(byte))
    };
    headers.get_all(BETAS).iter().filter(plain).map(|value| (BETAS, value.clone())).collect()
}

/// A metered answer over HTTP.
pub(crate) fn respond(
    gateway: &Gateway,
    answer: MeteredAnswer,
    mut share: Share,
    began: Instant,
) -> Response {
    let MeteredAnswer { id, body, omitted, headers: told, waited, bill } = answer;
    let mut response = match body {
        MeteredBody::Complete(body) => {
            // Its length is known; its share is free once all of it has been taken.
            let length = body.len();
            share.leave_body();
            let mut response =
                Response::new(Body::from_stream(Taking { stream: Pieces(body), _share: share }));
            response.headers_mut().insert(CONTENT_LENGTH, length.into());
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        MeteredBody::Stream(stream) => {
            let stream = KeepAlive::new(stream, gateway.config.keep_alive);
            let mut response = Response::new(Body::from_stream(Taking { stream, _share: share }));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            // Proxies such as nginx would otherwise collect the chunks.
            headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
            response
        }
    };
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(REQUEST, id);
    }
    let headers = response.headers_mut();
    if let Some(names) = named(&omitted) {
        headers.insert(OMITTED, names);
    }
    headers.extend(told);
    if let Some(bill) = bill {
        headers.insert(CREDITS, written(&bill.charge));
        if let Some(remaining) = bill.remaining {
            headers.insert(REMAINING, written(&remaining));
        }
    }
    headers.insert(OVERHEAD, milliseconds(began.elapsed().saturating_sub(waited)));
    response
}

/// Credits as a header has them.
fn written(credits: &Credits) -> HeaderValue {
    HeaderValue::from_str(&credits.to_string()).unwrap_or(HeaderValue::from_static(""))
}

/// To the microsecond.
fn milliseconds(time: Duration) -> HeaderValue {
    let micros = time.as_micros();
    let text = format!("{}.{:03}", micros / 1000, micros % 1000);
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("0"))
}

/// Names of fields, which a client chose: what no header can hold (RFC 9110: visible ASCII) is left out, and so is what is
/// too much.
fn named(omitted: &[String]) -> Option<HeaderValue> {
    let mut names = String::new();
    let fits = |name: &&String| name.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    for name in omitted.iter().filter(fits) {
        if names.len() + name.len() > LONGEST_NAMES {
            continue;
        }
        if !names.is_empty() {
            names.push_str(", ");
        }
        names.push_str(name);
    }
    if names.is_empty() { None } else { HeaderValue::from_str(&names).ok() }
}

/// A whole answer, of which no more than a piece waits beyond what its client takes.
struct Pieces(Bytes);

impl Stream for Pieces {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let length = self.0.len().min(PIECE);
        Poll::Ready((length > 0).then(|| self.0.split_to(length)))
    }
}

/// An answer that keeps its share of the bounds until all of it has been taken.
struct Taking<S> {
    stream: S,
    _share: Share,
}

impl<S: Stream<Item = Bytes> + Unpin> Stream for Taking<S> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.stream).poll_next(cx).map(|bytes| bytes.map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_header_can_hold_does_not_hide_the_rest() {
        let names = |omitted: &[&str]| {
            let omitted: Vec<String> = omitted.iter().map(|name| (*name).to_owned()).collect();
            named(&omitted).map(|names| names.to_str().unwrap().to_owned())
        };
        assert_eq!(names(&["seed", "caf\u{e9}", "a\nb", "user"]).as_deref(), Some("seed, user"));
        assert_eq!(names(&["\u{1F600}"]), None);
        assert_eq!(names(&[]), None);
        let long = "x".repeat(LONGEST_NAMES + 1);
        assert_eq!(names(&["seed", &long, "user"]).as_deref(), Some("seed, user"));
    }
}
