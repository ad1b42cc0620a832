//! The flow of a request on both databases: what the client gets, what the ledger says, whatever happens on the way.

use crate::app::{App, Entry, chat, read};
use futures_util::future::join_all;
use http_body_util::BodyExt;
use serde_json::json;
use testing::databases::TestDatabase;
use testing::each_database;
use testing::simulator::Fate;

/// `(outcome, estimated, input tokens, output tokens, charge in microcredits)`
type Row<'a> = (&'a str, Option<&'a str>, i64, i64, i64);

fn row(entry: &Entry) -> Row<'_> {
    (&entry.outcome, entry.estimated.as_deref(), entry.input_tokens, entry.output_tokens, entry.charge)
}

/// A row whose input is counted, and whose output is what passed.
fn estimated(outcome: &str, output: i64) -> Option<Row<'_>> {
    Some((outcome, Some("counted"), 0, output, 0))
}

/// The tokens of a chat with that directive: those of its text, 4 for its message and 3 for the answer's start.
fn counted_input(directive: &str) -> i64 {
    let text = format!("one two three {directive}");
    let tokens = tiktoken_rs::o200k_base_singleton().encode_ordinary(&text).len();
    i64::try_from(tokens + 7).unwrap()
}

each_database!(every_end_has_its_charge, async |test: TestDatabase| {
    let app = App::start(test, &[("hold_wait", "0")]).await;
    // (directive, streamed, status, code or text of the answer, ledger)
    let cases: Vec<(&str, bool, u16, &str, Option<Row>)> = vec![
        ("[[sim input=100 output=50]]", false, 200, "credits", Some(("complete", None, 100, 50, 200_000))),
        ("[[sim input=100 output=50]]", true, 200, "credits", Some(("complete", None, 100, 50, 200_000))),
        (
            "[[sim input=100 output=50 split=1]]",
            true,
            200,
            "credits",
            Some(("complete", None, 100, 50, 200_000)),
        ),
        (
            "[[sim input=100 output=12 fault=malformed at=3]]",
            true,
            200,
            "credits",
            Some(("complete", None, 100, 12, 124_000)),
        ),
        ("[[sim status=400]]", false, 400, "\"code\":\"simulated\"", None),
        ("[[sim status=401]]", true, 502, "provider_refuses_service", None),
        ("[[sim status=429 retry_after=7]]", true, 429, "rate_limit_exceeded", None),
        ("[[sim status=500]]", false, 502, "the model server had a fault", None),
        ("[[sim status=503]]", true, 503, "\"code\":\"overloaded\"", None),
        ("[[sim status=301]]", false, 502, "provider_answer_invalid", None),
        ("[[sim fault=html]]", true, 502, "provider_answer_invalid", None),
        ("[[sim output=12 fault=nousage]]", false, 200, "estimated", estimated("complete", 12)),
        ("[[sim output=12 fault=nousage]]", true, 200, "estimated", estimated("complete", 12)),
        // A count that is negative is what the total leaves of the others.
        (
            "[[sim input=100 output=12 fault=badusage]]",
            true,
            200,
            "credits",
            Some(("complete", None, 100, 12, 124_000)),
        ),
        ("[[sim output=12 fault=end at=12]]", true, 200, "broke off", estimated("provider_failed", 12)),
        (
            "[[sim output=12 delay=2 fault=disconnect at=6]]",
            true,
            200,
            "broke off",
            estimated("provider_failed", 6),
        ),
        (
            "[[sim output=12 delay=2 fault=half at=6]]",
            true,
            200,
            "broke off",
            estimated("provider_failed", 6),
        ),
        (
            "[[sim output=12 delay=2 fault=error at=6]]",
            true,
            200,
            "\"code\":\"overloaded\"",
            estimated("provider_failed", 6),
        ),
        ("[[sim output=12 delay=2 fault=hang at=6]]", true, 200, "silent", estimated("timed_out", 6)),
        ("[[sim output=12 fault=hang]]", false, 504, "provider_timed_out", estimated("timed_out", 0)),
        (
            "[[sim output=12 fault=disconnect]]",
            false,
            502,
            "provider_failed",
            estimated("provider_failed", 0),
        ),
        ("[[sim first=60000]]", true, 504, "provider_timed_out", estimated("timed_out", 0)),
    ];
    for (index, (directive, stream, status, says, expected)) in cases.into_iter().enumerate() {
        let user = format!("user{index}");
        let answer = app.ask(&user, directive, stream).await;
        assert_eq!(answer.status, status, "{directive}: {}", answer.text);
        assert!(answer.text.contains(says), "{directive}: {}", answer.text);
        // Credits were set aside for all of them.
        assert!(answer.headers.contains_key("x-tracking-request"), "{directive}: {:?}", answer.headers);
        assert!(!answer.text.contains("sk-simulated"), "{directive}: a key leaked: {}", answer.text);
        let entries = app.entries(&user).await;
        let expected = expected.map(|(outcome, how, input, output, charge)| match how {
            Some(_) => {
                let input = counted_input(directive);
                (outcome, how, input, output, 1000 * input + 2000 * output)
            }
            None => (outcome, how, input, output, charge),
        });
        assert_eq!(entries.first().map(row), expected, "{directive} streamed={stream}");
        assert!(entries.len() < 2);
    }
    app.end().await;
});

