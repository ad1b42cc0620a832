//! Whole answers in OpenAI's shape, and what streamed ones share with them.
//!
//! Thinking becomes `reasoning_content`; each of its blocks also stands whole, with what proves it, in `reasoning_details`.
//! Citations of pages become `annotations`; those of documents name no address and are left out.
//!
//! A refusal stands in `refusal`, as OpenAI has it, and in the content as well: Open WebUI 0.12 reads no `refusal`, and its
//! users would see an empty answer.

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::messages::FORMAT;
use super::{usage, wire};
use crate::ProviderError;
use crate::answer::Complete;
use crate::chunk::{self, Choice};
use crate::error::safe_words;
use crate::lenient::{self, Scratch};
use crate::protocol::Asked;

/// Between two blocks of thinking, so that they can be told apart.
pub(super) const BETWEEN_THOUGHTS: &str = "\n\n";

/// The reason of an answer that Anthropic stopped.
pub(super) const REFUSAL: &str = "refusal";

/// OpenAI's word for why an answer ended ("Handling stop reasons").
pub(super) fn finish_reason(stop_reason: &str) -> &'static str {
    match stop_reason {
        "max_tokens" | "model_context_window_exceeded" => "length",
        "tool_use" => "tool_calls",
        REFUSAL => "content_filter",
        // `end_turn`, `stop_sequence`, `pause_turn`, and what is not known yet.
        _ => "stop",
    }
}

/// A block of thinking with its proof. `index`: its place among the blocks of the answer.
pub(super) fn thought(index: u64, text: &str, signature: &str) -> Value {
    json!({"type": "reasoning.text", "text": text, "signature": signature, "format": FORMAT, "index": index})
}

/// A block of thinking that only Anthropic can read.
pub(super) fn hidden_thought(index: u64, data: &str) -> Value {
    json!({"type": "reasoning.encrypted", "data": data, "format": FORMAT, "index": index})
}

/// The arguments of a call as JSON: a tool without any gets an empty object.
pub(super) fn arguments(input: Option<&str>) -> &str {
    input.filter(|input| *input != "null").unwrap_or("{}")
}

/// All that an answer's block bills, as text.
pub(super) fn produced(block: &wire::Block<'_>, text: &mut String) {
    text.push_str(block.text.as_deref().unwrap_or_default());
    text.push_str(block.thinking.as_deref().unwrap_or_default());
    text.push_str(block.name.as_deref().unwrap_or_default());
    if block.name.is_some() || block.input.is_some() {
        text.push_str(arguments(block.input.map(|input| input.get())));
    }
}

/// Why the model refused, in Anthropic's words where there are some ("Handling stop reasons", `stop_details`).
pub(super) fn refusal(stop_details: Option<&RawValue>) -> String {
    let details = stop_details.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
    let explanation = details.as_ref().and_then(|details| details.get("explanation")?.as_str());
    let words = explanation.map(safe_words).filter(|words| !words.is_empty());
    words.unwrap_or_else(|| "Anthropic's safety filter stopped this answer.".into())
}

/// The same for a reader of the content, behind what the model had said before.
pub(super) fn refusal_in_content(refusal: &str, spoke: bool) -> String {
    if spoke { format!("\n\n({refusal})") } else { format!("({refusal})") }
}

/// A page that is cited, as OpenAI's annotation; `None` if it names no address ("Citations", "Search results"). `start` and
/// `end`: the text that rests on it, in characters of the content.
fn annotation(citation: &Value, start: usize, end: usize) -> Option<Value> {
    let text = |field: &str| citation.get(field).and_then(Value::as_str);
    let is_address = |url: &&str| url.starts_with("https://") || url.starts_with("http://");
    let url = text("url").or_else(|| text("source")).filter(is_address)?;
    Some(json!({"type": "url_citation", "url_citation": {
        "url": url, "title": text("title").unwrap_or(url), "start_index": start, "end_index": end,
    }}))
}

