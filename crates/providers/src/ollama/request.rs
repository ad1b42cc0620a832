//! From our inner shape to Ollama's requests. Pure.

use std::borrow::Cow;

use http::Uri;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::wire;
use crate::conversation::{
    self, Assistant, Content, Conversation, Format, Part, Reasoning, Source, ToolChoice, bad,
};
use crate::protocol::Outgoing;
use crate::{BadRequest, ChatRequest, EmbeddingsRequest};

/// What Ollama takes as `options` (`docs/modelfile.mdx`, "Valid parameters"), and OpenAI's fields of the same name.
/// Those that choose hardware or the size of the context, and how long a model stays loaded, are the administrator's matter:
/// they would load the model anew for everyone. They are set at the server, or in the model's own file.
const OPTIONS: [&str; 16] = [
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "tfs_z",
    "seed",
    "repeat_penalty",
    "repeat_last_n",
    "presence_penalty",
    "frequency_penalty",
    "penalize_newline",
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
    "num_keep",
];

/// What passes beside `options`, under its own name.
const PASSING: [&str; 4] = ["truncate", "shift", "logprobs", "top_logprobs"];

/// Fields that are read elsewhere, or that mean nothing here whatever they say.
const READ: [&str; 19] = [
    "model",
    "messages",
    "tools",
    "functions",
    "tool_choice",
    "function_call",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "num_predict",
    "stop",
    "n",
    "response_format",
    "options",
    "reasoning",
    "reasoning_effort",
    "think",
    "format",
];

/// A chat.
pub(super) fn chat(uri: Uri, request: &ChatRequest) -> Result<Outgoing, BadRequest> {
    let body = request.body();
    if request.choices() > 1 {
        return Err(bad("n", "this model server gives one answer at a time: leave n out"));
    }
    let chat = Conversation::read(body)?;
    let mut omitted = Vec::new();
    let tools = tools(&chat, &mut omitted)?;
    let mut messages = Vec::with_capacity(chat.messages.len());
    for (index, message) in chat.messages.iter().enumerate() {
        messages.push(self::message(&chat, message, &format!("messages.{index}"))?);
    }
    let think = think(request, &mut omitted)?;
    let format = match conversation::response_format(body)? {
        Some(Format::Json) => Some(json!("json")),
        Some(Format::Schema { schema, .. }) => Some(schema.clone()),
        None => said(body, "format").cloned(),
    };
    let options = options(request, &mut omitted)?;
    let mut passing = Map::new();
    for field in PASSING {
        if let Some(value) = said(body, field) {
            passing.insert(field.to_owned(), value.clone());
        }
    }
    for (field, value) in body {
        let field = field.as_str();
        let known = OPTIONS.contains(&field) || PASSING.contains(&field) || READ.contains(&field);
        if !known && !harmless(field, value) {
            omitted.push(field.to_owned());
        }
    }
    let chat = wire::Chat {
        model: request.model(),
        messages,
        tools,
        stream: request.stream(),
        think,
        format,
        options,
        passing,
    };
    Ok(Outgoing::json(uri, &chat)?.omitting(omitted))
}

/// Whether nothing is lost without a field, because it says what is so anyway.
fn harmless(field: &str, value: &Value) -> bool {
    match field {
        "parallel_tool_calls" => value != &Value::Bool(false),
        // All others of their values are refused before.
        "service_tier" | "modalities" => true,
        _ => matches!(value, Value::Null | Value::Bool(false)),
    }
}

fn said<'a>(body: &'a Map<String, Value>, field: &str) -> Option<&'a Value> {
    body.get(field).filter(|value| !value.is_null())
}

