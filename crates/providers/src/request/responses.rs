//! Views of a request for OpenAI's Responses API (API reference, "Responses").

use serde_json::{Map, Value};

use super::text::{Found, beside};
use super::{Kinds, Media, bad, decoded_length, picture, sound};
use crate::BadRequest;
use crate::hosted::{self, Tools, refuse_tool};
use crate::names::refuse_lookalikes;
use crate::refused::{self, names_stored_file, refuse_field, refuse_stored, said};

/// Refused with a value: history and prompts that are kept at the server can't be counted beforehand, and what runs in the
/// background is never seen again.
const NEVER: [(&str, &str); 5] = [
    (
        "previous_response_id",
        "send the conversation itself, because history kept at the provider can't be counted",
    ),
    ("conversation", "send the conversation itself, because history kept at the provider can't be counted"),
    ("prompt", "send the prompt itself, because one kept at the provider can't be counted"),
    ("background", "an answer in the background can't be metered"),
    ("context_management", "a summary made at the provider has no price"),
];

/// Types of tools that the client runs, and that cost nothing but the tokens of their descriptions and calls: functions
/// ("Function calling"); commands ("Local shell", "Shell"), of which `shell` runs there only in an environment of its own;
/// diffs that it applies ("Apply patch"); actions at a screen, which its code executes ("Computer use"); a search of its own
/// among its tools ("Tool search", "Client-executed tool search"), if it says so; and what only groups functions
/// (`namespace`, ibid.), which is looked at by itself.
const TOOLS: [&str; 9] = [
    "function",
    "custom",
    "local_shell",
    "apply_patch",
    "shell",
    "namespace",
    "tool_search",
    "computer",
    "computer_use_preview",
];
const RUN: Tools<'_> = Tools { client: &TOOLS, switches: &SWITCHES };
/// The same in a namespace.
const RUN_INSIDE: Tools<'_> = Tools { client: &["function", "custom"], switches: &SWITCHES };
/// How Codex stops offering a tool ("Configuration reference").
const SWITCHES: [(&str, &str); 1] =
    [("web_search", "Codex leaves it out with web_search = \"disabled\" in its config.toml")];
const ROLES: [&str; 4] = ["user", "assistant", "system", "developer"];

/// Types of items with the field that has their content. Without it they are looked up at the provider by their id.
const ITEMS: [(&str, &[&str]); 18] = [
    ("message", &["content"]),
    ("function_call", &["name", "arguments"]),
    ("function_call_output", &["output"]),
    ("custom_tool_call", &["name", "input"]),
    ("custom_tool_call_output", &["output"]),
    // Its thoughts are looked up, which only a policy without a bound allows: see `collect`.
    ("reasoning", &["summary", "content", "encrypted_content"]),
    ("compaction", &["encrypted_content"]),
    ("compaction_summary", &["encrypted_content"]),
    ("local_shell_call", &["action"]),
    ("local_shell_call_output", &["output"]),
    ("shell_call", &["action"]),
    ("shell_call_output", &["output"]),
    ("apply_patch_call", &["operation"]),
    ("apply_patch_call_output", &["output", "status"]),
    ("computer_call", &["action", "actions"]),
    ("computer_call_output", &["output"]),
    ("tool_search_call", &["arguments"]),
    ("tool_search_output", &["tools"]),
];
const KNOWN_ITEMS: [&str; 18] = {
    let mut names = [""; 18];
    let mut at = 0;
    while at < names.len() {
        names[at] = ITEMS[at].0;
        at += 1;
    }
    names
};

/// Types of parts.
const PARTS: [&str; 10] = [
    "input_text",
    "output_text",
    "text",
    "summary_text",
    "reasoning_text",
    "refusal",
    "input_image",
    "input_audio",
    "input_file",
    "computer_screenshot",
];

/// What a tool takes at most whose description the provider has, in tokens: of a function with as many words, with a margin.
const TOKENS_OF_TOOL: u64 = 1_000;
/// The same of one for a screen, which has many actions.
const TOKENS_OF_COMPUTER: u64 = 2_000;

/// The names in an item and in a part.
const OF_ITEM: [&str; 14] = [
    "type",
    "id",
    "role",
    "content",
    "call_id",
    "name",
    "arguments",
    "input",
    "output",
    "summary",
    "encrypted_content",
    "action",
    "operation",
    "status",
];
const OF_PART: [&str; 9] =
    ["type", "text", "refusal", "image_url", "detail", "input_audio", "file_data", "file_url", "file_id"];

