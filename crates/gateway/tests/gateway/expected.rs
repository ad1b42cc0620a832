//! What client programs look for beside the answer: lists of models, ids, headers, keys, forms of errors, counts.

use accounting::{Clock, UserId};
use http::Method;
use providers::Kind;
use serde_json::{Value, json};
use storage::SystemClock;
use storage::admin::keys;
use testing::databases::TestDatabase;
use testing::each_database;

use crate::app::{Answer, App, chat, read};
use crate::scripted::{Scripted, ScriptedServer};

const VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).unwrap_or_else(|| panic!("no {name}")).to_str().unwrap()
}

each_database!(each_client_gets_models_in_its_own_form, async |test: TestDatabase| {
    let app = App::with(test, &[], &[Kind::OPENAI, Kind::ANTHROPIC]).await;
    let key = ("authorization", "Bearer k");
    let list = app.look("/v1/models", &[key]).await.json();
    assert_eq!((&list["object"], &list["data"][0]["object"]), (&json!("list"), &json!("model")));
    let ids: Vec<&str> =
        list["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert!(ids.contains(&"gpt-test"));
    let theirs = app.look("/v1/models?limit=2", &[("x-api-key", "k"), VERSION]).await.json();
    assert_eq!(
        (&theirs["data"][0]["type"], theirs["data"].as_array().unwrap().len(), &theirs["has_more"]),
        (&json!("model"), 2, &json!(true))
    );
    assert_eq!(theirs["last_id"], theirs["data"][1]["id"]);
    let after = format!("/v1/models?limit=1000&after_id={}", theirs["last_id"].as_str().unwrap());
    let rest = app.look(&after, &[key, VERSION]).await.json();
    assert_eq!((rest["data"].as_array().unwrap().len(), &rest["has_more"]), (ids.len() - 2, &json!(false)));

    let one = app.look("/v1/models/gpt-test", &[key]).await.json();
    assert_eq!(
        (&one["id"], &one["object"], &one["name"]),
        (&json!("gpt-test"), &json!("model"), &json!("gpt-test"))
    );
    assert_eq!(app.look("/v1/models/OpenAI/gpt-test", &[key]).await.json()["id"], "gpt-test");
    let theirs = app.look("/v1/models/gpt-test", &[key, VERSION]).await.json();
    assert_eq!((&theirs["type"], &theirs["display_name"]), (&json!("model"), &json!("gpt-test")));
    for path in ["/v1/models/no/such/model", "/v1/models/no%2Fsuch%2Fmodel"] {
        let missing = app.look(path, &[key]).await;
        assert_eq!((missing.status, missing.code().as_str()), (404, "model_not_found"));
        assert!(missing.text.contains("`no/such/model`"), "{}", missing.text);
        let missing = app.look(path, &[key, VERSION]).await.json();
        assert_eq!(missing["error"]["type"], "not_found_error");
    }
    for (path, headers, status) in [
        ("/v1/models/gpt-test", vec![], 401),
        ("/v1/models?limit=many", vec![key], 400),
        ("/v1/models/%ff", vec![key], 400),
    ] {
        let refused = app.look(path, &headers).await;
        assert_eq!(
            (refused.status, refused.json()["error"]["message"].is_string()),
            (status, true),
            "{path}"
        );
    }
    app.end().await;
});

each_database!(what_is_not_there_is_refused_as_its_neighbours_do, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    for (method, path, status, allow, theirs) in [
        (Method::POST, "/v1/nothing", 404, None, false),
        (Method::POST, "/v1/messages/batches", 404, None, true),
        (Method::GET, "/v1/messages", 405, Some("POST"), true),
        (Method::GET, "/v1/chat/completions", 405, Some("POST"), false),
        (Method::PUT, "/v1/models", 405, Some("GET,HEAD"), false),
    ] {
        let refused = app.call(method, path, "k", Value::Null).await;
        let body = refused.json();
        assert_eq!((refused.status, body["type"] == "error"), (status, theirs), "{path}: {body}");
        assert!(body["error"]["message"].as_str().is_some_and(|words| words.len() > 20), "{body}");
        assert_eq!(refused.headers.get("allow").map(|allow| allow.to_str().unwrap()), allow, "{path}");
        assert_eq!(refused.headers["x-should-retry"], "false");
    }
    app.end().await;
});

