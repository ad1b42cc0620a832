//! Every kind of provider through the whole flow: each class of tokens at its price, each fault with its message, status and
//! charge, and the routes for other APIs.

use std::fmt::Write as _;

use crate::app::{App, chat, read};
use accounting::{Credits, ModelId, Price, ProviderName, Rate};
use http_body_util::BodyExt;
use providers::Kind;
use serde_json::{Value, json};
use storage::SystemClock;
use storage::admin::prices::{self, NewPrice, Source, Write};
use testing::databases::TestDatabase;
use testing::each_database;
use testing::simulator::Fate;

/// One kind for each protocol, with a model of it.
const KINDS: [(Kind, &str); 5] = [
    (Kind::OPENAI, "gpt-priced"),
    (Kind::ANTHROPIC, "claude-sonnet-4-5"),
    (Kind::GOOGLE, "gemini-2.5-flash"),
    (Kind::MISTRAL, "mistral-large-latest"),
    (Kind::OLLAMA, "llama3.2"),
];

/// Microcredits for one token of each class, so that every class shows in a charge; 13 for the call.
fn price() -> Price {
    let rate = |micro: i64| Rate::new(Credits::from_micro(micro), 1);
    Price {
        cached_input: Some(rate(100)),
        cache_write: Some(rate(1250)),
        cache_write_long: Some(rate(2000)),
        input_audio: Some(rate(3000)),
        reasoning: Some(rate(7000)),
        calls: Some(rate(13)),
        ..Price::new(rate(1000), rate(5000))
    }
}

async fn start(test: TestDatabase) -> App {
    let kinds = KINDS.map(|(kind, _)| kind);
    let app = App::with(test, &[("base_credit_allowance", "1000000"), ("hold_wait", "0")], &kinds).await;
    let new = |(kind, model): &(Kind, &str)| NewPrice {
        provider: ProviderName::new(kind.entry().provider).unwrap(),
        model: ModelId::new(*model).unwrap(),
        name: (*model).into(),
        price: price(),
        max_output_tokens: Some(16_000),
        context_tokens: None,
    };
    let models: Vec<NewPrice> = KINDS.iter().map(new).collect();
    let now = accounting::Clock::now(&SystemClock);
    prices::write(&app.database, &models, Write::Upsert, Source::Administrator, now).await.unwrap();
    app.fresh_catalogue().await;
    app
}

fn asked(model: &str, directive: &str, stream: bool) -> Value {
    // Enough for the thinking that some directives want.
    let mut body = chat(model, directive, stream);
    body["max_tokens"] = json!(8000);
    body
}

each_database!(every_class_of_every_provider_at_its_price, async |test: TestDatabase| {
    let app = start(test).await;
    // What each provider tells apart of 1000 input tokens (400 cached, 200 and 100 written to a cache, 50 of sound) and 300
    // output tokens (100 of reasoning), and what that costs by hand, in microcredits.
    let directive = "[[sim input=1000 cached=400 cache_write=200 cache_write_long=100 audio=50 output=300 reasoning=100]]";
    let cases = [
        // 350 plain, 400 cached, 200 written (as gateways to others report it), 50 of sound; 200 plain, 100 of reasoning;
        // one call.
        ("gpt-priced", 350 * 1000 + 400 * 100 + 200 * 1250 + 50 * 3000 + 200 * 5000 + 100 * 7000 + 13),
        // 300 plain, 400 cached, 200 and 100 written; reasoning told apart.
        (
            "claude-sonnet-4-5",
            300 * 1000 + 400 * 100 + 200 * 1250 + 100 * 2000 + 200 * 5000 + 100 * 7000 + 13,
        ),
        // 550 plain, 400 cached, 50 of sound; nothing of written caches.
        ("gemini-2.5-flash", 550 * 1000 + 400 * 100 + 50 * 3000 + 200 * 5000 + 100 * 7000 + 13),
        // Nothing of sound in tokens, and no reasoning told apart.
        ("mistral-large-latest", 600 * 1000 + 400 * 100 + 300 * 5000 + 13),
        // Two counts, no classes.
        ("llama3.2", 1000 * 1000 + 300 * 5000 + 13),
    ];
    for (model, charge) in cases {
        for stream in [false, true] {
            let user = format!("{model}-{stream}");
            let answer = read(app.send(&user, asked(model, directive, stream)).await).await;
            assert_eq!(answer.status, 200, "{model}: {}", answer.text);
            let entry = app.entries(&user).await.remove(0);
            assert_eq!(
                (entry.charge, entry.input_tokens, entry.output_tokens, entry.estimated.as_deref()),
                (charge, 1000, 300, None),
                "{model} streamed={stream}"
            );
            let credits = Credits::from_micro(charge).to_string();
            assert!(answer.text.contains(&format!("\"credits\":{credits}")), "{model}: {}", answer.text);
        }
    }
    app.end().await;
});

