//! Requests beside plain chats: prompts without a conversation, and JSON where a server has no mode for it.

use super::*;
use crate::conversation::JSON_WORDS;

#[test]
fn where_prompts_are_gone_on_with() {
    let body = Bytes::from_static(b"{\"model\":\"m\",\"prompt\":[\"a\",\"b\"]}");
    let asks = ChatRequest::parse_as(Shape::Completions, body.clone()).unwrap();
    for (kind, uri) in [
        ("openai", "https://api.openai.com/v1/completions"),
        ("openrouter", "https://openrouter.ai/api/v1/completions"),
        ("vllm", "http://localhost:8000/v1/completions"),
        ("tgi", "http://localhost:8080/v1/completions"),
        ("deepseek", "https://api.deepseek.com/beta/completions"),
    ] {
        let sent = named(kind).chat(&asks).unwrap();
        assert_eq!(sent.uri, uri);
        assert_eq!((sent.body == body, sent.omitted), (kind != "openrouter", vec![]), "{kind}");
        assert!(named(kind).takes(Shape::Completions), "{kind}");
    }
    let beta = of(named_entry("deepseek"), "https://api.deepseek.com/beta", None).chat(&asks).unwrap();
    assert_eq!(beta.uri, "https://api.deepseek.com/beta/completions");
    let dated = of(&AZURE, "https://x.openai.azure.com", Some("2024-10-21")).chat(&asks).unwrap();
    assert_eq!(
        dated.uri,
        "https://x.openai.azure.com/openai/deployments/m/completions?api-version=2024-10-21"
    );
    for kind in ["groq", "perplexity"] {
        assert!(!named(kind).takes(Shape::Completions), "{kind}");
    }
}

#[test]
fn json_without_a_schema_is_asked_for_in_words_where_there_is_no_mode_for_it() {
    let format = json!({"type": "json_object"});
    let with_schema = json!({"type": "json_object", "value": {"type": "object"}});
    let hi = json!({"role": "user", "content": "hi"});
    let words = json!({"role": "system", "content": JSON_WORDS});
    let part = |text: &str| json!({"type": "text", "text": text});
    for (system, expected) in [
        (None, json!([words, hi])),
        (
            Some(json!("be brief")),
            json!([{"role": "system", "content": format!("be brief\n\n{JSON_WORDS}")}, hi]),
        ),
        (
            Some(json!([part("be brief")])),
            json!([{"role": "system", "content": [part("be brief"), part(JSON_WORDS)]}, hi]),
        ),
    ] {
        let system = system.map(|content| json!({"role": "system", "content": content}));
        let messages: Vec<Value> = system.into_iter().chain([hi.clone()]).collect();
        let chat = |format: &Value| json!({"model": "m", "messages": messages, "response_format": format});
        for kind in ["perplexity", "tgi"] {
            let outgoing = named(kind).chat(&request(&chat(&format))).unwrap();
            let body: Value = serde_json::from_slice(&outgoing.body).unwrap();
            assert_eq!((&body["messages"], body.get("response_format")), (&expected, None), "{kind}");
            assert_eq!(outgoing.omitted, ["response_format"], "{kind}");
        }
        for (kind, format) in
            [("tgi", &with_schema), ("xai", &format), ("openai", &format), ("groq", &format)]
        {
            let outgoing = named(kind).chat(&request(&chat(format))).unwrap();
            let body: Value = serde_json::from_slice(&outgoing.body).unwrap();
            assert_eq!((&body["response_format"], &body["messages"]), (format, &json!(messages)), "{kind}");
        }
    }
}

#[test]
fn the_words_for_json_are_in_what_is_counted() {
    let chat = |format: Value| {
        request(
            &json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "response_format": format}),
        )
    };
    let plain = chat(Value::Null);
    let asks = chat(json!({"type": "json_object"}));
    assert_eq!(asks.input_text(), ["hi", JSON_WORDS]);
    assert_eq!(asks.input_length(), plain.input_length() + JSON_WORDS.len() as u64);
    assert!(asks.size_at_most().bytes >= plain.size_at_most().bytes + JSON_WORDS.len() as u64);
    let with_schema = json!({"type": "json_object", "schema": {"type": "object"}});
    assert_eq!(chat(with_schema.clone()).input_text(), ["hi".to_owned(), with_schema.to_string()]);
}