each_database!(each_answer_has_an_id_where_clients_look, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    for stream in [false, true] {
        let answer = app.ask("ann", "[[sim input=5 output=5]]", stream).await;
        let id = header(&answer, "x-tracking-request");
        assert_eq!((header(&answer, "x-request-id"), header(&answer, "request-id")), (id, id));
    }
    let unknown = read(app.send("ann", chat("no-such", "", false)).await).await;
    let refused = app.look("/v1/models", &[("authorization", "Bearer wrong")]).await;
    let list = app.look("/v1/models", &[("authorization", "Bearer k")]).await;
    let mut ids = vec![];
    for answer in [&unknown, &refused, &list] {
        assert_eq!(header(answer, "x-request-id"), header(answer, "request-id"));
        assert!(!answer.headers.contains_key("x-tracking-request"));
        ids.push(header(answer, "x-request-id"));
    }
    ids.dedup();
    assert_eq!(ids.len(), 3);
    app.end().await;
});

each_database!(rates_credits_and_times_are_in_the_headers, async |test: TestDatabase| {
    let server = ScriptedServer::start(|request| {
        let answer = if request.contains("\"stream\":true") {
            Scripted::stream(&[json!({"id": "c", "model": "gpt-test",
                "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}})])
        } else {
            Scripted::json(&json!({"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-test",
                "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}}))
        };
        let long = "9".repeat(5000);
        let told = format!("x-ratelimit-long: {long}\r\nx-ratelimit-ours: provider-key\r\nx-ratelimit-remaining-requests: 59\r\nanthropic-ratelimit-tokens-reset: 2026-11-30T00:00:00Z\r\n\
            openai-processing-ms: 17\r\nopenai-organization: secret\r\nset-cookie: a=b\r\nserver: x");
        Scripted { head: format!("{}\r\n{told}", answer.head), ..answer }
    })
    .await;
    let app = server.gateway(test, "", "").await;
    for stream in [false, true] {
        let answer = app.ask("ann", "", stream).await;
        assert_eq!(header(&answer, "x-ratelimit-remaining-requests"), "59");
        assert_eq!(header(&answer, "anthropic-ratelimit-tokens-reset"), "2026-11-30T00:00:00Z");
        assert_eq!(header(&answer, "openai-processing-ms"), "17");
        for hidden in ["openai-organization", "set-cookie", "server", "x-ratelimit-long", "x-ratelimit-ours"]
        {
            assert!(!answer.headers.contains_key(hidden));
        }
        let overhead: f64 = header(&answer, "x-tracking-overhead-ms").parse().unwrap();
        assert!(overhead > 0.0, "{overhead}");
        let credits = ["x-tracking-credits", "x-tracking-credits-remaining"]
            .map(|name| answer.headers.get(name).map(|credits| credits.to_str().unwrap().to_owned()));
        // What a stream costs is known at its end.
        let expected = if stream { [None, None] } else { [Some("2".to_owned()), Some("998".to_owned())] };
        assert_eq!(credits, expected);
    }
    app.end().await;
});

each_database!(a_right_key_counts_whatever_else_is_sent, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    let (ann, now) = (UserId::new("ann").unwrap(), SystemClock.now());
    let (_, secret) = keys::create(&app.database, "one", Some(ann), None, now).await.unwrap();
    let (wrong, right) = ("Bearer sk-of-another-server", format!("Bearer {secret}"));
    for (bearer, api_key, status) in [
        (wrong, secret.as_str(), 200),
        ("Basic YTpi", secret.as_str(), 200),
        (&format!("BEARER {secret}"), "", 200),
        (right.as_str(), "sk-of-another-server", 200),
        (right.as_str(), "", 200),
        (wrong, "sk-of-another-server", 401),
        (wrong, "", 401),
    ] {
        let refused = app.look("/v1/models", &[("authorization", bearer), ("x-api-key", api_key)]).await;
        assert_eq!(refused.status, status, "{bearer} {api_key}");
        assert_eq!(refused.headers.contains_key("x-should-retry"), status == 401);
    }
    app.end().await;
});

each_database!(pages_that_are_named_may_ask_with_keys_of_users, async |test: TestDatabase| {
    let origins = "allowed_origins = [\"https://app.example.org\"]\n";
    let app = App::with_more(test, &[], origins, &[]).await;
    let (ann, now) = (UserId::new("ann").unwrap(), SystemClock.now());
    let (_, secret) = keys::create(&app.database, "page", Some(ann), None, now).await.unwrap();
    let (bound, page, other) =
        (format!("Bearer {secret}"), "https://app.example.org", "https://evil.example");
    for (origin, bearer, status, allowed) in [
        (page, bound.as_str(), 200, Some(page)),
        // Browsers keep this from the page; other programs may say what they like.
        (other, bound.as_str(), 200, None),
        (page, "Bearer wrong", 401, Some(page)),
        (page, "Bearer k", 403, Some(page)),
        (other, "Bearer k", 200, None),
    ] {
        let answer = app.look("/v1/models", &[("origin", origin), ("authorization", bearer)]).await;
        let told = answer.headers.get("access-control-allow-origin").map(|told| told.to_str().unwrap());
        assert_eq!((answer.status, told), (status, allowed), "{origin} {bearer}: {}", answer.text);
    }
    let refused =
        read(app.post("/v1/chat/completions", "ann", chat("gpt-test", "", false), &[("origin", page)]).await);
    assert_eq!(refused.await.code(), "bound_key_needed");
    // A page can read what is wrong with its base URL.
    for (origin, path, allowed) in [
        (page, "/v1/nothing", Some(page)),
        (page, "/v1/v1/models", Some(page)),
        (page, "/chat/completions", Some(page)),
        (other, "/v1/nothing", None),
    ] {
        let answer = app.look(path, &[("origin", origin)]).await;
        let told = answer.headers.get("access-control-allow-origin").map(|told| told.to_str().unwrap());
        assert_eq!((answer.status, told), (404, allowed), "{origin} {path}");
    }
    assert!(
        !app.look("/local/settings", &[("origin", page)])
            .await
            .headers
            .contains_key("access-control-allow-origin")
    );
    let ask_at = |origin: &str, path: &str| {
        http::Request::options(format!("{}{path}", app.address))
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type")
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .unwrap()
    };
    let ask = |origin: &str| ask_at(origin, "/v1/chat/completions");
    let client =
        hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
    assert_eq!(client.request(ask_at(page, "/v1/nothing")).await.unwrap().status(), 200);
    let preflight = client.request(ask(page)).await.unwrap();
    assert_eq!(preflight.status(), 200);
    assert_eq!(preflight.headers()["access-control-allow-headers"], "authorization,content-type");
    let refused = client.request(ask(other)).await.unwrap();
    assert!(!refused.headers().contains_key("access-control-allow-origin"));
    app.end().await;
});

each_database!(input_of_responses_is_counted_for_nothing, async |test: TestDatabase| {
    let server = ScriptedServer::start(|request| {
        if request.contains("by ourselves") {
            return Scripted::new("404 Not Found\r\ncontent-type: text/html", "<h1>Not Found</h1>");
        }
        Scripted::json(&json!({"object": "response.input_tokens", "input_tokens": 1234}))
    })
    .await;
    let app = server.gateway(test, "", "").await;
    let count = async |text: &str, model: &str| {
        let body = json!({"model": model, "input": text, "instructions": "Be brief."});
        read(app.post("/v1/responses/input_tokens", "ann", body, &[]).await).await
    };
    assert_eq!(count("one two three", "gpt-test").await.json()["input_tokens"], 1234);
    assert!(server.requests()[0].starts_with("POST /v1/responses/input_tokens HTTP/1.1\r\n"));
    // Where the server has no such route, it is counted as it would be for a charge.
    let ours = count("count it by ourselves", "gpt-test").await.json();
    assert_eq!(ours["object"], "response.input_tokens");
    assert!((8..40).contains(&ours["input_tokens"].as_u64().unwrap()), "{ours}");
    let longer = count(&"count it by ourselves".repeat(50), "gpt-test").await.json();
    assert!(longer["input_tokens"].as_u64() > Some(100), "{longer}");
    assert_eq!(count("x", "no-such").await.code(), "model_not_found");
    assert_eq!(app.entries("ann").await, []);
    app.end().await;
});
