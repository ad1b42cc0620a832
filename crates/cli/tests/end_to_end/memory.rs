//! What requests take of the real executable: memory, bounded for one, bounded for all, and given back; and files.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::json;
use testing::databases::TestDatabase;
use testing::each_database;
use testing::simulator::Simulator;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::task::TaskTracker;

use crate::process::{GatewayProcess, HttpClient, PROGRAM, Place};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const BODY_LIMIT: u64 = 4 * MIB;
const BYTES_IN_FLIGHT: u64 = 32 * MIB;

/// A model server that reads any body without keeping it. It tells no usage if the body begins with `count`; a first field
/// such as `v004` asks for vectors of 4 MiB, `c004` for a whole chat, `s004` for a streamed one, and `l004` for one with an event
/// of so many bytes in lines without data.
async fn model_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    TaskTracker::new().spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            TaskTracker::new().spawn(serve(stream));
        }
    });
    url
}

async fn serve(stream: TcpStream) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut length, mut line) = (0_u64, String::new());
        while stream.read_line(&mut line).await.ok()? > 2 {
            if let Some(said) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = said.trim().parse().ok()?;
            }
            line.clear();
        }
        let mut start = [0; 8];
        stream.read_exact(&mut start).await.ok()?;
        tokio::io::copy(&mut (&mut stream).take(length - 8), &mut tokio::io::sink()).await.ok()?;
        let asked = std::str::from_utf8(&start).ok()?;
        if let Some(size) = asked.get(3..6).and_then(|size| size.parse::<usize>().ok()) {
            return large(stream.get_mut(), asked.as_bytes()[2], size * MIB as usize).await;
        }
        let mut answer = json!({"id": "a", "object": "list", "model": "gpt-test", "output": [], "data": [],
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}]});
        if !start.starts_with(b"{\"count") {
            answer["usage"] =
                json!({"prompt_tokens": 1, "completion_tokens": 1, "input_tokens": 1, "output_tokens": 1});
        }
        let body = answer.to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await.ok()?;
    }
}

/// An answer of that kind and so many bytes, made as it is sent.
async fn large(stream: &mut TcpStream, kind: u8, size: usize) -> Option<()> {
    let (kind, start, piece, end) = match kind {
        b'v' => (
            JSON,
            r#"{"object":"list","data":[{"index":0,"embedding":["#.to_owned(),
            "0.1234567,".repeat(1000),
            VECTORS_END,
        ),
        b'c' => (
            JSON,
            r#"{"id":"a","choices":[{"index":0,"finish_reason":"stop","message":{"content":""#.to_owned(),
            "word ".repeat(1000),
            CHAT_END,
        ),
        b's' => (EVENTS, String::new(), chunk(&"word ".repeat(1000)), STREAM_END),
        _ => (EVENTS, chunk("word"), "data:\n".repeat(1000), STREAM_END),
    };
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: {kind}\r\n\r\n{start}");
    stream.write_all(head.as_bytes()).await.ok()?;
    for _ in 0..size / piece.len() {
        stream.write_all(piece.as_bytes()).await.ok()?;
    }
    stream.write_all(end.as_bytes()).await.ok()
}

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
const VECTORS_END: &str = r#"0]}],"usage":{"prompt_tokens":1,"total_tokens":1}}"#;
const CHAT_END: &str = r#""}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
const STREAM_END: &str =
    "\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

fn chunk(text: &str) -> String {
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
}

/// Numbers of `/proc/PID/status`, in bytes: the memory in use, and the most so far.
fn resident(gateway: &GatewayProcess) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.id())).unwrap();
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * KIB
    };
    (number("VmRSS:"), number("VmHWM:"))
}

/// The time that all its threads have computed so far.
fn computed(gateway: &GatewayProcess) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gateway.id())).unwrap();
    let numbers = stat.rsplit_once(')').unwrap().1.split_whitespace();
    let ticks: u64 = numbers.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    // Linux tells it in hundredths of a second.
    Duration::from_millis(ticks * 10)
}

/// From now on, the most is counted anew.
fn forget_the_most(gateway: &GatewayProcess) {
    std::fs::write(format!("/proc/{}/clear_refs", gateway.id()), "5").unwrap();
}

/// Each thread of the runtime keeps a little that it has used once, however large the bodies were.
const ALIKE: u64 = 12 * MIB;

