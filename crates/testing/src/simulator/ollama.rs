//! Ollama's own API ("Chat", "Generate embeddings", "List models", "Errors"): lines of JSON.

use accounting::Usage;
use axum::response::Response;
use serde_json::{Value, json};

use super::asked::{Asked, Incoming, Refused};
use super::directive::{all_text, last_text};
use super::job::{self, Format, Texts};
use super::openai::stop;
use super::plan::{Call, End, Made, Piece, Plan, words};

const MODELS: [&str; 2] = ["llama-test:latest", "embed-test:latest"];
const TIME: &str = "2026-01-01T00:00:00.000000Z";

/// One answer in this format.
#[derive(Debug, Default)]
pub(super) struct Ollama {
    thinks: bool,
    with_logprobs: bool,
}

pub(super) async fn chat(incoming: Incoming) -> Response {
    job::chat(incoming, Ollama::default()).await
}

pub(super) async fn tags(incoming: Incoming) -> Response {
    let models = MODELS.iter().map(|name| {
        json!({
            "name": name, "model": name, "modified_at": TIME, "size": 1_000_000, "digest": "0123456789ab",
            "details": {"format": "gguf", "family": "llama", "families": ["llama"], "parameter_size": "1B",
                "quantization_level": "Q4_0", "parent_model": ""}
        })
    });
    job::models(incoming, None, error, &json!({"models": models.collect::<Value>()}))
}

fn error(refused: &Refused) -> Value {
    json!({"error": refused.message})
}

impl Format for Ollama {
    const STREAM: &'static str = "application/x-ndjson";
    const REQUEST_ID: Option<&'static str> = None;
    const HALF: &'static str = "{\"model\":\"m\",\"message\":{\"ro";
    const MALFORMED: &'static str = "{oops\n";

    fn read(&mut self, incoming: &Incoming) -> Result<Asked, Refused> {
        let body = &incoming.body;
        check(body)?;
        self.thinks = body.get("think").is_some_and(|think| think != false && !think.is_null());
        self.with_logprobs = incoming.is_true("logprobs");
        let names = incoming.list("tools").iter().filter_map(|tool| tool.pointer("/function/name"));
        let input = json!([body.get("messages"), body.get("tools")]);
        Ok(Asked {
            model: incoming.text("model").unwrap_or_default().to_owned(),
            text: last_text(incoming.list("messages")),
            words: words(&input.to_string()),
            // As the real one, it streams unless told not to.
            stream: body.get("stream") != Some(&Value::Bool(false)),
            limit: body.pointer("/options/num_predict").and_then(Value::as_u64),
            tools: names.filter_map(Value::as_str).map(str::to_owned).collect(),
            stop: stop(body.pointer("/options/stop")),
            json: body.get("format").is_some_and(|format| format == "json" || format.is_object()),
            ..Asked::default()
        })
    }

    fn error(&self, refused: &Refused) -> Value {
        error(refused)
    }

    fn piece(&mut self, plan: &Plan, piece: &Piece) -> String {
        let mut message = json!({"role": "assistant", "content": ""});
        let mut logprobs = None;
        match piece {
            Piece::Thinking(text) if self.thinks => message["thinking"] = text.as_str().into(),
            Piece::Text(text) => {
                message["content"] = text.as_str().into();
                logprobs = self.with_logprobs.then(|| self::logprobs(text));
            }
            // A call comes whole.
            Piece::Arguments { index, last: true, .. } => {
                let Some(called) = plan.calls.get(*index) else { return String::new() };
                message["tool_calls"] = json!([call(*index, called)]);
            }
            _ => return String::new(),
        }
        let mut line = head(plan, &message);
        if let Some(logprobs) = logprobs {
            line["logprobs"] = logprobs;
        }
        line["done"] = false.into();
        format!("{line}\n")
    }

    fn end(&mut self, plan: &Plan) -> Vec<String> {
        let mut line = head(plan, &json!({"role": "assistant", "content": ""}));
        finish(plan, &mut line);
        vec![format!("{line}\n")]
    }

    fn broken(&mut self, message: &str) -> String {
        format!("{}\n", json!({"error": message}))
    }

