//! From Ollama's answers to OpenAI's shape. Pure.

use std::borrow::Cow;
use std::collections::HashSet;

use accounting::Usage;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::wire;
use crate::answer::{Complete, Reported, StreamEvent};
use crate::chunk::{self, Choice, ChunkWriter};
use crate::framing::Event;
use crate::lenient::{self, Scratch};
use crate::protocol::{Asked, Conversion, ended_too_soon};
use crate::report::{self, Count, Report};
use crate::{EmbeddingsRequest, ProviderError};

/// What is the same for a whole answer and for the lines of a streamed one.
#[derive(Debug)]
struct Answering {
    /// Tells this answer apart from others: Ollama gives it no id of its own.
    mark: String,
    /// The ids of its calls so far.
    calls: HashSet<String>,
    /// What was told of the usage.
    report: Report,
}

/// What a line adds to the answer.
#[derive(Debug, Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call<'a>>,
}

#[derive(Debug, Serialize)]
struct Call<'a> {
    index: usize,
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
}

#[derive(Debug, Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: &'a str,
}

impl Answering {
    fn new(answer: &wire::Answer<'_>) -> Self {
        let created = answer.created_at.as_deref().unwrap_or_default();
        let mark: String = created.chars().filter(char::is_ascii_digit).collect();
        Self { mark, calls: HashSet::new(), report: Report::EMPTY }
    }

    fn id(&self) -> String {
        format!("chatcmpl-{}", self.mark)
    }

    /// What was said, and all of it that is output.
    fn delta<'a>(&mut self, said: &'a wire::Said<'_>) -> (Delta<'a>, String) {
        let (content, reasoning_content) = (text(&said.content), text(&said.thinking));
        let mut produced = String::new();
        produced.push_str(reasoning_content.unwrap_or_default());
        produced.push_str(content.unwrap_or_default());
        let mut tool_calls = Vec::new();
        for call in said.tool_calls.iter().flatten() {
            let arguments = call.function.arguments.map_or("{}", RawValue::get);
            produced.push_str(&call.function.name);
            produced.push_str(arguments);
            let index = self.calls.len();
            let function = Function { name: &call.function.name, arguments };
            tool_calls.push(Call { index, id: self.call_id(call), kind: "function", function });
        }
        (Delta { role: None, content, reasoning_content, tool_calls }, produced)
    }

    /// The id of a call, made where it is missing or was there before: a result names its call by it.
    fn call_id(&mut self, call: &wire::SaidCall<'_>) -> String {
        let given = call.id.as_deref().filter(|id| !id.is_empty() && !self.calls.contains(*id));
        let id = given.map_or_else(|| format!("call_{}_{}", self.mark, self.calls.len()), str::to_owned);
        self.calls.insert(id.clone());
        id
    }

    fn reason(&self, answer: &wire::Answer<'_>) -> &'static str {
        match answer.done_reason.as_deref() {
            Some("length") => "length",
            _ if !self.calls.is_empty() => "tool_calls",
            // `load` and `unload` answer a request without messages.
            _ => "stop",
        }
    }

    /// Adds what was told, and gives all of it; `None` if that is nothing. Zero is left out there, and so is the input where
    /// the prompt was in the cache.
    fn usage(&mut self, answer: &wire::Answer<'_>) -> Option<Usage> {
        let mut later = Report::EMPTY;
        for (count, raw) in [(Count::Input, answer.prompt_eval_count), (Count::Output, answer.eval_count)] {
            raw.and_then(report::whole_number_of).iter().for_each(|told| later.tell(count, *told));
        }
        self.report.grow(&later);
        let told = |count| self.report.or_zero(count);
        (!self.report.is_empty()).then(|| Usage::tokens(told(Count::Input), told(Count::Output)))
    }
}

fn text<'a>(text: &'a Option<Cow<'_, str>>) -> Option<&'a str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// A whole answer.
///
/// # Errors
/// If it is none.
pub(super) fn complete(asked: &Asked, body: &[u8]) -> Result<Complete, ProviderError> {
    let scratch = Scratch::default();
    let answer: wire::Answer<'_> =
        lenient::read(body, &scratch).ok_or(ProviderError::BadAnswer { what: "not JSON of an answer" })?;
    if let Some(error) = answer.error {
        return Err(reported(error));
    }
    let Some(said) = &answer.message else {
        return Err(ProviderError::BadAnswer { what: "no message" });
    };
    let mut answering = Answering::new(&answer);
    let (delta, produced) = answering.delta(said);
    let mut message = json!({"role": "assistant", "content": delta.content.unwrap_or_default()});
    if let Some(reasoning) = delta.reasoning_content {
        message["reasoning_content"] = reasoning.into();
    }
    if !delta.tool_calls.is_empty() {
        let calls = delta.tool_calls.iter().map(|call| {
            json!({"id": call.id, "type": call.kind, "function":
                {"name": call.function.name, "arguments": call.function.arguments}})
        });
        message["tool_calls"] = calls.collect();
    }
    let logprobs = answer.logprobs.and_then(|raw| serde_json::from_str::<serde_json::Value>(raw.get()).ok());
    let choice = Choice {
        message,
        reason: answering.reason(&answer).to_owned(),
        logprobs: logprobs.filter(|list| !list.is_null()).map(|list| json!({ "content": list })),
    };
    let usage = answering.usage(&answer);
    let model = answer.model.as_deref().filter(|model| !model.is_empty()).map(str::to_owned);
    Ok(chunk::complete(&answering.id(), asked, model, vec![choice], usage, produced))
}

