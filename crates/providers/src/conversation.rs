//! A chat in OpenAI's shape, read: messages, tools and what else all converters need, typed, with every problem named.
//!
//! For servers that speak another protocol. What is here is what OpenAI's reference, Open WebUI and OpenRouter put into a
//! request; each converter says what its server can't take.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

use crate::BadRequest;
use crate::request::shown;

/// A chat, read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Conversation<'a> {
    pub messages: Vec<Message<'a>>,
    pub tools: Vec<Tool<'a>>,
    /// Absent: the model decides.
    pub tool_choice: Option<ToolChoice<'a>>,
    /// Whether several tools may be called at once; absent: yes.
    pub parallel_tool_calls: Option<bool>,
}

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Message<'a> {
    /// Of the system or the developer.
    System(Vec<Part<'a>>),
    /// Of the user.
    User(Vec<Part<'a>>),
    /// Of the model.
    Assistant(Assistant<'a>),
    /// What a tool gave.
    Tool { id: &'a str, content: Vec<Part<'a>> },
}

/// What the model said before.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Assistant<'a> {
    pub content: Vec<Part<'a>>,
    pub calls: Vec<Call<'a>>,
    /// Its reasoning as text, without any proof of it.
    pub reasoning: Option<Cow<'a, str>>,
    /// Its reasoning as we handed it out (OpenRouter, "Preserving reasoning blocks"): `reasoning.text` with `text` and
    /// `signature`, `reasoning.encrypted` with `data` and, for a tool call, its `id`; each with a `format`.
    pub reasoning_details: &'a [Value],
}

/// A call of a tool.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Call<'a> {
    pub id: &'a str,
    pub name: &'a str,
    /// JSON, as text; what the model wrote, so it may be anything.
    pub arguments: &'a str,
}

/// A piece of a message, with the marks that stand on it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part<'a> {
    pub what: Content<'a>,
    /// Anthropic's mark, wherever a client put it: on the part, or on the message for its last part.
    pub cache_control: Option<&'a Value>,
}

/// What a piece of a message is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content<'a> {
    Text(&'a str),
    Image {
        source: Source<'a>,
        detail: Option<&'a str>,
    },
    /// `format`: `wav`, `mp3`, …
    Audio {
        base64: &'a str,
        format: &'a str,
    },
    File {
        source: Source<'a>,
        name: Option<&'a str>,
    },
    /// A file that the client names as Mistral does: it wants the server's own reading of it.
    Document {
        source: Source<'a>,
        name: Option<&'a str>,
    },
}

/// Where a picture or a file is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source<'a> {
    /// In the request.
    Data { media_type: &'a str, base64: Cow<'a, str> },
    /// Somewhere else; we never fetch it.
    Url(&'a str),
    /// With the provider.
    Id(&'a str),
}

/// A tool that the model may call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Tool<'a> {
    pub name: &'a str,
    pub description: Option<&'a str>,
    /// A JSON schema; absent: no parameters.
    pub parameters: Option<&'a Value>,
    /// Whether the schema must be kept to the letter.
    pub strict: Option<bool>,
    pub cache_control: Option<&'a Value>,
}

/// Which tools the model may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ToolChoice<'a> {
    Auto,
    None,
    Required,
    Named(&'a str),
}

/// How much the model is to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reasoning<'a> {
    /// Not at all.
    Off,
    /// `minimal`, `low`, `medium`, `high` or `xhigh`.
    Effort(&'a str),
    /// At most so many tokens.
    Budget(u64),
    /// As the model likes.
    On,
}

/// What a model is told where its server has no mode for answers in JSON: OpenAI's demands that the prompt says it too, but not
/// every client's does.
pub(crate) const JSON_WORDS: &str = "Answer with one JSON object and nothing else.";

/// Whether a request asks for JSON of any form, and says nothing more of it.
pub(crate) fn asks_for_any_json(body: &Map<String, Value>) -> bool {
    let format = body.get("response_format").and_then(Value::as_object);
    format.is_some_and(|format| {
        format.len() == 1 && format.get("type").is_some_and(|kind| kind == "json_object")
    })
}

