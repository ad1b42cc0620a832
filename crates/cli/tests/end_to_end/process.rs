//! A gateway as a process, a client for it, and a look into its database.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use storage::Database;
use testing::clock::early_zone;
use testing::databases::TestDatabase;
use testing::simulator::Simulator;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_owui-token-tracking");
const LOOK: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a configuration, and the variables that name the database.
pub struct Place {
    pub folder: tempfile::TempDir,
    pub environment: Vec<(&'static str, String)>,
    pub database: Database,
}

/// A gateway as a process; killed when dropped.
pub struct GatewayProcess {
    child: Child,
    pub url: String,
}

/// A client without a pool: a new connection for each request, because gateways come and go.
pub struct HttpClient(Client<HttpConnector, Full<Bytes>>);

impl Place {
    /// An initialised database and a configuration for the simulated model server.
    pub async fn new(test: &TestDatabase, simulator: &Simulator, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = test.open().await.unwrap();
        let place = Self { folder, environment: test.environment().to_vec(), database };
        let models = json!([{
            "id": "gpt-test", "provider": "openai", "name": "Test", "input_cost_credits": 1000,
            "output_cost_credits": 2000, "max_output_tokens": 100_000
        }]);
        std::fs::write(place.file("models.json"), models.to_string()).unwrap();
        place.ok(&["init", "--model-json", place.file("models.json").to_str().unwrap()]);
        if settings.iter().all(|(key, _)| *key != "timezone") {
            place.ok(&["settings", "set", "timezone", &early_zone()]);
        }
        for (key, value) in settings {
            place.ok(&["settings", "set", key, value]);
        }
        let config = format!(
            "[gateway]\nlisten = \"127.0.0.1:0\"\nkey = \"k\"\nrequests_per_user = 1000\ndrain = 10\n\n\
             [[provider]]\nname = \"openai\"\nkind = \"openai\"\nbase_url = \"{}\"\napi_key = \"provider-key\"\n",
            simulator.base_url()
        );
        std::fs::write(place.file("config.toml"), config).unwrap();
        place
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command of ours.
    pub fn run(&self, arguments: &[&str]) -> Output {
        run(self.folder.path(), &self.environment, arguments)
    }

    /// Runs one that must work.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts a gateway.
    pub fn serve(&self) -> GatewayProcess {
        let mut command = program(self.folder.path(), &self.environment);
        command.args(["serve", "--config", "config.toml"]);
        GatewayProcess::start(command)
    }

    /// A number from the database.
    pub async fn number(&self, sql: &str) -> i64 {
        self.try_number(sql).await.unwrap()
    }

    async fn try_number(&self, sql: &str) -> sqlx::Result<i64> {
        let sql = self.qualified(sql);
        storage::on_pool!(self.database, pool => {
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(pool).await
        })
    }

    /// All values of a column of text.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        let sql = self.qualified(sql);
        storage::on_pool!(self.database, pool => {
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(pool).await.unwrap()
        })
    }

