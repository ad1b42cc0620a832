//! OpenAI's Responses API (API reference, "Responses" and "Streaming events").

use axum::response::Response;
use serde_json::{Map, Value, json};

use super::asked::{Asked, Incoming, Refused};
use super::directive::{all_text, last_text};
use super::job::{self, Format};
use super::openai::{choice, error, need_key};
use super::plan::{Call, End, Made, Piece, Plan, words};
use super::signature;

const ID: &str = "resp_simulated";

/// One answer in this format.
#[derive(Debug, Default)]
pub(super) struct Responses {
    /// What of the request the answer repeats.
    repeated: Map<String, Value>,
    shows_thinking: bool,
    encrypts: bool,
    sequence: u64,
    /// Finished items.
    output: Vec<Value>,
    open: Option<Open>,
}

/// The item that is being written.
#[derive(Debug)]
enum Open {
    Reasoning(String),
    Message(String),
    Call(Call),
}

pub(super) async fn create(incoming: Incoming) -> Response {
    job::chat(incoming, Responses::default()).await
}

impl Format for Responses {
    const HALF: &'static str = "event: response.output_text.delta\ndata: {\"type\":\"response.out";
    const MALFORMED: &'static str = "event: response.output_text.delta\ndata: {oops\n\n";

    fn read(&mut self, incoming: &Incoming) -> Result<Asked, Refused> {
        need_key(incoming, false)?;
        let body = &incoming.body;
        let param = |param: &str, message: &str| {
            Err(Refused { param: Some(param.into()), ..Refused::new(400, message) })
        };
        for field in
            ["messages", "max_tokens", "max_completion_tokens", "response_format", "reasoning_effort"]
        {
            if body.get(field).is_some() {
                return param(field, &format!("Unsupported parameter: '{field}'."));
            }
        }
        let input = body.get("input").cloned().unwrap_or_default();
        let text = match &input {
            Value::String(text) => text.clone(),
            Value::Array(items) if !items.is_empty() => last_text(items),
            _ => return param("input", "Missing required parameter: 'input'."),
        };
        if incoming.list("tools").iter().any(|tool| tool.get("function").is_some()) {
            return param("tools[0].name", "Missing required parameter: 'tools[0].name'.");
        }
        let names = incoming.list("tools").iter().filter_map(|tool| tool.get("name"));
        let (tools, choice) = choice(
            body.get("tool_choice"),
            "/name",
            names.filter_map(Value::as_str).map(str::to_owned).collect(),
        );
        self.shows_thinking = body.pointer("/reasoning/summary").is_some_and(|summary| !summary.is_null());
        self.encrypts = incoming.list("include").iter().any(|one| one == "reasoning.encrypted_content");
        for (field, otherwise) in [
            ("instructions", Value::Null),
            ("max_output_tokens", Value::Null),
            ("metadata", json!({})),
            ("parallel_tool_calls", json!(true)),
            ("reasoning", json!({"effort": null, "summary": null})),
            ("store", json!(true)),
            ("temperature", json!(1.0)),
            ("text", json!({"format": {"type": "text"}})),
            ("tool_choice", json!("auto")),
            ("tools", json!([])),
            ("top_p", json!(1.0)),
            ("truncation", json!("disabled")),
        ] {
            self.repeated.insert(field.into(), body.get(field).cloned().unwrap_or(otherwise));
        }
        let format = body.pointer("/text/format/type").and_then(Value::as_str);
        Ok(Asked {
            model: incoming.text("model").unwrap_or_default().to_owned(),
            text,
            words: words(&all_text(&input)),
            stream: incoming.is_true("stream"),
            limit: incoming.number("max_output_tokens"),
            tools,
            choice,
            json: matches!(format, Some("json_schema" | "json_object")),
            ..Asked::default()
        })
    }

    fn error(&self, refused: &Refused) -> Value {
        error(refused)
    }

