//! The local routes, with the key that they need: what the command line does, and the holds of foreign code.

use http::Method;
use serde_json::{Value, json};
use testing::databases::TestDatabase;
use testing::each_database;

use crate::app::{Answer, App, chat, read};

/// A request to a local route, and its answer.
async fn call(app: &App, method: Method, path: &str, body: Value) -> Answer {
    app.call(method, &format!("/local/{path}"), "k", body).await
}

async fn ok(app: &App, method: Method, path: &str, body: Value) -> Value {
    let answer = call(app, method, path, body).await;
    assert!((200..300).contains(&answer.status), "{path}: {} {}", answer.status, answer.text);
    if answer.text.is_empty() { Value::Null } else { answer.json() }
}

/// The status and the code of an error.
async fn refused(app: &App, method: Method, path: &str, body: Value) -> (u16, String) {
    let answer = call(app, method, path, body).await;
    (answer.status, answer.code())
}

fn hold(user: &str, more: Value) -> Value {
    let mut hold =
        json!({"user": user, "provider": "OpenAI", "model": "gpt-test", "input_text": "one two three"});
    hold.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    hold
}

each_database!(only_the_configured_key_opens_them, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    for path in ["models", "balance?user=ann", "prices", "credit-groups", "settings", "users", "sponsored"] {
        let answer = app.call(Method::GET, &format!("/local/{path}"), "other", Value::Null).await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "invalid_api_key"), "{path}");
    }
    let answer = app.call(Method::POST, "/local/holds", "other", hold("ann", json!({}))).await;
    assert_eq!(answer.status, 401);
    app.end().await;
});

each_database!(prices_as_on_the_command_line, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    let price = json!({"provider": "openai", "id": "new", "name": "New", "input_cost_credits": 1.25,
        "per_input_tokens": 1000, "output_cost_credits": 2, "per_output_tokens": 1000});
    let put = |price: &Value, how: &str| json!({"prices": [price], "how": how});
    assert_eq!(ok(&app, Method::PUT, "prices", put(&price, "add")).await, json!({"changed": 1}));
    assert_eq!(refused(&app, Method::PUT, "prices", put(&price, "add")).await, (409, "conflict".into()));
    let listed = ok(&app, Method::GET, "prices?provider=OpenAI&model=new", Value::Null).await;
    assert_eq!(listed["prices"], json!([price]));
    let change = json!({"provider": "openai", "id": "new", "output_cost_credits": 3});
    ok(&app, Method::PUT, "prices", put(&change, "update")).await;
    let listed = ok(&app, Method::GET, "prices?model=new", Value::Null).await;
    assert_eq!(listed["prices"][0]["output_cost_credits"], json!(3));
    assert_eq!(listed["prices"][0]["input_cost_credits"].to_string(), "1.25");
    let missing = json!({"provider": "openai", "id": "none"});
    assert_eq!(refused(&app, Method::PUT, "prices", put(&missing, "update")).await.0, 404);
    let wrong = json!({"provider": "openai", "id": "x", "name": "X", "input_cost_credits": -1, "output_cost_credits": 1});
    assert_eq!(refused(&app, Method::PUT, "prices", put(&wrong, "upsert")).await.0, 400);
    assert_eq!(ok(&app, Method::DELETE, "prices?model=new", Value::Null).await, json!({"deleted": 1}));
    assert_eq!(refused(&app, Method::DELETE, "prices?model=new", Value::Null).await.0, 404);
    let models = ok(&app, Method::GET, "models?provider=OpenAI", Value::Null).await;
    let ids: Vec<&str> =
        models["models"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["dear", "free", "gpt-test"]);
    assert_eq!((&models["models"][1]["free"], &models["models"][2]["free"]), (&json!(true), &json!(false)));
    app.end().await;
});

