//! OpenAI's JSON, as far as we read it, with what compatible servers put beside it. Borrowed where possible; what is
//! unknown or of another type is passed over.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// A whole answer or a chunk: both have choices, a model and a usage.
#[derive(Debug, Deserialize)]
pub(super) struct Answer<'a> {
    #[serde(borrow, default)]
    pub choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow, default)]
    pub model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
    #[serde(default)]
    pub data: Option<IgnoredAny>,
    /// `error` for an error of vLLM or Mistral, which has its fields at the top.
    #[serde(borrow, default)]
    pub object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub x_groq: Option<Groq<'a>>,
}

/// What Groq says beside OpenAI's fields ("API Reference", chunks of a chat).
#[derive(Debug, Deserialize)]
pub(super) struct Groq<'a> {
    #[serde(borrow, default)]
    pub usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Choice<'a> {
    #[serde(borrow, default)]
    pub delta: Option<Message<'a>>,
    /// Elsewhere, because it is large, and a chunk has none.
    #[serde(borrow, default)]
    pub message: Option<Box<Message<'a>>>,
    #[serde(borrow, default)]
    pub text: Option<Content<'a>>,
    #[serde(borrow, default)]
    pub finish_reason: Option<&'a RawValue>,
    /// Moonshot's usage of a stream.
    #[serde(borrow, default)]
    pub usage: Option<&'a RawValue>,
}

impl<'a> Choice<'a> {
    /// Whether it ends; some servers say so with an empty text all the time.
    pub(super) fn ends(&self) -> bool {
        self.finish_reason.is_some_and(|reason| !matches!(reason.get(), "\"\"" | "null"))
    }

    /// What is said here: of a stream the delta, of a whole answer the message. Some servers send both, where the other one
    /// is what has been said so far, or empty.
    pub(super) fn said(&self, form: Form) -> Option<&Message<'a>> {
        match form {
            Form::Chunk => self.delta.as_ref().or(self.message.as_deref()),
            Form::Whole => self.message.as_deref().or(self.delta.as_ref()),
        }
    }
}

/// In which form an answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Chunk,
    Whole,
}

/// A message, or a piece of one.
#[derive(Debug, Default)]
pub(super) struct Message<'a> {
    pub content: Option<Content<'a>>,
    pub reasoning_content: Option<Content<'a>>,
    pub reasoning: Option<Content<'a>>,
    pub reasoning_details: Option<Details<'a>>,
    pub refusal: Option<Content<'a>>,
    pub tool_calls: Option<ToolCalls<'a>>,
    pub function_call: Option<Box<Function<'a>>>,
    /// Fields that only some servers know. There may be text in them, which is output as well.
    pub others: Vec<&'a RawValue>,
}

/// A field of a message.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum MessageField {
    Content,
    ReasoningContent,
    Reasoning,
    ReasoningDetails,
    Refusal,
    ToolCalls,
    FunctionCall,
    // What these hold is no text of the model.
    #[serde(
        alias = "name",
        alias = "id",
        alias = "type",
        alias = "index",
        alias = "tool_call_id",
        alias = "annotations",
        alias = "images",
        alias = "context",
        alias = "channel",
        alias = "recipient",
        alias = "phase",
        alias = "status",
        alias = "signature",
        alias = "encrypted_content",
        alias = "end_turn",
        alias = "weight",
        alias = "prefix"
    )]
    Role,
    #[serde(other)]
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for Message<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfMessage;

        impl<'de> Visitor<'de> for OfMessage {
            type Value = Message<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a message")
            }

            /// Of a field that is given twice the last one counts.
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut message = Message::default();
                while let Some(field) = map.next_key()? {
                    match field {
                        MessageField::Content => message.content = map.next_value()?,
                        MessageField::ReasoningContent => message.reasoning_content = map.next_value()?,
                        MessageField::Reasoning => message.reasoning = map.next_value()?,
                        MessageField::ReasoningDetails => message.reasoning_details = map.next_value()?,
                        MessageField::Refusal => message.refusal = map.next_value()?,
                        MessageField::ToolCalls => message.tool_calls = map.next_value()?,
                        MessageField::FunctionCall => message.function_call = map.next_value()?,
                        MessageField::Role => {
                            map.next_value::<IgnoredAny>()?;
                        }
                        MessageField::Other => message.others.push(map.next_value()?),
                    }
                }
                Ok(message)
            }
        }

        deserializer.deserialize_map(OfMessage)
    }
}

