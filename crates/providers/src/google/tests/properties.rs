//! What holds for any chat and any answer.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{chat, final_usage, produced, put_together, sent, sse, streamed, whole, with};

/// One thing that a chat says, wherever it says it.
#[derive(Debug, Clone, PartialEq)]
enum Said {
    System(String),
    User(String),
    Picture(String),
    Model(String),
    Call { id: String, name: String, arguments: Value },
    Result { id: String, name: String, text: String },
}

/// A turn of a chat.
#[derive(Debug, Clone)]
enum Turn {
    System(String),
    User(Vec<(String, Option<String>)>),
    /// What the model said, and its calls: name, arguments, result, and a picture beside the result.
    Model(String, Vec<(String, Value, String, Option<String>)>),
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zé\"\\\\ \n]{1,12}",
        Just("{\"a\": 1.50}".to_owned()),
        Just("[1,2]".to_owned()),
        Just("7".to_owned())
    ]
}

fn base64() -> impl Strategy<Value = String> {
    "[A-Za-z0-9+/]{4}"
}

fn arguments() -> impl Strategy<Value = Value> {
    let value = prop_oneof![
        text().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        Just(json!([null, {"b": true}]))
    ];
    prop::collection::vec(("[a-c]", value), 0..3).prop_map(|fields| fields.into_iter().collect())
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let call = ("[f-h]", arguments(), text(), prop::option::of(base64()));
    let turn = prop_oneof![
        1 => text().prop_map(Turn::System),
        3 => prop::collection::vec((text(), prop::option::of(base64())), 1..3).prop_map(Turn::User),
        3 => (text(), prop::collection::vec(call, 0..3)).prop_map(|(text, calls)| Turn::Model(text, calls)),
    ];
    prop::collection::vec(turn, 0..8).prop_map(|mut turns| {
        // A chat without anything but the system is a case of its own.
        turns.insert(0, Turn::User(vec![("begin".into(), None)]));
        turns
    })
}

fn picture(base64: &str) -> Value {
    json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{base64}")}})
}

/// The chat in OpenAI's shape, and what it says in the order in which Google wants it.
fn written(turns: &[Turn]) -> (Vec<Value>, Vec<Said>) {
    let (mut messages, mut system, mut said) = (Vec::new(), Vec::new(), Vec::new());
    for (number, turn) in turns.iter().enumerate() {
        match turn {
            Turn::System(text) => {
                messages.push(json!({"role": "system", "content": text}));
                system.push(Said::System(text.clone()));
            }
            Turn::User(parts) => {
                let mut content = Vec::new();
                for (text, image) in parts {
                    content.push(json!({"type": "text", "text": text}));
                    said.push(Said::User(text.clone()));
                    if let Some(image) = image {
                        content.push(picture(image));
                        said.push(Said::Picture(image.clone()));
                    }
                }
                messages.push(json!({"role": "user", "content": content}));
            }
            Turn::Model(text, calls) => {
                said.push(Said::Model(text.clone()));
                let (mut requested, mut results, mut answered, mut beside) = (vec![], vec![], vec![], vec![]);
                for (index, (name, arguments, result, image)) in calls.iter().enumerate() {
                    let id = format!("c{number}-{index}");
                    requested.push(json!({"id": id, "type": "function",
                        "function": {"name": name, "arguments": arguments.to_string()}}));
                    said.push(Said::Call {
                        id: id.clone(),
                        name: name.clone(),
                        arguments: arguments.clone(),
                    });
                    let mut content = vec![json!({"type": "text", "text": result})];
                    content.extend(image.as_deref().map(picture));
                    results.push(json!({"role": "tool", "tool_call_id": id, "content": content}));
                    answered.push(Said::Result { id, name: name.clone(), text: result.clone() });
                    beside.extend(image.clone().map(Said::Picture));
                }
                let mut message = json!({"role": "assistant", "content": text});
                if !requested.is_empty() {
                    message["tool_calls"] = requested.into();
                }
                messages.push(message);
                messages.extend(results);
                said.extend(answered.into_iter().chain(beside));
            }
        }
    }
    system.extend(said);
    (messages, system)
}

