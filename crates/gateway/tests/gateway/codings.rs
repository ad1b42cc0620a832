//! Bodies that come compressed or with a byte order mark, from model servers and from clients.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use testing::codings::{CODINGS, compress, compress_whole};
use testing::databases::TestDatabase;
use testing::each_database;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::app::{App, chat, read};
use crate::scripted::{Scripted, ScriptedServer};

const CHAT: &str = "/v1/chat/completions";
const MARK: &str = "\u{FEFF}";
const SOON: Duration = Duration::from_secs(10);

fn named(coding: &str) -> &str {
    if coding == "raw" { "deflate" } else { coding }
}

/// Which coding a test asks for in its message.
fn wanted(request: &str) -> &'static str {
    CODINGS.into_iter().find(|coding| request.contains(&format!("[[{coding}]]"))).unwrap_or("none")
}

fn compressed(answer: Scripted, coding: &str) -> Scripted {
    let whole = compress_whole(coding, &answer.pieces.concat()).unwrap();
    Scripted::new(&format!("{}\r\ncontent-encoding: {}", answer.head, named(coding)), whole)
}

fn answer() -> Value {
    json!({"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-test",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello there"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}})
}

fn chunk(text: &str, finish: Value, usage: Value) -> Value {
    json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-test",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}], "usage": usage})
}

fn chunks() -> [Value; 3] {
    let usage = json!({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12});
    [
        chunk("Hello", Value::Null, Value::Null),
        chunk(" there", Value::Null, Value::Null),
        chunk("", json!("stop"), usage),
    ]
}

/// What was said in an answer, whole or streamed.
fn said(answer: &crate::app::Answer, stream: bool) -> String {
    if !stream {
        return answer.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    }
    let chunks = answer.chunks();
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
}

each_database!(answers_that_come_compressed_unasked, async |test: TestDatabase| {
    let server = ScriptedServer::start(|request| {
        let stream = request.contains("\"stream\":true");
        let plain = if stream { Scripted::stream(&chunks()) } else { Scripted::json(&answer()) };
        compressed(plain, wanted(request))
    })
    .await;
    let app = server.gateway(test, "", "").await;
    for coding in CODINGS {
        for stream in [false, true] {
            let answer = app.ask(coding, &format!("[[{coding}]]"), stream).await;
            assert_eq!(
                (answer.status, said(&answer, stream).as_str()),
                (200, "Hello there"),
                "{coding} {stream}"
            );
            assert!(!answer.headers.contains_key("content-encoding"));
        }
        for entry in app.entries(coding).await {
            let told = (entry.outcome.as_str(), entry.estimated, entry.input_tokens, entry.output_tokens);
            assert_eq!(told, ("complete", None, 7, 5), "{coding}");
        }
    }
    assert!(server.requests().iter().all(|request| request.contains("\r\naccept-encoding: identity\r\n")));
    app.end().await;
});

each_database!(compressed_chunks_pass_as_they_come, async |test: TestDatabase| {
    let server = ScriptedServer::start(|request| {
        let events = chunks().map(|chunk| format!("data: {chunk}\n\n"));
        let [first, second, third] = events.each_ref().map(String::as_bytes);
        let pieces = compress(wanted(request), &[first, second, third, b"data: [DONE]\n\n"]).unwrap();
        let coding = named(wanted(request));
        let head = format!("200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: {coding}");
        Scripted { head, pieces }
    })
    .await;
    let app = server.gateway(test, "", "").await;
    server.pieces.forget_permits(Semaphore::MAX_PERMITS);
    for coding in CODINGS {
        server.pieces.add_permits(1);
        let mut response = app.send("ann", chat("gpt-test", &format!("[[{coding}]]"), true)).await;
        let mut text = String::new();
        // The server says no more before its client has read what it said.
        for word in ["Hello", " there"] {
            while !text.contains(word) {
                let frame = timeout(SOON, response.body_mut().frame()).await.unwrap().unwrap().unwrap();
                text += std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
            }
            server.pieces.add_permits(1);
        }
        // As many as are left, none for the next answer: `[DONE]` and the end of the coding.
        server.pieces.add_permits(2);
        assert!(read(response).await.text.ends_with("data: [DONE]\n\n"), "{coding}");
    }
    app.end().await;
});

each_database!(errors_and_bombs_that_come_compressed, async |test: TestDatabase| {
    let server = ScriptedServer::start(|request| {
        let json = "content-type: application/json";
        if request.contains("an error") {
            let error = json!({"error": {"message": "The list is too long.", "code": "too_long"}});
            return compressed(
                Scripted::new(&format!("400 Bad Request\r\n{json}"), error.to_string()),
                "gzip",
            );
        }
        if request.contains("a bomb") {
            let zeros = vec![b' '; 65 * 1024 * 1024];
            return compressed(Scripted::new(&format!("200 OK\r\n{json}"), zeros), "zstd");
        }
        let head = format!("200 OK\r\n{json}\r\ncontent-encoding: exotic");
        Scripted::new(&head, "whatever")
    })
    .await;
    let app = server.gateway(test, "", "").await;
    let refused = app.ask("ann", "an error", false).await;
    assert_eq!(refused.status, 400);
    assert!(refused.text.contains("The list is too long."), "{}", refused.text);
    assert_eq!(app.entries("ann").await, []);
    for (user, asks) in [("bob", "a bomb"), ("eve", "something exotic")] {
        let broken = app.ask(user, asks, false).await;
        assert_eq!((broken.status, broken.code().as_str()), (502, "provider_failed"), "{asks}");
        assert_eq!(app.entries(user).await[0].outcome, "provider_failed");
    }
    app.end().await;
});

each_database!(a_byte_order_mark_is_ignored, async |test: TestDatabase| {
    let server = ScriptedServer::start(|request| {
        let stream = request.contains("\"stream\":true");
        let mut answer = if stream { Scripted::stream(&chunks()) } else { Scripted::json(&answer()) };
        let marked = [MARK.as_bytes(), &answer.pieces[0]].concat();
        // Its bytes may come one by one.
        answer.pieces = marked.chunks(2).map(Bytes::copy_from_slice).collect();
        answer
    })
    .await;
    let app = server.gateway(test, "", "").await;
    for stream in [false, true] {
        let body = format!("{MARK}{}", chat("gpt-test", "", stream));
        let answer = read(app.post_bytes(CHAT, "ann", body.into(), &[]).await).await;
        assert_eq!((answer.status, said(&answer, stream).as_str()), (200, "Hello there"), "{}", answer.text);
        assert!(!answer.text.contains(MARK));
    }
    let entries = app.entries("ann").await;
    assert!(entries.iter().all(|entry| entry.estimated.is_none() && entry.output_tokens == 5), "{entries:?}");
    app.end().await;
});

async fn post_coded(app: &App, coding: &str, body: &[u8]) -> crate::app::Answer {
    let compressed = compress_whole(coding, body).unwrap();
    read(app.post_bytes(CHAT, "ann", compressed, &[("content-encoding", named(coding))]).await).await
}

each_database!(requests_that_come_compressed, async |test: TestDatabase| {
    let app = App::with_more(test, &[], "body_limit = 4000000\n", &[]).await;
    let body = chat("gpt-test", &format!("[[sim output=3]] {}", "word ".repeat(10_000)), false).to_string();
    for coding in CODINGS {
        let marked = format!("{MARK}{body}");
        for body in [&body, &marked] {
            let answer = post_coded(&app, coding, body.as_bytes()).await;
            assert_eq!(answer.status, 200, "{coding}: {}", answer.text);
        }
        // What it becomes is bounded, not what it is.
        let bomb = post_coded(&app, coding, &vec![b' '; 5_000_000]).await;
        assert_eq!((bomb.status, bomb.code().as_str()), (413, "body_too_large"), "{coding}");
        let broken =
            app.post_bytes(CHAT, "ann", body.clone().into(), &[("content-encoding", named(coding))]).await;
        let broken = read(broken).await;
        assert_eq!(broken.status, 400, "{coding}: {}", broken.text);
    }
    let received = app.simulator.received();
    assert_eq!(received.len(), 2 * CODINGS.len());
    let plain: Value = serde_json::from_str(&body).unwrap();
    assert!(received.iter().all(|request| request.body["messages"] == plain["messages"]));
    for path in [CHAT, "/v1/messages"] {
        let exotic =
            app.post_bytes(path, "ann", body.clone().into(), &[("content-encoding", "exotic")]).await;
        let exotic = read(exotic).await;
        assert_eq!((exotic.status, exotic.code().as_str()), (415, "unsupported_content_encoding"));
        assert_eq!(exotic.headers["accept-encoding"], "gzip, deflate, br, zstd");
        let message = exotic.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("`exotic`") && message.contains("zstd"), "{message}");
    }
    app.end().await;
});
