//! What whole answers take: memory that is counted with that of bodies, for which they wait, and which they give back.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::{Value, json};
use testing::databases::TestDatabase;
use testing::each_database;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::app::{App, read};
use crate::scripted::{Scripted, ScriptedServer};

const EMBEDDINGS: &str = "/v1/embeddings";
const SOON: Duration = Duration::from_secs(60);
const MB: usize = 1_000_000;

/// What it is asked for: an answer of so many bytes.
fn asks(megabytes: usize) -> Value {
    json!({"model": "gpt-test", "input": format!("megabytes={megabytes}."), "messages": []})
}

/// A server whose answers, vectors or chats, have as many bytes as they are asked for, and a few more.
async fn server() -> ScriptedServer {
    ScriptedServer::start(|request| {
        let (_, size) = request.split_once("megabytes=").unwrap();
        let bytes = size.split_once('.').unwrap().0.parse::<usize>().unwrap() * MB;
        let answer = if request.starts_with("POST /v1/embeddings") {
            let vector = "0.01234567,".repeat(bytes / 11);
            format!(
                r#"{{"object":"list","model":"gpt-test","data":[{{"index":0,"embedding":[{vector}0]}}],"usage":{{"prompt_tokens":7,"total_tokens":7}}}}"#
            )
        } else {
            let text = "word ".repeat(bytes / 5);
            json!({"id": "c", "model": "gpt-test", "usage": {"prompt_tokens": 7, "completion_tokens": 5},
                "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]})
            .to_string()
        };
        let head = format!("200 OK\r\ncontent-type: application/json\r\ncontent-length: {}", answer.len());
        Scripted { head, pieces: Bytes::from(answer).chunks(256 * 1024).map(Bytes::copy_from_slice).collect() }
    })
    .await
}

/// Asks for vectors, and reads nothing but the status.
async fn unread(app: &App, user: &str, megabytes: usize) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream =
        socket.connect(app.address.strip_prefix("http://").unwrap().parse().unwrap()).await.unwrap();
    let body = asks(megabytes).to_string();
    let request = format!(
        "POST {EMBEDDINGS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\nx-openwebui-user-id: {user}\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    timeout(SOON, stream.read_exact(&mut status)).await.unwrap().unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    stream
}

each_database!(an_answer_waits_while_its_user_leaves_others_unread, async |test: TestDatabase| {
    let server = server().await;
    let bounds = "bytes_in_flight = 64000000\nbytes_per_user = 16000000\nclient_idle = 300\n";
    let app = server.gateway(test, "", bounds).await;
    let mut first = unread(&app, "ann", 12).await;
    let mut second = Box::pin(app.post(EMBEDDINGS, "ann", asks(12), &[]));
    // It is made, and comes as soon as there is room.
    assert!(timeout(Duration::from_millis(500), &mut second).await.is_err());
    // Nobody else waits for her.
    for megabytes in [0, 1, 5] {
        let answer = timeout(SOON, app.post(EMBEDDINGS, "bob", asks(megabytes), &[])).await.unwrap();
        assert_eq!(read(answer).await.status, 200);
    }
    let mut rest = Vec::new();
    first.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() > 12 * MB - 100);
    let answer = read(timeout(SOON, second).await.unwrap()).await;
    assert_eq!(answer.status, 200);
    assert!(answer.text.len() > 12 * MB - 100 && answer.text.contains("\"credits\""));
    let entries = app.entries("ann").await;
    assert!(entries.iter().all(|entry| (entry.outcome.as_str(), entry.input_tokens) == ("complete", 7)));
    app.end().await;
});

each_database!(large_answers_at_a_time_all_come_to_their_end, async |test: TestDatabase| {
    let server = server().await;
    // Together they need several times what there is.
    let app = server.gateway(test, "", "bytes_in_flight = 32000000\nbytes_per_user = 8000000\n").await;
    let ask = |number: usize| {
        let app = &app;
        async move {
            let path = if number.is_multiple_of(2) { EMBEDDINGS } else { "/v1/chat/completions" };
            let user = format!("user-{}", number % 4);
            read(app.post(path, &user, asks(2), &[]).await).await
        }
    };
    let answers = timeout(SOON, join_all((0..16).map(ask))).await.unwrap();
    for answer in answers {
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(answer.text.len() > 2 * MB - 100);
    }
    app.end().await;
});

each_database!(who_leaves_answers_unread_is_ended_and_makes_room, async |test: TestDatabase| {
    let server = server().await;
    let bounds = "bytes_in_flight = 64000000\nbytes_per_user = 16000000\nclient_idle = 1\n";
    let app = server.gateway(test, "", bounds).await;
    let first = unread(&app, "ann", 12).await;
    let answer = timeout(SOON, app.post(EMBEDDINGS, "ann", asks(12), &[])).await.unwrap();
    assert_eq!(read(answer).await.status, 200);
    drop(first);
    app.end().await;
});

each_database!(an_answer_without_room_is_a_clear_error_and_charged, async |test: TestDatabase| {
    let server = server().await;
    let app = server.gateway(test, "", "bytes_in_flight = 4000000\n").await;
    for (path, user, output) in [(EMBEDDINGS, "ann", false), ("/v1/chat/completions", "bob", true)] {
        let answer = read(app.post(path, user, asks(12), &[]).await).await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "answer_too_large"), "{}", answer.text);
        assert_eq!(answer.headers["x-should-retry"], "false");
        let entries = app.entries(user).await;
        assert_eq!(entries.len(), 1);
        let entry = &entries[0];
        assert_eq!((entry.outcome.as_str(), entry.estimated.as_deref()), ("cut", Some("counted")));
        assert!(entry.input_tokens > 0 && entry.charge > 0);
        // What had come of a chat is output, and vectors are none.
        assert_eq!(entry.output_tokens > 100_000, output, "{entry:?}");
    }
    // There is room for others now as before.
    let answer = read(app.post(EMBEDDINGS, "ann", asks(1), &[]).await).await;
    assert_eq!(answer.status, 200);
    app.end().await;
});

// Whoever takes an answer slowly is told from whoever takes nothing only if the system keeps little of it.
#[cfg(target_os = "linux")]
each_database!(the_system_keeps_little_of_what_is_not_taken, async |test: TestDatabase| {
    let server = server().await;
    let app = server.gateway(test, "", "client_idle = 1\n").await;
    let mut untaken = unread(&app, "ann", 12).await;
    assert_eq!(app.entries("ann").await.len(), 1);
    // All connections end with the gateway; what the client finds then is what the system had.
    app.end().await;
    let mut kept = Vec::new();
    let _ = untaken.read_to_end(&mut kept).await;
    assert!(kept.len() < MB, "{} KiB", kept.len() / 1024);
});
