//! Conversations in OpenAI's shape, converted and read back: nothing is lost but what is named.

use proptest::prelude::*;

use super::*;

/// What is said, in whichever shape.
#[derive(Debug, Clone, PartialEq)]
enum Said {
    System(String),
    Text(&'static str, String),
    Image(String),
    Call(String, String, Value),
    Result(String, Vec<Said>),
}

#[derive(Debug, Clone)]
enum Message {
    System(String),
    User(Vec<Result<String, String>>),
    Assistant(String, Vec<(String, Value)>),
    Results(Vec<(String, bool)>),
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-zäöü \n\"]{0,12}", Just(String::new()), Just(" \n".to_owned())]
}

fn message() -> impl Strategy<Value = Message> {
    let part = prop_oneof![text().prop_map(Ok), "[A-Z]{4}".prop_map(Err)];
    let input = prop::collection::btree_map("[a-z]{1,4}", any::<i64>(), 0..3).prop_map(|map| json!(map));
    let call = ("[a-z]{1,6}", input);
    prop_oneof![
        text().prop_map(Message::System),
        prop::collection::vec(part, 0..4).prop_map(Message::User),
        (text(), prop::collection::vec(call, 0..3)).prop_map(|(text, calls)| Message::Assistant(text, calls)),
        prop::collection::vec((text(), any::<bool>()), 1..3).prop_map(Message::Results),
    ]
}

/// The messages in OpenAI's shape, and what they say.
fn openai(messages: &[Message]) -> (Vec<Value>, Vec<Said>) {
    let mut json = Vec::new();
    let mut said = Vec::new();
    let image = |data: &str| json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{data}")}});
    for (number, message) in messages.iter().enumerate() {
        match message {
            Message::System(text) => {
                json.push(json!({"role": "system", "content": text}));
                said.push(Said::System(text.clone()));
            }
            Message::User(parts) => {
                let content = parts.iter().map(|part| match part {
                    Ok(text) => json!({"type": "text", "text": text}),
                    Err(data) => image(data),
                });
                json.push(json!({"role": "user", "content": content.collect::<Vec<_>>()}));
                said.extend(parts.iter().map(|part| match part {
                    Ok(text) => Said::Text("user", text.clone()),
                    Err(data) => Said::Image(data.clone()),
                }));
            }
            Message::Assistant(text, calls) => {
                let id = |index: usize| format!("call_{number}_{index}");
                let calls_json = calls.iter().enumerate().map(|(index, (name, input))| {
                    json!({"id": id(index), "type": "function", "function": {"name": name, "arguments": input.to_string()}})
                });
                json.push(json!({"role": "assistant", "content": text, "tool_calls": calls_json.collect::<Vec<_>>()}));
                said.push(Said::Text("assistant", text.clone()));
                let calls = calls.iter().enumerate();
                said.extend(
                    calls.map(|(index, (name, input))| Said::Call(id(index), name.clone(), input.clone())),
                );
            }
            Message::Results(results) => {
                for (index, (text, picture)) in results.iter().enumerate() {
                    let id = format!("call_{number}_{index}");
                    let mut content = vec![json!({"type": "text", "text": text})];
                    let mut inner = vec![Said::Text("result", text.clone())];
                    if *picture {
                        content.push(image("PPPP"));
                        inner.push(Said::Image("PPPP".into()));
                    }
                    json.push(json!({"role": "tool", "tool_call_id": id, "content": content}));
                    said.push(Said::Result(id, inner));
                }
            }
        }
    }
    (json, said)
}