/// Every fault at every provider: what its user is told, and what is charged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_of_every_provider() {
    let app = start(TestDatabase::sqlite().await.unwrap()).await;
    let faults = [
        "status=400",
        "status=401",
        "status=404",
        "status=429 retry_after=7",
        "status=500",
        "status=503",
        "status=529",
        "fault=html",
        "fault=wrongtype output=6 input=10",
        "fault=hang output=6",
        "fault=disconnect output=12 delay=2 at=6",
        "fault=half output=12 delay=2 at=6",
        "fault=error output=12 delay=2 at=6",
        "fault=malformed output=12 delay=2 at=6",
        "fault=end output=12 delay=2 at=12",
        "fault=nousage output=12",
        "fault=badusage output=12",
    ];
    let mut table = String::new();
    for (kind, model) in KINDS {
        for fault in faults {
            for stream in [false, true] {
                // In whole answers there are no events.
                if !stream && (fault.contains("fault=error") || fault.contains("fault=end")) {
                    continue;
                }
                let user = format!("{model}-{fault}-{stream}").replace(['=', ' ', '.'], "-");
                let answer =
                    read(app.send(&user, asked(model, &format!("[[sim {fault}]]"), stream)).await).await;
                assert!(!answer.text.contains("sk-simulated"), "{user}: a key leaked: {}", answer.text);
                let told = told(&answer.text);
                let wait = answer.headers.get("retry-after").map(|wait| wait.to_str().unwrap().to_owned());
                let status = answer.status;
                let charge = match app.entries(&user).await.first() {
                    Some(entry) => format!(
                        "{} {} in, {} out{}",
                        entry.outcome,
                        if entry.estimated.is_some() && entry.input_tokens > 0 {
                            "counted".into()
                        } else {
                            entry.input_tokens.to_string()
                        },
                        entry.output_tokens,
                        entry.estimated.as_deref().map(|how| format!(" ({how})")).unwrap_or_default()
                    ),
                    None => "nothing".into(),
                };
                let way = if stream { "streamed" } else { "whole" };
                let wait = wait.map(|wait| format!(", retry after {wait} s")).unwrap_or_default();
                writeln!(
                    table,
                    "{} | {fault} | {way} | {status}{wait} | {told} | {charge}",
                    kind.entry().name
                )
                .unwrap();
            }
        }
    }
    insta::assert_snapshot!("faults", table);
    app.end().await;
}

/// The error that a user sees, or that the answer came.
fn told(text: &str) -> String {
    let events = text.split("\n\n").filter_map(|event| event.rsplit_once("data: ").map(|(_, data)| data));
    let parts: Vec<Value> = events.chain([text]).filter_map(|data| serde_json::from_str(data).ok()).collect();
    let error = parts.iter().find_map(|part| part["error"]["message"].as_str());
    match error {
        Some(message) => message.to_owned(),
        None if text.ends_with("data: [DONE]\n\n") || !text.starts_with("data") => "an answer".into(),
        None => "an answer without its end".into(),
    }
}

each_database!(a_client_that_goes_away_stops_every_provider, async |test: TestDatabase| {
    let app = start(test).await;
    for (kind, model) in KINDS {
        let count = app.simulator.received().len();
        let mut response = app.send(model, asked(model, "[[sim output=8000 delay=5]]", true)).await;
        for _ in 0..6 {
            response.body_mut().frame().await.unwrap().unwrap();
        }
        drop(response);
        app.simulator.until(|received| received[count].fate == Fate::Cancelled).await;
        let entry = app.entries(model).await.remove(0);
        let name = kind.entry().name;
        assert_eq!(
            (entry.outcome.as_str(), entry.estimated.as_deref()),
            ("client_gone", Some("counted")),
            "{name}"
        );
        let produced = i64::try_from(app.simulator.received()[count].produced).unwrap();
        // Counted by another vocabulary, and rounded up.
        assert!(
            entry.output_tokens >= 3 && entry.output_tokens <= 2 * produced,
            "{name}: {entry:?}, {produced}"
        );
        assert!(entry.charge > 0);
    }
    app.end().await;
});

