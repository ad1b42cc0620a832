//! Everything in a request beside its conversation.

use super::*;
use crate::conversation::JSON_WORDS;

/// What is sent for those fields, to that model.
fn with(model: &str, fields: Value) -> Result<(Map<String, Value>, Vec<String>), BadRequest> {
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    sent(&body)
}

const OLD: &str = "claude-sonnet-4-5";
const NEW: &str = "claude-opus-4-8";

fn tools() -> Value {
    json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}])
}

#[test]
fn a_plain_request() {
    let (sent, omitted) = with(OLD, json!({"stream": true})).unwrap();
    let expected = json!({"model": OLD, "max_tokens": 64000, "stream": true,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]});
    assert_eq!((Value::Object(sent), omitted), (expected, vec![]));
}

#[test]
fn limits_come_from_the_request_then_the_prices_then_the_model() {
    let most = |fields: Value, known: Option<u64>| {
        let mut body = json!({"model": NEW, "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let mut request = request(&body);
        request.set_model_output(known);
        let outgoing = protocol().chat(&request).unwrap();
        serde_json::from_slice::<Value>(&outgoing.body).unwrap()["max_tokens"].as_u64()
    };
    assert_eq!(most(json!({"max_tokens": 50, "max_completion_tokens": 40}), Some(9)), Some(40));
    assert_eq!(most(json!({}), Some(9)), Some(9));
    assert_eq!(most(json!({}), None), Some(128_000));
}

#[test]
fn every_field_is_passed_converted_or_named() {
    for (model, fields, expected, names) in [
        (OLD, json!({"temperature": 0.70}), json!({"temperature": 0.70}), vec![]),
        (OLD, json!({"temperature": 1}), json!({"temperature": 1}), vec![]),
        (OLD, json!({"temperature": 1.5}), json!({"temperature": 1}), vec!["temperature"]),
        (
            OLD,
            json!({"temperature": 0.5, "top_p": 0.9, "top_k": 5}),
            json!({"temperature": 0.5, "top_k": 5}),
            vec!["top_p"],
        ),
        (OLD, json!({"top_p": 0.9}), json!({"top_p": 0.9}), vec![]),
        (
            "claude-sonnet-4-20250514",
            json!({"temperature": 0.5, "top_p": 0.9}),
            json!({"temperature": 0.5, "top_p": 0.9}),
            vec![],
        ),
        (
            NEW,
            json!({"temperature": 0.5, "top_p": 0.9, "top_k": 5}),
            json!({}),
            vec!["temperature", "top_p", "top_k"],
        ),
        (OLD, json!({"stop": ["a", " \n"]}), json!({"stop_sequences": ["a"]}), vec!["stop"]),
        (OLD, json!({"stop": "a", "stop_sequences": ["b"]}), json!({"stop_sequences": ["a", "b"]}), vec![]),
        (OLD, json!({"user": "u-1"}), json!({"metadata": {"user_id": "u-1"}}), vec![]),
        (OLD, json!({"user": "ann@example.org"}), json!({}), vec!["user"]),
        (OLD, json!({"user": "Ann B"}), json!({}), vec!["user"]),
        (
            OLD,
            json!({"metadata": {"user_id": "u-2"}, "user": "u-1"}),
            json!({"metadata": {"user_id": "u-2"}}),
            vec![],
        ),
        (OLD, json!({"metadata": {"chat": "c"}}), json!({}), vec!["metadata"]),
        (
            OLD,
            json!({"cache_control": {"type": "ephemeral", "ttl": "1h"}}),
            json!({"cache_control": {"type": "ephemeral", "ttl": "1h"}}),
            vec![],
        ),
        (OLD, json!({"service_tier": "standard_only"}), json!({"service_tier": "standard_only"}), vec![]),
        (
            OLD,
            json!({"service_tier": "auto", "n": 1, "logprobs": false, "top_logprobs": 0}),
            json!({}),
            vec![],
        ),
        (
            OLD,
            json!({"seed": 1, "logit_bias": {}, "store": false, "min_p": null, "frequency_penalty": 0.5, "zebra": [1]}),
            json!({}),
            vec!["seed", "logit_bias", "frequency_penalty", "zebra"],
        ),
        (
            OLD,
            json!({"response_format": {"type": "json_object"}}),
            json!({"system": [{"type": "text", "text": JSON_WORDS}]}),
            vec!["response_format"],
        ),
        (
            OLD,
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema":
            {"type": "object", "properties": {"type": {"type": "object"}}}}}}),
            json!({"output_config": {"format": {"type": "json_schema", "schema": {"type": "object", "additionalProperties": false,
                "properties": {"type": {"type": "object", "additionalProperties": false}}}}}}),
            vec![],
        ),
        (
            NEW,
            json!({"output_config": {"effort": "low", "task_budget": 5}}),
            json!({"output_config": {"effort": "low"}}),
            vec!["output_config.task_budget"],
        ),
    ] {
        let (mut sent, omitted) = with(model, fields.clone()).unwrap();
        for field in ["model", "max_tokens", "messages"] {
            sent.remove(field);
        }
        assert_eq!(Value::Object(sent), expected, "{model} {fields}");
        assert_eq!(omitted, names, "{model} {fields}");
    }
}

