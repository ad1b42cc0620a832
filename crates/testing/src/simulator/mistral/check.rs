//! What Mistral's API refuses, as far as a converter could get it wrong.

use serde_json::Value;

use crate::simulator::asked::{Incoming, Refused};

const FIELDS: [&str; 32] = [
    "model",
    "messages",
    "temperature",
    "top_p",
    "max_tokens",
    "stream",
    "stop",
    "random_seed",
    "metadata",
    "response_format",
    "tools",
    "tool_choice",
    "presence_penalty",
    "frequency_penalty",
    "min_tokens",
    "repetition_penalty",
    "top_k",
    "logprobs",
    "top_logprobs",
    "prompt_logprobs",
    "top_prompt_logprobs",
    "n",
    "prediction",
    "parallel_tool_calls",
    "reasoning_effort",
    "prompt_mode",
    "guardrails",
    "prompt_cache_key",
    "service_tier",
    "safe_prompt",
    "stream_options",
    "context_length_exceeded_behavior",
];
const EMBEDDING_FIELDS: [&str; 6] =
    ["model", "input", "metadata", "output_dimension", "output_dtype", "encoding_format"];
const PARTS: [&str; 7] =
    ["text", "image_url", "document_url", "input_audio", "thinking", "file", "reference"];
/// Characters of the id of a call.
const ID: usize = 9;

pub(super) fn key(incoming: &Incoming) -> Result<(), Refused> {
    if incoming.has_bearer() { Ok(()) } else { Err(Refused::new(401, "Unauthorized")) }
}

fn no<T>(message: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::new(400, message))
}

fn known(value: &Value, fields: &[&str], at: &str) -> Result<(), Refused> {
    let mut names = value.as_object().into_iter().flatten().map(|(field, _)| field);
    match names.find(|field| !fields.contains(&field.as_str())) {
        None => Ok(()),
        Some(field) => {
            let refused = Refused::new(422, "Extra inputs are not permitted");
            Err(Refused { param: Some(format!("{at}{field}")), ..refused })
        }
    }
}

pub(super) fn embeddings(body: &Value) -> Result<(), Refused> {
    known(body, &EMBEDDING_FIELDS, "")
}

pub(super) fn body(body: &Value) -> Result<(), Refused> {
    known(body, &FIELDS, "")?;
    for tool in body.get("tools").and_then(Value::as_array).into_iter().flatten() {
        known(tool, &["type", "function"], "tools.")?;
        let function = tool.get("function").unwrap_or(&Value::Null);
        known(function, &["name", "description", "strict", "parameters"], "tools.function.")?;
        if !function.get("parameters").is_some_and(Value::is_object) {
            return no("tools.function.parameters: Field required");
        }
    }
    let messages = body.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if messages.is_empty() {
        return no("messages: at least one message is required");
    }
    let mut last_role = "";
    let mut open: Vec<&str> = Vec::new();
    for message in messages {
        let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
        if last_role == "tool" && role == "user" {
            return no("Unexpected role 'user' after role 'tool'");
        }
        if role != "tool" && !open.is_empty() {
            return no("Not the same number of function calls and responses");
        }
        let fields: &[&str] = match role {
            "system" | "user" => &["role", "content"],
            "assistant" => &["role", "content", "tool_calls", "prefix"],
            "tool" => &["role", "content", "tool_call_id", "name"],
            other => {
                let refused = Refused::new(
                    422,
                    format!("Input tag '{other}' found using 'role' does not match any of the expected tags"),
                );
                return Err(Refused { param: Some("messages.role".into()), ..refused });
            }
        };
        known(message, fields, "messages.")?;
        content(message.get("content"))?;
        match role {
            "assistant" => open = calls(message)?,
            "tool" => {
                let id = message.get("tool_call_id").and_then(Value::as_str).unwrap_or_default();
                let count = open.len();
                open.retain(|call| *call != id);
                if open.len() == count {
                    return no("Unexpected tool call id in tool results");
                }
            }
            _ => {}
        }
        last_role = role;
    }
    if !open.is_empty() {
        return no("Not the same number of function calls and responses");
    }
    let prefix = messages.last().and_then(|message| message.get("prefix")) == Some(&Value::Bool(true));
    match last_role {
        "user" | "tool" => Ok(()),
        "assistant" if prefix => Ok(()),
        other => no(format!(
            "Expected last role User or Tool (or Assistant with prefix True) for serving but got {other}"
        )),
    }
}

fn content(content: Option<&Value>) -> Result<(), Refused> {
    for part in content.and_then(Value::as_array).into_iter().flatten() {
        let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
        if !PARTS.contains(&kind) {
            return no(format!(
                "messages.content: Input tag '{kind}' does not match any of the expected tags"
            ));
        }
    }
    Ok(())
}

/// The ids of the calls in what the model said.
fn calls(message: &Value) -> Result<Vec<&str>, Refused> {
    let calls = message.get("tool_calls").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let says = match message.get("content") {
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(parts)) => !parts.is_empty(),
        _ => false,
    };
    if calls.is_empty() && !says {
        return no("Assistant message must have either content or tool_calls, but not none.");
    }
    let mut ids = Vec::new();
    for call in calls {
        known(call, &["id", "type", "function", "index"], "messages.tool_calls.")?;
        let id = call.get("id").and_then(Value::as_str).unwrap_or_default();
        if id.len() != ID || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return no(format!("Tool call id was {id} but must be a-z, A-Z, 0-9, with a length of {ID}."));
        }
        ids.push(id);
    }
    Ok(ids)
}
