//! What of a body counts as input, whatever its shape.

use std::borrow::Cow;
use std::io::{self, Write};

use serde_json::{Map, Value};

use super::{Media, decoded_length};

/// Fields of a body that no model reads. All others count as input: a server may put what we don't know into its prompt.
/// Numbers and truths never count.
pub(crate) const NOT_READ: [&str; 41] = [
    "model",
    "stream_options",
    "stop",
    "stop_sequences",
    "stopSequences",
    "user",
    "metadata",
    "service_tier",
    "tool_choice",
    "function_call",
    "logit_bias",
    "reasoning",
    "reasoning_effort",
    "reasoning_format",
    "thinking",
    "thinkingConfig",
    "thinking_config",
    "modalities",
    "verbosity",
    "safetySettings",
    "safety_settings",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "cache_control",
    "cachedContent",
    "cached_content",
    "include",
    "truncation",
    "context_management",
    "usage",
    "options",
    "keep_alive",
    "think",
    "encoding_format",
    "transforms",
    "chat_id",
    "session_id",
    "id",
    "speed",
    "inference_geo",
];

/// Fields with tools.
pub(super) const TOOLS: [&str; 2] = ["tools", "functions"];

/// What was found in a request: its texts, and what is not text. Texts of a client's own are borrowed; what is JSON is owned.
#[derive(Debug, Default)]
pub(super) struct Found<'a> {
    pub texts: Vec<Cow<'a, str>>,
    pub media: Vec<Media>,
}

impl<'a> Found<'a> {
    /// A text, if it is one.
    pub(super) fn text(&mut self, value: Option<&'a Value>) {
        self.texts.extend(value.and_then(Value::as_str).map(Cow::Borrowed));
    }

    /// All of a value as JSON: names and values are both read.
    pub(super) fn json(&mut self, value: Option<&Value>) {
        match value {
            None | Some(Value::Null) => {}
            Some(value) => self.texts.push(Cow::Owned(value.to_string())),
        }
    }

    /// JSON in a text: as one of our own, because a template may write it anew.
    pub(super) fn json_text(&mut self, value: Option<&Value>) {
        self.texts.extend(value.and_then(Value::as_str).map(|json| Cow::Owned(json.to_owned())));
    }

    /// Thoughts, as whoever wrote them down names them: what is shown of them, and what only the provider can read.
    pub(super) fn thought(&mut self, block: &'a Value) {
        self.texts.extend(shown(block).into_iter().map(Cow::Borrowed));
        self.media.extend(hidden(block));
    }
}

/// What of a body beside the fields `seen` may be read by a model: tools, if they are wanted, schemas, documents, what is not
/// known.
pub(super) fn beside<'a>(
    body: &'a Map<String, Value>,
    seen: &'a [&'a str],
    tools: bool,
) -> impl Iterator<Item = &'a Value> {
    let read = move |(name, value): &(&String, &Value)| {
        let name = name.as_str();
        !seen.contains(&name)
            && (tools || !TOOLS.contains(&name))
            && !NOT_READ.contains(&name)
            && matches!(value, Value::String(_) | Value::Array(_) | Value::Object(_))
    };
    body.iter().filter(read).map(|(_, value)| value)
}

/// The texts of one piece of reasoning: Anthropic's `thinking`, OpenRouter's `text` and `summary`, and lists of such.
pub(crate) fn shown(block: &Value) -> Vec<&str> {
    let mut texts = Vec::new();
    for value in ["thinking", "text", "summary", "content"].into_iter().filter_map(|field| block.get(field)) {
        match value {
            Value::String(text) => texts.push(text.as_str()),
            Value::Array(list) => {
                texts.extend(list.iter().filter_map(|piece| piece.get("text").unwrap_or(piece).as_str()));
            }
            _ => {}
        }
    }
    texts
}

/// What is encrypted in a piece of reasoning: providers put the whole thought there, so that what is shown is in it too.
pub(super) fn hidden(block: &Value) -> Option<Media> {
    let fields = ["signature", "data", "encrypted_content"].into_iter();
    let sealed: u64 =
        fields.filter_map(|field| block.get(field).and_then(Value::as_str)).map(decoded_length).sum();
    let shown: u64 = shown(block).iter().map(|text| text.len() as u64).sum();
    (sealed > 0).then(|| Media::Hidden { bytes: sealed.saturating_sub(shown), all: sealed })
}

/// How long a value is as JSON, without building it.
pub(super) fn json_length(value: &Value) -> u64 {
    struct Length(u64);
    impl Write for Length {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut length = Length(0);
    // Writing into a counter can't fail.
    let _ = serde_json::to_writer(&mut length, value);
    length.0
}
