//! What a request tells the simulated server to do.

use std::time::Duration;

use serde_json::{Map, Value};

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
    WrongType,
}

/// A directive, read.
#[derive(Debug, Clone, Default)]
pub(super) struct Directive {
    pub input: Option<u64>,
    pub output: Option<u64>,
    pub cached: u64,
    pub cache_write: u64,
    pub cache_write_long: u64,
    pub audio: u64,
    pub reasoning: Option<u64>,
    pub thinking: u64,
    pub redacted: bool,
    pub chunk: u64,
    pub delay: Duration,
    pub first: Duration,
    pub status: Option<u16>,
    pub retry_after: Option<u64>,
    pub fault: Option<Fault>,
    pub at: u64,
    pub split: bool,
    pub tools: Option<u64>,
    pub text: Option<String>,
    pub blocked: bool,
    pub overrun: bool,
    pub model: Option<String>,
    pub call: Option<Named>,
}

/// A call of a tool that the text names, with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub tool: String,
    /// JSON.
    pub arguments: String,
}

impl Named {
    /// The last one in a text: `[[call TOOL: argument=value | argument=value end]]`. It is without quotation marks, because
    /// clients quote what people say.
    fn read(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once("[[call ")?;
        let (call, _) = rest.split_once(" end]]")?;
        let (tool, arguments) = call.split_once(": ")?;
        let pairs = arguments.split(" | ").filter_map(|pair| pair.split_once('='));
        let arguments: Map<String, Value> = pairs.map(|(name, value)| (name.into(), value.into())).collect();
        Some(Self { tool: tool.into(), arguments: Value::from(arguments).to_string() })
    }
}

impl Directive {
    /// The last directive in a text, and the last call that it names; what it does not say keeps its default.
    pub(super) fn read(text: &str) -> Self {
        let mut directive = Self { chunk: 1, call: Named::read(text), ..Self::default() };
        let Some((_, rest)) = text.rsplit_once("[[sim") else { return directive };
        let (words, _) = rest.split_once("]]").unwrap_or((rest, ""));
        for word in words.split_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, "1"));
            let number = value.parse::<u64>().ok();
            let count = number.unwrap_or_default();
            match key {
                "input" => directive.input = number,
                "output" => directive.output = number,
                "cached" => directive.cached = count,
                "cache_write" => directive.cache_write = count,
                "cache_write_long" => directive.cache_write_long = count,
                "audio" => directive.audio = count,
                "reasoning" => directive.reasoning = number,
                "thinking" => directive.thinking = count,
                "redacted" => directive.redacted = count == 1,
                "chunk" => directive.chunk = count.max(1),
                "delay" => directive.delay = Duration::from_millis(count),
                "first" => directive.first = Duration::from_millis(count),
                "status" => directive.status = value.parse().ok(),
                "retry_after" => directive.retry_after = number,
                "at" => directive.at = count,
                "split" => directive.split = count == 1,
                "tool" | "tools" => directive.tools = number,
                "text" => directive.text = Some(value.to_owned()),
                "blocked" => directive.blocked = count == 1,
                "overrun" => directive.overrun = count == 1,
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
        "wrongtype" => Fault::WrongType,
        _ => return None,
    })
}

/// The text of the last message that is not the model's own: all texts in it, wherever its format keeps them.
pub(super) fn last_text(messages: &[Value]) -> String {
    let role = |message: &Value| message.get("role").and_then(Value::as_str).unwrap_or_default().to_owned();
    let last = messages.iter().rev().find(|message| !matches!(role(message).as_str(), "assistant" | "model"));
    last.map(all_text).unwrap_or_default()
}

/// All texts in a value.
pub(super) fn all_text(value: &Value) -> String {
    let mut found = String::new();
    collect(value, &mut found);
    found
}

fn collect(value: &Value, found: &mut String) {
    match value {
        Value::String(text) => {
            found.push_str(text);
            found.push('\n');
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, found)),
        Value::Object(map) => map.values().for_each(|value| collect(value, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_named_with_its_arguments() {
        let named = |text: &str| Directive::read(text).call.map(|call| (call.tool, call.arguments));
        let command =
            "Do it. [[call Bash: command=echo a=b [[sim input=3 output=5]] | why=to see end]] Thanks";
        let arguments = r#"{"command":"echo a=b [[sim input=3 output=5]]","why":"to see"}"#;
        assert_eq!(named(command), Some(("Bash".into(), arguments.into())));
        assert_eq!((Directive::read(command).input, Directive::read(command).output), (Some(3), Some(5)));
        for none in ["", "[[sim tool=1]]", "[[call Bash]]", "[[call Bash: command=ls"] {
            assert_eq!(named(none), None, "{none}");
        }
    }
}
