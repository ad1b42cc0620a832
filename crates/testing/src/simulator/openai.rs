//! OpenAI's Chat Completions, Embeddings and Models (API reference), as compatible servers have them: visible reasoning is
//! `reasoning_content` (DeepSeek, vLLM). Azure's are the same with its filters' results.

use accounting::Usage;
use axum::extract::Path;
use axum::response::Response;
use serde_json::{Value, json};

use super::asked::{Asked, Choice, Incoming, Refused};
use super::directive::{all_text, last_text};
use super::job::{self, Format, Texts};
use super::plan::{Call, End, Made, Piece, Plan, words};

const MODELS: [&str; 4] = ["gpt-test", "embedding-test", "free-test", "unpriced-test"];

/// One answer in this format.
#[derive(Debug, Default)]
pub(super) struct OpenAi {
    /// Azure: which deployment its route names, or an empty text for its routes without one.
    azure: Option<String>,
    with_usage: bool,
    with_logprobs: bool,
    spoke: bool,
}

pub(super) async fn chat(incoming: Incoming) -> Response {
    job::chat(incoming, OpenAi::default()).await
}

pub(super) async fn azure_chat(incoming: Incoming) -> Response {
    job::chat(incoming, OpenAi { azure: Some(String::new()), ..OpenAi::default() }).await
}

pub(super) async fn azure_deployment_chat(Path(deployment): Path<String>, incoming: Incoming) -> Response {
    job::chat(incoming, OpenAi { azure: Some(deployment), ..OpenAi::default() }).await
}

pub(super) async fn embeddings(incoming: Incoming) -> Response {
    embed(incoming, false).await
}

pub(super) async fn azure_embeddings(incoming: Incoming) -> Response {
    embed(incoming, true).await
}

pub(super) async fn models(incoming: Incoming) -> Response {
    list(incoming, false)
}

pub(super) async fn azure_models(incoming: Incoming) -> Response {
    list(incoming, true)
}

/// Refuses a request without a key.
pub(super) fn need_key(incoming: &Incoming, azure: bool) -> Result<(), Refused> {
    if incoming.has_bearer() || azure && incoming.has("api-key") {
        Ok(())
    } else {
        Err(Refused::new(401, "You didn't provide an API key."))
    }
}

/// An error's body.
pub(super) fn error(refused: &Refused) -> Value {
    let (kind, code) = match refused.status {
        400 if refused.param.is_some() => ("invalid_request_error", "invalid_value"),
        401 => ("invalid_request_error", "invalid_api_key"),
        429 => ("requests", "rate_limit_exceeded"),
        503 => ("server_error", "overloaded"),
        _ => ("simulated", "simulated"),
    };
    json!({"error": {"message": refused.message, "type": kind, "param": refused.param, "code": code}})
}

impl Format for OpenAi {
    const HALF: &'static str = "data: {\"choices\":[{\"del";
    const MALFORMED: &'static str = "data: {oops\n\n";

    fn read(&mut self, incoming: &Incoming) -> Result<Asked, Refused> {
        need_key(incoming, self.azure.is_some())?;
        let body = &incoming.body;
        let messages = incoming.list("messages");
        if messages.is_empty() {
            let refused = Refused::new(400, "Invalid 'messages': it must be a list of messages.");
            return Err(Refused { param: Some("messages".into()), ..refused });
        }
        self.with_usage = body.pointer("/stream_options/include_usage") == Some(&Value::Bool(true));
        self.with_logprobs = incoming.is_true("logprobs");
        let limit = [incoming.number("max_tokens"), incoming.number("max_completion_tokens")];
        let names = incoming.list("tools").iter().filter_map(|tool| tool.pointer("/function/name"));
        let (tools, choice) = choice(
            body.get("tool_choice"),
            "/function/name",
            names.filter_map(Value::as_str).map(str::to_owned).collect(),
        );
        let format = body.pointer("/response_format/type").and_then(Value::as_str);
        let deployment = self.azure.clone().filter(|deployment| !deployment.is_empty());
        Ok(Asked {
            model: deployment.or_else(|| incoming.text("model").map(str::to_owned)).unwrap_or_default(),
            text: last_text(messages),
            words: words(&Value::from(messages).to_string()),
            stream: incoming.is_true("stream"),
            limit: limit.into_iter().flatten().min(),
            choices: incoming.number("n"),
            tools,
            choice,
            stop: stop(body.get("stop")),
            json: matches!(format, Some("json_schema" | "json_object")),
        })
    }