/// Google's JSON, read back.
fn read(body: &Value) -> Vec<Said> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut said = Vec::new();
    for part in body["systemInstruction"]["parts"].as_array().into_iter().flatten() {
        said.push(Said::System(text(&part["text"])));
    }
    let mut last = "";
    for turn in body["contents"].as_array().unwrap() {
        let role = turn["role"].as_str().unwrap();
        assert_ne!(role, last, "neighbours of one role are one turn");
        last = role;
        for part in turn["parts"].as_array().unwrap() {
            let (kind, value) = part.as_object().unwrap().iter().next().unwrap();
            said.push(match (kind.as_str(), role) {
                ("text", "user") => Said::User(text(value)),
                ("text", "model") => Said::Model(text(value)),
                ("inlineData", "user") => Said::Picture(text(&value["data"])),
                ("functionCall", "model") => Said::Call {
                    id: text(&value["id"]),
                    name: text(&value["name"]),
                    arguments: value["args"].clone(),
                },
                ("functionResponse", "user") => Said::Result {
                    id: text(&value["id"]),
                    name: text(&value["name"]),
                    text: match value["response"].get("result") {
                        Some(text) => text.as_str().unwrap().to_owned(),
                        None => value["response"].to_string(),
                    },
                },
                other => panic!("{other:?}"),
            });
        }
    }
    said
}

/// Texts that are JSON objects become objects: their spaces between do not count.
fn without_spaces(said: Vec<Said>) -> Vec<Said> {
    said.into_iter()
        .map(|one| match one {
            Said::Result { id, name, text } => {
                let object = serde_json::from_str::<Value>(&text).ok().filter(Value::is_object);
                Said::Result { id, name, text: object.map_or(text, |object| object.to_string()) }
            }
            other => other,
        })
        .collect()
}

/// A part of a candidate.
#[derive(Debug, Clone)]
enum Made {
    Thought(String),
    Text(String, Option<String>),
    Call { id: bool, arguments: Value, signature: Option<String> },
}

fn made() -> impl Strategy<Value = Made> {
    let signature = || prop::option::of("[a-z]{6}");
    prop_oneof![
        text().prop_map(Made::Thought),
        (text(), signature()).prop_map(|(text, signature)| Made::Text(text, signature)),
        (any::<bool>(), arguments(), signature()).prop_map(|(id, arguments, signature)| Made::Call {
            id,
            arguments,
            signature
        }),
    ]
}

fn signed(mut part: Value, signature: Option<&String>) -> Value {
    if let Some(signature) = signature {
        part["thoughtSignature"] = signature.as_str().into();
    }
    part
}