    fn begin(&mut self, plan: &Plan) -> String {
        let response = self.response(plan, "in_progress");
        let created = self.event("response.created", json!({"response": response}));
        created + &self.event("response.in_progress", json!({"response": response}))
    }

    fn piece(&mut self, plan: &Plan, piece: &Piece) -> String {
        let mut events = String::new();
        match piece {
            Piece::Thinking(_) if !self.shows_thinking => return events,
            Piece::Thinking(text) => {
                if !matches!(self.open, Some(Open::Reasoning(_))) {
                    events += &self.turn(Open::Reasoning(String::new()));
                }
                let place =
                    json!({"item_id": self.item_id(), "output_index": self.output.len(), "summary_index": 0});
                events += &self.event("response.reasoning_summary_text.delta", with(place, "delta", text));
            }
            Piece::Text(text) => {
                if !matches!(self.open, Some(Open::Message(_))) {
                    events += &self.turn(Open::Message(String::new()));
                }
                let mut place = with(self.place(), "delta", text);
                place["logprobs"] = json!([]);
                events += &self.event("response.output_text.delta", place);
            }
            Piece::Call(index) => {
                if let Some(call) = plan.calls.get(*index) {
                    events += &self.turn(Open::Call(Call { arguments: String::new(), ..call.clone() }));
                }
            }
            Piece::Arguments { part, .. } => {
                let place = json!({"item_id": self.item_id(), "output_index": self.output.len()});
                events += &self.event("response.function_call_arguments.delta", with(place, "delta", part));
            }
            Piece::Nothing => {}
        }
        match (&mut self.open, piece) {
            (Some(Open::Reasoning(so_far)), Piece::Thinking(part))
            | (Some(Open::Message(so_far)), Piece::Text(part)) => so_far.push_str(part),
            (Some(Open::Call(call)), Piece::Arguments { part, .. }) => call.arguments.push_str(part),
            _ => {}
        }
        events
    }

    fn end(&mut self, plan: &Plan) -> Vec<String> {
        let closing = self.close();
        let status = status(&plan.end);
        let mut response = self.response(plan, status);
        self.finish(plan, &mut response);
        let last = self.event(&format!("response.{status}"), json!({"response": response}));
        [closing, last].into_iter().filter(|event| !event.is_empty()).collect()
    }

    fn broken(&mut self, message: &str) -> String {
        self.event("error", json!({"code": "server_error", "message": message, "param": null}))
    }

    fn whole(&mut self, plan: &Plan, made: &Made) -> Value {
        if self.shows_thinking && !made.thinking.is_empty() {
            self.open = Some(Open::Reasoning(made.thinking.clone()));
            self.close();
        }
        if !made.text.is_empty() {
            self.open = Some(Open::Message(made.text.clone()));
            self.close();
        }
        for call in &made.calls {
            self.open = Some(Open::Call(call.clone()));
            self.close();
        }
        let mut response = self.response(plan, status(&plan.end));
        self.finish(plan, &mut response);
        response
    }
}

