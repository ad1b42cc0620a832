//! Sponsored allowances: which requests open them, and what they allow.

use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};
use storage::Database;
use testing::databases::TestDatabase;
use testing::each_database;

use crate::app::{Answer, App, chat, read};

/// Open WebUI's tables, with an administrator, two users and workspace models.
async fn open_webui(database: &Database) {
    let (user, model) = (database.table("user"), database.table("model"));
    let people = "('boss', 'Boss', 'b@example.org', 'admin'), ('ann', 'Ann', 'a@example.org', 'user'), \
        ('bob', 'Bob', 'c@example.org', 'user')";
    let models = "('lab---one', 'boss', 'openai.gpt-test'), ('lab---dear', 'boss', 'openai.dear'), \
        ('lab---mine', 'ann', 'openai.gpt-test'), ('gone---one', 'boss', 'openai.gpt-test'), \
        ('plain', 'ann', 'openai.gpt-test')";
    let sql = format!(
        "CREATE TABLE {user} (id VARCHAR(255) PRIMARY KEY, name VARCHAR(255), email VARCHAR(255), role VARCHAR(255)); \
         CREATE TABLE {model} (id VARCHAR(255) PRIMARY KEY, user_id VARCHAR(255), base_model_id VARCHAR(255)); \
         INSERT INTO {user} VALUES {people}; INSERT INTO {model} VALUES {models}"
    );
    database.run(sql).await.unwrap();
}

async fn start(test: TestDatabase, settings: &[(&str, &str)]) -> App {
    open_webui(&test.open().await.unwrap()).await;
    App::start(test, settings).await
}

async fn grant(app: &App, total: i64, daily: Option<i64>) -> Value {
    let terms = json!({"name": "Lab", "sponsor_id": "boss", "models": ["gpt-test"], "total_credit_limit": total,
        "daily_credit_limit": daily});
    let made = app.call(Method::POST, "/local/sponsored", "k", terms).await;
    assert_eq!(made.status, 201, "{}", made.text);
    app.fresh_catalogue().await;
    made.json()
}

/// A chat with a workspace model.
async fn ask(app: &App, user: &str, workspace: &str, model: &str, directive: &str, task: &str) -> Answer {
    let headers = [("x-tracking-model", workspace), ("x-tracking-task", task)];
    read(app.post("/v1/chat/completions", user, chat(model, directive, false), &headers).await).await
}

const TWO: &str = "[[sim input=1000 output=500]]";

each_database!(only_administrators_models_over_covered_models_open_one, async |test: TestDatabase| {
    let app = start(test, &[]).await;
    grant(&app, 100, Some(5)).await;
    let paid = ask(&app, "ann", "lab---one", "gpt-test", TWO, "").await;
    assert_eq!(paid.status, 200, "{}", paid.text);
    // What is left of the day's 5 credits is less than of the total.
    assert_eq!(paid.json()["usage"]["credits_remaining"], json!(3));
    for (workspace, model, says) in [
        ("lab---mine", "gpt-test", "not made by an administrator"),
        ("gone---one", "gpt-test", "does not exist"),
        ("lab---none", "gpt-test", "no workspace model"),
        ("lab---dear", "dear", "does not cover"),
        ("lab---one", "dear", "not made of the model"),
    ] {
        let refused = ask(&app, "ann", workspace, model, TWO, "").await;
        assert_eq!((refused.status, refused.code().as_str()), (403, "not_sponsored"), "{workspace}");
        assert!(refused.text.contains(says), "{}", refused.text);
    }
    // The user's own day is untouched until they use a model of their own.
    let balance = app.call(Method::GET, "/local/balance?user=ann", "k", Value::Null).await.json();
    assert_eq!(balance["base"]["spent"], json!(0));
    assert_eq!(balance["sponsored"][0]["daily"], json!({"limit": 5, "spent": 2, "held": 0, "remaining": 3}));
    assert_eq!(balance["sponsored"][0]["total"]["remaining"], json!(98));
    assert_eq!(
        ask(&app, "ann", "plain", "gpt-test", TWO, "").await.json()["usage"]["credits_remaining"],
        json!(998)
    );
    app.end().await;
});

each_database!(tasks_of_a_sponsored_chat_are_sponsored_where_covered, async |test: TestDatabase| {
    let app = start(test, &[]).await;
    grant(&app, 100, None).await;
    assert_eq!(ask(&app, "ann", "lab---one", "gpt-test", TWO, "title_generation").await.status, 200);
    assert_eq!(ask(&app, "ann", "lab---one", "dear", TWO, "tags_generation").await.status, 200);
    let balance = app.call(Method::GET, "/local/balance?user=ann", "k", Value::Null).await.json();
    // The dear task model is not covered: its user pays.
    assert_eq!(
        (&balance["sponsored"][0]["total"]["spent"], &balance["base"]["spent"]),
        (&json!(2), &json!(20))
    );
    assert!(balance["sponsored"][0]["daily"].is_null());
    app.end().await;
});

