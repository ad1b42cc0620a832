//! Mistral's JSON, where it is not OpenAI's.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// A chat.
#[derive(Debug, Serialize)]
pub(super) struct Chat<'a> {
    #[serde(flatten)]
    pub fields: Map<String, Value>,
    pub messages: Vec<Message<'a>>,
}

/// One message of a chat. Mistral refuses fields that it does not know.
#[derive(Debug, Default, Serialize)]
pub(super) struct Message<'a> {
    pub role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<Call<'a>>,
    /// The answer goes on from this message of the model.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub prefix: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Content<'a> {
    Text(&'a str),
    Parts(Vec<Part<'a>>),
}

/// A piece of a message ("ContentChunk").
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Part<'a> {
    Text {
        text: &'a str,
    },
    ImageUrl {
        image_url: Image<'a>,
    },
    /// In base64.
    InputAudio {
        input_audio: &'a str,
    },
    Thinking {
        thinking: Vec<Part<'a>>,
    },
    DocumentUrl {
        document_url: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        document_name: Option<&'a str>,
    },
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Image<'a> {
    Url(Cow<'a, str>),
    Detailed { url: Cow<'a, str>, detail: &'a str },
}

/// A call of a tool.
#[derive(Debug, Serialize)]
pub(super) struct Call<'a> {
    pub id: Cow<'a, str>,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub function: Function<'a>,
}

#[derive(Debug, Serialize)]
pub(super) struct Function<'a> {
    pub name: &'a str,
    pub arguments: &'a str,
}

/// What of an answer or a chunk may have to be rewritten.
#[derive(Debug, Deserialize)]
pub(super) struct Answer<'a> {
    #[serde(borrow, default)]
    pub choices: Option<Vec<Choice<'a>>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Choice<'a> {
    #[serde(borrow, default)]
    pub delta: Option<Said<'a>>,
    #[serde(borrow, default)]
    pub message: Option<Said<'a>>,
    #[serde(borrow, default)]
    pub finish_reason: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Said<'a> {
    #[serde(borrow, default)]
    pub content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub tool_calls: Option<&'a RawValue>,
}

/// A piece of what the model said: `text`, `thinking` (pieces of its own), `reference`, …
#[derive(Debug, Deserialize)]
pub(super) struct SaidPart<'a> {
    #[serde(borrow, rename = "type", default)]
    pub kind: Cow<'a, str>,
    #[serde(borrow, default)]
    pub text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub thinking: Option<&'a RawValue>,
}

/// Vectors.
#[derive(Debug, Deserialize)]
pub(super) struct Embedded {
    pub data: Vec<Vector>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Vector {
    pub embedding: Vec<f32>,
}
