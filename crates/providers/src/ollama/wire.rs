//! Ollama's JSON, as far as we write and read it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// A chat.
#[derive(Debug, Serialize)]
pub(super) struct Chat<'a> {
    pub model: &'a str,
    pub messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Value>,
    pub stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub think: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
    /// What passes under its own name.
    #[serde(flatten)]
    pub passing: Map<String, Value>,
}

/// One message of a chat.
#[derive(Debug, Default, Serialize)]
pub(super) struct Message<'a> {
    pub role: &'static str,
    pub content: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking: Option<Cow<'a, str>>,
    /// In base64, without what a data URL has before it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<Call<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<&'a str>,
}

/// A call of a tool.
#[derive(Debug, Serialize)]
pub(super) struct Call<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub id: &'a str,
    pub function: CalledFunction<'a>,
}

#[derive(Debug, Serialize)]
pub(super) struct CalledFunction<'a> {
    pub name: &'a str,
    /// An object.
    pub arguments: Cow<'a, RawValue>,
}

/// A whole answer, or a line of a streamed one.
#[derive(Debug, Deserialize)]
pub(super) struct Answer<'a> {
    #[serde(borrow, default)]
    pub model: Option<Cow<'a, str>>,
    /// To the nanosecond, which tells answers apart.
    #[serde(borrow, default)]
    pub created_at: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub message: Option<Said<'a>>,
    #[serde(borrow, default)]
    pub logprobs: Option<&'a RawValue>,
    #[serde(default)]
    pub done: bool,
    #[serde(borrow, default)]
    pub done_reason: Option<Cow<'a, str>>,
    /// Raw, so that a wrong count is a missing one and not an unreadable answer.
    #[serde(borrow, default)]
    pub prompt_eval_count: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub eval_count: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
}

/// What the model said.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Said<'a> {
    #[serde(borrow, default)]
    pub content: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub thinking: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub tool_calls: Option<Vec<SaidCall<'a>>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct SaidCall<'a> {
    #[serde(borrow, default)]
    pub id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub function: SaidFunction<'a>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct SaidFunction<'a> {
    #[serde(borrow, default)]
    pub name: Cow<'a, str>,
    #[serde(borrow, default)]
    pub arguments: Option<&'a RawValue>,
}

/// Vectors.
#[derive(Debug, Deserialize)]
pub(super) struct Embedded<'a> {
    #[serde(borrow)]
    pub embeddings: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    pub prompt_eval_count: Option<&'a RawValue>,
}

/// The list of models.
#[derive(Debug, Deserialize)]
pub(super) struct Tags {
    pub models: Vec<Tag>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Tag {
    pub name: String,
}
