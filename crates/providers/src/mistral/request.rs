//! From our inner shape to Mistral's requests. Pure.

use std::borrow::Cow;

use http::Uri;
use serde_json::{Map, Value, json};

use super::wire;
use crate::conversation::{self, Assistant, Content, Conversation, Part, Reasoning, Source, ToolChoice, bad};
use crate::protocol::Outgoing;
use crate::{BadRequest, ChatRequest, EmbeddingsRequest};

/// Pictures of one request ("Vision", FAQ).
const MOST_IMAGES: usize = 8;
/// One picture, in bytes ("Vision", FAQ).
const LARGEST_IMAGE: usize = 10 * 1024 * 1024;
/// One document, in bytes ("Document QnA").
const LARGEST_DOCUMENT: usize = 50 * 1024 * 1024;

/// What stands for a model that was stopped before it said anything.
pub(super) const SILENT: &str = "(stopped)";

/// What Mistral knows under the same name.
const PASSING: [&str; 15] = [
    "model",
    "stream",
    "temperature",
    "top_p",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "n",
    "response_format",
    "parallel_tool_calls",
    "safe_prompt",
    "prompt_mode",
    "metadata",
    "random_seed",
    "prompt_cache_key",
];

/// Fields that are read elsewhere, or that are ours.
const READ: [&str; 11] = [
    "messages",
    "tools",
    "functions",
    "tool_choice",
    "function_call",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "seed",
    "reasoning",
    "reasoning_effort",
];

/// A chat.
pub(super) fn chat(uri: Uri, request: &ChatRequest) -> Result<Outgoing, BadRequest> {
    let body = request.body();
    let mut omitted = Vec::new();
    let chat = Conversation::read(body)?;
    conversation::stop(body)?;
    conversation::response_format(body)?;
    let mut sent = Map::new();
    for (field, value) in body.iter().filter(|(_, value)| !value.is_null()) {
        match field.as_str() {
            name if PASSING.contains(&name) => {
                sent.insert(name.to_owned(), value.clone());
            }
            name if READ.contains(&name) || value == &Value::Bool(false) => {}
            "logprobs" => {
                return Err(bad("logprobs", "this model server tells no logprobs: leave logprobs out"));
            }
            name @ ("prediction" | "guardrails") => {
                return Err(bad(name, format!("`{name}` can't be used here: it has no price")));
            }
            // All others of their values are refused before.
            "service_tier" | "modalities" => {}
            name => omitted.push(name.to_owned()),
        }
    }
    if let Some(limit) = request.output_limit() {
        sent.insert("max_tokens".into(), limit.into());
    }
    if let (Some(seed), false) =
        (body.get("seed").filter(|seed| !seed.is_null()), sent.contains_key("random_seed"))
    {
        sent.insert("random_seed".into(), seed.clone());
    }
    if let Some(effort) = effort(request, &mut omitted)? {
        sent.insert("reasoning_effort".into(), effort.into());
    }
    tools(&chat, &mut sent);
    let messages = messages(body, &chat, request.model(), &mut omitted)?;
    Ok(Outgoing::json(uri, &wire::Chat { fields: sent, messages })?.omitting(omitted))
}

fn tools(chat: &Conversation<'_>, sent: &mut Map<String, Value>) {
    if chat.tools.is_empty() {
        return;
    }
    let none = json!({"type": "object", "properties": {}});
    let tools = chat.tools.iter().map(|tool| {
        let mut function = json!({"name": tool.name, "parameters": tool.parameters.unwrap_or(&none)});
        if let Some(description) = tool.description {
            function["description"] = description.into();
        }
        if let Some(strict) = tool.strict {
            function["strict"] = strict.into();
        }
        json!({"type": "function", "function": function})
    });
    sent.insert("tools".into(), tools.collect());
    let choice = match chat.tool_choice {
        None => return,
        Some(ToolChoice::Auto) => json!("auto"),
        Some(ToolChoice::None) => json!("none"),
        Some(ToolChoice::Required) => json!("any"),
        Some(ToolChoice::Named(name)) => json!({"type": "function", "function": {"name": name}}),
    };
    sent.insert("tool_choice".into(), choice);
}

/// How a model takes `reasoning_effort` ("Reasoning").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Efforts {
    /// Not at all.
    Unknown,
    /// `none` or `high`.
    OnOrOff,
    /// `low`, `medium` and `high` too.
    Levels,
}