impl Responses {
    fn event(&mut self, name: &str, mut data: Value) -> String {
        data["type"] = name.into();
        data["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        format!("event: {name}\ndata: {data}\n\n")
    }

    fn response(&self, plan: &Plan, status: &str) -> Value {
        let mut response = json!({
            "id": ID, "object": "response", "created_at": 1, "status": status, "error": null,
            "incomplete_details": null, "model": plan.model, "output": self.output, "previous_response_id": null,
            "service_tier": "default", "usage": null, "user": null
        });
        if let Some(response) = response.as_object_mut() {
            response.extend(self.repeated.clone());
        }
        response
    }

    fn finish(&self, plan: &Plan, response: &mut Value) {
        match plan.end {
            End::Length => response["incomplete_details"] = json!({"reason": "max_output_tokens"}),
            End::Blocked => response["incomplete_details"] = json!({"reason": "content_filter"}),
            _ => {}
        }
        if let Some(usage) = plan.usage() {
            response["usage"] = json!({
                "input_tokens": plan.count(usage.input),
                "input_tokens_details": {"cached_tokens": usage.cached_input, "cache_write_tokens": usage.cache_write},
                "output_tokens": usage.output,
                "output_tokens_details": {"reasoning_tokens": usage.reasoning},
                "total_tokens": usage.input + usage.output,
            });
        }
    }

    fn item_id(&self) -> String {
        let kind = match self.open {
            Some(Open::Reasoning(_)) => "rs",
            Some(Open::Message(_)) | None => "msg",
            Some(Open::Call(_)) => "fc",
        };
        format!("{kind}_simulated_{}", self.output.len())
    }

    fn place(&self) -> Value {
        json!({"item_id": self.item_id(), "output_index": self.output.len(), "content_index": 0})
    }

    /// Closes the item that is open, and begins another.
    fn turn(&mut self, next: Open) -> String {
        let mut events = self.close();
        self.open = Some(next);
        let item = self.item("in_progress", false);
        events += &self
            .event("response.output_item.added", json!({"output_index": self.output.len(), "item": item}));
        match self.open {
            Some(Open::Reasoning(_)) => {
                let place = json!({"item_id": self.item_id(), "output_index": self.output.len(), "summary_index": 0,
                    "part": {"type": "summary_text", "text": ""}});
                events += &self.event("response.reasoning_summary_part.added", place);
            }
            Some(Open::Message(_)) => {
                let mut place = self.place();
                place["part"] = text_part("");
                events += &self.event("response.content_part.added", place);
            }
            _ => {}
        }
        events
    }

    /// Closes the item that is open.
    fn close(&mut self) -> String {
        let mut events = String::new();
        let item = self.item("completed", true);
        let (id, index) = (self.item_id(), self.output.len());
        let place = self.place();
        let summary = json!({"item_id": id, "output_index": index, "summary_index": 0});
        match self.open.take() {
            None => return events,
            Some(Open::Reasoning(text)) => {
                let done = with(summary.clone(), "text", &text);
                events += &self.event("response.reasoning_summary_text.done", done);
                let mut part = summary;
                part["part"] = json!({"type": "summary_text", "text": text});
                events += &self.event("response.reasoning_summary_part.done", part);
            }
            Some(Open::Message(text)) => {
                let mut done = with(place.clone(), "text", &text);
                done["logprobs"] = json!([]);
                events += &self.event("response.output_text.done", done);
                let mut part = place;
                part["part"] = text_part(&text);
                events += &self.event("response.content_part.done", part);
            }
            Some(Open::Call(call)) => {
                let done = json!({"item_id": id, "output_index": index, "name": call.name, "arguments": call.arguments});
                events += &self.event("response.function_call_arguments.done", done);
            }
        }
        events += &self.event("response.output_item.done", json!({"output_index": index, "item": item}));
        self.output.push(item);
        events
    }

    /// The item that is open, with what it has so far only if it is whole.
    fn item(&self, status: &str, whole: bool) -> Value {
        let id = self.item_id();
        match &self.open {
            None => Value::Null,
            Some(Open::Reasoning(text)) => {
                let summary = if whole { json!([{"type": "summary_text", "text": text}]) } else { json!([]) };
                let mut item = json!({"id": id, "type": "reasoning", "summary": summary});
                if self.encrypts {
                    item["encrypted_content"] = signature::of_text(text).into();
                }
                item
            }
            Some(Open::Message(text)) => {
                let content = if whole { json!([text_part(text)]) } else { json!([]) };
                json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": content})
            }
            Some(Open::Call(call)) => json!({
                "id": id, "type": "function_call", "status": status, "call_id": format!("call_{}", call.id),
                "name": call.name, "arguments": call.arguments
            }),
        }
    }
}

fn status(end: &End) -> &'static str {
    if matches!(end, End::Length | End::Blocked) { "incomplete" } else { "completed" }
}

fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn with(mut place: Value, field: &str, text: &str) -> Value {
    place[field] = text.into();
    place
}
