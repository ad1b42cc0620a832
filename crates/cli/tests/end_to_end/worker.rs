//! The private gateway as a process: its parent's part is played by the test.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdin, Stdio};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use testing::databases::TestDatabase;
use testing::each_database;
use testing::simulator::Simulator;
use tokio::net::UnixStream;

use crate::process::{Place, program, text};

const KEY: &str = "0123456789abcdef";

/// A private gateway and its parent's end of the pipe.
struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    socket: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

/// A folder of its owner alone.
fn private_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

fn spawn(place: &Place, greeting: &Value) -> (Child, ChildStdin) {
    let mut command = program(place.folder.path(), &place.environment);
    command.arg("worker").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{greeting}").unwrap();
    (child, stdin)
}

impl Worker {
    fn start(place: &Place) -> Self {
        let folder = private_folder();
        let socket = folder.path().join("gateway.sock");
        let (mut child, stdin) = spawn(place, &json!({"socket": socket, "key": KEY}));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), format!("listening on unix:{}", socket.display()));
        Self { child, stdin: Some(stdin), socket, _folder: folder }
    }

    async fn send(
        &self,
        server: &Value,
        user: &str,
        body: Value,
        headers: &[(&str, &str)],
    ) -> Response<Incoming> {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "ends with its connection")]
        tokio::spawn(connection);
        let mut request = Request::post("/v1/chat/completions")
            .header("host", "localhost")
            .header("authorization", format!("Bearer {KEY}"))
            .header("x-openwebui-user-id", user)
            .header("x-tracking-server", server.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_string()))).unwrap();
        sender.send_request(request).await.unwrap()
    }

    /// The parent's end of the pipe closes, as when it dies.
    fn parent_dies(&mut self) {
        drop(self.stdin.take());
    }

    fn ended(mut self) {
        assert!(self.child.wait().unwrap().success());
        assert!(!self.socket.exists());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn server(simulator: &Simulator) -> Value {
    json!({"name": "OpenAI", "kind": "openai", "base_url": simulator.base_url(), "api_key": "provider-key"})
}

fn chat(directive: &str) -> Value {
    json!({"model": "gpt-test", "stream": true, "messages": [{"role": "user", "content": format!("one two {directive}")}]})
}

each_database!(it_serves_the_server_of_each_request_and_ends_with_its_parent, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[]).await;
    let mut worker = Worker::start(&place);
    let name = [("x-openwebui-user-name", "J%C3%B6rg"), ("x-tracking-model", "M%C3%BCller")];
    let answer = worker.send(&server(&simulator), "u1", chat("[[sim input=1000 output=500]]"), &name).await;
    assert_eq!(answer.status(), 200);
    let request = answer.headers()["x-tracking-request"].to_str().unwrap().to_owned();
    assert!(text(answer).await.contains("\"credits\":2"));
    let ids =
        place.texts("SELECT id FROM {ledger} WHERE way_in = 'pipe' AND workspace_model = 'Müller'").await;
    assert_eq!(ids, [request]);

    // A limit of the caller's own holds for that request alone.
    let limit = [("x-tracking-limit", "2.5")];
    let limited = worker.send(&server(&simulator), "u1", chat("[[sim input=1000 output=500]]"), &limit).await;
    assert_eq!(limited.status(), 402);

    // A stream that is under way when the parent dies is settled before the end.
    let stream = worker.send(&server(&simulator), "u2", chat("[[sim output=1000 delay=20]]"), &[]).await;
    let mut body = stream.into_body();
    body.frame().await.unwrap().unwrap();
    worker.parent_dies();
    drop(body);
    worker.ended();
    place.assert_clean().await;
    assert_eq!(place.texts("SELECT outcome FROM {ledger} WHERE user_id = 'u2'").await, ["client_gone"]);
});

