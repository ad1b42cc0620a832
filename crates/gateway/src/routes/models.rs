//! `GET /v1/models` and `/v1/models/{id}`: the models that have a price and a provider, and those that sponsored allowances
//! offer as models of their own. Needs a key, and no user: Open WebUI keeps one list for all its users, and hides what it
//! does not grant. The holder of a bound key sees what they may use. Anthropic's clients get it in their own form.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use metering::{Audience, OfferedModel};
use serde::Deserialize;
use serde_json::{Value, json};
use storage::nearest;

use crate::Gateway;
use crate::error::ApiError;
use crate::form::Form;
use crate::keys::Access;
use crate::refused::Asker;

/// A page of Anthropic's list has so many, unless its client says so ("List Models").
const PAGE: usize = 20;
const LARGEST_PAGE: usize = 1000;

/// Which page of Anthropic's list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Page {
    limit: Option<usize>,
    after_id: Option<String>,
    before_id: Option<String>,
}

pub(crate) async fn handler(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    page: Result<Query<Page>, QueryRejection>,
) -> Response {
    let wrong =
        |_| ApiError::bad_request("limit must be a number, after_id and before_id ids of models", None);
    let page = page.map_err(wrong).map(|Query(page)| page);
    answered(&gateway, &headers, None, page, |form, models, page| Ok(list(form, models, &page))).await
}

/// One model; its id may have slashes.
pub(crate) async fn one(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
) -> Response {
    let wrong = |_| ApiError::bad_request("the id of the model must be UTF-8", None);
    let id = id.map_err(wrong).map(|Path(id)| id);
    let asked = id.as_ref().ok().cloned();
    answered(&gateway, &headers, asked, id, |form, models, id| match named(models, &id) {
        Some(model) => Ok(shown(form, model)),
        None => {
            let ids = models.iter().map(|model| model.id.as_str());
            let meant = nearest::several(&id, ids).into_iter().map(Into::into).collect();
            Err(ApiError::unknown_model(&id, meant))
        }
    })
    .await
}

/// What there is to say of the models that whoever asks may use, in the form of their API.
async fn answered<A>(
    gateway: &Gateway,
    headers: &HeaderMap,
    model: Option<String>,
    asked: Result<A, ApiError>,
    say: impl FnOnce(Form, &[OfferedModel], A) -> Result<Value, ApiError>,
) -> Response {
    let (form, mut asker) = (Form::asked(headers), Asker { model, ..Asker::default() });
    let said = match asked {
        Ok(asked) => {
            let models = offered(gateway, headers, &mut asker).await;
            models.and_then(|models| say(form, &models, asked))
        }
        Err(error) => Err(error),
    };
    match said {
        Ok(said) => Json(said).into_response(),
        Err(error) => form.show(error.asked_by(asker)),
    }
}

/// The model of an id, which requests may also write with its provider before it.
fn named<'a>(models: &'a [OfferedModel], id: &str) -> Option<&'a OfferedModel> {
    let is_meant = |model: &&OfferedModel| {
        let (provider, rest) = id.split_once('/').unwrap_or_default();
        model.provider.eq_ignore_ascii_case(provider) && model.model.as_str() == rest
    };
    models.iter().find(|model| model.id == id).or_else(|| models.iter().find(is_meant))
}

async fn offered(
    gateway: &Gateway,
    headers: &HeaderMap,
    asker: &mut Asker,
) -> Result<Vec<OfferedModel>, ApiError> {
    let access = super::access(gateway, headers, asker).await?;
    let audience = match &access {
        Access::Forwarding => Audience::Anybody,
        Access::Bound(user) => Audience::User(user),
    };
    gateway.meter.models(audience).await.map_err(|error| ApiError::of_meter(error, gateway.contact()))
}

fn list(form: Form, models: &[OfferedModel], page: &Page) -> Value {
    let all = |models: &[OfferedModel]| models.iter().map(|model| shown(form, model)).collect::<Vec<_>>();
    if form == Form::OpenAi {
        return json!({"object": "list", "data": all(models)});
    }
    let place = |id: &Option<String>| models.iter().position(|model| Some(&model.id) == id.as_ref());
    let most = page.limit.unwrap_or(PAGE).clamp(1, LARGEST_PAGE);
    let (begin, end, has_more) = match place(&page.before_id) {
        Some(end) => {
            let begin = end.saturating_sub(most);
            (begin, end, begin > 0)
        }
        None => {
            let begin = place(&page.after_id).map_or(0, |last| last + 1);
            let end = models.len().min(begin + most);
            (begin, end, end < models.len())
        }
    };
    let part = &models[begin..end];
    let id = |model: Option<&OfferedModel>| model.map(|model| model.id.clone());
    json!({"data": all(part), "has_more": has_more, "first_id": id(part.first()), "last_id": id(part.last())})
}

fn shown(form: Form, model: &OfferedModel) -> Value {
    let OfferedModel { id, provider, name, .. } = model;
    match form {
        Form::OpenAi => {
            json!({"id": id, "object": "model", "created": 0, "owned_by": provider, "name": name})
        }
        // Of a model whose day is not known, the API says this one as well.
        Form::Anthropic => {
            json!({"type": "model", "id": id, "display_name": name, "created_at": "1970-01-01T00:00:00Z"})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anthropics_list_comes_in_pages() {
        let models: Vec<OfferedModel> = (0..45)
            .map(|number| OfferedModel {
                id: format!("m{number}"),
                provider: "p".into(),
                model: accounting::ModelId::new("m").unwrap(),
                name: "M".into(),
            })
            .collect();
        let ids = |page: Page| {
            let page = list(Form::Anthropic, &models, &page);
            let count = page["data"].as_array().unwrap().len();
            let id = |name: &str| page[name].as_str().unwrap_or("none").to_owned();
            (count, id("first_id"), id("last_id"), page["has_more"].as_bool().unwrap())
        };
        let page = |limit, after: Option<&str>, before: Option<&str>| Page {
            limit,
            after_id: after.map(Into::into),
            before_id: before.map(Into::into),
        };
        for (asked, count, first, last, has_more) in [
            (page(None, None, None), 20, "m0", "m19", true),
            (page(Some(1000), None, None), 45, "m0", "m44", false),
            (page(Some(0), None, None), 1, "m0", "m0", true),
            (page(None, Some("m39"), None), 5, "m40", "m44", false),
            (page(None, Some("m44"), None), 0, "none", "none", false),
            (page(Some(5), None, Some("m3")), 3, "m0", "m2", false),
            (page(Some(5), None, Some("m10")), 5, "m5", "m9", true),
            (page(None, Some("gone"), None), 20, "m0", "m19", true),
        ] {
            assert_eq!(ids(asked), (count, first.into(), last.into(), has_more));
        }
    }
}