#[test]
fn numbers_keep_their_digits() {
    let body = Bytes::from_static(
        br#"{"model":"claude-sonnet-4-5","messages":[{"role":"user","content":"hi"}],"temperature":0.10}"#,
    );
    let outgoing = protocol().chat(&ChatRequest::parse(body).unwrap()).unwrap();
    assert!(std::str::from_utf8(&outgoing.body).unwrap().contains("\"temperature\":0.10"));
}

#[test]
fn what_can_not_be_done_is_refused() {
    for (fields, param) in [
        (json!({"n": 2}), "n"),
        (json!({"logprobs": true}), "logprobs"),
        (json!({"top_logprobs": 3}), "top_logprobs"),
        (json!({"modalities": ["text", "audio"]}), "modalities"),
        (json!({"audio": {"voice": "alloy"}}), "audio"),
        (json!({"temperature": "hot"}), "temperature"),
        (json!({"container": "c"}), "container"),
        (json!({"mcp_servers": []}), "mcp_servers"),
        (json!({"inference_geo": "us"}), "inference_geo"),
        (json!({"fallbacks": "default"}), "fallbacks"),
        (json!({"speed": "fast"}), "speed"),
        (json!({"service_tier": "priority"}), "service_tier"),
        (json!({"context_management": {"edits": [{"type": "compact_20260112"}]}}), "context_management"),
        (json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}), "tools.0"),
        (json!({"thinking": "yes"}), "thinking"),
        (json!({"thinking": {"budget_tokens": 5}}), "thinking"),
    ] {
        assert_eq!(with(OLD, fields.clone()).unwrap_err().param.as_deref(), Some(param), "{fields}");
    }
    let schema = json!({"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}});
    let error = with("claude-3-7-sonnet-20250219", schema).unwrap_err();
    assert_eq!(error.param.as_deref(), Some("response_format"));
    let chat = EmbeddingsRequest::parse(Bytes::from_static(b"{\"model\":\"m\",\"input\":\"x\"}")).unwrap();
    assert_eq!(protocol().embeddings(&chat).unwrap_err().param.as_deref(), Some("model"));
}

#[test]
fn tools_and_their_choice() {
    let choice = |fields: Value| {
        let mut all = json!({"tools": tools()});
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        with(OLD, all).unwrap().0.get("tool_choice").cloned()
    };
    let named = json!({"type": "function", "function": {"name": "f"}});
    assert_eq!(choice(json!({})), None);
    assert_eq!(choice(json!({"tool_choice": "auto"})), Some(json!({"type": "auto"})));
    assert_eq!(
        choice(json!({"tool_choice": "none", "parallel_tool_calls": false})),
        Some(json!({"type": "none"}))
    );
    assert_eq!(choice(json!({"tool_choice": "required"})), Some(json!({"type": "any"})));
    assert_eq!(
        choice(json!({"tool_choice": named, "parallel_tool_calls": false})),
        Some(json!({"type": "tool", "name": "f", "disable_parallel_tool_use": true}))
    );
    assert_eq!(
        choice(json!({"parallel_tool_calls": false})),
        Some(json!({"type": "auto", "disable_parallel_tool_use": true}))
    );

    let mark = json!({"type": "ephemeral"});
    let described = json!({"tools": [
        {"type": "function", "cache_control": mark, "function": {"name": "f", "description": "d", "strict": true,
            "parameters": {"properties": {"a": {"type": "string"}}}}},
        {"type": "function", "function": {"name": "g"}}]});
    let (sent_body, omitted) = with(OLD, described.clone()).unwrap();
    assert_eq!(
        sent_body["tools"],
        json!([
        {"name": "f", "description": "d", "input_schema": {"properties": {"a": {"type": "string"}}, "type": "object"},
            "strict": true, "cache_control": mark},
        {"name": "g", "input_schema": {"type": "object"}}])
    );
    assert!(omitted.is_empty());
    let (sent_body, omitted) = with("claude-3-7-sonnet-20250219", described).unwrap();
    assert_eq!((sent_body["tools"][0].get("strict"), omitted), (None, vec!["tools.strict".to_owned()]));

    // A history with calls, and no tools any more.
    let body = json!({"model": OLD, "messages": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "tool_calls": [{"id": "x", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "x", "content": "r"}]});
    let (sent_body, _) = sent(&body).unwrap();
    assert_eq!(sent_body["tools"], json!([{"name": "f", "input_schema": {"type": "object"}}]));
    assert_eq!(sent_body["tool_choice"], json!({"type": "none"}));
}

#[test]
fn thinking_as_each_model_wants_it() {
    let adaptive = json!({"type": "adaptive"});
    let shown = json!({"type": "adaptive", "display": "summarized"});
    let budget = |tokens: u64| json!({"type": "enabled", "budget_tokens": tokens});
    let effort = |name: &str| json!({"effort": name});
    let none = Value::Null;
    for (model, fields, thinking, config, names) in [
        (OLD, json!({}), none.clone(), none.clone(), vec![]),
        (OLD, json!({"reasoning_effort": "none"}), none.clone(), none.clone(), vec![]),
        (OLD, json!({"reasoning_effort": "minimal"}), budget(1024), none.clone(), vec![]),
        (
            OLD,
            json!({"reasoning_effort": "high", "temperature": 0.5, "top_k": 3}),
            budget(16_384),
            none.clone(),
            vec!["temperature", "top_k"],
        ),
        (OLD, json!({"reasoning_effort": "high", "max_tokens": 4000}), budget(3000), none.clone(), vec![]),
        (OLD, json!({"reasoning_effort": "high", "max_tokens": 1100}), budget(1024), none.clone(), vec![]),
        (
            OLD,
            json!({"reasoning_effort": "high", "max_tokens": 1024}),
            none.clone(),
            none.clone(),
            vec!["reasoning_effort"],
        ),
        (OLD, json!({"reasoning": {"max_tokens": 5000}}), budget(5000), none.clone(), vec![]),
        (OLD, json!({"reasoning": {"enabled": true}}), budget(8192), none.clone(), vec![]),
        (
            OLD,
            json!({"thinking": {"type": "enabled", "budget_tokens": 9000}, "max_tokens": 9000}),
            budget(8999),
            none.clone(),
            vec![],
        ),
        (
            OLD,
            json!({"thinking": {"type": "disabled"}, "reasoning_effort": "low"}),
            json!({"type": "disabled"}),
            none.clone(),
            vec!["reasoning_effort"],
        ),
        (
            "claude-3-5-haiku-20241022",
            json!({"reasoning_effort": "low"}),
            none.clone(),
            none.clone(),
            vec!["reasoning_effort"],
        ),
        ("claude-opus-4-6", json!({"reasoning_effort": "xhigh"}), adaptive.clone(), effort("high"), vec![]),
        (
            "claude-opus-4-6",
            json!({"reasoning_effort": "max", "temperature": 0.5}),
            adaptive.clone(),
            effort("max"),
            vec!["temperature"],
        ),
        ("claude-opus-4-6", json!({"reasoning": {"max_tokens": 2000}}), budget(2000), none.clone(), vec![]),
        (NEW, json!({"reasoning_effort": "minimal"}), shown.clone(), effort("low"), vec![]),
        (NEW, json!({"reasoning": {"enabled": true}}), shown.clone(), none.clone(), vec![]),
        (
            NEW,
            json!({"reasoning": {"max_tokens": 9000}}),
            shown.clone(),
            effort("high"),
            vec!["reasoning.max_tokens"],
        ),
        (NEW, json!({"reasoning_effort": "none"}), none.clone(), none.clone(), vec![]),
        (
            NEW,
            json!({"thinking": {"type": "adaptive", "display": "omitted", "x": 1}}),
            json!({"type": "adaptive", "display": "omitted"}),
            none.clone(),
            vec!["thinking.x"],
        ),
        (
            "claude-sonnet-5",
            json!({"reasoning_effort": "none"}),
            json!({"type": "disabled"}),
            none.clone(),
            vec![],
        ),
        (
            "claude-sonnet-5-5",
            json!({"reasoning_effort": "none"}),
            json!({"type": "between_tools"}),
            none.clone(),
            vec![],
        ),
        (
            "claude-opus-5-5",
            json!({"reasoning_effort": "none"}),
            none.clone(),
            effort("low"),
            vec!["reasoning_effort"],
        ),
    ] {
        let (sent, omitted) = with(model, fields.clone()).unwrap();
        let of = |field: &str| sent.get(field).cloned().unwrap_or_default();
        assert_eq!(of("thinking"), thinking, "{model} {fields}");
        assert_eq!(of("output_config"), config, "{model} {fields}");
        assert_eq!(omitted, names, "{model} {fields}");
    }
}

#[test]
fn a_forced_tool_and_thinking() {
    let with = |model: &str| {
        with(model, json!({"tools": tools(), "tool_choice": "required", "reasoning_effort": "low"}))
    };
    for model in [OLD, "claude-opus-4-7"] {
        let (sent, omitted) = with(model).unwrap();
        assert_eq!((sent.get("thinking"), sent.get("output_config")), (None, None), "{model}");
        assert_eq!(omitted, ["reasoning_effort"], "{model}");
    }
    assert!(with(NEW).unwrap().0.contains_key("thinking"));
    assert_eq!(with("claude-opus-5-5").unwrap_err().param.as_deref(), Some("tool_choice"));
}

/// A loop of tools whose call came with or without the thinking that led to it.
fn looped(model: &str, thought: bool, fields: Value) -> Value {
    let mut call = json!({"role": "assistant", "content": "",
        "tool_calls": [{"id": "x", "function": {"name": "f", "arguments": "{}"}}]});
    if thought {
        call["reasoning_details"] = json!([{"type": "reasoning.text", "text": "", "signature": "s", "format": "anthropic-claude-v1", "index": 0}]);
    }
    let mut body = json!({"model": model, "tools": tools(), "messages": [
        {"role": "user", "content": "a"}, call, {"role": "tool", "tool_call_id": "x", "content": "r"}]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

#[test]
fn a_loop_of_tools_that_lost_its_thinking() {
    let effort = json!({"reasoning_effort": "low"});
    let of = |model: &str, thought: bool, fields: &Value| {
        let (sent, omitted) = sent(&looped(model, thought, fields.clone())).unwrap();
        let kinds =
            sent["messages"][1]["content"].as_array().unwrap().iter().map(|block| block["type"].clone());
        let kinds = kinds.map(|kind| kind.as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ");
        (sent.contains_key("thinking"), kinds, omitted)
    };
    let named = vec!["reasoning_effort".to_owned()];
    assert_eq!(of(OLD, true, &effort), (true, "thinking tool_use".into(), vec![]));
    assert_eq!(of(OLD, false, &effort), (false, "tool_use".into(), named));
    // Adaptive thinking does not insist on it.
    assert_eq!(of("claude-opus-4-6", false, &effort), (true, "tool_use".into(), vec![]));
    // Who does not think needs no thoughts.
    assert_eq!(of(OLD, true, &json!({})), (false, "tool_use".into(), vec![]));
    assert_eq!(of("claude-opus-5", true, &json!({})), (false, "thinking tool_use".into(), vec![]));
}

#[test]
fn thinking_that_is_bound_to_its_place_may_be_left_out_by_the_server() {
    let of = |model: &str, thought: bool, fields: Value| {
        let outgoing = protocol().chat(&request(&looped(model, thought, fields))).unwrap();
        let sent: Map<String, Value> = serde_json::from_slice(&outgoing.body).unwrap();
        let beta = outgoing.headers.get("anthropic-beta").map(|value| value.to_str().unwrap().to_owned());
        (sent.get("thinking").cloned(), beta)
    };
    let drop = json!({"prefix_mismatch_behavior": "drop_block"});
    let beta = Some("thinking-binding-controls-2026-08-01".to_owned());
    assert_eq!(
        of("claude-opus-5-5", true, json!({})),
        (Some(json!({"type": "adaptive", "block_binding": drop})), beta.clone())
    );
    assert_eq!(
        of("claude-opus-5-5", true, json!({"reasoning_effort": "low"})),
        (Some(json!({"type": "adaptive", "display": "summarized", "block_binding": drop})), beta)
    );
    assert_eq!(of("claude-opus-5-5", false, json!({})), (None, None));
    assert_eq!(of("claude-opus-5", true, json!({})), (None, None));
}

#[test]
fn native_requests_pass_as_they_are_or_not_at_all() {
    let uri = http::Uri::from_static("https://api.anthropic.com/v1/messages");
    let of = |body: &Value| native::outgoing(uri.clone(), body.as_object().unwrap());
    let fine = json!({"model": "m", "max_tokens": 5, "thinking": {"type": "adaptive"}, "speed": "standard", "system": "s",
        "service_tier": "auto", "context_management": {"edits": [{"type": "clear_thinking_20251015"}]},
        "tools": [{"name": "f", "input_schema": {}}, {"type": "custom", "name": "g"}, {"type": "bash_20250124", "name": "bash"}],
        "messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "url", "url": "https://example.org"}}]}]});
    assert_eq!(of(&fine).unwrap().body, fine.to_string().as_bytes());
    let file = json!({"type": "document", "source": {"type": "file", "file_id": "f"}});
    for (body, param) in [
        (json!({"container": "c"}), "container"),
        (json!({"mcp_servers": [{}]}), "mcp_servers"),
        (json!({"speed": "fast"}), "speed"),
        (json!({"inference_geo": "us"}), "inference_geo"),
        (json!({"service_tier": "priority"}), "service_tier"),
        (json!({"fallbacks": [{"model": "other"}]}), "fallbacks"),
        (json!({"context_management": {"edits": [{"type": "compact_20260112"}]}}), "context_management"),
        (json!({"context_management": {}}), "context_management"),
        (json!({"tools": [{"type": "web_search_20250305"}]}), "tools"),
        (json!({"tools": [{"type": "code_execution_20250825"}]}), "tools"),
        (json!({"messages": [{"role": "user", "content": [file]}]}), "messages"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [file]}]}]}),
            "messages",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "container_upload", "file_id": "f"}]}]}),
            "messages",
        ),
    ] {
        assert_eq!(of(&body).unwrap_err().param.as_deref(), Some(param), "{body}");
    }
}
