//! Mistral's API ("Chat", "Embeddings", "Models", "Reasoning").

mod check;

use accounting::Usage;
use axum::response::Response;
use serde_json::{Value, json};

use super::asked::{Asked, Incoming, Refused};
use super::directive::{all_text, last_text};
use super::job::{self, Format, Texts};
use super::openai::{choice, stop};
use super::plan::{Call, End, Made, Piece, Plan, words};

const MODELS: [&str; 3] = ["mistral-medium-3-5-test", "magistral-test", "mistral-embed-test"];

/// One answer in this format.
#[derive(Debug)]
pub(super) struct Mistral;

pub(super) async fn chat(incoming: Incoming) -> Response {
    job::chat(incoming, Mistral).await
}

pub(super) async fn models(incoming: Incoming) -> Response {
    let refused = check::key(&incoming).err();
    let data = MODELS.iter().map(|id| {
        json!({
            "id": id, "object": "model", "created": 1, "owned_by": "mistralai", "type": "base",
            "capabilities": {"completion_chat": !id.contains("embed"), "function_calling": true, "vision": true},
            "max_context_length": 131_072, "aliases": []
        })
    });
    job::models(incoming, refused, error, &json!({"object": "list", "data": data.collect::<Value>()}))
}

fn error(refused: &Refused) -> Value {
    if let (422, Some(field)) = (refused.status, &refused.param) {
        let place = json!(["body", field]);
        let detail =
            json!([{"type": "extra_forbidden", "loc": place, "msg": refused.message, "input": null}]);
        return json!({
            "object": "error", "message": {"detail": detail}, "type": "invalid_request_error", "param": null, "code": null
        });
    }
    let order = ["Unexpected role", "Not the same number", "Expected last role"];
    let (kind, code) = match refused.status {
        400 if order.iter().any(|begin| refused.message.starts_with(begin)) => {
            ("invalid_request_message_order", "3230")
        }
        400 => ("invalid_request_error", "3051"),
        401 => ("unauthorized", "1001"),
        404 => ("invalid_model", "1500"),
        429 => ("rate_limited", "1300"),
        503 => ("unreachable_backend", "1100"),
        _ => ("internal_server_error", "3000"),
    };
    json!({
        "object": "error", "message": refused.message, "type": kind, "param": refused.param, "code": code,
        "raw_status_code": refused.status
    })
}

impl Format for Mistral {
    const REQUEST_ID: Option<&'static str> = Some("mistral-correlation-id");
    const HALF: &'static str = "data: {\"choices\":[{\"del";
    const MALFORMED: &'static str = "data: {oops\n\n";

