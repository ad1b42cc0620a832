//! A gateway with its database and a simulated model server, in this process. Asserts at its end that the books are right
//! and nothing is held.

use std::sync::Arc;
use std::time::Duration;

use accounting::{Clock, Credits, ModelId, Price, ProviderName, Rate};
use bytes::Bytes;
use gateway::{Config, Gateway};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use metering::{Meter, MeterOptions};
use providers::{Kind, Network, Provider, ProviderConfig, ProviderOptions, Secret, TimeLimits};
use serde_json::{Value, json};
use storage::admin::prices::{self, NewPrice, Source, Write};
use storage::admin::settings;
use storage::reports::verify::verify;
use storage::{Database, SystemClock};
use testing::clock::early_zone;
use testing::databases::TestDatabase;
use testing::simulator::Simulator;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// Short, so that a server that hangs is found out soon.
pub const SILENCE: Duration = Duration::from_millis(400);

/// The configuration of most tests.
const USUAL: &str =
    "[gateway]\nlisten = \"127.0.0.1:0\"\nkey = \"k\"\nrequests_per_user = 1000\ndrain = 10\n";

pub struct App {
    pub database: Database,
    pub meter: Meter,
    pub simulator: Simulator,
    pub address: String,
    client: Client<HttpConnector, Full<Bytes>>,
    shutdown: DropGuard,
    tasks: TaskTracker,
    _test: TestDatabase,
}

/// A row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Entry {
    pub kind: String,
    pub outcome: String,
    pub estimated: Option<String>,
    pub input_tokens: i64,
    pub output_tokens: i64,
    pub charge: i64,
    pub answered_model: Option<String>,
    pub price_version: Option<i64>,
    pub task: Option<String>,
    pub chat_id: Option<String>,
    pub workspace_model: Option<String>,
    pub over_hold: i64,
    pub adjusted: i64,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The data of its events, without the end.
    pub fn chunks(&self) -> Vec<Value> {
        let data = self.text.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
        data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
    }
}

/// Input costs 1 credit and output 2 for a thousand tokens; `dear` ten times that, `free` nothing.
pub async fn prepare(database: &Database, changes: &[(&str, &str)], clock: &dyn Clock) {
    let price = |model: &str, factor: i64| {
        let rate = |credits: i64| Rate::new(Credits::from_whole(credits * factor).unwrap(), 1000);
        NewPrice {
            provider: ProviderName::new("openai").unwrap(),
            model: ModelId::new(model).unwrap(),
            name: model.into(),
            price: Price::new(rate(1), rate(2)),
            max_output_tokens: Some(16_000),
            context_tokens: None,
        }
    };
    let models = [price("gpt-test", 1), price("dear", 10), price("free", 0)];
    prices::write(database, &models, Write::Add, Source::Administrator, clock.now()).await.unwrap();
    settings::init(database, &settings::initial(), true).await.unwrap();
    let zone = early_zone();
    for (key, value) in [&[("timezone", zone.as_str())], changes].concat() {
        settings::set(database, key, value).await.unwrap();
    }
}

impl App {
    pub async fn start(test: TestDatabase, changes: &[(&str, &str)]) -> Self {
        Self::with(test, changes, &[Kind::OPENAI]).await
    }

    /// One with providers of those kinds, all of them the simulated server.
    pub async fn with(test: TestDatabase, changes: &[(&str, &str)], kinds: &[Kind]) -> Self {
        Self::with_clock(test, changes, kinds, Arc::new(SystemClock)).await
    }

    /// One whose time is that of a clock.
    pub async fn with_clock(
        test: TestDatabase,
        changes: &[(&str, &str)],
        kinds: &[Kind],
        clock: Arc<dyn Clock>,
    ) -> Self {
        let simulator = Simulator::start().await.unwrap();
        Self::build(test, changes, kinds, clock, SILENCE, simulator, USUAL, &[]).await
    }

    /// One that waits for its providers for so long.
    pub async fn patient(
        test: TestDatabase,
        changes: &[(&str, &str)],
        kinds: &[Kind],
        silence: Duration,
    ) -> Self {
        let simulator = Simulator::start().await.unwrap();
        let clock = Arc::new(SystemClock);
        Self::build(test, changes, kinds, clock, silence, simulator, USUAL, &[]).await
    }

    /// One with more in the table `[gateway]`, with model servers before the simulated one, for which it waits long.
    pub async fn with_more(
        test: TestDatabase,
        changes: &[(&str, &str)],
        keys: &str,
        first: &[Provider],
    ) -> Self {
        let (clock, silence) = (Arc::new(SystemClock), Duration::from_secs(30));
        let (simulator, file) = (Simulator::start().await.unwrap(), format!("{USUAL}{keys}"));
        Self::build(test, changes, &[Kind::OPENAI], clock, silence, simulator, &file, first).await
    }

    /// One with that configuration file, and its servers; without any, with the simulated one.
    pub async fn start_with(test: TestDatabase, simulator: Simulator, file: &str) -> Self {
        let clock = Arc::new(SystemClock);
        Self::build(test, &[], &[Kind::OPENAI], clock, SILENCE, simulator, file, &[]).await
    }