    /// Waits until a number in the database is as it should be, whether or not the database answers at first.
    pub async fn until(&self, sql: &str, fits: impl Fn(i64) -> bool) {
        let mut looks = tokio::time::interval(LOOK);
        let waiting = async {
            while !self.try_number(sql).await.is_ok_and(&fits) {
                looks.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never came true: {sql}"));
    }

    /// The books are right, and nothing is held any more.
    pub async fn assert_clean(&self) {
        self.until("SELECT COUNT(*) FROM {hold}", |holds| holds == 0).await;
        let report = self.run(&["verify"]);
        assert!(report.status.success(), "{}", String::from_utf8_lossy(&report.stdout));
    }

    /// `{name}` stands for our table of that name.
    pub fn qualified(&self, sql: &str) -> String {
        ["ledger", "hold", "owner", "account", "base_settings", "refusal", "rollup_day", "price"].iter().fold(
            sql.to_owned(),
            |sql, name| {
                sql.replace(&format!("{{{name}}}"), &self.database.table(&format!("token_tracking_{name}")))
            },
        )
    }
}

/// A pause whose length is what a test is about: how long an outage lasts, or when a kill comes. Whoever waits for something
/// waits for the thing itself.
pub async fn pause(length: Duration) {
    tokio::time::sleep(length).await;
}

/// A command of ours, with no variables but those given.
pub fn program(folder: &Path, environment: &[(&'static str, String)]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.current_dir(folder).env_clear().envs(environment.iter().map(|(name, value)| (*name, value)));
    command
}

pub fn run(folder: &Path, environment: &[(&'static str, String)], arguments: &[&str]) -> Output {
    program(folder, environment).args(arguments).stdin(Stdio::null()).output().unwrap()
}

impl GatewayProcess {
    pub fn start(command: Command) -> Self {
        Self::logging(command, Stdio::null())
    }

    /// The same, with its log there.
    pub fn logging(mut command: Command, log: impl Into<Stdio>) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(log).stdin(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = loop {
            let line = lines.next().expect("the gateway says where it listens").unwrap();
            if let Some((_, url)) = line.split_once("listening on ") {
                break url.to_owned();
            }
        };
        Self { child, url }
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn id(&self) -> String {
        self.child.id().to_string()
    }

    pub fn signal(&self, name: &str) {
        let done = Command::new("kill").args([&format!("-{name}"), &self.id()]).status().unwrap();
        assert!(done.success());
    }

    /// Ends it as a supervisor does.
    pub fn terminate(self) {
        self.signal("TERM");
        self.ended();
    }

    /// Waits for the end that it was asked for.
    pub fn ended(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for GatewayProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl HttpClient {
    pub fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(HttpConnector::new()))
    }

    /// Sends a chat; `None` if there was no answer.
    pub async fn send(
        &self,
        url: &str,
        user: &str,
        chat: &str,
        directive: &str,
    ) -> Option<Response<Incoming>> {
        self.stream(url, "gpt-test", user, chat, directive).await
    }

    /// The same of that model.
    pub async fn stream(
        &self,
        url: &str,
        model: &str,
        user: &str,
        chat: &str,
        directive: &str,
    ) -> Option<Response<Incoming>> {
        let body = json!({
            "model": model, "stream": true, "messages": [{"role": "user", "content": format!("{directive} id={chat}")}]
        });
        let request = Request::post(format!("{url}/v1/chat/completions"))
            .header("authorization", "Bearer k")
            .header("x-openwebui-user-id", user)
            .header("x-openwebui-chat-id", chat)
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        self.0.request(request).await.ok()
    }

    /// Sends those bytes for the user of that number; the status, or `None` where the connection ended before it: a body that
    /// is refused while it comes is not read to its end.
    pub async fn post(&self, url: &str, user: usize, body: Bytes) -> Option<u16> {
        let request = Request::post(url)
            .header("authorization", "Bearer k")
            .header("x-openwebui-user-id", format!("user-{user}"))
            .body(Full::new(body))
            .unwrap();
        let response = self.0.request(request).await.ok()?;
        let status = response.status().as_u16();
        text(response).await;
        Some(status)
    }

    /// What is at that address; the status and the text.
    pub async fn get(&self, url: &str) -> (u16, String) {
        let response = self.0.request(Request::get(url).body(Full::default()).unwrap()).await.unwrap();
        (response.status().as_u16(), text(response).await)
    }

    /// Sends that body as a chat; the status and the text.
    pub async fn chat(&self, url: &str, user: &str, body: &Value) -> (u16, String) {
        let request = Request::post(format!("{url}/v1/chat/completions"))
            .header("authorization", "Bearer k")
            .header("x-openwebui-user-id", user)
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        let response = self.0.request(request).await.unwrap();
        (response.status().as_u16(), text(response).await)
    }

    /// Sends that body with a key; the status and the text.
    pub async fn with_key(&self, url: &str, key: &str, body: &Value) -> (u16, String) {
        let request = Request::post(url)
            .header("authorization", format!("Bearer {key}"))
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        let response = self.0.request(request).await.unwrap();
        (response.status().as_u16(), text(response).await)
    }

    /// What is at an address, without a key.
    pub async fn look(&self, url: &str) -> (u16, String) {
        let request = Request::get(url).body(Full::default()).unwrap();
        let response = self.0.request(request).await.unwrap();
        (response.status().as_u16(), text(response).await)
    }

    /// Waits until that address answers with that status; the text.
    pub async fn until(&self, url: &str, status: u16) -> String {
        let mut looks = tokio::time::interval(LOOK);
        let waiting = async {
            loop {
                looks.tick().await;
                let (found, text) = self.get(url).await;
                if found == status {
                    return text;
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never {status}: {url}"))
    }

    /// Sends a chat and reads its answer to the end; the status and the text, as far as they came.
    pub async fn ask(&self, url: &str, user: &str, chat: &str, directive: &str) -> (u16, String) {
        match self.send(url, user, chat, directive).await {
            Some(response) => {
                let status = response.status().as_u16();
                (status, text(response).await)
            }
            None => (0, String::new()),
        }
    }
}

/// What comes of an answer until it ends or breaks off.
pub async fn text(response: Response<Incoming>) -> String {
    let mut body = response.into_body();
    let mut text = String::new();
    while let Some(Ok(frame)) = body.frame().await {
        text.push_str(&String::from_utf8_lossy(frame.data_ref().map(AsRef::as_ref).unwrap_or_default()));
    }
    text
}

/// The chat that a request to the model server belongs to.
pub fn chat_of(body: &Value) -> String {
    let content = body["messages"][0]["content"].as_str().unwrap();
    content.split_once("id=").unwrap().1.to_owned()
}
