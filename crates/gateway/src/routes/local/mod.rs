//! The routes for the Python package and for scripts, beside the OpenAI-compatible ones: holds of foreign code, reading and
//! administration. They need the configured key, which may do all that the command line may. Described in
//! `docs/local-api.json`.

mod balance;
mod credit_groups;
mod holds;
mod models;
mod prices;
mod requests;
mod settings;
mod sponsored;
mod usage;
mod users;

use accounting::{Credits, Label, ProviderName, UserId};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use axum::routing::{delete as delete_only, post};
use bytes::Bytes;
use http::{HeaderMap, Method};
use metering::{Bill, Labels, Requester};
use providers::{Outline, off_runtime};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Number, Value, json};

use crate::Gateway;
use crate::bounds::{Reserved, skim};
use crate::error::ApiError;
use crate::refused::Asker;

pub(crate) fn router(gateway: &Gateway) -> Router<Gateway> {
    Router::new()
        .merge(administration().route_layer(from_fn_with_state(gateway.clone(), counted)))
        .route("/local/models", get(models::list))
        .route("/local/balance", get(balance::get))
        .route("/local/users", get(users::find))
        .route("/local/holds", post(holds::create))
        .route("/local/holds/{id}", delete_only(holds::release))
        .route("/local/holds/{id}/progress", post(holds::progress))
        .route("/local/holds/{id}/settle", post(holds::settle))
        .route("/local/usage", post(usage::create))
        .route("/local/requests/{id}", get(requests::get))
}

/// What changes prices, allowances and settings.
fn administration() -> Router<Gateway> {
    Router::new()
        .route("/local/prices", get(prices::list).put(prices::write).delete(prices::delete))
        .route(
            "/local/credit-groups",
            get(credit_groups::list)
                .post(credit_groups::create)
                .patch(credit_groups::update)
                .delete(credit_groups::delete),
        )
        .route(
            "/local/credit-groups/members",
            get(credit_groups::members).post(credit_groups::add_member).delete(credit_groups::remove_member),
        )
        .route("/local/settings", get(settings::list).put(settings::write))
        .route(
            "/local/sponsored",
            get(sponsored::list).post(sponsored::create).patch(sponsored::update).delete(sponsored::delete),
        )
}

/// What was changed here counts for the next request here, not only once the snapshot is old.
async fn counted(State(gateway): State<Gateway>, request: Request, next: Next) -> Response {
    let changes = request.method() != Method::GET;
    let response = next.run(request).await;
    if changes && response.status().is_success() {
        gateway.meter.catalogue().changed();
    }
    response
}

/// What the body of a local request takes of the bounds, with what is made of it.
struct Counted {
    body: Reserved,
    _room: Reserved,
}

/// The body of a local request, for whoever has the key.
async fn body<T: DeserializeOwned>(
    gateway: &Gateway,
    headers: &HeaderMap,
    sent: Body,
) -> Result<(T, Counted), ApiError> {
    let (body, counted) = read(gateway, headers, sent).await?;
    Ok((parsed(&body)?, counted))
}

async fn read(gateway: &Gateway, headers: &HeaderMap, body: Body) -> Result<(Bytes, Counted), ApiError> {
    if let Err(error) = gateway.keys.administers(headers) {
        skim(body).await;
        return Err(error);
    }
    let (body, reserved) = gateway.bounds.read(None, headers, body).await?;
    let outline = off_runtime(body.len(), || Outline::read(&body));
    let outline = outline.map_err(|error| ApiError::bad_request(error.message, error.param))?;
    let room = gateway.bounds.room(&reserved, &outline)?;
    Ok((body, Counted { body: reserved, _room: room }))
}

fn parsed<T: DeserializeOwned>(body: &Bytes) -> Result<T, ApiError> {
    off_runtime(body.len(), || serde_json::from_slice(body))
        .map_err(|error| ApiError::bad_request(format!("The body: {error}."), None))
}