each_database!(a_client_that_goes_away_is_charged_and_the_provider_is_stopped, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    let mut response = app.send("ann", chat("gpt-test", "[[sim output=100000 delay=5]]", true)).await;
    for _ in 0..3 {
        response.body_mut().frame().await.unwrap().unwrap();
    }
    drop(response);
    app.simulator.until(|received| received[0].fate == Fate::Cancelled).await;
    let entries = app.entries("ann").await;
    let produced = i64::try_from(app.simulator.received()[0].produced).unwrap();
    let entry = &entries[0];
    assert_eq!((entry.outcome.as_str(), entry.estimated.as_deref()), ("client_gone", Some("counted")));
    assert!(entry.output_tokens >= 3 && entry.output_tokens <= produced, "{entry:?}, produced {produced}");
    assert_eq!(entry.charge, entry.input_tokens * 1000 + entry.output_tokens * 2000);
    app.end().await;
});

each_database!(a_client_gone_before_the_first_byte_pays_for_its_input, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    for (user, stream) in [("ann", true), ("bob", false)] {
        let count = app.simulator.received().len();
        let mut sending = Box::pin(app.send(user, chat("gpt-test", "[[sim first=300]]", stream)));
        tokio::select! {
            _ = &mut sending => panic!("answered too soon"),
            () = app.simulator.until(|received| received.len() > count) => {}
        }
        drop(sending);
        let mut entries = app.entries(user).await;
        while entries.is_empty() {
            tokio::task::yield_now().await;
            entries = app.entries(user).await;
        }
        assert_eq!((entries[0].outcome.as_str(), entries[0].output_tokens), ("client_gone", 0));
        assert!(entries[0].charge > 0);
    }
    app.end().await;
});

each_database!(usage_reaches_each_client_in_its_own_way, async |test: TestDatabase| {
    let app = App::start(test, &[("credits_per_usd", "1000")]).await;
    let whole = app.ask("ann", "[[sim input=100 output=50 reasoning=20]]", false).await.json();
    assert_eq!(whole["usage"]["credits"].to_string(), "0.2");
    assert_eq!(whole["usage"]["credits_remaining"].to_string(), "999.8");
    assert_eq!(whole["usage"]["cost"].to_string(), "0.0002");
    assert_eq!(whole["usage"]["completion_tokens_details"]["reasoning_tokens"], 20);
    let plain = app.ask("ann", "[[sim input=100 output=50]]", true).await;
    let chunks = plain.chunks();
    assert!(chunks.iter().all(|chunk| !chunk["choices"].as_array().unwrap().is_empty()));
    let last = chunks.last().unwrap();
    assert_eq!(
        (last["choices"][0]["finish_reason"].as_str(), last["usage"]["credits"].to_string()),
        (Some("stop"), "0.2".into())
    );
    assert!(plain.text.ends_with("data: [DONE]\n\n"));
    let mut asked = chat("gpt-test", "[[sim input=100 output=50]]", true);
    asked["stream_options"] = json!({"include_usage": true});
    let chunks = read(app.send("ann", asked.clone()).await).await.chunks();
    let last = chunks.last().unwrap();
    assert_eq!(
        (last["choices"].to_string(), last["usage"]["credits"].to_string()),
        ("[]".into(), "0.2".into())
    );
    // Without a usage of the provider, the client that asked for one still gets it.
    asked["messages"][0]["content"] = json!("[[sim output=5 fault=nousage]]");
    let chunks = read(app.send("ann", asked).await).await.chunks();
    assert_eq!(chunks.last().unwrap()["usage"]["estimated"], true);
    let mut two = chat("gpt-test", "[[sim output=5]]", true);
    two["n"] = json!(2);
    let chunks = read(app.send("ann", two).await).await.chunks();
    assert_eq!(chunks.last().unwrap()["usage"]["completion_tokens"], 10);
    app.end().await;
});

