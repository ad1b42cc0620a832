//! Requests in Anthropic's own shape, which pass as they are, and their answers, which are only looked at.
//!
//! The rule it protects: a native request can't buy what has no price, nor read what others have stored with our key.

use bytes::Bytes;
use http::Uri;
use serde_json::{Map, Value};

use super::answer::{message, produced};
use super::usage::{self, Told};
use super::{reported, wire};
use crate::answer::{Chunk, Complete, Reported, StreamEvent, What};
use crate::framing::Event;
use crate::hosted::{self, Tools};
use crate::lenient::{self, Scratch};
use crate::names::refuse_lookalikes;
use crate::protocol::{Conversion, Outgoing, ended_too_soon};
use crate::refused::{names_stored_file, refuse_stored};
use crate::request::Kinds;
use crate::{BadRequest, ProviderError, Unknown, refused};

/// Tools that the client runs, with the tokens that their descriptions take at most, which the API adds ("Tool reference",
/// "Tool use, pricing"; with a margin where nothing is said). All others with a type run at Anthropic.
const CLIENT_TOOLS: [(&str, u64); 12] = [
    ("bash_20241022", 400),
    ("bash_20250124", 400),
    ("text_editor_20241022", 1_000),
    ("text_editor_20250124", 1_000),
    ("text_editor_20250429", 1_000),
    ("text_editor_20250728", 1_000),
    ("memory_20250818", 1_500),
    ("computer_20241022", 2_000),
    ("computer_20250124", 2_000),
    ("computer_20251124", 2_000),
    ("computer_toolset_20260801", 6_000),
    ("browser_toolset_20260801", 9_000),
];

/// How Claude Code stops offering a tool ("CLI reference"; "Identity and access management").
const SWITCHES: [(&str, &str); 1] = [(
    "web_search_",
    "Claude Code does without it when it is started with --disallowedTools WebSearch, or has WebSearch in \
     permissions.deny of its settings.json",
)];

const ROLES: [&str; 3] = ["user", "assistant", "system"];
/// Types of blocks that clients write, or give back as they came.
const BLOCKS: [&str; 11] = [
    "text",
    "image",
    "document",
    "search_result",
    "thinking",
    "redacted_thinking",
    "tool_use",
    "tool_result",
    "tool_reference",
    "server_tool_use",
    "web_search_tool_result",
];
/// Where a picture or a document comes from.
const SOURCES: [&str; 4] = ["base64", "text", "content", "url"];
/// What clearing a context costs: nothing ("Context editing").
const CLEARING: [&str; 2] = ["clear_tool_uses_20250919", "clear_thinking_20251015"];

const OF_MESSAGE: [&str; 2] = ["role", "content"];
const OF_BLOCK: [&str; 12] = [
    "type",
    "text",
    "source",
    "content",
    "thinking",
    "signature",
    "data",
    "id",
    "name",
    "input",
    "tool_use_id",
    "tool_name",
];

/// The tokens that a tool of that type takes at most beside its JSON, if the API describes it.
pub(crate) fn tokens_of_tool(kind: &str) -> Option<u64> {
    CLIENT_TOOLS.iter().find(|(name, _)| *name == kind).map(|(_, tokens)| *tokens)
}

/// A native request.
///
/// # Errors
/// Names what is refused.
pub(super) fn outgoing(uri: Uri, body: &Map<String, Value>) -> Result<Outgoing, BadRequest> {
    refuse(body, &mut Kinds::new(Unknown::Count))?;
    Outgoing::json(uri, body)
}

/// Refuses native requests that would cost what has no price; looks at all kinds of things.
///
/// # Errors
/// Names the field.
pub(crate) fn refuse(body: &Map<String, Value>, kinds: &mut Kinds) -> Result<(), BadRequest> {
    refuse_fields(body, kinds)?;
    for (index, tool) in refused::list(body, "tools")?.iter().enumerate() {
        self::tool(tool, &format!("tools.{index}"))?;
    }
    if let Some(system) = body.get("system") {
        blocks(system, "system", kinds)?;
    }
    for (index, message) in body.get("messages").and_then(Value::as_array).into_iter().flatten().enumerate() {
        if let Some(message) = message.as_object() {
            refuse_lookalikes(message, &[&OF_MESSAGE], format_args!("messages.{index}"))?;
        }
        kinds.check(message.get("role"), &ROLES, "role", format_args!("messages.{index}"))?;
        if let Some(content) = message.get("content") {
            blocks(content, "messages", kinds)?;
        }
    }
    Ok(())
}

