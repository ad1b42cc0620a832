//! What became of requests, told over HTTP to tests in other languages.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use serde_json::{Value, json};

use super::{Book, Fate};

/// The requests so far whose bodies have the text `containing`; all without.
pub(super) async fn received(
    State(book): State<Arc<Book>>,
    Query(query): Query<HashMap<String, String>>,
) -> Json<Value> {
    let text = query.get("containing").map_or("", String::as_str);
    let all = book.all();
    let found = all.iter().filter(|one| one.body.to_string().contains(text));
    let told = found.map(|one| {
        let fate = match one.fate {
            Fate::Running => "running",
            Fate::Answered => "answered",
            Fate::Cancelled => "cancelled",
        };
        json!({"path": one.path, "body": one.body, "produced": one.produced, "fate": fate})
    });
    Json(told.collect())
}
