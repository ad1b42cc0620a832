//! What of an answer is rewritten: its usage, with credits, what is left of them, and the cost.

use accounting::{Credits, Usage};
use indexmap::IndexMap;
use providers::StreamEvent;
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value, json};

use crate::settlement::Bill;

/// A decimal as a JSON number, exactly.
fn number(credits: Credits) -> Value {
    credits.to_string().parse::<Number>().map_or(Value::Null, Value::Number)
}

/// The cost in USD to the billionth, rounded up.
fn usd(charge: Credits, credits_per_usd: Credits) -> Value {
    const BILLION: i128 = 1_000_000_000;
    let (charge, rate) = (i128::from(charge.micro()), i128::from(credits_per_usd.micro()));
    if rate <= 0 {
        return Value::Null;
    }
    let billionths = (charge * BILLION + rate - 1) / rate;
    let text = format!("{}.{:09}", billionths / BILLION, billionths % BILLION);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    text.parse::<Number>().map_or(Value::Null, Value::Number)
}

/// The usage in OpenAI's shape, for answers that came without one.
fn openai_usage(usage: &Usage) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("prompt_tokens".into(), usage.input.into());
    map.insert("completion_tokens".into(), usage.output.into());
    map.insert("total_tokens".into(), (usage.input + usage.output).into());
    map
}

/// The usage as the client gets it: the provider's own fields, and ours.
pub(crate) fn usage_of(provided: Option<Value>, bill: &Bill) -> Value {
    let mut usage = match provided {
        Some(Value::Object(usage)) if !bill.estimated => usage,
        _ => openai_usage(&bill.usage),
    };
    usage.insert("credits".into(), number(bill.charge));
    usage.insert("credits_remaining".into(), bill.remaining.map_or(Value::Null, number));
    if let Some(rate) = bill.credits_per_usd {
        usage.insert("cost".into(), usd(bill.charge, rate));
    }
    if bill.estimated {
        usage.insert("estimated".into(), Value::Bool(true));
    }
    Value::Object(usage)
}

/// A complete answer with its usage rewritten, all else byte for byte; as it came, if it is no JSON object.
pub(crate) fn complete(body: bytes::Bytes, bill: Option<&Bill>) -> bytes::Bytes {
    let Some(bill) = bill else { return body };
    let Ok(mut answer) = serde_json::from_slice::<IndexMap<String, &RawValue>>(&body) else { return body };
    let provided = answer.get("usage").and_then(|usage| serde_json::from_str(usage.get()).ok());
    let Ok(usage) = serde_json::value::to_raw_value(&usage_of(provided, bill)) else { return body };
    answer.insert("usage".into(), &usage);
    serde_json::to_vec(&answer).map_or_else(|_| body.clone(), Into::into)
}

/// The held-back end of a stream: the last chunk with a finish reason and the chunk with usage, rewritten.
///
/// A client that asked for usage gets it on a chunk of its own, as OpenAI sends it; any other on the chunk with the finish
/// reason, because some can't read a chunk without choices.
pub(crate) fn end_of_stream(
    held_back: &[StreamEvent],
    asked_usage: bool,
    bill: Option<&Bill>,
) -> Vec<bytes::Bytes> {
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
    let usage = bill.map(|bill| usage_of(provided.cloned(), bill));
    let finish = chunks.iter().rposition(|(_, json)| json.as_ref().is_some_and(|chunk| !is_usage(chunk)));
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
            StreamEvent::from_json(&chunk)
        };
        match (&usage, is_usage(chunk)) {
            (Some(usage), true) if asked_usage => {
                told = true;
                out.push(rewritten(usage));
            }
            (_, true) if !asked_usage => {}
            (Some(usage), false) if !asked_usage && finish == Some(index) => out.push(rewritten(usage)),
            _ => out.push(event.raw.clone()),
        }
    }
    // The provider sent no usage, but the client asked for it.
    let template = finish.and_then(|index| chunks[index].1.clone());
    if let (true, false, Some(usage), Some(mut chunk)) = (asked_usage, told, usage, template) {
        chunk.insert("choices".into(), json!([]));
        chunk.insert("usage".into(), usage);
        out.push(StreamEvent::from_json(&chunk));
    }
    out
}

/// A chunk that ends a stream which was cut: like `last`, with the finish reason `length`.
pub(crate) fn cut(last: &StreamEvent, bill: Option<&Bill>) -> Option<bytes::Bytes> {
    let mut chunk = last.json()?;
    chunk.insert("choices".into(), json!([{"index": 0, "delta": {}, "finish_reason": "length"}]));
    if let Some(bill) = bill {
        chunk.insert("usage".into(), usage_of(None, bill));
    }
    Some(StreamEvent::from_json(&chunk))
}

/// An error in the middle of a stream, as OpenAI's clients understand it.
pub(crate) fn error_event(message: &str, code: &str) -> bytes::Bytes {
    let error = json!({"message": message, "type": "api_error", "param": null, "code": code});
    let mut event = Map::new();
    event.insert("error".into(), error);
    StreamEvent::from_json(&event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact() {
        assert_eq!(number(Credits::from_micro(1)).to_string(), "0.000001");
        assert_eq!(number(Credits::MAX).to_string(), "9223372036854.775807");
        let rate = Credits::from_whole(1000).unwrap();
        assert_eq!(usd(Credits::from_micro(1_234_567), rate).to_string(), "0.001234567");
        assert_eq!(usd(Credits::from_whole(5000).unwrap(), rate).to_string(), "5");
    }
}