fn tool(tool: &Value, at: &str) -> Result<(), BadRequest> {
    match (tool, tool.get("type")) {
        (Value::Object(tool), None | Some(Value::Null)) => hosted::tool_names(tool, at),
        _ => {
            let client: Vec<&str> =
                std::iter::once("custom").chain(CLIENT_TOOLS.iter().map(|(name, _)| *name)).collect();
            hosted::tool(tool, Tools { client: &client, switches: &SWITCHES }, at)
        }
    }
}

/// Whether the client runs a tool.
pub(crate) fn runs(tool: &Value) -> bool {
    self::tool(tool, "tools").is_ok()
}

/// Looks at blocks, and at those in them.
fn blocks(content: &Value, field: &str, kinds: &mut Kinds) -> Result<(), BadRequest> {
    let blocks = match content {
        Value::Array(blocks) => blocks,
        Value::String(_) | Value::Null => return Ok(()),
        _ => return kinds.unknown(None, &BLOCKS, "type", format_args!("{field}.content")),
    };
    for block in blocks {
        let known = kinds.check(block.get("type"), &BLOCKS, "type", format_args!("{field}.content"))?;
        let kind = block.get("type").and_then(Value::as_str);
        if kind == Some("container_upload") || (kind != Some("tool_use") && names_stored_file(block)) {
            return Err(refuse_stored(field));
        }
        let Some(object) = block.as_object() else { continue };
        refuse_lookalikes(object, &[&OF_BLOCK], format_args!("{field}.content"))?;
        if let Some(source) = object.get("source").filter(|_| matches!(kind, Some("image" | "document"))) {
            if source.get("type").and_then(Value::as_str) == Some("file") {
                return Err(refuse_stored(field));
            }
            kinds.check(source.get("type"), &SOURCES, "type", format_args!("{field}.content.source"))?;
            if let Some(inner) = source.get("content") {
                self::blocks(inner, field, kinds)?;
            }
        }
        // What is unknown is not known to have blocks in it.
        if let Some(inner @ Value::Array(_)) =
            object.get("content").filter(|_| known && kind == Some("tool_result"))
        {
            self::blocks(inner, field, kinds)?;
        } else if object.get("content").is_some_and(uses_stored_files) {
            return Err(refuse_stored(field));
        }
    }
    Ok(())
}

/// The part of it that concerns fields that no request may have, in whichever shape.
///
/// # Errors
/// Names the field.
pub(super) fn refuse_fields(body: &Map<String, Value>, kinds: &mut Kinds) -> Result<(), BadRequest> {
    refused::fields(body)?;
    // Clearing costs nothing; a summary is billed beside the usage that the answer tells.
    let refuse = || refused::refuse_field("context_management", "only edits that clear have a price");
    let Some(management) = body.get("context_management").filter(|value| refused::said(value)) else {
        return Ok(());
    };
    let edits = management.get("edits").and_then(Value::as_array).ok_or_else(refuse)?;
    for edit in edits {
        let kind = edit.get("type");
        if !kind.and_then(Value::as_str).is_some_and(|kind| kind.starts_with("clear_")) {
            let kind = kind.unwrap_or(&Value::Null);
            let why = "only edits that clear have a price";
            return Err(refused::refuse_value("context_management", kind, why));
        }
        kinds.check(kind, &CLEARING, "type", "context_management.edits")?;
    }
    Ok(())
}

