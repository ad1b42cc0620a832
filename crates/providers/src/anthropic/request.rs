//! A chat in OpenAI's shape as a request for a message.
//!
//! What is decided here, and why:
//! * `response_format` with a schema becomes `output_config.format`; `json_object` becomes words of the system prompt, because
//!   Anthropic has no such mode, and is named: nothing holds the model to them.
//! * A temperature above 1 becomes 1, and is named: OpenAI's go up to 2.
//! * `max_tokens`, which Anthropic requires: the request's own, else what the price table or [`Model`] knows.
//! * Reasoning without a signature (what a client made of `reasoning_content`) is left out: the API takes back only its own.

use http::{HeaderValue, Uri};
use serde_json::{Map, Value, json};

use super::messages::Turns;
use super::model::Model;
use super::thinking::Plan;
use super::{content, native};
use crate::conversation::{Conversation, Format, JSON_WORDS, Tool, ToolChoice, bad, response_format, stop};
use crate::protocol::Outgoing;
use crate::request::Kinds;
use crate::{BadRequest, ChatRequest, Unknown};

/// The largest request ("API overview", "Request size limits"), in bytes.
const LARGEST: usize = 32 * 1024 * 1024;
/// The most characters of `metadata.user_id` ("Create a Message").
const LONGEST_USER: usize = 256;
/// Lets requests say what is to happen to thinking whose place has changed ("Preserved thinking").
const BINDING: HeaderValue = HeaderValue::from_static("thinking-binding-controls-2026-08-01");

/// Fields that are read here; what of them can't be taken is named where that is decided.
const READ: [&str; 28] = [
    "model",
    "messages",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "stop",
    "stop_sequences",
    "tools",
    "functions",
    "tool_choice",
    "function_call",
    "parallel_tool_calls",
    "response_format",
    "reasoning_effort",
    "reasoning",
    "thinking",
    "output_config",
    "cache_control",
    "user",
    "metadata",
    "n",
    "service_tier",
    "logprobs",
    "top_logprobs",
];

/// The whole request.
///
/// # Errors
/// Names the field that Anthropic can't take.
pub(super) fn outgoing(uri: Uri, request: &ChatRequest) -> Result<Outgoing, BadRequest> {
    let body = request.body();
    refuse(request)?;
    let model = Model::named(request.model());
    let mut omitted = Vec::new();
    let conversation = Conversation::read(body)?;
    let raw = body.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut turns = Turns::read(&conversation, raw)?;
    if turns.ends_in_prefill() && !model.takes_prefill() {
        let message = "this model can't continue an answer: let the last message be the user's";
        return Err(bad("messages", message));
    }
    if turns.images() > model.most_images() {
        let message = format!("this model takes at most {} pictures in one request", model.most_images());
        return Err(bad("messages", message));
    }
    let most = request.output_limit().or(request.model_output()).unwrap_or_else(|| model.most_output());
    let forced = !conversation.tools.is_empty()
        && matches!(conversation.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_)));
    let mut plan = Plan::read(body, model, most, &mut omitted)?;
    plan.fit(model, forced, &mut turns, &mut omitted)?;

    let mut out = Map::new();
    out.insert("model".into(), request.model().into());
    out.insert("max_tokens".into(), most.into());
    if request.stream() {
        out.insert("stream".into(), true.into());
    }
    sampling(body, model, plan.is_on(), &mut out, &mut omitted)?;
    stops(body, &mut out, &mut omitted)?;
    tools(&conversation, model, &turns, &mut out, &mut omitted);
    output_config(body, model, &plan, &mut out, &mut omitted)?;
    if let Some(thinking) = plan.object {
        out.insert("thinking".into(), thinking);
    }
    user(body, &mut out, &mut omitted);
    if let Some(tier @ "standard_only") = body.get("service_tier").and_then(Value::as_str) {
        out.insert("service_tier".into(), tier.into());
    }
    if let Some(mark) = body.get("cache_control").filter(|mark| mark.is_object()) {
        out.insert("cache_control".into(), mark.clone());
    }
    if matches!(response_format(body)?, Some(Format::Json)) {
        turns.system.push(json!({"type": "text", "text": JSON_WORDS}));
    }
    if !turns.system.is_empty() {
        out.insert("system".into(), std::mem::take(&mut turns.system).into());
    }
    out.insert("messages".into(), turns.into_messages().into());
    let asked = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
    let unknown = body.iter().filter(|(field, value)| !READ.contains(&field.as_str()) && asked(value));
    omitted.extend(unknown.map(|(field, _)| field.clone()));

    let mut outgoing = Outgoing::json(uri, &out)?;
    if outgoing.body.len() > LARGEST {
        return Err(bad("messages", "the request is larger than 32 MB: send fewer or smaller files"));
    }
    if plan.drops_misplaced {
        outgoing = outgoing.with_header("anthropic-beta", BINDING);
    }
    Ok(outgoing.omitting(omitted))
}