/// The part whole, and cut into pieces of at most so many characters.
fn parts_of(made: &Made, index: usize, place: usize, size: usize) -> (Value, Vec<Value>) {
    let pieces = |text: &str| -> Vec<String> {
        let characters: Vec<char> = text.chars().collect();
        characters.chunks(size).map(|piece| piece.iter().collect()).collect()
    };
    match made {
        Made::Thought(text) => {
            let part = |text: &str| json!({"text": text, "thought": true});
            (part(text), pieces(text).iter().map(|piece| part(piece)).collect())
        }
        Made::Text(text, signature) => {
            let mut cut: Vec<Value> = pieces(text).iter().map(|piece| json!({"text": piece})).collect();
            if signature.is_some() {
                cut.push(signed(json!({"text": ""}), signature.as_ref()));
            }
            (signed(json!({"text": text}), signature.as_ref()), cut)
        }
        Made::Call { id, arguments, signature } => {
            let mut call = json!({"name": "f", "args": arguments});
            if *id {
                call["id"] = format!("own-{index}-{place}").into();
            }
            let part = signed(json!({ "functionCall": call }), signature.as_ref());
            (part.clone(), vec![part])
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_chat_loses_nothing(turns in turns()) {
        let (messages, expected) = written(&turns);
        let (body, omitted) = sent(&with("messages", messages.into())).unwrap();
        prop_assert!(omitted.is_empty());
        prop_assert_eq!(read(&body), without_spaces(expected));
    }

    #[test]
    fn however_an_answer_is_cut_it_is_the_same(
        candidates in prop::collection::vec(
            (prop::collection::vec(made(), 0..5), prop::sample::select(vec!["STOP", "MAX_TOKENS", "SAFETY", "OTHER"])), 1..4),
        size in 1_usize..5, together in 1_usize..4, turn_by_turn: bool, late: bool,
        counts in (1_i64..100, 1_i64..100, 0_i64..100),
    ) {
        let (prompt, spoken, thought) = counts;
        let usage = |of: i64| json!({"promptTokenCount": prompt, "candidatesTokenCount": spoken * of / 10, "thoughtsTokenCount": thought});
        let mut list = Vec::new();
        let mut queues: Vec<Vec<Value>> = Vec::new();
        for (index, (parts, finish)) in candidates.iter().enumerate() {
            let cut: Vec<(Value, Vec<Value>)> =
                parts.iter().enumerate().map(|(place, made)| parts_of(made, index, place, size)).collect();
            let content: Vec<&Value> = cut.iter().map(|(part, _)| part).collect();
            list.push(json!({"index": index, "content": {"role": "model", "parts": content}, "finishReason": finish}));
            let pieces: Vec<Value> = cut.iter().flat_map(|(_, pieces)| pieces.clone()).collect();
            let mut chunks: Vec<Value> = pieces
                .chunks(together)
                .map(|parts| json!({"index": index, "content": {"role": "model", "parts": parts}}))
                .collect();
            match chunks.last_mut().filter(|_| !late) {
                Some(last) => last["finishReason"] = (*finish).into(),
                None => chunks.push(json!({"index": index, "finishReason": finish})),
            }
            queues.push(chunks);
        }
        // One candidate after the other, or by turns.
        let longest = queues.iter().map(Vec::len).max().unwrap_or_default();
        let order: Vec<Value> = if turn_by_turn {
            (0..longest).flat_map(|at| queues.iter().filter_map(move |queue| queue.get(at).cloned())).collect()
        } else {
            queues.concat()
        };
        let count = order.len();
        let stream: Vec<Value> = order
            .into_iter()
            .enumerate()
            .map(|(at, candidate)| {
                let usage = usage(if at + 1 == count { 10 } else { 5 });
                json!({"candidates": [candidate], "usageMetadata": usage, "responseId": "r", "modelVersion": "g"})
            })
            .collect();
        let answer = json!({"candidates": list, "usageMetadata": usage(10), "responseId": "r", "modelVersion": "g"});

        let mut body = with("stream", json!(true));
        body["n"] = candidates.len().into();
        let request = chat(&body);
        let complete = whole(&request, answer.to_string().as_bytes()).unwrap();
        let (events, end) = streamed(&request, &sse(&stream));
        prop_assert_eq!(end, Ok(()));
        let body: Value = serde_json::from_slice(&complete.body).unwrap();
        prop_assert_eq!(Value::Array(put_together(&events)), body["choices"].clone());
        prop_assert_eq!(final_usage(&events), vec![complete.usage.unwrap()]);
        // The same output is billed, in whatever order it came.
        let sorted = |text: &str| { let mut all: Vec<char> = text.chars().collect(); all.sort_unstable(); all };
        prop_assert_eq!(sorted(&produced(&events)), sorted(&complete.produced.text));
        // Finishes come after all else, and once for each choice.
        let finishes = events.iter().filter(|event| matches!(&event.what, crate::What::Chunk(chunk) if chunk.finish)).count();
        prop_assert_eq!(finishes, candidates.len());
        let ids: Vec<&Value> = body["choices"].as_array().unwrap().iter()
            .flat_map(|choice| choice["message"]["tool_calls"].as_array().into_iter().flatten()).map(|call| &call["id"]).collect();
        let apart: std::collections::HashSet<String> = ids.iter().map(ToString::to_string).collect();
        prop_assert_eq!(apart.len(), ids.len());
    }
}
