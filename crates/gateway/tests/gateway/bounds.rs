//! Nobody takes what others need: bodies that don't come, connections that ask nothing, clients that read nothing, lists of
//! models that hang.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use accounting::ProviderName;
use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::BodyExt;
use providers::{Kind, Provider, ProviderConfig, ProviderOptions, TimeLimits};
use serde_json::{Value, json};
use testing::databases::TestDatabase;
use testing::each_database;
use testing::simulator::Simulator;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::app::{App, chat, read};
use crate::scripted::{Scripted, ScriptedServer};

const SOON: Duration = Duration::from_secs(10);

async fn start(test: TestDatabase, keys: &str) -> App {
    App::with_more(test, &[], keys, &[]).await
}

impl App {
    fn socket(&self) -> &str {
        self.address.strip_prefix("http://").unwrap()
    }

    /// The head of a chat of that user, whose body has that length.
    fn head(&self, user: &str, length: usize) -> String {
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\n\
             x-openwebui-user-id: {user}\r\ncontent-length: {length}\r\n\r\n"
        )
    }
}

each_database!(bodies_that_are_announced_and_do_not_come_shut_nobody_out, async |test: TestDatabase| {
    let app = start(test, "").await;
    let head = app.head("ann", 64 * 1024 * 1024);
    let opened = (0..30).map(|_| async {
        let mut stream = TcpStream::connect(app.socket()).await.unwrap();
        stream.write_all(format!("{head}{{").as_bytes()).await.unwrap();
        stream
    });
    let announced = join_all(opened).await;
    let large = chat("gpt-test", &"word ".repeat(200_000), false);
    assert_eq!(read(app.send("bob", large).await).await.status, 200);
    assert_eq!(app.ask("ann", "", false).await.status, 200);
    drop(announced);
    app.end().await;
});

each_database!(idle_connections_make_room_for_those_who_ask, async |test: TestDatabase| {
    let app = start(test, "connections = 6\nconnections_per_address = 6\n").await;
    let running = app.send("ann", chat("gpt-test", "[[sim output=40 delay=20]]", true)).await;
    let connect = (0..40).map(|_| async { TcpStream::connect(app.socket()).await.unwrap() });
    let idle = join_all(connect).await;
    let answered = timeout(SOON, async { app.ask("bob", "", false).await.status }).await;
    assert_eq!(answered, Ok(200));
    // What is under way is not cut, and all but a few of the others are.
    assert!(read(running).await.text.ends_with("data: [DONE]\n\n"));
    let mut cut = 0;
    for mut stream in idle {
        let ended = timeout(Duration::from_millis(20), stream.read_u8()).await;
        cut += usize::from(ended.is_ok_and(|read| read.is_err()));
    }
    assert!(cut >= 34, "{cut}");
    app.end().await;
});

each_database!(a_client_that_reads_nothing_is_ended, async |test: TestDatabase| {
    let app = start(test, "client_idle = 1\n").await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(app.socket().parse().unwrap()).await.unwrap();
    let body = chat("gpt-test", "[[sim output=60000]]", true).to_string();
    let request = format!("{}{body}", app.head("ann", body.len()));
    stream.write_all(request.as_bytes()).await.unwrap();
    app.simulator.until(|received| received.iter().any(|one| one.produced > 0)).await;
    timeout(SOON, app.settled()).await.unwrap();
    let entries = app.entries("ann").await;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].outcome, "client_gone");
    assert!((1..60_000).contains(&entries[0].output_tokens), "{entries:?}");
    drop(stream);
    app.end().await;
});