fn efforts(model: &str) -> Efforts {
    const LEVELS: [&str; 1] = ["mistral-large-4"];
    const ON_OR_OFF: [&str; 6] = [
        "mistral-small-latest",
        "mistral-small-26",
        "mistral-small-4",
        "mistral-medium-3-5",
        "mistral-medium-3.5",
        "mistral-medium-26",
    ];
    let one_of = |names: &[&str]| names.iter().any(|name| model.starts_with(name));
    match () {
        () if one_of(&LEVELS) => Efforts::Levels,
        () if one_of(&ON_OR_OFF) => Efforts::OnOrOff,
        () => Efforts::Unknown,
    }
}

/// Whether a model takes its own thoughts back.
fn thinks(model: &str) -> bool {
    efforts(model) != Efforts::Unknown || model.starts_with("magistral")
}

fn effort(request: &ChatRequest, omitted: &mut Vec<String>) -> Result<Option<&'static str>, BadRequest> {
    let Some(reasoning) = conversation::reasoning(request.body())? else { return Ok(None) };
    if matches!(reasoning, Reasoning::Budget(_)) {
        omitted.push("reasoning.max_tokens".into());
    }
    Ok(match (efforts(request.model()), reasoning) {
        (Efforts::Unknown, Reasoning::Budget(_)) => None,
        (Efforts::Unknown, _) => {
            let said = request.body().get("reasoning_effort").is_some_and(|effort| !effort.is_null());
            omitted.push(if said { "reasoning_effort" } else { "reasoning" }.into());
            None
        }
        (_, Reasoning::Off) => Some("none"),
        (Efforts::OnOrOff, Reasoning::Effort("minimal")) => Some("none"),
        (Efforts::Levels, Reasoning::Effort("minimal" | "low")) => Some("low"),
        (Efforts::Levels, Reasoning::Effort("medium")) => Some("medium"),
        (_, Reasoning::Effort(_) | Reasoning::Budget(_) | Reasoning::On) => Some("high"),
    })
}

fn messages<'a>(
    body: &'a Map<String, Value>,
    chat: &'a Conversation<'a>,
    model: &str,
    omitted: &mut Vec<String>,
) -> Result<Vec<wire::Message<'a>>, BadRequest> {
    let raw = body.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut images = 0;
    let mut messages = Vec::with_capacity(chat.messages.len());
    for (index, message) in chat.messages.iter().enumerate() {
        let at = format!("messages.{index}");
        match message {
            conversation::Message::System(parts) => {
                if parts.iter().any(|part| !matches!(part.what, Content::Text(_))) {
                    return Err(bad(at, "this model server takes only text in a message of the system"));
                }
                let content = Some(content(parts, &at, &mut images)?);
                messages.push(wire::Message { role: "system", content, ..wire::Message::default() });
            }
            conversation::Message::User(parts) => {
                // There, the model speaks after a result, even where it was stopped before it could ("Function calling").
                if messages.last().is_some_and(|before: &wire::Message<'_>| before.role == "tool") {
                    let content = Some(wire::Content::Text(SILENT));
                    messages.push(wire::Message { role: "assistant", content, ..wire::Message::default() });
                }
                let content = Some(content(parts, &at, &mut images)?);
                messages.push(wire::Message { role: "user", content, ..wire::Message::default() });
            }
            conversation::Message::Tool { id, content: parts } => {
                let given = raw.get(index).and_then(|message| message.get("name")).and_then(Value::as_str);
                messages.push(wire::Message {
                    role: "tool",
                    content: Some(content(parts, &at, &mut images)?),
                    tool_call_id: Some(call_id(id)),
                    name: given.or_else(|| chat.name_of_call(id)),
                    ..wire::Message::default()
                });
            }
            conversation::Message::Assistant(assistant) => {
                // One that says nothing is refused there, and says nothing.
                if let Some(said) = said(assistant, &at, model, omitted)? {
                    let last = index + 1 == chat.messages.len();
                    messages.push(wire::Message { prefix: last && said.tool_calls.is_empty(), ..said });
                }
            }
        }
    }
    if images > MOST_IMAGES {
        let message =
            format!("this model server takes at most {MOST_IMAGES} pictures in a chat: here are {images}");
        return Err(bad("messages", message));
    }
    Ok(messages)
}