each_database!(the_dearer_of_two_models_counts, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    for (user, asked, answers, charge) in [
        ("a", "gpt-test", "dear", 2_000_000),
        ("b", "dear", "gpt-test", 2_000_000),
        ("c", "gpt-test", "unheard-of", 200_000),
    ] {
        let directive = format!("[[sim input=100 output=50 model={answers}]]");
        read(app.send(user, chat(asked, &directive, true)).await).await;
        let entry = &app.entries(user).await[0];
        assert_eq!((entry.charge, entry.answered_model.as_deref()), (charge, Some(answers)));
    }
    app.end().await;
});

each_database!(models_that_are_unknown_unpriced_or_free, async |test: TestDatabase| {
    let app = App::start(test, &[("base_credit_allowance", "0")]).await;
    let unknown = read(app.send("ann", chat("no-such", "", false)).await).await;
    assert_eq!((unknown.status, unknown.code()), (404, "model_not_found".into()));
    let unpriced = read(app.send("ann", chat("unpriced-test", "", false)).await).await;
    assert_eq!((unpriced.status, unpriced.code()), (403, "model_not_priced".into()));
    assert!(unpriced.text.contains("pricing add --provider openai --id unpriced-test"), "{}", unpriced.text);
    let limit = read(app.send("ann", chat("gpt-test", "", false)).await).await;
    assert_eq!((limit.status, limit.code()), (402, "insufficient_quota".into()));
    assert_eq!(limit.headers["x-should-retry"], "false");
    assert!(!limit.headers.contains_key("retry-after"));
    let error = limit.json()["error"].clone();
    assert!(error["resets_in"].as_u64().is_some_and(|seconds| seconds <= 90_000), "{error}");
    assert!(error["resets_at"].as_str().is_some_and(|at| at.parse::<jiff::Timestamp>().is_ok()), "{error}");
    assert!(limit.text.contains("These models cost nothing: free."), "{}", limit.text);
    // A free one is served at any balance, and logged.
    assert_eq!(read(app.send("ann", chat("free", "[[sim input=9 output=9]]", true)).await).await.status, 200);
    let entries = app.entries("ann").await;
    assert_eq!(entries.iter().map(row).collect::<Vec<_>>(), [("complete", None, 9, 9, 0)]);
    app.end().await;
});

each_database!(an_unpriced_model_is_free_if_the_setting_says_so, async |test: TestDatabase| {
    let app = App::start(test, &[("unpriced_models", "free")]).await;
    for model in ["unpriced-test", "openai/unpriced-test", "OpenAI/gpt-test"] {
        assert_eq!(
            read(app.send("ann", chat(model, "[[sim input=9 output=9]]", false)).await).await.status,
            200,
            "{model}"
        );
    }
    let charges: Vec<i64> = app.entries("ann").await.iter().map(|entry| entry.charge).collect();
    assert_eq!(charges, [0, 0, 27_000]);
    app.end().await;
});

each_database!(strict_lowers_the_output_and_spends_no_more_than_the_limit, async |test: TestDatabase| {
    let changes =
        [("admission_policy", "strict"), ("base_credit_allowance", "2"), ("strict_min_output", "50")];
    let app = App::start(test, &changes).await;
    // It wants more than two credits buy: its limit is lowered to what is left after its input.
    let answer = app.ask("ann", "[[sim input=20 output=100000 chunk=100]]", true).await;
    assert!(answer.text.contains("\"length\""));
    let sent = app.simulator.received()[0].body["max_tokens"].as_u64().unwrap();
    let entry = app.entries("ann").await.remove(0);
    assert_eq!(entry.output_tokens, i64::try_from(sent).unwrap());
    assert!(entry.charge <= 2_000_000 && sent > 900, "{entry:?}");
    // What is left buys no fifty tokens more.
    assert_eq!(app.ask("ann", "", true).await.code(), "insufficient_quota");
    // 64 at a time, balance for two of them.
    let many = join_all((0..64).map(|_| app.ask("bob", "[[sim input=20 output=380 chunk=20]]", true))).await;
    let served = many.iter().filter(|answer| answer.status == 200).count();
    let spent: i64 = app.entries("bob").await.iter().map(|entry| entry.charge).sum();
    assert!(served >= 1 && spent <= 2_000_000, "{served} served, {spent} spent");
    app.end().await;
});

