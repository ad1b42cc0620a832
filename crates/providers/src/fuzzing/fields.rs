//! A broken field spoils only itself: answers of each protocol in which any one field is replaced, and what must be read of the
//! others.
//!
//! What must be read marks itself: texts of the model begin with `said`, the input is 101 tokens and the output 202, and the end
//! stands in a field that is called so.

use accounting::Usage;
use bytes::Bytes;
use serde_json::Value;

use super::{asked, protocol_of, request};
use crate::answer::{Chunk, Reported, What};
use crate::framing::{Framing, Parser};
use crate::{Kind, Shape};

/// An answer, whole or as a stream.
struct Sample {
    kind: Kind,
    shape: Shape,
    is_stream: bool,
    /// Its events, each a line of JSON.
    events: &'static str,
}

const SAMPLES: [Sample; 15] = [
    sample(Kind::OPENAI, Shape::Chat, false, include_str!("samples/openai_whole.jsonl")),
    sample(Kind::OPENAI, Shape::Chat, true, include_str!("samples/openai_stream.jsonl")),
    sample(Kind::OPENAI, Shape::Chat, false, include_str!("samples/both_whole.jsonl")),
    sample(Kind::OPENAI, Shape::Chat, true, include_str!("samples/both_stream.jsonl")),
    sample(Kind::OPENAI, Shape::Responses, false, include_str!("samples/responses_whole.jsonl")),
    sample(Kind::OPENAI, Shape::Responses, true, include_str!("samples/responses_stream.jsonl")),
    sample(Kind::OPENAI, Shape::Completions, false, include_str!("samples/completions_whole.jsonl")),
    sample(Kind::OPENAI, Shape::Completions, true, include_str!("samples/completions_stream.jsonl")),
    sample(Kind::MISTRAL, Shape::Chat, true, include_str!("samples/mistral_stream.jsonl")),
    sample(Kind::ANTHROPIC, Shape::Messages, false, include_str!("samples/anthropic_whole.jsonl")),
    sample(Kind::ANTHROPIC, Shape::Messages, true, include_str!("samples/anthropic_stream.jsonl")),
    sample(Kind::ANTHROPIC, Shape::Chat, false, include_str!("samples/anthropic_whole.jsonl")),
    sample(Kind::ANTHROPIC, Shape::Chat, true, include_str!("samples/anthropic_stream.jsonl")),
    sample(Kind::GOOGLE, Shape::Chat, true, include_str!("samples/google_stream.jsonl")),
    sample(Kind::OLLAMA, Shape::Chat, true, include_str!("samples/ollama_stream.jsonl")),
];

const fn sample(kind: Kind, shape: Shape, is_stream: bool, events: &'static str) -> Sample {
    Sample { kind, shape, is_stream, events }
}

/// What stands in the place of a value.
const JUNK: [&str; 14] = [
    "5",
    "-1",
    "1.5",
    "1e400",
    "\"x\"",
    "\"\"",
    "null",
    "true",
    "[]",
    "{}",
    "[null]",
    "{\"a\":{\"b\":1}}",
    "NaN",
    "\"\\ud83d\"",
];

/// What is done to a field.
#[derive(Debug, Clone, Copy)]
enum Breakage {
    /// It has another value.
    Replace,
    /// It is there twice, the right one last.
    Repeat,
}

/// A step on the way to a value.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Key(String),
    Index(usize),
}

type Place = Vec<Step>;

/// Something that must be read.
#[derive(Debug, Clone, PartialEq)]
enum Fact {
    Said(String),
    Input,
    Output,
    End,
}

/// Fields that say what the others are: without them nothing can be said of those.
const KEYS_TO_OTHERS: [&str; 3] = ["type", "index", "error"];

