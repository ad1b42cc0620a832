//! Answers, whole and streamed, converted and passed.

use accounting::Usage;
use proptest::prelude::*;

use super::*;

const TEXT: &[u8] = include_bytes!("../../../fixtures/anthropic/text.sse");
const TOOLS: &[u8] = include_bytes!("../../../fixtures/anthropic/thinking_and_tools.sse");
const WHOLE: &[u8] = include_bytes!("../../../fixtures/anthropic/thinking_and_tools.json");
const OVERLOADED: &[u8] = include_bytes!("../../../fixtures/anthropic/overloaded.sse");
const MODELS: &[u8] = include_bytes!("../../../fixtures/anthropic/models.json");

fn cached(output: u64) -> Usage {
    Usage { cached_input: 1000, cache_write: 100, cache_write_long: 200, ..Usage::tokens(1325, output) }
}

#[test]
fn a_streamed_text() {
    let (events, ended) = converted(converting(), &[TEXT]);
    assert_eq!(ended, Ok(()));
    let (answer, reason) = put_together(&events);
    assert_eq!(answer["content"], "Hello!\n\"Ünïcode\"");
    assert_eq!(reason.as_deref(), Some("stop"));
    assert_eq!(produced(&events), "Hello!\n\"Ünïcode\"");
    let chunks = chunks(&events);
    assert_eq!(chunks[0].usage, Some(Reported::SoFar(cached(1))));
    assert_eq!(chunks[0].model.as_deref(), Some("claude-sonnet-4-5-20250929"));
    let last = chunks.last().unwrap();
    assert_eq!((last.no_choices, last.usage), (true, Some(Reported::Final(cached(15)))));
    assert_eq!(chunks.iter().filter(|chunk| chunk.finish).count(), 1);
    assert_eq!(events.last().unwrap().what, What::Done);
    let first = events[0].json().unwrap();
    assert_eq!((&first["id"], &first["created"]), (&json!("msg_01"), &json!(7)));
    assert_eq!(first["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
}

#[test]
fn thinking_and_tools_streamed_and_whole() {
    let (events, ended) = converted(converting(), &[TOOLS]);
    assert_eq!(ended, Ok(()));
    let streamed = put_together(&events);
    let expected = json!({
        "content": "Let me look.",
        "reasoning": "Paris, then the time.",
        "details": [
            {"type": "reasoning.text", "text": "Paris, then the time.", "signature": "c2ln",
                "format": "anthropic-claude-v1", "index": 0},
            {"type": "reasoning.encrypted", "data": "aGlkZGVu", "format": "anthropic-claude-v1", "index": 1},
        ],
        "calls": [
            {"id": "toolu_01", "name": "weather", "arguments": "{\"city\": \"Paris\"}"},
            {"id": "toolu_02", "name": "time", "arguments": "{}"},
        ],
    });
    assert_eq!((Value::Object(streamed.0), streamed.1.as_deref()), (expected, Some("tool_calls")));
    let usage = Usage { reasoning: 30, ..Usage::tokens(400, 89) };
    assert_eq!(last_usage(&events), Some(Reported::Final(usage)));

    let whole = protocol().answer(&request(&json!({"model": "m", "messages": []})), &asked(), WHOLE.into());
    let whole = whole.unwrap();
    assert_eq!(taken_apart(&whole.body), put_together(&events));
    assert_eq!((whole.usage, whole.model.as_deref()), (Some(usage), Some("claude-opus-4-5")));
    assert_eq!(whole.produced.text, "Paris, then the time.Let me look.weather{\"city\": \"Paris\"}time{}");
    let mut sorted: Vec<char> = produced(&events).chars().collect();
    let mut expected: Vec<char> = whole.produced.text.chars().collect();
    sorted.sort_unstable();
    expected.sort_unstable();
    assert_eq!(sorted, expected, "the streamed pieces of two calls are mixed, but none is missing");
}

#[test]
fn input_that_comes_with_its_call_is_not_lost() {
    let sse = br#"data: {"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"a","name":"f","input":{"x":1.50}}}

data: {"type":"message_stop"}

"#;
    let (events, ended) = converted(converting(), &[sse]);
    assert_eq!(ended, Ok(()));
    let (answer, reason) = put_together(&events);
    assert_eq!(answer["calls"], json!([{"id": "a", "name": "f", "arguments": "{\"x\":1.50}"}]));
    assert_eq!(reason.as_deref(), Some("stop"));
    assert_eq!(last_usage(&events), None);
}

#[test]
fn streams_that_break() {
    for conversion in [converting, passing] {
        let (events, ended) = converted(conversion(), &[OVERLOADED]);
        let error = ended.unwrap_err();
        assert!(matches!(error.plain(), ProviderError::Overloaded { .. }), "{error}");
        assert!(error.message().contains("Overloaded"), "{error}");
        assert_eq!(produced(&events), "Half of");
        assert_eq!(last_usage(&events), Some(Reported::SoFar(Usage::tokens(7, 1))));
        // Each stream ends too soon before its last event has come whole.
        let end = TEXT.len() - b"data: {\"type\":\"message_stop\"}\n\n".len();
        for at in [0, 10, TEXT.len() / 2, end, end + 20] {
            let (_, ended) = converted(conversion(), &[&TEXT[..at]]);
            assert!(matches!(ended, Err(ProviderError::Broken { .. })), "cut at {at}");
        }
    }
}

#[test]
fn every_stop_reason() {
    for (theirs, ours) in [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
    ] {
        let sse = format!(
            "data: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"{theirs}\"}}}}\n\n\
             data: {{\"type\":\"message_stop\"}}\n\n"
        );
        let (events, ended) = converted(converting(), &[sse.as_bytes()]);
        assert_eq!((put_together(&events).1.as_deref(), ended), (Some(ours), Ok(())), "{theirs}");
    }
}

/// The message of a whole answer.
fn whole_message(answer: &Value) -> Value {
    let chat = request(&json!({"model": "m", "messages": []}));
    let whole = protocol().answer(&chat, &asked(), answer.to_string().into()).unwrap();
    let body: Value = serde_json::from_slice(&whole.body).unwrap();
    body["choices"][0]["message"].clone()
}

/// That field of all deltas of a stream of these events, of those that have it.
fn streamed_field(events: &[Value], field: &str) -> Vec<Value> {
    let sse: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    let (events, ended) = converted(converting(), &[sse.as_bytes()]);
    assert_eq!(ended, Ok(()));
    let deltas = events.iter().filter_map(|event| event.json()?["choices"][0]["delta"].get(field).cloned());
    deltas.filter(|value| value != "").collect()
}

#[test]
fn a_refusal_reaches_whoever_reads_the_content_and_whoever_reads_the_refusal() {
    let details =
        json!({"category": "cyber", "explanation": "This can't be answered (key sk-ant-REDACTED)."});
    let told = "This can't be answered (key ***).";
    let ours = "Anthropic's safety filter stopped this answer.";
    for (before, details, refusal, content) in [
        ("", details.clone(), told, format!("({told})")),
        ("Half of", details, told, format!("Half of\n\n({told})")),
        ("", Value::Null, ours, format!("({ours})")),
        ("", json!({"explanation": 7}), ours, format!("({ours})")),
    ] {
        let blocks = if before.is_empty() { json!([]) } else { json!([{"type": "text", "text": before}]) };
        let answer = json!({"content": blocks, "stop_reason": "refusal", "stop_details": details});
        let message = whole_message(&answer);
        assert_eq!((&message["refusal"], &message["content"]), (&json!(refusal), &json!(content)));
        let events = [
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": before}}),
            json!({"type": "message_delta", "delta": {"stop_reason": "refusal", "stop_details": details}}),
            json!({"type": "message_stop"}),
        ];
        assert_eq!(streamed_field(&events, "refusal"), [refusal]);
        let pieces = streamed_field(&events, "content");
        let said: String = pieces.iter().filter_map(Value::as_str).collect();
        assert_eq!(said, content);
    }
    let plain =
        whole_message(&json!({"content": [{"type": "text", "text": "a"}], "stop_reason": "end_turn"}));
    assert!(plain.get("refusal").is_none());
}

#[test]
fn pages_that_are_cited_are_annotations() {
    let page = json!({"type": "web_search_result_location", "url": "https://example.org/a", "title": "A",
        "encrypted_index": "x", "cited_text": "c"});
    let found = json!({"type": "search_result_location", "source": "https://example.org/b", "title": null,
        "search_result_index": 0});
    let document = json!({"type": "char_location", "document_title": "D", "start_char_index": 0});
    let named = json!({"type": "search_result_location", "source": "shelf 3", "title": "S"});
    let annotation = |url: &str, title: &str| {
        json!({"type": "url_citation",
            "url_citation": {"url": url, "title": title, "start_index": 3, "end_index": 5}})
    };
    let expected = [
        annotation("https://example.org/a", "A"),
        annotation("https://example.org/b", "https://example.org/b"),
    ];
    let citations = [page.clone(), document, found, named, page];
    let message = whole_message(&json!({"content": [
        {"type": "text", "text": "Ünd"}, {"type": "text", "text": "so", "citations": citations},
        {"type": "text", "text": ".", "citations": null},
    ], "stop_reason": "end_turn"}));
    assert_eq!(message["annotations"], json!(expected));
    let mut events = vec![
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "Ünd"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}}),
    ];
    events.extend(citations.iter().map(|citation| {
        json!({"type": "content_block_delta", "index": 1,
            "delta": {"type": "citations_delta", "citation": citation}})
    }));
    events.extend([
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "so"}}),
        json!({"type": "content_block_stop", "index": 1}),
        json!({"type": "message_stop"}),
    ]);
    assert_eq!(streamed_field(&events, "annotations"), [json!(expected)]);
}

