//! Requests in our inner shape: OpenAI's JSON, with views of the fields that matter to us.

use std::borrow::Cow;
use std::io::{self, Write};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::BadRequest;

/// `n` of one request ends here, as at OpenAI.
const MOST_CHOICES: u64 = 128;

/// Whose API a request is written for. Answers come in the same shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// OpenAI's Chat Completions: our inner shape, which every kind of server gets its own form of.
    Chat,
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
    output_limit: Option<u64>,
    model_output: Option<u64>,
}

/// A request for embeddings.
#[derive(Debug, Clone)]
pub struct EmbeddingsRequest {
    original: Bytes,
    body: Map<String, Value>,
}

/// Something in a message that is not text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// A picture.
    Image {
        /// Whether the request asks for little detail.
        low_detail: bool,
    },
    /// A sound, of so many bytes.
    Audio {
        /// Its size in bytes.
        bytes: u64,
    },
    /// A file, or something else that we don't know.
    File {
        /// Its size in bytes, if it is in the request itself.
        bytes: Option<u64>,
    },
}

fn bad(message: impl Into<String>, param: &str) -> BadRequest {
    BadRequest { message: message.into(), param: Some(param.to_owned()) }
}

fn object(body: &Bytes) -> Result<Map<String, Value>, BadRequest> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(BadRequest { message: "the body must be a JSON object".into(), param: None }),
        Err(error) => Err(BadRequest { message: format!("the body is no valid JSON: {error}"), param: None }),
    }
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
    /// Reads a request.
    ///
    /// # Errors
    /// Says which field is wrong.
    pub fn parse(original: Bytes) -> Result<Self, BadRequest> {
        let mut body = object(&original)?;
        model(&body)?;
        if !body.get("messages").is_some_and(Value::is_array) {
            return Err(bad("messages must be a list", "messages"));
        }
        let stream = match body.get("stream") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(stream)) => *stream,
            Some(_) => return Err(bad("stream must be true or false", "stream")),
        };
        let asks_usage =
            body.get("stream_options").and_then(|options| options.get("include_usage")) == Some(&json!(true));
        let choices = whole(&body, "n")?.unwrap_or(1);
        if choices == 0 || choices > MOST_CHOICES {
            return Err(bad(format!("n must be from 1 to {MOST_CHOICES}"), "n"));
        }
        let limits = [whole(&body, "max_completion_tokens")?, whole(&body, "max_tokens")?];
        let output_limit = limits.into_iter().flatten().min();
        if stream {
            match body.entry("stream_options").or_insert_with(|| json!({})) {
                Value::Object(options) => {
                    options.insert("include_usage".into(), Value::Bool(true));
                }
                options @ Value::Null => *options = json!({"include_usage": true}),
                _ => return Err(bad("stream_options must be an object", "stream_options")),
            }
        }
        let shape = Shape::Chat;
        Ok(Self { shape, original, body, stream, asks_usage, choices, output_limit, model_output: None })
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

    /// How many answers are wanted.
    pub const fn choices(&self) -> u64 {
        self.choices
    }

    /// The most output tokens of each answer, if the request says so.
    pub const fn output_limit(&self) -> Option<u64> {
        self.output_limit
    }

    /// Lowers the limit of each answer to at most `tokens`, in the fields that the request uses, else in `field`.
    pub fn lower_output_limit(&mut self, tokens: u64, field: &str) {
        let mut said = false;
        for name in ["max_completion_tokens", "max_tokens"] {
            if let Some(limit) = self.body.get(name).and_then(Value::as_u64) {
                said = true;
                if limit > tokens {
                    self.body.insert(name.into(), tokens.into());
                }
            }
        }
        if !said {
            self.body.insert(field.into(), tokens.into());
        }
        self.output_limit = Some(self.output_limit.map_or(tokens, |limit| limit.min(tokens)));
    }

    /// How many messages there are.
    pub fn message_count(&self) -> usize {
        self.messages().len()
    }

    /// Every text that counts as input: messages, names, tool calls of the history, tools, the wanted format.
    pub fn input_text(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let messages = self.messages().iter().flat_map(message_text);
        let schemas =
            ["tools", "functions", "response_format"].into_iter().filter_map(|field| self.body.get(field));
        messages.map(Cow::Borrowed).chain(schemas.map(|schema| Cow::Owned(schema.to_string())))
    }

    /// The length of all that in bytes, without building it.
    pub fn input_length(&self) -> u64 {
        let messages: u64 = self.messages().iter().flat_map(message_text).map(|text| text.len() as u64).sum();
        let schemas =
            ["tools", "functions", "response_format"].into_iter().filter_map(|field| self.body.get(field));
        messages + schemas.map(json_length).sum::<u64>()
    }

    /// What is not text.
    pub fn media(&self) -> Vec<Media> {
        self.messages().iter().flat_map(parts).filter_map(media).collect()
    }

    /// Refuses what would change the model, the endpoint, the key or the tier, or would bill extra.
    ///
    /// # Errors
    /// Names the field.
    pub fn refuse_unpriced_fields(&self) -> Result<(), BadRequest> {
        crate::refused::check(&self.body)
    }

    /// The body to send.
    pub(crate) const fn body(&self) -> &Map<String, Value> {
        &self.body
    }

    fn messages(&self) -> &[Value] {
        self.body.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }
}

