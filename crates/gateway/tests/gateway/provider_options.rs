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

each_database!(what_is_configured_as_secret_is_in_no_words_that_go_out, async |test: TestDatabase| {
    // It says back every header, as it came and in an event.
    let server = ScriptedServer::start(|request| {
        let (head, _) = request.split_once("\r\n\r\n").unwrap();
        let words = format!("no access with {}", head.replace("\r\n", ", "));
        let error = json!({"error": {"message": words, "code": "team blue-lagoon", "param": "provider-key", "status": 400}});
        if request.contains("\"stream\":true") {
            return Scripted::stream(&[error]);
        }
        Scripted::new("400 Bad Request\r\ncontent-type: application/json", error.to_string())
    })
    .await;
    let headers =
        "headers = { X-Team = \"blue-lagoon\", X-Access = \"token offenes-wort\", X-Number = \"1\" }";
    let app = server.gateway(test, headers, "").await;
    for stream in [false, true] {
        let answer = app.ask("ann", "", stream).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
        assert!(answer.text.contains("x-team: ***") && answer.text.contains("team ***"), "{}", answer.text);
        for secret in ["blue-lagoon", "offenes-wort", "provider-key"] {
            assert!(!answer.text.contains(secret), "{}", answer.text);
        }
        // What is too short to be one is a word like any other.
        assert!(answer.text.contains("HTTP/1.1"), "{}", answer.text);
    }
    app.end().await;
});

each_database!(strict_is_never_overspent_by_texts_that_many_tokens_make, async |test: TestDatabase| {
    // A server whose tokenizer makes a token of each byte, with a template of seven around each message.
    let server = ScriptedServer::start(|request| {
        let (_, body) = request.split_once("\r\n\r\n").unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        let messages = body["messages"].as_array().unwrap();
        let bytes: usize = messages.iter().map(|message| message["content"].as_str().unwrap().len()).sum();
        let usage = json!({"prompt_tokens": bytes + 7 * (messages.len() + 1), "completion_tokens": body["max_tokens"]});
        Scripted::json(&json!({"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-test", "usage": usage,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "length"}]}))
    })
    .await;
    let app = server.gateway(test, "", "").await;
    for (key, value) in
        [("admission_policy", "strict"), ("base_credit_allowance", "8"), ("strict_min_output", "1")]
    {
        storage::admin::settings::set(&app.database, key, value).await.unwrap();
    }
    app.fresh_catalogue().await;
    for (user, texts) in [
        ("runes", vec!["ᚠᛇᚻ᛫ᛒᛦᚦ᛫ᚠᚱᚩᚠᚢᚱ᛫".repeat(100)]),
        ("spaces", vec![" ".repeat(5000)]),
        ("short", vec!["a".into(); 300]),
    ] {
        let messages: Vec<Value> =
            texts.iter().map(|text| json!({"role": "user", "content": text})).collect();
        let body = json!({"model": "gpt-test", "messages": messages});
        let answer = read(app.send(user, body).await).await;
        assert_eq!(answer.status, 200, "{user}: {}", answer.text);
        app.settled().await;
        let entry = app.entries(user).await.remove(0);
        assert_eq!((entry.over_hold, entry.estimated.as_deref()), (0, None), "{user}: {entry:?}");
        assert!(entry.charge > 0 && entry.charge <= 8_000_000, "{user}: {entry:?}");
    }
    app.end().await;
});

each_database!(numbers_that_nobody_knows_are_written_down_for_their_provider, async |test: TestDatabase| {
    let server = ScriptedServer::start(|request| {
        let usage = json!({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12, "pixels": 9,
            "completion_tokens_details": {"reasoning_tokens": 0, "odours": 3}});
        let chunk = |delta: Value, finish: Value, usage: &Value| {
            json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-test",
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": usage})
        };
        if request.contains("\"stream\":true") {
            let streamed = json!({"prompt_tokens": 7, "completion_tokens": 5, "streams": 1});
            let begin = chunk(json!({"role": "assistant", "content": "Hi"}), Value::Null, &Value::Null);
            return Scripted::stream(&[begin, chunk(json!({}), json!("stop"), &streamed)]);
        }
        Scripted::json(&json!({"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-test", "usage": usage,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}))
    })
    .await;
    let app = server.gateway(test, "", "").await;
    for stream in [false, true] {
        assert_eq!(app.ask("ann", "", stream).await.status, 200);
    }
    let expected = ["completion_tokens_details.odours", "pixels", "streams"];
    let expected = expected.map(|field| ("openai".to_owned(), field.to_owned()));
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(50));
    while storage::unknown_usage::all(&app.database).await.unwrap() != expected {
        looks.tick().await;
    }
    app.end().await;
});
