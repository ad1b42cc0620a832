use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::answer::StreamEvent;
use crate::samples::{
    Called, Gathered, Turn, asked, chats, gathered, gathered_whole, openai_messages, pieces, request, stream,
};
use accounting::Usage;

fn ollama() -> Box<dyn Protocol> {
    let base_url = url::Url::parse("http://localhost:11434/").unwrap();
    (OLLAMA.open)(&Setup { base_url, options: crate::ProviderOptions::default() }).unwrap()
}

fn sent(body: &Value) -> Result<(Value, Vec<String>), BadRequest> {
    let outgoing = ollama().chat(&request(body))?;
    assert_eq!(outgoing.uri, "http://localhost:11434/api/chat");
    Ok((serde_json::from_slice(&outgoing.body).unwrap(), outgoing.omitted))
}

fn streamed(lines: &[u8]) -> (Vec<StreamEvent>, Result<(), ProviderError>) {
    let conversion = ollama().conversion(&request(&json!({"model": "m", "messages": []})), asked());
    stream(Framing::Ndjson, conversion, &[lines])
}

fn whole(body: &'static [u8]) -> Result<Complete, ProviderError> {
    ollama().answer(&request(&json!({"model": "m", "messages": []})), &asked(), Bytes::from_static(body))
}

#[test]
fn a_request_with_everything() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let (body, omitted) = sent(&json!({
        "model": "qwen3:8b",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": true,
        "tools": [
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": schema, "strict": true}},
            {"type": "function", "function": {"name": "g"}},
        ],
        "tool_choice": "auto",
        "parallel_tool_calls": false,
        "max_completion_tokens": 100, "max_tokens": 200,
        "temperature": 0.70, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "seed": 7,
        "stop": "END", "presence_penalty": 1, "frequency_penalty": 2, "repeat_penalty": 1.1,
        "num_ctx": 8192, "mirostat": 2, "keep_alive": "5m",
        "reasoning_effort": "high",
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
        "logprobs": true, "top_logprobs": 2, "logit_bias": {"1": 2}, "user": "u", "service_tier": "auto",
        "options": {"temperature": 0.1, "num_predict": 50, "repeat_last_n": 64, "num_gpu": 1, "tfs_z": null, "num_ctx": 4096},
        "zebra": 1, "store": false,
    }))
    .unwrap();
    assert_eq!(
        body,
        json!({
            "model": "qwen3:8b",
            "messages": [{"role": "user", "content": "hi"}],
            "tools": [
                {"type": "function", "function": {"name": "f", "description": "d", "parameters": schema}},
                {"type": "function", "function":
                    {"name": "g", "description": "", "parameters": {"type": "object", "properties": {}}}},
            ],
            "stream": true, "think": true, "format": schema,
            "options": {
                "temperature": 0.70, "repeat_last_n": 64, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "seed": 7,
                "repeat_penalty": 1.1, "presence_penalty": 1, "frequency_penalty": 2, "mirostat": 2,
                "stop": ["END"], "num_predict": 50,
            },
            "logprobs": true, "top_logprobs": 2,
        })
    );
    let named = [
        "tools.function.strict",
        "options.num_gpu",
        "options.num_ctx",
        "parallel_tool_calls",
        "num_ctx",
        "keep_alive",
        "logit_bias",
        "user",
        "zebra",
    ];
    assert_eq!(omitted, named);
}

#[test]
fn single_fields() {
    let with = |field: &str, value: Value| {
        let mut body = json!({"model": "gpt-oss:20b", "messages": []});
        body[field] = value;
        sent(&body)
    };
    for (field, value, path, expected) in [
        ("reasoning_effort", json!("minimal"), "/think", json!("low")),
        ("reasoning_effort", json!("medium"), "/think", json!("medium")),
        ("reasoning_effort", json!("xhigh"), "/think", json!("high")),
        ("reasoning_effort", json!("none"), "/think", json!(false)),
        ("reasoning", json!({"max_tokens": 99}), "/think", json!(true)),
        ("think", json!("low"), "/think", json!("low")),
        ("response_format", json!({"type": "json_object"}), "/format", json!("json")),
        ("format", json!("json"), "/format", json!("json")),
        ("options", json!({"num_predict": -1}), "/options/num_predict", Value::Null),
        ("options", json!({"stop": "a"}), "/options/stop", json!(["a"])),
        ("num_predict", json!(5), "/options/num_predict", json!(5)),
        ("max_tokens", json!(6), "/options/num_predict", json!(6)),
        ("tool_choice", json!("none"), "/tools", Value::Null),
        ("keep_alive", json!(0), "/keep_alive", Value::Null),
        ("options", json!({"num_ctx": 10_000_000}), "/options/num_ctx", Value::Null),
    ] {
        let (body, _) = with(field, value.clone()).unwrap();
        assert_eq!(body.pointer(path).unwrap_or(&Value::Null), &expected, "{field} {value}");
    }
    for (field, value) in [
        ("n", json!(2)),
        ("tool_choice", json!("required")),
        ("tool_choice", json!({"type": "function", "function": {"name": "f"}})),
        ("options", json!(7)),
        ("num_predict", json!("many")),
        ("reasoning_effort", json!("lots")),
        ("stop", json!(7)),
    ] {
        assert_eq!(with(field, value.clone()).unwrap_err().param.as_deref(), Some(field), "{value}");
    }
}