/// The body of a metered request: who asks for what, and what its route needs beside.
async fn asked<T: DeserializeOwned>(
    gateway: &Gateway,
    headers: &HeaderMap,
    sent: Body,
) -> Result<(Asking, T, Counted), ApiError> {
    let (body, counted) = read(gateway, headers, sent).await?;
    Ok((parsed(&body)?, parsed(&body)?, counted))
}

/// A credit amount as an exact JSON number.
fn number(credits: Credits) -> Value {
    credits.to_string().parse::<Number>().map_or(Value::Null, Value::Number)
}

/// An amount of credits as it is written: never a float on the way.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
struct Amount(Box<RawValue>);

impl Amount {
    fn credits(&self) -> Result<Credits, ApiError> {
        let text = self.0.get();
        let text = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
        text.parse().map_err(|error| ApiError::bad_request(format!("`{text}`: {error}."), None))
    }
}

/// Who asks, and for what: the part that all bodies of metered requests have.
#[derive(Debug, Deserialize)]
struct Asking {
    user: String,
    #[serde(default)]
    user_name: Label,
    #[serde(default)]
    user_email: Label,
    provider: String,
    model: String,
    task: Option<Label>,
    chat_id: Option<Label>,
    message_id: Option<Label>,
    workspace_model: Option<Label>,
    sponsored: Option<String>,
    limit: Option<Amount>,
}

impl Asking {
    /// Checks that the user is known, and remembers them where there is no Open WebUI.
    async fn requester(&self, gateway: &Gateway) -> Result<Requester, ApiError> {
        let (requester, is_known) = self.whoever(gateway).await?;
        if is_known { Ok(requester) } else { Err(ApiError::unknown_user(requester.user.as_str())) }
    }

    /// The same for any user, and whether they are known.
    async fn whoever(&self, gateway: &Gateway) -> Result<(Requester, bool), ApiError> {
        let id = UserId::from_outside(&self.user).map_err(bad)?;
        let user = storage::KnownUser {
            id: id.clone(),
            name: self.user_name.clone(),
            email: self.user_email.clone(),
        };
        let is_known = super::is_known(gateway, user).await?;
        let limit = self.limit.as_ref().map(Amount::credits).transpose()?;
        let sponsored = self.sponsored.clone();
        Ok((Requester { user: id, limit, sponsored, by_open_webui: true }, is_known))
    }

    /// The same for the log.
    fn asker(&self) -> Asker {
        let mut asker = Asker { user: UserId::from_outside(&self.user).ok(), ..Asker::default() };
        asker.set_model(&self.model);
        asker
    }

    fn provider(&self) -> Result<ProviderName, ApiError> {
        ProviderName::from_outside(&self.provider).map_err(bad)
    }

    fn labels(&self, gateway: &Gateway) -> Labels {
        let label = |label: &Option<Label>| label.clone().filter(|label| !label.is_empty());
        Labels {
            way_in: gateway.way_in(),
            task: label(&self.task),
            chat_id: label(&self.chat_id),
            message_id: label(&self.message_id),
            workspace_model: label(&self.workspace_model),
        }
    }
}

/// A bill as JSON.
fn bill(id: Option<accounting::RequestId>, bill: &Bill) -> Value {
    let mut shown = json!({
        "credits": number(bill.charge),
        "credits_remaining": bill.remaining.map(number),
        "cost": bill.cost(),
        "estimated": bill.estimated,
        "adjusted": bill.usage.adjusted,
        "input_tokens": bill.usage.input,
        "output_tokens": bill.usage.output,
    });
    if let (Value::Object(shown), Some(id)) = (&mut shown, id) {
        shown.insert("id".into(), id.to_string().into());
    }
    shown
}

/// Usage in OpenAI's form.
fn usage_of(reported: &RawValue) -> Result<accounting::Usage, ApiError> {
    providers::reported_usage(reported.get()).ok_or_else(|| {
        ApiError::bad_request(
            "`usage` needs prompt_tokens and completion_tokens, and no part may be larger than its whole.",
            Some("usage".into()),
        )
    })
}

fn bad(error: accounting::Error) -> ApiError {
    ApiError::bad_request(format!("{error}."), None)
}
