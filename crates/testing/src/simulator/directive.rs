//! What a request tells the simulated server to do.

use std::time::Duration;

use serde_json::Value;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Disconnect,
    Hang,
    Half,
    Error,
    Malformed,
    End,
    Html,
    NoUsage,
    BadUsage,
}

/// A directive, read.
#[derive(Debug, Clone, Default)]
pub(super) struct Directive {
    pub input: Option<u64>,
    pub output: Option<u64>,
    pub cached: u64,
    pub reasoning: u64,
    pub chunk: u64,
    pub delay: Duration,
    pub first: Duration,
    pub status: Option<u16>,
    pub retry_after: Option<u64>,
    pub fault: Option<Fault>,
    pub at: u64,
    pub split: bool,
    pub tool: bool,
    pub overrun: bool,
    pub model: Option<String>,
}

impl Directive {
    /// The directive in a text; what it does not say keeps its default.
    pub(super) fn read(text: &str) -> Self {
        let mut directive = Self { chunk: 1, ..Self::default() };
        let Some((_, rest)) = text.split_once("[[sim") else { return directive };
        let (words, _) = rest.split_once("]]").unwrap_or((rest, ""));
        for word in words.split_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, "1"));
            let number = value.parse::<u64>().ok();
            let millis = Duration::from_millis(number.unwrap_or_default());
            match key {
                "input" => directive.input = number,
                "output" => directive.output = number,
                "cached" => directive.cached = number.unwrap_or_default(),
                "reasoning" => directive.reasoning = number.unwrap_or_default(),
                "chunk" => directive.chunk = number.unwrap_or(1).max(1),
                "delay" => directive.delay = millis,
                "first" => directive.first = millis,
                "status" => directive.status = value.parse().ok(),
                "retry_after" => directive.retry_after = number,
                "at" => directive.at = number.unwrap_or_default(),
                "split" => directive.split = number == Some(1),
                "tool" => directive.tool = number == Some(1),
                "overrun" => directive.overrun = number == Some(1),
                "model" => directive.model = Some(value.to_owned()),
                "fault" => directive.fault = fault(value),
                _ => {}
            }
        }
        directive
    }
}

fn fault(name: &str) -> Option<Fault> {
    Some(match name {
        "disconnect" => Fault::Disconnect,
        "hang" => Fault::Hang,
        "half" => Fault::Half,
        "error" => Fault::Error,
        "malformed" => Fault::Malformed,
        "end" => Fault::End,
        "html" => Fault::Html,
        "nousage" => Fault::NoUsage,
        "badusage" => Fault::BadUsage,
        _ => return None,
    })
}

/// The text of the last message, or of what is to be embedded.
pub(super) fn last_text(body: &Value) -> String {
    if let Some(input) = body.get("input") {
        return input.to_string();
    }
    let content = body
        .get("messages")
        .and_then(Value::as_array)
        .and_then(|list| list.last())
        .and_then(|m| m.get("content"));
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(parts) => parts.to_string(),
        None => String::new(),
    }
}
