//! What is not there: paths that no route has, and methods that a route does not take. Most such paths come from a base URL
//! with `/v1` where its client adds that itself, or without it where the client does not; the answer says which.

use axum::response::Response;
use http::{HeaderMap, Method, StatusCode, Uri};

use crate::error::ApiError;
use crate::form::Form;
use crate::refused::Asker;

/// What clients add to their base URL, with or without `/v1` before it.
const ROUTES: [&str; 8] = [
    "chat/completions",
    "completions",
    "responses",
    "responses/input_tokens",
    "messages",
    "messages/count_tokens",
    "embeddings",
    "models",
];

/// What clients of Ollama's own API ask first.
const OLLAMAS: [&str; 8] = [
    "/api/chat",
    "/api/generate",
    "/api/tags",
    "/api/embed",
    "/api/embeddings",
    "/api/show",
    "/api/version",
    "/api/ps",
];

pub(crate) async fn not_found(uri: Uri, headers: HeaderMap) -> Response {
    let (path, form) = (uri.path(), Form::near(uri.path(), &headers));
    let message = wrong_base(path, form).unwrap_or_else(|| {
        "There is nothing here. The routes are /v1/chat/completions, /v1/completions, /v1/responses, \
         /v1/responses/input_tokens, /v1/messages, /v1/messages/count_tokens, /v1/embeddings, /v1/models and \
         /v1/models/{id}."
            .into()
    });
    let error = ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", "not_found", message);
    form.show(error.asked_by(Asker::at(path)))
}

pub(crate) async fn not_allowed(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let message = format!("{method} can't be used here; the header `Allow` names what can.");
    let error =
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", "method_not_allowed", message);
    Form::near(uri.path(), &headers).show(error.asked_by(Asker::at(uri.path())))
}

/// What is wrong with the base URL of the client that asked for a path, if that is it.
fn wrong_base(path: &str, form: Form) -> Option<String> {
    if OLLAMAS.contains(&path) {
        return Some(
            "The gateway does not have Ollama's own API, but OpenAI's: use a client of OpenAI's API, with the gateway's \
             address and /v1 as its base URL."
                .into(),
        );
    }
    let (base, route) = divided(path)?;
    if path.trim_end_matches('/') == format!("/v1/{route}") {
        return Some(format!("The route is /v1/{route}, without a slash at its end."));
    }
    let right = match form {
        Form::OpenAi => "a client of OpenAI's API needs the gateway's address with /v1 at its end, once",
        Form::Anthropic => {
            "a client of Anthropic's API needs the gateway's address without /v1, because it adds /v1 itself"
        }
    };
    Some(match base {
        "" if form == Form::Anthropic => format!(
            "The route is /v1/{route}: /v1 is missing. This client does not add it itself, as Anthropic's own clients do; \
             let its base URL be the gateway's address with /v1 at its end."
        ),
        "" => format!("The route is /v1/{route}: /v1 is missing. Correct the base URL: {right}."),
        "/v1" => format!("The route is /v1/{route}: /v1 is there twice. Correct the base URL: {right}."),
        _ => format!("The route is /v1/{route}, without anything before it. Correct the base URL: {right}."),
    })
}

/// The base of a path, without the last `/v1`, and the route that its client means.
fn divided(path: &str) -> Option<(&str, &'static str)> {
    let path = path.trim_end_matches('/');
    // The id of a model may have slashes.
    let path = path.find("/models/").map_or(path, |end| &path[..end + "/models".len()]);
    let ending = |route: &&&str| path.strip_suffix(**route).is_some_and(|before| before.ends_with('/'));
    let route = ROUTES.iter().filter(ending).max_by_key(|route| route.len())?;
    let base = path.strip_suffix(*route)?.trim_end_matches('/');
    Some((base.strip_suffix("/v1").unwrap_or(base).trim_end_matches('/'), route))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_at_the_end_is_named() {
        for path in ["/v1/chat/completions/", "/v1/models//"] {
            assert!(
                wrong_base(path, Form::OpenAi).unwrap().ends_with("without a slash at its end."),
                "{path}"
            );
        }
    }

    #[test]
    fn a_path_tells_what_is_wrong_with_the_base_url() {
        for (path, base, route) in [
            ("/chat/completions", "", "chat/completions"),
            ("/v1/v1/chat/completions", "/v1", "chat/completions"),
            ("/v1/v1/messages", "/v1", "messages"),
            ("/messages/count_tokens", "", "messages/count_tokens"),
            ("/models/openai/gpt-4o", "", "models"),
            ("/v1/v1/models/", "/v1", "models"),
            ("/openai/v1/responses", "/openai", "responses"),
            ("/v1/chat/completions/chat/completions", "/v1/chat/completions", "chat/completions"),
            ("/v1/messages/v1/messages", "/v1/messages", "messages"),
        ] {
            assert_eq!(divided(path), Some((base, route)), "{path}");
        }
        for path in ["/", "/v1", "/v1/images", "/mymodels", "/v1/audio/speech", ""] {
            assert_eq!(divided(path), None, "{path}");
        }
    }
}
