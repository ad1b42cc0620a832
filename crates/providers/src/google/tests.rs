//! Whole conversions, by table and by fixture; what must hold for any chat and any answer is in [`properties`].

mod properties;

use accounting::Usage;
use serde_json::{Value, json};

use super::*;
use crate::answer::{Reported, StreamEvent, What};
use crate::error::Said;
use crate::framing::Framing;
use crate::{ProviderOptions, samples};

const ANSWER: &[u8] = include_bytes!("../../fixtures/google/answer.json");
const STREAM: &[u8] = include_bytes!("../../fixtures/google/stream.sse");
const BLOCKED: &[u8] = include_bytes!("../../fixtures/google/blocked.json");
const MODELS: &[u8] = include_bytes!("../../fixtures/google/models.json");

fn google(permissive_safety: bool) -> Box<dyn Protocol> {
    let options = ProviderOptions { permissive_safety, ..ProviderOptions::default() };
    (GOOGLE.open)(&Setup { base_url: "http://h".parse().unwrap(), options }).unwrap()
}

fn chat(body: &Value) -> ChatRequest {
    ChatRequest::parse(body.to_string().into()).unwrap()
}

/// What goes to Google, and what is left out.
fn sent(body: &Value) -> Result<(Value, Vec<String>), BadRequest> {
    let outgoing = google(false).chat(&chat(body))?;
    Ok((serde_json::from_slice(&outgoing.body).unwrap(), outgoing.omitted))
}

/// A short chat with one field more.
fn with(field: &str, value: Value) -> Value {
    let mut body = json!({"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": "hi"}]});
    body[field] = value;
    body
}

/// The parameter that a refusal names.
fn refused(body: &Value) -> String {
    sent(body).expect_err(&body.to_string()).param.unwrap()
}

fn asked() -> Asked {
    Asked { model: "m".into(), created: 7, request_id: None }
}

fn whole(request: &ChatRequest, body: &[u8]) -> Result<Complete, ProviderError> {
    google(false).answer(request, &asked(), Bytes::copy_from_slice(body))
}

/// All events of a stream, and how it ended.
fn streamed(request: &ChatRequest, body: &[u8]) -> (Vec<StreamEvent>, Result<(), ProviderError>) {
    samples::stream(Framing::Sse, google(false).conversion(request, asked()), &[body])
}

fn sse(chunks: &[Value]) -> Vec<u8> {
    chunks.iter().flat_map(|chunk| format!("data: {chunk}\n\n").into_bytes()).collect()
}

/// The messages, finish reasons and logprobs that a client puts together from a stream, by their index.
fn put_together(events: &[StreamEvent]) -> Vec<Value> {
    let mut choices: Vec<Value> = Vec::new();
    for chunk in events.iter().filter_map(StreamEvent::json) {
        for choice in chunk["choices"].as_array().unwrap() {
            let index = usize::try_from(choice["index"].as_u64().unwrap()).unwrap();
            while choices.len() <= index {
                choices.push(
                    json!({"index": choices.len(), "message": {}, "logprobs": null, "finish_reason": null}),
                );
            }
            if !choice["finish_reason"].is_null() {
                choices[index]["finish_reason"] = choice["finish_reason"].clone();
            }
            if choice.get("logprobs").is_some_and(|logprobs| !logprobs.is_null()) {
                choices[index]["logprobs"] = choice["logprobs"].clone();
            }
            for (field, value) in choice["delta"].as_object().unwrap() {
                let place = &mut choices[index]["message"][field];
                match value {
                    Value::String(text) if place.is_string() && field != "role" => {
                        *place = format!("{}{text}", place.as_str().unwrap()).into();
                    }
                    Value::Array(list) if place.is_array() => {
                        place.as_array_mut().unwrap().extend(list.iter().cloned());
                    }
                    _ => *place = value.clone(),
                }
            }
            if let Some(calls) = choices[index]["message"].get_mut("tool_calls") {
                for (number, call) in calls.as_array_mut().unwrap().iter_mut().enumerate() {
                    if let Some(index) = call.as_object_mut().unwrap().shift_remove("index") {
                        assert_eq!(index, json!(number));
                    }
                }
            }
        }
    }
    for choice in &mut choices {
        let message = choice["message"].as_object_mut().unwrap();
        message.entry("role").or_insert("assistant".into());
        let empty = if message.contains_key("tool_calls") { Value::Null } else { "".into() };
        message.entry("content").or_insert(empty);
    }
    choices
}

fn final_usage(events: &[StreamEvent]) -> Vec<Usage> {
    let told = events.iter().filter_map(|event| match &event.what {
        What::Chunk(chunk) if chunk.no_choices => chunk.usage,
        _ => None,
    });
    told.map(|usage| match usage {
        Reported::Final(usage) => usage,
        Reported::SoFar(usage) => panic!("{usage:?}"),
    })
    .collect()
}

fn produced(events: &[StreamEvent]) -> String {
    let chunks = events.iter().filter_map(|event| match &event.what {
        What::Chunk(chunk) => Some(chunk.produced.as_str()),
        _ => None,
    });
    chunks.collect()
}