    fn error(&self, refused: &Refused) -> Value {
        error(refused)
    }

    fn begin(&mut self, plan: &Plan) -> String {
        if self.azure.is_none() {
            return String::new();
        }
        let filters = json!([{"prompt_index": 0, "content_filter_results": {}}]);
        let chunk = json!({
            "id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": filters
        });
        let _ = plan;
        event(&chunk)
    }

    fn piece(&mut self, plan: &Plan, piece: &Piece) -> String {
        let mut delta = match piece {
            Piece::Thinking(text) => json!({"reasoning_content": text}),
            Piece::Text(text) => json!({"content": text}),
            Piece::Call(index) => {
                let call = plan.calls.get(*index);
                let function = json!({"name": call.map(|call| &call.name), "arguments": ""});
                let id = call.map(id);
                json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]})
            }
            Piece::Arguments { index, part, .. } => {
                json!({"tool_calls": [{"index": index, "function": {"arguments": part}}]})
            }
            Piece::Nothing => json!({}),
        };
        if !std::mem::replace(&mut self.spoke, true) {
            delta["role"] = "assistant".into();
        }
        let logprobs = match piece {
            Piece::Text(text) if self.with_logprobs => logprobs(text),
            _ => Value::Null,
        };
        self.chunk(
            plan,
            &|index| json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": null}),
        )
    }

    fn end(&mut self, plan: &Plan) -> Vec<String> {
        let finish = self
            .chunk(plan, &|index| json!({"index": index, "delta": {}, "finish_reason": reason(&plan.end)}));
        ending(plan, finish, head(plan), self.with_usage)
    }

    fn broken(&mut self, message: &str) -> String {
        broken(message)
    }

    fn whole(&mut self, plan: &Plan, made: &Made) -> Value {
        let mut message = json!({"role": "assistant", "content": made.text, "refusal": null});
        if !made.thinking.is_empty() {
            message["reasoning_content"] = made.thinking.as_str().into();
        }
        if !made.calls.is_empty() {
            if made.text.is_empty() {
                message["content"] = Value::Null;
            }
            let calls = made.calls.iter().map(|call| {
                json!({"id": id(call), "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments}})
            });
            message["tool_calls"] = calls.collect();
        }
        let logprobs = if self.with_logprobs { logprobs(&made.text) } else { Value::Null };
        let choices = (0..plan.choices).map(|index| {
            json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason(&plan.end)})
        });
        let mut answer = head(plan);
        answer["object"] = "chat.completion".into();
        answer["choices"] = choices.collect();
        if self.azure.is_some() {
            answer["prompt_filter_results"] = json!([{"prompt_index": 0, "content_filter_results": {}}]);
        }
        if let Some(usage) = plan.usage() {
            answer["usage"] = usage_json(plan, &usage);
        }
        answer
    }
}

impl OpenAi {
    /// A chunk with the same for all choices; its usage is there and empty if one was asked for.
    fn chunk(&self, plan: &Plan, choice: &dyn Fn(u64) -> Value) -> String {
        let mut chunk = head(plan);
        chunk["choices"] = (0..plan.choices).map(choice).collect();
        if self.with_usage && plan.usage().is_some() {
            chunk["usage"] = Value::Null;
        }
        event(&chunk)
    }
}

fn head(plan: &Plan) -> Value {
    json!({"id": "chatcmpl-simulated", "object": "chat.completion.chunk", "created": 1, "model": plan.model})
}

