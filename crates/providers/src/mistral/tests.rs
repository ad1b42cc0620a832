use accounting::Usage;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::request::{SILENT, call_id};
use super::*;
use crate::answer::{Reported, StreamEvent, What};
use crate::framing::Framing;
use crate::samples::{
    Called, Gathered, Turn, asked, chats, gathered, gathered_whole, openai_messages, pieces, request, stream,
};

const TOOLS: &str = include_str!("../../fixtures/mistral/tools.sse");

fn mistral() -> Box<dyn Protocol> {
    let base_url = url::Url::parse("https://api.mistral.ai/v1").unwrap();
    (MISTRAL.open)(&Setup { base_url, options: crate::ProviderOptions::default() }).unwrap()
}

fn sent(body: &Value) -> Result<(Value, Vec<String>), BadRequest> {
    let outgoing = mistral().chat(&request(body))?;
    assert_eq!(outgoing.uri, "https://api.mistral.ai/v1/chat/completions");
    Ok((serde_json::from_slice(&outgoing.body).unwrap(), outgoing.omitted))
}

fn message(message: &Value) -> Result<Value, Option<String>> {
    sent(&json!({"model": "m", "messages": [message]}))
        .map(|(body, _)| body["messages"][0].clone())
        .map_err(|bad| bad.param)
}

fn streamed(pieces: &[&[u8]]) -> (Vec<StreamEvent>, Result<(), ProviderError>) {
    let asks = request(&json!({"model": "m", "messages": []}));
    stream(Framing::Sse, mistral().conversion(&asks, asked()), pieces)
}

#[test]
fn a_request_with_everything() {
    let schema = json!({"type": "object"});
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": true}});
    let (body, omitted) = sent(&json!({
        "model": "mistral-small-latest",
        "messages": [{"role": "developer", "name": "ann", "content": "be brief"}],
        "stream": true, "stream_options": {"include_usage": true},
        "max_completion_tokens": 100, "max_tokens": 200,
        "seed": 7, "temperature": 0.70, "top_p": 0.9, "stop": ["a"], "n": 2,
        "presence_penalty": 1, "frequency_penalty": 0.5, "parallel_tool_calls": false,
        "safe_prompt": true, "prompt_mode": "reasoning", "metadata": {"a": "b"}, "prompt_cache_key": "k",
        "response_format": format,
        "tools": [{"function": {"name": "f", "strict": true}}],
        "tool_choice": "required",
        "reasoning_effort": "medium",
        "user": "u", "logit_bias": {"1": 2}, "logprobs": false, "store": true, "service_tier": "auto",
        "top_k": 4, "zebra": null,
    }))
    .unwrap();
    assert_eq!(
        body,
        json!({
            "model": "mistral-small-latest",
            "messages": [{"role": "system", "content": "be brief"}],
            "stream": true, "max_tokens": 100, "random_seed": 7, "temperature": 0.70, "top_p": 0.9, "stop": ["a"],
            "n": 2, "presence_penalty": 1, "frequency_penalty": 0.5, "parallel_tool_calls": false,
            "safe_prompt": true, "prompt_mode": "reasoning", "metadata": {"a": "b"}, "prompt_cache_key": "k",
            "response_format": format,
            "tools": [{"type": "function", "function":
                {"name": "f", "strict": true, "parameters": {"type": "object", "properties": {}}}}],
            "tool_choice": "any", "reasoning_effort": "high",
        })
    );
    assert_eq!(omitted, ["user", "logit_bias", "store", "top_k"]);
}

#[test]
fn efforts_of_each_model() {
    for (model, asked, effort, omitted) in [
        ("mistral-small-latest", json!({"reasoning_effort": "none"}), json!("none"), None),
        ("mistral-medium-3-5", json!({"reasoning_effort": "low"}), json!("high"), None),
        ("mistral-medium-3-5", json!({"reasoning_effort": "minimal"}), json!("none"), None),
        ("mistral-large-4-0", json!({"reasoning_effort": "low"}), json!("low"), None),
        ("mistral-large-4-0", json!({"reasoning_effort": "xhigh"}), json!("high"), None),
        (
            "mistral-large-4-0",
            json!({"reasoning": {"max_tokens": 9}}),
            json!("high"),
            Some("reasoning.max_tokens"),
        ),
        ("codestral-latest", json!({"reasoning_effort": "low"}), Value::Null, Some("reasoning_effort")),
        ("codestral-latest", json!({"reasoning": {"enabled": true}}), Value::Null, Some("reasoning")),
        ("codestral-latest", json!({"reasoning_effort": null}), Value::Null, None),
    ] {
        let mut body = json!({"model": model, "messages": []});
        body.as_object_mut().unwrap().extend(asked.as_object().unwrap().clone());
        let (body, named) = sent(&body).unwrap();
        assert_eq!(body["reasoning_effort"], effort, "{model} {asked}");
        assert_eq!(named, omitted.into_iter().collect::<Vec<_>>(), "{model} {asked}");
    }
}