/// A refusal that names where in the request the problem is.
pub(crate) fn bad(param: impl Into<String>, message: impl Into<String>) -> BadRequest {
    BadRequest::new(message, Some(param.into()))
}

impl<'a> Conversation<'a> {
    /// Reads a request.
    ///
    /// # Errors
    /// Names the part of the request that can't be read.
    pub(crate) fn read(body: &'a Map<String, Value>) -> Result<Self, BadRequest> {
        let messages = body.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let messages = messages
            .iter()
            .enumerate()
            .map(|(index, message)| read_message(message, &format!("messages.{index}")));
        Ok(Self {
            messages: messages.collect::<Result<_, _>>()?,
            tools: read_tools(body)?,
            tool_choice: read_tool_choice(body)?,
            parallel_tool_calls: body.get("parallel_tool_calls").and_then(Value::as_bool),
        })
    }

    /// The name of the tool that was called with that id, for servers that want it beside the result.
    pub(crate) fn name_of_call(&self, id: &str) -> Option<&'a str> {
        let calls = self.messages.iter().rev().filter_map(|message| match message {
            Message::Assistant(assistant) => Some(&assistant.calls),
            _ => None,
        });
        calls.flatten().find(|call| call.id == id).map(|call| call.name)
    }
}

/// How much the request wants the model to think: OpenAI's `reasoning_effort`, or OpenRouter's `reasoning`.
///
/// # Errors
/// Names a value that can't be one.
pub(crate) fn reasoning(body: &Map<String, Value>) -> Result<Option<Reasoning<'_>>, BadRequest> {
    let effort = |param: &str, value: &'_ Value| match value.as_str() {
        Some("none") => Ok(None),
        Some("minimal" | "low" | "medium" | "high" | "xhigh" | "max") => Ok(Some(())),
        _ => Err(bad(param, format!("{param} must be none, minimal, low, medium, high or xhigh"))),
    };
    if let Some(value) = body.get("reasoning_effort").filter(|value| !value.is_null()) {
        let known = effort("reasoning_effort", value)?;
        return Ok(Some(
            known.map_or(Reasoning::Off, |()| Reasoning::Effort(value.as_str().unwrap_or_default())),
        ));
    }
    let Some(reasoning) = body.get("reasoning").filter(|value| !value.is_null()) else { return Ok(None) };
    let Some(reasoning) = reasoning.as_object() else {
        return Err(bad("reasoning", "reasoning must be an object, such as {\"effort\": \"low\"}"));
    };
    if reasoning.get("enabled") == Some(&Value::Bool(false)) {
        return Ok(Some(Reasoning::Off));
    }
    if let Some(budget) = reasoning.get("max_tokens").filter(|value| !value.is_null()) {
        let budget =
            budget.as_u64().ok_or_else(|| bad("reasoning.max_tokens", "it must be a whole number"))?;
        return Ok(Some(if budget == 0 { Reasoning::Off } else { Reasoning::Budget(budget) }));
    }
    if let Some(value) = reasoning.get("effort").filter(|value| !value.is_null()) {
        let known = effort("reasoning.effort", value)?;
        return Ok(Some(
            known.map_or(Reasoning::Off, |()| Reasoning::Effort(value.as_str().unwrap_or_default())),
        ));
    }
    Ok(Some(Reasoning::On))
}

/// The texts at which the model is to stop.
///
/// # Errors
/// If `stop` is neither a text nor a list of texts.
pub(crate) fn stop(body: &Map<String, Value>) -> Result<Vec<&str>, BadRequest> {
    let wrong = || bad("stop", "stop must be a text or a list of texts");
    match body.get("stop") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text]),
        Some(Value::Array(list)) => list.iter().map(|text| text.as_str().ok_or_else(wrong)).collect(),
        Some(_) => Err(wrong()),
    }
}