    fn whole(&mut self, plan: &Plan, made: &Made) -> Value {
        let mut message = json!({"role": "assistant", "content": made.text});
        if self.thinks && !made.thinking.is_empty() {
            message["thinking"] = made.thinking.as_str().into();
        }
        if !made.calls.is_empty() {
            message["tool_calls"] =
                made.calls.iter().enumerate().map(|(index, called)| call(index, called)).collect();
        }
        let mut answer = head(plan, &message);
        if self.with_logprobs {
            answer["logprobs"] = logprobs(&made.text);
        }
        finish(plan, &mut answer);
        answer
    }
}

/// What the real one refuses, as far as a converter could get it wrong: its types are Go's.
fn check(body: &Value) -> Result<(), Refused> {
    let no = |message: &str| Err(Refused::new(400, message));
    let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
    if model.is_empty() {
        return no("model is required");
    }
    if body.get("options").is_some_and(|options| !options.is_object() && !options.is_null()) {
        return no(
            "json: cannot unmarshal into Go struct field ChatRequest.options of type map[string]interface {}",
        );
    }
    if body.pointer("/options/stop").is_some_and(|stop| !stop.is_array()) {
        return no("option \"stop\" must be of type array");
    }
    for message in body.get("messages").and_then(Value::as_array).into_iter().flatten() {
        if !matches!(message.get("content"), None | Some(Value::Null | Value::String(_))) {
            return no(
                "json: cannot unmarshal array into Go struct field ChatRequest.messages of type string",
            );
        }
        if !matches!(
            message.get("role").and_then(Value::as_str),
            Some("system" | "user" | "assistant" | "tool")
        ) {
            return no("invalid role");
        }
        for image in message.get("images").and_then(Value::as_array).into_iter().flatten() {
            let base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
            if !image.as_str().is_some_and(|image| !image.is_empty() && image.bytes().all(base64)) {
                return no("illegal base64 data at input byte 4");
            }
        }
        for call in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            if !call.pointer("/function/arguments").is_some_and(Value::is_object) {
                return no(
                    "json: cannot unmarshal string into Go struct field ChatRequest.messages.tool_calls.function.arguments of type api.ToolCallFunctionArguments",
                );
            }
        }
    }
    Ok(())
}

fn head(plan: &Plan, message: &Value) -> Value {
    json!({"model": plan.model, "created_at": TIME, "message": message})
}

fn call(index: usize, call: &Call) -> Value {
    let arguments: Value = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
    json!({"id": format!("call_{}", call.id), "function": {"index": index, "name": call.name, "arguments": arguments}})
}

fn logprobs(text: &str) -> Value {
    text.split_inclusive(' ')
        .map(|token| json!({"token": token, "logprob": -0.25, "bytes": token.as_bytes(), "top_logprobs": []}))
        .collect()
}

fn finish(plan: &Plan, line: &mut Value) {
    line["done"] = true.into();
    line["done_reason"] = if plan.end == End::Length { "length".into() } else { "stop".into() };
    line["total_duration"] = 3_000_000.into();
    line["load_duration"] = 1_000_000.into();
    if let Some(Usage { input, output, .. }) = plan.usage() {
        line["prompt_eval_count"] = plan.count(input).into();
        line["prompt_eval_duration"] = 1_000_000.into();
        line["eval_count"] = output.into();
        line["eval_duration"] = 1_000_000.into();
    }
}

pub(super) async fn embed(incoming: Incoming) -> Response {
    let input = incoming.body.get("input").cloned().unwrap_or_default();
    let texts = Texts { text: all_text(&input), count: input.as_array().map_or(1, Vec::len) };
    let model = incoming.text("model").unwrap_or_default().to_owned();
    job::embeddings(incoming, Ok(texts), error, |embedded| {
        let embeddings = vec![json!([0.5, 0.25]); embedded.count];
        let mut answer =
            json!({"model": model, "embeddings": embeddings, "total_duration": 1_000_000, "load_duration": 1_000});
        if let Some(input) = embedded.input {
            answer["prompt_eval_count"] = input.into();
        }
        answer
    })
    .await
}