#[test]
fn a_last_usage_that_can_not_be_right_is_none() {
    for usage in ["{\"output_tokens\":-1}", "{\"output_tokens\":1.5}", "{}", "7", "null"] {
        let sse = format!(
            "data: {{\"type\":\"message_start\",\"message\":{{\"content\":[],\"usage\":{{\"input_tokens\":3,\"output_tokens\":1}}}}}}\n\n\
             data: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"end_turn\"}},\"usage\":{usage}}}\n\n\
             data: {{\"type\":\"message_stop\"}}\n\n"
        );
        for conversion in [converting, passing] {
            let (events, ended) = converted(conversion(), &[sse.as_bytes()]);
            assert_eq!(ended, Ok(()), "{usage}");
            // Only what came first, which tells that the answer went on.
            assert_eq!(last_usage(&events), Some(Reported::SoFar(Usage::tokens(3, 1))), "{usage}");
        }
    }
}

#[test]
fn native_events_pass_unchanged() {
    for (stream, usage) in [(TEXT, cached(15)), (TOOLS, Usage { reasoning: 30, ..Usage::tokens(400, 89) })] {
        let (events, ended) = converted(passing(), &[stream]);
        assert_eq!(ended, Ok(()));
        let raw: Vec<u8> = events.iter().flat_map(|event| event.raw.to_vec()).collect();
        assert_eq!(raw, stream);
        assert_eq!(last_usage(&events), Some(Reported::Final(usage)));
        let finishing: Vec<Value> = events
            .iter()
            .filter(|event| matches!(&event.what, What::Chunk(chunk) if chunk.finish))
            .map(|event| event.json().unwrap()["type"].clone())
            .collect();
        assert_eq!(finishing, ["message_delta", "message_stop"]);
        assert_eq!(events.last().unwrap().what, What::Done);
    }
    let (events, _) = converted(passing(), &[TEXT]);
    assert_eq!(produced(&events), "Hello!\n\"Ünïcode\"");
    assert_eq!(chunks(&events)[0].usage, Some(Reported::SoFar(cached(1))));
    let whole = native::complete(Bytes::from_static(WHOLE), None).unwrap();
    assert_eq!(whole.body, WHOLE);
    assert_eq!(whole.usage, Some(Usage { reasoning: 30, ..Usage::tokens(400, 89) }));
    assert_eq!(whole.produced.text, "Paris, then the time.Let me look.weather{\"city\": \"Paris\"}time{}");
}

