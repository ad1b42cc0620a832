//! As much of Open WebUI's API as `sponsored publish` and `install` use: the list of models, the rows of workspace models, and
//! Functions that are never there before.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// One administrator's, who has this token.
pub const TOKEN: &str = "sk-administrator";

#[derive(Default)]
pub struct Content {
    /// What connections and pipes offer.
    pub listed: Vec<Value>,
    /// The rows of models, by id.
    pub rows: BTreeMap<String, Value>,
    /// How many changes were asked for.
    pub changes: usize,
}

/// It runs until dropped.
pub struct OpenWebUi {
    pub url: String,
    content: Arc<Mutex<Content>>,
    server: JoinHandle<()>,
}

impl OpenWebUi {
    pub async fn start() -> Self {
        let content = Arc::<Mutex<Content>>::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&content));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        #[expect(clippy::disallowed_methods, reason = "ended with this value")]
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, content, server }
    }

    pub fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap()
    }

    /// Lists models of these ids, as of connections and pipes.
    pub fn list(&self, ids: &[&str]) {
        self.content().listed = ids.iter().map(|id| json!({"id": id, "name": format!("The {id}")})).collect();
    }

    /// The grants to read of a model, such as `user:*`.
    pub fn readers(&self, id: &str) -> Vec<String> {
        let content = self.content();
        let grants = content.rows[id]["access_grants"].as_array().unwrap().iter();
        let text = |grant: &Value, key: &str| grant[key].as_str().unwrap().to_owned();
        let readers = grants.filter(|grant| grant["permission"] == "read");
        readers
            .map(|grant| format!("{}:{}", text(grant, "principal_type"), text(grant, "principal_id")))
            .collect()
    }
}

impl Drop for OpenWebUi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(content): State<Arc<Mutex<Content>>>, request: Request) -> Response {
    let detail = |status: StatusCode, text: &str| (status, Json(json!({"detail": text}))).into_response();
    if request.headers().get("authorization").is_none_or(|token| token != &format!("Bearer {TOKEN}")) {
        return detail(StatusCode::UNAUTHORIZED, "not an administrator");
    }
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1_000_000).await.unwrap();
    let form: Value = serde_json::from_slice(&body).unwrap_or_default();
    let id = form["id"].as_str().unwrap_or_default().to_owned();
    let mut content = content.lock().unwrap();
    content.changes += usize::from(head.method == Method::POST);
    match (head.method, head.uri.path()) {
        (Method::GET, "/api/models") => Json(json!({"data": content.listed})).into_response(),
        (Method::GET, "/api/v1/functions/" | "/api/v1/models/base") => Json(json!([])).into_response(),
        (Method::GET, path) if path.ends_with("/valves") => Json(json!({})).into_response(),
        (Method::POST, path) if path.starts_with("/api/v1/functions/") => {
            Json(json!({"id": id, "is_active": path.ends_with("/toggle"), "is_global": false}))
                .into_response()
        }
        (Method::GET, "/api/v1/models/all") => {
            Json(content.rows.values().cloned().collect::<Vec<_>>()).into_response()
        }
        (Method::POST, "/api/v1/models/create") => {
            // As its form and its table have it.
            if id.is_empty() || id.chars().any(char::is_whitespace) || content.rows.contains_key(&id) {
                return detail(StatusCode::BAD_REQUEST, "no such id, or taken");
            }
            let mut row = form;
            row["user_id"] = "boss".into();
            row["is_active"] = true.into();
            content.rows.insert(id, row.clone());
            Json(row).into_response()
        }
        (Method::POST, "/api/v1/models/model/update") => match content.rows.get_mut(&id) {
            Some(row) => {
                for (key, value) in form.as_object().unwrap() {
                    row[key] = value.clone();
                }
                Json(row.clone()).into_response()
            }
            None => detail(StatusCode::UNAUTHORIZED, "not found"),
        },
        (Method::POST, "/api/v1/models/model/delete") => {
            Json(content.rows.remove(&id).is_some()).into_response()
        }
        (method, path) => detail(StatusCode::NOT_FOUND, &format!("{method} {path}")),
    }
}