fn responses(directive: &str, stream: bool) -> Value {
    json!({"model": "gpt-priced", "input": format!("one two three {directive}"), "stream": stream, "unknown": {"kept": 1}})
}

fn messages(directive: &str, stream: bool) -> Value {
    let text = format!("one two three {directive}");
    json!({"model": "claude-sonnet-4-5", "max_tokens": 500, "messages": [{"role": "user", "content": text}], "stream": stream})
}

const CLASSES: &str = "[[sim input=100 cached=40 output=50 reasoning=20]]";
/// 60 plain, 40 cached; 30 plain, 20 of reasoning; one call.
const COST: i64 = 60 * 1000 + 40 * 100 + 30 * 5000 + 20 * 7000 + 13;

each_database!(responses_pass_as_they_are_and_are_metered, async |test: TestDatabase| {
    let app = start(test).await;
    let whole = read(app.post("/v1/responses", "ann", responses(CLASSES, false), &[]).await).await.json();
    assert_eq!(whole["usage"]["credits"].to_string(), Credits::from_micro(COST).to_string());
    assert_eq!((&whole["object"], &whole["usage"]["input_tokens"]), (&json!("response"), &json!(100)));
    assert_eq!(app.simulator.received()[0].body["unknown"], json!({"kept": 1}));
    let streamed = read(app.post("/v1/responses", "bob", responses(CLASSES, true), &[]).await).await;
    let last = streamed.text.trim_end().rsplit_once("data: ").unwrap().1;
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["type"], "response.completed");
    assert_eq!(last["response"]["usage"]["credits"].to_string(), Credits::from_micro(COST).to_string());
    assert!(
        streamed.text.contains("event: response.output_text.delta\n") && !streamed.text.contains("[DONE]")
    );
    for user in ["ann", "bob"] {
        let entries = app.entries(user).await;
        assert_eq!(entries.iter().map(|entry| entry.charge).collect::<Vec<_>>(), [COST], "{user}");
    }
    // Broken off: counted, and told in the form of that API.
    let broken = "[[sim output=12 delay=2 fault=disconnect at=6]]";
    let answer = read(app.post("/v1/responses", "eve", responses(broken, true), &[]).await).await;
    assert!(answer.text.contains("event: error\n") && answer.text.contains("broke off"), "{}", answer.text);
    let entry = app.entries("eve").await.remove(0);
    assert_eq!((entry.output_tokens, entry.estimated.as_deref()), (6, Some("counted")));
    app.end().await;
});

each_database!(messages_pass_as_they_are_and_are_metered, async |test: TestDatabase| {
    let app = start(test).await;
    let beta = [("anthropic-beta", "some-feature-2025-01-01"), ("cookie", "secret")];
    let whole = read(app.post("/v1/messages", "ann", messages(CLASSES, false), &beta).await).await.json();
    assert_eq!(whole["usage"]["credits"].to_string(), Credits::from_micro(COST).to_string());
    assert_eq!((&whole["type"], &whole["usage"]["output_tokens"]), (&json!("message"), &json!(50)));
    let received = app.simulator.received().remove(0);
    assert_eq!(received.headers["anthropic-beta"], "some-feature-2025-01-01");
    assert_eq!(
        (&received.headers["x-api-key"], received.headers.get("cookie")),
        (&"provider-key".parse().unwrap(), None)
    );
    let streamed = read(app.post("/v1/messages", "bob", messages(CLASSES, true), &[]).await).await;
    let deltas = streamed.text.split("\n\n").filter(|event| event.starts_with("event: message_delta"));
    let last: Value = serde_json::from_str(deltas.last().unwrap().rsplit_once("data: ").unwrap().1).unwrap();
    assert_eq!(last["usage"]["credits"].to_string(), Credits::from_micro(COST).to_string());
    assert!(
        streamed.text.contains("event: message_stop") && !streamed.text.contains("[DONE]"),
        "{}",
        streamed.text
    );
    for user in ["ann", "bob"] {
        let entries = app.entries(user).await;
        assert_eq!(entries.iter().map(|entry| entry.charge).collect::<Vec<_>>(), [COST], "{user}");
    }
    // Stopped in the middle: what its provider told of the input, and the output as counted.
    let mut running =
        app.post("/v1/messages", "eve", messages("[[sim input=70 output=400 delay=5]]", true), &[]).await;
    for _ in 0..6 {
        running.body_mut().frame().await.unwrap().unwrap();
    }
    drop(running);
    let entry = app.entries("eve").await.remove(0);
    assert_eq!(
        (entry.outcome.as_str(), entry.input_tokens, entry.estimated.as_deref()),
        ("client_gone", 70, Some("counted"))
    );
    app.end().await;
});