#[test]
fn no_answers() {
    let chat = request(&json!({"model": "m", "messages": []}));
    for body in
        ["<html>", "[]", "{}", "{\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"x\"}}"]
    {
        let answer = protocol().answer(&chat, &asked(), Bytes::from(body));
        assert!(matches!(answer, Err(ProviderError::BadAnswer { .. })), "{body}");
        assert!(native::complete(Bytes::from(body), None).is_err(), "{body}");
    }
}

#[test]
fn errors_say_whose_fault_they_are() {
    let of = |kind: &str, message: &str| {
        let body =
            json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"});
        error(body.to_string().as_bytes())
    };
    for (kind, message, ours) in [
        ("invalid_request_error", "messages: at least one message is required", false),
        ("invalid_request_error", "Your credit balance is too low to access the Anthropic API.", true),
        ("invalid_request_error", "You have reached your specified API usage limits.", true),
        ("authentication_error", "invalid x-api-key", true),
        ("permission_error", "no", true),
        ("billing_error", "no", true),
        ("not_found_error", "model: claude-9", false),
        ("overloaded_error", "Overloaded", false),
        ("rate_limit_error", "too many", false),
    ] {
        let failure = of(kind, message);
        assert_eq!(failure.ours, ours, "{kind} {message}");
        assert_eq!(failure.kind.as_deref(), Some(kind));
        assert_eq!(failure.message.as_deref(), Some(message));
    }
    assert_eq!(error(b"<html>"), Failure::default());
    assert_eq!(error(b"{\"error\":null}"), Failure::default());
}