/// Reads Anthropic's shape.
fn anthropic(sent: &Map<String, Value>) -> Vec<Said> {
    fn blocks(list: &Value, role: &'static str) -> Vec<Said> {
        let text = |block: &Value, field: &str| block[field].as_str().unwrap().to_owned();
        let read = |block: &Value| match block["type"].as_str().unwrap() {
            "text" => Said::Text(role, text(block, "text")),
            "image" => Said::Image(text(&block["source"], "data")),
            "tool_use" => Said::Call(text(block, "id"), text(block, "name"), block["input"].clone()),
            "tool_result" => Said::Result(text(block, "tool_use_id"), blocks(&block["content"], "result")),
            other => panic!("{other}"),
        };
        list.as_array().into_iter().flatten().map(read).collect()
    }
    let system = sent.get("system").into_iter().flat_map(|system| blocks(system, "system"));
    let mut said: Vec<Said> = system
        .map(|said| match said {
            Said::Text(_, text) => Said::System(text),
            other => panic!("{other:?}"),
        })
        .collect();
    let mut before = "";
    for message in sent["messages"].as_array().unwrap() {
        let role = if message["role"] == "user" { "user" } else { "assistant" };
        assert_ne!(role, before, "turns must alternate");
        before = role;
        let of_turn = blocks(&message["content"], role);
        assert!(!of_turn.is_empty(), "no turn may be empty");
        said.extend(of_turn);
    }
    said
}

/// What must arrive of what is said: empty texts say nothing, system prompts come first, the results of tools stand first in
/// the user's turn, and the beginning of an answer loses the white space at its end.
fn expected(said: Vec<Said>) -> Vec<Said> {
    let blank = |said: &Said| match said {
        Said::System(text) | Said::Text(_, text) => text.trim().is_empty(),
        _ => false,
    };
    let said = said.into_iter().map(|said| match said {
        Said::Result(id, inner) => Said::Result(id, inner.into_iter().filter(|said| !blank(said)).collect()),
        other => other,
    });
    let said: Vec<Said> = said.filter(|said| !blank(said)).collect();
    let (system, rest): (Vec<Said>, Vec<Said>) =
        said.into_iter().partition(|said| matches!(said, Said::System(_)));
    let is_users = |said: &Said| !matches!(said, Said::Text("assistant", _) | Said::Call(..));
    let mut all = system;
    for turn in rest.chunk_by(|a, b| is_users(a) == is_users(b)) {
        let (results, others): (Vec<Said>, Vec<Said>) =
            turn.iter().cloned().partition(|said| matches!(said, Said::Result(..)));
        all.extend(results.into_iter().chain(others));
    }
    if all.iter().all(|said| matches!(said, Said::System(_))) {
        // A system prompt alone is a question.
        let question = |said| match said {
            Said::System(text) => Said::Text("user", text),
            other => other,
        };
        return all.into_iter().map(question).collect();
    }
    if let Some(Said::Text("assistant", text)) = all.last_mut() {
        text.truncate(text.trim_end().len());
    }
    all
}

proptest! {
    #[test]
    fn nothing_that_is_said_is_lost(messages in prop::collection::vec(message(), 0..8)) {
        let (json, said) = openai(&messages);
        let expected = expected(said);
        let body = json!({"model": "claude-sonnet-4-5", "messages": json, "max_tokens": 100,
            "tools": [{"type": "function", "function": {"name": "f"}}]});
        match sent(&body) {
            Ok((sent, omitted)) => {
                prop_assert_eq!(anthropic(&sent), expected);
                prop_assert!(omitted.is_empty(), "{:?}", omitted);
            }
            Err(error) => {
                prop_assert!(expected.is_empty(), "{}", error);
                prop_assert_eq!(error.param.as_deref(), Some("messages"));
            }
        }
    }
}

fn messages(messages: Value) -> Value {
    let body = json!({"model": "claude-sonnet-4-5", "max_tokens": 100, "messages": messages});
    sent(&body).unwrap().0["messages"].clone()
}

