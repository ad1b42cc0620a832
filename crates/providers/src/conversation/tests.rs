use serde_json::json;

use super::*;

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap()
}

fn text(text: &str) -> Part<'_> {
    Part { what: Content::Text(text), cache_control: None }
}

#[test]
fn a_chat_with_everything() {
    let mark = json!({"type": "ephemeral"});
    let schema = json!({"type": "object"});
    let details = json!([{"type": "reasoning.text", "text": "t", "signature": "s"}]);
    let body = json!({
        "messages": [
            {"role": "developer", "content": "be brief", "cache_control": mark},
            {"role": "user", "content": [
                {"type": "text", "text": ""},
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;charset=x;base64,AA\nBB", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,CC", "filename": "a.pdf"}},
                {"type": "file", "file": {"file_id": "f1"}},
            ]},
            {"role": "assistant", "content": null, "reasoning_content": "hm", "reasoning_details": details, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "input_text", "text": "42"}]},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": schema, "strict": true}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": false,
    });
    let read = Conversation::read(object(&body)).unwrap();
    let part = |what| Part { what, cache_control: None };
    let data = |media_type, base64: &'static str| Source::Data { media_type, base64: base64.into() };
    assert_eq!(
        read.messages,
        [
            Message::System(vec![Part { what: Content::Text("be brief"), cache_control: Some(&mark) }]),
            Message::User(vec![
                text("look"),
                part(Content::Image { source: data("image/png", "AABB"), detail: Some("low") }),
                part(Content::Image { source: Source::Url("https://example.org/a.png"), detail: None }),
                part(Content::Audio { base64: "AAAA", format: "wav" }),
                part(Content::File { source: data("application/pdf", "CC"), name: Some("a.pdf") }),
                part(Content::File { source: Source::Id("f1"), name: None }),
            ]),
            Message::Assistant(Assistant {
                content: vec![],
                calls: vec![Call { id: "c1", name: "f", arguments: "{}" }],
                reasoning: Some("hm".into()),
                reasoning_details: details.as_array().unwrap(),
            }),
            Message::Tool { id: "c1", content: vec![text("42")] },
        ]
    );
    assert_eq!(read.tools[0].parameters, Some(&schema));
    assert_eq!((read.tool_choice, read.parallel_tool_calls), (Some(ToolChoice::Named("f")), Some(false)));
    assert_eq!(read.name_of_call("c1"), Some("f"));
}

#[test]
fn what_can_not_be_read_is_named() {
    for (messages, param) in [
        (json!(["x"]), "messages.0"),
        (json!([{"role": "robot", "content": "x"}]), "messages.0.role"),
        (json!([{"role": "user", "content": 7}]), "messages.0.content"),
        (json!([{"role": "user", "content": [{"type": "video"}]}]), "messages.0.content.0"),
        (
            json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]),
            "messages.0.content.0",
        ),
        (json!([{"role": "tool", "content": "x"}]), "messages.0.tool_call_id"),
        (
            json!([{"role": "assistant", "tool_calls": [{"function": {}}]}]),
            "messages.0.tool_calls.0.function.name",
        ),
    ] {
        let body = json!({ "messages": messages });
        assert_eq!(Conversation::read(object(&body)).unwrap_err().param.as_deref(), Some(param), "{body}");
    }
    assert!(Conversation::read(object(&json!({"tools": [{"type": "custom"}]}))).is_err());
    assert!(Conversation::read(object(&json!({"tool_choice": "maybe"}))).is_err());
}

#[test]
fn reasoning_stops_and_formats() {
    let of = |body: &Value| reasoning(object(body)).map(|found| format!("{found:?}"));
    assert_eq!(of(&json!({})).unwrap(), "None");
    assert_eq!(of(&json!({"reasoning_effort": "low"})).unwrap(), "Some(Effort(\"low\"))");
    assert_eq!(of(&json!({"reasoning_effort": "none"})).unwrap(), "Some(Off)");
    assert_eq!(of(&json!({"reasoning": {"max_tokens": 2000}})).unwrap(), "Some(Budget(2000))");
    assert_eq!(of(&json!({"reasoning": {"enabled": true}})).unwrap(), "Some(On)");
    assert!(of(&json!({"reasoning_effort": "lots"})).is_err());
    assert_eq!(stop(object(&json!({"stop": "a"}))).unwrap(), ["a"]);
    assert!(stop(object(&json!({"stop": 7}))).is_err());
    assert_eq!(response_format(object(&json!({"response_format": {"type": "text"}}))).unwrap(), None);
    let schema =
        json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}});
    assert!(matches!(response_format(object(&schema)).unwrap(), Some(Format::Schema { name: "n", .. })));
    assert!(response_format(object(&json!({"response_format": {"type": "xml"}}))).is_err());
}

#[test]
fn base64_of_either_alphabet() {
    for (encoded, decoded) in [
        ("", &b""[..]),
        ("YQ==", b"a"),
        ("YWI=", b"ab"),
        ("YWJj", b"abc"),
        ("YWJjZA", b"abcd"),
        ("-_8=", b"\xfb\xff"),
    ] {
        assert_eq!(from_base64(encoded).as_deref(), Some(decoded));
    }
    assert_eq!((from_base64("A"), from_base64("A*==")), (None, None));
}
