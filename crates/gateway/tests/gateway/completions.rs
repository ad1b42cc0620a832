//! `/v1/completions`: as exact as chats, whatever a prompt is.

use accounting::{Clock as _, Credits, ModelId, Price, ProviderName, Rate};
use providers::Kind;
use serde_json::{Value, json};
use storage::SystemClock;
use storage::admin::prices::{self, NewPrice, Source, Write};
use testing::databases::TestDatabase;
use testing::each_database;

use crate::app::{App, read};

const PATH: &str = "/v1/completions";

fn body(prompt: Value, more: Value) -> Value {
    let mut body = json!({"model": "gpt-test", "prompt": prompt, "max_tokens": 100});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn start(test: TestDatabase, policy: &str) -> App {
    App::start(test, &[("base_credit_allowance", "1000"), ("admission_policy", policy), ("hold_wait", "0")])
        .await
}

each_database!(every_form_of_a_prompt_is_charged_as_it_is_told, async |test: TestDatabase| {
    let app = start(test, "one_credit").await;
    let directive = "[[sim input=1000 output=10]]";
    let mut expected = Vec::new();
    for (prompt, more, made, shown) in [
        (json!(directive), json!({}), 10, 1),
        (json!([directive]), json!({"suffix": "the end"}), 10, 1),
        (json!(["first", directive]), json!({}), 20, 2),
        (json!(["first", directive]), json!({"n": 2}), 40, 4),
        (json!(directive), json!({"n": 3}), 30, 3),
        (json!(directive), json!({"echo": true, "logprobs": 2}), 10, 1),
    ] {
        for stream in [false, true] {
            let mut body = body(prompt.clone(), more.clone());
            body["stream"] = stream.into();
            let answer = read(app.post(PATH, "ann", body.clone(), &[]).await).await;
            assert_eq!(answer.status, 200, "{body}: {}", answer.text);
            let last = if stream { answer.chunks().pop().unwrap() } else { answer.json() };
            assert_eq!(last["usage"]["completion_tokens"], made, "{body}: {}", answer.text);
            assert_eq!(last["choices"].as_array().unwrap().len(), shown, "{body}");
            assert_eq!(last["object"], "text_completion");
            // 1 credit of input, and 2 for a thousand tokens of output.
            assert_eq!(last["usage"]["credits"].to_string(), format!("1.{:02}", 2 * made / 10));
            expected.push((made, 1_000_000 + 2_000 * i64::from(made)));
            let mut sent = app.simulator.received().pop().unwrap();
            assert_eq!(sent.path, "/v1/completions");
            sent.body.as_object_mut().unwrap().remove("stream_options");
            assert_eq!(sent.body, body);
        }
    }
    let entries = app.entries("ann").await;
    assert!(entries.iter().all(|entry| entry.estimated.is_none() && entry.input_tokens == 1000));
    let charged: Vec<_> = entries.iter().map(|entry| (entry.output_tokens, entry.charge)).collect();
    let expected: Vec<_> = expected.into_iter().map(|(made, charge)| (i64::from(made), charge)).collect();
    assert_eq!(charged, expected);
    app.end().await;
});

each_database!(a_prompt_of_tokens_is_counted_and_passes, async |test: TestDatabase| {
    let app = start(test, "one_credit").await;
    let prompts = [(json!([1, 2, 3]), 1, 3), (json!([[1, 2, 3], [4]]), 2, 4), (json!(["one", [5, 6]]), 2, 3)];
    for (prompt, choices, _) in &prompts {
        let answer = read(app.post(PATH, "ann", body(prompt.clone(), json!({})), &[]).await).await;
        assert_eq!(answer.status, 200, "{prompt}: {}", answer.text);
        assert_eq!(answer.json()["choices"].as_array().unwrap().len(), *choices);
        assert_eq!(&app.simulator.received().last().unwrap().body["prompt"], prompt);
    }
    // The simulated server knows words only, and tells that there are none.
    let counted: Vec<_> = app.entries("ann").await.iter().map(|entry| entry.input_tokens).collect();
    assert_eq!(counted[..2], [3, 4]);
    app.end().await;
});

each_database!(what_is_not_told_is_counted_without_what_was_not_made, async |test: TestDatabase| {
    let app = start(test, "one_credit").await;
    let prompt = "one two three [[sim output=12 fault=nousage]]";
    let ask = async |user: &str, prompt: Value, more: Value| {
        let answer = read(app.post(PATH, user, body(prompt, more), &[]).await).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer
    };
    for stream in [false, true] {
        ask("ann", json!(prompt), json!({"stream": stream})).await;
        // The prompt comes back, and was not made.
        ask("ann", json!(prompt), json!({"stream": stream, "echo": true})).await;
        // Two prompts, two answers of each.
        ask("ann", json!([prompt, prompt]), json!({"stream": stream, "n": 2, "echo": true})).await;
    }
    let entries = app.entries("ann").await;
    assert!(entries.iter().all(|entry| entry.estimated.as_deref() == Some("counted")));
    let counted: Vec<_> = entries.iter().map(|entry| (entry.input_tokens, entry.output_tokens)).collect();
    let (input, output) = counted[0];
    assert!(input > 5 && output == 12, "{counted:?}");
    assert_eq!([counted[1], counted[3], counted[4]], [(input, output); 3]);
    for several in [counted[2], counted[5]] {
        // Where one text ends and the next begins, a token may be common to both.
        assert!(several.0 == 2 * input && (4 * output - 3..=4 * output).contains(&several.1), "{counted:?}");
    }
    app.end().await;
});

each_database!(all_that_are_chosen_from_are_billed, async |test: TestDatabase| {
    let together: Kind = "together".parse().unwrap();
    let settings = [("base_credit_allowance", "1000"), ("hold_wait", "0")];
    let app = App::with(test, &settings, &[together]).await;
    let rate = |credits: i64| Rate::new(Credits::from_whole(credits).unwrap(), 1000);
    let price = NewPrice {
        provider: ProviderName::new("together").unwrap(),
        model: ModelId::new("chooses").unwrap(),
        name: "chooses".into(),
        price: Price::new(rate(1), rate(2)),
        max_output_tokens: Some(16_000),
        context_tokens: None,
    };
    prices::write(&app.database, &[price], Write::Add, Source::Administrator, SystemClock.now())
        .await
        .unwrap();
    app.fresh_catalogue().await;
    let ask = async |directive: &str, n: u64, best_of: u64| {
        let mut asked = body(json!(format!("one [[sim {directive}]]")), json!({"n": n, "best_of": best_of}));
        asked["model"] = json!("chooses");
        let answer = read(app.post(PATH, "ann", asked, &[]).await).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.json()["choices"].as_array().unwrap().len() as u64, n);
    };
    ask("input=1000 output=10", 2, 5).await;
    // As many again are counted where nothing is told.
    ask("output=12 fault=nousage", 1, 1).await;
    ask("output=12 fault=nousage", 1, 3).await;
    let entries = app.entries("ann").await;
    let output: Vec<_> = entries.iter().map(|entry| entry.output_tokens).collect();
    assert_eq!(output[0], 50);
    // Where one text ends and the next begins, a token may be common to both.
    assert!((3 * output[1] - 4..=3 * output[1]).contains(&output[2]), "{output:?}");
    app.end().await;
});