/// Waits until the process has given back what it does not need, for ten seconds at most; how long that took, and what it
/// has then.
async fn given_back(gateway: &GatewayProcess, idle: u64) -> (Duration, u64) {
    let begun = Instant::now();
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    loop {
        looks.tick().await;
        let (now, _) = resident(gateway);
        if now <= idle + ALIKE || begun.elapsed() > Duration::from_secs(10) {
            return (begun.elapsed(), now);
        }
    }
}

/// A gateway with small bounds whose vocabulary is loaded.
async fn gateway(test: &TestDatabase, bytes_in_flight: u64) -> (Place, GatewayProcess) {
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(test, &simulator, &[("base_credit_allowance", "1000000000")]).await;
    let config = std::fs::read_to_string(place.file("config.toml")).unwrap();
    let bounds = format!(
        "drain = 10\nbody_limit = {BODY_LIMIT}\nbytes_in_flight = {bytes_in_flight}\nclient_idle = 5\n"
    );
    let config =
        config.replace("drain = 10\n", &bounds).replace(&simulator.base_url(), &model_server().await);
    std::fs::write(place.file("config.toml"), config).unwrap();
    let gateway = place.serve();
    let (client, small) = (HttpClient::new(), chat("count", "hello"));
    for path in ["chat/completions", "embeddings"] {
        let url = format!("{}/v1/{path}", gateway.url);
        join_all((0..8).map(|number| client.post(&url, number, small.clone()))).await;
    }
    (place, gateway)
}

/// A chat, whose first field is that.
fn chat(first: &str, text: &str) -> Bytes {
    let message = json!({"role": "user", "content": text});
    format!("{{\"{first}\":1,\"model\":\"gpt-test\",\"messages\":[{message}],\"input\":\"x\"}}").into()
}

/// A body that is full of such pieces.
fn full_of(model: &str, piece: &str) -> Bytes {
    let head = format!("{{\"model\":\"{model}\",\"messages\":[],\"input\":[],\"x\":[");
    let times = (BODY_LIMIT as usize - head.len() - 3) / piece.len();
    format!("{head}{}0]}}", piece.repeat(times)).into()
}

