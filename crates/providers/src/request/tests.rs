//! What requests are read as.

use serde_json::json;

use super::*;

fn chat(body: Value) -> Result<ChatRequest, BadRequest> {
    ChatRequest::parse(Bytes::from(body.to_string()))
}

#[test]
fn wrong_fields_are_named() {
    let messages = json!([]);
    for (body, param) in [
        (json!({"messages": messages}), "model"),
        (json!({"model": 7, "messages": messages}), "model"),
        (json!({"model": "m"}), "messages"),
        (json!({"model": "m", "messages": messages, "stream": "yes"}), "stream"),
        (json!({"model": "m", "messages": messages, "n": 0}), "n"),
        (json!({"model": "m", "messages": messages, "max_tokens": -1}), "max_tokens"),
        (json!({"model": "m", "messages": messages, "max_tokens": 1.5}), "max_tokens"),
        (json!({"model": "m", "messages": messages, "max_tokens": 0}), "max_tokens"),
        (json!({"model": "m", "messages": messages, "stream": true, "stream_options": 1}), "stream_options"),
    ] {
        assert_eq!(chat(body.clone()).unwrap_err().param.as_deref(), Some(param), "{body}");
    }
    assert!(ChatRequest::parse(Bytes::from_static(b"[1]")).is_err());
    assert!(ChatRequest::parse(Bytes::from_static(b"\xff{")).is_err());
}

