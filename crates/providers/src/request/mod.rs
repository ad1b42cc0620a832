//! Requests: a body in the shape of one API, with views of the fields that matter to us. What we don't read passes
//! untouched.
//!
//! Our inner shape is OpenAI's Chat Completions ([`chat`]); [`responses`], [`messages`] and [`completions`] are for servers
//! that have these APIs themselves.

mod chat;
mod completions;
mod embeddings;
mod fields;
mod messages;
mod most;
mod outline;
mod picture;
mod responses;
mod sound;
mod text;
mod tools;
mod unknown;

pub use embeddings::EmbeddingsRequest;
pub use most::TextSize;
pub use outline::Outline;
pub(crate) use text::{NOT_READ, shown};
pub use tools::ToolForm;
pub use unknown::Unknown;
pub(crate) use unknown::{Kinds, printable};

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::BadRequest;
use crate::hosted::leave_out_searches;

/// `n` of one request ends here, as at OpenAI.
const MOST_CHOICES: u64 = 128;
/// The least budget for thinking, in tokens.
const LEAST_BUDGET: u64 = 1024;

/// Whose API a request is written for. Answers come in the same shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// OpenAI's Chat Completions: our inner shape, which every kind of server gets its own form of.
    Chat,
    /// OpenAI's older Completions, for servers that have it: a prompt, and no conversation.
    Completions,
    /// OpenAI's Responses, for servers that have it.
    Responses,
    /// Anthropic's Messages, for servers that have it.
    Messages,
}

/// A chat request, checked where we read it; all else passes untouched.
#[derive(Debug, Clone)]
pub struct ChatRequest {
    shape: Shape,
    original: Bytes,
    body: Map<String, Value>,
    stream: bool,
    asks_usage: bool,
    choices: u64,
    answers: u64,
    output_limit: Option<u64>,
    model_output: Option<u64>,
    /// Headers of the API's own that pass with it.
    headers: http::HeaderMap,
    /// What was left out of it: searches that it only offers, and fields that went when its limit was lowered.
    omitted: Vec<String>,
}

/// Something in a message that is not text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// A picture.
    Image {
        /// Whether the request asks for little detail.
        low_detail: bool,
        /// Its width and height in pixels, if it is in the request itself and says so.
        size: Option<(u32, u32)>,
    },
    /// A sound, of so many bytes.
    Audio {
        /// Its size in bytes.
        bytes: u64,
        /// Whether a second of it takes at least 1000 bytes by what the bytes themselves are, so that its size tells how long it
        /// can be.
        timed: bool,
    },
    /// A file, or something else that we don't know.
    File {
        /// Its size in bytes, if it is in the request itself.
        bytes: Option<u64>,
    },
    /// Thoughts that only the provider can read.
    Hidden {
        /// Their size in bytes, beyond what is shown of them.
        bytes: u64,
        /// Their size in bytes, whatever is shown: a client can write a long summary itself.
        all: u64,
    },
}

pub(crate) fn bad(message: impl Into<String>, param: &str) -> BadRequest {
    BadRequest::new(message, Some(param.to_owned()))
}

/// The bytes of data that base64 text stands for, at most.
fn decoded_length(base64: &str) -> u64 {
    base64::decoded_len_estimate(base64.len()) as u64
}

fn object(body: &Bytes) -> Result<Map<String, Value>, BadRequest> {
    fields::fields(body)
}

fn invalid(error: &serde_json::Error) -> BadRequest {
    BadRequest::new(format!("the body is no valid JSON: {error}"), None)
}

/// Why a body could not be read as an object.
fn not_an_object(body: &Bytes, error: &serde_json::Error) -> BadRequest {
    let other = error.is_data() && !body.trim_ascii_start().starts_with(b"{");
    if other { BadRequest::new("the body must be a JSON object", None) } else { invalid(error) }
}

fn model(body: &Map<String, Value>) -> Result<(), BadRequest> {
    match body.get("model") {
        Some(Value::String(model)) if !model.is_empty() => Ok(()),
        _ => Err(bad("name the model as a text", "model")),
    }
}