/// The end of a stream behind its last chunk: the usage, in a chunk with that head, if it was asked for.
pub(super) fn ending(plan: &Plan, last: String, mut head: Value, with_usage: bool) -> Vec<String> {
    let mut events = vec![last];
    if let Some(usage) = plan.usage().filter(|_| with_usage) {
        head["choices"] = json!([]);
        head["usage"] = usage_json(plan, &usage);
        events.push(event(&head));
    }
    events.push("data: [DONE]\n\n".into());
    events
}

/// The error that ends a stream.
pub(super) fn broken(message: &str) -> String {
    event(
        &json!({"error": {"message": message, "type": "server_error", "param": null, "code": "overloaded"}}),
    )
}

pub(super) fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

fn id(call: &Call) -> String {
    format!("call_{}", call.id)
}

pub(super) fn reason(end: &End) -> &'static str {
    match end {
        End::Stop | End::At(_) => "stop",
        End::Length => "length",
        End::Calls => "tool_calls",
        End::Blocked => "content_filter",
    }
}

fn logprobs(text: &str) -> Value {
    let tokens = text.split_inclusive(' ').map(
        |token| json!({"token": token, "logprob": -0.25, "bytes": token.as_bytes(), "top_logprobs": []}),
    );
    json!({"content": tokens.collect::<Value>(), "refusal": null})
}

pub(super) fn usage_json(plan: &Plan, usage: &Usage) -> Value {
    let mut prompt = json!({"cached_tokens": usage.cached_input, "audio_tokens": usage.input_audio});
    // Where such a server is a gateway to others (OpenRouter, LiteLLM).
    if usage.cache_write > 0 {
        prompt["cache_write_tokens"] = usage.cache_write.into();
    }
    json!({
        "prompt_tokens": plan.count(usage.input),
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": prompt,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "audio_tokens": 0},
    })
}

/// The tools in the order in which they are called, and whether they must be. A choice may name one.
pub(super) fn choice(choice: Option<&Value>, name_at: &str, tools: Vec<String>) -> (Vec<String>, Choice) {
    let named = choice.and_then(|choice| choice.pointer(name_at)).and_then(Value::as_str);
    match (choice.and_then(Value::as_str), named) {
        (_, Some(name)) => (vec![name.to_owned()], Choice::Must),
        (Some("required" | "any"), _) => (tools, Choice::Must),
        (Some("none"), _) => (tools, Choice::Never),
        _ => (tools, Choice::Free),
    }
}

/// The texts at which to stop: one, or a list.
pub(super) fn stop(stop: Option<&Value>) -> Vec<String> {
    match stop {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

async fn embed(incoming: Incoming, azure: bool) -> Response {
    let input = incoming.body.get("input").cloned().unwrap_or_default();
    let texts = need_key(&incoming, azure)
        .map(|()| Texts { text: all_text(&input), count: input.as_array().map_or(1, Vec::len) });
    let base64 = incoming.text("encoding_format") == Some("base64");
    let model = incoming.text("model").unwrap_or_default().to_owned();
    job::embeddings(incoming, texts, error, |embedded| {
        // 0.5 and 0.25 as little-endian floats of 32 bits.
        let vector = if base64 { json!("AAAAPwAAgD4=") } else { json!([0.5, 0.25]) };
        let data = (0..embedded.count)
            .map(|index| json!({"object": "embedding", "index": index, "embedding": vector}));
        let mut answer = json!({"object": "list", "model": model, "data": data.collect::<Value>()});
        if let Some(input) = embedded.input {
            answer["usage"] = json!({"prompt_tokens": input, "total_tokens": input});
        }
        answer
    })
    .await
}

fn list(incoming: Incoming, azure: bool) -> Response {
    let refused = need_key(&incoming, azure).err();
    let data =
        MODELS.iter().map(|id| json!({"id": id, "object": "model", "created": 1, "owned_by": "simulated"}));
    let list = json!({"object": "list", "data": data.collect::<Value>()});
    job::models(incoming, refused, error, &list)
}