/// The schema that an answer must keep to, or only that it be JSON.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Format<'a> {
    /// Any JSON object.
    Json,
    /// JSON of a schema with a name.
    Schema { name: &'a str, schema: &'a Value, strict: Option<bool> },
}

/// The wanted format of the answer; `None` for text.
///
/// # Errors
/// Names what can't be read of it.
pub(crate) fn response_format(body: &Map<String, Value>) -> Result<Option<Format<'_>>, BadRequest> {
    let Some(format) = body.get("response_format").filter(|value| !value.is_null()) else { return Ok(None) };
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(Format::Json)),
        Some("json_schema") => {
            let wrong = || bad("response_format.json_schema", "it must have a name and a schema");
            let described = format.get("json_schema").ok_or_else(wrong)?;
            Ok(Some(Format::Schema {
                name: described.get("name").and_then(Value::as_str).unwrap_or("answer"),
                schema: described.get("schema").ok_or_else(wrong)?,
                strict: described.get("strict").and_then(Value::as_bool),
            }))
        }
        _ => Err(bad("response_format", "its type must be text, json_object or json_schema")),
    }
}

fn read_message<'a>(message: &'a Value, at: &str) -> Result<Message<'a>, BadRequest> {
    let Some(object) = message.as_object() else { return Err(bad(at, "a message must be an object")) };
    let text = |field: &str| object.get(field).and_then(Value::as_str);
    let content = || read_content(object, at, |_| false);
    match text("role") {
        Some("system" | "developer") => Ok(Message::System(content()?)),
        Some("user") => Ok(Message::User(content()?)),
        Some("assistant") => {
            let calls = object.get("tool_calls").and_then(Value::as_array).into_iter().flatten();
            let calls =
                calls.enumerate().map(|(index, call)| read_call(call, &format!("{at}.tool_calls.{index}")));
            let mut calls: Vec<Call<'a>> = calls.collect::<Result<_, _>>()?;
            // The form before tools had ids.
            if let Some(call) = object.get("function_call").filter(|call| !call.is_null()) {
                let name = call.get("name").and_then(Value::as_str).unwrap_or_default();
                let arguments = call.get("arguments").and_then(Value::as_str).unwrap_or_default();
                calls.push(Call { id: name, name, arguments });
            }
            let details = object.get("reasoning_details").and_then(Value::as_array);
            let reasoning = text("reasoning_content").or_else(|| text("reasoning"));
            Ok(Message::Assistant(Assistant {
                content: read_content(object, at, is_thought)?,
                calls,
                reasoning: reasoning
                    .filter(|text| !text.is_empty())
                    .map(Cow::Borrowed)
                    .or_else(|| thoughts(object)),
                reasoning_details: details.map(Vec::as_slice).unwrap_or_default(),
            }))
        }
        Some("tool") => match text("tool_call_id") {
            Some(id) => Ok(Message::Tool { id, content: content()? }),
            None => Err(bad(format!("{at}.tool_call_id"), "a message of a tool must name its call")),
        },
        Some("function") => Ok(Message::Tool { id: text("name").unwrap_or_default(), content: content()? }),
        _ => Err(bad(format!("{at}.role"), "the role must be system, developer, user, assistant or tool")),
    }
}

fn read_call<'a>(call: &'a Value, at: &str) -> Result<Call<'a>, BadRequest> {
    let function =
        call.get("function").ok_or_else(|| bad(at, "only calls of functions can be understood here"))?;
    let name = function.get("name").and_then(Value::as_str);
    Ok(Call {
        id: call.get("id").and_then(Value::as_str).unwrap_or_default(),
        name: name.ok_or_else(|| bad(format!("{at}.function.name"), "a call must name its function"))?,
        arguments: function.get("arguments").and_then(Value::as_str).unwrap_or_default(),
    })
}

/// Whether a part is reasoning (Mistral, "Reasoning"; Anthropic, "Extended thinking").
fn is_thought(part: &Value) -> bool {
    let kind = part.get("type").and_then(Value::as_str);
    matches!(kind, Some("thinking" | "reasoning" | "redacted_thinking"))
}

