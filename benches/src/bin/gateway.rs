//! The gateway: direct to a model server, through a plain pass-through of the same HTTP stack, and through the gateway with
//! tracking on SQLite and on PostgreSQL. The model server and the clients are in this process, the others are processes.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark prints, and stops when something is wrong"
)]
#![expect(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "ratios of measurements, no money")]

use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::post;
use benches::{Measured, machine, short, table, wanted};
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use testing::databases::TestDatabase;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

const RUN: Duration = Duration::from_secs(4);
const WARM_UP: Duration = Duration::from_secs(1);
const CHUNKS: usize = 100;
const OPEN_STREAMS: usize = 1000;

/// Something to send requests to.
struct Target {
    name: &'static str,
    url: String,
    process: Option<Process>,
}

struct Process(Child);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run());
}

async fn run() {
    println!("Machine: {}\n", machine());
    let tracker = TaskTracker::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/v1/chat/completions", post(answer));
    let listener = axum::serve::ListenerExt::tap_io(listener, |io| drop(io.set_nodelay(true)));
    tracker.spawn(async move { axum::serve(listener, router).await });

    let folder = tempfile::tempdir().unwrap();
    let mut targets = vec![
        Target { name: "direct", url: server.clone(), process: None },
        start("pass-through", Command::new(program("passthrough")).arg(&server)),
    ];
    let mut databases = Vec::new();
    if wanted("sqlite") {
        let sqlite = TestDatabase::sqlite().await.unwrap();
        targets.push(gateway("gateway on SQLite", &sqlite, &server, folder.path()));
        databases.push(sqlite);
    }
    if wanted("postgres") {
        let postgres = TestDatabase::postgres().await.unwrap();
        targets.push(gateway("gateway on PostgreSQL", &postgres, &server, folder.path()));
        databases.push(postgres);
    }
    for (part, what, streamed) in
        [("whole", "Whole answers", false), ("streams", "Streams of 100 chunks", true)]
    {
        if !wanted(part) {
            continue;
        }
        let mut shown = table(&[
            "way",
            "1 client: p50 ms",
            "p99 ms",
            "added to direct, ms",
            "64 clients: requests/s",
            "p50 ms",
            "p99 ms",
            "of pass-through",
            "CPU µs/request",
            "memory MiB",
        ]);
        let (mut direct, mut pass) = (0.0, 0.0);
        for target in &targets {
            load(target, 1, streamed, WARM_UP).await;
            let mut one = load(target, 1, streamed, RUN).await;
            load(target, 64, streamed, WARM_UP).await;
            let before = target.cpu();
            let mut many = load(target, 64, streamed, RUN).await;
            let cpu = target.cpu() - before;
            let median = one.percentile(50);
            if target.name == "direct" {
                direct = median;
            }
            let rate = many.rate(1);
            if target.name == "pass-through" {
                pass = rate;
            }
            let of_pass = if pass > 0.0 { format!("{:.0} %", 100.0 * rate / pass) } else { String::new() };
            let (cpu, memory) = match &target.process {
                Some(_) => {
                    (short(cpu * 1e6 / many.latencies.len() as f64), format!("{:.0}", target.memory()))
                }
                None => (String::new(), String::new()),
            };
            shown.add_row([
                target.name.to_owned(),
                short(median),
                short(one.percentile(99)),
                short((median - direct).max(0.0)),
                short(rate),
                short(many.percentile(50)),
                short(many.percentile(99)),
                of_pass,
                cpu,
                memory,
            ]);
        }
        println!("{what}:\n\n{shown}\n");
    }
    for target in targets.iter().skip(2).filter(|_| wanted("memory")) {
        let memory = open_streams(target).await;
        println!("{}: {memory:.0} MiB of resident memory during {OPEN_STREAMS} open streams", target.name);
    }
}

/// Answers as OpenAI does: one JSON, or chunks that are each a frame of their own; `slow` ones are seconds apart.
async fn answer(body: Bytes) -> Response {
    let (streamed, slow) = (find(&body, b"\"stream\":true"), find(&body, b"slow"));
    let usage = json!({"prompt_tokens": 20, "completion_tokens": 100, "total_tokens": 120});
    if !streamed {
        let choice = json!({"index": 0, "message": {"role": "assistant", "content": "word ".repeat(100)}, "finish_reason": "stop"});
        let answer = json!({"id": "x", "object": "chat.completion", "created": 1, "model": "gpt-4o", "choices": [choice], "usage": usage});
        return json_response(answer.to_string());
    }
    let chunk = |choices: serde_json::Value, usage: serde_json::Value| {
        let chunk = json!({"id": "chatcmpl-0123456789", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o", "choices": choices, "usage": usage});
        Bytes::from(format!("data: {chunk}\n\n"))
    };
    let word =
        chunk(json!([{"index": 0, "delta": {"content": " word"}, "finish_reason": null}]), json!(null));
    let finish = chunk(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]), json!(null));
    let end = [finish, chunk(json!([]), usage), Bytes::from_static(b"data: [DONE]\n\n")];
    let frames =
        stream::iter((0..CHUNKS).map(move |_| word.clone()).chain(end)).then(move |frame| async move {
            if slow {
                tokio::time::sleep(Duration::from_secs(2)).await;
            } else {
                // Each chunk goes to the connection by itself, as from a real server.
                tokio::task::yield_now().await;
            }
            Ok::<_, Infallible>(frame)
        });
    let mut response = Response::new(Body::from_stream(frames));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("text/event-stream"));
    response
}