#[test]
fn what_it_can_not_take_is_refused_by_its_place() {
    for part in [
        json!({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}),
        json!({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}),
        json!({"type": "file", "file": {"file_data": "data:application/pdf;base64,AA"}}),
    ] {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": [part]}]});
        assert_eq!(sent(&body).unwrap_err().param.as_deref(), Some("messages.0"), "{part}");
    }
}

#[test]
fn arguments_of_the_history_are_objects_whatever_the_model_wrote() {
    for (written, arguments) in [
        (r#"{"a": 1.50}"#, r#"{"a": 1.50}"#),
        ("", "{}"),
        ("[1]", r#"{"arguments":"[1]"}"#),
        ("{half", r#"{"arguments":"{half"}"#),
    ] {
        let messages = json!([{"role": "assistant", "tool_calls": [
            {"id": "c", "function": {"name": "f", "arguments": written}}]}]);
        let outgoing = ollama().chat(&request(&json!({"model": "m", "messages": messages}))).unwrap();
        let text = String::from_utf8(outgoing.body.to_vec()).unwrap();
        assert!(text.contains(&format!("\"arguments\":{arguments}}}")), "{text}");
    }
}

#[test]
fn thoughts_and_words() {
    let (events, ended) = streamed(include_bytes!("../../fixtures/ollama/thinking.ndjson"));
    ended.unwrap();
    let expected = Gathered {
        content: "Hello \"you\"!".into(),
        reasoning: "The user greets.".into(),
        reason: "stop".into(),
        usage: Some(Usage::tokens(26, 11)),
        produced: "The user greets.Hello \"you\"!".into(),
        model: Some("qwen3:8b".into()),
        ..Gathered::default()
    };
    assert_eq!(gathered(&events), expected);
    let first = events[0].json().unwrap();
    assert_eq!(first["choices"][0]["delta"]["role"], "assistant");
    assert_eq!((&first["created"], &first["id"]), (&json!(7), &json!("chatcmpl-20260301100000123456789")));
}

#[test]
fn calls_get_ids_of_their_own() {
    let (events, ended) = streamed(include_bytes!("../../fixtures/ollama/tools.ndjson"));
    ended.unwrap();
    let all = gathered(&events);
    let call = |id: &str, arguments: &str| (id.into(), "get_weather".into(), arguments.into());
    let first = call("call_202603011000001_0", r#"{"city":"Paris","days":2}"#);
    assert_eq!(all.calls, [first, call("call_x", r#"{"city":"Tokyo"}"#)]);
    assert_eq!((all.reason.as_str(), all.usage), ("tool_calls", Some(Usage::tokens(169, 34))));
    assert!(all.produced.starts_with("get_weather{\"city\":\"Paris\""));
    let twice = br#"{"created_at":"1","message":{"tool_calls":[{"id":"a","function":{"name":"f"}},{"id":"a","function":{"name":"f"}}]},"done":true}"#;
    let calls = gathered(&streamed(twice).0).calls;
    assert_eq!((calls[0].0.as_str(), calls[1].0.as_str(), calls[1].2.as_str()), ("a", "call_1_1", "{}"));
}

#[test]
fn a_whole_answer() {
    let complete = whole(include_bytes!("../../fixtures/ollama/whole.json")).unwrap();
    let all = gathered_whole(&complete);
    assert_eq!((all.content.as_str(), all.reasoning.as_str()), ("Hello!", "Short."));
    assert_eq!((all.reason.as_str(), all.usage), ("length", Some(Usage::tokens(26, 298))));
    let body: Value = serde_json::from_slice(&complete.body).unwrap();
    assert_eq!(body["choices"][0]["logprobs"]["content"][0]["token"], "Hello!");
    assert_eq!(body["usage"]["total_tokens"], 324);
    for nothing in [&b"<html>"[..], b"{}", b"[]"] {
        assert!(matches!(whole(nothing), Err(ProviderError::BadAnswer { .. })));
    }
    assert!(matches!(whole(br#"{"error":"out of memory"}"#), Err(ProviderError::Reported { .. })));
}

#[test]
fn each_count_stands_for_itself() {
    for (counts, usage) in [
        (r#""prompt_eval_count":5,"eval_count":6"#, Some(Usage::tokens(5, 6))),
        (r#""eval_count":6"#, Some(Usage::tokens(0, 6))),
        (r#""prompt_eval_count":5"#, Some(Usage::tokens(5, 0))),
        (r#""prompt_eval_count":-5,"eval_count":6"#, Some(Usage::tokens(0, 6))),
        (r#""prompt_eval_count":5.5,"eval_count":6"#, Some(Usage::tokens(0, 6))),
        (r#""prompt_eval_count":"5","eval_count":6"#, Some(Usage::tokens(0, 6))),
        (r#""prompt_eval_count":null"#, None),
    ] {
        let line = format!(r#"{{"message":{{"content":"x"}},"done":true,{counts}}}"#);
        let (events, ended) = streamed(line.as_bytes());
        ended.unwrap();
        assert_eq!(gathered(&events).usage, usage, "{counts}");
    }
    let (events, _) = streamed(br#"{"message":{"content":""},"done":true,"prompt_eval_count":5}"#);
    assert_eq!(gathered(&events).usage, Some(Usage::tokens(5, 0)));
}

#[test]
fn likelihoods_pass() {
    let (events, _) =
        streamed(br#"{"message":{"content":"x"},"logprobs":[{"token":"x","logprob":-1.5}],"done":false}"#);
    assert_eq!(events[0].json().unwrap()["choices"][0]["logprobs"]["content"][0]["logprob"], json!(-1.5));
}

#[test]
fn streams_that_break_off() {
    let piece = r#"{"message":{"content":"Hi"},"done":false}"#;
    for (rest, expected) in [
        ("", "broke off: the stream ended without an end"),
        (
            "\n{\"error\":\"an error was encountered while running the model\"}\n",
            "in its answer: failed with status 502: an error was encountered while running the model",
        ),
        ("\n{\"message\":{\"cont", "broke off: the stream ended without an end"),
        ("\n{\"message\":{\"cont\n", "broke off: a line that is no JSON of an answer"),
    ] {
        let (events, ended) = streamed(format!("{piece}{rest}").as_bytes());
        assert_eq!(gathered(&events).content, "Hi");
        assert_eq!(ended.unwrap_err().to_string(), expected);
    }
}

#[test]
fn models_errors_and_vectors() {
    let models = ollama().models_answer(include_bytes!("../../fixtures/ollama/tags.json")).unwrap();
    assert_eq!(
        models.iter().map(ModelId::as_str).collect::<Vec<_>>(),
        ["deepseek-r1:latest", "llama3.2:latest"]
    );
    assert_eq!(ollama().models().uri, "http://localhost:11434/api/tags");
    let failure = ollama().error(br#"{"error":"model 'x' not found"}"#);
    assert_eq!(failure.message.as_deref(), Some("model 'x' not found"));

    let texts = |more: Value| {
        let mut body = json!({"model": "all-minilm", "input": ["a", "b"]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        EmbeddingsRequest::parse(Bytes::from(body.to_string())).unwrap()
    };
    let request = texts(json!({"dimensions": 2, "user": "u", "encoding_format": "float"}));
    let outgoing = ollama().embeddings(&request).unwrap();
    assert_eq!(outgoing.body, r#"{"model":"all-minilm","input":["a","b"],"dimensions":2}"#);
    assert_eq!(outgoing.omitted, ["user"]);
    let answer = Bytes::from_static(include_bytes!("../../fixtures/ollama/embed.json"));
    let complete = ollama().embeddings_answer(&request, &asked(), answer.clone()).unwrap();
    let body: Value = serde_json::from_slice(&complete.body).unwrap();
    assert_eq!(body["data"][1], json!({"object": "embedding", "index": 1, "embedding": [1.0, -2.5]}));
    assert_eq!(complete.usage, Some(Usage::tokens(8, 0)));
    let encoded = ollama().embeddings_answer(&texts(json!({"encoding_format": "base64"})), &asked(), answer);
    let body: Value = serde_json::from_slice(&encoded.unwrap().body).unwrap();
    assert_eq!(body["data"][1]["embedding"], "AACAPwAAIMA=");
    let tokens = EmbeddingsRequest::parse(Bytes::from_static(br#"{"model":"m","input":[1]}"#)).unwrap();
    assert_eq!(ollama().embeddings(&tokens).unwrap_err().param.as_deref(), Some("input"));
}

/// Reads Ollama's messages.
fn read_back(body: &Value) -> Vec<Turn> {
    let turns = body["messages"].as_array().unwrap().iter().map(|message| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let calls = message["tool_calls"].as_array().into_iter().flatten().map(|call| Called {
            id: text(&call["id"]),
            name: text(&call["function"]["name"]),
            arguments: call["function"]["arguments"].clone(),
        });
        Turn {
            role: text(&message["role"]),
            texts: vec![text(&message["content"])],
            images: message["images"].as_array().into_iter().flatten().map(text).collect(),
            reasoning: message["thinking"].as_str().map(str::to_owned),
            calls: calls.collect(),
            result_of: message["tool_call_id"]
                .as_str()
                .map(|id| (id.to_owned(), text(&message["tool_name"]))),
        }
    });
    turns.collect()
}

/// A piece of a streamed answer.
#[derive(Debug, Clone)]
enum Piece {
    Thought(String),
    Word(String),
    Call(Option<String>, String, String),
}

fn answers() -> impl Strategy<Value = Vec<Piece>> {
    let piece = prop_oneof![
        "[a-z \"\\\\\n\u{1F600}]{1,6}".prop_map(Piece::Thought),
        "[a-z \"\\\\\n\u{1F600}]{1,6}".prop_map(Piece::Word),
        (prop::option::of("[ab]"), "[a-z]{1,3}", "[a-z\"]{0,4}")
            .prop_map(|(id, name, value)| Piece::Call(id, name, value)),
    ];
    prop::collection::vec(piece, 0..10)
}

proptest! {
    #[test]
    fn a_chat_loses_nothing(turns in chats()) {
        let body = json!({"model": "m", "messages": openai_messages(&turns)});
        let (sent, omitted) = sent(&body).unwrap();
        // One text is all that a message has there.
        let expected: Vec<Turn> =
            turns.into_iter().map(|turn| Turn { texts: vec![turn.texts.join("\n")], ..turn }).collect();
        prop_assert_eq!(read_back(&sent), expected);
        prop_assert!(omitted.is_empty());
    }

    #[test]
    fn streamed_or_whole_an_answer_is_the_same(answer in answers(), cuts in prop::collection::vec(any::<usize>(), 0..8),
                                               counts in prop::option::of((0_u64..1000, 1_u64..1000))) {
        let mut end = json!({"model": "m", "created_at": "2026", "message": {"role": "assistant", "content": ""},
            "done": true, "done_reason": "stop"});
        if let Some((input, output)) = counts {
            end["prompt_eval_count"] = json!(input);
            end["eval_count"] = json!(output);
        }
        let mut lines = Vec::new();
        let mut message = json!({"role": "assistant", "content": "", "thinking": "", "tool_calls": []});
        let mut last = end.clone();
        for piece in &answer {
            let added = match piece {
                Piece::Thought(text) => {
                    message["thinking"] = json!(message["thinking"].as_str().unwrap().to_owned() + text);
                    json!({"role": "assistant", "content": "", "thinking": text})
                }
                Piece::Word(text) => {
                    message["content"] = json!(message["content"].as_str().unwrap().to_owned() + text);
                    json!({"role": "assistant", "content": text})
                }
                Piece::Call(id, name, value) => {
                    let call = json!({"id": id, "function": {"name": name, "arguments": {"v": value}}});
                    message["tool_calls"].as_array_mut().unwrap().push(call.clone());
                    json!({"role": "assistant", "content": "", "tool_calls": [call]})
                }
            };
            lines.push(json!({"model": "m", "created_at": "2026", "message": added, "done": false}).to_string());
        }
        lines.push(end.to_string());
        last["message"] = message;
        let lines = lines.join("\n") + "\n";
        let asks = request(&json!({"model": "m", "messages": []}));
        let (events, ended) =
            stream(Framing::Ndjson, ollama().conversion(&asks, asked()), &pieces(lines.as_bytes(), &cuts));
        prop_assert_eq!(ended, Ok(()));
        let whole = ollama().answer(&asks, &asked(), Bytes::from(last.to_string())).unwrap();
        let (mut streamed, mut whole) = (gathered(&events), gathered_whole(&whole));
        // The same output, in the order in which it came.
        let sorted = |text: &str| { let mut all: Vec<char> = text.chars().collect(); all.sort_unstable(); all };
        prop_assert_eq!(sorted(&streamed.produced), sorted(&whole.produced));
        (streamed.produced, whole.produced) = (String::new(), String::new());
        prop_assert_eq!(streamed, whole);
    }
}