each_database!(whoever_goes_away_pays_for_what_was_made, async |test: TestDatabase| {
    let app = start(test, "one_credit").await;
    let prompt = "one two [[sim output=5000 delay=5]]";
    let asked = body(json!(prompt), json!({"stream": true, "echo": true, "max_tokens": 5000}));
    let mut answer = app.post(PATH, "ann", asked, &[]).await;
    let mut seen = 0;
    while seen < 5 {
        let frame = http_body_util::BodyExt::frame(&mut answer).await.unwrap().unwrap();
        seen += usize::from(frame.is_data());
    }
    drop(answer);
    let entries = app.entries("ann").await;
    let produced = app.simulator.produced();
    let entry = &entries[0];
    assert_eq!((entry.outcome.as_str(), entry.estimated.as_deref()), ("client_gone", Some("counted")));
    let output = u64::try_from(entry.output_tokens).unwrap();
    assert!(output >= 3 && output <= produced, "{output} of {produced}");
    app.end().await;
});

each_database!(without_a_limit_it_is_the_one_of_the_api, async |test: TestDatabase| {
    let app = start(test, "strict").await;
    let mut unlimited = body(json!("[[sim input=3 output=100]]"), json!({}));
    unlimited.as_object_mut().unwrap().remove("max_tokens");
    let answer = read(app.post(PATH, "ann", unlimited.clone(), &[]).await).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(app.simulator.received().pop().unwrap().body["max_tokens"], 16);
    assert_eq!(answer.json()["usage"]["completion_tokens"], 16);
    // Where nothing is bounded, it is the server's.
    storage::admin::settings::set(&app.database, "admission_policy", "one_credit").await.unwrap();
    app.fresh_catalogue().await;
    let answer = read(app.post(PATH, "ann", unlimited, &[]).await).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(app.simulator.received().pop().unwrap().body.get("max_tokens").is_none());
    app.end().await;
});