fn whole(body: &Map<String, Value>, field: &str) -> Result<Option<u64>, BadRequest> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_u64()
            .map(Some)
            .ok_or_else(|| bad(format!("{field} must be a whole number, not negative"), field)),
    }
}

impl ChatRequest {
    /// Reads a chat in our inner shape.
    ///
    /// # Errors
    /// Says which field is wrong.
    pub fn parse(original: Bytes) -> Result<Self, BadRequest> {
        Self::parse_as(Shape::Chat, original)
    }

    /// Reads a request in that shape.
    ///
    /// # Errors
    /// Says which field is wrong.
    pub fn parse_as(shape: Shape, original: Bytes) -> Result<Self, BadRequest> {
        let mut body = object(&original)?;
        model(&body)?;
        let stream = match body.get("stream") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(stream)) => *stream,
            Some(_) => return Err(bad("stream must be true or false", "stream")),
        };
        let mut request = Self {
            shape,
            original,
            body: Map::new(),
            stream,
            asks_usage: false,
            choices: 1,
            answers: 1,
            output_limit: None,
            model_output: None,
            headers: http::HeaderMap::new(),
            omitted: Vec::new(),
        };
        let mut limits = Vec::new();
        for field in request.limit_fields() {
            limits.extend(whole(&body, field)?);
        }
        request.output_limit = limits.into_iter().min();
        // Nothing for some servers, and no limit at all for others. Anthropic's fills its cache with it.
        if request.output_limit == Some(0) && shape != Shape::Messages {
            let zero = |field: &&&str| body.get(**field).and_then(Value::as_u64) == Some(0);
            let field = request.limit_fields().iter().find(zero).unwrap_or(&"max_tokens");
            return Err(bad("the longest answer must have at least one token", field));
        }
        match shape {
            Shape::Chat => {
                if !body.get("messages").is_some_and(Value::is_array) {
                    return Err(bad("messages must be a list", "messages"));
                }
                request.choices = whole(&body, "n")?.unwrap_or(1);
                if request.choices == 0 || request.choices > MOST_CHOICES {
                    return Err(bad(format!("n must be from 1 to {MOST_CHOICES}"), "n"));
                }
                request.answers = request.choices;
                request.asks_usage = chat::asks_usage(&body);
                if stream {
                    chat::ask_usage(&mut body)?;
                }
            }
            Shape::Completions => {
                let wanted = completions::wanted(&body)?;
                (request.answers, request.choices) = (wanted.answers, wanted.made);
                request.asks_usage = chat::asks_usage(&body);
                if stream {
                    chat::ask_usage(&mut body)?;
                }
            }
            Shape::Responses => {
                if !body.get("input").is_some_and(|input| input.is_string() || input.is_array()) {
                    return Err(bad("input must be a text or a list", "input"));
                }
            }
            Shape::Messages => {
                if !body.get("messages").is_some_and(Value::is_array) {
                    return Err(bad("messages must be a list", "messages"));
                }
            }
        }
        request.omitted = match shape {
            Shape::Chat => leave_out_searches(&mut body, chat::runs),
            Shape::Responses => leave_out_searches(&mut body, responses::runs),
            Shape::Messages => leave_out_searches(&mut body, crate::anthropic::runs),
            Shape::Completions => Vec::new(),
        };
        request.body = body;
        Ok(request)
    }

    /// Whose API it is written for.
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// The longest answer that its model gives, in tokens, if that is known.
    pub const fn model_output(&self) -> Option<u64> {
        self.model_output
    }

    /// Notes the longest answer that its model gives, in tokens: some servers must be told a limit.
    pub const fn set_model_output(&mut self, tokens: Option<u64>) {
        self.model_output = tokens;
    }

    /// Headers of its API's own that are to pass with it.
    pub fn set_headers(&mut self, headers: http::HeaderMap) {
        self.headers = headers;
    }

    pub(crate) const fn headers(&self) -> &http::HeaderMap {
        &self.headers
    }

    /// As the client sent it.
    pub fn original(&self) -> Bytes {
        self.original.clone()
    }

    /// The model asked for.
    pub fn model(&self) -> &str {
        self.body.get("model").and_then(Value::as_str).unwrap_or_default()
    }

    /// Asks for another model.
    pub fn set_model(&mut self, model: String) {
        self.body.insert("model".into(), Value::String(model));
    }

    /// Whether the answer is to be streamed.
    pub const fn stream(&self) -> bool {
        self.stream
    }

    /// Whether the client itself asked for a chunk with usage.
    pub const fn asks_usage(&self) -> bool {
        self.asks_usage
    }

    /// Whether it streams, and its `stream_options` ask for usage and nothing else.
    pub(crate) fn asks_for_usage_alone(&self) -> bool {
        let options = self.body.get("stream_options").and_then(Value::as_object);
        let is_ours = options.is_some_and(|options| options.len() == 1 && chat::asks_usage(&self.body));
        self.stream && matches!(self.shape, Shape::Chat | Shape::Completions) && is_ours
    }

    /// How many answers are made, of which each is billed.
    pub const fn choices(&self) -> u64 {
        self.choices
    }

    /// How many of them come.
    pub(crate) const fn answers(&self) -> u64 {
        self.answers
    }

    /// How many are made of each prompt, or of the conversation.
    pub(crate) fn for_each_prompt(&self) -> u64 {
        let prompts = if self.has_messages() { 1 } else { self.message_count() as u64 };
        self.choices.checked_div(prompts).unwrap_or(1)
    }

    /// How many are made of each for one that comes.
    pub(crate) const fn made_for_one(&self) -> u64 {
        if self.answers == 0 { 1 } else { self.choices.div_ceil(self.answers) }
    }

    /// What each answer begins with without its being made, in their order; `None` if that is not known.
    pub(crate) fn echoes(&self) -> Option<Vec<&str>> {
        if self.shape == Shape::Completions { completions::echoes(&self.body) } else { Some(Vec::new()) }
    }

    /// The most output tokens of each answer where the request says none, if its API says so.
    pub const fn usual_output(&self) -> Option<u64> {
        match self.shape {
            Shape::Completions => Some(completions::OUTPUT),
            Shape::Chat | Shape::Responses | Shape::Messages => None,
        }
    }

    /// The most output tokens of each answer, if the request says so.
    pub const fn output_limit(&self) -> Option<u64> {
        self.output_limit
    }

    /// What was left out of it.
    pub(crate) fn omitted(&self) -> &[String] {
        &self.omitted
    }

    /// Lowers the limit of each answer to at most `tokens`, in the fields that the request uses, else in `field` (of a
    /// chat; the other shapes have one field each). A budget for thinking that no longer fits follows it.
    pub fn lower_output_limit(&mut self, tokens: u64, field: &'static str) {
        let before = self.output_limit;
        let fields = self.limit_fields();
        let mut said = false;
        for name in fields {
            if let Some(limit) = self.body.get(*name).and_then(Value::as_u64) {
                said = true;
                if limit > tokens {
                    self.body.insert((*name).into(), tokens.into());
                }
            }
        }
        if !said {
            let field = if self.shape == Shape::Chat { field } else { fields[0] };
            self.body.insert(field.into(), tokens.into());
        }
        let limit = before.map_or(tokens, |limit| limit.min(tokens));
        self.output_limit = Some(limit);
        if before.is_none_or(|before| limit < before) {
            self.fit_thinking(limit);
        }
    }

    /// A budget for thinking is part of the output and must be below its limit, and servers refuse one below a least
    /// (Anthropic, "Extended thinking"; OpenRouter, "Reasoning tokens"): then the answer goes without thinking.
    fn fit_thinking(&mut self, limit: u64) {
        for (field, name) in [("thinking", "budget_tokens"), ("reasoning", "max_tokens")] {
            let Some(Value::Object(thinking)) = self.body.get_mut(field) else { continue };
            if thinking.get(name).and_then(Value::as_u64).is_none_or(|budget| budget < limit) {
                continue;
            }
            if limit > LEAST_BUDGET {
                thinking.insert(name.into(), (limit - 1).into());
            } else {
                self.body.shift_remove(field);
                self.omitted.push(field.to_owned());
            }
        }
    }

    const fn limit_fields(&self) -> &'static [&'static str] {
        match self.shape {
            Shape::Chat => &["max_completion_tokens", "max_tokens"],
            Shape::Responses => &["max_output_tokens"],
            Shape::Messages | Shape::Completions => &["max_tokens"],
        }
    }

    /// Whether its texts stand in messages, each with something around it.
    pub fn has_messages(&self) -> bool {
        self.shape != Shape::Completions
    }

    /// How many tokens are given as numbers.
    pub fn token_count(&self) -> u64 {
        if self.has_messages() { 0 } else { completions::token_count(&self.body) }
    }

    /// How many messages there are, or prompts.
    pub fn message_count(&self) -> usize {
        if !self.has_messages() {
            return completions::prompt_count(&self.body);
        }
        let list = if self.shape == Shape::Responses { "input" } else { "messages" };
        self.body.get(list).and_then(Value::as_array).map_or(1, Vec::len)
    }

    /// Every text that counts as input: messages, names, reasoning and tool calls of the history, tools, the wanted
    /// format, and what else a server may put into its prompt.
    pub fn input_text(&self) -> Vec<Cow<'_, str>> {
        self.texts(true)
    }

    /// The same without the tools.
    pub fn input_text_without_tools(&self) -> Vec<Cow<'_, str>> {
        self.texts(false)
    }

    fn texts(&self, tools: bool) -> Vec<Cow<'_, str>> {
        match self.shape {
            Shape::Chat => chat::input_text(&self.body, tools),
            Shape::Responses => responses::found(&self.body, tools).texts,
            Shape::Messages => messages::found(&self.body, tools).texts,
            Shape::Completions => completions::found(&self.body, tools).texts,
        }
    }

    /// How much text it is at most, to a model of which nothing is known.
    pub fn size_at_most(&self) -> TextSize {
        let calls = match self.shape {
            Shape::Chat => chat::calls(&self.body),
            Shape::Responses => responses::calls(&self.body),
            Shape::Messages => messages::calls(&self.body),
            Shape::Completions => 0,
        };
        let lists = text::TOOLS.into_iter().filter_map(|field| self.body.get(field)?.as_array());
        let tools: usize = lists.map(Vec::len).sum();
        let messages = self.message_count() as u64;
        let bytes = self.token_count();
        let mut size = TextSize { messages, calls: (calls + tools) as u64, bytes, ..TextSize::default() };
        for text in self.texts(true) {
            match text {
                Cow::Borrowed(text) => size.add(text),
                Cow::Owned(json) => size.add_json(&json),
            }
        }
        size
    }

    /// The tools, in that form; empty if there are none.
    pub fn tools_text(&self, form: ToolForm) -> String {
        tools::text(&self.body, form)
    }

    /// The length of all that in bytes.
    pub fn input_length(&self) -> u64 {
        match self.shape {
            Shape::Chat => chat::input_length(&self.body),
            Shape::Responses | Shape::Messages | Shape::Completions => {
                self.input_text().iter().map(|text| text.len() as u64).sum()
            }
        }
    }

    /// What is not text.
    pub fn media(&self) -> Vec<Media> {
        match self.shape {
            Shape::Chat => chat::media(&self.body),
            Shape::Responses => responses::found(&self.body, false).media,
            Shape::Messages => messages::found(&self.body, false).media,
            Shape::Completions => Vec::new(),
        }
    }

    /// Refuses what would change the model, the endpoint, the key or the tier, or would bill extra. Tells what is unknown in
    /// it and passes.
    ///
    /// # Errors
    /// Names the field.
    pub fn refuse_unpriced_fields(&self, unknown: Unknown) -> Result<Vec<String>, BadRequest> {
        let mut kinds = Kinds::new(unknown);
        match self.shape {
            Shape::Chat => chat::refuse(&self.body, &mut kinds)?,
            Shape::Responses => responses::refuse(&self.body, &mut kinds)?,
            Shape::Messages => messages::refuse(&self.body, &mut kinds)?,
            Shape::Completions => completions::refuse(&self.body)?,
        }
        Ok(kinds.into_found())
    }

    /// The body to send.
    pub(crate) const fn body(&self) -> &Map<String, Value> {
        &self.body
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