/// Whether anything in a message is a file that is stored with the provider.
fn uses_stored_files(value: &Value) -> bool {
    let is = |value: &Value, kind: &str| value.get("type").and_then(Value::as_str) == Some(kind);
    match value {
        Value::Array(list) => list.iter().any(uses_stored_files),
        Value::Object(object) => {
            let content = ["content", "source"].into_iter().filter_map(|field| object.get(field));
            is(value, "container_upload")
                || object.get("source").is_some_and(|source| is(source, "file"))
                || content.into_iter().any(uses_stored_files)
        }
        _ => false,
    }
}

/// A whole native answer: unchanged.
///
/// # Errors
/// [`ProviderError::BadAnswer`] if it is none.
pub(super) fn complete(body: Bytes, cache_in_input: Option<bool>) -> Result<Complete, ProviderError> {
    let (usage, model, text, mended) = {
        let scratch = Scratch::default();
        let answer = message(&body, &scratch)?;
        let mut text = String::new();
        for block in answer.content.iter().flatten() {
            produced(block, &mut text);
        }
        let usage = usage::whole(answer.usage, cache_in_input);
        (usage, answer.model.map(|model| model.into_owned()), text, scratch.instead_of(&body))
    };
    Ok(Complete::new(mended.unwrap_or(body), usage, model, text))
}

/// Events pass as they came, and are only looked at.
#[derive(Debug)]
pub(super) struct Passing {
    told: Told,
    /// Whether it was said why the answer ends.
    finished: bool,
    stopped: bool,
}

impl Passing {
    pub(super) fn new(cache_in_input: Option<bool>) -> Self {
        Self { told: Told::new(cache_in_input), finished: false, stopped: false }
    }

    fn look(&mut self, event: wire::Event<'_>, data: &[u8]) -> Result<What, ProviderError> {
        let mut chunk = Chunk::default();
        match event.kind.as_ref() {
            "message_start" => {
                let Some(message) = event.message else { return Ok(What::Other) };
                self.told.hear(message.usage);
                chunk.usage = self.told.usage().map(Reported::SoFar);
                chunk.model = message.model.map(|model| model.into_owned());
            }
            "content_block_start" => {
                let Some(block) = event.content_block else { return Ok(What::Other) };
                for text in [block.text, block.thinking, block.name].into_iter().flatten() {
                    chunk.produced.push_str(&text);
                }
            }
            "content_block_delta" => {
                let Some(delta) = event.delta else { return Ok(What::Other) };
                for text in [delta.text, delta.thinking, delta.partial_json].into_iter().flatten() {
                    chunk.produced.push_str(&text);
                }
            }
            "message_delta" => {
                let told = self.told.hear(event.usage);
                chunk.finish = event.delta.is_some_and(|delta| delta.stop_reason.is_some());
                self.finished |= chunk.finish;
                let reported = if chunk.finish && told { Reported::Final } else { Reported::SoFar };
                chunk.usage = event.usage.and_then(|_| self.told.usage()).map(reported);
            }
            "message_stop" => {
                self.stopped = true;
                chunk.finish = true;
            }
            _ if event.error.is_some() || event.kind == "error" => {
                return Err(reported(data, event.error.as_ref()));
            }
            _ => return Ok(What::Other),
        }
        Ok(What::Chunk(chunk))
    }
}

impl Conversion for Passing {
    fn event(&mut self, event: Event, out: &mut Vec<StreamEvent>) -> Result<(), ProviderError> {
        let data = event.data.unwrap_or_default();
        let scratch = Scratch::default();
        let what = match lenient::read::<wire::Event<'_>>(&data, &scratch) {
            Some(read) => self.look(read, &data)?,
            None => What::Other,
        };
        let mended = scratch.instead_of(&data);
        out.push(StreamEvent::passed_or_mended(event.raw, data, mended, what));
        if self.stopped {
            out.push(StreamEvent::done());
        }
        Ok(())
    }

    fn end(&mut self, _: &mut Vec<StreamEvent>) -> Result<(), ProviderError> {
        if self.stopped { Ok(()) } else { Err(ended_too_soon()) }
    }

    fn is_whole(&self) -> bool {
        self.finished
    }
}
