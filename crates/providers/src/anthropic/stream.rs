//! Streamed answers in OpenAI's shape ("Streaming Messages").
//!
//! `message_start` tells the input, `message_delta` all of the usage and why the answer ended, `message_stop` that nothing
//! follows. Between them blocks begin, grow and end, each under its own index; types of events that are not known pass
//! silently, as the reference asks.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::answer::{
    BETWEEN_THOUGHTS, REFUSAL, annotations, arguments, finish_reason, hidden_thought, refusal,
    refusal_in_content, thought,
};
use super::usage::Told;
use super::{reported, wire};
use crate::ProviderError;
use crate::answer::{Reported, StreamEvent};
use crate::chunk::ChunkWriter;
use crate::framing::Event;
use crate::lenient::{self, Scratch};
use crate::protocol::{Asked, Conversion, ended_too_soon};

/// Converts the events of one answer.
#[derive(Debug)]
pub(super) struct Converting {
    writer: ChunkWriter,
    created: i64,
    told: Told,
    /// Whether the end has told how long the answer is.
    is_length_told: bool,
    /// Whether the end has told anything that has not been passed on.
    unreported: bool,
    /// Blocks that have begun and not ended. Text needs nothing to be remembered of it but what it cites.
    open: Vec<(u64, Open)>,
    calls: u64,
    /// Characters of the content so far, and where the text of this block began.
    said: usize,
    text_began: usize,
    /// What the text of this block cites.
    cited: Vec<Value>,
    /// Whether there was thinking before.
    thought: bool,
    finished: bool,
    stopped: bool,
}

#[derive(Debug)]
enum Open {
    Thinking {
        text: String,
        signature: String,
    },
    Hidden {
        data: String,
    },
    Call {
        number: u64,
        /// Input that came at once, with the beginning of the block.
        input: Option<String>,
        sent: bool,
    },
}

#[derive(Serialize)]
struct Content<'a> {
    content: &'a str,
}

#[derive(Serialize)]
struct Reasoning<'a> {
    reasoning_content: &'a str,
}

#[derive(Serialize)]
struct Details {
    reasoning_details: [Value; 1],
}

#[derive(Serialize)]
struct Annotations {
    annotations: Vec<Value>,
}

#[derive(Serialize)]
struct Refusal {
    content: String,
    refusal: String,
}

#[derive(Serialize)]
struct Calls<'a> {
    tool_calls: [Call<'a>; 1],
}

#[derive(Serialize)]
struct Call<'a> {
    index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "type")]
    kind: Option<&'static str>,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

impl Converting {
    pub(super) fn new(asked: Asked, cache_in_input: Option<bool>) -> Self {
        let id = asked.request_id.as_deref().unwrap_or_default();
        Self {
            writer: ChunkWriter::new(id, asked.created, &asked.model),
            created: asked.created,
            told: Told::new(cache_in_input),
            is_length_told: false,
            unreported: false,
            open: Vec::new(),
            calls: 0,
            said: 0,
            text_began: 0,
            cited: Vec::new(),
            thought: false,
            finished: false,
            stopped: false,
        }
    }

    fn start(&mut self, message: &wire::Message<'_>, out: &mut Vec<StreamEvent>) {
        if let (Some(id), Some(model)) = (&message.id, &message.model) {
            self.writer = ChunkWriter::new(id, self.created, model);
        }
        self.told.hear(message.usage);
        let first = json!({"role": "assistant", "content": ""});
        out.push(match self.told.usage() {
            Some(usage) => self.writer.delta_so_far(0, &first, String::new(), usage),
            None => self.writer.delta(0, &first, String::new()),
        });
    }

    fn begin(&mut self, index: u64, block: wire::Block<'_>, out: &mut Vec<StreamEvent>) {
        match block.kind.as_ref() {
            "text" => {
                self.text_began = self.said;
                self.text(block.text.as_deref(), out);
            }
            "thinking" => {
                let signature = block.signature.as_deref().unwrap_or_default().to_owned();
                self.open.push((index, Open::Thinking { text: String::new(), signature }));
                self.thinking(index, block.thinking.as_deref(), out);
            }
            "redacted_thinking" => {
                let data = block.data.unwrap_or_default().into_owned();
                self.open.push((index, Open::Hidden { data }));
            }
            "tool_use" => {
                let number = self.calls;
                self.calls += 1;
                let input = block.input.map(|input| input.get().to_owned());
                self.open.push((index, Open::Call { number, input, sent: false }));
                let name = block.name.unwrap_or_default();
                let function = Function { name: Some(&name), arguments: "" };
                let call = Call { index: number, id: block.id.as_deref(), kind: Some("function"), function };
                out.push(self.writer.delta(0, &Calls { tool_calls: [call] }, name.clone().into_owned()));
            }
            _ => {}
        }
    }