each_database!(strict_holds_for_every_candidate, async |test: TestDatabase| {
    let app = start(test, "strict").await;
    // 100 credits buy 50,000 tokens of output: for each of ten, 5,000 and no more.
    storage::admin::settings::set(&app.database, "base_credit_allowance", "100").await.unwrap();
    app.fresh_catalogue().await;
    let asked = body(json!(vec!["[[sim input=3 output=9000]]"; 2]), json!({"n": 5, "max_tokens": 9000}));
    let answer = read(app.post(PATH, "ann", asked, &[]).await).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let limit = app.simulator.received().pop().unwrap().body["max_tokens"].as_u64().unwrap();
    assert!((4_900..5_000).contains(&limit), "{limit}");
    let spent: i64 = app.entries("ann").await.iter().map(|entry| entry.charge).sum();
    assert!(spent <= 100_000_000, "{spent}");
    app.end().await;
});

each_database!(what_can_not_be_charged_is_refused, async |test: TestDatabase| {
    let app = start(test, "one_credit").await;
    for (prompt, more, param) in [
        (json!(null), json!({}), "prompt"),
        (json!([]), json!({}), "prompt"),
        (json!([[]]), json!({}), "prompt"),
        (json!({"prompt_string": "a", "multimodal_data": ["AA=="]}), json!({}), "prompt"),
        (json!(["a", 1]), json!({}), "prompt"),
        (json!("a"), json!({"n": 0}), "n"),
        (json!("a"), json!({"n": 129}), "n"),
        (json!("a"), json!({"n": 3, "best_of": 2}), "best_of"),
        (json!("a"), json!({"best_of": 2, "stream": true}), "best_of"),
        // Whatever stands behind the address may not tell of those that nobody sees.
        (json!("a"), json!({"best_of": 2}), "best_of"),
        (json!("a"), json!({"max_tokens": 0}), "max_tokens"),
        (json!("a"), json!({"n_predict": 5}), "n_predict"),
        (json!("a"), json!({"N_Predict": 5}), "N_Predict"),
        (json!("a"), json!({"prompt_embeds": "AA=="}), "prompt_embeds"),
        (json!([1, 2]), json!({"echo": true, "stream": true}), "echo"),
        (json!("a"), json!({"tools": [{"type": "web_search"}]}), "tools"),
        (json!("a"), json!({"service_tier": "priority"}), "service_tier"),
        (json!("a"), json!({"Prompt": "b"}), "Prompt"),
    ] {
        let asked = body(prompt, more);
        let refused = read(app.post(PATH, "ann", asked.clone(), &[]).await).await;
        assert_eq!(refused.status, 400, "{asked}: {}", refused.text);
        assert_eq!(refused.json()["error"]["param"], param, "{asked}: {}", refused.text);
    }
    assert!(app.simulator.received().is_empty() && app.entries("ann").await.is_empty());
    app.end().await;
});
