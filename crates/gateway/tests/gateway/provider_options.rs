//! What can be configured for one provider: `stream_options`, and headers of its own.

use serde_json::{Value, json};
use testing::databases::TestDatabase;
use testing::each_database;

use crate::app::{chat, read};
use crate::scripted::{Scripted, ScriptedServer};

/// A server that refuses `stream_options`, in the words of one that does.
async fn strict_server() -> ScriptedServer {
    ScriptedServer::start(|request| {
        if request.contains("stream_options") {
            let error =
                json!({"error": {"message": "Extra inputs are not permitted", "param": "stream_options"}});
            return Scripted::new("400 Bad Request\r\ncontent-type: application/json", error.to_string());
        }
        let chunk = |delta: Value, finish: Value| {
            json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-test",
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        };
        let words = json!({"role": "assistant", "content": "One two three"});
        Scripted::stream(&[chunk(words, Value::Null), chunk(json!({}), json!("stop"))])
    })
    .await
}

each_database!(a_server_that_refuses_stream_options_is_asked_without, async |test: TestDatabase| {
    let server = strict_server().await;
    let app = server.gateway(test, "", "").await;
    // What a client asks for beside the usage is its own affair, and teaches nothing about the server.
    let mut own = chat("gpt-test", "", true);
    own["stream_options"] = json!({"include_usage": true, "anything": 1});
    let refused = read(app.send("bob", own).await).await;
    assert_eq!((refused.status, server.requests().len()), (400, 1));
    for asked in [3, 4] {
        let answer = app.ask("ann", "", true).await;
        assert!(
            answer.text.contains("One two three") && answer.text.ends_with("[DONE]\n\n"),
            "{}",
            answer.text
        );
        assert_eq!(server.requests().len(), asked);
    }
    let mut wants_usage = chat("gpt-test", "", true);
    wants_usage["stream_options"] = json!({"include_usage": true});
    let answer = read(app.send("ann", wants_usage).await).await;
    assert!(answer.chunks().iter().any(|chunk| chunk["usage"]["completion_tokens"].as_u64() > Some(0)));
    let entries = app.entries("ann").await;
    assert_eq!(entries.len(), 3);
    for entry in entries {
        let told =
            (entry.kind.as_str(), entry.outcome.as_str(), entry.estimated.is_some(), entry.output_tokens);
        assert_eq!(told, ("request", "complete", true, 3));
    }
    app.end().await;
});

each_database!(stream_options_as_configured, async |test: TestDatabase| {
    let server = strict_server().await;
    let app = server.gateway(test, "stream_options = false", "").await;
    assert_eq!(app.ask("ann", "", true).await.status, 200);
    assert!(server.requests().iter().all(|request| !request.contains("stream_options")));
    assert_eq!(app.entries("ann").await.len(), 1);
    app.end().await;
});

each_database!(stream_options_that_must_be_sent, async |test: TestDatabase| {
    let server = strict_server().await;
    let app = server.gateway(test, "stream_options = true", "").await;
    assert_eq!(app.ask("ann", "", true).await.status, 400);
    assert_eq!((server.requests().len(), app.entries("ann").await.len()), (1, 0));
    app.end().await;
});

each_database!(headers_of_a_provider_go_with_each_request, async |test: TestDatabase| {
    let server = ScriptedServer::start(|_| Scripted::json(&json!({"data": []}))).await;
    let headers = "headers = { X-Team = \"physics\", X-Access = \"token s3cr3t-value\" }";
    let app = server.gateway(test, headers, "").await;
    let body = json!({"model": "gpt-test", "input": "hello"});
    read(app.post("/v1/embeddings", "ann", body, &[]).await).await;
    read(app.send("ann", chat("gpt-test", "", false)).await).await;
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        for header in
            ["x-team: physics", "x-access: token s3cr3t-value", "authorization: Bearer provider-key"]
        {
            assert!(request.contains(&format!("\r\n{header}\r\n")), "{request}");
        }
    }
    app.end().await;
});
