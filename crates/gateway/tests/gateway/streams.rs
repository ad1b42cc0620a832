//! When the pieces of a streamed answer reach the client, and how it ends.

use std::time::Duration;

use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use testing::databases::TestDatabase;
use testing::each_database;
use tokio::time::timeout;

use crate::app::{Answer, App, read};
use crate::errors::{asked, price, start};
use crate::staged::{Script, Staged, Step};

const CHAT: &str = "/v1/chat/completions";
/// Far beyond what any piece takes that nobody holds back.
const TOO_LONG: Duration = Duration::from_secs(10);

/// A chunk of a chat.
fn chunk(delta: Value, finish: Option<&str>) -> String {
    event(&json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}))
}

fn text(text: &str) -> String {
    chunk(json!({"content": text}), None)
}

fn usage(input: u64, output: u64) -> String {
    let usage = json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output});
    event(
        &json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": usage}),
    )
}

fn event(json: &Value) -> String {
    format!("data: {json}\n\n")
}

const DONE: &str = "data: [DONE]\n\n";

/// An answer as it comes.
struct Reading {
    response: Response<Incoming>,
    text: String,
}

impl Reading {
    /// Reads until that has come.
    async fn until(&mut self, words: &str) {
        while !self.text.contains(words) {
            let frame = timeout(TOO_LONG, self.response.body_mut().frame()).await;
            let frame = frame.unwrap_or_else(|_| panic!("`{words}` is held back: {}", self.text));
            let frame = frame.unwrap_or_else(|| panic!("no `{words}`: {}", self.text)).unwrap();
            self.text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }

    async fn end(mut self) -> String {
        let rest = timeout(TOO_LONG, self.response.body_mut().collect()).await.unwrap().unwrap();
        self.text.push_str(std::str::from_utf8(&rest.to_bytes()).unwrap());
        self.text
    }
}

/// Asks a server for these events, each of which it sends only when the client has read the words of the one before.
async fn in_step(app: &App, server: &Staged, path: &str, model: &str, events: &[(&str, &str)]) -> String {
    server.set(model, Script::at_word(&events.iter().map(|(event, _)| *event).collect::<Vec<_>>()));
    server.go_on();
    let asking = app.post(path, "ann", asked(path, model, true), &[]);
    let response =
        timeout(TOO_LONG, asking).await.unwrap_or_else(|_| panic!("{model}: the head is held back"));
    assert_eq!(response.status(), 200);
    let mut reading = Reading { response, text: String::new() };
    for (index, (_, words)) in events.iter().enumerate() {
        if index > 0 {
            server.go_on();
        }
        if !words.is_empty() {
            reading.until(words).await;
        }
    }
    reading.end().await
}

/// Whether it names its credits where it ends.
fn tells_credits(text: &str) -> bool {
    text.matches("\"credits\":").count() == 1 && text.ends_with(DONE)
}

each_database!(nothing_that_says_something_waits, async |test: TestDatabase| {
    let server = Staged::start().await;
    let app = start(test, &server, "").await;
    let names = ["plain", "every-chunk-ends", "one-chunk", "filtered", "two", "twice", "role"];
    let mut models: Vec<(&str, String)> = names.iter().map(|name| ("openai", (*name).to_owned())).collect();
    models.extend([
        ("openai", "response".into()),
        ("anthropic", "message".into()),
        ("google", "gemini".into()),
    ]);
    price(&app, &models).await;

    let (role, rivers, carry, stones) = (
        chunk(json!({"role": "assistant", "content": ""}), None),
        text("Rivers "),
        text("carry "),
        text("stones."),
    );
    let (stop, usage, nothing) = (chunk(json!({}), Some("stop")), usage(10, 5), chunk(json!({}), None));
    let end = [(stop.as_str(), ""), (usage.as_str(), ""), (DONE, "")];
    let plain = [
        &[(role.as_str(), "assistant"), (&rivers, "Rivers"), (&carry, "carry"), (&stones, "stones")],
        &end[..],
    ]
    .concat();
    let got = in_step(&app, &server, CHAT, "plain", &plain).await;
    // Byte for byte, but for the end.
    assert!(got.starts_with(&format!("{role}{rivers}{carry}{stones}")), "{got}");
    assert!(tells_credits(&got), "{got}");

    let ending = |words: &str| chunk(json!({"content": words}), Some("stop"));
    let (rivers_end, carry_end, stones_end) = (ending("Rivers "), ending("carry "), ending("stones."));
    let each = [
        (rivers_end.as_str(), "Rivers"),
        (&carry_end, "carry"),
        (&stones_end, "stones"),
        (&usage, ""),
        (DONE, ""),
    ];
    let got = in_step(&app, &server, CHAT, "every-chunk-ends", &each).await;
    assert_eq!(got.matches("\"finish_reason\":\"stop\"").count(), 1, "{got}");
    assert!(tells_credits(&got), "{got}");

    // All that there is in one chunk.
    let mut all: Value = serde_json::from_str(stones_end.trim_start_matches("data: ")).unwrap();
    all["usage"] = json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15});
    let got = in_step(
        &app,
        &server,
        CHAT,
        "one-chunk",
        &[(&rivers, "Rivers"), (&event(&all), "stones"), (DONE, "")],
    )
    .await;
    assert!(tells_credits(&got) && got.contains("\"prompt_tokens\":10"), "{got}");