#[test]
fn a_chat_with_everything() {
    let schema =
        json!({"type": "object", "properties": {"city": {"type": "string"}}, "additionalProperties": false});
    let messages = json!([
        {"role": "system", "content": "be brief"},
        {"role": "developer", "content": [{"type": "text", "text": "be kind", "cache_control": {"type": "ephemeral"}}]},
        {"role": "user", "content": "one"},
        {"role": "user", "content": [
            {"type": "text", "text": ""}, {"type": "text", "text": "two"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}}]},
        {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{\"city\": \"Oslo\"}"}},
            {"id": "c2", "type": "function", "function": {"name": "now", "arguments": ""}}],
         "reasoning_details": [{"type": "reasoning.encrypted", "data": "c2ln", "id": "c1", "format": "google-gemini-v1", "index": 0}]},
        {"role": "tool", "tool_call_id": "c1", "content": [
            {"type": "input_text", "text": "rain"}, {"type": "input_image", "image_url": "data:image/jpeg;base64,BB=="}]},
        {"role": "tool", "tool_call_id": "c2", "content": "{\"error\": \"no clock\", \"n\": 1.5}"},
        {"role": "user", "content": "so?"},
        {"role": "assistant", "content": "Well"},
    ]);
    let body = json!({
        "model": "models/gemini-3-flash-preview", "stream": true, "user": "u", "logit_bias": {"1": 2}, "min_p": 0.1,
        "max_tokens": 500, "max_completion_tokens": 300, "temperature": 0.50, "top_p": 0.9, "top_k": 40, "seed": 7,
        "stop": ["a", "b"], "presence_penalty": 0.1, "frequency_penalty": -0.1, "n": 2,
        "reasoning_effort": "low", "parallel_tool_calls": false, "metadata": {"a": "b"}, "store": null,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": schema}},
        "tools": [{"type": "function", "function": {"name": "get_weather", "description": "d", "parameters": schema, "strict": true}},
                  {"type": "function", "function": {"name": "now"}}],
        "tool_choice": {"type": "function", "function": {"name": "now"}},
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
        "generationConfig": {"mediaResolution": "MEDIA_RESOLUTION_LOW", "maxOutputTokens": 400, "other": 1},
        "messages": messages,
    });
    let outgoing = google(true).chat(&chat(&body)).unwrap();
    assert_eq!(outgoing.uri, "http://h/v1beta/models/gemini-3-flash-preview:streamGenerateContent?alt=sse");
    let found: Value = serde_json::from_slice(&outgoing.body).unwrap();
    let expected = json!({
        "contents": [
            {"role": "user", "parts": [
                {"text": "one"}, {"text": "two"},
                {"inlineData": {"mimeType": "image/png", "data": "AA=="}},
                {"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}},
                {"inlineData": {"mimeType": "application/pdf", "data": "AAAA"}}]},
            {"role": "model", "parts": [
                {"functionCall": {"id": "c1", "name": "get_weather", "args": {"city": "Oslo"}}, "thoughtSignature": "c2ln"},
                {"functionCall": {"id": "c2", "name": "now", "args": {}}}]},
            {"role": "user", "parts": [
                {"functionResponse": {"id": "c1", "name": "get_weather", "response": {"result": "rain"}}},
                {"functionResponse": {"id": "c2", "name": "now", "response": {"error": "no clock", "n": 1.5}}},
                {"inlineData": {"mimeType": "image/jpeg", "data": "BB=="}},
                {"text": "so?"}]},
            {"role": "model", "parts": [{"text": "Well"}]},
        ],
        "systemInstruction": {"parts": [{"text": "be brief"}, {"text": "be kind"}]},
        "tools": [{"functionDeclarations": [
            {"name": "get_weather", "description": "d", "parametersJsonSchema": schema}, {"name": "now"}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["now"]}},
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
        "generationConfig": {
            "mediaResolution": "MEDIA_RESOLUTION_LOW", "maxOutputTokens": 300, "temperature": 0.50, "topP": 0.9, "topK": 40,
            "presencePenalty": 0.1, "frequencyPenalty": -0.1, "seed": 7, "stopSequences": ["a", "b"], "candidateCount": 2,
            "responseMimeType": "application/json", "responseJsonSchema": schema,
            "thinkingConfig": {"thinkingLevel": "low", "includeThoughts": true}},
    });
    assert_eq!(found, expected, "{found:#}");
    let omitted = [
        "user",
        "logit_bias",
        "min_p",
        "parallel_tool_calls",
        "metadata",
        "generationConfig.other",
        "cache_control",
        "image_url.detail",
        "strict",
    ];
    assert_eq!(outgoing.omitted, omitted);
}

#[test]
fn what_google_can_not_do_is_refused_by_name() {
    let url =
        |url: &str| json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]);
    for (param, value) in [
        ("n", json!(9)),
        ("stop", json!(["1", "2", "3", "4", "5", "6"])),
        ("temperature", json!("warm")),
        ("response_format", json!({"type": "xml"})),
        ("reasoning_effort", json!("lots")),
        ("tool_choice", json!("maybe")),
        ("serviceTier", json!("priority")),
        ("responseModalities", json!(["IMAGE"])),
        ("response_modalities", json!(["TEXT", "AUDIO"])),
        ("speechConfig", json!({})),
        ("googleSearch", json!({})),
        ("google_search", json!({})),
        ("codeExecution", json!({})),
        ("urlContext", json!({})),
        ("googleMaps", json!({})),
        ("fileSearch", json!({})),
        ("computerUse", json!({})),
        ("toolConfig", json!({})),
        ("contents", json!([])),
        ("systemInstruction", json!({})),
        ("safetySettings", json!("none")),
        ("cachedContent", json!("cachedContents/x")),
        ("cached_content", json!("cachedContents/x")),
        ("generationConfig", json!(7)),
        ("thinkingConfig", json!(7)),
    ] {
        assert_eq!(refused(&with(param, value)), param);
    }
    for (within, value) in [
        ("candidateCount", json!(8)),
        ("candidate_count", json!(8)),
        ("responseModalities", json!(["TEXT", "IMAGE"])),
        ("speechConfig", json!({})),
        ("imageConfig", json!({})),
        ("maxOutputTokens", json!(-1)),
    ] {
        let param = refused(&with("generationConfig", json!({ within: value })));
        assert_eq!(param, format!("generationConfig.{within}"));
    }
    let mut logprobs = with("logprobs", json!(true));
    logprobs["top_logprobs"] = json!(21);
    assert_eq!(refused(&logprobs), "top_logprobs");
    for (param, messages) in [
        ("messages.0.content", url("https://example.org/a.png")),
        ("messages.0.content", url("data:image/gif;base64,AA==")),
        ("messages", json!([{"role": "user", "content": ""}])),
        (
            "messages.0.content",
            json!([{"role": "system", "content": [{"type": "file", "file": {"file_id": "files/a"}}]}]),
        ),
        ("messages.0.tool_call_id", json!([{"role": "tool", "tool_call_id": "x", "content": "7"}])),
    ] {
        assert_eq!(refused(&with("messages", messages)), param);
    }
    assert_eq!(refused(&with("model", json!("../x"))), "model");
    let mut named = with("tools", json!([{"type": "function", "function": {"name": "f"}}]));
    named["tool_choice"] = json!({"type": "function", "function": {"name": "g"}});
    assert_eq!(refused(&named), "tool_choice");
}