/// The reasoning that stands among the parts of a message.
fn thoughts(message: &Map<String, Value>) -> Option<Cow<'_, str>> {
    let parts = message.get("content")?.as_array()?.iter().filter(|part| is_thought(part));
    let texts: Vec<&str> = parts.flat_map(shown).filter(|text| !text.is_empty()).collect();
    match texts[..] {
        [] => None,
        [text] => Some(Cow::Borrowed(text)),
        _ => Some(Cow::Owned(texts.concat())),
    }
}

/// The parts of a message but for those that are read elsewhere; empty texts are left out.
fn read_content<'a>(
    message: &'a Map<String, Value>,
    at: &str,
    elsewhere: fn(&Value) -> bool,
) -> Result<Vec<Part<'a>>, BadRequest> {
    let mark = message.get("cache_control").filter(|mark| !mark.is_null());
    let mut parts = match message.get("content") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) if text.is_empty() => Vec::new(),
        Some(Value::String(text)) => vec![Part { what: Content::Text(text), cache_control: None }],
        Some(Value::Array(list)) => {
            let mut parts = Vec::with_capacity(list.len());
            for (index, part) in list.iter().enumerate().filter(|(_, part)| !elsewhere(part)) {
                parts.extend(read_part(part, &format!("{at}.content.{index}"))?);
            }
            parts
        }
        Some(_) => return Err(bad(format!("{at}.content"), "content must be a text or a list of parts")),
    };
    if let (Some(last), Some(mark)) = (parts.last_mut(), mark) {
        last.cache_control.get_or_insert(mark);
    }
    Ok(parts)
}

fn read_part<'a>(part: &'a Value, at: &str) -> Result<Option<Part<'a>>, BadRequest> {
    let text = |value: &'a Value, field: &str| value.get(field).and_then(Value::as_str);
    let what = match text(part, "type") {
        // Open WebUI writes the Responses API's names into the results of tools.
        Some("text" | "input_text" | "output_text") => Content::Text(text(part, "text").unwrap_or_default()),
        Some("refusal") => Content::Text(text(part, "refusal").unwrap_or_default()),
        Some("image_url" | "input_image") => {
            let image = part.get("image_url").unwrap_or(&Value::Null);
            let url = image.as_str().or_else(|| text(image, "url"));
            let url = url.ok_or_else(|| bad(format!("{at}.image_url"), "a picture must have a url"))?;
            let detail = text(image, "detail").or_else(|| text(part, "detail"));
            Content::Image { source: source(url, at)?, detail }
        }
        Some("input_audio") => {
            let audio = part.get("input_audio").unwrap_or(&Value::Null);
            let wrong = || bad(format!("{at}.input_audio"), "audio must have data and a format");
            let (base64, format) =
                (text(audio, "data").ok_or_else(wrong)?, text(audio, "format").ok_or_else(wrong)?);
            Content::Audio { base64, format }
        }
        Some("file") => {
            let file = part.get("file").unwrap_or(&Value::Null);
            let name = text(file, "filename");
            let source = match (text(file, "file_data"), text(file, "file_id")) {
                (Some(data), _) if data.starts_with("data:") || data.contains("://") => source(data, at)?,
                (Some(data), _) => {
                    Source::Data { media_type: "application/pdf", base64: Cow::Borrowed(data) }
                }
                (None, Some(id)) => Source::Id(id),
                (None, None) => {
                    return Err(bad(format!("{at}.file"), "a file must have file_data or a file_id"));
                }
            };
            Content::File { source, name }
        }
        Some("document_url") => {
            let document = part.get("document_url").unwrap_or(&Value::Null);
            let url = document.as_str().or_else(|| text(document, "url"));
            let url = url.ok_or_else(|| bad(format!("{at}.document_url"), "a document must have a url"))?;
            Content::Document { source: source(url, at)?, name: text(part, "document_name") }
        }
        Some(other) => return Err(bad(at, format!("parts of the type {other} can't be understood here"))),
        None => return Err(bad(format!("{at}.type"), "a part must have a type")),
    };
    if what == Content::Text("") {
        return Ok(None);
    }
    Ok(Some(Part { what, cache_control: part.get("cache_control").filter(|mark| !mark.is_null()) }))
}