#[test]
fn results_of_parallel_calls_stand_together() {
    let mark = json!({"type": "ephemeral"});
    let read = messages(json!([
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "a.1", "function": {"name": "f", "arguments": ""}},
            {"id": "b", "function": {"name": "g", "arguments": "[1"}},
            {"id": "c", "function": {"name": "h", "arguments": "[1]"}}]},
        {"role": "user", "content": "hurry"},
        {"role": "tool", "tool_call_id": "a.1", "content": "one", "cache_control": mark},
        {"role": "tool", "tool_call_id": "b", "content": "it broke", "is_error": true},
        {"role": "tool", "tool_call_id": "c", "content": ""},
    ]));
    let calls = json!([
        {"type": "tool_use", "id": "a_1", "name": "f", "input": {}},
        {"type": "tool_use", "id": "b", "name": "g", "input": {"arguments": "[1"}},
        {"type": "tool_use", "id": "c", "name": "h", "input": {"arguments": [1]}},
    ]);
    let results = json!([
        {"type": "tool_result", "tool_use_id": "a_1", "content": [{"type": "text", "text": "one"}], "cache_control": mark},
        {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "it broke"}], "is_error": true},
        {"type": "tool_result", "tool_use_id": "c"},
        {"type": "text", "text": "hurry"},
    ]);
    assert_eq!(read[1], json!({"role": "assistant", "content": calls}));
    assert_eq!(read[2], json!({"role": "user", "content": results}));
}

#[test]
fn thinking_comes_back_where_it_stood() {
    let details = json!([
        {"type": "reasoning.text", "text": "first", "signature": "s1", "format": "anthropic-claude-v1", "index": 0},
        {"type": "reasoning.encrypted", "data": "d", "format": "anthropic-claude-v1", "index": 2},
        {"type": "reasoning.text", "text": "unproven", "format": "anthropic-claude-v1", "index": 1},
        {"type": "reasoning.encrypted", "data": "other", "format": "google-gemini-v1", "index": 0},
        {"type": "reasoning.encrypted", "data": "whose?", "index": 0},
        {"type": "reasoning.summary", "summary": "x", "index": 0},
    ]);
    let body = json!({"model": "claude-sonnet-4-5", "max_tokens": 4000, "reasoning_effort": "low", "messages": [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "say", "reasoning_content": "first", "reasoning_details": details,
            "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "a", "content": "r"},
    ]});
    let (sent, omitted) = sent(&body).unwrap();
    let blocks = json!([
        {"type": "thinking", "thinking": "first", "signature": "s1"},
        {"type": "text", "text": "say"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "tool_use", "id": "a", "name": "f", "input": {}},
    ]);
    assert_eq!(sent["messages"][1]["content"], blocks);
    assert_eq!(sent["thinking"], json!({"type": "enabled", "budget_tokens": 2048}));
    assert!(omitted.is_empty(), "{omitted:?}");
}

#[test]
fn what_the_model_can_not_read_is_refused() {
    for (message, param) in [
        (
            json!({"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}]}),
            "messages.0.content",
        ),
        (
            json!({"role": "system", "content": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]}),
            "messages.0.content",
        ),
        (
            json!({"role": "assistant", "content": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]}),
            "messages.0.content",
        ),
        (json!({"role": "user", "content": " "}), "messages"),
    ] {
        let body = json!({"model": "claude-sonnet-4-5", "messages": [message]});
        assert_eq!(sent(&body).unwrap_err().param.as_deref(), Some(param), "{body}");
    }
    let image = json!({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}});
    let with = |model: &str, count: usize| {
        sent(&json!({"model": model, "messages": [{"role": "user", "content": vec![image.clone(); count]}]}))
    };
    assert!(with("claude-sonnet-4-5", 100).is_ok());
    assert_eq!(with("claude-sonnet-4-5", 101).unwrap_err().param.as_deref(), Some("messages"));
    assert!(with("claude-opus-4-6", 101).is_ok());
    let text = "x".repeat(33 * 1024 * 1024);
    let large = json!({"model": "claude-opus-4-6", "messages": [{"role": "user", "content": text}]});
    assert!(sent(&large).unwrap_err().message.contains("32 MB"));
}

#[test]
fn an_answer_that_is_begun_is_continued_only_by_models_that_can() {
    let body = |model: &str| json!({"model": model, "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b  "}]});
    let (sent_body, _) = sent(&body("claude-haiku-4-5")).unwrap();
    assert_eq!(sent_body["messages"][1]["content"][0]["text"], "b");
    assert_eq!(sent(&body("claude-opus-4-6")).unwrap_err().param.as_deref(), Some("messages"));
}