    // Azure: filter results without choices at the beginning, and others behind the end.
    let before = event(
        &json!({"id": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}], "usage": null}),
    );
    let after = event(
        &json!({"id": "", "model": "", "choices": [{"index": 0, "finish_reason": null, "content_filter_results": {}}], "usage": null}),
    );
    let filtered = [
        (before.as_str(), "prompt_filter_results"),
        (&rivers, "Rivers"),
        (&stop, ""),
        (&after, ""),
        (&usage, ""),
        (DONE, ""),
    ];
    let got = in_step(&app, &server, CHAT, "filtered", &filtered).await;
    assert!(tells_credits(&got) && got.contains("content_filter_results"), "{got}");

    // Two choices: the end of one is none of all.
    let second = event(
        &json!({"id": "c1", "model": "m", "choices": [{"index": 1, "delta": {"content": "Mountains"}, "finish_reason": null}]}),
    );
    let second_stop = event(
        &json!({"id": "c1", "model": "m", "choices": [{"index": 1, "delta": {}, "finish_reason": "stop"}]}),
    );
    let two = [
        (rivers_end.as_str(), "Rivers"),
        (&second, "Mountains"),
        (&second_stop, ""),
        (&usage, ""),
        (DONE, ""),
    ];
    let got = in_step(&app, &server, CHAT, "two", &two).await;
    assert_eq!(got.matches("\"finish_reason\":\"stop\"").count(), 2, "{got}");
    assert!(tells_credits(&got), "{got}");

    let got = in_step(
        &app,
        &server,
        CHAT,
        "twice",
        &[(&rivers, "Rivers"), (&stop, ""), (&stop, ""), (&usage, ""), (DONE, "")],
    )
    .await;
    assert!(tells_credits(&got), "{got}");

    // An end with the role, which is none, as the text shows.
    let role_end = chunk(json!({"role": "assistant"}), Some("stop"));
    let got = in_step(
        &app,
        &server,
        CHAT,
        "role",
        &[(&role_end, ""), (&rivers_end, "Rivers"), (&nothing, ""), (&usage, ""), (DONE, "")],
    )
    .await;
    assert!(got.contains("\"role\":\"assistant\"") && tells_credits(&got), "{got}");
    assert_eq!(got.matches("\"finish_reason\":\"stop\"").count(), 1, "{got}");

    let created =
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}\n\n";
    let delta = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Rivers\"}\n\n";
    let completed = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"output\":[],\"usage\":{\"input_tokens\":10,\"output_tokens\":5,\"total_tokens\":15}}}\n\n";
    let got = in_step(
        &app,
        &server,
        "/v1/responses",
        "response",
        &[(created, "response.created"), (delta, "Rivers"), (completed, "")],
    )
    .await;
    assert!(got.contains("\"credits\":20"), "{got}");

    let started = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"claude\",\"usage\":{\"input_tokens\":10,\"output_tokens\":1}}}\n\n";
    let delta = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Rivers\"}}\n\n";
    let ended = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":5}}\n\n";
    let stopped = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    for (path, first) in [("/v1/messages", "message_start"), (CHAT, "assistant")] {
        let events = [(started, first), (delta, "Rivers"), (ended, ""), (stopped, "")];
        let got = in_step(&app, &server, path, "message", &events).await;
        assert!(got.contains("\"credits\":20"), "{got}");
    }

    let piece = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Rivers\"}],\"role\":\"model\"},\"index\":0}]}\n\n";
    let last = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"carry\"}],\"role\":\"model\"},\"finishReason\":\"STOP\",\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":10,\"candidatesTokenCount\":5,\"totalTokenCount\":15}}\n\n";
    let got = in_step(&app, &server, CHAT, "gemini", &[(piece, "Rivers"), (last, "carry")]).await;
    assert!(tells_credits(&got), "{got}");
    app.end().await;
});