/// What would change what the client gets, or cost what has no price.
fn refuse(request: &ChatRequest) -> Result<(), BadRequest> {
    let body = request.body();
    native::refuse_fields(body, &mut Kinds::new(Unknown::Count))?;
    if request.choices() > 1 {
        return Err(bad("n", "this model gives one answer at a time: leave n out"));
    }
    let wanted = |field: &str| match body.get(field) {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(value) => value.as_u64() != Some(0),
    };
    for field in ["logprobs", "top_logprobs"] {
        if wanted(field) {
            return Err(bad(field, format!("this model tells no log probabilities: leave {field} out")));
        }
    }
    let modalities = body.get("modalities").and_then(Value::as_array).into_iter().flatten();
    if modalities.into_iter().any(|modality| modality != "text") || wanted("audio") {
        return Err(bad("modalities", "this model answers in text only"));
    }
    Ok(())
}

fn sampling(
    body: &Map<String, Value>,
    model: Model,
    thinks: bool,
    out: &mut Map<String, Value>,
    omitted: &mut Vec<String>,
) -> Result<(), BadRequest> {
    for field in ["temperature", "top_p", "top_k"] {
        let Some(value) = body.get(field).filter(|value| !value.is_null()) else { continue };
        if !value.is_number() {
            return Err(bad(field, format!("{field} must be a number")));
        }
        let with_temperature = field == "top_p" && out.contains_key("temperature");
        if !model.takes_sampling() || thinks || (with_temperature && !model.takes_temperature_with_top_p()) {
            omitted.push(field.into());
            continue;
        }
        if field == "temperature" && value.as_f64().is_some_and(|temperature| temperature > 1.0) {
            omitted.push(field.into());
            out.insert(field.into(), 1.into());
            continue;
        }
        out.insert(field.into(), value.clone());
    }
    Ok(())
}

fn stops(
    body: &Map<String, Value>,
    out: &mut Map<String, Value>,
    omitted: &mut Vec<String>,
) -> Result<(), BadRequest> {
    let own = body.get("stop_sequences").and_then(Value::as_array).into_iter().flatten();
    let all: Vec<&str> = stop(body)?.into_iter().chain(own.filter_map(Value::as_str)).collect();
    let taken: Vec<&str> = all.iter().copied().filter(|text| content::says_something(text)).collect();
    if taken.len() < all.len() {
        // The API refuses those that are only white space.
        omitted.push("stop".into());
    }
    if !taken.is_empty() {
        out.insert("stop_sequences".into(), taken.into());
    }
    Ok(())
}

fn tools(
    conversation: &Conversation<'_>,
    model: Model,
    turns: &Turns,
    out: &mut Map<String, Value>,
    omitted: &mut Vec<String>,
) {
    if conversation.tools.is_empty() {
        // Calls in the history need their tools, though none is to be called any more.
        let stub = |name: &str| json!({"name": name, "input_schema": {"type": "object"}});
        let stubs: Vec<Value> = turns.called().into_iter().map(stub).collect();
        if !stubs.is_empty() {
            out.insert("tools".into(), stubs.into());
            out.insert("tool_choice".into(), json!({"type": "none"}));
        }
        return;
    }
    if !model.takes_schemas() && conversation.tools.iter().any(|tool| tool.strict == Some(true)) {
        omitted.push("tools.strict".into());
    }
    let tools: Vec<Value> = conversation.tools.iter().map(|described| tool(described, model)).collect();
    out.insert("tools".into(), tools.into());
    let single = conversation.parallel_tool_calls == Some(false);
    let choice = match conversation.tool_choice {
        None if !single => return,
        Some(ToolChoice::None) => {
            out.insert("tool_choice".into(), json!({"type": "none"}));
            return;
        }
        None | Some(ToolChoice::Auto) => json!({"type": "auto"}),
        Some(ToolChoice::Required) => json!({"type": "any"}),
        Some(ToolChoice::Named(name)) => json!({"type": "tool", "name": name}),
    };
    let Value::Object(mut choice) = choice else { return };
    if single {
        choice.insert("disable_parallel_tool_use".into(), true.into());
    }
    out.insert("tool_choice".into(), choice.into());
}