fn json_response(text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

fn find(body: &[u8], what: &[u8]) -> bool {
    body.windows(what.len()).any(|window| window == what)
}

fn request(url: &str, user: usize, streamed: bool, slow: bool) -> Request<Full<Bytes>> {
    let text = if slow { "slow" } else { "Tell me something about the history of Bern, in a hundred words." };
    let body =
        json!({"model": "gpt-4o", "stream": streamed, "messages": [{"role": "user", "content": text}]})
            .to_string();
    Request::post(format!("{url}/v1/chat/completions"))
        .header("authorization", "Bearer k")
        .header("content-type", "application/json")
        .header("x-openwebui-user-id", format!("user-{user}"))
        .body(Full::new(Bytes::from(body)))
        .unwrap()
}

async fn load(target: &Target, clients: usize, streamed: bool, time: Duration) -> Measured {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let began = Instant::now();
    let tracker = TaskTracker::new();
    let all = join_all((0..clients).map(|user| {
        let (client, url) = (client.clone(), target.url.clone());
        tracker.spawn(async move {
            let mut latencies = Vec::new();
            while began.elapsed() < time {
                let start = Instant::now();
                let response = client.request(request(&url, user, streamed, false)).await.unwrap();
                assert!(response.status().is_success(), "status {}", response.status());
                let body = response.into_body().collect().await.unwrap().to_bytes();
                assert!(!streamed || body.ends_with(b"[DONE]\n\n"));
                latencies.push(start.elapsed());
            }
            latencies
        })
    }))
    .await;
    let took = began.elapsed();
    Measured { latencies: all.into_iter().flat_map(Result::unwrap).collect(), took }
}

/// Resident memory in MiB while many streams are open.
async fn open_streams(target: &Target) -> f64 {
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let open = join_all((0..OPEN_STREAMS).map(|user| {
        let (client, request) = (client.clone(), request(&target.url, user, true, true));
        async move {
            let mut response = client.request(request).await.unwrap();
            assert!(response.status().is_success());
            response.body_mut().frame().await.unwrap().unwrap();
            response
        }
    }))
    .await;
    let memory = target.memory();
    drop(open);
    memory
}

fn program(name: &str) -> PathBuf {
    std::env::current_exe().unwrap().with_file_name(name)
}

fn start(name: &'static str, command: &mut Command) -> Target {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    let url = line.strip_prefix("listening on ").expect("an address").to_owned();
    Target { name, url, process: Some(Process(child)) }
}

fn gateway(name: &'static str, test: &TestDatabase, server: &str, folder: &std::path::Path) -> Target {
    let config = folder.join(format!("{}.toml", name.replace(' ', "-")));
    let text = format!(
        "[gateway]\nlisten = \"127.0.0.1:0\"\nkey = \"k\"\nrequests_per_user = 2000\n\n\
         [[provider]]\nname = \"openai\"\nkind = \"openai\"\nbase_url = \"{server}/v1\"\napi_key = \"x\"\n"
    );
    std::fs::write(&config, text).unwrap();
    let command = || {
        let mut command = Command::new(program("owui-token-tracking"));
        command.envs(test.environment().iter().map(|(name, value)| (*name, value)));
        command
    };
    for arguments in [vec!["init"], vec!["settings", "set", "base_credit_allowance", "1000000000"]] {
        assert!(command().args(arguments).stdout(Stdio::null()).status().unwrap().success());
    }
    start(name, command().args(["serve", "--config"]).arg(config))
}

impl Target {
    /// CPU seconds of the process so far.
    fn cpu(&self) -> f64 {
        let Some(Process(child)) = &self.process else { return 0.0 };
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        // User and system time, in hundredths of a second.
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }

    /// Resident memory of the process in MiB.
    fn memory(&self) -> f64 {
        let Some(Process(child)) = &self.process else { return 0.0 };
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