/// Fields whose texts no model has written, wherever they stand.
const NO_OUTPUT: [&str; 15] = [
    "id",
    "type",
    "role",
    "index",
    "name",
    "format",
    "data",
    "b64_json",
    "signature",
    "url",
    "mime_type",
    "media_type",
    "citations",
    "annotations",
    "logprobs",
];

/// Appends the texts in a field that is not known. Pictures and sounds are none.
pub(super) fn texts(raw: &RawValue, text: &mut String) {
    // Most are null, numbers or marks.
    if raw.get().starts_with(['"', '{', '[']) {
        let value: Value = serde_json::from_str(raw.get()).unwrap_or_default();
        collect(&value, text);
    }
}

fn collect(value: &Value, text: &mut String) {
    match value {
        Value::String(piece) if !piece.starts_with("data:") => text.push_str(piece),
        Value::Array(list) => list.iter().for_each(|value| collect(value, text)),
        Value::Object(fields) => {
            let said = fields.iter().filter(|(name, _)| !NO_OUTPUT.contains(&name.as_str()));
            said.for_each(|(_, value)| collect(value, text));
        }
        _ => {}
    }
}

/// Text, or whatever else a server puts there, as raw JSON.
#[derive(Debug)]
pub(super) struct Content<'a> {
    text: Cow<'a, str>,
    is_json: bool,
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        let json = raw.get();
        let unquoted = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let text = match unquoted {
            Some(plain) if !plain.contains('\\') => Cow::Borrowed(plain),
            Some(_) => serde_json::from_str::<String>(json).map_or(Cow::Borrowed(json), Cow::Owned),
            None => Cow::Borrowed(json),
        };
        Ok(Self { text, is_json: unquoted.is_none() })
    }
}

impl Content<'_> {
    /// The text or the JSON, if there is any.
    pub(super) fn text(content: Option<&Self>) -> Option<&str> {
        content.map(|content| &*content.text).filter(|text| !matches!(*text, "" | "null"))
    }

    /// Itself, unless it is empty.
    pub(super) fn said(content: Option<&Self>) -> Option<&Self> {
        content.filter(|content| Self::text(Some(content)).is_some())
    }

    /// Appends the text, or the texts in the JSON: some servers write lists of parts.
    pub(super) fn collect(content: Option<&Self>, text: &mut String) {
        match content {
            Some(parts) if parts.is_json => {
                collect(&serde_json::from_str(&parts.text).unwrap_or_default(), text);
            }
            Some(words) => text.push_str(&words.text),
            None => {}
        }
    }
}

/// Reasoning in pieces (OpenRouter, "Reasoning tokens"), of whatever shape.
#[derive(Debug, Deserialize)]
pub(super) struct Details<'a>(#[serde(borrow)] pub &'a RawValue);

impl Details<'_> {
    /// Appends what can be read of it.
    pub(super) fn collect(&self, text: &mut String) {
        #[derive(Deserialize)]
        struct Detail {
            #[serde(default)]
            text: Option<String>,
            #[serde(default)]
            summary: Option<String>,
        }
        let details: Vec<Detail> = serde_json::from_str(self.0.get()).unwrap_or_default();
        for piece in details.into_iter().flat_map(|detail| [detail.text, detail.summary]).flatten() {
            text.push_str(&piece);
        }
    }
}

/// Calls of tools: a list, or one as older versions of Text Generation Inference stream it.
#[derive(Debug)]
pub(super) struct ToolCalls<'a>(pub Vec<ToolCall<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for ToolCalls<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfCalls;

        impl<'de> Visitor<'de> for OfCalls {
            type Value = Vec<ToolCall<'de>>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("calls of tools")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, calls: A) -> Result<Self::Value, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(calls))
            }

            fn visit_map<A: MapAccess<'de>>(self, call: A) -> Result<Self::Value, A::Error> {
                Deserialize::deserialize(MapAccessDeserializer::new(call)).map(|call| vec![call])
            }
        }

        deserializer.deserialize_any(OfCalls).map(Self)
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct ToolCall<'a> {
    #[serde(borrow, default)]
    pub function: Option<Function<'a>>,
    /// A call whose input is a text, not JSON.
    #[serde(borrow, default)]
    pub custom: Option<Function<'a>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Function<'a> {
    #[serde(borrow, default)]
    pub name: Option<Content<'a>>,
    /// JSON as text; with some servers the JSON itself.
    #[serde(borrow, default)]
    pub arguments: Option<Content<'a>>,
    /// The text for a tool that takes no JSON.
    #[serde(borrow, default)]
    pub input: Option<Content<'a>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Models {
    pub data: Vec<Model>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Model {
    pub id: String,
}
