//! Google's JSON (Gemini API reference, "Generating content"), as far as we write and read it. What is unknown is passed
//! over when read.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// A request for content.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request<'a> {
    pub contents: Vec<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_instruction: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tools<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_config: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub safety_settings: Option<Cow<'a, Value>>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub generation_config: Map<String, Value>,
}

/// A turn: of the `user`, which results of tools are too, or of the `model`.
#[derive(Debug, Serialize)]
pub(super) struct Content<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    pub parts: Vec<Part<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Part<'a> {
    #[serde(flatten)]
    pub data: Data<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thought_signature: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Data<'a> {
    Text(&'a str),
    #[serde(rename = "inlineData")]
    Inline(Blob<'a>),
    #[serde(rename = "functionCall")]
    Call(FunctionCall<'a>),
    #[serde(rename = "functionResponse")]
    Response(FunctionResponse<'a>),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Blob<'a> {
    pub mime_type: Cow<'a, str>,
    /// In base64.
    pub data: Cow<'a, str>,
}

#[derive(Debug, Serialize)]
pub(super) struct FunctionCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a str>,
    pub name: &'a str,
    pub args: Json<'a>,
}

#[derive(Debug, Serialize)]
pub(super) struct FunctionResponse<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a str>,
    pub name: &'a str,
    pub response: Json<'a>,
}

/// JSON that was given as text, byte for byte, or that we made.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Json<'a> {
    Raw(&'a RawValue),
    Owned(Box<RawValue>),
    Made(Value),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tools<'a> {
    pub function_declarations: Vec<FunctionDeclaration<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FunctionDeclaration<'a> {
    pub name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<&'a str>,
    /// JSON Schema as it is; the older `parameters` knows only a part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters_json_schema: Option<&'a Value>,
}

/// A whole answer, or a chunk of a stream: both have the same shape.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer<'a> {
    #[serde(borrow, default)]
    pub candidates: Option<Vec<Candidate<'a>>>,
    #[serde(borrow, default)]
    pub prompt_feedback: Option<PromptFeedback<'a>>,
    #[serde(borrow, default)]
    pub usage_metadata: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub model_version: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub response_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PromptFeedback<'a> {
    #[serde(borrow, default)]
    pub block_reason: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub block_reason_message: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate<'a> {
    /// Left out where it is 0.
    #[serde(default)]
    pub index: Option<u64>,
    #[serde(borrow, default)]
    pub content: Option<Said<'a>>,
    #[serde(borrow, default)]
    pub finish_reason: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub finish_message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub citation_metadata: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub grounding_metadata: Option<&'a RawValue>,
    #[serde(default)]
    pub logprobs_result: Option<LogprobsResult>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Said<'a> {
    #[serde(borrow, default)]
    pub parts: Option<Vec<SaidPart<'a>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SaidPart<'a> {
    #[serde(borrow, default)]
    pub text: Option<Cow<'a, str>>,
    #[serde(default)]
    pub thought: Option<bool>,
    #[serde(borrow, default)]
    pub thought_signature: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub function_call: Option<SaidCall<'a>>,
    #[serde(borrow, default)]
    pub executable_code: Option<ExecutableCode<'a>>,
    #[serde(borrow, default)]
    pub code_execution_result: Option<CodeExecutionResult<'a>>,
    #[serde(borrow, default)]
    pub inline_data: Option<SaidMedia<'a>>,
    #[serde(borrow, default)]
    pub file_data: Option<SaidMedia<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SaidCall<'a> {
    #[serde(borrow, default)]
    pub id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub name: Option<Cow<'a, str>>,
    #[serde(default)]
    pub args: Option<Value>,
    /// Pieces of the arguments, on Vertex AI.
    #[serde(borrow, default)]
    pub partial_args: Option<&'a RawValue>,
    /// Whether more of this call comes.
    #[serde(borrow, default)]
    pub will_continue: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ExecutableCode<'a> {
    #[serde(borrow, default)]
    pub language: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub code: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct CodeExecutionResult<'a> {
    #[serde(borrow, default)]
    pub output: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SaidMedia<'a> {
    #[serde(borrow, default)]
    pub mime_type: Option<Cow<'a, str>>,
    /// In base64.
    #[serde(borrow, default)]
    pub data: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LogprobsResult {
    #[serde(default)]
    pub top_candidates: Option<Vec<TopCandidates>>,
    #[serde(default)]
    pub chosen_candidates: Option<Vec<TokenProbability>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct TopCandidates {
    #[serde(default)]
    pub candidates: Option<Vec<TokenProbability>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TokenProbability {
    #[serde(default)]
    pub token: Option<String>,
    #[serde(default)]
    pub log_probability: Option<serde_json::Number>,
}

#[derive(Debug, Deserialize)]
pub(super) struct CitationMetadata {
    #[serde(default, rename = "citationSources", alias = "citations")]
    pub sources: Vec<CitationSource>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CitationSource {
    #[serde(default)]
    pub start_index: Option<u64>,
    #[serde(default)]
    pub end_index: Option<u64>,
    #[serde(default)]
    pub uri: Option<String>,
    #[serde(default)]
    pub title: Option<String>,
    #[serde(default)]
    pub license: Option<String>,
}

/// An error: the body of a failed request, or an event of a stream.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Failure {
    pub message: Option<String>,
    pub status: Option<String>,
    pub details: Option<Vec<Value>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Models {
    #[serde(default)]
    pub models: Option<Vec<Model>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Model {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub supported_generation_methods: Vec<String>,
}