#[test]
fn choices_of_tools() {
    for (choice, expected) in [
        (json!("auto"), json!("auto")),
        (json!("none"), json!("none")),
        (
            json!({"type": "function", "function": {"name": "f"}}),
            json!({"type": "function", "function": {"name": "f"}}),
        ),
    ] {
        let tools = json!([{"type": "function", "function": {"name": "f"}}]);
        let (body, _) =
            sent(&json!({"model": "m", "messages": [], "tools": tools, "tool_choice": choice})).unwrap();
        assert_eq!(body["tool_choice"], expected);
    }
}

#[test]
fn what_is_refused() {
    for (field, value) in [
        ("logprobs", json!(true)),
        ("prediction", json!({"type": "content"})),
        ("guardrails", json!([{}])),
        ("stop", json!(7)),
        ("response_format", json!({"type": "xml"})),
    ] {
        let mut body = json!({"model": "m", "messages": []});
        body[field] = value;
        assert_eq!(sent(&body).unwrap_err().param.as_deref(), Some(field));
    }
    let picture = json!({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}});
    let user = |parts: Vec<Value>| json!({"role": "user", "content": parts});
    assert!(message(&user(vec![picture.clone(); 8])).is_ok());
    assert_eq!(message(&user(vec![picture.clone(); 9])), Err(Some("messages".into())));
    let large = format!("data:image/png;base64,{}", "A".repeat(14 * 1024 * 1024));
    for wrong in [
        json!({"role": "system", "content": [picture]}),
        json!({"role": "assistant", "content": [picture]}),
        user(vec![json!({"type": "file", "file": {"file_id": "f"}})]),
        user(vec![
            json!({"type": "file", "file": {"file_data": "data:application/pdf;base64,BBBB", "filename": "b.pdf"}}),
        ]),
        user(vec![json!({"type": "file", "file": {"file_data": "https://example.org/c.pdf"}})]),
        user(vec![json!({"type": "image_url", "image_url": {"url": large}})]),
    ] {
        assert_eq!(message(&wrong), Err(Some("messages.0".into())));
    }
}

#[test]
fn parts_of_every_kind() {
    let parts = json!([
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "input_audio", "input_audio": {"data": "CCCC", "format": "mp3"}},
        {"type": "document_url", "document_url": "https://example.org/a.pdf", "document_name": "a"},
        {"type": "document_url", "document_url": {"url": "data:application/pdf;base64,DDDD"}},
    ]);
    let expected = json!([
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
        {"type": "image_url", "image_url": "data:image/png;base64,AAAA"},
        {"type": "input_audio", "input_audio": "CCCC"},
        {"type": "document_url", "document_url": "https://example.org/a.pdf", "document_name": "a"},
        {"type": "document_url", "document_url": "data:application/pdf;base64,DDDD"},
    ]);
    assert_eq!(message(&json!({"role": "user", "content": parts})).unwrap()["content"], expected);
    assert_eq!(
        message(&json!({"role": "user", "content": ""})).unwrap(),
        json!({"role": "user", "content": ""})
    );
}