/// Refuses what would cost what has no price, and what is kept at the provider; looks at all kinds of things.
///
/// # Errors
/// Names the field.
pub(super) fn refuse(body: &Map<String, Value>, kinds: &mut Kinds) -> Result<(), BadRequest> {
    for (field, why) in NEVER {
        if body.get(field).is_some_and(said) {
            return Err(refuse_field(field, why));
        }
    }
    refused::fields(body)?;
    for (index, tool) in refused::list(body, "tools")?.iter().enumerate() {
        self::tool(tool, &format!("tools.{index}"))?;
    }
    for field in ["instructions", "input"] {
        for (index, item) in list(body.get(field)).enumerate() {
            self::item(item, field, index, kinds)?;
        }
    }
    Ok(())
}

fn tool(tool: &Value, at: &str) -> Result<(), BadRequest> {
    hosted::tool(tool, RUN, at)?;
    let is = |pointer: &str, value: &str| tool.pointer(pointer).and_then(Value::as_str) == Some(value);
    match tool.get("type").and_then(Value::as_str) {
        Some("shell") if !is("/environment/type", "local") => {
            let why =
                "a `shell` runs at the provider, for a fee, unless its environment is of the type local";
            Err(refuse_tool(at, why))
        }
        Some("tool_search") if !is("/execution", "client") => {
            Err(refuse_tool(at, "a `tool_search` runs at the provider unless its execution is client"))
        }
        Some("namespace") => match tool.get("tools") {
            Some(Value::Array(tools)) => tools
                .iter()
                .enumerate()
                .try_for_each(|(index, tool)| hosted::tool(tool, RUN_INSIDE, &format!("{at}.tools.{index}"))),
            _ => Err(refuse_tool(at, "the tools of a namespace must be a list")),
        },
        _ => Ok(()),
    }
}

/// Whether the client runs a tool.
pub(super) fn runs(tool: &Value) -> bool {
    self::tool(tool, "tools").is_ok()
}

fn item(item: &Value, field: &str, index: usize, kinds: &mut Kinds) -> Result<(), BadRequest> {
    let at = || format!("{field}.{index}");
    let Some(object) = item.as_object() else { return kinds.unknown(None, &KNOWN_ITEMS, "type", at()) };
    refuse_lookalikes(object, &[&OF_ITEM], format_args!("{field}.{index}"))?;
    if is_reference(object) {
        let why = format!(
            "`{}` names what is kept at the provider, which can't be counted: send the item itself, with its content",
            at()
        );
        return Err(bad(why, field));
    }
    if names_stored_file(item) {
        return Err(refuse_stored(field));
    }
    match kind_of(object) {
        Some("message") => {
            kinds.check(object.get("role"), &ROLES, "role", format_args!("{field}.{index}"))?;
            parts(object.get("content"), field, index, kinds)
        }
        Some("reasoning") => parts(object.get("content"), field, index, kinds),
        // What it has found becomes tools of the request.
        Some("tool_search_output") => list(object.get("tools"))
            .enumerate()
            .try_for_each(|(place, tool)| self::tool(tool, &format!("{}.tools.{place}", at()))),
        Some(kind) if KNOWN_ITEMS.contains(&kind) => parts(object.get("output"), field, index, kinds),
        _ => kinds.unknown(object.get("type"), &KNOWN_ITEMS, "type", at()),
    }
}

/// What an item is: without a type it is a message, if it is one.
fn kind_of(item: &Map<String, Value>) -> Option<&str> {
    match item.get("type") {
        Some(Value::String(kind)) if !kind.is_empty() => Some(kind),
        None | Some(Value::Null | Value::String(_)) => {
            (item.contains_key("role") && item.contains_key("content")).then_some("message")
        }
        Some(_) => None,
    }
}

/// Whether an item is only a name of what is kept at the provider, whatever its type says: it has an id, and not the content
/// of an item that we know.
fn is_reference(item: &Map<String, Value>) -> bool {
    let kind = kind_of(item);
    if kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("item_reference")) {
        return true;
    }
    if item.get("id").is_none_or(Value::is_null) {
        return false;
    }
    let filled = |field: &&str| match item.get(*field) {
        None | Some(Value::Null) => false,
        // A tool may give nothing; a call may need nothing.
        Some(Value::String(text)) => !text.is_empty() || matches!(*field, "output" | "input" | "arguments"),
        Some(Value::Array(list)) => !list.is_empty() || matches!(*field, "summary" | "output" | "tools"),
        Some(_) => true,
    };
    match ITEMS.iter().find(|(name, _)| Some(*name) == kind) {
        Some((_, fields)) => !fields.iter().any(filled),
        None if kind.is_none() => true,
        None => {
            let shell = ["id", "type", "status", "role", "object", "created_at", "phase"];
            !item.keys().any(|name| !shell.contains(&name.as_str()) && filled(&name.as_str()))
        }
    }
}