each_database!(groups_settings_and_users_as_on_the_command_line, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    // Seen by the gateway, so known.
    assert_eq!(app.ask("ann", "[[sim input=1000 output=0]]", false).await.status, 200);
    let group = json!({"name": "Staff", "credit_allowance": 500, "description": "All"});
    let made = ok(&app, Method::POST, "credit-groups", group.clone()).await;
    assert_eq!((&made["name"], &made["credit_allowance"]), (&json!("Staff"), &json!(500)));
    assert_eq!(refused(&app, Method::POST, "credit-groups", group).await.0, 409);
    ok(&app, Method::POST, "credit-groups/members", json!({"name": "staff", "user": "ann"})).await;
    let members = ok(&app, Method::GET, "credit-groups/members?name=Staff", Value::Null).await;
    assert_eq!(members["users"][0]["email"], "user@example.org");
    let balance = ok(&app, Method::GET, "balance?user=ann", Value::Null).await;
    assert_eq!(balance["base"], json!({"limit": 1500, "spent": 1, "held": 0, "remaining": 1499}));
    assert!(balance["resets_in"].as_u64().is_some_and(|seconds| seconds <= 25 * 3600));
    let users = ok(&app, Method::GET, "users?id=ann", Value::Null).await;
    assert_eq!(users["users"][0]["credit_groups"][0]["name"], "Staff");
    let mine = ok(&app, Method::GET, "credit-groups?user=ann", Value::Null).await;
    assert_eq!(mine["credit_groups"][0]["user_count"], 1);
    let change = json!({"name": "Staff", "new_name": "Crew", "description": "Some"});
    assert_eq!(ok(&app, Method::PATCH, "credit-groups", change).await["credit_allowance"], 500);
    let change = json!({"name": "Crew", "new_name": "Staff", "credit_allowance": 7});
    assert_eq!(ok(&app, Method::PATCH, "credit-groups", change).await["description"], "Some");
    assert_eq!(refused(&app, Method::PATCH, "credit-groups", json!({"name": "Staff"})).await.0, 400);
    let nobody = json!({"name": "Staff", "user": "nobody"});
    let missing = refused(&app, Method::POST, "credit-groups/members", nobody).await;
    assert_eq!(missing, (404, "user_not_found".into()));
    let listed = ok(&app, Method::GET, "credit-groups?name=Staff", Value::Null).await;
    assert_eq!(listed["credit_groups"][0]["credit_allowance"], 7);
    assert_eq!(refused(&app, Method::DELETE, "credit-groups?name=Staff", Value::Null).await.0, 409);
    ok(&app, Method::DELETE, "credit-groups/members?name=Staff&user=ann", Value::Null).await;
    ok(&app, Method::DELETE, "credit-groups?name=Staff&force=true", Value::Null).await;
    assert_eq!(refused(&app, Method::GET, "credit-groups?name=Staff", Value::Null).await.0, 404);

    let set = |value: &str, only_new: bool| json!({"settings": [{"key": "base_credit_allowance", "value": value}], "only_new": only_new});
    ok(&app, Method::PUT, "settings", set("20", true)).await;
    let value = |settings: &Value| {
        let mut all = settings["settings"].as_array().unwrap().iter();
        all.find(|one| one["key"] == "base_credit_allowance").unwrap()["value"].clone()
    };
    assert_eq!(value(&ok(&app, Method::GET, "settings", Value::Null).await), "1000");
    ok(&app, Method::PUT, "settings", set("20", false)).await;
    assert_eq!(value(&ok(&app, Method::GET, "settings", Value::Null).await), "20");
    assert_eq!(refused(&app, Method::PUT, "settings", set("many", false)).await.0, 400);
    // Keys of others are kept, and so is a description.
    let other = |more: Value| {
        let mut entry = json!({"key": "other", "value": "1"});
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "settings": [entry] })
    };
    ok(&app, Method::PUT, "settings", other(json!({"description": "kept"}))).await;
    ok(&app, Method::PUT, "settings", other(json!({"value": "2"}))).await;
    let all = ok(&app, Method::GET, "settings", Value::Null).await;
    let kept = all["settings"].as_array().unwrap().iter().find(|one| one["key"] == "other").unwrap().clone();
    assert_eq!((&kept["value"], &kept["description"]), (&json!("2"), &json!("kept")));

    let users = ok(&app, Method::GET, "users?email=USER@example.org", Value::Null).await;
    assert_eq!(users["users"][0]["id"], "ann");
    assert_eq!(refused(&app, Method::GET, "balance?user=nobody", Value::Null).await.0, 404);
    app.end().await;
});