fn tool(tool: &Tool<'_>, model: Model) -> Value {
    let mut out = Map::new();
    out.insert("name".into(), tool.name.into());
    if let Some(description) = tool.description {
        out.insert("description".into(), description.into());
    }
    let mut schema = tool.parameters.and_then(Value::as_object).cloned().unwrap_or_default();
    schema.entry("type").or_insert_with(|| "object".into());
    out.insert("input_schema".into(), schema.into());
    if tool.strict == Some(true) && model.takes_schemas() {
        out.insert("strict".into(), true.into());
    }
    if let Some(mark) = tool.cache_control {
        out.insert("cache_control".into(), mark.clone());
    }
    out.into()
}

/// The effort and the format of the answer ("Effort", "Structured outputs").
fn output_config(
    body: &Map<String, Value>,
    model: Model,
    plan: &Plan,
    out: &mut Map<String, Value>,
    omitted: &mut Vec<String>,
) -> Result<(), BadRequest> {
    let mut config = Map::new();
    if let Some(effort) = plan.effort {
        config.insert("effort".into(), effort.into());
    }
    match response_format(body)? {
        None => {}
        Some(Format::Json) => omitted.push("response_format".into()),
        Some(Format::Schema { .. }) if !model.takes_schemas() => {
            let message =
                "this model can't keep to a schema: choose a newer one, or describe the format in words";
            return Err(bad("response_format", message));
        }
        Some(Format::Schema { schema, .. }) => {
            let mut schema = schema.clone();
            close(&mut schema);
            config.insert("format".into(), json!({"type": "json_schema", "schema": schema}));
        }
    }
    // What the client says in Anthropic's own words comes first.
    if let Some(own) = body.get("output_config").and_then(Value::as_object) {
        for (field, value) in own {
            match field.as_str() {
                "effort" | "format" => drop(config.insert(field.clone(), value.clone())),
                _ => omitted.push(format!("output_config.{field}")),
            }
        }
    }
    if !config.is_empty() {
        out.insert("output_config".into(), config.into());
    }
    Ok(())
}

/// Anthropic demands of every object in a schema to say that it has no other fields; OpenAI only where `strict` is set.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.values_mut().for_each(close);
            if object.get("type").and_then(Value::as_str) == Some("object") {
                object.entry("additionalProperties").or_insert(Value::Bool(false));
            }
        }
        Value::Array(list) => list.iter_mut().for_each(close),
        _ => {}
    }
}

/// Who asks, unless that tells more than Anthropic wants to know ("Create a Message", `metadata.user_id`).
fn user(body: &Map<String, Value>, out: &mut Map<String, Value>, omitted: &mut Vec<String>) {
    let metadata = body.get("metadata").filter(|metadata| !metadata.is_null());
    let own = metadata.and_then(|metadata| metadata.get("user_id")).and_then(Value::as_str);
    let fits = |id: &&str| !id.is_empty() && id.len() <= LONGEST_USER && !id.contains(['@', ' ']);
    let others =
        metadata.and_then(Value::as_object).is_some_and(|map| map.keys().any(|key| key != "user_id"));
    if others || (own.is_some() && own.filter(fits).is_none()) {
        omitted.push("metadata".into());
    }
    let user = body.get("user").and_then(Value::as_str);
    if user.is_some() && user.filter(fits).is_none() {
        omitted.push("user".into());
    }
    if let Some(id) = own.filter(fits).or(user.filter(fits)) {
        out.insert("metadata".into(), json!({"user_id": id}));
    }
}