each_database!(the_holder_of_a_bound_key_opens_none, async |test: TestDatabase| {
    let app = start(test, &[]).await;
    grant(&app, 100, None).await;
    let user = accounting::UserId::new("ann").unwrap();
    let now = accounting::Clock::now(&storage::SystemClock);
    let (_, key) =
        storage::admin::keys::create(&app.database, "laptop", Some(user), None, now).await.unwrap();
    let headers = [("x-tracking-model", "lab---one")];
    let answer = app.ask_with_key(&key, chat("gpt-test", TWO, false), &headers).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    // From the user's own thousand.
    assert_eq!(answer.json()["usage"]["credits_remaining"], json!(998));
    app.end().await;
});

each_database!(its_limits_hold_under_concurrency, async |test: TestDatabase| {
    let app =
        start(test, &[("admission_policy", "strict"), ("hold_wait", "5"), ("strict_min_output", "485")])
            .await;
    grant(&app, 9, Some(6)).await;
    let mut body = chat("gpt-test", "[[sim input=5 output=485]]", false);
    body["max_tokens"] = json!(485);
    let headers = [("x-tracking-model", "lab---one")];
    let users = ["ann", "bob", "ann", "bob", "ann", "bob", "ann", "bob", "ann", "bob", "ann", "bob"];
    let requests = users.map(|user| app.post("/v1/chat/completions", user, body.clone(), &headers));
    let answers = join_all(requests).await;
    let served = answers.iter().filter(|answer| answer.status() == 200).count();
    assert_eq!(served, 9, "0.975 credits each");
    let balances = join_all(["ann", "bob"].map(|user| {
        let path = format!("/local/balance?user={user}");
        let app = &app;
        async move { app.call(Method::GET, &path, "k", Value::Null).await.json() }
    }));
    app.settled().await;
    for balance in balances.await {
        let sponsored = &balance["sponsored"][0];
        assert_eq!(sponsored["total"]["spent"].to_string(), "8.775");
        let daily: f64 = sponsored["daily"]["spent"].to_string().parse().unwrap();
        assert!(daily <= 6.0, "{sponsored}");
    }
    app.end().await;
});

each_database!(allowances_are_made_changed_and_deleted, async |test: TestDatabase| {
    let app = start(test, &[]).await;
    let made = grant(&app, 100, Some(5)).await;
    let terms = |name: &str, model: &str, sponsor: &str| json!({"name": name, "sponsor_id": sponsor, "models": [model], "total_credit_limit": 1});
    for (terms, status) in [
        (terms("LAB", "gpt-test", "boss"), 409),
        (terms("Other", "none", "boss"), 404),
        (terms("Other", "gpt-test", ""), 400),
        (terms("a---b", "gpt-test", "boss"), 400),
    ] {
        let refused = app.call(Method::POST, "/local/sponsored", "k", terms.clone()).await;
        assert_eq!(refused.status, status, "{terms}: {}", refused.text);
    }
    let change = json!({"name": "lab", "new_name": "Labor", "models": ["gpt-test", "dear"], "daily_credit_limit": null});
    let changed = app.call(Method::PATCH, "/local/sponsored", "k", change).await.json();
    let expected = json!({"id": made["id"], "name": "Labor", "sponsor_id": "boss", "models": ["dear", "gpt-test"],
        "covered_models": ["dear", "gpt-test"], "total_credit_limit": 100, "daily_credit_limit": null, "starts_on": null,
        "ends_on": null, "members": [], "public": false, "created_at": made["created_at"]});
    assert_eq!(changed, expected);
    assert_eq!(made["created_at"].as_str().unwrap().len(), "2026-11-24 00:00:00".len());
    // A model cannot lose its price while an allowance covers it.
    let covered = app.call(Method::DELETE, "/local/prices?model=dear", "k", Value::Null).await;
    assert_eq!((covered.status, covered.text.contains("Labor")), (409, true));
    let id = made["id"].as_str().unwrap();
    let deleted = app.call(Method::DELETE, &format!("/local/sponsored?id={id}"), "k", Value::Null).await;
    assert_eq!(deleted.status, 204);
    assert_eq!(
        app.call(Method::GET, "/local/sponsored", "k", Value::Null).await.json(),
        json!({"sponsored": []})
    );
    app.end().await;
});