/// Breaks one field of one sample, which the bytes choose.
pub fn broken_fields(data: &[u8]) {
    let Some((head, rest)) = data.split_first_chunk::<6>() else { return };
    let [sample, event, low, high, junk, breakage] = *head;
    let sample = &SAMPLES[usize::from(sample) % SAMPLES.len()];
    let events = sample.events();
    let event = usize::from(event) % events.len();
    let places = places(&events[event]);
    let place = &places[usize::from(u16::from_le_bytes([low, high])) % places.len()];
    let breakage = if breakage & 1 == 0 { Breakage::Replace } else { Breakage::Repeat };
    // Any JSON of the fuzzer's own in one line (the end of a line ends what a stream says there), or one of ours.
    let own = std::str::from_utf8(rest).ok().filter(|own| !own.contains(['\n', '\r']));
    let own = own.filter(|own| serde_json::from_str::<Value>(own).is_ok());
    let junk = own.unwrap_or(JUNK[usize::from(junk) % JUNK.len()]);
    check(sample, event, place, junk, breakage);
}

impl Sample {
    fn events(&self) -> Vec<Value> {
        self.events.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// All places in a value but itself.
fn places(value: &Value) -> Vec<Place> {
    let mut found = Vec::new();
    visit(value, &mut Vec::new(), &mut |place, _| found.push(place.to_vec()));
    found
}

fn visit(value: &Value, at: &mut Place, each: &mut dyn FnMut(&[Step], &Value)) {
    if !at.is_empty() {
        each(at, value);
    }
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                at.push(Step::Key(key.clone()));
                visit(value, at, each);
                at.pop();
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                at.push(Step::Index(index));
                visit(value, at, each);
                at.pop();
            }
        }
        _ => {}
    }
}

/// What must be read of an event, and where it stands.
fn facts(value: &Value) -> Vec<(Place, Fact)> {
    let mut found = Vec::new();
    visit(value, &mut Vec::new(), &mut |place, value| {
        let key = match place.last() {
            Some(Step::Key(key)) => key.as_str(),
            _ => "",
        };
        let fact = match value {
            Value::String(text) if text.starts_with("said") => Fact::Said(text.clone()),
            Value::String(_) if matches!(key, "finish_reason" | "stop_reason" | "finishReason") => Fact::End,
            Value::Bool(true) if key == "done" => Fact::End,
            Value::Number(number) if number.as_u64() == Some(101) => Fact::Input,
            Value::Number(number) if number.as_u64() == Some(202) => Fact::Output,
            _ => return,
        };
        found.push((place.to_vec(), fact));
    });
    found
}

/// An event with something else in that place.
fn broken(event: &Value, place: &[Step], junk: &str, breakage: Breakage) -> Option<String> {
    const MARK: &str = "the place of the junk";
    let mut event = event.clone();
    let value = place.iter().try_fold(&mut event, |value, step| match step {
        Step::Key(key) => value.get_mut(key.as_str()),
        Step::Index(index) => value.get_mut(*index),
    })?;
    let before = std::mem::replace(value, Value::String(MARK.into()));
    let instead = match (breakage, place.last()?) {
        (Breakage::Repeat, Step::Key(key)) => format!("{junk},{}:{before}", Value::String(key.clone())),
        _ => junk.to_owned(),
    };
    Some(event.to_string().replacen(&format!("\"{MARK}\""), &instead, 1))
}

/// What was read of an answer.
#[derive(Debug, Default)]
struct Seen {
    produced: String,
    usage: Option<Usage>,
    ended: bool,
}

impl Seen {
    fn has(&self, fact: &Fact) -> bool {
        match fact {
            Fact::Said(text) => self.produced.contains(text.as_str()),
            Fact::Input => self.usage.is_some_and(|usage| usage.input == 101),
            Fact::Output => self.usage.is_some_and(|usage| usage.output == 202),
            Fact::End => self.ended,
        }
    }
}