fn parts(content: Option<&Value>, field: &str, index: usize, kinds: &mut Kinds) -> Result<(), BadRequest> {
    for (at, part) in list(content).enumerate() {
        if names_stored_file(part) {
            return Err(refuse_stored(field));
        }
        if let Some(part) = part.as_object() {
            refuse_lookalikes(part, &[&OF_PART], format_args!("{field}.{index}.content.{at}"))?;
        }
        kinds.check(part.get("type"), &PARTS, "type", format_args!("{field}.{index}.content.{at}"))?;
    }
    Ok(())
}

/// How many calls of tools there are, and results of them.
pub(super) fn calls(body: &Map<String, Value>) -> usize {
    list(body.get("input")).filter(|item| item.get("call_id").is_some()).count()
}

/// All that counts as input, with the texts of tools or without.
pub(super) fn found(body: &Map<String, Value>, tools: bool) -> Found<'_> {
    let mut found = Found::default();
    for field in ["instructions", "input"] {
        found.text(body.get(field));
        list(body.get(field)).for_each(|item| collect(item, &mut found));
    }
    beside(body, &["instructions", "input"], tools).for_each(|value| found.json(Some(value)));
    let described = list(body.get("tools")).filter_map(|tool| match tool.get("type")?.as_str()? {
        "local_shell" | "apply_patch" | "shell" | "tool_search" => Some(TOKENS_OF_TOOL),
        "computer" | "computer_use_preview" => Some(TOKENS_OF_COMPUTER),
        _ => None,
    });
    found.media.extend(described.map(|tokens| Media::Hidden { bytes: tokens, all: tokens }));
    found
}

/// One item of a conversation.
fn collect<'a>(item: &'a Value, found: &mut Found<'a>) {
    let text = |field: &str| item.get(field).and_then(Value::as_str);
    let Some(object) = item.as_object() else {
        // A bare text is read as it is, without a copy; anything else as JSON.
        return if item.is_string() { found.text(Some(item)) } else { found.json(Some(item)) };
    };
    match kind_of(object) {
        Some("message") => content(item.get("content"), found),
        Some("function_call" | "custom_tool_call") => {
            found.text(item.get("call_id"));
            found.text(item.get("name"));
            found.json_text(item.get("arguments"));
            found.text(item.get("input"));
        }
        Some("function_call_output" | "custom_tool_call_output") => {
            found.text(item.get("call_id"));
            content(item.get("output"), found);
        }
        Some("reasoning") => {
            found.thought(item);
            // Without its words in any form it is looked up at the provider, by its id.
            let words = text("encrypted_content").is_some() || list(item.get("content")).next().is_some();
            if !words && text("id").is_some() {
                found.media.push(Media::File { bytes: None });
            }
        }
        // A summary that only the provider can read, of any length.
        Some("compaction" | "compaction_summary") => found.media.push(Media::File { bytes: None }),
        Some("local_shell_call_output") => content(item.get("output"), found),
        Some("computer_call_output") => found.media.push(Media::Image { low_detail: false, size: None }),
        _ => found.json(Some(item)),
    }
}

/// A text, or parts.
fn content<'a>(content: Option<&'a Value>, found: &mut Found<'a>) {
    match content {
        Some(Value::String(_) | Value::Array(_)) => {}
        other => return found.json(other),
    }
    found.text(content);
    for part in list(content) {
        let text = |field: &str| part.get(field).and_then(Value::as_str);
        match text("type") {
            Some("input_text" | "output_text" | "text" | "summary_text" | "reasoning_text") => {
                found.text(part.get("text"));
            }
            Some("refusal") => found.text(part.get("refusal")),
            Some("input_image") => {
                let size = text("image_url").and_then(picture::size_of_url);
                found.media.push(Media::Image { low_detail: text("detail") == Some("low"), size });
            }
            Some("input_audio") => {
                let sound = part.get("input_audio").unwrap_or(part);
                let data = sound.get("data").and_then(Value::as_str).unwrap_or_default();
                found.media.push(sound::medium(data));
            }
            Some("input_file") => {
                found.media.push(Media::File { bytes: text("file_data").map(decoded_length) });
            }
            Some("computer_screenshot") => found.media.push(Media::Image { low_detail: false, size: None }),
            _ => found.json(Some(part)),
        }
    }
}

fn list(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}