each_database!(strict_cuts_a_provider_that_ignores_the_limit, async |test: TestDatabase| {
    let changes =
        [("admission_policy", "strict"), ("base_credit_allowance", "2"), ("strict_min_output", "50")];
    let app = App::start(test, &changes).await;
    let answer = app.ask("ann", "[[sim overrun=1 output=100000 chunk=50 delay=1]]", true).await;
    assert!(
        answer.text.contains("\"finish_reason\":\"length\"") && answer.text.ends_with("data: [DONE]\n\n")
    );
    app.simulator.until(|received| received[0].fate == Fate::Cancelled).await;
    let entry = app.entries("ann").await.remove(0);
    assert_eq!((entry.outcome.as_str(), entry.over_hold), ("cut", 1));
    assert!(entry.output_tokens < 1600, "{entry:?}");
    app.end().await;
});

each_database!(one_credit_lets_parallel_requests_wait, async |test: TestDatabase| {
    let app = App::start(test, &[("base_credit_allowance", "10")]).await;
    // Each is estimated at more than eight credits and costs half a credit: none is refused falsely.
    let many = join_all((0..12).map(|_| app.ask("ann", "[[sim input=100 output=200]]", true))).await;
    assert!(many.iter().all(|answer| answer.status == 200));
    assert_eq!(app.entries("ann").await.len(), 12);
    app.end().await;
});

each_database!(in_vain_means_busy, async |test: TestDatabase| {
    let app = App::start(test, &[("base_credit_allowance", "10"), ("hold_wait", "0")]).await;
    let mut running = app.send("ann", chat("gpt-test", "[[sim output=100000 delay=5]]", true)).await;
    running.body_mut().frame().await.unwrap().unwrap();
    let mut second = chat("gpt-test", "[[sim output=100000 delay=5]]", true);
    second["n"] = json!(2);
    let mut also_running = app.send("ann", second).await;
    also_running.body_mut().frame().await.unwrap().unwrap();
    let busy = app.ask("ann", "", true).await;
    assert_eq!(
        (busy.status, busy.code(), busy.headers["retry-after"].to_str().unwrap()),
        (429, "busy".into(), "5")
    );
    drop((running, also_running));
    app.end().await;
});

each_database!(what_would_buy_outside_the_price_never_reaches_the_provider, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    for (field, value) in [
        ("service_tier", json!("priority")),
        ("models", json!(["a"])),
        ("tools", json!([{"type": "web_search"}])),
        ("background", json!(true)),
        ("api_key", json!("x")),
    ] {
        let mut body = chat("gpt-test", "", false);
        body[field] = value;
        let refused = read(app.send("ann", body).await).await;
        assert_eq!((refused.status, refused.json()["error"]["param"].as_str()), (400, Some(field)));
    }
    for (key, user_header) in [("wrong", "x-openwebui-user-id"), ("k", "x-nobody")] {
        let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
            .build_http::<http_body_util::Full<bytes::Bytes>>();
        let request = http::Request::post(format!("{}/v1/chat/completions", app.address))
            .header("authorization", format!("Bearer {key}"))
            .header(user_header, "ann")
            .body(chat("gpt-test", "", false).to_string().into())
            .unwrap();
        assert_eq!(client.request(request).await.unwrap().status(), 401);
    }
    assert!(app.simulator.received().is_empty());
    app.end().await;
});

each_database!(a_refused_request_leaves_its_connection_whole, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    let address = app.address.strip_prefix("http://").unwrap();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    let tasks = tokio_util::task::TaskTracker::new();
    tasks.spawn(connection);
    // Too long to have come with its head.
    let body = "x".repeat(500_000);
    for path in ["/v1/chat/completions", "/local/holds", "/v1/chat/completions"] {
        let request = http::Request::post(path)
            .header("host", address)
            .header("authorization", "Bearer wrong")
            .body(http_body_util::Full::new(bytes::Bytes::from(body.clone())))
            .unwrap();
        sender.ready().await.unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 401, "{path}");
        answer.into_body().collect().await.unwrap();
    }
    drop(sender);
    app.end().await;
});