impl EmbeddingsRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// Says which field is wrong.
    pub fn parse(original: Bytes) -> Result<Self, BadRequest> {
        let body = object(&original)?;
        model(&body)?;
        let list_fits = |list: &Vec<Value>| {
            let flat = |value: &Value| value.is_string() || value.is_u64();
            let nested =
                |value: &Value| value.as_array().is_some_and(|inner| inner.iter().all(Value::is_u64));
            !list.is_empty() && (list.iter().all(flat) || list.iter().all(nested))
        };
        match body.get("input") {
            Some(Value::String(_)) => {}
            Some(Value::Array(list)) if list_fits(list) => {}
            _ => return Err(bad("input must be a text, a list of texts, or a list of tokens", "input")),
        }
        Ok(Self { original, body })
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

    /// The texts to embed.
    pub fn input_text(&self) -> impl Iterator<Item = &str> {
        let input = self.body.get("input");
        let one = input.and_then(Value::as_str);
        let many = input.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        one.into_iter().chain(many)
    }

    /// How many tokens are given as numbers.
    pub fn token_count(&self) -> u64 {
        let list = self.body.get("input").and_then(Value::as_array).into_iter().flatten();
        list.map(|value| match value {
            Value::Number(_) => 1,
            Value::Array(inner) => inner.len() as u64,
            _ => 0,
        })
        .sum()
    }

    /// The length of all texts in bytes.
    pub fn input_length(&self) -> u64 {
        self.input_text().map(|text| text.len() as u64).sum()
    }

    /// Refuses what would change the model, the endpoint, the key or the tier, or would bill extra.
    ///
    /// # Errors
    /// Names the field.
    pub fn refuse_unpriced_fields(&self) -> Result<(), BadRequest> {
        crate::refused::check(&self.body)
    }

    pub(crate) const fn body(&self) -> &Map<String, Value> {
        &self.body
    }
}

fn parts(message: &Value) -> impl Iterator<Item = &Value> {
    message.get("content").and_then(Value::as_array).into_iter().flatten()
}

fn message_text(message: &Value) -> impl Iterator<Item = &str> {
    let field = |name| message.get(name).and_then(Value::as_str);
    let direct = [field("content"), field("name"), field("reasoning_content"), field("refusal")];
    let of_parts = parts(message).flat_map(|part| {
        [part.get("text"), part.get("refusal")]
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .chain(part.as_str())
    });
    let calls = message.get("tool_calls").and_then(Value::as_array).into_iter().flatten();
    let functions = calls.filter_map(|call| call.get("function")).chain(message.get("function_call"));
    let of_calls = functions.flat_map(|function| {
        [function.get("name"), function.get("arguments")].into_iter().flatten().filter_map(Value::as_str)
    });
    direct.into_iter().flatten().chain(of_parts).chain(of_calls)
}

fn media(part: &Value) -> Option<Media> {
    // Three bytes of data are four characters of base64.
    let decoded = |text: &str| text.len() as u64 / 4 * 3;
    match part.get("type").and_then(Value::as_str)? {
        "text" | "refusal" => None,
        "image_url" => {
            let detail = part.get("image_url").and_then(|image| image.get("detail")).and_then(Value::as_str);
            Some(Media::Image { low_detail: detail == Some("low") })
        }
        "input_audio" => {
            let data = part.get("input_audio").and_then(|audio| audio.get("data")).and_then(Value::as_str);
            Some(Media::Audio { bytes: decoded(data.unwrap_or_default()) })
        }
        _ => {
            let data = part.get("file").and_then(|file| file.get("file_data")).and_then(Value::as_str);
            Some(Media::File { bytes: data.map(decoded) })
        }
    }
}

