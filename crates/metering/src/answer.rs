//! What of an answer is rewritten: its usage, with credits, what is left of them, and the cost.

use accounting::{Credits, Usage};
use bytes::Bytes;
use indexmap::IndexMap;
use providers::{ChatRequest, ProviderError, Shape, StreamEvent, write_json};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value, json};

use crate::held_back::{ends_here, nothing};
use crate::settlement::Bill;

/// The mark of the end of a message in Anthropic's shape.
const MESSAGE_STOP: &[u8] = b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
/// The mark of the end of a chat.
const DONE: &[u8] = b"data: [DONE]\n\n";

/// A decimal as a JSON number, exactly.
fn number(credits: Credits) -> Value {
    credits.to_string().parse::<Number>().map_or(Value::Null, Value::Number)
}

/// How a client is told what its request used: in the shape of its API, and where it looks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tell {
    shape: Shape,
    /// Whether it asked for a chunk with usage.
    asked_usage: bool,
}

impl Tell {
    /// As clients of OpenAI's chat completions and embeddings are told.
    pub(crate) const CHAT: Self = Self { shape: Shape::Chat, asked_usage: false };

    pub(crate) const fn of(request: &ChatRequest) -> Self {
        Self { shape: request.shape(), asked_usage: request.asks_usage() }
    }

    /// The shape of the answer.
    pub(crate) const fn shape(self) -> Shape {
        self.shape
    }

    /// A complete answer with its usage rewritten, all else byte for byte; as it came, if it is no JSON object.
    pub(crate) fn complete(self, body: Bytes, bill: Option<&Bill>) -> Bytes {
        let Some(bill) = bill else { return body };
        let Ok(mut answer) = serde_json::from_slice::<IndexMap<String, &RawValue>>(&body) else {
            return body;
        };
        let provided = answer.get("usage").and_then(|usage| serde_json::from_str(usage.get()).ok());
        let usage = self.usage(provided, bill);
        let Ok(usage) = serde_json::value::to_raw_value(&usage) else { return body };
        answer.insert("usage".into(), &usage);
        write_json(&answer).unwrap_or_else(|_| body.clone())
    }

    /// How many tokens a request has, as its API says it ("Count tokens in a Message", "Get input token counts").
    pub(crate) fn count(self, tokens: u64) -> Bytes {
        let counted = match self.shape {
            Shape::Responses => json!({"object": "response.input_tokens", "input_tokens": tokens}),
            Shape::Chat | Shape::Completions | Shape::Messages => json!({"input_tokens": tokens}),
        };
        counted.to_string().into()
    }

    /// The end of a stream: what was held back of it, rewritten, and the mark of the end. `pattern`: a chunk of it.
    pub(crate) fn end_of_stream(
        self,
        held_back: &[StreamEvent],
        pattern: Option<&StreamEvent>,
        bill: Option<&Bill>,
    ) -> Vec<Bytes> {
        let native = || held_back.iter().map(|event| self.native(event, bill).unwrap_or(event.raw.clone()));
        match self.shape {
            Shape::Chat | Shape::Completions => {
                let mut last = self.end_of_chat(held_back, pattern, bill);
                last.push(Bytes::from_static(DONE));
                last
            }
            Shape::Responses => native().collect(),
            Shape::Messages => {
                let is_marked = held_back.iter().any(|event| kind(event).as_deref() == Some("message_stop"));
                // The connection broke between the two.
                let mark = (!is_marked && !held_back.is_empty()).then_some(Bytes::from_static(MESSAGE_STOP));
                native().chain(mark).collect()
            }
        }
    }

    /// The end of a stream which was cut at the bound of the strict policy. `last`: its last piece.
    pub(crate) fn cut(self, last: Option<&StreamEvent>, bill: Option<&Bill>) -> Vec<Bytes> {
        match self.shape {
            Shape::Chat | Shape::Completions => {
                let cut = last.and_then(|last| self.cut_chat(last, bill));
                cut.into_iter().chain([Bytes::from_static(DONE)]).collect()
            }
            Shape::Responses | Shape::Messages => {
                vec![self.fault("the answer was cut, because it became longer than the credits allow", "cut")]
            }
        }
    }