/// A URL, or the data in a data URL (RFC 2397, base64 only).
fn source<'a>(url: &'a str, at: &str) -> Result<Source<'a>, BadRequest> {
    let Some(rest) = url.strip_prefix("data:") else { return Ok(Source::Url(url)) };
    let wrong = || bad(at, "a data URL must be data:TYPE;base64,DATA");
    let (head, data) = rest.split_once(',').ok_or_else(wrong)?;
    let media_type = head.strip_suffix(";base64").ok_or_else(wrong)?;
    let media_type = media_type.split(';').next().unwrap_or_default();
    if media_type.is_empty() || data.is_empty() {
        return Err(wrong());
    }
    // Some clients break the lines of long data.
    let broken = data.bytes().any(|byte| byte.is_ascii_whitespace());
    let base64 =
        if broken { Cow::Owned(data.split_ascii_whitespace().collect()) } else { Cow::Borrowed(data) };
    Ok(Source::Data { media_type, base64 })
}

/// Base64 with or without padding, of either alphabet (RFC 4648).
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The data that base64 text stands for, if it does.
pub(crate) fn from_base64(base64: &str) -> Option<Vec<u8>> {
    let digits = if base64.contains(['-', '_']) {
        Cow::Owned(base64.replace('-', "+").replace('_', "/"))
    } else {
        Cow::Borrowed(base64)
    };
    BASE64.decode(digits.as_bytes()).ok()
}

fn read_tools(body: &Map<String, Value>) -> Result<Vec<Tool<'_>>, BadRequest> {
    let tools = body.get("tools").and_then(Value::as_array).into_iter().flatten().enumerate();
    let tools = tools.map(|(index, tool)| {
        let at = format!("tools.{index}");
        let function = tool
            .get("function")
            .ok_or_else(|| bad(&at, "only tools of the type function can be used here"))?;
        read_function(function, tool.get("cache_control"), &at)
    });
    // The form before there were other tools than functions.
    let functions = body.get("functions").and_then(Value::as_array).into_iter().flatten().enumerate();
    let functions =
        functions.map(|(index, function)| read_function(function, None, &format!("functions.{index}")));
    tools.chain(functions).collect()
}

fn read_function<'a>(function: &'a Value, mark: Option<&'a Value>, at: &str) -> Result<Tool<'a>, BadRequest> {
    let name = function.get("name").and_then(Value::as_str);
    Ok(Tool {
        name: name.ok_or_else(|| bad(format!("{at}.function.name"), "a tool must have a name"))?,
        description: function.get("description").and_then(Value::as_str),
        parameters: function.get("parameters").filter(|schema| schema.is_object()),
        strict: function.get("strict").and_then(Value::as_bool),
        cache_control: mark.or_else(|| function.get("cache_control")).filter(|mark| !mark.is_null()),
    })
}

fn read_tool_choice(body: &Map<String, Value>) -> Result<Option<ToolChoice<'_>>, BadRequest> {
    let choice =
        body.get("tool_choice").or_else(|| body.get("function_call")).filter(|choice| !choice.is_null());
    let Some(choice) = choice else { return Ok(None) };
    let name = choice.pointer("/function/name").or_else(|| choice.get("name")).and_then(Value::as_str);
    match (choice.as_str(), name) {
        (Some("auto"), _) => Ok(Some(ToolChoice::Auto)),
        (Some("none"), _) => Ok(Some(ToolChoice::None)),
        (Some("required" | "any"), _) => Ok(Some(ToolChoice::Required)),
        (_, Some(name)) => Ok(Some(ToolChoice::Named(name))),
        _ => Err(bad("tool_choice", "tool_choice must be auto, none, required, or name a function")),
    }
}

#[cfg(test)]
mod tests;