/// How a request for that answer ends: what the client reads, and what its entry says.
async fn ends(app: &App, server: &Staged, path: &str, model: &str, script: Script) -> (Answer, String, i64) {
    server.set(model, script);
    let answer = read(app.post(path, model, asked(path, model, true), &[]).await).await;
    let entry = app.entries(model).await.remove(0);
    let how =
        format!("{}{}", entry.outcome, entry.estimated.map(|how| format!(" {how}")).unwrap_or_default());
    (answer, how, entry.charge)
}

each_database!(what_was_said_before_a_connection_broke_reaches_the_client, async |test: TestDatabase| {
    let server = Staged::start().await;
    let app = start(test, &server, "").await;
    let names = ["all-said", "no-usage", "half", "each-ends", "each-ends-usage", "not-closed"];
    let mut models: Vec<(&str, String)> = names.iter().map(|name| ("openai", (*name).to_owned())).collect();
    models.extend(["message", "message-chat"].map(|model| ("anthropic", model.to_owned())));
    models.extend([("google", "gemini".to_owned()), ("openai", "response".to_owned())]);
    price(&app, &models).await;
    let (rivers, stop, usage) = (text("Rivers"), chunk(json!({}), Some("stop")), usage(1000, 500));
    let ending = chunk(json!({"content": "Rivers"}), Some("stop"));

    let broken = |events: &[&str]| Script::broken(&events.concat());
    let (answer, how, charge) =
        ends(&app, &server, CHAT, "all-said", broken(&[&rivers, &stop, &usage])).await;
    assert!(
        answer.text.contains("\"finish_reason\":\"stop\"") && tells_credits(&answer.text),
        "{}",
        answer.text
    );
    assert_eq!((how.as_str(), charge), ("complete", 2_000_000_000));

    let (answer, how, _) = ends(&app, &server, CHAT, "no-usage", broken(&[&rivers, &stop])).await;
    assert!(tells_credits(&answer.text), "{}", answer.text);
    assert_eq!(how, "complete counted");

    let (answer, how, _) = ends(&app, &server, CHAT, "half", broken(&[&rivers])).await;
    assert!(answer.text.contains("broke off") && !answer.text.contains("[DONE]"), "{}", answer.text);
    assert_eq!(how, "provider_failed counted");

    // Where every chunk has an end, an end says nothing.
    let (answer, how, _) = ends(&app, &server, CHAT, "each-ends", broken(&[&ending, &ending])).await;
    assert!(answer.text.contains("broke off"), "{}", answer.text);
    assert_eq!(how, "provider_failed counted");
    let (answer, how, charge) =
        ends(&app, &server, CHAT, "each-ends-usage", broken(&[&ending, &ending, &usage])).await;
    assert!(tells_credits(&answer.text), "{}", answer.text);
    assert_eq!((how.as_str(), charge), ("complete", 2_000_000_000));

    // The end of the body without the mark of the end.
    let (answer, how, _) =
        ends(&app, &server, CHAT, "not-closed", Script::streamed(&[&*rivers, &usage].concat())).await;
    assert!(tells_credits(&answer.text), "{}", answer.text);
    assert_eq!(how, "complete");

    let message = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"claude\",\"usage\":{\"input_tokens\":1000,\"output_tokens\":1}}}\n\n\
        event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":500}}\n\n";
    let (answer, how, charge) = ends(&app, &server, "/v1/messages", "message", Script::broken(message)).await;
    assert!(
        answer.text.ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"),
        "{}",
        answer.text
    );
    assert_eq!((how.as_str(), charge), ("complete", 2_000_000_000));
    let (answer, how, _) = ends(&app, &server, CHAT, "message-chat", Script::broken(message)).await;
    assert!(tells_credits(&answer.text), "{}", answer.text);
    assert_eq!(how, "complete");

    let gemini = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"carry\"}],\"role\":\"model\"},\"finishReason\":\"STOP\",\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":1000,\"candidatesTokenCount\":500,\"totalTokenCount\":1500}}\n\n";
    let (answer, how, charge) = ends(&app, &server, CHAT, "gemini", Script::broken(gemini)).await;
    assert!(
        answer.text.contains("\"finish_reason\":\"stop\"") && tells_credits(&answer.text),
        "{}",
        answer.text
    );
    assert_eq!((how.as_str(), charge), ("complete", 2_000_000_000));

    // The name of an event may come behind its data.
    let response = "data: {\"type\":\"response.output_text.delta\",\"delta\":\"Good day.\"}\nevent: response.output_text.delta\n\n\
        data: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"output\":[],\"usage\":{\"input_tokens\":1000,\"output_tokens\":500,\"total_tokens\":1500}}}\nevent: response.completed\n\n";
    let (answer, how, charge) =
        ends(&app, &server, "/v1/responses", "response", Script::broken(response)).await;
    assert!(answer.text.contains("event: response.completed\ndata: {"), "{}", answer.text);
    assert_eq!((how.as_str(), charge), ("complete", 2_000_000_000));
    app.end().await;
});