fn check(sample: &Sample, at: usize, place: &[Step], junk: &str, breakage: Breakage) {
    if matches!(place.last(), Some(Step::Key(key)) if KEYS_TO_OTHERS.contains(&key.as_str())) {
        return;
    }
    if matches!((breakage, place.last()), (Breakage::Repeat, Some(Step::Index(_)))) {
        return;
    }
    let events = sample.events();
    let Some(changed) = broken(&events[at], place, junk, breakage) else { return };
    let texts: Vec<String> = (0..events.len())
        .map(|index| if index == at { changed.clone() } else { events[index].to_string() })
        .collect();
    let Some(seen) = look(sample, &texts) else {
        // What has nothing left of its content is no answer.
        let lost = facts(&events[at])
            .iter()
            .any(|(of, fact)| matches!(fact, Fact::Said(_)) && of.starts_with(place));
        if !lost {
            panic!("{:?} {:?}: unreadable: {changed}", sample.kind, sample.shape);
        }
        return;
    };
    for (index, event) in events.iter().enumerate() {
        for (of, fact) in facts(event) {
            let is_broken = index == at && of.starts_with(place) && matches!(breakage, Breakage::Replace);
            // Counts are told more than once in a stream: another one may stand for it, and a wrong one may be larger.
            let is_count = matches!(fact, Fact::Input | Fact::Output);
            let is_touched = is_count && is_count_touched(&events[at], place, &fact, junk);
            if !is_broken && !is_touched && !seen.has(&fact) {
                panic!("{:?} {:?}: {fact:?} is lost ({seen:?}): {changed}", sample.kind, sample.shape);
            }
        }
    }
}

/// Whether such a count stands in that place, or another number of the usage by which it changes.
fn is_count_touched(event: &Value, place: &[Step], fact: &Fact, junk: &str) -> bool {
    let is_usage =
        |step: &Step| matches!(step, Step::Key(key) if key.starts_with("usage") || key.contains("eval"));
    let is_other = place.iter().any(is_usage) && junk.bytes().any(|byte| byte.is_ascii_digit());
    is_other || facts(event).iter().any(|(of, other)| other == fact && of.starts_with(place))
}

fn look(sample: &Sample, events: &[String]) -> Option<Seen> {
    let protocol = protocol_of(sample.kind)?;
    let request = request(sample.shape)?;
    if !sample.is_stream {
        let body = Bytes::from(events.concat());
        let complete = protocol.answer(&request, &asked(), body).ok()?;
        return Some(Seen { produced: complete.produced.text, usage: complete.usage, ended: true });
    }
    let mut parser = Parser::new(protocol.framing());
    for event in events {
        let framed = match protocol.framing() {
            Framing::Sse => format!("data: {event}\n\n"),
            Framing::Ndjson => format!("{event}\n"),
        };
        parser.push(framed.as_bytes());
    }
    let mut conversion = protocol.conversion(&request, asked());
    let mut out = Vec::new();
    while let Ok(Some(event)) = parser.next() {
        conversion.event(event, &mut out).ok()?;
    }
    // Whether all came to an end is what is looked at.
    let _ = conversion.end(&mut out);
    let mut seen = Seen::default();
    for event in out {
        let What::Chunk(Chunk { produced, usage, finish, .. }) = event.what else { continue };
        seen.produced.push_str(&produced);
        seen.ended |= finish;
        if let Some(Reported::Final(usage) | Reported::SoFar(usage)) = usage {
            seen.usage = Some(usage);
        }
    }
    Some(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_wholly() {
        for sample in &SAMPLES {
            let events = sample.events();
            let texts: Vec<String> = events.iter().map(Value::to_string).collect();
            let seen = look(sample, &texts).unwrap();
            for (_, fact) in events.iter().flat_map(facts) {
                assert!(seen.has(&fact), "{:?} {:?}: {fact:?} {seen:?}", sample.kind, sample.shape);
            }
            assert!(events.iter().flat_map(facts).count() > 3, "{:?} {:?}", sample.kind, sample.shape);
        }
    }

    #[test]
    fn a_broken_field_spoils_only_itself() {
        for sample in &SAMPLES {
            for (at, event) in sample.events().iter().enumerate() {
                for place in places(event) {
                    for junk in JUNK {
                        check(sample, at, &place, junk, Breakage::Replace);
                        check(sample, at, &place, junk, Breakage::Repeat);
                    }
                }
            }
        }
    }
}