each_database!(only_our_own_headers_go_upstream_and_labels_go_into_the_ledger, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    let headers = [
        ("cookie", "session=secret"),
        ("x-openwebui-chat-id", "chat-1"),
        ("x-tracking-model", "dept-gpt"),
        ("x-tracking-task", "title_generation"),
        ("x-custom", "anything"),
    ];
    let mut body = chat("gpt-test", "[[sim input=5 output=5]]", true);
    body["metadata"] = json!({"kept": [1, 2.5]});
    read(app.post("/v1/chat/completions", "ann", body, &headers).await).await;
    let received = app.simulator.received().remove(0);
    let mut names: Vec<&str> = received.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "accept",
            "accept-encoding",
            "authorization",
            "content-length",
            "content-type",
            "host",
            "user-agent"
        ]
    );
    assert_eq!(received.headers["accept-encoding"], "identity");
    assert_eq!(received.headers["authorization"], "Bearer provider-key");
    assert_eq!(received.body["metadata"].to_string(), r#"{"kept":[1,2.5]}"#);
    assert_eq!(received.body["stream_options"], json!({"include_usage": true}));
    let entry = app.entries("ann").await.remove(0);
    assert_eq!(
        (entry.chat_id.as_deref(), entry.workspace_model.as_deref(), entry.task.as_deref()),
        (Some("chat-1"), Some("dept-gpt"), Some("title_generation"))
    );
    app.end().await;
});

each_database!(embeddings_are_charged_too, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    let body = json!({"model": "gpt-test", "input": ["a", "[[sim input=700]]"]});
    let answer = read(app.post("/v1/embeddings", "ann", body, &[]).await).await.json();
    assert_eq!(answer["data"].as_array().unwrap().len(), 2);
    assert_eq!(answer["usage"]["credits"].to_string(), "0.7");
    assert_eq!(
        app.entries("ann").await.iter().map(row).collect::<Vec<_>>(),
        [("complete", None, 700, 0, 700_000)]
    );
    app.end().await;
});

each_database!(health_models_and_metrics, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .build_http::<http_body_util::Empty<bytes::Bytes>>();
    let get = async |path: &str, key: &str| {
        let request = http::Request::get(format!("{}{path}", app.address))
            .header("authorization", format!("Bearer {key}"));
        let response = client.request(request.body(http_body_util::Empty::new()).unwrap()).await.unwrap();
        read(response).await
    };
    assert_eq!(get("/healthz", "").await.status, 200);
    assert_eq!(get("/readyz", "").await.status, 200);
    assert_eq!(get("/metrics", "wrong").await.status, 401);
    assert_eq!(get("/metrics", "k").await.status, 200);
    assert_eq!(get("/v1/models", "wrong").await.status, 401);
    let models = get("/v1/models", "k").await.json();
    let ids: Vec<_> =
        models["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["dear", "free", "gpt-test"]);
    assert_eq!(get("/nowhere", "k").await.status, 404);
    // Without its tables, it is not ready.
    app.database
        .run(format!("DELETE FROM {}", app.database.table("token_tracking_schema_version")))
        .await
        .unwrap();
    let not_ready = get("/readyz", "").await;
    assert_eq!(not_ready.status, 503);
    assert!(not_ready.text.contains("owui-token-tracking init"));
    app.end().await;
});

each_database!(a_price_changed_in_the_middle_counts_from_the_next_request_on, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    let mut running = app.send("ann", chat("gpt-test", "[[sim input=100 output=50 delay=2]]", true)).await;
    running.body_mut().frame().await.unwrap().unwrap();
    app.database.run(format!("DELETE FROM {}", app.database.table("token_tracking_price"))).await.unwrap();
    read(running).await;
    assert_eq!(app.entries("ann").await[0].charge, 200_000);
    app.end().await;
});

each_database!(
    a_huge_body_and_a_broken_header_are_refused_and_the_service_goes_on,
    async |test: TestDatabase| {
        let app = App::start(test, &[]).await;
        let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
            .build_http::<http_body_util::Full<bytes::Bytes>>();
        let post = |user: &[u8], body: Vec<u8>| {
            http::Request::post(format!("{}/v1/chat/completions", app.address))
                .header("authorization", "Bearer k")
                .header("x-openwebui-user-id", http::HeaderValue::from_bytes(user).unwrap())
                .body(http_body_util::Full::from(body))
                .unwrap()
        };
        // The server answers before the body is through, so the client may see the answer or a broken connection.
        if let Ok(response) = client.request(post(b"ann", vec![b'x'; 100_000_000])).await {
            let refused = read(response).await;
            assert_eq!((refused.status, refused.code()), (413, "body_too_large".into()));
        }
        let broken = read(client.request(post(b"\xff\xfe", b"{}".to_vec())).await.unwrap()).await;
        assert_eq!(broken.status, 400);
        assert!(broken.text.contains("no valid UTF-8"), "{}", broken.text);
        let nonsense = read(client.request(post(b"ann", b"{\"model\": ".to_vec())).await.unwrap()).await;
        assert_eq!((nonsense.status, nonsense.code()), (400, "invalid_request".into()));
        assert_eq!(app.ask("ann", "[[sim input=5 output=5]]", false).await.status, 200);
        app.end().await;
    }
);