    /// An error of the provider in the middle of a stream, as the clients of that API understand it: with what the provider
    /// says itself, where that is for the user.
    pub(crate) fn error(self, error: &ProviderError) -> Bytes {
        let kind = match error.plain() {
            ProviderError::Rejected { .. } => "invalid_request_error",
            ProviderError::RateLimited { .. } => "rate_limit_error",
            ProviderError::Overloaded { .. } if self.shape == Shape::Messages => "overloaded_error",
            _ => "api_error",
        };
        let said = error.said();
        let code = said.and_then(|said| said.code.as_deref()).unwrap_or(error.code());
        let param = said.and_then(|said| said.param.as_deref());
        let mut fields = json!({"message": error.message(), "type": kind, "param": param, "code": code});
        if let Some(wait) = error.retry_after() {
            fields["retry_after"] = wait.as_secs().max(1).into();
        }
        self.error_event(fields)
    }

    /// An error of ours in the middle of a stream.
    pub(crate) fn fault(self, message: &str, code: &str) -> Bytes {
        self.error_event(json!({"message": message, "type": "api_error", "param": null, "code": code}))
    }

    fn error_event(self, error: Value) -> Bytes {
        let event = match self.shape {
            Shape::Chat | Shape::Completions => format!("data: {}\n\n", json!({ "error": error })),
            Shape::Responses => {
                let mut data = json!({"type": "error"});
                for field in ["code", "message", "param"] {
                    data[field] = error[field].clone();
                }
                data["error"] = error;
                format!("event: error\ndata: {data}\n\n")
            }
            Shape::Messages => {
                format!("event: error\ndata: {}\n\n", json!({"type": "error", "error": error}))
            }
        };
        event.into()
    }

    /// The held-back end of a chat: the last chunk with a finish reason and the chunk with usage, rewritten.
    ///
    /// A client that asked for usage gets it on a chunk of its own, as OpenAI sends it; any other on the chunk with the
    /// finish reason, because some can't read a chunk without choices. Where there was none, it gets one like `pattern`.
    fn end_of_chat(
        self,
        held_back: &[StreamEvent],
        pattern: Option<&StreamEvent>,
        bill: Option<&Bill>,
    ) -> Vec<Bytes> {
        let chunks: Vec<(&StreamEvent, Option<Map<String, Value>>)> =
            held_back.iter().map(|event| (event, event.json())).collect();
        let is_usage = |chunk: &Map<String, Value>| {
            chunk.get("choices").and_then(Value::as_array).is_none_or(Vec::is_empty)
                && chunk.contains_key("usage")
        };
        let provided = chunks
            .iter()
            .rev()
            .find_map(|(_, json)| json.as_ref()?.get("usage").filter(|usage| usage.is_object()));
        let usage = bill.map(|bill| self.usage(provided.cloned(), bill));
        let last = |is: &dyn Fn(&Map<String, Value>) -> bool| {
            chunks.iter().rposition(|(_, json)| json.as_ref().is_some_and(is))
        };
        // Behind it there may be chunks that say nothing, such as results of filters.
        let finish = last(&ends).or_else(|| last(&|chunk| !is_usage(chunk)));
        let mut out = Vec::new();
        let mut told = false;
        for (index, (event, json)) in chunks.iter().enumerate() {
            let Some(chunk) = json else {
                out.push(event.raw.clone());
                continue;
            };
            let rewritten = |usage: &Value| {
                let mut chunk = chunk.clone();
                chunk.insert("usage".into(), usage.clone());
                event.with_data(&chunk)
            };
            match (&usage, is_usage(chunk)) {
                (Some(usage), true) if self.asked_usage => {
                    told = true;
                    out.push(rewritten(usage));
                }
                (_, true) if !self.asked_usage => {}
                (Some(usage), false) if !self.asked_usage && finish == Some(index) => {
                    out.push(rewritten(usage))
                }
                _ => out.push(event.raw.clone()),
            }
        }
        let is_told = told || (finish.is_some() && !self.asked_usage);
        let template = finish.and_then(|index| chunks[index].1.clone()).or_else(|| pattern?.json());
        if let (false, Some(usage), Some(mut chunk)) = (is_told, usage, template) {
            // The provider sent no usage, but the client asked for it; or the provider told no end.
            let nothing = nothing(self.shape, json!(0), Value::Null).filter(|_| !self.asked_usage);
            chunk.insert("choices".into(), nothing.into_iter().collect());
            chunk.insert("usage".into(), usage);
            out.push(StreamEvent::from_json(&chunk));
        }
        out
    }