#[test]
fn usage_is_always_asked_for_in_streams_and_the_rest_passes_untouched() {
    let body =
        r#"{"model":"m","zebra":1.50,"messages":[],"stream":true,"a":{"y":1,"b":12345678901234567890123}}"#;
    let request = ChatRequest::parse(Bytes::from(body)).unwrap();
    assert!(!request.asks_usage());
    let sent = serde_json::to_string(request.body()).unwrap();
    assert_eq!(sent, body.replace("}}", r#"},"stream_options":{"include_usage":true}}"#));
}

#[test]
fn all_text_and_media_are_seen() {
    let request = chat(json!({"model": "m", "tools": [{"a": 1}], "messages": [
        {"role": "system", "content": "one"},
        {"role": "user", "content": [
            {"type": "text", "text": "two"},
            {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}},
            {"type": "input_audio", "input_audio": {"data": "AAAAAAAA"}},
            {"type": "file", "file": {"file_id": "f"}},
        ]},
        {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "three", "arguments": "{}"}}]},
    ]}))
    .unwrap();
    let texts = request.input_text();
    assert_eq!(texts, ["one", "two", "three", "{}", r#"[{"a":1}]"#]);
    assert_eq!(request.input_length(), texts.iter().map(|text| text.len() as u64).sum::<u64>());
    let media = [
        Media::Image { low_detail: true, size: None },
        Media::Audio { bytes: 6, timed: false },
        Media::File { bytes: None },
    ];
    assert_eq!(request.media(), media);
}

#[test]
fn limits_are_lowered_never_raised() {
    let mut request = chat(json!({"model": "m", "messages": [], "max_tokens": 100})).unwrap();
    request.lower_output_limit(500, "max_completion_tokens");
    assert_eq!(request.body().get("max_tokens"), Some(&json!(100)));
    request.lower_output_limit(50, "max_completion_tokens");
    assert_eq!(request.body().get("max_tokens"), Some(&json!(50)));
    assert!(!request.body().contains_key("max_completion_tokens"));
    let mut open = chat(json!({"model": "m", "messages": []})).unwrap();
    open.lower_output_limit(7, "max_completion_tokens");
    assert_eq!(open.body().get("max_completion_tokens"), Some(&json!(7)));
}

fn of(shape: Shape, body: Value) -> ChatRequest {
    ChatRequest::parse_as(shape, Bytes::from(body.to_string())).unwrap()
}

/// 12 bytes in base64.
const SEALED: &str = "AAAAAAAAAAAAAAAA";

#[test]
fn all_that_a_chat_puts_before_a_model_counts() {
    let message = |field: &str, value: Value| {
        let mut message = json!({"role": "assistant", "content": "c"});
        message[field] = value;
        json!({"messages": [message]})
    };
    let schema = json!({"type": "object", "properties": {"word": {}}});
    let told = |text: &str| json!([{"type": "reasoning.text", "text": text, "format": "x"}]);
    for (body, counted) in [
        (message("reasoning", json!("word")), "word"),
        (message("reasoning_content", json!("word")), "word"),
        (message("reasoning_details", told("word")), "word"),
        (message("reasoning_details", json!([{"type": "reasoning.summary", "summary": "word"}])), "word"),
        (message("thinking_blocks", json!([{"type": "thinking", "thinking": "word"}])), "word"),
        (
            message("content", json!([{"type": "thinking", "thinking": [{"type": "text", "text": "word"}]}])),
            "word",
        ),
        (message("tool_calls", json!([{"id": "word"}])), "word"),
        (message("tool_calls", json!([{"function": {"name": "f"}, "custom": {"input": "word"}}])), "word"),
        (message("tool_calls", json!([{"function": {"name": "f", "more": "word"}}])), "word"),
        (message("tool_calls", json!([{"function": "word"}])), "word"),
        (message("tool_calls", json!([{"function": {"name": "f"}, "more": {"a": ["word"]}}])), "word"),
        // The same thought in a longer form, as far as a tokenizer sees it.
        (
            json!({"messages": [{"role": "assistant", "reasoning_content": "a", "reasoning": " \n a\n \n"}]}),
            " \n a\n \n",
        ),
        (message("tool_call_id", json!("word")), "word"),
        (json!({"tools": [schema]}), "[{\"type\""),
        (json!({"functions": [schema]}), "[{\"type\""),
        (json!({"response_format": {"type": "json_schema", "json_schema": schema}}), "\"json_schema\":{"),
        (json!({"generationConfig": {"responseSchema": schema}}), "\"responseSchema\":{"),
        (json!({"generation_config": {"response_schema": schema}}), "\"response_schema\":{"),
        (json!({"format": schema}), "{\"type\""),
        (json!({"guided_json": schema}), "{\"type\""),
        (json!({"documents": [{"text": "word"}]}), "word"),
        (json!({"chat_template_kwargs": {"a": "word"}}), "word"),
        (json!({"unknown": "word"}), "word"),
    ] {
        let mut whole = json!({"model": "m", "messages": []});
        whole.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        let request = of(Shape::Chat, whole);
        let texts = request.input_text();
        assert_eq!(texts.iter().filter(|text| text.contains(counted)).count(), 1, "{body}: {texts:?}");
        assert_eq!(request.input_length(), texts.iter().map(|text| text.len() as u64).sum::<u64>(), "{body}");
        assert_eq!(request.media(), [], "{body}");
    }
    // The same thought under several names counts once, another one too.
    let mut thought = message("reasoning_content", json!("one\n\ntwo"));
    thought["model"] = json!("m");
    thought["messages"][0]["reasoning"] = json!("one\n\ntwo");
    thought["messages"][0]["reasoning_details"] = json!([{"text": "one"}, {"text": "two"}]);
    assert_eq!(of(Shape::Chat, thought.clone()).input_text(), ["c", "one\n\ntwo"]);
    thought["messages"][0]["reasoning_details"] = told("three");
    assert_eq!(of(Shape::Chat, thought).input_text(), ["c", "one\n\ntwo", "three"]);
    let plain = json!({"model": "m", "messages": [], "user": "u", "metadata": {"a": "b"}, "temperature": 1, "stop": ["x"]});
    assert_eq!(of(Shape::Chat, plain).input_length(), 0);
}

#[test]
fn what_only_the_provider_can_read_is_noticed() {
    let chat = |message: Value| json!({"model": "m", "messages": [message]});
    let hidden = |bytes| vec![Media::Hidden { bytes, all: 12 }];
    let kept = || vec![Media::File { bytes: None }];
    for (body, media) in [
        (chat(json!({"reasoning_details": [{"type": "reasoning.encrypted", "data": SEALED}]})), hidden(12)),
        (chat(json!({"reasoning_details": [{"text": "12345", "signature": SEALED}]})), hidden(7)),
        (chat(json!({"thinking_blocks": [{"type": "redacted_thinking", "data": SEALED}]})), hidden(12)),
        (chat(json!({"audio": {"id": "audio_1"}})), kept()),
        (json!({"model": "m", "messages": [], "cachedContent": "cachedContents/1"}), kept()),
        (json!({"model": "m", "messages": [], "cached_content": "cachedContents/1"}), kept()),
        (json!({"model": "m", "messages": [], "cached_content": null}), vec![]),
    ] {
        assert_eq!(of(Shape::Chat, body.clone()).media(), media, "{body}");
    }
    let messages = |block: Value| json!({"model": "m", "messages": [{"role": "user", "content": [block]}]});
    for (block, texts, media) in [
        (json!({"type": "thinking", "thinking": "12345", "signature": SEALED}), vec!["12345"], hidden(7)),
        (json!({"type": "redacted_thinking", "data": SEALED}), vec![], hidden(12)),
        // Names and values that look like data are text here.
        (
            json!({"type": "tool_use", "id": "i", "name": "n", "input": {"data": "word", "url": "u"}}),
            vec!["i", "n", r#"{"data":"word","url":"u"}"#],
            vec![],
        ),
        (
            json!({"type": "document", "title": "t", "source": {"type": "text", "media_type": "text/plain", "data": "word"}}),
            vec!["t", "word"],
            vec![],
        ),
        (
            json!({"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "word"}]}}),
            vec!["word"],
            vec![],
        ),
        (
            json!({"type": "document", "source": {"type": "base64", "data": SEALED}}),
            vec![],
            vec![Media::File { bytes: Some(12) }],
        ),
        (json!({"type": "document", "source": {"type": "url", "url": "https://x"}}), vec![], kept()),
        (
            json!({"type": "tool_result", "tool_use_id": "i", "content": [{"type": "image", "source": {}}, {"type": "text", "text": "word"}]}),
            vec!["i", "word"],
            vec![Media::Image { low_detail: false, size: None }],
        ),
        (json!({"type": "new", "words": "word"}), vec![r#"{"type":"new","words":"word"}"#], vec![]),
    ] {
        let request = of(Shape::Messages, messages(block.clone()));
        assert_eq!(request.input_text(), texts, "{block}");
        assert_eq!(request.media(), media, "{block}");
    }
    let responses = |item: Value| json!({"model": "m", "input": [item]});
    for (item, texts, media) in [
        (json!({"role": "user", "content": "word"}), vec!["word"], vec![]),
        (
            json!({"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "12345"}], "encrypted_content": SEALED}),
            vec!["12345"],
            hidden(7),
        ),
        (json!({"type": "reasoning", "id": "r", "summary": []}), vec![], kept()),
        (json!({"type": "compaction", "encrypted_content": SEALED}), vec![], kept()),
        (
            json!({"type": "function_call", "call_id": "i", "name": "f", "arguments": "{\"data\":1}"}),
            vec!["i", "f", "{\"data\":1}"],
            vec![],
        ),
        (
            json!({"type": "function_call_output", "call_id": "i", "output": [{"type": "input_image", "detail": "low"}]}),
            vec!["i"],
            vec![Media::Image { low_detail: true, size: None }],
        ),
        (json!({"type": "message", "content": [{"type": "input_file", "file_id": "f"}]}), vec![], kept()),
    ] {
        let request = of(Shape::Responses, responses(item.clone()));
        assert_eq!(request.input_text(), texts, "{item}");
        assert_eq!(request.media(), media, "{item}");
    }
    let schema =
        json!({"model": "m", "instructions": "a", "input": "b", "text": {"format": {"schema": {"word": 1}}}});
    assert_eq!(of(Shape::Responses, schema).input_text(), ["a", "b", r#"{"format":{"schema":{"word":1}}}"#]);
}

#[test]
fn budgets_for_thinking_follow_a_lowered_limit() {
    let chat = json!({"model": "m", "messages": [], "max_tokens": 9000});
    let with = |field: &str, value: Value| {
        let mut body = chat.clone();
        body[field] = value;
        body
    };
    let thinking = |budget: u64| with("thinking", json!({"type": "enabled", "budget_tokens": budget}));
    for shape in [Shape::Messages, Shape::Chat] {
        for (budget, lowered, left) in [
            (4000, 9000, json!(4000)),
            (4000, 5000, json!(4000)),
            (4000, 4000, json!(3999)),
            (8000, 1025, json!(1024)),
            (8000, 1024, Value::Null),
            (2000, 300, Value::Null),
        ] {
            let mut request = of(shape, thinking(budget));
            request.lower_output_limit(lowered, "max_tokens");
            let sent =
                request.body().get("thinking").map_or(Value::Null, |sent| sent["budget_tokens"].clone());
            assert_eq!(sent, left, "{budget} {lowered}");
            assert_eq!(request.omitted().is_empty(), left != Value::Null, "{budget} {lowered}");
            assert_eq!(request.body()["max_tokens"], json!(lowered.min(9000)));
        }
        // A client's own mistake, or interleaved thinking, is left to the provider.
        let mut same = of(shape, thinking(20_000));
        same.lower_output_limit(9000, "max_tokens");
        assert_eq!(same.body()["thinking"]["budget_tokens"], json!(20_000));
    }
    let mut request = of(Shape::Chat, with("reasoning", json!({"max_tokens": 8000})));
    request.lower_output_limit(2000, "max_tokens");
    assert_eq!(request.body()["reasoning"], json!({"max_tokens": 1999}));
}
