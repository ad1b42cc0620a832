//! Texts from outside, on every way in: whatever they hold, what was served is charged, and nothing stays held.

use accounting::{AccountKey, AccountLimit, Bid, Credits, Policy, Quote, RequestId, UserId, is_hidden};
use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};
use storage::ledger::{HoldOutcome, HoldRequest, Ledger, Outcome, RequestRecord};
use storage::{Database, new_id};
use testing::databases::TestDatabase;
use testing::{each_database, records};

use crate::app::{Answer, App, chat, prepare, read};

/// Control characters of ASCII and C1, and what turns, splits or hides text.
fn nasty() -> impl Iterator<Item = char> {
    let controls = ('\0'..='\u{1f}').chain('\u{7f}'..='\u{9f}');
    controls.chain(
        "\u{ad}\u{61c}\u{200b}\u{200e}\u{202e}\u{2028}\u{2066}\u{2069}\u{feff}\u{fffe}\u{e0041}".chars(),
    )
}

/// As a client writes it into a header.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// All texts of the ledger.
async fn texts(database: &Database) -> Vec<String> {
    let columns =
        ["task", "chat_id", "message_id", "workspace_model", "answered_model", "provider_request_id"];
    let each = columns.map(|column| format!("COALESCE({column}, '')")).join(" || '|' || ");
    let sql = format!("SELECT {each} FROM {}", database.table("token_tracking_ledger"));
    storage::on_pool!(database, pool => {
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(pool).await.unwrap()
    })
}

async fn assert_clean_texts(app: &App, requests: usize) {
    app.settled().await;
    let texts = texts(&app.database).await;
    assert_eq!(texts.len(), requests, "each is charged");
    for text in texts {
        assert!(!text.chars().any(is_hidden), "{text:?}");
    }
}

each_database!(labels_in_headers_are_cleaned_and_charged, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    let asking = nasty().map(|character| {
        let app = &app;
        async move {
            let label = encoded(&format!("local:a{character}b"));
            let (task, message) = (encoded(&format!("t{character}")), encoded(&format!("m{character}")));
            let headers = [
                ("x-openwebui-chat-id", label.as_str()),
                ("x-tracking-task", &task),
                ("x-tracking-message", &message),
                ("x-tracking-model", &label),
                ("x-openwebui-user-name", &label),
            ];
            let body = chat("gpt-test", "[[sim input=1000 output=0]]", false);
            read(app.post("/v1/chat/completions", "ann", body, &headers).await).await.status
        }
    });
    let answers = join_all(asking).await;
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
    assert_clean_texts(&app, answers.len()).await;
    // Broken UTF-8, a surrogate, and what is too long: cut at a character.
    let long = encoded(&"ü".repeat(300));
    for chat_id in ["%ff%00", "%ED%A0%80", &long] {
        let headers = [("x-openwebui-chat-id", chat_id)];
        let body = chat("gpt-test", "[[sim input=1000 output=0]]", false);
        assert_eq!(read(app.post("/v1/chat/completions", "bob", body, &headers).await).await.status, 200);
    }
    let chats: Vec<_> = app.entries("bob").await.into_iter().filter_map(|entry| entry.chat_id).collect();
    assert_eq!(chats, ["\u{fffd}\u{fffd}".into(), "\u{fffd}".repeat(3), format!("{}…", "ü".repeat(254))]);
    let spent = app.entries("ann").await.iter().map(|entry| entry.charge).sum::<i64>();
    assert_eq!(spent, 1_000_000 * i64::try_from(answers.len()).unwrap());
    let name = app.meter.catalogue().user(&UserId::new("ann").unwrap()).await.unwrap().unwrap().name;
    assert!(!name.chars().any(is_hidden) && name.starts_with("local:a"), "{name}");
    app.end().await;
});