each_database!(one_body_takes_at_most_four_times_the_limit, async |test: TestDatabase| {
    let (_place, gateway) = gateway(&test, BYTES_IN_FLIGHT).await;
    let client = HttpClient::new();
    let half = "x".repeat(BODY_LIMIT as usize / 2);
    let most_text = "word ".repeat(BODY_LIMIT as usize / 5 - 100);
    let deep = format!("{}0{},", r#"{"a":"#.repeat(100), "}".repeat(100));
    let texts = vec!["word ".repeat(200); BODY_LIMIT as usize / 1400];
    let bare = vec!["word ".repeat(200); BODY_LIMIT as usize / 1100];
    let messages: Vec<_> = texts[1..].iter().map(|text| json!({"role": "user", "content": text})).collect();
    let numbers = format!("{{\"model\":\"gpt-test\",\"input\":[{}0]}}", "123,".repeat(1_000_000));
    let bodies = [
        ("chat/completions", "numbers", full_of("gpt-test", "0,")),
        ("chat/completions", "no such model", full_of("nonsense", r#"{"":0},"#)),
        ("chat/completions", "objects", full_of("gpt-test", r#"{"":0},"#)),
        ("messages", "lists", full_of("gpt-test", "[],")),
        ("responses", "objects in objects", full_of("gpt-test", &deep)),
        ("chat/completions", "short texts", full_of("gpt-test", "\"a\",")),
        ("chat/completions", "long texts", full_of("gpt-test", &format!("\"{}\",", "y".repeat(1000)))),
        (
            "chat/completions",
            "escapes",
            full_of("gpt-test", &format!("\"{}\",", r"\n\u00e9".repeat(100_000))),
        ),
        ("chat/completions", "one text", chat("told", &most_text)),
        ("chat/completions", "counted", chat("count", &half)),
        ("responses", "messages", format!("{{\"model\":\"gpt-test\",\"input\":{}}}", json!(messages)).into()),
        ("responses", "bare texts", format!("{{\"model\":\"gpt-test\",\"input\":{}}}", json!(bare)).into()),
        ("embeddings", "tokens", numbers.into()),
        ("embeddings", "texts", format!("{{\"model\":\"gpt-test\",\"input\":{}}}", json!(texts)).into()),
    ];
    let (idle, _) = resident(&gateway);
    let mut seen = Vec::new();
    for (path, what, body) in bodies {
        assert!(body.len() as u64 <= BODY_LIMIT, "{what}: {}", body.len());
        // What was freed before is not this body's.
        let (waited, now) = given_back(&gateway, idle).await;
        assert!(now <= idle + ALIKE, "before {what}: idle {idle}, after {waited:?} still {now}; {seen:?}");
        forget_the_most(&gateway);
        let (before, _) = resident(&gateway);
        let status = client.post(&format!("{}/v1/{path}", gateway.url), 0, body).await;
        let taken = resident(&gateway).1.saturating_sub(before);
        seen.push((what, status, taken / KIB));
        let is_ordinary =
            ["one text", "counted", "texts", "bare texts", "messages", "tokens", "long texts", "escapes"]
                .contains(&what);
        assert_eq!(status == Some(200), is_ordinary, "{what}: {status:?}");
        assert!(taken <= 4 * BODY_LIMIT, "{what}: {status:?}, {} KiB; {seen:?}", taken / KIB);
    }
    let (time, now) = given_back(&gateway, idle).await;
    assert!(now <= idle + ALIKE, "idle {idle}, after {time:?} still {now}; {seen:?}");
});

each_database!(all_bodies_take_at_most_half_more_than_their_bound, async |test: TestDatabase| {
    let (_place, gateway) = gateway(&test, BYTES_IN_FLIGHT).await;
    let client = HttpClient::new();
    let (idle, _) = resident(&gateway);
    let body = chat("told", &"word ".repeat(BODY_LIMIT as usize / 5 - 100));
    forget_the_most(&gateway);
    let url = format!("{}/v1/chat/completions", gateway.url);
    let statuses = join_all((0..40).map(|number| client.post(&url, number, body.clone()))).await;
    let taken = resident(&gateway).1.saturating_sub(idle);
    assert!(statuses.iter().all(|status| matches!(status, None | Some(200 | 503))), "{statuses:?}");
    assert!(statuses.contains(&Some(200)), "{statuses:?}");
    assert!(taken <= BYTES_IN_FLIGHT * 3 / 2, "{} KiB, {statuses:?}", taken / KIB);
    let (time, now) = given_back(&gateway, idle).await;
    assert!(now <= idle + ALIKE, "idle {idle}, after {time:?} still {now}");
});

/// A request for an answer of that kind, read to its end, which must not be refused: its length.
async fn ask(gateway: &GatewayProcess, path: &str, user: usize, kind: &str) -> usize {
    let address = gateway.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request(path, user, kind).as_bytes()).await.unwrap();
    let (mut length, mut piece) = (0, vec![0; 64 * 1024]);
    while let Ok(count @ 1..) = stream.read(&mut piece).await {
        let is_refused = length == 0 && !piece.starts_with(b"HTTP/1.1 200");
        assert!(!is_refused, "{kind}: {}", String::from_utf8_lossy(&piece[..count]));
        length += count;
    }
    length
}

fn request(path: &str, user: usize, kind: &str) -> String {
    let message = json!({"role": "user", "content": "hello"});
    let body = format!(
        "{{\"{kind}\":1,\"model\":\"gpt-test\",\"messages\":[{message}],\"input\":\"x\",\"stream\":{}}}",
        kind.starts_with(['s', 'l'])
    );
    format!(
        "POST /v1/{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\nx-openwebui-user-id: user-{user}\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

each_database!(unread_answers_take_at_most_half_more_than_their_bound, async |test: TestDatabase| {
    // The system takes some megabytes of an answer itself, whoever reads it.
    const IN_FLIGHT: u64 = 128 * MIB;
    let (_place, gateway) = gateway(&test, IN_FLIGHT).await;
    let (idle, _) = resident(&gateway);
    forget_the_most(&gateway);
    let begin = |number: usize| {
        let address = gateway.url.strip_prefix("http://").unwrap().parse().unwrap();
        async move {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            let mut stream = socket.connect(address).await.unwrap();
            stream.write_all(request("embeddings", number % 8, "v008").as_bytes()).await.unwrap();
            let mut status = [0; 12];
            stream.read_exact(&mut status).await.unwrap();
            (String::from_utf8_lossy(&status[9..]).into_owned(), stream)
        }
    };
    let begun: Vec<(String, TcpStream)> = join_all((0..40).map(begin)).await;
    let taken = resident(&gateway).1.saturating_sub(idle);
    let statuses: Vec<&str> = begun.iter().map(|(status, _)| status.as_str()).collect();
    assert!(statuses.iter().all(|status| ["200", "503"].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&"200"), "{statuses:?}");
    assert!(taken <= IN_FLIGHT * 3 / 2, "{} KiB, {statuses:?}", taken / KIB);
    drop(begun);
    let (time, now) = given_back(&gateway, idle).await;
    assert!(now <= idle + ALIKE, "idle {idle}, after {time:?} still {now}");
});

each_database!(large_answers_take_at_most_half_more_than_their_bound, async |test: TestDatabase| {
    // Each connection to a model server has its buffer, whatever comes of it.
    const BUFFERS: u64 = 24 * 64 * KIB;
    let (_place, gateway) = gateway(&test, BYTES_IN_FLIGHT).await;
    let (idle, _) = resident(&gateway);
    for (path, kind) in [("chat/completions", "c002"), ("embeddings", "v002")] {
        forget_the_most(&gateway);
        let answers = join_all((0..24).map(|number| ask(&gateway, path, number % 8, kind))).await;
        let taken = resident(&gateway).1.saturating_sub(idle);
        assert!(taken <= BYTES_IN_FLIGHT * 3 / 2 + BUFFERS, "{kind}: {} KiB", taken / KIB);
        for length in answers {
            assert!(length as u64 > 2 * MIB - 64 * KIB, "{kind}: {length}");
        }
        let (time, now) = given_back(&gateway, idle).await;
        assert!(now <= idle + ALIKE, "{kind}: idle {idle}, after {time:?} still {now}");
    }
});

// `STREAMED_MIB` says how much is streamed at most (16 without it; `make nightly`: 800).
each_database!(long_streams_take_linear_time_and_bounded_memory, async |test: TestDatabase| {
    let most = std::env::var("STREAMED_MIB").map_or(16, |most| most.parse::<u64>().unwrap());
    let (place, gateway) = gateway(&test, BYTES_IN_FLIGHT).await;
    let (idle, _) = resident(&gateway);
    // What a thread has used for an event stays with it until it needs it again.
    const LARGEST_EVENT: u64 = 16 * MIB;
    for (what, most, stays) in [('s', most, 0), ('l', most.min(15), LARGEST_EVENT)] {
        let (mut times, mut memory) = (Vec::new(), Vec::new());
        for size in [most / 4, most] {
            forget_the_most(&gateway);
            let before = computed(&gateway);
            let length = ask(&gateway, "chat/completions", 0, &format!("{what}{size:03}")).await;
            assert!(length as u64 > size * MIB - 64 * KIB, "{what}{size}: {length}");
            place.until("SELECT COUNT(*) FROM {hold}", |holds| holds == 0).await;
            times.push(computed(&gateway).saturating_sub(before));
            memory.push(resident(&gateway).1.saturating_sub(idle) / KIB);
        }
        // Four times as much; were it quadratic, it would be sixteen times.
        assert!(times[1] <= 7 * times[0] + Duration::from_secs(1), "{what}: {times:?}");
        assert!(memory.iter().all(|taken| *taken <= 64 * KIB), "{what}: {memory:?}");
        let (time, now) = given_back(&gateway, idle + stays).await;
        assert!(now <= idle + ALIKE + stays, "{what}: idle {idle}, after {time:?} still {now}");
    }
    // What was streamed is counted: a token for each word.
    let words = "SELECT MAX(output_tokens) FROM {ledger}";
    place.until(words, |tokens| tokens.unsigned_abs() >= most * MIB / 6).await;
});

each_database!(idle_connections_do_not_take_the_files_of_others, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[("base_credit_allowance", "1000000")]).await;
    // As many as there are files for; and more than that, so that none are left.
    for (files, keys) in [(400, ""), (150, "connections = 1000\nconnections_per_address = 1000\n")] {
        let config = std::fs::read_to_string(place.file("config.toml")).unwrap();
        let config = config.replace("drain = 10\n", &format!("drain = 10\n{keys}"));
        std::fs::write(place.file("config.toml"), config).unwrap();
        let mut command = std::process::Command::new("/bin/sh");
        let limited = format!("ulimit -n {files}; exec \"$0\" serve --config config.toml");
        command.args(["-c", &limited, PROGRAM]).current_dir(place.folder.path());
        command.env_clear().envs(place.environment.iter().map(|(name, value)| (*name, value)));
        let gateway = GatewayProcess::start(command);
        let address = gateway.url.strip_prefix("http://").unwrap();
        let connect = (0..600).map(|_| async { TcpStream::connect(address).await.ok() });
        let idle = join_all(connect).await;
        let begun = Instant::now();
        let (status, answer) = HttpClient::new().ask(&gateway.url, "ann", "chat", "").await;
        assert_eq!(status, 200, "{files}: {answer}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{files}: {:?}", begun.elapsed());
        drop(idle);
        gateway.terminate();
    }
});
