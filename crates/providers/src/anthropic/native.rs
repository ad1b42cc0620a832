//! Requests in Anthropic's own shape, which pass as they are, and their answers, which are only looked at.
//!
//! The rule it protects: a native request can't buy what has no price, nor read what others have stored with our key.

use bytes::Bytes;
use http::Uri;
use serde_json::{Map, Value};

use super::answer::{message, produced};
use super::usage::{self, Told};
use super::{broken, wire};
use crate::answer::{Chunk, Complete, Produced, Reported, StreamEvent, What};
use crate::conversation::bad;
use crate::framing::{Event, readable};
use crate::protocol::{Conversion, Outgoing, ended_too_soon};
use crate::{BadRequest, ProviderError, refused};

/// Tools that the client runs ("Tool reference"); all others with a type run at Anthropic.
const CLIENT_TOOLS: [&str; 5] = ["bash_", "text_editor_", "computer_", "memory_", "browser_toolset_"];

/// A native request.
///
/// # Errors
/// Names what is refused.
pub(super) fn outgoing(uri: Uri, body: &Map<String, Value>) -> Result<Outgoing, BadRequest> {
    refuse(body)?;
    Outgoing::json(uri, body)
}

/// Refuses native requests that would cost what has no price.
///
/// # Errors
/// Names the field.
pub(crate) fn refuse(body: &Map<String, Value>) -> Result<(), BadRequest> {
    refuse_fields(body)?;
    for tool in refused::list(body, "tools")? {
        let runs_here = match tool.get("type").and_then(Value::as_str) {
            None | Some("custom") => true,
            Some(kind) => CLIENT_TOOLS.iter().any(|prefix| kind.starts_with(prefix)),
        };
        if !runs_here {
            return Err(bad(
                "tools",
                "tools that run at the provider can't be used here: they have no price",
            ));
        }
    }
    if ["messages", "system"].into_iter().filter_map(|field| body.get(field)).any(uses_stored_files) {
        return Err(bad("messages", "stored files can't be used here: send the file itself in the request"));
    }
    Ok(())
}

/// The part of it that concerns fields that no request may have, in whichever shape.
///
/// # Errors
/// Names the field.
pub(super) fn refuse_fields(body: &Map<String, Value>) -> Result<(), BadRequest> {
    refused::fields(body)?;
    let said =
        |field: &str| body.get(field).filter(|value| !matches!(value, Value::Null | Value::Bool(false)));
    // Clearing costs nothing; a summary is billed beside the usage that the answer tells.
    let edits =
        said("context_management").map(|management| management.get("edits").and_then(Value::as_array));
    let clears = |edit: &Value| {
        edit.get("type").and_then(Value::as_str).is_some_and(|kind| kind.starts_with("clear_"))
    };
    match edits {
        None => Ok(()),
        Some(Some(edits)) if edits.iter().all(clears) => Ok(()),
        Some(_) => Err(refused::refuse_field("context_management", "only edits that clear have a price")),
    }
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
pub(super) fn complete(body: Bytes) -> Result<Complete, ProviderError> {
    let (usage, model, text) = {
        let answer = message(&body)?;
        let mut text = String::new();
        for block in answer.content.iter().flatten() {
            produced(block, &mut text);
        }
        (usage::whole(answer.usage), answer.model.map(|model| model.into_owned()), text)
    };
    Ok(Complete { body, usage, model, produced: Produced { text }, request_id: None, omitted: Vec::new() })
}

/// Events pass as they came, and are only looked at.
#[derive(Debug, Default)]
pub(super) struct Passing {
    told: Told,
    stopped: bool,
}

impl Passing {
    fn look(&mut self, event: wire::Event<'_>) -> Result<What, ProviderError> {
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
                let reported = if chunk.finish { Reported::Final } else { Reported::SoFar };
                chunk.usage = self.told.usage().filter(|_| told).map(reported);
            }
            "message_stop" => {
                self.stopped = true;
                chunk.finish = true;
            }
            "error" => return Err(broken(event.error.as_ref())),
            _ => return Ok(What::Other),
        }
        Ok(What::Chunk(chunk))
    }
}

impl Conversion for Passing {
    fn event(&mut self, event: Event, out: &mut Vec<StreamEvent>) -> Result<(), ProviderError> {
        let data = event.data.unwrap_or_default();
        let what = match serde_json::from_slice::<wire::Event<'_>>(&data) {
            Ok(read) => self.look(read)?,
            Err(_) => match readable(&data).as_deref().map(serde_json::from_slice::<wire::Event<'_>>) {
                Some(Ok(read)) => self.look(read)?,
                _ => What::Other,
            },
        };
        out.push(StreamEvent::passed(event.raw, data, what));
        if self.stopped {
            out.push(StreamEvent::done());
        }
        Ok(())
    }

    fn end(&mut self, _: &mut Vec<StreamEvent>) -> Result<(), ProviderError> {
        if self.stopped { Ok(()) } else { Err(ended_too_soon()) }
    }
}