    #[expect(clippy::too_many_arguments, reason = "what any of the tests changes")]
    async fn build(
        test: TestDatabase,
        changes: &[(&str, &str)],
        kinds: &[Kind],
        clock: Arc<dyn Clock>,
        silence: Duration,
        simulator: Simulator,
        file: &str,
        first: &[Provider],
    ) -> Self {
        let database = test.migrated().await.unwrap();
        prepare(&database, changes, &*clock).await;
        let provider = |kind: &Kind| {
            let entry = kind.entry();
            Provider::new(ProviderConfig {
                name: ProviderName::new(entry.provider).unwrap(),
                kind: *kind,
                base_url: simulator.base_url_of(entry.name).parse().unwrap(),
                api_key: Some(Secret::new("provider-key")),
                limits: TimeLimits { connect: silence, first_byte: silence, idle: silence },
                options: ProviderOptions::default(),
                network: Network::default(),
            })
            .unwrap()
        };
        let config = Config::read(file, |_| None).unwrap();
        let configured = config.open_providers().unwrap();
        let providers = if configured.is_empty() {
            first.iter().cloned().chain(kinds.iter().map(provider)).collect()
        } else {
            configured
        };
        let config = config.gateway;
        let options = MeterOptions {
            providers,
            clock: Arc::clone(&clock),
            instance: Some("test".into()),
            settle_wait: Duration::from_secs(5),
            head_wait: config.head_wait,
        };
        let meter = Meter::open(&database, options).await.unwrap();
        let listener = TcpListener::bind(config.listen).await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let gateway = Gateway::new(config, meter.clone(), &database, clock, None);
        let tasks = TaskTracker::new();
        tasks.spawn(gateway::serve(listener.into(), None, gateway, shutdown.clone()));
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        let shutdown = shutdown.drop_guard();
        Self { database, meter, simulator, address, client, shutdown, tasks, _test: test }
    }

    /// Sends a chat and returns when the head of its answer has come.
    pub async fn send(&self, user: &str, body: Value) -> Response<Incoming> {
        self.post("/v1/chat/completions", user, body, &[]).await
    }

    pub async fn post(
        &self,
        path: &str,
        user: &str,
        body: Value,
        headers: &[(&str, &str)],
    ) -> Response<Incoming> {
        self.post_bytes(path, user, body.to_string().into(), headers).await
    }

    /// The same with a body that may be anything.
    pub async fn post_bytes(
        &self,
        path: &str,
        user: &str,
        body: Bytes,
        headers: &[(&str, &str)],
    ) -> Response<Incoming> {
        let mut request = Request::post(format!("{}{path}", self.address))
            .header("authorization", "Bearer k")
            .header("x-openwebui-user-id", user)
            .header("x-openwebui-user-email", "user@example.org");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).unwrap();
        self.client.request(request).await.unwrap()
    }

    /// A chat with a key that is bound to a user, read to its end.
    pub async fn ask_with_key(&self, key: &str, body: Value, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::post(format!("{}/v1/chat/completions", self.address))
            .header("authorization", format!("Bearer {key}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_string()))).unwrap();
        read(self.client.request(request).await.unwrap()).await
    }

    /// Any request with that key, read to its end.
    pub async fn call(&self, method: Method, path: &str, key: &str, body: Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.call_text(method, path, key, body).await
    }

    /// The same with a body that may be no JSON.
    pub async fn call_text(&self, method: Method, path: &str, key: &str, body: String) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.address))
            .header("authorization", format!("Bearer {key}"))
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        read(self.client.request(request).await.unwrap()).await
    }

    /// A look at a path without a key, with those headers.
    pub async fn look(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::get(format!("{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(self.client.request(request.body(Full::default()).unwrap()).await.unwrap()).await
    }

    /// A chat with that directive, read to its end.
    pub async fn ask(&self, user: &str, directive: &str, stream: bool) -> Answer {
        read(self.send(user, chat("gpt-test", directive, stream)).await).await
    }

    /// The entries of a user, once nothing is under way.
    pub async fn entries(&self, user: &str) -> Vec<Entry> {
        self.settled().await;
        let sql = format!(
            "SELECT kind, outcome, estimated, input_tokens, output_tokens, charge, answered_model, price_version, task, \
               chat_id, workspace_model, over_hold, adjusted FROM {} WHERE user_id = $1 ORDER BY started_at, kind DESC",
            self.database.table("token_tracking_ledger")
        );
        storage::on_pool!(self.database, pool => {
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(user).fetch_all(pool).await.unwrap()
        })
    }

    /// Waits until what was written into the catalogue's tables is what requests see.
    pub async fn fresh_catalogue(&self) {
        let before = self.meter.catalogue().snapshot().await.unwrap();
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        while std::sync::Arc::ptr_eq(&before, &self.meter.catalogue().snapshot().await.unwrap()) {
            looks.tick().await;
        }
    }

    /// Waits until nothing is under way.
    pub async fn settled(&self) {
        let mut looks = tokio::time::interval(Duration::from_millis(5));
        for _ in 0..4000 {
            if self.meter.under_way() == 0 {
                return;
            }
            looks.tick().await;
        }
        panic!("requests are still under way");
    }

    /// Ends it, and checks the books.
    pub async fn end(self) {
        drop(self.shutdown);
        self.tasks.close();
        self.tasks.wait().await;
        let verification = verify(&self.database).await.unwrap();
        assert_eq!((verification.differences, verification.holds), (vec![], 0));
    }
}

pub fn chat(model: &str, directive: &str, stream: bool) -> Value {
    let text = format!("one two three {directive}");
    json!({"model": model, "messages": [{"role": "user", "content": text}], "stream": stream})
}

pub async fn read(response: Response<Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        text: String::from_utf8_lossy(&bytes).into_owned(),
    }
}