fn json_length(value: &Value) -> u64 {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(body: Value) -> Result<ChatRequest, BadRequest> {
        ChatRequest::parse(Bytes::from(body.to_string()))
    }

    #[test]
    fn wrong_fields_are_named() {
        let messages = json!([]);
        for (body, param) in [
            (json!({"messages": messages}), "model"),
            (json!({"model": 7, "messages": messages}), "model"),
            (json!({"model": "m"}), "messages"),
            (json!({"model": "m", "messages": messages, "stream": "yes"}), "stream"),
            (json!({"model": "m", "messages": messages, "n": 0}), "n"),
            (json!({"model": "m", "messages": messages, "max_tokens": -1}), "max_tokens"),
            (json!({"model": "m", "messages": messages, "max_tokens": 1.5}), "max_tokens"),
            (
                json!({"model": "m", "messages": messages, "stream": true, "stream_options": 1}),
                "stream_options",
            ),
        ] {
            assert_eq!(chat(body.clone()).unwrap_err().param.as_deref(), Some(param), "{body}");
        }
        assert!(ChatRequest::parse(Bytes::from_static(b"[1]")).is_err());
        assert!(ChatRequest::parse(Bytes::from_static(b"\xff{")).is_err());
    }

    #[test]
    fn usage_is_always_asked_for_in_streams_and_the_rest_passes_untouched() {
        let body = r#"{"model":"m","zebra":1.50,"messages":[],"stream":true,"a":{"y":1,"b":12345678901234567890123}}"#;
        let request = ChatRequest::parse(Bytes::from(body)).unwrap();
        assert!(!request.asks_usage());
        let sent = serde_json::to_string(request.body()).unwrap();
        assert_eq!(sent, body.replace("}}", r#"},"stream_options":{"include_usage":true}}"#));
    }

    #[test]
    fn all_text_and_media_are_seen() {
        let request = chat(json!({"model": "m", "tools": [{"a": 1}], "messages": [
            {"role": "system", "content": "one"},
            {"role": "user", "content": [
                {"type": "text", "text": "two"},
                {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "AAAAAAAA"}},
                {"type": "file", "file": {"file_id": "f"}},
            ]},
            {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "three", "arguments": "{}"}}]},
        ]}))
        .unwrap();
        let texts: Vec<_> = request.input_text().collect();
        assert_eq!(texts, ["one", "two", "three", "{}", r#"[{"a":1}]"#]);
        assert_eq!(request.input_length(), texts.iter().map(|text| text.len() as u64).sum::<u64>());
        let media =
            [Media::Image { low_detail: true }, Media::Audio { bytes: 6 }, Media::File { bytes: None }];
        assert_eq!(request.media(), media);
    }

    #[test]
    fn limits_are_lowered_never_raised() {
        let mut request = chat(json!({"model": "m", "messages": [], "max_tokens": 100})).unwrap();
        request.lower_output_limit(500, "max_completion_tokens");
        assert_eq!(request.body().get("max_tokens"), Some(&json!(100)));
        request.lower_output_limit(50, "max_completion_tokens");
        assert_eq!(request.body().get("max_tokens"), Some(&json!(50)));
        assert!(!request.body().contains_key("max_completion_tokens"));
        let mut open = chat(json!({"model": "m", "messages": []})).unwrap();
        open.lower_output_limit(7, "max_completion_tokens");
        assert_eq!(open.body().get("max_completion_tokens"), Some(&json!(7)));
    }

    #[test]
    fn embeddings_inputs() {
        let parse = |input: Value| {
            EmbeddingsRequest::parse(Bytes::from(json!({"model": "m", "input": input}).to_string()))
        };
        assert_eq!(parse(json!(["a", "bc"])).unwrap().input_length(), 3);
        assert_eq!(parse(json!([[1, 2], [3]])).unwrap().token_count(), 3);
        assert!(parse(json!([])).is_err());
        assert!(parse(json!([["a"]])).is_err());
        assert!(parse(json!({"a": 1})).is_err());
    }
}
