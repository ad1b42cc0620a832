//! Answers in OpenAI's shape, for servers that speak another: chunks of a stream, and whole answers.

use accounting::Usage;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::answer::{Chunk, Complete, Reported, StreamEvent};
use crate::protocol::Asked;

/// Writes the chunks of one answer. All of them begin alike, so that is written once.
#[derive(Debug)]
pub(crate) struct ChunkWriter {
    /// Up to the choices: `{"id":…,"object":…,"created":…,"model":…,"choices":[`.
    head: String,
    model: String,
}

impl ChunkWriter {
    pub(crate) fn new(id: &str, created: i64, model: &str) -> Self {
        let head = json!({
            "id": id, "object": "chat.completion.chunk", "created": created, "model": model, "choices": []
        });
        let mut head = head.to_string();
        head.truncate(head.len() - 2);
        Self { head, model: model.to_owned() }
    }

    /// A piece of a choice: its delta, and what of it is billed output, as text.
    pub(crate) fn delta(&self, index: u64, delta: &impl Serialize, produced: String) -> StreamEvent {
        let choice = choice(index, delta, None);
        self.written(&choice, None, Chunk { produced, ..Chunk::default() })
    }

    /// The same, with OpenAI's `logprobs` of it where the server told them.
    pub(crate) fn delta_with_logprobs(
        &self,
        index: u64,
        delta: &impl Serialize,
        logprobs: Option<&impl Serialize>,
        produced: String,
    ) -> StreamEvent {
        let Some(logprobs) = logprobs else { return self.delta(index, delta, produced) };
        let mut choice = choice(index, delta, None);
        choice.pop();
        choice.push_str(",\"logprobs\":");
        choice.push_str(&serde_json::to_string(logprobs).unwrap_or_else(|_| "null".into()));
        choice.push('}');
        self.written(&choice, None, Chunk { produced, ..Chunk::default() })
    }

    /// The same, where the server has told what it used so far (its input, at least).
    pub(crate) fn delta_so_far(
        &self,
        index: u64,
        delta: &impl Serialize,
        produced: String,
        usage: Usage,
    ) -> StreamEvent {
        let choice = choice(index, delta, None);
        let usage = Some(Reported::SoFar(usage));
        self.written(&choice, None, Chunk { produced, usage, ..Chunk::default() })
    }

    /// A piece of a choice with all that may stand beside its delta: OpenAI's `logprobs`, and what it tells.
    pub(crate) fn piece(
        &self,
        index: u64,
        delta: &impl Serialize,
        logprobs: Option<&Value>,
        chunk: Chunk,
    ) -> StreamEvent {
        let mut choice = choice(index, delta, None);
        if let Some(logprobs) = logprobs {
            choice.truncate(choice.len() - 1);
            choice.push_str(&format!(",\"logprobs\":{logprobs}}}"));
        }
        self.written(&choice, None, chunk)
    }

    /// The end of a choice. `reason`: `stop`, `length`, `tool_calls` or `content_filter`.
    pub(crate) fn finish(&self, index: u64, reason: &str) -> StreamEvent {
        let choice = choice(index, &json!({}), Some(reason));
        self.written(&choice, None, Chunk { finish: true, ..Chunk::default() })
    }

    /// What the answer used: a chunk without choices. `extra` stands beside OpenAI's own fields.
    pub(crate) fn usage(&self, reported: Reported) -> StreamEvent {
        let (Reported::Final(usage) | Reported::SoFar(usage)) = &reported;
        let json = usage_json(usage);
        let chunk = Chunk { no_choices: true, usage: Some(reported), ..Chunk::default() };
        self.written("", Some(json), chunk)
    }

    fn written(&self, choices: &str, usage: Option<Value>, chunk: Chunk) -> StreamEvent {
        let usage = usage.map(|usage| format!(",\"usage\":{usage}")).unwrap_or_default();
        let json = format!("{}{choices}]{usage}}}", self.head);
        StreamEvent::written(&json, Chunk { model: Some(self.model.clone()), ..chunk })
    }
}

fn choice(index: u64, delta: &impl Serialize, reason: Option<&str>) -> String {
    let delta = serde_json::to_string(delta).unwrap_or_default();
    match reason {
        Some(reason) => format!("{{\"index\":{index},\"delta\":{delta},\"finish_reason\":\"{reason}\"}}"),
        None => format!("{{\"index\":{index},\"delta\":{delta},\"finish_reason\":null}}"),
    }
}

