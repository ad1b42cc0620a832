//! What a refusal says to whoever asked: the model that was meant, the base URL that is right, the server's own rates.

use accounting::{Clock, UserId};
use http::Method;
use providers::Kind;
use serde_json::{Value, json};
use storage::admin::keys;
use storage::admin::sponsored::{self, NamedMember, Terms};
use storage::admin::users;
use storage::{MemberKind, SystemClock};
use testing::databases::TestDatabase;
use testing::each_database;

use crate::app::{App, chat, read};
use crate::scripted::{Scripted, ScriptedServer};

each_database!(an_unknown_model_is_answered_with_those_that_were_meant, async |test: TestDatabase| {
    let app = App::with(test, &[], &[Kind::OPENAI, Kind::ANTHROPIC]).await;
    let said = |text: &Value| text["error"]["message"].as_str().unwrap().to_owned();
    for (model, meant) in [
        ("gpt-tset", "Did you mean `gpt-test`?"),
        ("openai/gpt-test-2026-01-01", "Did you mean `gpt-test`?"),
        ("Gpt_Test", "Did you mean `gpt-test`?"),
    ] {
        for (path, body) in [
            ("/v1/chat/completions", chat(model, "", false)),
            ("/v1/responses", json!({"model": model, "input": "x"})),
            (
                "/v1/messages",
                json!({"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}),
            ),
            ("/v1/embeddings", json!({"model": model, "input": "x"})),
            (
                "/v1/messages/count_tokens",
                json!({"model": model, "messages": [{"role": "user", "content": "x"}]}),
            ),
        ] {
            let refused = read(app.post(path, "ann", body, &[]).await).await;
            let message = said(&refused.json());
            assert_eq!(refused.status, 404, "{path}: {message}");
            for part in [meant, "GET /v1/models", "pricing import", "pricing add"] {
                assert!(message.contains(part), "{path} {model}: {message}");
            }
        }
        let shown = app.look(&format!("/v1/models/{model}"), &[("authorization", "Bearer k")]).await;
        assert!(said(&shown.json()).contains(meant), "{}", shown.text);
    }
    let nothing = read(app.send("ann", chat("whisper", "", false)).await).await;
    assert!(!nothing.text.contains("Did you mean"), "{}", nothing.text);
    app.end().await;
});

each_database!(only_models_that_a_user_may_use_are_proposed, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    let member = NamedMember { kind: MemberKind::User, name: "ann".into() };
    let ann = UserId::new("ann").unwrap();
    users::create(&app.database, &ann, "Ann", "").await.unwrap();
    let terms = Terms {
        name: "lab".into(),
        sponsor: "boss".into(),
        models: vec!["gpt-test".into()],
        total: 100,
        members: vec![member],
        ..Terms::default()
    };
    sponsored::create(&app.database, &terms).await.unwrap();
    app.fresh_catalogue().await;
    let now = SystemClock.now();
    for (user, proposed) in [("ann", true), ("bob", false)] {
        let id = UserId::new(user).unwrap();
        let (_, secret) = keys::create(&app.database, user, Some(id), None, now).await.unwrap();
        let refused = app.ask_with_key(&secret, chat("lab/gpt-tst", "", false), &[]).await;
        assert_eq!(refused.text.contains("sponsored/lab/gpt-test"), proposed, "{user}: {}", refused.text);
        assert!(refused.text.contains("`gpt-test`"), "{}", refused.text);
    }
    app.end().await;
});

each_database!(a_wrong_base_url_is_named_in_the_form_of_its_client, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    let once = "with /v1 at its end, once";
    for (path, theirs, says) in [
        ("/v1/v1/chat/completions", false, ["/v1 is there twice", once]),
        ("/v1/v1/responses", false, ["/v1 is there twice", once]),
        ("/v1/v1/messages", true, ["/v1 is there twice", "without /v1"]),
        ("/v1/v1/messages/count_tokens", true, ["/v1 is there twice", "without /v1"]),
        ("/chat/completions", false, ["/v1 is missing", once]),
        ("/completions", false, ["/v1 is missing", once]),
        ("/responses", false, ["/v1 is missing", once]),
        ("/embeddings", false, ["/v1 is missing", once]),
        ("/messages", true, ["/v1 is missing", "with /v1 at its end"]),
        ("/openai/v1/chat/completions", false, ["without anything before it", once]),
        ("/v1/chat/completions/chat/completions", false, ["without anything before it", once]),
        ("/api/chat", false, ["Ollama's own API", "with the gateway's address and /v1"]),
    ] {
        let refused = app.call(Method::POST, path, "k", json!({"model": "gpt-test"})).await;
        let body = refused.json();
        assert_eq!((refused.status, body["type"] == "error"), (404, theirs), "{path}: {body}");
        assert_eq!(refused.code(), "not_found");
        let message = body["error"]["message"].as_str().unwrap();
        assert!(says.iter().all(|part| message.contains(part)), "{path}: {message}");
    }
    for (path, headers, says) in [
        ("/models", &[][..], once),
        ("/v1/v1/models", &[], once),
        ("/v1/v1/models", &[("anthropic-version", "2023-06-01")], "without /v1"),
        ("/models/openai/gpt-test", &[], once),
    ] {
        let refused = app.look(path, headers).await;
        assert_eq!(refused.status, 404);
        assert!(refused.text.contains(says), "{path}: {}", refused.text);
        assert_eq!(refused.json()["type"] == "error", !headers.is_empty());
    }
    let other = app.call(Method::POST, "/v1/images", "k", Value::Null).await;
    assert!(other.text.contains("/v1/chat/completions"), "{}", other.text);
    app.end().await;
});

each_database!(the_rates_of_a_server_that_refuses_are_passed_on, async |test: TestDatabase| {
    let server = ScriptedServer::start(|request| {
        let long = "9".repeat(5000);
        let told = format!(
            "x-ratelimit-remaining-requests: 0\r\nanthropic-ratelimit-tokens-reset: 2026-11-30T00:00:00Z\r\n\
             retry-after: 86400\r\nx-ratelimit-long: {long}\r\nx-ratelimit-ours: provider-key\r\nset-cookie: a=b"
        );
        let limited = r#"{"error":{"message":"Rate limit reached.","type":"tokens","code":"rate_limit_exceeded"}}"#;
        let status = if request.contains("overloaded") { "503 Service Unavailable" } else { "429 Too Many Requests" };
        if request.contains("in the answer") {
            let stream = format!("200 OK\r\ncontent-type: text/event-stream\r\n{told}");
            return Scripted::new(&stream, format!("data: {limited}\n\n"));
        }
        Scripted::new(&format!("{status}\r\ncontent-type: application/json\r\n{told}"), limited)
    })
    .await;
    let app = server.gateway(test, "", "").await;
    for (text, stream, status) in
        [("", false, 429), ("", true, 429), ("overloaded", false, 503), ("in the answer", true, 429)]
    {
        let refused = read(app.send("ann", chat("gpt-test", text, stream)).await).await;
        assert_eq!(refused.status, status, "{text}: {}", refused.text);
        let header = |name: &str| refused.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("x-ratelimit-remaining-requests"), Some("0"), "{text}");
        assert_eq!(header("anthropic-ratelimit-tokens-reset"), Some("2026-11-30T00:00:00Z"));
        assert_eq!(header("retry-after"), Some("60"), "{text}");
        for hidden in ["set-cookie", "x-ratelimit-long", "x-ratelimit-ours"] {
            assert_eq!(header(hidden), None);
        }
    }
    app.end().await;
});