#[test]
fn what_says_nothing_is_not_refused() {
    for (field, value) in [
        ("serviceTier", json!(null)),
        ("service_tier", json!("auto")),
        ("modalities", json!(["text"])),
        ("generationConfig", json!({"responseModalities": ["TEXT"], "candidateCount": null})),
        ("response_format", json!({"type": "text"})),
        ("tool_choice", json!("auto")),
        ("parallel_tool_calls", json!(true)),
    ] {
        let (body, omitted) = sent(&with(field, value)).unwrap();
        let expected = json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}],
            "generationConfig": {"thinkingConfig": {"includeThoughts": true}}});
        assert_eq!((body, omitted), (expected, vec![]), "{field}");
    }
}

#[test]
fn requests_and_their_bodies_are_bounded() {
    let head = r#"{"model":"gemini-2.5-flash","messages":[{"role":"user","content":""#;
    let body = [head, &"x".repeat(media::LARGEST_REQUEST), r#""}]}"#].concat();
    let request = ChatRequest::parse(body.into()).unwrap();
    assert_eq!(google(false).chat(&request).unwrap_err().param.as_deref(), Some("messages"));
    let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}});
    let images = vec![image; media::MOST_IMAGES + 1];
    assert_eq!(refused(&with("messages", json!([{"role": "user", "content": images}]))), "messages");
}

#[test]
fn tools_and_their_choice() {
    for (choice, expected) in [
        (json!("auto"), json!({"mode": "AUTO"})),
        (json!("none"), json!({"mode": "NONE"})),
        (json!("required"), json!({"mode": "ANY"})),
    ] {
        let mut body = with("tools", json!([{"type": "function", "function": {"name": "f"}}]));
        body["tool_choice"] = choice;
        assert_eq!(sent(&body).unwrap().0["toolConfig"]["functionCallingConfig"], expected);
    }
}

#[test]
fn a_chat_of_the_system_alone_is_asked_all_the_same() {
    let (body, _) = sent(&with("messages", json!([{"role": "system", "content": "greet"}]))).unwrap();
    assert_eq!(body["contents"], json!([{"role": "user", "parts": [{"text": "greet"}]}]));
    assert_eq!(body.get("systemInstruction"), None);
}

#[test]
fn models_without_instructions_get_them_in_the_first_turn() {
    let of = |first: &str| {
        let messages = json!([{"role": "system", "content": "be brief"}, {"role": first, "content": "hi"}]);
        let mut body = with("messages", messages);
        body["model"] = json!("gemma-3-27b-it");
        sent(&body).unwrap().0
    };
    let user = json!({"contents": [{"role": "user", "parts": [{"text": "be brief"}, {"text": "hi"}]}]});
    assert_eq!(of("user"), user);
    let model = json!({"contents": [{"role": "user", "parts": [{"text": "be brief"}]},
        {"role": "model", "parts": [{"text": "hi"}]}]});
    assert_eq!(of("assistant"), model);
}