each_database!(killed_it_leaves_holds_that_the_next_one_settles, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[]).await;
    let mut worker = Worker::start(&place);
    let stream = worker.send(&server(&simulator), "u1", chat("[[sim output=1000 delay=20]]"), &[]).await;
    let mut body = stream.into_body();
    body.frame().await.unwrap().unwrap();
    worker.child.kill().unwrap();
    worker.child.wait().unwrap();
    let mut next = Worker::start(&place);
    place.assert_clean().await;
    assert_eq!(
        place.number("SELECT COUNT(*) FROM {ledger} WHERE outcome = 'recovered' AND charge > 0").await,
        1
    );
    next.parent_dies();
    next.ended();
});

/// What one says that starts and ends: it may have taken a database over.
pub fn once(folder: &std::path::Path, environment: &[(&'static str, String)]) -> String {
    let mut command = program(folder, environment);
    command.arg("worker").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{}", json!({"listen": "127.0.0.1:0", "key": KEY})).unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    line
}

/// What one says on its standard output that can't start.
pub fn refused(folder: &std::path::Path, environment: &[(&'static str, String)]) -> String {
    let mut command = program(folder, environment);
    command.arg("worker").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", json!({"listen": "127.0.0.1:0", "key": KEY})).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(!done.status.success());
    String::from_utf8(done.stdout).unwrap()
}

/// What the process says when it can't start.
pub fn refusal(place: &Place, greeting: &Value) -> String {
    let (mut child, _stdin) = spawn(place, greeting);
    let (mut said, mut error) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert!(!child.wait().unwrap().success() && said.is_empty());
    error
}

each_database!(what_is_in_its_way_is_said, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[]).await;
    let open = tempfile::tempdir().unwrap();
    std::fs::set_permissions(open.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for (greeting, says) in [
        (json!({"socket": open.path().join("s"), "key": KEY}), "mode 0700"),
        (json!({"listen": "0.0.0.0:0", "key": KEY}), "loopback only"),
        (json!({"listen": "127.0.0.1:0", "key": "short"}), "too short"),
        (json!({"key": KEY}), "must name either"),
        (json!("hello"), "owui-token-tracking serve"),
    ] {
        let error = refusal(&place, &greeting);
        assert!(error.starts_with("error: ") && error.contains(says), "{greeting}: {error}");
    }
});

each_database!(a_database_of_the_original_is_brought_up_to_date, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let database = test.open().await.unwrap();
    let folder = private_folder();
    let environment = test.environment().to_vec();
    let place = Place { folder, environment, database };
    let greeting = json!({"listen": "127.0.0.1:0", "key": KEY});
    assert!(refusal(&place, &greeting).contains("owui-token-tracking init"));
    // As the original leaves it: its tables, a setting, a price, usage; none of ours.
    storage::migrate::migrate(&place.database).await.unwrap();
    place.ok(&["database", "downgrade", "--export", "nothing.jsonl", "--yes"]);
    assert!(place.run(&["balance"]).status.code() == Some(1));
    let (settings, prices) = (
        place.database.table("token_tracking_base_settings"),
        place.database.table("token_tracking_model_pricing"),
    );
    let sql = format!(
        "INSERT INTO {settings} VALUES ('base_credit_allowance', '7', ''); \
         INSERT INTO {prices} VALUES ('gpt-test', 'openai', 'Test', 1000, 1000000, 2000, 1000000); \
         INSERT INTO {log} (log_date, user_id, provider, model_id, prompt_tokens, response_tokens) \
         VALUES ({now}, 'u1', 'openai', 'gpt-test', 1000, 0)",
        now = match place.database.kind() {
            storage::Kind::Sqlite => "datetime('now', 'localtime')",
            storage::Kind::Postgres => "CURRENT_TIMESTAMP",
        },
        log = place.database.table("token_tracking_usage_log")
    );
    place.database.run(sql).await.unwrap();
    let mut worker = Worker::start(&place);
    let answer = worker.send(&server(&simulator), "u1", chat("[[sim input=1000 output=500]]"), &[]).await;
    let answer = text(answer).await;
    assert!(answer.contains("\"credits\":2") && answer.contains("\"credits_remaining\":4"), "{answer}");
    worker.parent_dies();
    worker.ended();
});