/// The lines of a streamed answer.
#[derive(Debug)]
pub(super) struct Lines {
    asked: Asked,
    begun: Option<(ChunkWriter, Answering)>,
    ended: bool,
}

impl Lines {
    pub(super) fn new(asked: Asked) -> Self {
        Self { asked, begun: None, ended: false }
    }
}

/// OpenAI's `logprobs` of a piece of an answer.
#[derive(Serialize)]
struct Logprobs<'a> {
    content: &'a RawValue,
}

impl Conversion for Lines {
    fn event(&mut self, event: Event, out: &mut Vec<StreamEvent>) -> Result<(), ProviderError> {
        let Some(data) = event.data else { return Ok(()) };
        let scratch = Scratch::default();
        let answer: wire::Answer<'_> = lenient::read(&data, &scratch)
            .ok_or_else(|| ProviderError::Broken { what: "a line that is no JSON of an answer".into() })?;
        if let Some(error) = answer.error {
            return Err(reported(error));
        }
        let first = self.begun.is_none();
        let (writer, answering) = self.begun.get_or_insert_with(|| {
            let answering = Answering::new(&answer);
            let named = answer.model.as_deref().filter(|model| !model.is_empty());
            let model = named.unwrap_or(&self.asked.model);
            (ChunkWriter::new(&answering.id(), self.asked.created, model), answering)
        });
        let nothing = wire::Said::default();
        let (mut delta, produced) = answering.delta(answer.message.as_ref().unwrap_or(&nothing));
        if first {
            delta.role = Some("assistant");
            delta.content = delta.content.or(Some(""));
        }
        let logprobs = answer.logprobs.filter(|raw| raw.get() != "null").map(|content| Logprobs { content });
        if first || !produced.is_empty() || logprobs.is_some() {
            out.push(writer.delta_with_logprobs(0, &delta, logprobs.as_ref(), produced));
        }
        let usage = answering.usage(&answer);
        if answer.done {
            self.ended = true;
            out.push(writer.finish(0, answering.reason(&answer)));
            out.extend(usage.map(|usage| writer.usage(Reported::Final(usage))));
            out.push(StreamEvent::done());
        } else if let Some(usage) = usage {
            out.push(writer.delta_so_far(0, &Delta::default(), String::new(), usage));
        }
        Ok(())
    }

    fn end(&mut self, _: &mut Vec<StreamEvent>) -> Result<(), ProviderError> {
        if self.ended { Ok(()) } else { Err(ended_too_soon()) }
    }
}

fn reported(error: &RawValue) -> ProviderError {
    crate::openai::error(format!("{{\"error\":{}}}", error.get()).as_bytes()).reported()
}

/// Vectors.
///
/// # Errors
/// If it is no list of them.
pub(super) fn embeddings(
    request: &EmbeddingsRequest,
    asked: &Asked,
    body: &[u8],
) -> Result<Complete, ProviderError> {
    let wrong = |_| ProviderError::BadAnswer { what: "not a list of vectors" };
    let answer: wire::Embedded<'_> = serde_json::from_slice(body).map_err(wrong)?;
    let encoded = request.body().get("encoding_format").and_then(serde_json::Value::as_str) == Some("base64");
    let vectors = answer.embeddings.into_iter().map(|raw| {
        if encoded {
            let vector: Vec<f32> = serde_json::from_str(raw.get()).map_err(wrong)?;
            return Ok(chunk::vector_in_base64(&vector).into());
        }
        serde_json::from_str(raw.get()).map_err(wrong)
    });
    let input = answer.prompt_eval_count.and_then(report::whole_number_of);
    let usage = input.map(|input| Usage::tokens(input, 0));
    Ok(chunk::embeddings(asked, vectors.collect::<Result<_, _>>()?, usage))
}