/// A client's own `options` of the allowed names, then the fields beside them, and the output limit.
fn options(request: &ChatRequest, omitted: &mut Vec<String>) -> Result<Map<String, Value>, BadRequest> {
    let body = request.body();
    let mut options = Map::new();
    let mut limits = vec![request.output_limit()];
    match said(body, "options") {
        None => {}
        Some(Value::Object(given)) => {
            for (name, value) in given.iter().filter(|(_, value)| !value.is_null()) {
                match name.as_str() {
                    "num_predict" => limits.push(output_limit(value, "options.num_predict")?),
                    "stop" => {
                        let stop = conversation::stop(given).map_err(|_| {
                            bad("options.stop", "options.stop must be a text or a list of texts")
                        })?;
                        options.insert("stop".into(), stop.into());
                    }
                    name if OPTIONS.contains(&name) => {
                        options.insert(name.to_owned(), value.clone());
                    }
                    name => omitted.push(format!("options.{name}")),
                }
            }
        }
        Some(_) => return Err(bad("options", "options must be an object")),
    }
    for name in OPTIONS {
        if let Some(value) = said(body, name) {
            options.insert(name.to_owned(), value.clone());
        }
    }
    if let Some(value) = said(body, "num_predict") {
        limits.push(output_limit(value, "num_predict")?);
    }
    let stop = conversation::stop(body)?;
    if !stop.is_empty() {
        options.insert("stop".into(), stop.into());
    }
    // Below zero is without a limit there, so the smallest of those that are limits counts.
    if let Some(limit) = limits.into_iter().flatten().min() {
        options.insert("num_predict".into(), limit.max(1).into());
    }
    Ok(options)
}

/// Ollama's limit of the output: below zero is none.
fn output_limit(value: &Value, at: &str) -> Result<Option<u64>, BadRequest> {
    match (value.as_u64(), value.as_i64()) {
        // As below zero.
        (Some(0), _) => Ok(None),
        (Some(limit), _) => Ok(Some(limit)),
        (None, Some(_)) => Ok(None),
        (None, None) => Err(bad(at, format!("{at} must be a whole number"))),
    }
}

/// Most models think or don't; those of the family gpt-oss take a level instead, and others refuse one.
fn think(request: &ChatRequest, omitted: &mut Vec<String>) -> Result<Option<Value>, BadRequest> {
    if let Some(think) = said(request.body(), "think") {
        return Ok(Some(think.clone()));
    }
    let levels = request.model().contains("gpt-oss");
    Ok(match conversation::reasoning(request.body())? {
        None => None,
        Some(Reasoning::Off) => Some(Value::Bool(false)),
        Some(Reasoning::Effort(effort)) if levels => Some(match effort {
            "minimal" | "low" => json!("low"),
            "medium" => json!("medium"),
            _ => json!("high"),
        }),
        Some(Reasoning::Effort(_) | Reasoning::On) => Some(Value::Bool(true)),
        Some(Reasoning::Budget(_)) => {
            omitted.push("reasoning.max_tokens".into());
            Some(Value::Bool(true))
        }
    })
}

fn tools(chat: &Conversation<'_>, omitted: &mut Vec<String>) -> Result<Vec<Value>, BadRequest> {
    match chat.tool_choice {
        // What is not offered is not called.
        Some(ToolChoice::None) => return Ok(Vec::new()),
        Some(ToolChoice::Required | ToolChoice::Named(_)) => {
            return Err(bad(
                "tool_choice",
                "this model server can't be made to call a tool: use auto or none",
            ));
        }
        Some(ToolChoice::Auto) | None => {}
    }
    if chat.tools.iter().any(|tool| tool.strict == Some(true)) {
        omitted.push("tools.function.strict".into());
    }
    let none = json!({"type": "object", "properties": {}});
    let tools = chat.tools.iter().map(|tool| {
        let description = tool.description.unwrap_or_default();
        let parameters = tool.parameters.unwrap_or(&none);
        json!({"type": "function", "function":
            {"name": tool.name, "description": description, "parameters": parameters}})
    });
    Ok(tools.collect())
}