    fn grow(&mut self, index: u64, delta: wire::Delta<'_>, out: &mut Vec<StreamEvent>) {
        self.text(delta.text.as_deref(), out);
        self.thinking(index, delta.thinking.as_deref(), out);
        self.cited.extend(delta.citation.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok()));
        if let Some(piece) = delta.signature
            && let Some(Open::Thinking { signature, .. }) = self.opened(index)
        {
            signature.push_str(&piece);
        }
        if let Some(piece) = delta.partial_json.filter(|piece| !piece.is_empty())
            && let Some(number) = self.called(index)
        {
            out.push(self.piece(number, &piece));
        }
    }

    /// The number of the call that grows; of one whose beginning could not be read, a new one.
    fn called(&mut self, index: u64) -> Option<u64> {
        match self.opened(index) {
            Some(Open::Call { number, sent, .. }) => {
                *sent = true;
                Some(*number)
            }
            Some(_) => None,
            None => {
                let number = self.calls;
                self.calls += 1;
                self.open.push((index, Open::Call { number, input: None, sent: true }));
                Some(number)
            }
        }
    }

    fn opened(&mut self, index: u64) -> Option<&mut Open> {
        self.open.iter_mut().rev().find(|(open, _)| *open == index).map(|(_, open)| open)
    }

    fn text(&mut self, text: Option<&str>, out: &mut Vec<StreamEvent>) {
        if let Some(content) = text.filter(|text| !text.is_empty()) {
            self.said += content.chars().count();
            out.push(self.writer.delta(0, &Content { content }, content.to_owned()));
        }
    }

    fn thinking(&mut self, index: u64, piece: Option<&str>, out: &mut Vec<StreamEvent>) {
        let Some(piece) = piece.filter(|piece| !piece.is_empty()) else { return };
        let mut first = false;
        if let Some(Open::Thinking { text, .. }) = self.opened(index) {
            first = text.is_empty();
            text.push_str(piece);
        }
        let delta = if first && self.thought {
            let separated = format!("{BETWEEN_THOUGHTS}{piece}");
            self.writer.delta(0, &Reasoning { reasoning_content: &separated }, piece.to_owned())
        } else {
            self.writer.delta(0, &Reasoning { reasoning_content: piece }, piece.to_owned())
        };
        self.thought = true;
        out.push(delta);
    }

    fn piece(&self, number: u64, arguments: &str) -> StreamEvent {
        let function = Function { name: None, arguments };
        let call = Call { index: number, id: None, kind: None, function };
        self.writer.delta(0, &Calls { tool_calls: [call] }, arguments.to_owned())
    }

    fn close(&mut self, index: u64, out: &mut Vec<StreamEvent>) {
        self.cite(out);
        let Some(at) = self.open.iter().rposition(|(open, _)| *open == index) else { return };
        let detail = match self.open.remove(at).1 {
            Open::Thinking { signature, .. } if signature.is_empty() => return,
            Open::Thinking { text, signature } => thought(index, &text, &signature),
            Open::Hidden { data } => hidden_thought(index, &data),
            Open::Call { sent: true, .. } => return,
            Open::Call { number, input, .. } => {
                out.push(self.piece(number, arguments(input.as_deref())));
                return;
            }
        };
        out.push(self.writer.delta(0, &Details { reasoning_details: [detail] }, String::new()));
    }

    /// What the text that has ended cites.
    fn cite(&mut self, out: &mut Vec<StreamEvent>) {
        let annotations = annotations(&std::mem::take(&mut self.cited), self.text_began, self.said);
        if !annotations.is_empty() {
            out.push(self.writer.delta(0, &Annotations { annotations }, String::new()));
        }
    }

    /// What the user is told of a refusal.
    fn refuse(&self, stop_details: Option<&RawValue>, out: &mut Vec<StreamEvent>) {
        let refusal = refusal(stop_details);
        let content = refusal_in_content(&refusal, self.said > 0);
        out.push(self.writer.delta(0, &Refusal { content, refusal }, String::new()));
    }

    fn finish(&mut self, reason: &str, stop_details: Option<&RawValue>, out: &mut Vec<StreamEvent>) {
        if self.finished {
            return;
        }
        self.finished = true;
        while let Some((index, _)) = self.open.first() {
            self.close(*index, out);
        }
        self.cite(out);
        if reason == REFUSAL {
            self.refuse(stop_details, out);
        }
        out.push(self.writer.finish(0, finish_reason(reason)));
    }

    /// Passes on what the end tells, once the answer has ended.
    fn report(&mut self, out: &mut Vec<StreamEvent>) {
        if self.finished && std::mem::take(&mut self.unreported) {
            let reported = if self.is_length_told { Reported::Final } else { Reported::SoFar };
            out.extend(self.told.usage().map(|usage| self.writer.usage(reported(usage))));
        }
    }
}

impl Conversion for Converting {
    fn event(&mut self, event: Event, out: &mut Vec<StreamEvent>) -> Result<(), ProviderError> {
        let Some(data) = event.data else { return Ok(()) };
        let scratch = Scratch::default();
        // What can't be read is of a type that is not known; a stream that is broken lacks its end.
        let Some(event) = lenient::read::<wire::Event<'_>>(&data, &scratch) else { return Ok(()) };
        match event.kind.as_ref() {
            "content_block_delta" => {
                if let Some(delta) = event.delta {
                    self.grow(event.index, delta, out);
                }
            }
            "content_block_start" => {
                if let Some(block) = event.content_block {
                    self.begin(event.index, block, out);
                }
            }
            "content_block_stop" => self.close(event.index, out),
            "message_start" => {
                if let Some(message) = &event.message {
                    self.start(message, out);
                }
            }
            "message_delta" => {
                self.unreported |= event.usage.is_some();
                self.is_length_told |= self.told.hear(event.usage);
                if let Some(wire::Delta { stop_reason: Some(reason), stop_details, .. }) = event.delta {
                    self.finish(&reason, stop_details, out);
                }
                self.report(out);
            }
            "message_stop" => {
                self.finish("", None, out);
                self.report(out);
                self.stopped = true;
                out.push(StreamEvent::done());
            }
            _ if event.error.is_some() || event.kind == "error" => {
                return Err(reported(&data, event.error.as_ref()));
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, _: &mut Vec<StreamEvent>) -> Result<(), ProviderError> {
        if self.stopped { Ok(()) } else { Err(ended_too_soon()) }
    }

    fn is_whole(&self) -> bool {
        self.finished
    }
}