/// The same page may be cited several times for one text.
pub(super) fn annotations(citations: &[Value], start: usize, end: usize) -> Vec<Value> {
    let mut annotations: Vec<Value> = Vec::new();
    for one in citations.iter().filter_map(|citation| annotation(citation, start, end)) {
        if !annotations.contains(&one) {
            annotations.push(one);
        }
    }
    annotations
}

/// A whole answer, read.
///
/// # Errors
/// [`ProviderError::BadAnswer`] if it is none.
pub(super) fn message<'a>(body: &'a [u8], scratch: &'a Scratch) -> Result<wire::Message<'a>, ProviderError> {
    let message: wire::Message<'_> =
        lenient::read(body, scratch).ok_or(ProviderError::BadAnswer { what: "not JSON of a message" })?;
    if message.content.is_none() {
        return Err(ProviderError::BadAnswer { what: "a message without content" });
    }
    Ok(message)
}

/// A whole answer.
///
/// # Errors
/// [`ProviderError::BadAnswer`] if it is none.
pub(super) fn complete(
    asked: &Asked,
    body: &[u8],
    cache_in_input: Option<bool>,
) -> Result<Complete, ProviderError> {
    let scratch = Scratch::default();
    let answer = message(body, &scratch)?;
    let (mut text, mut reasoning, mut billed) = (String::new(), String::new(), String::new());
    let (mut calls, mut details, mut cited) = (Vec::new(), Vec::new(), Vec::new());
    for (index, block) in (0_u64..).zip(answer.content.iter().flatten()) {
        match block.kind.as_ref() {
            "text" => {
                let start = block.citations.map(|_| text.chars().count());
                text.push_str(block.text.as_deref().unwrap_or_default());
                if let (Some(raw), Some(start)) = (block.citations, start) {
                    let citations: Vec<Value> = serde_json::from_str(raw.get()).unwrap_or_default();
                    cited.extend(annotations(&citations, start, text.chars().count()));
                }
            }
            "thinking" => {
                let thinking = block.thinking.as_deref().unwrap_or_default();
                if !reasoning.is_empty() && !thinking.is_empty() {
                    reasoning.push_str(BETWEEN_THOUGHTS);
                }
                reasoning.push_str(thinking);
                details
                    .extend(block.signature.as_deref().map(|signature| thought(index, thinking, signature)));
            }
            "redacted_thinking" => {
                details.extend(block.data.as_deref().map(|data| hidden_thought(index, data)));
            }
            "tool_use" => calls.push(json!({
                "id": block.id, "type": "function",
                "function": {
                    "name": block.name, "arguments": arguments(block.input.map(|input| input.get())),
                },
            })),
            // Blocks of tools that run at Anthropic, which are refused.
            _ => continue,
        }
        produced(block, &mut billed);
    }
    let stop_reason = answer.stop_reason.as_deref().unwrap_or_default();
    let refusal = (stop_reason == REFUSAL).then(|| refusal(answer.stop_details));
    if let Some(refusal) = &refusal {
        let words = refusal_in_content(refusal, !text.is_empty());
        text.push_str(&words);
    }
    let mut message = Map::new();
    message.insert("role".into(), "assistant".into());
    let content = if text.is_empty() && !calls.is_empty() { Value::Null } else { text.into() };
    message.insert("content".into(), content);
    if !reasoning.is_empty() {
        message.insert("reasoning_content".into(), reasoning.into());
    }
    if !details.is_empty() {
        message.insert("reasoning_details".into(), details.into());
    }
    if !calls.is_empty() {
        message.insert("tool_calls".into(), calls.into());
    }
    if !cited.is_empty() {
        message.insert("annotations".into(), cited.into());
    }
    if let Some(refusal) = refusal {
        message.insert("refusal".into(), refusal.into());
    }
    let choice =
        Choice { message: message.into(), reason: finish_reason(stop_reason).into(), logprobs: None };
    let model = answer.model.map(|model| model.into_owned());
    let id = answer.id.unwrap_or_default();
    let usage = usage::whole(answer.usage, cache_in_input);
    Ok(chunk::complete(&id, asked, model, vec![choice], usage, billed))
}