each_database!(other_apis_refuse_what_they_can_not_serve, async |test: TestDatabase| {
    let app = start(test).await;
    let mut hosted = messages("", false);
    hosted["tools"] = json!([{"type": "web_search_20250305", "name": "web_search"}]);
    let mut unlimited = messages("", false);
    unlimited["model"] = json!("gpt-priced");
    let with = |field: &str, value: Value| {
        let mut body = responses("", false);
        body[field] = value;
        body
    };
    for (path, body, says) in [
        ("/v1/messages", hosted, "no price"),
        ("/v1/messages", unlimited, "use /v1/chat/completions"),
        ("/v1/responses", with("model", json!("claude-sonnet-4-5")), "use /v1/chat/completions"),
        ("/v1/responses", with("model", json!("llama3.2")), "use /v1/chat/completions"),
        ("/v1/responses", with("previous_response_id", json!("r")), "previous_response_id"),
        ("/v1/responses", with("background", json!(true)), "background"),
        ("/v1/responses", with("tools", json!([{"type": "web_search"}])), "no price"),
        ("/v1/responses", with("input", json!([{"type": "item_reference", "id": "i"}])), "counted"),
        ("/v1/responses", with("input", json!(7)), "input must be"),
    ] {
        let refused = read(app.post(path, "ann", body.clone(), &[]).await).await;
        assert_eq!(refused.status, 400, "{body}: {}", refused.text);
        assert!(refused.text.contains(says), "{body}: {}", refused.text);
        assert_eq!(refused.json()["type"] == "error", path == "/v1/messages");
    }
    assert!(app.simulator.received().is_empty() && app.entries("ann").await.is_empty());
    // Anthropic's clients send their key in a header of their own.
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .build_http::<http_body_util::Full<bytes::Bytes>>();
    for (key, status) in [("k", 200), ("wrong", 401)] {
        let request = http::Request::post(format!("{}/v1/messages", app.address))
            .header("x-api-key", key)
            .header("x-openwebui-user-id", "ann")
            .body(messages("", false).to_string().into())
            .unwrap();
        assert_eq!(client.request(request).await.unwrap().status(), status);
    }
    app.end().await;
});

each_database!(strict_lowers_the_limits_of_other_apis_too, async |test: TestDatabase| {
    let app = start(test).await;
    storage::admin::settings::set(&app.database, "admission_policy", "strict").await.unwrap();
    storage::admin::settings::set(&app.database, "base_credit_allowance", "2.4").await.unwrap();
    app.fresh_catalogue().await;
    for (path, user, body, field) in [
        ("/v1/messages", "ann", messages("[[sim input=20 output=100]]", false), "max_tokens"),
        ("/v1/responses", "bob", responses("[[sim input=20 output=100]]", false), "max_output_tokens"),
    ] {
        let answer = read(app.post(path, user, body, &[]).await).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let sent = app.simulator.received().last().unwrap().body[field].as_u64().unwrap();
        assert!((256..320).contains(&sent), "{path}: {sent}");
    }
    app.end().await;
});

each_database!(what_buys_outside_the_price_is_refused_in_every_shape, async |test: TestDatabase| {
    let app = start(test).await;
    let fields = [
        ("service_tier", json!("priority")),
        ("background", json!(true)),
        ("tools", json!([{"type": "code_execution_20250825", "name": "code_execution"}])),
        ("mcp_servers", json!([{"type": "url", "url": "https://example.org"}])),
        ("container", json!("c")),
        ("models", json!(["a"])),
        ("route", json!("fallback")),
        ("plugins", json!([{"id": "web"}])),
        ("fallbacks", json!(["a"])),
        ("api_base", json!("https://example.org")),
        ("api_key", json!("k")),
        ("extra_body", json!({"a": 1})),
        ("provider", json!({"order": ["a"]})),
        ("web_search_options", json!({})),
        ("search_parameters", json!({"mode": "on"})),
        ("previous_response_id", json!("r")),
        ("conversation", json!("c")),
        ("inference_geo", json!("us")),
        ("speed", json!("fast")),
        ("chat_template", json!("{{ messages }}")),
    ];
    for (path, body) in [
        ("/v1/chat/completions", chat("gpt-priced", "", false)),
        ("/v1/responses", responses("", false)),
        ("/v1/messages", messages("", false)),
    ] {
        for (field, value) in &fields {
            let mut body = body.clone();
            body[*field] = value.clone();
            let refused = read(app.post(path, "ann", body, &[]).await).await;
            assert_eq!(refused.status, 400, "{path} {field}: {}", refused.text);
            assert!(refused.text.contains(field), "{path} {field}: {}", refused.text);
        }
    }
    assert!(app.simulator.received().is_empty() && app.entries("ann").await.is_empty());
    app.end().await;
});

