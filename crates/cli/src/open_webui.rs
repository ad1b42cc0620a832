//! Open WebUI's own API, as an administrator uses it.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use url::Url;

/// Open WebUI loads a Function's code when it is created; that can take a while.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes; a list of models with their pictures is long.
const LONGEST: usize = 64 * 1024 * 1024;

/// An Open WebUI with the token of one of its administrators.
pub(crate) struct OpenWebUi {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: Url,
    token: String,
}

impl OpenWebUi {
    pub(crate) fn new(url: &str, token: String) -> anyhow::Result<Self> {
        let base = Url::parse(&format!("{}/", url.trim_end_matches('/')))
            .with_context(|| format!("--url: `{url}` is no address such as http://localhost:8080"))?;
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .context("loading this system's certificates")?
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector), base, token })
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(Method::POST, path, Some(body)).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let url = self.base.join(path).with_context(|| format!("`{path}` below {}", self.base))?;
        let text = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(AUTHORIZATION, format!("Bearer {}", self.token))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(text)))
            .context("the token has characters that no token has")?;
        let answer = async {
            let response = self.client.request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LONGEST).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("reading its answer: {error}"))?.to_bytes();
            anyhow::Ok((status, body))
        };
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        let (status, body) = answer
            .with_context(|| format!("{url} did not answer within {} s", PATIENCE.as_secs()))?
            .with_context(|| format!("asking {url}: does Open WebUI run there?"))?;
        if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
            bail!(
                "Open WebUI does not accept the token for {url}: {}. It must be an API key, or a session token, of an \
                 administrator (Settings, Account)",
                said(&body)
            );
        }
        if !status.is_success() {
            bail!("{url} answered {status}: {}", said(&body));
        }
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).with_context(|| {
            format!("{url} answered with something else than JSON: is this Open WebUI's address?")
        })
    }
}

/// What an error's body says, short.
fn said(body: &[u8]) -> String {
    let detail = serde_json::from_slice::<Value>(body).ok().and_then(|body| {
        body.get("detail").map(|detail| detail.as_str().map_or(detail.to_string(), str::to_owned))
    });
    detail.unwrap_or_else(|| "no reason given".into()).chars().take(300).collect()
}
