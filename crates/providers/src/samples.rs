//! For tests of converters: chats to convert and to find again, and answers gathered from their pieces.

use accounting::Usage;
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::answer::{Complete, Reported, StreamEvent, What};
use crate::framing::{Framing, Parser};
use crate::protocol::{Asked, Conversion, ended_too_soon};
use crate::{ChatRequest, ProviderError};

/// One message, whatever its protocol.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Turn {
    pub role: String,
    pub texts: Vec<String>,
    /// PNG, in base64.
    pub images: Vec<String>,
    pub reasoning: Option<String>,
    pub calls: Vec<Called>,
    /// The id and the name of the call that this is the result of.
    pub result_of: Option<(String, String)>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Called {
    pub id: String,
    pub name: String,
    pub arguments: Value,
}

/// Chats with everything that most servers take: several system prompts, pictures, reasoning, rounds of tools.
pub(crate) fn chats() -> impl Strategy<Value = Vec<Turn>> {
    let text = || "[a-zA-Z0-9 äß\"\\\\<{\n]{0,8}[a-z\u{1F600}]";
    let texts = prop::collection::vec(text(), 1..3);
    let images = prop::collection::vec("[A-Za-z0-9+/]{8}", 0..3);
    let plain = |role: &'static str| {
        text().prop_map(move |text| vec![Turn { role: role.into(), texts: vec![text], ..Turn::default() }])
    };
    let user = (texts, images)
        .prop_map(|(texts, images)| vec![Turn { role: "user".into(), texts, images, ..Turn::default() }]);
    let thought = (text(), prop::option::of(text())).prop_map(|(text, reasoning)| {
        vec![Turn { role: "assistant".into(), texts: vec![text], reasoning, ..Turn::default() }]
    });
    let call = ("[a-zA-Z0-9_-]{1,24}", "[a-z_]{1,9}", text(), any::<i64>(), text());
    let round =
        (prop::option::of(text()), prop::collection::vec(call, 1..4)).prop_map(|(reasoning, calls)| {
            let called = |(id, name, argument, number, _): &(String, String, String, i64, String)| Called {
                id: id.clone(),
                name: name.clone(),
                arguments: json!({"a": argument, "n": number, "deep": {"list": [null, true]}}),
            };
            let said = Turn {
                role: "assistant".into(),
                reasoning,
                calls: calls.iter().map(called).collect(),
                ..Turn::default()
            };
            let results = calls.into_iter().map(|(id, name, _, _, result)| Turn {
                role: "tool".into(),
                texts: vec![result],
                result_of: Some((id, name)),
                ..Turn::default()
            });
            std::iter::once(said).chain(results).collect::<Vec<_>>()
        });
    prop::collection::vec(prop_oneof![plain("system"), user, thought, round], 1..8).prop_map(|rounds| {
        let mut turns: Vec<Turn> = rounds.into_iter().flatten().collect();
        // Ids are unique in a chat; each call keeps its result.
        let mut number = 0;
        for at in 0..turns.len() {
            for call in 0..turns[at].calls.len() {
                let id = format!("{}{number}", turns[at].calls[call].id);
                turns[at].calls[call].id.clone_from(&id);
                turns[at + 1 + call].result_of.as_mut().unwrap().0 = id;
                number += 1;
            }
        }
        turns
    })
}

/// A chat as OpenAI's clients write it.
pub(crate) fn openai_messages(turns: &[Turn]) -> Value {
    turns.iter().map(openai_message).collect()
}

fn openai_message(turn: &Turn) -> Value {
    let texts = turn.texts.iter().map(|text| json!({"type": "text", "text": text}));
    let images = turn.images.iter().map(|base64| {
        json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{base64}")}})
    });
    let content = match &turn.texts[..] {
        [] => Value::Null,
        [text] if turn.images.is_empty() => json!(text),
        _ => texts.chain(images).collect(),
    };
    let mut message = json!({"role": turn.role, "content": content});
    if let Some(reasoning) = &turn.reasoning {
        message["reasoning_content"] = json!(reasoning);
    }
    if !turn.calls.is_empty() {
        let calls = turn.calls.iter().map(|call| {
            let arguments = call.arguments.to_string();
            json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
        });
        message["tool_calls"] = calls.collect();
    }
    if let Some((id, _)) = &turn.result_of {
        message["tool_call_id"] = json!(id);
    }
    message
}