fn message<'a>(
    chat: &Conversation<'a>,
    message: &'a conversation::Message<'a>,
    at: &str,
) -> Result<wire::Message<'a>, BadRequest> {
    let (role, parts) = match message {
        conversation::Message::System(parts) => ("system", parts),
        conversation::Message::User(parts) => ("user", parts),
        conversation::Message::Assistant(assistant) => ("assistant", &assistant.content),
        conversation::Message::Tool { content, .. } => ("tool", content),
    };
    let (content, images) = content(parts, at)?;
    let message = match message {
        conversation::Message::Assistant(assistant) => wire::Message {
            thinking: thinking(assistant),
            tool_calls: calls(assistant, at)?,
            ..wire::Message::default()
        },
        conversation::Message::Tool { id, .. } => wire::Message {
            tool_name: chat.name_of_call(id),
            tool_call_id: Some(id).filter(|id| !id.is_empty()).copied(),
            ..wire::Message::default()
        },
        _ => wire::Message::default(),
    };
    Ok(wire::Message { role, content, images, ..message })
}

/// All text of a message, one part below the other, and its pictures.
fn content<'a>(parts: &'a [Part<'a>], at: &str) -> Result<(Cow<'a, str>, Vec<Cow<'a, str>>), BadRequest> {
    let mut text = Cow::Borrowed("");
    let mut images = Vec::new();
    for part in parts {
        match &part.what {
            Content::Text(more) if text.is_empty() => text = Cow::Borrowed(more),
            Content::Text(more) => {
                let text = text.to_mut();
                text.push('\n');
                text.push_str(more);
            }
            Content::Image { source: Source::Data { base64, .. }, .. } => {
                images.push(Cow::Borrowed(&**base64));
            }
            Content::Image { .. } => {
                let message = "this model server takes pictures only within the request, as a data URL";
                return Err(bad(at, message));
            }
            Content::Audio { .. } => return Err(bad(at, "this model server takes no audio")),
            Content::File { .. } | Content::Document { .. } => {
                return Err(bad(at, "this model server takes no files: send their text instead"));
            }
        }
    }
    Ok((text, images))
}

fn thinking<'a>(assistant: &Assistant<'a>) -> Option<Cow<'a, str>> {
    if let Some(text) = &assistant.reasoning {
        return Some(text.clone());
    }
    let texts = assistant.reasoning_details.iter().filter_map(|detail| detail.get("text")?.as_str());
    let text: String = texts.collect();
    (!text.is_empty()).then_some(Cow::Owned(text))
}

fn calls<'a>(assistant: &Assistant<'a>, at: &str) -> Result<Vec<wire::Call<'a>>, BadRequest> {
    let calls = assistant.calls.iter().map(|call| {
        let function = wire::CalledFunction { name: call.name, arguments: arguments(call.arguments, at)? };
        Ok(wire::Call { id: call.id, function })
    });
    calls.collect()
}

/// The arguments of a call, which must be an object. What a model wrote may be anything, and must not end the chat.
fn arguments<'a>(text: &'a str, at: &str) -> Result<Cow<'a, RawValue>, BadRequest> {
    let object = if text.trim().is_empty() { "{}" } else { text.trim() };
    if object.starts_with('{')
        && let Ok(raw) = serde_json::from_str::<&RawValue>(object)
    {
        return Ok(Cow::Borrowed(raw));
    }
    let raw = serde_json::value::to_raw_value(&json!({ "arguments": text }));
    raw.map(Cow::Owned).map_err(|_| bad(at, "the arguments of a call can't be written"))
}

/// Texts to embed.
pub(super) fn embeddings(uri: Uri, request: &EmbeddingsRequest) -> Result<Outgoing, BadRequest> {
    if request.token_count() > 0 {
        return Err(bad("input", "this model server embeds texts, not tokens"));
    }
    let mut body = Map::new();
    let mut omitted = Vec::new();
    for (field, value) in request.body().iter().filter(|(_, value)| !value.is_null()) {
        match field.as_str() {
            "model" | "input" | "dimensions" | "truncate" => {
                body.insert(field.clone(), value.clone());
            }
            // Done here, when the answer comes.
            "encoding_format" => {}
            _ => omitted.push(field.clone()),
        }
    }
    Ok(Outgoing::json(uri, &body)?.omitting(omitted))
}
