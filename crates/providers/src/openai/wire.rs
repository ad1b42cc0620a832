//! OpenAI's JSON, as far as we read it, with what compatible servers put beside it. Borrowed where possible; what is
//! unknown or of another type is passed over.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, de::IgnoredAny};
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
    #[serde(borrow, default, alias = "message")]
    pub delta: Option<Message<'a>>,
    #[serde(borrow, default)]
    pub text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub finish_reason: Option<&'a RawValue>,
}

impl Choice<'_> {
    /// Whether it ends; some servers say so with an empty text all the time.
    pub(super) fn ends(&self) -> bool {
        self.finish_reason.is_some_and(|reason| !matches!(reason.get(), "\"\"" | "null"))
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow, default)]
    pub content: Option<Content<'a>>,
    #[serde(borrow, default)]
    pub reasoning_content: Option<Content<'a>>,
    #[serde(borrow, default)]
    pub reasoning: Option<Content<'a>>,
    #[serde(borrow, default)]
    pub reasoning_details: Option<Details<'a>>,
    #[serde(borrow, default)]
    pub refusal: Option<Content<'a>>,
    #[serde(borrow, default)]
    pub tool_calls: Option<ToolCalls<'a>>,
    #[serde(borrow, default)]
    pub function_call: Option<Function<'a>>,
}

/// Text, or whatever else a server puts there, as raw JSON.
#[derive(Debug)]
pub(super) struct Content<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        let text = raw.get();
        let unquoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        Ok(Self(match unquoted {
            Some(plain) if !plain.contains('\\') => Cow::Borrowed(plain),
            Some(_) => serde_json::from_str::<String>(text).map_or(Cow::Borrowed(text), Cow::Owned),
            None => Cow::Borrowed(text),
        }))
    }
}

impl Content<'_> {
    /// The text, if there is any.
    pub(super) fn text(content: Option<&Self>) -> Option<&str> {
        content.map(|content| &*content.0).filter(|text| !matches!(*text, "" | "null"))
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
        let text = <&RawValue>::deserialize(deserializer)?.get();
        let read = if text.starts_with('{') {
            serde_json::from_str(text).map(|call| vec![call])
        } else {
            serde_json::from_str(text)
        };
        Ok(Self(read.unwrap_or_default()))
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct ToolCall<'a> {
    #[serde(borrow, default)]
    pub function: Option<Function<'a>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Function<'a> {
    #[serde(borrow, default)]
    pub name: Option<Cow<'a, str>>,
    /// JSON as text; with some servers the JSON itself.
    #[serde(borrow, default)]
    pub arguments: Option<Content<'a>>,
}

/// Signed, so that a negative count is seen and not an unreadable answer.
#[derive(Debug, Deserialize)]
pub(super) struct Usage {
    #[serde(default)]
    pub prompt_tokens: Option<i64>,
    #[serde(default)]
    pub completion_tokens: Option<i64>,
    #[serde(default, deserialize_with = "if_whole")]
    pub total_tokens: Option<i64>,
    #[serde(default)]
    pub prompt_tokens_details: Option<PromptDetails>,
    #[serde(default)]
    pub completion_tokens_details: Option<CompletionDetails>,
    /// DeepSeek's cached tokens.
    #[serde(default, deserialize_with = "if_whole")]
    pub prompt_cache_hit_tokens: Option<i64>,
    /// Mistral's.
    #[serde(default, deserialize_with = "if_whole")]
    pub num_cached_tokens: Option<i64>,
    /// Anthropic's, as LiteLLM hands them on.
    #[serde(default, deserialize_with = "if_whole")]
    pub cache_read_input_tokens: Option<i64>,
    #[serde(default, deserialize_with = "if_whole")]
    pub cache_creation_input_tokens: Option<i64>,
    #[serde(default)]
    pub cache_creation: Option<CacheCreation>,
    /// Mistral's input of audio, which it bills by time.
    #[serde(default, deserialize_with = "if_whole")]
    pub prompt_audio_seconds: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ResponsesUsage {
    #[serde(default)]
    pub input_tokens: Option<i64>,
    #[serde(default)]
    pub output_tokens: Option<i64>,
    #[serde(default)]
    pub input_tokens_details: Option<PromptDetails>,
    #[serde(default)]
    pub output_tokens_details: Option<CompletionDetails>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct PromptDetails {
    #[serde(default)]
    pub cached_tokens: Option<i64>,
    #[serde(default)]
    pub audio_tokens: Option<i64>,
    /// OpenRouter's tokens written to a cache.
    #[serde(default, deserialize_with = "if_whole")]
    pub cache_write_tokens: Option<i64>,
    /// LiteLLM's.
    #[serde(default, deserialize_with = "if_whole")]
    pub cache_creation_tokens: Option<i64>,
    #[serde(default)]
    pub cache_creation_token_details: Option<CacheCreation>,
}

/// How long what was written to a cache is kept.
#[derive(Debug, Default, Deserialize)]
pub(super) struct CacheCreation {
    #[serde(default, deserialize_with = "if_whole")]
    pub ephemeral_1h_input_tokens: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct CompletionDetails {
    #[serde(default)]
    pub reasoning_tokens: Option<i64>,
    #[serde(default)]
    pub audio_tokens: Option<i64>,
}

/// A count that not every server knows: what is no whole number is none.
fn if_whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Ok(Option::<&RawValue>::deserialize(deserializer)?.and_then(|raw| raw.get().parse().ok()))
}

#[derive(Debug, Deserialize)]
pub(super) struct Models {
    pub data: Vec<Model>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Model {
    pub id: String,
}
