//! What a newer version has written into the same database: it is refused where it can't be understood, and only there.

use storage::admin::settings;
use testing::databases::TestDatabase;
use testing::each_database;

use crate::app::{Answer, App, chat, read};

async fn ask(app: &App, model: &str) -> Answer {
    app.meter.catalogue().changed();
    read(app.send("ann", chat(model, "[[sim input=1000 output=1000]]", false)).await).await
}

async fn run(app: &App, table: &str, rest: impl Fn(&str) -> String) {
    app.database.run(rest(&app.database.table(&format!("token_tracking_{table}")))).await.unwrap();
}

each_database!(a_price_with_an_unknown_class_refuses_its_model_alone, async |test: TestDatabase| {
    // Models without a price are free here: one whose price can't be read is not one of them.
    let app = App::start(test, &[("unpriced_models", "free")]).await;
    let rate = r#"{"credits":1,"per":1000}"#;
    let price = format!(r#"{{"input":{rate},"output":{rate},"searches":{rate}}}"#);
    run(&app, "price", |table| format!("UPDATE {table} SET price = '{price}' WHERE model = 'dear'")).await;
    assert_eq!(ask(&app, "gpt-test").await.status, 200);
    for asked in ["dear", "openai/dear"] {
        let refused = ask(&app, asked).await;
        assert_eq!((refused.status, refused.code()), (403, "price_not_usable".into()), "{asked}");
        let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("`searches`") && message.contains("install the newer version"), "{message}");
    }
    run(&app, "price", |table| format!("DELETE FROM {table} WHERE model = 'dear'")).await;
    assert_ne!(ask(&app, "dear").await.code(), "price_not_usable");
    app.end().await;
});

each_database!(a_setting_that_cant_be_used_stops_what_it_concerns, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    let set = async |key: &str, value: &str| {
        run(&app, "base_settings", |table| {
            format!(
                "DELETE FROM {table} WHERE setting_key = '{key}'; \
                 INSERT INTO {table} (setting_key, setting_value) VALUES ('{key}', '{value}')"
            )
        })
        .await;
    };
    for (key, value, good, stops) in [
        ("timezone", "Mars/Olympus", "Europe/Berlin", true),
        ("admission_policy", "by_the_hour", "one_credit", true),
        ("base_credit_allowance", "lots", "1000", true),
        ("base_monthly_allowance", "lots", "none", true),
        ("hold_output_tokens", "many", "4096", true),
        ("hold_wait", "long", "20", false),
        ("credits_per_usd", "some", "1000", false),
        ("unpriced_models", "guess", "refuse", false),
    ] {
        set(key, value).await;
        let answer = ask(&app, "gpt-test").await;
        if stops {
            assert_eq!((answer.status, answer.code()), (503, "misconfigured".into()), "{key}");
            let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
            assert!(message.contains(&format!("settings set {key}")), "{message}");
        } else {
            assert_eq!(answer.status, 200, "{key}: {}", answer.text);
        }
        if key == "unpriced_models" {
            assert_eq!(ask(&app, "unpriced-test").await.code(), "misconfigured");
        }
        let problems = app.meter.catalogue().snapshot().await.unwrap();
        assert!(problems.problems().any(|problem| problem.to_string().contains(key)), "{key}");
        settings::set(&app.database, key, good).await.unwrap();
        assert_eq!(ask(&app, "gpt-test").await.status, 200, "{key} was corrected");
    }
    app.end().await;
});

each_database!(an_allowance_with_an_unknown_kind_of_member_opens_for_nobody, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    let id = "0190a0a0a0a07000800000000000000b";
    run(&app, "sponsored_allowance", |table| {
        format!(
            "INSERT INTO {table} (id, creation_date, sponsor_id, name, total_credit_limit) \
             VALUES ('{id}', CURRENT_TIMESTAMP, 'dean', 'Course', 1000)"
        )
    })
    .await;
    run(&app, "sponsored_member", |table| {
        format!("INSERT INTO {table} (sponsored_id, kind, member) VALUES ('{id}', 'directory_group', 'x')")
    })
    .await;
    run(&app, "sponsored_workspace_model", |table| {
        format!("INSERT INTO {table} (id, sponsored_id) VALUES ('course-model', '{id}')")
    })
    .await;
    assert_eq!(ask(&app, "gpt-test").await.status, 200, "all else goes on");
    // Neither the allowance pays nor, unasked, the user.
    let body = chat("gpt-test", "", false);
    let headers = [("x-tracking-model", "course-model")];
    let refused = read(app.post("/v1/chat/completions", "ann", body, &headers).await).await;
    assert_eq!((refused.status, refused.code()), (403, "not_sponsored".into()), "{}", refused.text);
    assert!(refused.text.contains("directory_group"), "{}", refused.text);
    app.end().await;
});