each_database!(what_nobody_takes_is_charged_at_the_end_of_the_process, async |test: TestDatabase| {
    let file = "[gateway]\nlisten = \"127.0.0.1:0\"\nkey = \"k\"\ndrain = 1\n";
    let app = App::start_with(test, Simulator::start().await.unwrap(), file).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(app.socket().parse().unwrap()).await.unwrap();
    let body = chat("gpt-test", "[[sim output=60000]]", true).to_string();
    let request = format!("{}{body}", app.head("ann", body.len()));
    stream.write_all(request.as_bytes()).await.unwrap();
    // Nor does one that has not asked yet, and one whose body never ends, hold the end up.
    let mut begun = TcpStream::connect(app.socket()).await.unwrap();
    begun.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nhost: ").await.unwrap();
    let mut unfinished = TcpStream::connect(app.socket()).await.unwrap();
    unfinished.write_all(format!("{}{{", app.head("bob", 1000)).as_bytes()).await.unwrap();
    app.simulator.until(|received| received.iter().any(|one| one.produced > 0)).await;
    let (database, ledger) = (app.database.clone(), app.database.table("token_tracking_ledger"));
    timeout(SOON, app.end()).await.expect("the end waits for a client");
    let sql = format!("SELECT user_id, outcome, charge FROM {ledger}");
    let entries: Vec<(String, String, i64)> = storage::on_pool!(database, pool => {
        sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(pool).await.unwrap()
    });
    let [(user, outcome, charge)] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((user.as_str(), outcome.as_str()), ("ann", "shutdown"));
    assert!(*charge > 0);
    drop((stream, begun, unfinished));
});

/// A model server that takes connections and never answers; how many there were.
async fn hanging_server(name: &str) -> (Provider, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap()).parse().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    TaskTracker::new().spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            kept.push(stream);
        }
    });
    let limit = Duration::from_secs(300);
    let provider = Provider::new(ProviderConfig {
        name: ProviderName::new(name).unwrap(),
        kind: Kind::OPENAI,
        base_url,
        api_key: None,
        limits: TimeLimits { connect: limit, first_byte: limit, idle: limit },
        options: ProviderOptions::default(),
        network: providers::Network::default(),
    });
    (provider.unwrap(), asked)
}

each_database!(a_list_of_models_that_hangs_holds_no_other_request, async |test: TestDatabase| {
    let (hanging, asked) = hanging_server("hanging").await;
    let settings = [("unpriced_models", "free")];
    let app = App::with_more(test, &settings, "", &[hanging]).await;
    let ask = |number: usize| {
        let app = &app;
        async move {
            read(app.send(&format!("user-{number}"), chat("unpriced-test", "", false)).await).await.status
        }
    };
    let answered = timeout(SOON, join_all((0..20).map(ask))).await;
    assert_eq!(answered, Ok(vec![200; 20]));
    // All of them wanted the same lists.
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    app.end().await;
});

each_database!(a_long_chat_with_many_tools_passes, async |test: TestDatabase| {
    let app = start(test, "").await;
    let tool = json!({"type": "function", "function": {"name": "search", "description": "x".repeat(300),
        "parameters": {"type": "object", "properties": {"query": {"type": "string"}}}}});
    let message = |number: usize| match number % 2 {
        0 => json!({"role": "user", "content": format!("question {number}")}),
        _ => json!({"role": "assistant", "content": format!("answer {number}")}),
    };
    let messages: Vec<Value> =
        (0..1000).map(message).chain([json!({"role": "user", "content": "end"})]).collect();
    let body = json!({"model": "gpt-test", "messages": messages, "tools": vec![tool; 30]});
    assert_eq!(read(app.send("ann", body).await).await.status, 200);
    app.end().await;
});