    /// A chunk that ends a chat which was cut: like `last`, with the finish reason `length`.
    fn cut_chat(self, last: &StreamEvent, bill: Option<&Bill>) -> Option<Bytes> {
        let mut chunk = last.json()?;
        chunk.insert("choices".into(), nothing(self.shape, json!(0), json!("length")).into_iter().collect());
        if let Some(bill) = bill {
            chunk.insert("usage".into(), self.usage(None, bill));
        }
        Some(StreamEvent::from_json(&chunk))
    }

    /// An event of the end with its usage rewritten; `None` if it has none.
    fn native(self, event: &StreamEvent, bill: Option<&Bill>) -> Option<Bytes> {
        let mut data = event.json()?;
        let holder = match self.shape {
            Shape::Messages if data.get("type").and_then(Value::as_str) == Some("message_delta") => &mut data,
            Shape::Responses => data.get_mut("response")?.as_object_mut()?,
            Shape::Chat | Shape::Completions | Shape::Messages => return None,
        };
        let usage = self.usage(holder.remove("usage"), bill?);
        holder.insert("usage".into(), usage);
        Some(event.with_data(&data))
    }

    /// The usage as the client gets it: the provider's own fields, and ours.
    fn usage(self, provided: Option<Value>, bill: &Bill) -> Value {
        let mut usage = match provided {
            Some(Value::Object(usage)) if !bill.estimated && tells(&usage, &bill.usage) => usage,
            _ => self.plain_usage(&bill.usage),
        };
        usage.insert("credits".into(), number(bill.charge));
        usage.insert("credits_remaining".into(), bill.remaining.map_or(Value::Null, number));
        if let Some(cost) = bill.cost() {
            usage.insert("cost".into(), Value::Number(cost));
        }
        if bill.estimated {
            usage.insert("estimated".into(), Value::Bool(true));
        }
        if bill.usage.adjusted {
            usage.insert("adjusted".into(), Value::Bool(true));
        }
        Value::Object(usage)
    }

    /// The usage in the fields of the API, for answers that came without one.
    fn plain_usage(self, usage: &Usage) -> Map<String, Value> {
        let (input, output) = match self.shape {
            Shape::Chat | Shape::Completions => ("prompt_tokens", "completion_tokens"),
            Shape::Responses | Shape::Messages => ("input_tokens", "output_tokens"),
        };
        let mut map = Map::new();
        map.insert(input.into(), usage.input.into());
        map.insert(output.into(), usage.output.into());
        if self.shape != Shape::Messages {
            map.insert("total_tokens".into(), (usage.input + usage.output).into());
        }
        map
    }
}

/// Whether a choice ends in a chunk.
fn ends(chunk: &Map<String, Value>) -> bool {
    let choices = chunk.get("choices").and_then(Value::as_array).into_iter().flatten();
    choices.filter_map(Value::as_object).any(ends_here)
}

/// The type of an event.
fn kind(event: &StreamEvent) -> Option<String> {
    Some(event.json()?.get("type")?.as_str()?.to_owned())
}

/// Whether a server's last usage tells something: some end with zeros or with details alone, after they have told all.
fn tells(usage: &Map<String, Value>, used: &Usage) -> bool {
    const COUNTS: [&str; 4] = ["prompt_tokens", "completion_tokens", "input_tokens", "output_tokens"];
    let count = |name: &&str| usage.get(*name).and_then(Value::as_u64).unwrap_or_default();
    COUNTS.iter().map(count).any(|count| count > 0) || used.input + used.output == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact() {
        assert_eq!(number(Credits::from_micro(1)).to_string(), "0.000001");
        assert_eq!(number(Credits::MAX).to_string(), "9223372036854.775807");
    }
}