each_database!(ids_that_no_database_keeps_are_refused_with_words, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    // A header can't hold control characters themselves, so only its tab gets so far.
    let answer = read(app.send("a\tb", chat("gpt-test", "[[sim]]", false)).await).await;
    assert_eq!((answer.status, answer.text.contains("is no id")), (400, true), "{}", answer.text);
    // What does not show could pass for somebody else, and is not made to be somebody else either.
    for character in nasty().filter(|character| *character >= '\u{80}' && is_hidden(*character)) {
        let user = format!("ann{character}");
        let answer = read(app.send(&user, chat("gpt-test", "[[sim]]", false)).await).await;
        assert_eq!(
            (answer.status, answer.text.contains("do not show")),
            (400, true),
            "{user:?}: {}",
            answer.text
        );
    }
    for model in ["gpt-test\0", "gpt\u{1b}[0m-test"] {
        let answer = read(app.send("ann", chat(model, "[[sim]]", false)).await).await;
        assert_eq!(answer.status, 404, "{}", answer.text);
    }
    let usage = |user: &str, provider: &str| json!({"user": user, "provider": provider, "model": "gpt-test", "usage": {"prompt_tokens": 1, "completion_tokens": 0}});
    let mut unpriced = usage("ann", "openai");
    unpriced["model"] = json!("gpt\u{202e}-new");
    let hidden = [usage("ann\u{200b}", "openai"), usage("ann", "open\u{202e}ai"), unpriced];
    for body in [usage("a\0b", "openai"), usage("ann", "open\0ai")].into_iter().chain(hidden) {
        let answer = app.call(Method::POST, "/local/usage", "k", body).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
    }
    for path in [
        "users?name=a%00b",
        "users?id=a%00b",
        "balance?user=a%00b",
        "models?provider=a%00b",
        "prices?model=a%00b",
    ] {
        let answer = app.call(Method::GET, &format!("/local/{path}"), "k", Value::Null).await;
        assert!(answer.status < 500, "{path}: {}", answer.text);
    }
    app.end().await;
});

each_database!(labels_in_bodies_are_cleaned_and_charged, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    let call = async |path: &str, body: Value| -> Answer { app.call(Method::POST, path, "k", body).await };
    let mut requests = 0;
    for character in nasty() {
        let label = format!("a{character}b");
        let mut body = json!({"user": "ann", "user_name": label, "user_email": label, "provider": "openai", "model": "gpt-test",
            "task": label, "chat_id": label, "message_id": label, "workspace_model": label});
        let usage = json!({"prompt_tokens": 1000, "completion_tokens": 0});
        body["usage"] = usage.clone();
        let answer = call("/local/usage", body.clone()).await;
        assert_eq!((answer.status, answer.json()["credits"].to_string()), (201, "1".into()), "{character:?}");
        body["input_text"] = label.into();
        let answer = call("/local/holds", body).await;
        assert_eq!(answer.status, 201, "{character:?}: {}", answer.text);
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        let end = json!({"outcome": "complete", "text": "a\0b", "usage": usage});
        assert_eq!(call(&format!("/local/holds/{id}/settle"), end).await.status, 200);
        requests += 2;
    }
    assert_clean_texts(&app, requests).await;
    // Half of a character is no text at all.
    let lone = r#"{"user":"ann","provider":"openai","model":"gpt-test","task":"\ud800","usage":{"prompt_tokens":1,"completion_tokens":0}}"#;
    let answer = app.call_text(Method::POST, "/local/usage", "k", lone.into()).await;
    assert_eq!(answer.status, 400, "{}", answer.text);
    app.end().await;
});

each_database!(what_providers_name_is_cleaned_and_charged, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    let mut requests = 0;
    for character in nasty().filter(|character| !character.is_whitespace()) {
        for stream in [false, true] {
            let directive = format!("[[sim input=1000 output=0 model=o{character}1]]");
            let answer = app.ask("ann", &directive, stream).await;
            assert_eq!(answer.status, 200, "{character:?}: {}", answer.text);
            requests += 1;
        }
    }
    assert_clean_texts(&app, requests).await;
    let charged = app.entries("ann").await;
    assert!(charged.iter().all(|entry| entry.charge == 1_000_000 && entry.answered_model.is_some()));
    app.end().await;
});