each_database!(what_would_take_too_much_is_refused_with_the_bound, async |test: TestDatabase| {
    let app = start(test, "body_limit = 2097152\n").await;
    let post = |body: String| {
        let app = &app;
        async move {
            let request = format!("{}{body}", app.head("ann", body.len()));
            let mut stream = TcpStream::connect(app.socket()).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = vec![0; 4096];
            let read = stream.read(&mut answer).await.unwrap();
            String::from_utf8_lossy(&answer[..read]).into_owned()
        }
    };
    let long = r#"{"":0},"#.repeat(200_000);
    let body = |model: &str| format!("{{\"model\":\"{model}\",\"messages\":[],\"x\":[{long}0]}}");
    let refused = post(body("gpt-test")).await;
    assert!(refused.contains("body_too_complex") && refused.contains("4194304"), "{refused}");
    // Nothing is made of a body for a model that there is not.
    let unknown = post(body("nonsense")).await;
    assert!(unknown.contains("model_not_found"), "{unknown}");
    let deep =
        format!("{{\"model\":\"gpt-test\",\"messages\":[],\"x\":{}{}}}", "[".repeat(3000), "]".repeat(3000));
    assert!(post(deep).await.contains("levels deep"));
    let magic = r#"{"model":"gpt-test","messages":[],"x":{"$serde_json::private::RawValue":"[[1]]"}}"#;
    assert!(post(magic.into()).await.starts_with("HTTP/1.1 400"));
    // Of the model server, only its list of models was asked for.
    assert!(app.simulator.received().iter().all(|received| received.path.ends_with("/models")));
    app.end().await;
});

each_database!(what_may_be_the_end_is_held_back_up_to_a_number_of_bytes, async |test: TestDatabase| {
    let end = |number: usize, padding: usize| {
        let chunk = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-test",
            "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "n": number, "x": "x".repeat(padding)});
        Bytes::from(format!("data: {chunk}\n\n"))
    };
    const ENDS: usize = 40;
    const LARGE: usize = 100_000;
    let server = ScriptedServer::start(move |_| {
        let head = "200 OK\r\ncontent-type: text/event-stream".into();
        let large = (0..ENDS).map(|number| end(number, LARGE));
        let pieces = large.chain([end(ENDS, 0), Bytes::from_static(b"data: [DONE]\n\n")]).collect();
        Scripted { head, pieces }
    })
    .await;
    server.pieces.forget_permits(usize::MAX);
    let app = server.gateway(test, "", "").await;
    server.pieces.add_permits(ENDS);
    let mut response = timeout(SOON, app.send("ann", chat("gpt-test", "", true))).await.unwrap();
    let mut text = String::new();
    // What is not passed on now is not more than that.
    while text.len() < (ENDS - 4) * LARGE {
        let frame = timeout(SOON, response.body_mut().frame()).await.expect("it is held back");
        text.push_str(std::str::from_utf8(&frame.unwrap().unwrap().into_data().unwrap()).unwrap());
    }
    server.pieces.add_permits(2);
    text.push_str(&read(response).await.text);
    let numbers: Vec<usize> =
        (0..=ENDS).filter(|number| text.contains(&format!("\"n\":{number},"))).collect();
    assert_eq!(numbers.len(), ENDS + 1);
    assert_eq!(text.matches("\"credits\":").count(), 1);
    assert!(text.ends_with("data: [DONE]\n\n"));
    app.end().await;
});

each_database!(comments_before_an_answer_are_not_gathered_without_end, async |test: TestDatabase| {
    let server = ScriptedServer::start(|_| Scripted {
        head: "200 OK\r\ncontent-type: text/event-stream".into(),
        pieces: vec![
            format!(": {}\n\n", "x".repeat(100_000)).into(),
            Scripted::stream(&[json!({"id": "c", "model": "gpt-test",
                "choices": [{"index": 0, "delta": {"content": "hello"}, "finish_reason": "stop"}]})])
            .pieces
            .concat()
            .into(),
        ],
    })
    .await;
    server.pieces.forget_permits(usize::MAX);
    let app = server.gateway(test, "", "head_wait = 300").await;
    server.pieces.add_permits(1);
    let response = timeout(SOON, app.send("ann", chat("gpt-test", "", true))).await.expect("the head waits");
    server.pieces.add_permits(1);
    assert!(read(response).await.text.contains("hello"));
    app.end().await;
});