fn said<'a>(
    assistant: &'a Assistant<'a>,
    at: &str,
    model: &str,
    omitted: &mut Vec<String>,
) -> Result<Option<wire::Message<'a>>, BadRequest> {
    if assistant.content.iter().any(|part| !matches!(part.what, Content::Text(_))) {
        return Err(bad(at, "this model server takes only text in a message of the model"));
    }
    let mut content = match &assistant.content[..] {
        [] => None,
        parts => Some(self::content(parts, at, &mut 0)?),
    };
    let details = assistant.reasoning_details.iter().filter_map(|detail| detail.get("text")?.as_str());
    let thoughts: Vec<&str> =
        assistant.reasoning.as_deref().map_or_else(|| details.collect(), |text| vec![text]);
    if !thoughts.is_empty() {
        if thinks(model) {
            let thinking = thoughts.into_iter().map(|text| wire::Part::Text { text }).collect();
            let text = match content.take() {
                None => Vec::new(),
                Some(wire::Content::Text(text)) => vec![wire::Part::Text { text }],
                Some(wire::Content::Parts(parts)) => parts,
            };
            let parts = std::iter::once(wire::Part::Thinking { thinking }).chain(text).collect();
            content = Some(wire::Content::Parts(parts));
        } else if !omitted.iter().any(|field| field == "messages.reasoning_content") {
            omitted.push("messages.reasoning_content".into());
        }
    }
    let calls = assistant.calls.iter().map(|call| {
        let arguments = if call.arguments.trim().is_empty() { "{}" } else { call.arguments };
        let function = wire::Function { name: call.name, arguments };
        wire::Call { id: call_id(call.id), kind: "function", function }
    });
    let tool_calls: Vec<_> = calls.collect();
    if content.is_none() && tool_calls.is_empty() {
        return Ok(None);
    }
    Ok(Some(wire::Message { role: "assistant", content, tool_calls, ..wire::Message::default() }))
}

fn content<'a>(parts: &'a [Part<'a>], at: &str, images: &mut usize) -> Result<wire::Content<'a>, BadRequest> {
    match parts {
        [] => return Ok(wire::Content::Text("")),
        [Part { what: Content::Text(text), .. }] => return Ok(wire::Content::Text(text)),
        _ => {}
    }
    let parts = parts.iter().map(|part| {
        Ok(match &part.what {
            Content::Text(text) => wire::Part::Text { text },
            Content::Image { source, detail } => {
                *images += 1;
                let url = url(source, at, LARGEST_IMAGE)?;
                let image_url = match detail {
                    Some(detail) => wire::Image::Detailed { url, detail },
                    None => wire::Image::Url(url),
                };
                wire::Part::ImageUrl { image_url }
            }
            Content::Audio { base64, .. } => wire::Part::InputAudio { input_audio: base64 },
            Content::Document { source, name } => {
                let document_url = url(source, at, LARGEST_DOCUMENT)?;
                wire::Part::DocumentUrl { document_url, document_name: *name }
            }
            Content::File { .. } => {
                let message = "documents can't be used here: this model server reads them page by page, for a fee that \
                               has no price; send their text instead";
                return Err(bad(at, message));
            }
        })
    });
    Ok(wire::Content::Parts(parts.collect::<Result<_, BadRequest>>()?))
}

/// Mistral fetches addresses itself.
fn url<'a>(source: &'a Source<'a>, at: &str, largest: usize) -> Result<Cow<'a, str>, BadRequest> {
    match source {
        Source::Url(url) => Ok(Cow::Borrowed(url)),
        Source::Data { media_type, base64 } => {
            if base64::decoded_len_estimate(base64.len()) > largest {
                let most = largest / (1024 * 1024);
                return Err(bad(at, format!("this model server takes at most {most} MB at a time")));
            }
            Ok(Cow::Owned(format!("data:{media_type};base64,{base64}")))
        }
        Source::Id(_) => {
            Err(bad(at, "files that are stored with the model server can't be used here: send the file"))
        }
    }
}

/// The id of a call as Mistral takes it: nine letters or digits. Others become such, the same always the same.
pub(super) fn call_id(id: &str) -> Cow<'_, str> {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const LENGTH: usize = 9;
    if id.len() == LENGTH && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Cow::Borrowed(id);
    }
    // FNV-1a stays the same in all versions and processes.
    let mut hash = id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let mut mapped = String::with_capacity(LENGTH);
    for _ in 0..LENGTH {
        mapped.push(char::from(DIGITS[(hash % 62) as usize]));
        hash /= 62;
    }
    Cow::Owned(mapped)
}

/// Texts to embed.
pub(super) fn embeddings(uri: Uri, request: &EmbeddingsRequest) -> Result<Outgoing, BadRequest> {
    if request.token_count() > 0 {
        return Err(bad("input", "this model server embeds texts, not tokens"));
    }
    let mut sent = Map::new();
    let mut omitted = Vec::new();
    for (field, value) in request.body().iter().filter(|(_, value)| !value.is_null()) {
        match field.as_str() {
            "dimensions" | "output_dimension" => {
                sent.insert("output_dimension".into(), value.clone());
            }
            "model" | "input" | "output_dtype" | "metadata" => {
                sent.insert(field.clone(), value.clone());
            }
            // Done here, when the answer comes.
            "encoding_format" => {}
            _ => omitted.push(field.clone()),
        }
    }
    Ok(Outgoing::json(uri, &sent)?.omitting(omitted))
}