each_database!(foreign_code_holds_and_settles, async |test: TestDatabase| {
    let app = App::start(test, &[("hold_wait", "0")]).await;
    // 13 bytes are 4 tokens, 7 stand around them, and 1000 more: 0.011 + 2 credits.
    let held = ok(
        &app,
        Method::POST,
        "holds",
        hold("bob", json!({"max_tokens": 1000, "chat_id": "c1", "task": "t"})),
    )
    .await;
    assert_eq!(held["amount"].to_string(), "2.011");
    let id = held["id"].as_str().unwrap().to_owned();
    let balance = ok(&app, Method::GET, "balance?user=bob", Value::Null).await;
    assert_eq!(balance["base"]["held"].to_string(), "2.011");
    ok(&app, Method::POST, &format!("holds/{id}/progress"), json!({"text": "one two"})).await;
    let waiting = call(&app, Method::GET, &format!("requests/{id}"), Value::Null).await;
    assert_eq!((waiting.status, waiting.json()), (202, json!({"settled": false})));
    let usage = json!({"prompt_tokens": 100, "completion_tokens": 50, "prompt_tokens_details": {"cached_tokens": 10}});
    let bill =
        ok(&app, Method::POST, &format!("holds/{id}/settle"), json!({"outcome": "complete", "usage": usage}))
            .await;
    assert_eq!(bill["credits"].to_string(), "0.2");
    assert_eq!(bill["credits_remaining"].to_string(), "999.8");
    assert_eq!((&bill["estimated"], &bill["id"]), (&json!(false), &json!(id)));
    assert_eq!(bill["adjusted"], false);
    let twice =
        refused(&app, Method::POST, &format!("holds/{id}/settle"), json!({"outcome": "complete"})).await;
    assert_eq!(twice, (404, "hold_not_found".into()));
    let request = ok(&app, Method::GET, &format!("requests/{id}?wait=5"), Value::Null).await;
    assert_eq!(
        (&request["user"], &request["cached_tokens"], &request["task"]),
        (&json!("bob"), &json!(10), &json!("t"))
    );

    // Without usage, what was produced is counted.
    let id = ok(&app, Method::POST, "holds", hold("bob", json!({}))).await["id"].as_str().unwrap().to_owned();
    ok(&app, Method::POST, &format!("holds/{id}/progress"), json!({"text": "one two three"})).await;
    let bill = ok(
        &app,
        Method::POST,
        &format!("holds/{id}/settle"),
        json!({"outcome": "client_gone", "text": " four"}),
    )
    .await;
    assert_eq!((&bill["estimated"], &bill["output_tokens"]), (&json!(true), &json!(4)));

    // Nothing produced: nothing charged.
    let id = ok(&app, Method::POST, "holds", hold("bob", json!({}))).await["id"].as_str().unwrap().to_owned();
    ok(&app, Method::DELETE, &format!("holds/{id}"), Value::Null).await;
    assert_eq!(refused(&app, Method::GET, &format!("requests/{id}"), Value::Null).await.0, 404);
    assert_eq!(
        refused(&app, Method::POST, "holds", hold("bob", json!({"model": "unknown"}))).await.1,
        "model_not_priced"
    );

    // A limit of the caller's own.
    let limited = refused(&app, Method::POST, "holds", hold("bob", json!({"limit": "0.3"}))).await;
    assert_eq!(limited, (402, "insufficient_quota".into()));

    // What is open at the end of the process is settled at what was said last.
    let id = ok(&app, Method::POST, "holds", hold("eve", json!({}))).await["id"].as_str().unwrap().to_owned();
    let usage = json!({"prompt_tokens": 1000, "completion_tokens": 500});
    ok(&app, Method::POST, &format!("holds/{id}/progress"), json!({"usage": usage})).await;
    let database = app.database.clone();
    app.end().await;
    let id = id.parse().unwrap();
    let request = storage::reports::requests::request(&database, id).await.unwrap().unwrap();
    assert_eq!((request.outcome.as_str(), request.charge.to_string().as_str()), ("client_gone", "2"));
});

each_database!(what_has_happened_is_charged_whatever_is_left, async |test: TestDatabase| {
    let app = App::start(test, &[("base_credit_allowance", "1")]).await;
    let used = |user: &str| json!({"user": user, "provider": "openai", "model": "gpt-test", "usage": {"prompt_tokens": 1000, "completion_tokens": 500}});
    assert_eq!(ok(&app, Method::POST, "usage", used("ann")).await["credits"], json!(2));
    let second = ok(&app, Method::POST, "usage", used("ann")).await;
    assert_eq!((&second["credits"], &second["credits_remaining"]), (&json!(2), &json!(-3)));
    let wrong =
        json!({"user": "ann", "provider": "openai", "model": "gpt-test", "usage": {"prompt_tokens": -1}});
    assert_eq!(refused(&app, Method::POST, "usage", wrong).await.0, 400);
    let settings = app.database.table("token_tracking_base_settings");
    app.database.run(format!("DELETE FROM {settings}")).await.unwrap();
    app.fresh_catalogue().await;
    assert_eq!(ok(&app, Method::POST, "usage", used("bob")).await["credits_remaining"], json!(-2));
    assert_eq!(app.ask("ann", "[[sim input=1 output=1]]", false).await.code(), "no_allowance");
    app.end().await;
});

each_database!(a_hold_takes_its_part_of_the_bounds_until_it_ends, async |test: TestDatabase| {
    let bounds = "bytes_in_flight = 8000000\nbytes_per_user = 1000000\n";
    let app = App::with_more(test, &[], bounds, &[]).await;
    let text = "word ".repeat(120_000);
    let held = ok(&app, Method::POST, "holds", hold("ann", json!({"input_text": text}))).await;
    let id = held["id"].as_str().unwrap();
    let again = refused(&app, Method::POST, "holds", hold("ann", json!({"input_text": text}))).await;
    assert_eq!(again, (429, "too_many_bytes".into()));
    let asked = read(app.send("ann", chat("gpt-test", &text, false)).await).await;
    assert_eq!((asked.status, asked.code().as_str()), (429, "too_many_bytes"));
    // Others are not concerned, and she has her share again when it has ended.
    assert_eq!(read(app.send("bob", chat("gpt-test", &text, false)).await).await.status, 200);
    ok(&app, Method::DELETE, &format!("holds/{id}"), Value::Null).await;
    assert_eq!(read(app.send("ann", chat("gpt-test", &text, false)).await).await.status, 200);
    let held = ok(&app, Method::POST, "holds", hold("ann", json!({"input_text": text}))).await;
    let end = json!({"outcome": "complete", "usage": {"prompt_tokens": 1, "completion_tokens": 1}});
    ok(&app, Method::POST, &format!("holds/{}/settle", held["id"].as_str().unwrap()), end).await;
    assert_eq!(read(app.send("ann", chat("gpt-test", &text, false)).await).await.status, 200);
    app.end().await;
});
