//! Anthropic's Messages API ("Create a Message", "Streaming messages", "Errors", "List Models").

mod check;
mod messages;

use accounting::Usage;
use axum::response::Response;
use serde_json::{Value, json};

use super::asked::{Asked, Choice, Incoming, Refused};
use super::directive::last_text;
use super::job::{self, Format};
use super::openai::stop;
use super::plan::{Call, End, Made, Piece, Plan, words};
use super::signature;

const MODELS: [&str; 3] = ["claude-sonnet-4-5-test", "claude-opus-4-7-test", "claude-3-5-haiku-test"];

/// One answer in this format.
#[derive(Debug, Default)]
pub(super) struct Anthropic {
    thinks: bool,
    /// Its thinking is signed, but not shown.
    omits: bool,
    /// Blocks begun.
    blocks: u64,
    open: Open,
    thought: String,
}

/// The block that is being written.
#[derive(Debug, Default, PartialEq, Eq)]
enum Open {
    #[default]
    None,
    Thinking,
    /// Shows nothing until it ends.
    Redacted,
    Text,
    Call,
}

pub(super) async fn messages(incoming: Incoming) -> Response {
    job::chat(incoming, Anthropic::default()).await
}

pub(super) async fn models(incoming: Incoming) -> Response {
    let refused = check::headers(&incoming).err();
    let data = MODELS.iter().map(
        |id| json!({"type": "model", "id": id, "display_name": id, "created_at": "2026-01-01T00:00:00Z"}),
    );
    let list = json!({
        "data": data.collect::<Value>(), "has_more": false, "first_id": MODELS.first(), "last_id": MODELS.last()
    });
    job::models(incoming, refused, error, &list)
}

/// "Count tokens in a Message".
pub(super) async fn count_tokens(incoming: Incoming) -> Response {
    let refused = check::headers(&incoming).err().or_else(|| {
        let extra = ["max_tokens", "stream"].into_iter().find(|field| incoming.body.get(*field).is_some());
        extra.map(|field| Refused::new(400, format!("{field}: Extra inputs are not permitted")))
    });
    let body = &incoming.body;
    let input = json!([body.get("system"), body.get("messages"), body.get("tools")]);
    let count = json!({"input_tokens": words(&input.to_string())});
    job::models(incoming, refused, error, &count)
}