/// A usage as OpenAI writes it, with the classes of other servers beside its own.
pub(crate) fn usage_json(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_input,
            "cache_write_tokens": usage.cache_write + usage.cache_write_long,
            "audio_tokens": usage.input_audio,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": usage.output_audio,
        },
    })
}

/// One choice of a whole answer.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    /// OpenAI's `message`, with its role.
    pub message: Value,
    /// `stop`, `length`, `tool_calls` or `content_filter`.
    pub reason: String,
    /// OpenAI's `logprobs`, if there are any.
    pub logprobs: Option<Value>,
}

/// A whole answer in OpenAI's shape. `produced`: all billed output, as text.
pub(crate) fn complete(
    id: &str,
    asked: &Asked,
    model: Option<String>,
    choices: Vec<Choice>,
    usage: Option<Usage>,
    produced: String,
) -> Complete {
    let choices: Vec<Value> = (0_u64..)
        .zip(choices)
        .map(|(index, choice)| {
            let Choice { message, reason, logprobs } = choice;
            json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason})
        })
        .collect();
    let mut body = Map::new();
    body.insert("id".into(), id.into());
    body.insert("object".into(), "chat.completion".into());
    body.insert("created".into(), asked.created.into());
    body.insert("model".into(), model.as_deref().unwrap_or(&asked.model).into());
    body.insert("choices".into(), choices.into());
    if let Some(usage) = &usage {
        body.insert("usage".into(), usage_json(usage));
    }
    whole(&Value::Object(body), usage, model, produced)
}

/// Vectors in OpenAI's shape.
pub(crate) fn embeddings(asked: &Asked, vectors: Vec<Value>, usage: Option<Usage>) -> Complete {
    let data: Vec<Value> = (0_u64..)
        .zip(vectors)
        .map(|(index, vector)| json!({"object": "embedding", "index": index, "embedding": vector}))
        .collect();
    let mut body = json!({"object": "list", "data": data, "model": asked.model});
    if let Some(usage) = &usage {
        body["usage"] = json!({"prompt_tokens": usage.input, "total_tokens": usage.input});
    }
    whole(&body, usage, None, String::new())
}

/// A vector as OpenAI writes it where `encoding_format` is `base64`, which its own clients ask for: 32-bit floats in
/// little endian.
pub(crate) fn vector_in_base64(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}

fn whole(body: &Value, usage: Option<Usage>, model: Option<String>, produced: String) -> Complete {
    Complete::new(Bytes::from(body.to_string()), usage, model, produced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_json_that_the_official_clients_know() {
        let writer = ChunkWriter::new("x\"1", 7, "m");
        let piece = writer.delta(1, &json!({"content": "a\nb"}), "a\nb".into());
        let expected = json!({"id": "x\"1", "object": "chat.completion.chunk", "created": 7, "model": "m",
            "choices": [{"index": 1, "delta": {"content": "a\nb"}, "finish_reason": null}]});
        assert_eq!(Value::Object(piece.json().unwrap()), expected);
        assert_eq!(piece.raw.as_ref(), format!("data: {expected}\n\n").as_bytes());
        let finish = writer.finish(0, "tool_calls");
        assert_eq!(finish.json().unwrap()["choices"][0]["finish_reason"], "tool_calls");
        let usage = Usage { cached_input: 2, reasoning: 1, ..Usage::tokens(5, 4) };
        let usage = writer.usage(Reported::Final(usage)).json().unwrap();
        assert_eq!((&usage["choices"], &usage["usage"]["total_tokens"]), (&json!([]), &json!(9)));
        assert_eq!(usage["usage"]["prompt_tokens_details"]["cached_tokens"], 2);
        let likely = writer.delta_with_logprobs(0, &json!({}), Some(&json!({"content": []})), String::new());
        assert_eq!(likely.json().unwrap()["choices"][0]["logprobs"], json!({"content": []}));
    }

    #[test]
    fn vectors_in_base64() {
        assert_eq!(vector_in_base64(&[]), "");
        assert_eq!(vector_in_base64(&[1.0]), "AACAPw==");
        assert_eq!(vector_in_base64(&[1.0, -2.5]), "AACAPwAAIMA=");
        assert_eq!(vector_in_base64(&[1.0, -2.5, 0.0]), "AACAPwAAIMAAAAAA");
    }
}