/// A request with that body.
pub(crate) fn request(body: &Value) -> ChatRequest {
    ChatRequest::parse(Bytes::from(body.to_string())).unwrap()
}

pub(crate) fn asked() -> Asked {
    Asked { model: "asked".into(), created: 7, request_id: None }
}

/// All that an answer says, once it is together.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Gathered {
    pub content: String,
    pub reasoning: String,
    /// Id, name and arguments.
    pub calls: Vec<(String, String, String)>,
    pub reason: String,
    pub usage: Option<Usage>,
    pub produced: String,
    pub model: Option<String>,
}

/// The events that a stream becomes that comes in these pieces.
pub(crate) fn stream(
    framing: Framing,
    mut conversion: Box<dyn Conversion>,
    pieces: &[&[u8]],
) -> (Vec<StreamEvent>, Result<(), ProviderError>) {
    let mut parser = Parser::new(framing);
    let mut out = Vec::new();
    for piece in pieces {
        parser.push(piece);
        while let Some(event) = parser.next().unwrap() {
            if let Err(error) = conversion.event(event, &mut out) {
                return (out, Err(error));
            }
        }
    }
    loop {
        match parser.last() {
            Ok(None) => break,
            Ok(Some(event)) => {
                if let Err(error) = conversion.event(event, &mut out) {
                    return (out, Err(error));
                }
            }
            Err(_) => return (out, Err(ended_too_soon())),
        }
    }
    if out.iter().any(|event| event.what == What::Done) {
        return (out, Ok(()));
    }
    let ended = conversion.end(&mut out);
    (out, ended)
}

/// A stream cut at those places, each taken modulo its length.
pub(crate) fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.sort_unstable();
    let mut from = 0;
    let mut pieces = Vec::new();
    for cut in cuts {
        pieces.push(&bytes[from..cut]);
        from = cut;
    }
    pieces.push(&bytes[from..]);
    pieces
}

/// What the events of a stream say together.
pub(crate) fn gathered(events: &[StreamEvent]) -> Gathered {
    let mut all = Gathered::default();
    for event in events {
        let What::Chunk(chunk) = &event.what else { continue };
        all.produced.push_str(&chunk.produced);
        all.model = all.model.or(chunk.model.clone());
        if let Some(Reported::Final(usage) | Reported::SoFar(usage)) = chunk.usage {
            all.usage = Some(usage);
        }
        let json = event.json().unwrap();
        // What goes over the wire is what was looked at.
        let sent: Vec<u8> = event.with_data(&json).to_vec();
        assert!(sent.ends_with(b"\n\n"));
        for choice in json["choices"].as_array().into_iter().flatten() {
            add(&mut all, &choice["delta"]);
            if let Some(reason) = choice["finish_reason"].as_str() {
                all.reason = reason.to_owned();
            }
        }
    }
    all
}

/// What a whole answer says.
pub(crate) fn gathered_whole(complete: &Complete) -> Gathered {
    let body: Map<String, Value> = serde_json::from_slice(&complete.body).unwrap();
    let mut all = Gathered {
        reason: body["choices"][0]["finish_reason"].as_str().unwrap().to_owned(),
        usage: complete.usage,
        produced: complete.produced.text.clone(),
        model: complete.model.clone(),
        ..Gathered::default()
    };
    add(&mut all, &body["choices"][0]["message"]);
    all
}

fn add(all: &mut Gathered, message: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all.content.push_str(&text(&message["content"]));
    all.reasoning.push_str(&text(&message["reasoning_content"]));
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        let function = &call["function"];
        let (id, name, arguments) =
            (text(&call["id"]), text(&function["name"]), text(&function["arguments"]));
        match call["index"].as_u64().and_then(|index| all.calls.get_mut(usize::try_from(index).unwrap())) {
            Some(begun) => begun.2.push_str(&arguments),
            None => all.calls.push((id, name, arguments)),
        }
    }
}