fn error(refused: &Refused) -> Value {
    let kind = match refused.status {
        400 | 422 => "invalid_request_error",
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": refused.message}, "request_id": "req_simulated"})
}

impl Format for Anthropic {
    const REQUEST_ID: Option<&'static str> = Some("request-id");
    const HALF: &'static str = "event: content_block_delta\ndata: {\"type\":\"content_bl";
    const MALFORMED: &'static str = "event: content_block_delta\ndata: {oops\n\n";

    fn read(&mut self, incoming: &Incoming) -> Result<Asked, Refused> {
        check::headers(incoming)?;
        check::body(&incoming.body, check::takes_system_amid(incoming))?;
        let body = &incoming.body;
        self.thinks = check::thinks(body);
        self.omits = check::omits_thinking(body);
        let names = incoming.list("tools").iter().filter_map(|tool| tool.get("name"));
        let tools: Vec<String> = names.filter_map(Value::as_str).map(str::to_owned).collect();
        let choice = |field: &str| body.pointer(&format!("/tool_choice/{field}")).and_then(Value::as_str);
        let (mut tools, choice) = match (choice("type"), choice("name")) {
            (Some("tool"), Some(name)) => (vec![name.to_owned()], Choice::Must),
            (Some("any"), _) => (tools, Choice::Must),
            (Some("none"), _) => (tools, Choice::Never),
            _ => (tools, Choice::Free),
        };
        tools.retain(|name| !name.is_empty());
        let input = json!([body.get("system"), body.get("messages"), body.get("tools")]);
        let format = ["/output_config/format", "/output_format"].into_iter().find_map(|at| body.pointer(at));
        Ok(Asked {
            model: incoming.text("model").unwrap_or_default().to_owned(),
            text: last_text(&check::spoken(incoming.list("messages"))),
            words: words(&input.to_string()),
            stream: incoming.is_true("stream"),
            limit: incoming.number("max_tokens"),
            tools,
            choice,
            stop: stop(body.get("stop_sequences")),
            json: format.is_some_and(|format| !format.is_null()),
            ..Asked::default()
        })
    }

    fn error(&self, refused: &Refused) -> Value {
        error(refused)
    }

    fn begin(&mut self, plan: &Plan) -> String {
        let mut message = head(plan);
        if let Some(usage) = plan.usage() {
            message["usage"] = usage_json(plan, &Usage { output: 1, ..usage });
        }
        event(&json!({"type": "message_start", "message": message})) + &event(&json!({"type": "ping"}))
    }

    fn piece(&mut self, plan: &Plan, piece: &Piece) -> String {
        match piece {
            Piece::Thinking(_) if !self.thinks => String::new(),
            Piece::Thinking(text) if plan.directive.redacted => {
                self.thought.push_str(text);
                let block = json!({"type": "redacted_thinking", "data": signature::of_text(text)});
                self.turn(Open::Redacted, &block)
            }
            Piece::Thinking(text) => {
                let block = json!({"type": "thinking", "thinking": "", "signature": ""});
                let start = self.turn(Open::Thinking, &block);
                if self.omits {
                    return start;
                }
                self.thought.push_str(text);
                start + &self.delta(&json!({"type": "thinking_delta", "thinking": text}))
            }
            Piece::Text(text) => {
                self.turn(Open::Text, &json!({"type": "text", "text": ""}))
                    + &self.delta(&json!({"type": "text_delta", "text": text}))
            }
            Piece::Call(index) => {
                let Some(call) = plan.calls.get(*index) else { return String::new() };
                let block = json!({"type": "tool_use", "id": id(call), "name": call.name, "input": {}});
                self.close()
                    + &self.turn(Open::Call, &block)
                    + &self.delta(&json!({"type": "input_json_delta", "partial_json": ""}))
            }
            Piece::Arguments { part, .. } => {
                self.delta(&json!({"type": "input_json_delta", "partial_json": part}))
            }
            Piece::Nothing => String::new(),
        }
    }

    fn end(&mut self, plan: &Plan) -> Vec<String> {
        let closing = self.close();
        let (reason, stop) = reason(&plan.end);
        let mut delta =
            json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": stop}});
        if let Some(usage) = plan.usage() {
            delta["usage"] = usage_json(plan, &usage);
        }
        let events = [closing, event(&delta), event(&json!({"type": "message_stop"}))];
        events.into_iter().filter(|event| !event.is_empty()).collect()
    }

    fn broken(&mut self, message: &str) -> String {
        event(&json!({"type": "error", "error": {"type": "overloaded_error", "message": message}}))
    }

    fn whole(&mut self, plan: &Plan, made: &Made) -> Value {
        let mut content = Vec::new();
        if self.thinks && !made.thinking.is_empty() {
            let thinking = if self.omits { "" } else { &made.thinking };
            let signature = signature::of_text(thinking);
            content.push(if plan.directive.redacted {
                json!({"type": "redacted_thinking", "data": signature})
            } else {
                json!({"type": "thinking", "thinking": thinking, "signature": signature})
            });
        }
        if !made.text.is_empty() {
            content.push(json!({"type": "text", "text": made.text}));
        }
        for call in &made.calls {
            let input: Value = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
            content.push(json!({"type": "tool_use", "id": id(call), "name": call.name, "input": input}));
        }
        let (reason, stop) = reason(&plan.end);
        let mut answer = head(plan);
        answer["content"] = content.into();
        answer["stop_reason"] = reason.into();
        answer["stop_sequence"] = stop.into();
        if let Some(usage) = plan.usage() {
            answer["usage"] = usage_json(plan, &usage);
        }
        answer
    }
}

impl Anthropic {
    /// Begins a block, unless one of that kind is open.
    fn turn(&mut self, kind: Open, block: &Value) -> String {
        if self.open == kind {
            return String::new();
        }
        let closing = self.close();
        self.open = kind;
        let start = json!({"type": "content_block_start", "index": self.blocks, "content_block": block});
        closing + &event(&start)
    }

    fn delta(&self, delta: &Value) -> String {
        event(&json!({"type": "content_block_delta", "index": self.blocks, "delta": delta}))
    }

    fn close(&mut self) -> String {
        let mut closing = match self.open {
            Open::None => return String::new(),
            Open::Thinking => {
                let signature = signature::of_text(&std::mem::take(&mut self.thought));
                self.delta(&json!({"type": "signature_delta", "signature": signature}))
            }
            _ => String::new(),
        };
        closing += &event(&json!({"type": "content_block_stop", "index": self.blocks}));
        self.blocks += 1;
        self.open = Open::None;
        closing
    }
}

fn head(plan: &Plan) -> Value {
    json!({
        "id": "msg_simulated", "type": "message", "role": "assistant", "model": plan.model, "content": [],
        "stop_reason": null, "stop_sequence": null
    })
}

fn event(data: &Value) -> String {
    let name = data.get("type").and_then(Value::as_str).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n")
}

fn id(call: &Call) -> String {
    format!("toolu_{}", call.id)
}

fn reason(end: &End) -> (&'static str, Option<&str>) {
    match end {
        End::Stop => ("end_turn", None),
        End::At(text) => ("stop_sequence", Some(text)),
        End::Length => ("max_tokens", None),
        End::Calls => ("tool_use", None),
        End::Blocked => ("refusal", None),
    }
}

/// Its `input_tokens` are those that no cache has to do with.
fn usage_json(plan: &Plan, usage: &Usage) -> Value {
    let written = usage.cache_write + usage.cache_write_long;
    json!({
        "input_tokens": plan.count(usage.input.saturating_sub(usage.cached_input + written)),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": usage.cached_input,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write, "ephemeral_1h_input_tokens": usage.cache_write_long
        },
        "output_tokens": usage.output,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
        "service_tier": "standard",
    })
}