each_database!(a_stream_without_an_end_tells_its_credits, async |test: TestDatabase| {
    let server = Staged::start().await;
    let app = start(test, &server, "").await;
    let models = ["in-a-chunk", "before-the-text", "nothing-told", "of-its-own", "asked"];
    price(&app, &models.map(|model| ("openai", model.to_owned()))).await;
    let with_usage = event(&json!({"id": "c1", "model": "m",
        "choices": [{"index": 0, "delta": {"content": "stones"}, "finish_reason": null}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}}));
    let rivers = text("Rivers");
    // (model, events, how it is charged)
    for (model, events, expected) in [
        ("in-a-chunk", [rivers.as_str(), &with_usage], "complete"),
        ("before-the-text", [&with_usage, &rivers], "complete counted"),
        ("nothing-told", [&rivers, &rivers], "complete counted"),
        ("of-its-own", [&rivers, &usage(1000, 500)], "complete"),
    ] {
        let script = Script::streamed(&format!("{}{DONE}", events.concat()));
        let (answer, how, charge) = ends(&app, &server, CHAT, model, script).await;
        assert!(tells_credits(&answer.text), "{model}: {}", answer.text);
        assert_eq!(how, expected, "{model}");
        assert_eq!(
            expected == "complete",
            charge == 2_000_000_000 && !answer.text.contains("estimated"),
            "{model}"
        );
        let last = answer.chunks().pop().unwrap();
        assert_eq!((&last["id"], &last["choices"][0]["finish_reason"]), (&json!("c1"), &Value::Null));
    }
    // A client that asks for the usage gets it on a chunk of its own.
    server.set("asked", Script::streamed(&format!("{rivers}{with_usage}{DONE}")));
    let mut body = asked(CHAT, "asked", true);
    body["stream_options"] = json!({"include_usage": true});
    let answer = read(app.post(CHAT, "ann", body, &[]).await).await;
    let last = answer.chunks().pop().unwrap();
    assert_eq!((last["choices"].clone(), last["usage"]["credits"].to_string()), (json!([]), "2000".into()));
    app.end().await;
});

each_database!(a_head_waits_for_the_first_event_and_no_longer, async |test: TestDatabase| {
    let server = Staged::start().await;
    let app = start(test, &server, "head_wait = 1").await;
    price(&app, &["late", "later"].map(|model| ("openai", model.to_owned()))).await;
    let error = event(
        &json!({"error": {"message": "Too long for me.", "code": "context_length_exceeded", "param": "messages", "status": 400}}),
    );
    // The head of the server's answer is there at once.
    server.set("late", Script::at_word(&[&error]));
    let asking = app.post(CHAT, "ann", asked(CHAT, "late", true), &[]);
    let (response, ()) = tokio::join!(asking, async { server.go_on() });
    let answer = read(response).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "context_length_exceeded"), "{}", answer.text);
    // After a second it goes on without an event, and what comes then is an event too.
    server.set("later", Script::at_word(&[": still thinking\n\n", &error]));
    server.go_on();
    let response = timeout(TOO_LONG, app.post(CHAT, "bob", asked(CHAT, "later", true), &[])).await.unwrap();
    assert_eq!(response.status(), 200);
    server.go_on();
    let answer = read(response).await;
    let error = &answer.chunks().pop().unwrap()["error"];
    assert_eq!(
        (error["code"].as_str(), error["param"].as_str()),
        (Some("context_length_exceeded"), Some("messages")),
        "{}",
        answer.text
    );
    assert!(error["message"].as_str().unwrap().contains("Too long for me."), "{error}");
    // Nothing was produced.
    for user in ["ann", "bob"] {
        assert_eq!(app.entries(user).await, []);
    }
    app.end().await;
});

each_database!(comments_fill_a_silence, async |test: TestDatabase| {
    let server = Staged::start().await;
    let app = start(test, &server, "keep_alive = 1").await;
    price(&app, &[("openai", "silent".to_owned())]).await;
    let (rivers, stop, usage) = (text("Rivers"), chunk(json!({}), Some("stop")), usage(10, 5));
    let steps = vec![Step::Send(rivers), Step::Wait, Step::Send([stop, usage, DONE.to_owned()].concat())];
    server.set("silent", Script { content_type: "text/event-stream", steps });
    let response = app.post(CHAT, "ann", asked(CHAT, "silent", true), &[]).await;
    let mut reading = Reading { response, text: String::new() };
    // It goes on only when the client has read two of them.
    reading.until(": waiting\n\n: waiting\n\n").await;
    server.go_on();
    let got = reading.end().await;
    assert!(tells_credits(&got), "{got}");
    app.end().await;
});