    fn read(&mut self, incoming: &Incoming) -> Result<Asked, Refused> {
        check::key(incoming)?;
        check::body(&incoming.body)?;
        let body = &incoming.body;
        let names = incoming.list("tools").iter().filter_map(|tool| tool.pointer("/function/name"));
        let (tools, choice) = choice(
            body.get("tool_choice"),
            "/function/name",
            names.filter_map(Value::as_str).map(str::to_owned).collect(),
        );
        let format = body.pointer("/response_format/type").and_then(Value::as_str);
        Ok(Asked {
            model: incoming.text("model").unwrap_or_default().to_owned(),
            text: last_text(incoming.list("messages")),
            words: words(&Value::from(incoming.list("messages")).to_string()),
            stream: incoming.is_true("stream"),
            limit: incoming.number("max_tokens"),
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
        chunk(plan, &json!({"role": "assistant", "content": ""}), None)
    }

    fn piece(&mut self, plan: &Plan, piece: &Piece) -> String {
        let delta = match piece {
            Piece::Thinking(text) => json!({"content": [thinking(text, false)]}),
            Piece::Text(text) => json!({"content": text}),
            // A call comes whole.
            Piece::Arguments { index, last: true, .. } => {
                let Some(called) = plan.calls.get(*index) else { return String::new() };
                json!({"content": "", "tool_calls": [call(*index, called)]})
            }
            _ => return String::new(),
        };
        chunk(plan, &delta, None)
    }

    fn end(&mut self, plan: &Plan) -> Vec<String> {
        vec![chunk(plan, &json!({"content": ""}), Some(reason(&plan.end))), "data: [DONE]\n\n".into()]
    }

    fn broken(&mut self, message: &str) -> String {
        let refused = Refused::new(503, message);
        format!("data: {}\n\n", error(&refused))
    }

    fn whole(&mut self, plan: &Plan, made: &Made) -> Value {
        let content = if made.thinking.is_empty() {
            Value::from(made.text.as_str())
        } else {
            json!([thinking(&made.thinking, true), {"type": "text", "text": made.text}])
        };
        let mut message = json!({"role": "assistant", "content": content, "tool_calls": null});
        if !made.calls.is_empty() {
            message["tool_calls"] =
                made.calls.iter().enumerate().map(|(index, called)| call(index, called)).collect();
        }
        let choices = (0..plan.choices)
            .map(|index| json!({"index": index, "message": message, "finish_reason": reason(&plan.end)}));
        let mut answer = head(plan);
        answer["object"] = "chat.completion".into();
        answer["choices"] = choices.collect();
        if let Some(usage) = plan.usage() {
            answer["usage"] = usage_json(plan, &usage);
        }
        answer
    }
}

fn head(plan: &Plan) -> Value {
    json!({"id": "simulated", "object": "chat.completion.chunk", "created": 1, "model": plan.model})
}

/// A chunk of a stream; the one with the reason of its end has the usage, too.
fn chunk(plan: &Plan, delta: &Value, reason: Option<&str>) -> String {
    let choices =
        (0..plan.choices).map(|index| json!({"index": index, "delta": delta, "finish_reason": reason}));
    let mut chunk = head(plan);
    chunk["choices"] = choices.collect();
    if let Some(usage) = plan.usage().filter(|_| reason.is_some()) {
        chunk["usage"] = usage_json(plan, &usage);
    }
    format!("data: {chunk}\n\n")
}

fn thinking(text: &str, closed: bool) -> Value {
    json!({"type": "thinking", "thinking": [{"type": "text", "text": text}], "closed": closed})
}

/// An id here is nine letters and digits.
fn call(index: usize, call: &Call) -> Value {
    json!({"id": call.id, "type": "function", "index": index,
        "function": {"name": call.name, "arguments": call.arguments}})
}

fn reason(end: &End) -> &'static str {
    match end {
        End::Stop | End::At(_) => "stop",
        End::Length => "length",
        End::Calls => "tool_calls",
        // Nothing else says so here.
        End::Blocked => "error",
    }
}

fn usage_json(plan: &Plan, usage: &Usage) -> Value {
    let mut told = json!({
        "prompt_tokens": plan.count(usage.input),
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
    });
    if usage.cached_input > 0 {
        told["prompt_tokens_details"] = json!({"cached_tokens": usage.cached_input});
        told["num_cached_tokens"] = usage.cached_input.into();
    }
    told
}

pub(super) async fn embeddings(incoming: Incoming) -> Response {
    let input = incoming.body.get("input").cloned().unwrap_or_default();
    let texts = check::key(&incoming)
        .and_then(|()| check::embeddings(&incoming.body))
        .map(|()| Texts { text: all_text(&input), count: input.as_array().map_or(1, Vec::len) });
    let model = incoming.text("model").unwrap_or_default().to_owned();
    job::embeddings(incoming, texts, error, |embedded| {
        let data = (0..embedded.count)
            .map(|index| json!({"object": "embedding", "index": index, "embedding": [0.5, 0.25]}));
        let mut answer =
            json!({"id": "simulated", "object": "list", "model": model, "data": data.collect::<Value>()});
        if let Some(input) = embedded.input {
            answer["usage"] = json!({"prompt_tokens": input, "completion_tokens": 0, "total_tokens": input});
        }
        answer
    })
    .await
}
