//! `/v1/messages/count_tokens`: free, but only for those who may ask the model.

use accounting::{Credits, ModelId, Price, ProviderName, Rate};
use providers::Kind;
use serde_json::{Value, json};
use storage::SystemClock;
use storage::admin::prices::{self, NewPrice, Source, Write};
use testing::databases::TestDatabase;
use testing::each_database;

use crate::app::{App, read};

const COUNT: &str = "/v1/messages/count_tokens";
const CLAUDE: &str = "claude-sonnet-4-5-test";

fn question(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "one two three"}]})
}

async fn start(test: TestDatabase, allowance: &str) -> App {
    let settings = [("base_credit_allowance", allowance), ("hold_wait", "0")];
    let app = App::with(test, &settings, &[Kind::OPENAI, Kind::ANTHROPIC]).await;
    let rate = Rate::new(Credits::from_whole(1).unwrap(), 1);
    let claude = NewPrice {
        provider: ProviderName::new("anthropic").unwrap(),
        model: ModelId::new(CLAUDE).unwrap(),
        name: CLAUDE.into(),
        price: Price::new(rate, rate),
        max_output_tokens: None,
        context_tokens: None,
    };
    let now = accounting::Clock::now(&SystemClock);
    prices::write(&app.database, &[claude], Write::Add, Source::Administrator, now).await.unwrap();
    app.fresh_catalogue().await;
    app
}

each_database!(tokens_are_counted_for_nothing, async |test: TestDatabase| {
    // Even with nothing left, as nothing is spent.
    let app = start(test, "0").await;
    let beta = [("anthropic-beta", "interleaved-thinking-2025-05-14")];
    for model in [CLAUDE, "anthropic/claude-sonnet-4-5-test"] {
        let counted =
            read(app.post(&format!("{COUNT}?beta=true"), "ann", question(model), &beta).await).await;
        assert_eq!(counted.status, 200, "{}", counted.text);
        assert!(counted.json()["input_tokens"].as_u64() > Some(0), "{}", counted.text);
    }
    let received = app.simulator.received();
    assert_eq!(received[1].path, "/anthropic/v1/messages/count_tokens");
    assert_eq!(received[1].body, question(CLAUDE));
    assert_eq!(received[1].headers["anthropic-beta"], beta[0].1);
    assert_eq!(app.entries("ann").await, []);
    app.end().await;
});

each_database!(tokens_are_counted_for_those_who_may_ask_the_model, async |test: TestDatabase| {
    let app = start(test, "100").await;
    let stored = json!({"model": CLAUDE, "messages": [{"role": "user", "content": [
        {"type": "document", "source": {"type": "file", "file_id": "file_1"}}]}]});
    for (body, status, words) in [
        (question("gpt-test"), 400, "of the kind openai: use /v1/chat/completions"),
        (question("claude-unknown"), 404, "does not exist"),
        (question("anthropic/claude-3-5-haiku-test"), 403, "no price"),
        (stored, 400, "stored files"),
        (json!({"model": CLAUDE, "messages": [], "max_tokens": 5}), 400, "Extra inputs"),
        (json!({"messages": []}), 400, "model"),
    ] {
        let refused = read(app.post(COUNT, "ann", body.clone(), &[]).await).await;
        assert_eq!((refused.status, refused.json()["type"].as_str()), (status, Some("error")), "{body}");
        let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(words), "{message}");
    }
    for key in ["", "Bearer wrong"] {
        let request = http::Request::post(format!("{}{COUNT}", app.address)).header("authorization", key);
        let request = request.body(question(CLAUDE).to_string()).unwrap();
        let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new());
        let refused = read(client.build_http().request(request).await.unwrap()).await;
        assert_eq!(
            (refused.status, refused.json()["error"]["type"].as_str()),
            (401, Some("authentication_error"))
        );
    }
    // Only what was refused at the server itself reached it.
    let reached =
        app.simulator.received().iter().filter(|request| request.path.ends_with("count_tokens")).count();
    assert_eq!(reached, 1);
    assert_eq!(app.entries("ann").await, []);
    app.end().await;
});