#[test]
fn safety_is_only_lowered_where_it_is_set_so() {
    let request = chat(&with("temperature", json!(1)));
    let of = |permissive| {
        let body = google(permissive).chat(&request).unwrap().body;
        serde_json::from_slice::<Value>(&body).unwrap()["safetySettings"].clone()
    };
    assert_eq!(of(false), Value::Null);
    let settings = of(true);
    let settings = settings.as_array().unwrap();
    assert_eq!(settings.len(), 4);
    assert!(settings.iter().all(|setting| setting["threshold"] == "BLOCK_NONE"));
}

#[test]
fn thinking_in_googles_own_words_wins() {
    let thinking = |body: &Value| sent(body).unwrap().0["generationConfig"]["thinkingConfig"].clone();
    let budget = json!({"thinking_budget": 99});
    let expected = json!({"thinkingBudget": 99, "includeThoughts": true});
    for body in [
        with("thinkingConfig", budget.clone()),
        with("thinking_config", budget.clone()),
        with("generationConfig", json!({"thinkingConfig": budget})),
    ] {
        assert_eq!(thinking(&body), expected);
    }
    assert_eq!(thinking(&with("thinkingConfig", json!({"thinkingBudget": 0}))), json!({"thinkingBudget": 0}));
    let hidden = with("reasoning", json!({"effort": "low", "exclude": true}));
    assert_eq!(thinking(&hidden), json!({"thinkingBudget": 1024, "includeThoughts": false}));
    let (_, omitted) = sent(&with("thinkingConfig", json!({"other": 1}))).unwrap();
    assert_eq!(omitted, ["thinkingConfig.other"]);
    let mut never = with("reasoning_effort", json!("none"));
    never["model"] = json!("gemini-2.5-pro");
    assert_eq!(sent(&never).unwrap().1, ["reasoning_effort"]);
}

#[test]
fn models_are_asked_for_what_they_make() {
    for (model, made) in [
        ("gemini-2.5-flash-image", json!(["TEXT", "IMAGE"])),
        ("gemini-2.0-flash-preview-image-generation", json!(["TEXT", "IMAGE"])),
        ("gemini-2.5-flash-preview-tts", json!(["AUDIO"])),
        ("gemini-2.5-flash", Value::Null),
    ] {
        let asked = |field: &str, value: Value| {
            let mut body = with("model", json!(model));
            body[field] = value;
            sent(&body).unwrap().0["generationConfig"]["responseModalities"].clone()
        };
        assert_eq!(asked("n", Value::Null), made, "{model}");
        // Who wants words alone asks for them: they may be cheaper.
        let words = if made.is_null() { Value::Null } else { json!(["TEXT"]) };
        assert_eq!(asked("modalities", json!(["text"])), words, "{model}");
        assert_eq!(asked("generationConfig", json!({"responseModalities": ["TEXT"]})), words, "{model}");
    }
}