each_database!(names_of_administrators_are_refused_with_words, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    for bad in ["a\0b", "a\u{1b}[31m", "a\u{202e}b", "a\nb"] {
        let setting = json!({"settings": [{"key": bad, "value": "1"}], "only_new": false});
        let price = json!({"how": "upsert", "prices": [{"provider": "openai", "id": "x", "name": bad,
            "input_cost_credits": 1, "output_cost_credits": 1}]});
        let sponsored = |name: &str, sponsor: &str| json!({"name": name, "sponsor_id": sponsor, "models": ["gpt-test"], "total_credit_limit": 1, "daily_credit_limit": 1});
        for (method, path, body) in [
            (Method::POST, "credit-groups", json!({"name": bad, "credit_allowance": 1})),
            (
                Method::POST,
                "credit-groups",
                // A description may have lines.
                json!({"name": "good", "credit_allowance": 1, "description": bad.replace('\n', "\u{7f}")}),
            ),
            (Method::PUT, "settings", setting),
            (Method::PUT, "prices", price),
            (Method::POST, "sponsored", sponsored(bad, "ann")),
            (Method::POST, "sponsored", sponsored("good", bad)),
        ] {
            let answer = app.call(method, &format!("/local/{path}"), "k", body).await;
            assert_eq!(answer.status, 400, "{path} {bad:?}: {}", answer.text);
        }
    }
    app.end().await;
});

/// A hold as older versions left it: with the text that PostgreSQL refuses, in JSON, where it does no harm.
async fn old_hold(database: &Database, chat_id: &str) -> RequestId {
    let dead = Ledger::open(database).await.unwrap();
    let day = "2026-11-24".parse().unwrap();
    let account = AccountKey::User { day, user: UserId::new("ann").unwrap() };
    let limit = AccountLimit { account, limit: None };
    let bid = Bid { accounts: vec![limit], quote: Quote::Estimate(Credits::ONE) };
    let record = RequestRecord {
        policy: Policy::OneCredit,
        chat_id: Some("chat".into()),
        ..records::record("ann", day).unwrap()
    };
    let id = RequestId::new(new_id());
    let request = HoldRequest { id, bid, record, wait: std::time::Duration::ZERO };
    let HoldOutcome::Held(hold) = dead.hold(request).await.unwrap() else { panic!("nothing is in the way") };
    hold.keep();
    let holds = database.table("token_tracking_hold");
    let sql = format!(
        "UPDATE {holds} SET request = replace(request, '\"chat\"', '\"{chat_id}\"') WHERE id = '{id}'"
    );
    database.run(sql).await.unwrap();
    dead.resign().await.unwrap();
    id
}

each_database!(holds_of_before_are_freed_and_charged_at_the_first_start, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    prepare(&database, &[], &storage::SystemClock).await;
    let (nul, escape) = (old_hold(&database, r"a\u0000b").await, old_hold(&database, r"a\u001bb").await);
    let options = metering::MeterOptions {
        providers: Vec::new(),
        clock: std::sync::Arc::new(storage::SystemClock),
        instance: None,
        settle_wait: std::time::Duration::from_secs(5),
        head_wait: std::time::Duration::from_secs(15),
    };
    let meter = metering::Meter::open(&database, options).await.unwrap();
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(20));
    while storage::reports::verify::verify(&database).await.unwrap().holds > 0 {
        looks.tick().await;
    }
    for id in [nul, escape] {
        let request = storage::reports::requests::request(&database, id).await.unwrap().unwrap();
        // 10 input tokens, guessed when it was admitted.
        assert_eq!((request.outcome.as_str(), request.input), (Outcome::Recovered.as_str(), 10));
        assert!(request.charge > Credits::ZERO);
    }
    assert!(texts(&database).await.iter().all(|text| !text.chars().any(is_hidden)));
    assert_eq!(storage::reports::verify::verify(&database).await.unwrap().differences, []);
    meter.shutdown(std::time::Duration::ZERO).await;
});