#[test]
fn models_and_addresses() {
    let names = protocol().models_answer(MODELS).unwrap();
    let names: Vec<&str> = names.iter().map(ModelId::as_str).collect();
    assert_eq!(names, ["claude-opus-4-5-20251101", "claude-haiku-4-5-20251001"]);
    for (base, expected) in [
        ("https://api.anthropic.com", "https://api.anthropic.com/v1"),
        ("https://api.anthropic.com/v1/", "https://api.anthropic.com/v1"),
        ("http://localhost:8080/proxy", "http://localhost:8080/proxy/v1"),
    ] {
        let base_url = Url::parse(base).unwrap();
        let protocol = open(&Setup { base_url, options: ProviderOptions::default() }).unwrap();
        assert_eq!(protocol.models().uri.to_string(), format!("{expected}/models?limit=1000"));
        let chat = request(&json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]}));
        assert_eq!(protocol.chat(&chat).unwrap().uri.to_string(), format!("{expected}/messages"));
    }
    assert!(protocol().takes(Shape::Messages) && !protocol().takes(Shape::Responses));
}

/// A block of an answer, with where its text is cut.
#[derive(Debug, Clone)]
enum Block {
    Text(String),
    Thinking(String, String),
    Hidden(String),
    Call(String, Value),
}

fn block() -> impl Strategy<Value = Block> {
    let value =
        prop_oneof![any::<i64>().prop_map(Value::from), ".{0,8}".prop_map(Value::from), Just(Value::Null)];
    prop_oneof![
        ".{0,20}".prop_map(Block::Text),
        (".{0,20}", "[a-z]{1,6}").prop_map(|(text, signature)| Block::Thinking(text, signature)),
        "[a-z]{1,8}".prop_map(Block::Hidden),
        ("[a-z]{1,8}", prop::collection::btree_map("[a-z]{1,4}", value, 0..3))
            .prop_map(|(name, input)| Block::Call(name, json!(input))),
    ]
}

fn pieces(text: &str, length: usize) -> Vec<String> {
    text.chars().collect::<Vec<_>>().chunks(length).map(|piece| piece.iter().collect()).collect()
}