/// Under the strict policy.
async fn strict(test: TestDatabase, allowance: &str) -> App {
    let app = start(test).await;
    for (key, value) in
        [("admission_policy", "strict"), ("base_credit_allowance", allowance), ("strict_min_output", "100")]
    {
        storage::admin::settings::set(&app.database, key, value).await.unwrap();
    }
    app.fresh_catalogue().await;
    app
}

each_database!(what_cannot_be_bounded_needs_the_one_credit_policy, async |test: TestDatabase| {
    let mut body = chat("gemini-2.5-flash", "[[sim input=10 output=2]]", false);
    body["max_tokens"] = json!(100);
    let mut kept = body.clone();
    kept["cachedContent"] = json!("cachedContents/abc");
    let pdf = json!({"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}});
    let text = body["messages"][0]["content"].clone();
    body["messages"][0]["content"] = json!([{"type": "text", "text": text}, pdf]);
    let app = strict(test, "1000").await;
    let refused = read(app.send("ann", body.clone()).await).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
    assert!(refused.text.contains("bounded"), "{}", refused.text);
    assert!(app.entries("ann").await.is_empty());
    storage::admin::settings::set(&app.database, "admission_policy", "one_credit").await.unwrap();
    app.fresh_catalogue().await;
    let taken = read(app.send("ann", body).await).await;
    assert_eq!(taken.status, 200, "{}", taken.text);
    // What others have stored under the same key is taken by no policy.
    assert_eq!(read(app.send("ann", kept).await).await.status, 400);
    assert_eq!(app.simulator.received().len(), 1);
    app.end().await;
});

each_database!(a_strict_limit_takes_the_budget_for_thinking_along, async |test: TestDatabase| {
    // A token of output costs up to 7 millicredits.
    let app = strict(test, "20").await;
    let thinking = |budget: u64| {
        let mut body = messages("[[sim output=9]]", false);
        body["max_tokens"] = json!(8000);
        body["thinking"] = json!({"type": "enabled", "budget_tokens": budget});
        body
    };
    let answer = read(app.post("/v1/messages", "ann", thinking(6000), &[]).await).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let sent = app.simulator.received()[0].body.clone();
    let (limit, budget) =
        (sent["max_tokens"].as_u64().unwrap(), sent["thinking"]["budget_tokens"].as_u64().unwrap());
    assert!(limit < 6000 && budget == limit - 1 && budget >= 1024, "{sent}");
    // No room for the least budget: answered without thinking, and told so.
    storage::admin::settings::set(&app.database, "base_credit_allowance", "7").await.unwrap();
    app.fresh_catalogue().await;
    let answer = read(app.post("/v1/messages", "bob", thinking(6000), &[]).await).await;
    assert_eq!((answer.status, &answer.headers["x-tracking-omitted"]), (200, &"thinking".parse().unwrap()));
    assert_eq!(app.simulator.received()[1].body.get("thinking"), None);
    app.end().await;
});

each_database!(a_prompt_of_no_tokens_is_counted, async |test: TestDatabase| {
    let app = start(test).await;
    for (kind, model) in KINDS {
        for stream in [false, true] {
            let user = format!("{model}-{stream}");
            let answer = read(app.send(&user, asked(model, "[[sim input=0 output=7]]", stream)).await).await;
            assert_eq!(answer.status, 200, "{user}: {}", answer.text);
            let entry = app.entries(&user).await.remove(0);
            let name = kind.entry().name;
            assert_eq!(entry.estimated.as_deref(), Some("counted"), "{name}: {entry:?}");
            assert!(entry.input_tokens > 3 && entry.output_tokens == 7, "{name}: {entry:?}");
        }
    }
    app.end().await;
});