#[test]
fn what_the_model_said_before() {
    let of = |model: &str, messages: Value| {
        let (body, omitted) = sent(&json!({"model": model, "messages": messages})).unwrap();
        (body["messages"].clone(), omitted)
    };
    let begun = json!([{"role": "user", "content": "u"}, {"role": "assistant", "content": "Once"}]);
    assert_eq!(of("m", begun).0[1], json!({"role": "assistant", "content": "Once", "prefix": true}));
    let thought = json!([{"role": "assistant", "content": "a", "reasoning_content": "r"}, {"role": "user", "content": "u"}]);
    let (messages, omitted) = of("m", thought.clone());
    assert_eq!(messages[0], json!({"role": "assistant", "content": "a"}));
    assert_eq!(omitted, ["messages.reasoning_content"]);
    let (messages, omitted) = of("magistral-small-latest", thought);
    let thinking = json!([{"type": "thinking", "thinking": [{"type": "text", "text": "r"}]}, {"type": "text", "text": "a"}]);
    assert_eq!((&messages[0]["content"], omitted.len()), (&thinking, 0));
    // As Mistral's own clients give it back, whole or as a text.
    for thought in [json!([{"type": "text", "text": "r"}]), json!("r")] {
        let parts = json!([{"type": "thinking", "thinking": thought}, {"type": "text", "text": "a"}]);
        let said = json!([{"role": "assistant", "content": parts}, {"role": "user", "content": "u"}]);
        assert_eq!(of("magistral-small-latest", said.clone()).0[0]["content"], thinking);
        assert_eq!(of("m", said).1, ["messages.reasoning_content"]);
    }
    let silent = json!([{"role": "assistant", "content": ""}, {"role": "user", "content": "u"}]);
    assert_eq!(of("m", silent).0, json!([{"role": "user", "content": "u"}]));
    let called = json!([
        {"role": "assistant", "content": null, "tool_calls": [{"id": "call_1", "function": {"name": "f", "arguments": ""}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "x"},
        {"role": "tool", "tool_call_id": "D681PevKs", "name": "g", "content": "y"},
    ]);
    let id = call_id("call_1");
    let expected = json!([
        {"role": "assistant", "tool_calls": [{"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "content": "x", "tool_call_id": id, "name": "f"},
        {"role": "tool", "content": "y", "tool_call_id": "D681PevKs", "name": "g"},
    ]);
    assert_eq!(of("m", called).0, expected);
}

#[test]
fn a_stream_of_thoughts() {
    let (events, ended) = streamed(&[include_bytes!("../../fixtures/mistral/thinking.sse")]);
    ended.unwrap();
    let expected = Gathered {
        content: "Hello".into(),
        reasoning: "The \"user\" greets.".into(),
        reason: "length".into(),
        usage: Some(Usage { cached_input: 16, ..Usage::tokens(30, 20) }),
        produced: "The \"user\" greets.Hello".replace(" greets.Hello", "Hel greets.lo"),
        model: Some("magistral-medium-latest".into()),
        ..Gathered::default()
    };
    assert_eq!(gathered(&events), expected);
    // All but the content is as it came.
    let changed = r#"data: {"id":"m1","object":"chat.completion.chunk","created":1760000000,"model":"magistral-medium-latest","choices":[{"index":0,"delta":{"content": "Hel","reasoning_content":" greets."},"finish_reason":null}]}"#;
    assert_eq!(events[2].raw, format!("{changed}\n\n"));
}

#[test]
fn a_stream_that_needs_no_change_passes_byte_for_byte() {
    let typed = TOOLS.replace(r#""tool_calls":[{"#, r#""tool_calls":[{"type":"function","#);
    let (events, ended) = streamed(&[typed.as_bytes()]);
    ended.unwrap();
    let raw: Vec<u8> = events.iter().flat_map(|event| event.raw.to_vec()).collect();
    assert_eq!(raw, typed.as_bytes());
    let all = gathered(&events);
    let call = ("D681PevKs".to_owned(), "get_weather".to_owned(), r#"{"city": "Paris"}"#.to_owned());
    assert_eq!((all.calls, all.usage), (vec![call], Some(Usage::tokens(94, 23))));
    // A content that is a list only within a text.
    let quoted =
        Bytes::from_static(br#"{"choices":[{"delta":{"content":"\"content\":[1] \"model_length\""}}]}"#);
    assert_eq!(answer::rewritten(&quoted), None);
}

#[test]
fn calls_get_the_type_that_clients_look_for() {
    // As streams had it, and as some answers still have it.
    let typed = TOOLS.replace(r#""tool_calls":[{"#, r#""tool_calls":[{"type":"function","#);
    let (events, ended) = streamed(&[TOOLS.as_bytes()]);
    ended.unwrap();
    let raw: Vec<u8> = events.iter().flat_map(|event| event.raw.to_vec()).collect();
    assert_eq!(String::from_utf8(raw).unwrap(), typed);
    for (call, expected) in [
        (
            r#"{"function":{"name":"f","arguments":"{}"}}"#,
            Some(r#"{"type":"function","function":{"name":"f","arguments":"{}"}}"#),
        ),
        (
            r#"{"type" : null, "function":{"name":"f"}}"#,
            Some(r#"{"type" : "function", "function":{"name":"f"}}"#),
        ),
        (r#"{"type":"function","function":{"name":""type""}}"#, None),
        (r#"{"id":"a"}"#, None),
        ("7", None),
    ] {
        let answer = |call: &str| {
            format!(r#"{{"choices":[{{"message":{{"content":"","tool_calls":[{call},{call}]}}}}]}}"#)
        };
        let rewritten = answer::rewritten(&Bytes::from(answer(call)));
        assert_eq!(rewritten, expected.map(|call| Bytes::from(answer(call))), "{call}");
    }
}

#[test]
fn a_stream_that_ends_in_an_error_still_tells_what_it_used() {
    let (events, ended) = streamed(&[include_bytes!("../../fixtures/mistral/error.sse")]);
    assert!(matches!(ended, Err(ProviderError::Reported { .. })));
    let What::Chunk(last) = &events.last().unwrap().what else { panic!("{events:?}") };
    assert_eq!(last.usage, Some(Reported::Final(Usage::tokens(4, 1))));
}

#[test]
fn whole_answers() {
    let of = |body: &'static [u8]| {
        mistral()
            .answer(&request(&json!({"model": "m", "messages": []})), &asked(), Bytes::from_static(body))
            .unwrap()
    };
    let audio = include_bytes!("../../fixtures/mistral/audio.json");
    let complete = of(audio);
    assert_eq!(complete.body, &audio[..]);
    assert_eq!(complete.usage, Some(Usage { input_audio: 203, ..Usage::tokens(211, 635) }));
    let thought = of(br#"{"choices":[{"index":0,"message":{"content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"a\nb"}],"role":"assistant"},"finish_reason":"stop"}]}"#);
    let expected = r#"{"choices":[{"index":0,"message":{"content":"a\nb","reasoning_content":"hm","role":"assistant"},"finish_reason":"stop"}]}"#;
    assert_eq!((thought.body, thought.produced.text.as_str()), (Bytes::from(expected), "a\nbhm"));
}

#[test]
fn errors_models_and_vectors() {
    let of = |body: &str| mistral().error(body.as_bytes());
    let failure = of(
        r#"{"object":"error","message":"Invalid model: x","type":"invalid_model","param":null,"code":"1500"}"#,
    );
    assert_eq!(
        (failure.code.as_deref(), failure.message.as_deref()),
        (Some("1500"), Some("Invalid model: x"))
    );
    let failure = of(
        r#"{"detail":[{"type":"extra_forbidden","loc":["body","user"],"msg":"Extra inputs are not permitted","input":"u"}]}"#,
    );
    assert_eq!(failure.message.as_deref(), Some("body.user: Extra inputs are not permitted"));
    let models =
        mistral().models_answer(br#"{"object":"list","data":[{"id":"mistral-small-latest","aliases":[]}]}"#);
    assert_eq!(models.unwrap()[0].as_str(), "mistral-small-latest");

    let texts = |body: Value| EmbeddingsRequest::parse(Bytes::from(body.to_string())).unwrap();
    let asks = texts(
        json!({"model": "e", "input": ["a"], "dimensions": 2, "user": "u", "encoding_format": "base64"}),
    );
    let outgoing = mistral().embeddings(&asks).unwrap();
    assert_eq!(outgoing.body, r#"{"model":"e","input":["a"],"output_dimension":2}"#);
    assert_eq!(outgoing.omitted, ["user"]);
    let answer = r#"{"object":"list","data":[{"object":"embedding","embedding":[1.0,-2.5],"index":0}],"model":"e","usage":{"prompt_tokens":3,"total_tokens":3,"completion_tokens":0}}"#;
    let complete =
        mistral().embeddings_answer(&asks, &asked(), Bytes::from_static(answer.as_bytes())).unwrap();
    let body: Value = serde_json::from_slice(&complete.body).unwrap();
    assert_eq!(
        (&body["data"][0]["embedding"], complete.usage),
        (&json!("AACAPwAAIMA="), Some(Usage::tokens(3, 0)))
    );
    let plain = texts(json!({"model": "e", "input": "a"}));
    let complete =
        mistral().embeddings_answer(&plain, &asked(), Bytes::from_static(answer.as_bytes())).unwrap();
    assert_eq!(complete.body, answer);
}

/// Reads Mistral's messages.
fn read_back(body: &Value) -> Vec<Turn> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let turns = body["messages"].as_array().unwrap().iter().map(|message| {
        let mut turn = Turn { role: text(&message["role"]), ..Turn::default() };
        match &message["content"] {
            Value::String(text) => turn.texts.push(text.clone()),
            Value::Array(parts) => {
                for part in parts {
                    match part["type"].as_str().unwrap() {
                        "text" => turn.texts.push(text(&part["text"])),
                        "thinking" => turn.reasoning = Some(text(&part["thinking"][0]["text"])),
                        _ => turn.images.push(text(&part["image_url"]).replace("data:image/png;base64,", "")),
                    }
                }
            }
            _ => {}
        }
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            let arguments = text(&call["function"]["arguments"]);
            turn.calls.push(Called {
                id: text(&call["id"]),
                name: text(&call["function"]["name"]),
                arguments: serde_json::from_str(&arguments).unwrap(),
            });
        }
        turn.result_of = message["tool_call_id"].as_str().map(|id| (id.to_owned(), text(&message["name"])));
        turn
    });
    turns.collect()
}

proptest! {
    #[test]
    fn a_chat_loses_nothing(turns in chats()) {
        let body = json!({"model": "magistral-small-latest", "messages": openai_messages(&turns)});
        let pictures: usize = turns.iter().map(|turn| turn.images.len()).sum();
        prop_assume!(pictures <= 8);
        let (sent, omitted) = sent(&body).unwrap();
        let mapped = |id: &String| call_id(id).into_owned();
        let ids: Vec<&String> = turns.iter().flat_map(|turn| &turn.calls).map(|call| &call.id).collect();
        let different: std::collections::HashSet<String> = ids.iter().map(|id| mapped(id)).collect();
        prop_assert_eq!(different.len(), ids.len());
        // Ids change, and the calls and their results together; behind a result, the model speaks.
        let mut expected: Vec<Turn> = Vec::new();
        for mut turn in turns {
            turn.calls.iter_mut().for_each(|call| call.id = mapped(&call.id));
            turn.result_of = turn.result_of.map(|(id, name)| (mapped(&id), name));
            if turn.role == "user" && expected.last().is_some_and(|before| before.role == "tool") {
                expected.push(Turn { role: "assistant".into(), texts: vec![SILENT.into()], ..Turn::default() });
            }
            expected.push(turn);
        }
        prop_assert_eq!(read_back(&sent), expected);
        prop_assert!(omitted.is_empty());
    }

    #[test]
    fn ids_are_nine_letters_or_digits_and_stay_so(id in ".{0,40}") {
        let mapped = call_id(&id).into_owned();
        prop_assert!(mapped.len() == 9 && mapped.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let again = call_id(&mapped).into_owned();
        prop_assert_eq!(again, mapped);
    }

    #[test]
    fn streamed_or_whole_an_answer_is_the_same(
        said in prop::collection::vec((any::<bool>(), any::<bool>(), "[a-z \"\\\\\n\u{1F600}\\[]{1,6}"), 0..10),
        cuts in prop::collection::vec(any::<usize>(), 0..8),
    ) {
        let end = json!({"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11});
        let mut sse = String::new();
        let mut all = Vec::new();
        for (thought, listed, text) in &said {
            let part = if *thought {
                json!({"type": "thinking", "thinking": [{"type": "text", "text": text}]})
            } else {
                json!({"type": "text", "text": text})
            };
            let content = if *thought || *listed { json!([part.clone()]) } else { json!(text) };
            all.push(part);
            let chunk = json!({"model": "m", "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": null}]});
            sse += &format!("data: {chunk}\n\n");
        }
        let last = json!({"model": "m", "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}], "usage": end});
        sse += &format!("data: {last}\n\ndata: [DONE]\n\n");
        let whole = json!({"model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": all}, "finish_reason": "stop"}], "usage": end});
        let (events, ended) = streamed(&pieces(sse.as_bytes(), &cuts));
        prop_assert_eq!(ended, Ok(()));
        let asks = request(&json!({"model": "m", "messages": []}));
        let whole = mistral().answer(&asks, &asked(), Bytes::from(whole.to_string())).unwrap();
        let (mut streamed, mut whole) = (gathered(&events), gathered_whole(&whole));
        let sorted = |text: &str| { let mut all: Vec<char> = text.chars().collect(); all.sort_unstable(); all };
        prop_assert_eq!(sorted(&streamed.produced), sorted(&whole.produced));
        (streamed.produced, whole.produced) = (String::new(), String::new());
        prop_assert_eq!(streamed, whole);
    }
}