#[test]
fn signatures_come_back_with_their_calls() {
    let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let detail = |id: &str, format: &str| json!({"type": "reasoning.encrypted", "data": format!("of-{id}"), "id": id, "format": format, "index": 0});
    let signatures = |model: &str, details: Value| {
        let mut body = with("model", json!(model));
        body["messages"] = json!([
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": null, "tool_calls": [call("a"), call("b")], "reasoning_details": details},
            {"role": "tool", "tool_call_id": "a", "content": "1"},
            {"role": "tool", "tool_call_id": "b", "content": "2"},
            {"role": "assistant", "content": "and", "tool_calls": [call("c")]},
            {"role": "tool", "tool_call_id": "c", "content": "3"},
        ]);
        let (body, _) = sent(&body).unwrap();
        let parts =
            body["contents"].as_array().unwrap().iter().flat_map(|turn| turn["parts"].as_array().unwrap());
        let calls = parts.filter(|part| part.get("functionCall").is_some());
        calls.map(|part| part["thoughtSignature"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let ours = "google-gemini-v1";
    let stand_in = "skip_thought_signature_validator";
    assert_eq!(
        signatures("gemini-3-flash-preview", json!([detail("a", ours), detail("c", ours)])),
        ["of-a", "", "of-c"]
    );
    assert_eq!(signatures("gemini-3-flash-preview", json!([])), [stand_in, "", stand_in]);
    assert_eq!(signatures("gemini-3-flash-preview", json!([detail("a", "other")])), [stand_in, "", stand_in]);
    assert_eq!(signatures("gemini-2.5-flash", json!([detail("b", ours)])), ["", "of-b", ""]);
    assert_eq!(signatures("gemini-2.5-flash", json!([])), ["", "", ""]);
}

#[test]
fn the_signature_of_a_text_comes_back_behind_it() {
    let details =
        json!([{"type": "reasoning.encrypted", "data": "c2ln", "format": "google-gemini-v1", "index": 0}]);
    let messages = json!([{"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ho", "reasoning_details": details}, {"role": "user", "content": "he"}]);
    let (body, _) = sent(&with("messages", messages)).unwrap();
    let expected = json!([{"text": "ho"}, {"text": "", "thoughtSignature": "c2ln"}]);
    assert_eq!(body["contents"][1]["parts"], expected);
}

#[test]
fn ids_of_calls_may_come_again() {
    let turn = |name: &str| {
        [
            json!({"role": "assistant", "content": null, "tool_calls": [
            {"id": "call_0", "type": "function", "function": {"name": name, "arguments": "[1]"}}]}),
            json!({"role": "tool", "tool_call_id": "call_0", "content": "7"}),
        ]
    };
    let messages: Vec<Value> =
        [json!({"role": "user", "content": "hi"})].into_iter().chain(turn("f")).chain(turn("g")).collect();
    let (body, _) = sent(&with("messages", messages.into())).unwrap();
    assert_eq!(body["contents"][2]["parts"][0]["functionResponse"]["name"], "f");
    assert_eq!(body["contents"][4]["parts"][0]["functionResponse"]["name"], "g");
    // Arguments that are no object still go somewhere.
    assert_eq!(body["contents"][1]["parts"][0]["functionCall"]["args"], json!({"arguments": "[1]"}));
}

#[test]
fn a_whole_answer() {
    let complete = whole(&chat(&with("n", json!(1))), ANSWER).unwrap();
    let usage = Usage { cached_input: 100, reasoning: 64, ..Usage::tokens(120, 94) };
    assert_eq!(complete.usage, Some(usage));
    assert_eq!(complete.model.as_deref(), Some("gemini-3-flash-preview"));
    let produced = "The user wants the weather, so I call the tool.Let me look.get_weather{\"city\":\"Oslo\",\"days\":2}get_weather{\"city\":\"Bergen\"}";
    assert_eq!(complete.produced.text, produced);
    let body: Value = serde_json::from_slice(&complete.body).unwrap();
    let call = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "get_weather", "arguments": arguments}});
    let expected = json!({
        "role": "assistant", "content": "Let me look.",
        "reasoning_content": "The user wants the weather, so I call the tool.",
        "tool_calls": [call("call_rEsPoNsE-1_0", r#"{"city":"Oslo","days":2}"#), call("own-7", r#"{"city":"Bergen"}"#)],
        "reasoning_details": [{"type": "reasoning.encrypted", "data": "c2lnbmF0dXJlLTE=", "format": "google-gemini-v1",
            "index": 0, "id": "call_rEsPoNsE-1_0"}],
    });
    assert_eq!(
        body["choices"],
        json!([{"index": 0, "message": expected, "logprobs": null, "finish_reason": "tool_calls"}])
    );
    assert_eq!(
        (&body["id"], &body["created"], &body["usage"]["total_tokens"]),
        (&json!("rEsPoNsE-1"), &json!(7), &json!(214))
    );
}

#[test]
fn the_same_answer_streamed() {
    let request = chat(&with("stream", json!(true)));
    let (events, end) = streamed(&request, STREAM);
    assert_eq!(end, Ok(()));
    let complete = whole(&request, ANSWER).unwrap();
    let body: Value = serde_json::from_slice(&complete.body).unwrap();
    assert_eq!(Value::Array(put_together(&events)), body["choices"]);
    assert_eq!(final_usage(&events), [complete.usage.unwrap()]);
    assert_eq!(produced(&events), complete.produced.text);
    assert_eq!(events.last().unwrap().what, What::Done);
    let first = events[0].json().unwrap();
    assert_eq!((&first["id"], &first["model"]), (&json!("rEsPoNsE-1"), &json!("gemini-3-flash-preview")));
    // Each chunk tells how far it is.
    let so_far: Vec<u64> = events
        .iter()
        .filter_map(|event| match &event.what {
            What::Chunk(chunk) => match chunk.usage {
                Some(Reported::SoFar(usage)) => Some(usage.output),
                _ => None,
            },
            _ => None,
        })
        .collect();
    assert_eq!(so_far, [20, 64, 66, 81, 94]);
}

#[test]
fn a_stream_that_is_cut_off_is_broken() {
    let request = chat(&with("stream", json!(true)));
    let text = std::str::from_utf8(STREAM).unwrap();
    let events: Vec<&str> = text.split_inclusive("\n\n").collect();
    for kept in 0..events.len() - 1 {
        let (out, end) = streamed(&request, events[..kept].concat().as_bytes());
        assert!(matches!(end, Err(ProviderError::Broken { .. })), "{kept}");
        assert!(final_usage(&out).is_empty());
    }
    let half = &text[..text.len() - 40];
    assert!(matches!(streamed(&request, half.as_bytes()).1, Err(ProviderError::Broken { .. })));
}

#[test]
fn errors_in_the_middle_of_a_stream() {
    let request = chat(&with("stream", json!(true)));
    let error =
        json!({"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}});
    let piece = json!({"candidates": [{"content": {"parts": [{"text": "a"}]}}]});
    for error in [error.clone(), json!([error])] {
        let (events, end) = streamed(&request, &sse(&[piece.clone(), error]));
        assert_eq!(produced(&events), "a");
        let said = Said {
            code: Some("UNAVAILABLE".into()),
            words: Some("The model is overloaded.".into()),
            ..Said::default()
        };
        let overloaded = ProviderError::Overloaded { status: 503, retry_after: None, said };
        assert_eq!(end.unwrap_err(), ProviderError::Reported { error: Box::new(overloaded), usage: None });
    }
}

#[test]
fn blocked_prompts_are_explained() {
    let request = chat(&with("stream", json!(true)));
    let complete = whole(&request, BLOCKED).unwrap();
    assert_eq!((complete.usage, complete.produced.text.as_str()), (Some(Usage::tokens(9, 0)), ""));
    let body: Value = serde_json::from_slice(&complete.body).unwrap();
    let choice = &body["choices"][0];
    assert_eq!(choice["finish_reason"], "content_filter");
    assert_eq!(choice["message"]["content"], "(Google blocked this request because of forbidden content.)");
    let (events, end) = streamed(&request, &sse(&[serde_json::from_slice(BLOCKED).unwrap()]));
    assert_eq!(end, Ok(()));
    assert_eq!(Value::Array(put_together(&events)), body["choices"]);
    assert_eq!((final_usage(&events), produced(&events)), (vec![Usage::tokens(9, 0)], String::new()));
}

#[test]
fn every_reason_to_end() {
    let request = chat(&with("stream", json!(true)));
    let text = json!({"text": "so"});
    let call = json!({"functionCall": {"name": "f", "args": {}}});
    for (finish, part, reason, explained) in [
        ("STOP", &text, "stop", false),
        ("STOP", &call, "tool_calls", false),
        ("MAX_TOKENS", &text, "length", false),
        ("SAFETY", &text, "content_filter", true),
        ("RECITATION", &text, "content_filter", true),
        ("BLOCKLIST", &text, "content_filter", true),
        ("PROHIBITED_CONTENT", &text, "content_filter", true),
        ("SPII", &call, "content_filter", true),
        ("LANGUAGE", &text, "content_filter", true),
        ("MALFORMED_FUNCTION_CALL", &text, "stop", true),
        ("UNEXPECTED_TOOL_CALL", &call, "tool_calls", false),
        ("OTHER", &text, "stop", true),
        ("SOMETHING_NEW", &text, "stop", true),
    ] {
        let answer = json!({"candidates": [{"content": {"parts": [part]}, "finishReason": finish}],
            "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 4}, "responseId": "r"});
        let complete = whole(&request, answer.to_string().as_bytes()).unwrap();
        let body: Value = serde_json::from_slice(&complete.body).unwrap();
        let choice = &body["choices"][0];
        assert_eq!(choice["finish_reason"], reason, "{finish}");
        let content = choice["message"]["content"].as_str().unwrap_or_default();
        assert_eq!(content.ends_with(')'), explained, "{finish}: {content}");
        let (events, end) = streamed(&request, &sse(&[answer]));
        assert_eq!((end, &put_together(&events)[0]), (Ok(()), choice), "{finish}");
        assert_eq!(produced(&events), complete.produced.text);
    }
}

#[test]
fn a_usage_without_its_output_is_not_the_last_word() {
    let request = chat(&with("stream", json!(true)));
    let answer = |parts: Value| {
        json!({"candidates": [{"content": {"parts": parts}, "finishReason": "MAX_TOKENS"}],
            "usageMetadata": {"promptTokenCount": 3, "thoughtsTokenCount": 5}})
    };
    let spoken = answer(json!([{"text": "a"}]));
    let (events, end) = streamed(&request, &sse(std::slice::from_ref(&spoken)));
    assert_eq!((end, final_usage(&events)), (Ok(()), vec![]));
    let so_far = Reported::SoFar(Usage { reasoning: 5, ..Usage::tokens(3, 5) });
    assert!(matches!(&events[0].what, What::Chunk(chunk) if chunk.usage == Some(so_far)));
    let complete = whole(&request, spoken.to_string().as_bytes()).unwrap();
    let told = Usage { reasoning: 5, ..Usage::tokens(3, 5) };
    assert_eq!((complete.usage, complete.usage_goes_on), (Some(told), true));
    // Where nothing was said there is nothing to count.
    let silent = answer(json!([{"text": "hm", "thought": true}]));
    let all = Usage { reasoning: 5, ..Usage::tokens(3, 5) };
    assert_eq!(whole(&request, silent.to_string().as_bytes()).unwrap().usage, Some(all));
    assert_eq!(final_usage(&streamed(&request, &sse(&[silent])).0), [all]);
}

#[test]
fn probabilities_sources_and_parts_of_other_kinds() {
    let request = chat(&with("stream", json!(true)));
    let answer = json!({"responseId": "r", "candidates": [{
        "content": {"parts": [
            {"text": "Hi"},
            {"executableCode": {"language": "PYTHON", "code": "1+1\n"}},
            {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "2\n"}},
            {"inlineData": {"mimeType": "image/png", "data": "AA=="}, "thoughtSignature": "c2ln"},
            {"inlineData": {"mimeType": "video/mp4", "data": "AA=="}},
        ]},
        "finishReason": "STOP",
        "citationMetadata": {"citationSources": [
            {"startIndex": 1, "endIndex": 2, "uri": "https://example.org", "license": "mit"}, {"endIndex": 9}]},
        "groundingMetadata": {"groundingChunks": [{"web": {"uri": "https://example.com", "title": "Example"}}]},
        "logprobsResult": {
            "chosenCandidates": [{"token": "Hi", "tokenId": 5, "logProbability": -0.25}],
            "topCandidates": [{"candidates": [{"token": "Hi", "logProbability": -0.25}, {"token": "Ho", "logProbability": -1.5}]}]},
    }]});
    let complete = whole(&request, answer.to_string().as_bytes()).unwrap();
    let body: Value = serde_json::from_slice(&complete.body).unwrap();
    let choice = &body["choices"][0];
    let message = &choice["message"];
    let content = "Hi\n```python\n1+1\n```\n\n```\n2\n```\n\n\n![image](data:image/png;base64,AA==)\n\n(A part of the type \
                   video/mp4, which can't be shown here.)";
    assert_eq!(message["content"], content);
    assert_eq!(message["reasoning_details"][0]["data"], "c2ln");
    // A picture is not counted as the text that it is written in.
    assert!(!complete.produced.text.contains("AA=="), "{}", complete.produced.text);
    let entry =
        |token: &str, logprob: f64| json!({"token": token, "logprob": logprob, "bytes": token.as_bytes()});
    let mut first = entry("Hi", -0.25);
    first["top_logprobs"] = json!([entry("Hi", -0.25), {"token": "Ho", "logprob": -1.5, "bytes": [72, 111]}]);
    assert_eq!(choice["logprobs"]["content"][0]["top_logprobs"][0], first["top_logprobs"][0]);
    assert_eq!(choice["logprobs"]["content"][0]["top_logprobs"][1]["logprob"].to_string(), "-1.5");
    let urls: Vec<&str> = message["annotations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|annotation| annotation["url_citation"]["url"].as_str().unwrap())
        .collect();
    assert_eq!(urls, ["https://example.org", "https://example.com"]);
    assert_eq!(message["groundingMetadata"], answer["candidates"][0]["groundingMetadata"]);
    assert_eq!(message["citationMetadata"], answer["candidates"][0]["citationMetadata"]);
    let (events, _) = streamed(&request, &sse(&[answer]));
    assert_eq!(&put_together(&events)[0], choice);
}

#[test]
fn googles_own_words_reach_the_user() {
    let request = chat(&with("stream", json!(true)));
    let of = |answer: &Value| {
        let complete = whole(&request, answer.to_string().as_bytes()).unwrap();
        let body: Value = serde_json::from_slice(&complete.body).unwrap();
        let (events, _) = streamed(&request, &sse(std::slice::from_ref(answer)));
        assert_eq!(put_together(&events)[0], body["choices"][0], "{answer}");
        body["choices"][0].clone()
    };
    let ended = |reason: &str, message: Value| {
        of(&json!({"candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": reason,
            "finishMessage": message}]}))
    };
    let blocked = ended("MODEL_ARMOR", json!("Blocked by the template."));
    assert_eq!(blocked["message"]["content"], "a\n\n(Blocked by the template.)");
    assert_eq!(blocked["message"]["refusal"], "Blocked by the template.");
    let wrong = ended("UNEXPECTED_TOOL_CALL", json!("Unexpected tool call: run"));
    assert_eq!(wrong["message"]["content"], "a\n\n(Unexpected tool call: run)");
    assert!(wrong["message"].get("refusal").is_none());
    // An ordinary end has words too, which say nothing.
    for reason in ["STOP", "MAX_TOKENS"] {
        assert_eq!(ended(reason, json!("Model generated function call(s)."))["message"]["content"], "a");
    }
    let ours = ended("SAFETY", json!(7));
    assert_eq!(ours["message"]["refusal"], "Google's safety filter stopped this answer.");
    let prompt = of(&json!({"promptFeedback": {"blockReason": "MODEL_ARMOR", "blockReasonMessage": "No."}}));
    assert_eq!(
        (&prompt["message"]["content"], &prompt["message"]["refusal"]),
        (&json!("(No.)"), &json!("No."))
    );
}

#[test]
fn pictures_are_counted_whoever_tells_their_tokens() {
    let request = chat(&with("stream", json!(true)));
    let picture = json!({"inlineData": {"mimeType": "image/png", "data": "AAAA"}});
    let mut answer =
        json!({"candidates": [{"content": {"parts": [picture, picture]}, "finishReason": "STOP"}]});
    let reported = |body: &Value| {
        let complete = whole(&request, body.to_string().as_bytes()).unwrap();
        let (events, end) = streamed(&request, &sse(std::slice::from_ref(body)));
        let last = events.iter().rev().find_map(|event| match &event.what {
            What::Chunk(chunk) => chunk.usage,
            _ => None,
        });
        assert_eq!(end, Ok(()));
        (complete.usage, complete.usage_goes_on, last)
    };
    let untold = Usage { images: 2, ..Usage::tokens(0, 2580) };
    assert_eq!(reported(&answer), (Some(untold), true, Some(Reported::SoFar(untold))));
    answer["usageMetadata"] = json!({"promptTokenCount": 10, "candidatesTokenCount": 2591,
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 2580}]});
    let told = Usage { images: 2, ..Usage::tokens(10, 2591) };
    assert_eq!(reported(&answer), (Some(told), false, Some(Reported::Final(told))));
}

#[test]
fn calls_in_pieces_are_put_together() {
    let request = chat(&with("stream", json!(true)));
    let call = |call: Value| json!({"candidates": [{"content": {"parts": [{"functionCall": call}]}}]});
    let mut first = call(json!({"name": "f", "id": "x", "willContinue": true}));
    first["candidates"][0]["content"]["parts"][0]["thoughtSignature"] = json!("c2ln");
    let mut last = call(json!({}));
    last["candidates"][0]["finishReason"] = json!("STOP");
    last["usageMetadata"] = json!({"promptTokenCount": 3, "candidatesTokenCount": 4});
    let city = |text: &str| json!([{"jsonPath": "$.city", "stringValue": text, "willContinue": true}]);
    let chunks = [
        first,
        call(json!({"partialArgs": city("San "), "willContinue": true})),
        call(json!({"partialArgs": city("Jose"), "willContinue": true})),
        call(json!({"partialArgs": [{"jsonPath": "$.days[0]", "numberValue": 2}]})),
        // The end of one that has ended.
        call(json!({})),
        call(json!({"name": "g", "args": {"a": 1}})),
        call(
            json!({"name": "h", "partialArgs": [{"jsonPath": "$.b", "boolValue": true}], "willContinue": true}),
        ),
        last,
    ];
    let (events, end) = streamed(&request, &sse(&chunks));
    assert_eq!(end, Ok(()));
    let choice = put_together(&events).remove(0);
    let called: Vec<(&Value, &Value)> = choice["message"]["tool_calls"]
        .as_array()
        .unwrap()
        .iter()
        .map(|call| (&call["function"]["name"], &call["function"]["arguments"]))
        .collect();
    let expected = [
        (&json!("f"), &json!("{\"city\":\"San Jose\",\"days\":[2]}")),
        (&json!("g"), &json!("{\"a\":1}")),
        (&json!("h"), &json!("{\"b\":true}")),
    ];
    assert_eq!(called, expected);
    let details = &choice["message"]["reasoning_details"];
    assert_eq!((&details[0]["id"], &details[0]["data"]), (&json!("x"), &json!("c2ln")));
    assert_eq!(choice["finish_reason"], "tool_calls");
    // What came of a call is billed, also if its end never comes.
    assert_eq!(produced(&events), "San Jose2fg{\"a\":1}trueh");
    let (events, end) = streamed(&request, &sse(&chunks[..2]));
    assert!(end.is_err());
    assert_eq!(produced(&events), "San ");
    // A call whose end is missing is handed out with the end of the answer.
    let mut open = call(json!({"name": "f", "partialArgs": city("Basel"), "willContinue": true}));
    open["candidates"][0]["finishReason"] = json!("STOP");
    let (events, _) = streamed(&request, &sse(&[open]));
    let choice = put_together(&events).remove(0);
    assert_eq!(choice["message"]["tool_calls"][0]["function"]["arguments"], "{\"city\":\"Basel\"}");
}

#[test]
fn ids_stay_apart_where_the_server_names_none() {
    let call = |id: Option<&str>| json!({"functionCall": {"id": id, "name": "f", "args": null}});
    let answer = json!({"candidates": [{"finishReason": "STOP", "content": {"parts": [
        call(None), call(Some("call_7-1_1")), call(None), call(Some("x")), call(Some("x"))]}}]});
    let complete = whole(&chat(&with("n", json!(1))), answer.to_string().as_bytes()).unwrap();
    let body: Value = serde_json::from_slice(&complete.body).unwrap();
    let calls = body["choices"][0]["message"]["tool_calls"].as_array().unwrap();
    let ids: Vec<&str> = calls.iter().map(|call| call["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["call_7-1_0", "call_7-1_1", "call_7-1_2", "x", "call_7-1_4"]);
    assert_eq!(calls[0]["function"]["arguments"], "{}");
    assert_eq!((&body["id"], &body["model"]), (&json!("7-1"), &json!("m")));
}

#[test]
fn what_is_no_answer() {
    let request = chat(&with("n", json!(1)));
    for body in [&b"<html>"[..], b"{}", b"[]", br#"{"candidates":[{"content":{"parts":[]}}]}"#] {
        assert!(matches!(whole(&request, body), Err(ProviderError::BadAnswer { .. })));
    }
    assert!(matches!(whole(&request, br#"{"error":{"message":"no"}}"#), Err(ProviderError::Reported { .. })));
}

#[test]
fn models_that_generate_or_embed() {
    let models = google(false).models_answer(MODELS).unwrap();
    let names: Vec<&str> = models.iter().map(ModelId::as_str).collect();
    assert_eq!(names, ["gemini-2.5-flash", "gemini-embedding-001"]);
    assert!(google(false).models_answer(b"{}").is_err());
    assert_eq!(google(false).models().uri, "http://h/v1beta/models?pageSize=1000");
}