/// The whole answer and the events of a logical one. Calls grow beside each other, their pieces `length` characters long.
fn written(blocks: &[Block], length: usize) -> (String, String) {
    let usage = json!({"input_tokens": 11, "cache_read_input_tokens": 5, "output_tokens": 13});
    let mut content = Vec::new();
    let start = json!({"type": "message_start", "message": {"id": "msg", "model": "claude", "content": [],
        "usage": {"input_tokens": 11, "cache_read_input_tokens": 5, "output_tokens": 1}}});
    let mut events = vec![start];
    let mut growing: Vec<(usize, std::vec::IntoIter<String>)> = Vec::new();
    let event = |kind: &str, index: usize, field: &str, value: Value| json!({"type": kind, "index": index, field: value});
    for (index, block) in blocks.iter().enumerate() {
        let mut begin =
            |value: Value| events.push(event("content_block_start", index, "content_block", value));
        let mut deltas = Vec::new();
        match block {
            Block::Text(text) => {
                begin(json!({"type": "text", "text": ""}));
                content.push(json!({"type": "text", "text": text}));
                deltas.extend(
                    pieces(text, length).into_iter().map(|text| json!({"type": "text_delta", "text": text})),
                );
            }
            Block::Thinking(text, signature) => {
                begin(json!({"type": "thinking", "thinking": "", "signature": ""}));
                content.push(json!({"type": "thinking", "thinking": text, "signature": signature}));
                let thinking = |text| json!({"type": "thinking_delta", "thinking": text});
                deltas.extend(pieces(text, length).into_iter().map(thinking));
                deltas.push(json!({"type": "signature_delta", "signature": signature}));
            }
            Block::Hidden(data) => {
                let hidden = json!({"type": "redacted_thinking", "data": data});
                begin(hidden.clone());
                content.push(hidden);
            }
            Block::Call(name, input) => {
                let id = format!("toolu_{index}");
                begin(json!({"type": "tool_use", "id": id, "name": name, "input": {}}));
                content.push(json!({"type": "tool_use", "id": id, "name": name, "input": input}));
                let text = if input == &json!({}) { String::new() } else { input.to_string() };
                growing.push((index, pieces(&text, length).into_iter()));
                continue;
            }
        }
        events.extend(deltas.into_iter().map(|delta| event("content_block_delta", index, "delta", delta)));
        events.push(json!({"type": "content_block_stop", "index": index}));
    }
    while !growing.is_empty() {
        growing.retain_mut(|(index, pieces)| {
            let Some(piece) = pieces.next() else {
                events.push(json!({"type": "content_block_stop", "index": index}));
                return false;
            };
            let delta = json!({"type": "input_json_delta", "partial_json": piece});
            events.push(event("content_block_delta", *index, "delta", delta));
            true
        });
        events.push(json!({"type": "ping"}));
    }
    events.push(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 13}}));
    events.push(json!({"type": "message_stop"}));
    let whole = json!({"id": "msg", "model": "claude", "content": content, "stop_reason": "end_turn", "usage": usage});
    let stream =
        events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap()));
    (whole.to_string(), stream.collect())
}

proptest! {
    #[test]
    fn streamed_or_whole_an_answer_is_the_same(
        blocks in prop::collection::vec(block(), 0..6), length in 1_usize..12, cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let (whole, stream) = written(&blocks, length);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        cuts.sort_unstable();
        let mut parts = Vec::new();
        let mut from = 0;
        for cut in cuts {
            parts.push(&stream.as_bytes()[from..cut]);
            from = cut;
        }
        parts.push(&stream.as_bytes()[from..]);
        let chat = request(&json!({"model": "m", "messages": []}));
        let complete = protocol().answer(&chat, &asked(), Bytes::from(whole.clone())).unwrap();
        let (events, ended) = converted(converting(), &parts);
        prop_assert_eq!(ended, Ok(()));
        prop_assert_eq!(taken_apart(&complete.body), put_together(&events));
        prop_assert_eq!(last_usage(&events), complete.usage.map(Reported::Final));
        prop_assert_eq!(complete.usage, Some(Usage { cached_input: 5, ..Usage::tokens(16, 13) }));
        let mut streamed: Vec<char> = produced(&events).chars().collect();
        let mut expected: Vec<char> = complete.produced.text.chars().collect();
        streamed.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(streamed, expected);
        // The native forms tell the same usage.
        let (events, ended) = converted(passing(), &parts);
        prop_assert_eq!(ended, Ok(()));
        prop_assert_eq!(last_usage(&events), native::complete(Bytes::from(whole), None).unwrap().usage.map(Reported::Final));
    }
}
