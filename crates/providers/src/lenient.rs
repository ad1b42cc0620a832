//! Reading the JSON of servers field by field.
//!
//! The rule it protects: a field that is broken (of a type that nobody expects, given twice, not JSON at all) spoils nothing but
//! itself. What can be read at once is read at once; only what can't is mended first.

use std::cell::OnceCell;
use std::fmt::Write as _;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use serde_path_to_error::{Path, Segment};

/// So many broken fields are taken out of one text.
const MOST_FIELDS: usize = 64;
/// So many bytes may all the mended texts of one have together.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// Holds mended texts, so that what is read of them can borrow from them.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    text: OnceCell<String>,
    next: OnceCell<Box<Scratch>>,
}

impl Scratch {
    /// What is to be passed on in the place of a text that was read with this, if that is no JSON: the same, mended.
    pub(crate) fn instead_of(&self, json: &[u8]) -> Option<Bytes> {
        let mended = self.text.get()?;
        let is_json = serde_json::from_slice::<&RawValue>(json).is_ok();
        (!is_json).then(|| Bytes::copy_from_slice(mended.as_bytes()))
    }
}

/// Reads JSON without those of its fields that can't be read; `None` if nothing is left of it.
pub(crate) fn read<'a, T: Deserialize<'a>>(json: &'a [u8], scratch: &'a Scratch) -> Option<T> {
    // Checked once as a whole, which is much less work than for each of its texts.
    let read = std::str::from_utf8(json).ok().and_then(|json| serde_json::from_str(json).ok());
    read.or_else(|| read_mended(json, scratch))
}

#[cold]
fn read_mended<'a, T: Deserialize<'a>>(json: &[u8], mut scratch: &'a Scratch) -> Option<T> {
    let mut value = value(json)?;
    let mut bytes = 0;
    for _ in 0..MOST_FIELDS {
        let text = scratch.text.get_or_init(|| value.to_string());
        let mut reader = serde_json::Deserializer::from_str(text);
        let error = match serde_path_to_error::deserialize(&mut reader) {
            Ok(read) => return Some(read),
            Err(error) => error,
        };
        bytes += text.len();
        if bytes > MOST_BYTES || !remove(&mut value, error.path()) {
            return None;
        }
        scratch = scratch.next.get_or_init(Box::default);
    }
    None
}

/// JSON as its client reads it: where a key is given twice, the last one counts.
pub(crate) fn value(json: &[u8]) -> Option<Value> {
    serde_json::from_str(&repaired(json)).ok()
}

/// Takes out what stands there; whether there was something.
fn remove(value: &mut Value, path: &Path) -> bool {
    let mut steps: Vec<&Segment> = path.iter().collect();
    // Behind a step that has no name, only its holder is known.
    let named = |step: &&Segment| matches!(step, Segment::Seq { .. } | Segment::Map { .. });
    steps.truncate(steps.iter().position(|step| !named(step)).unwrap_or(steps.len()));
    let Some(last) = steps.pop() else { return false };
    let holder = steps.into_iter().try_fold(value, |value, step| match step {
        Segment::Seq { index } => value.get_mut(*index),
        Segment::Map { key } => value.get_mut(key.as_str()),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    match (holder, last) {
        (Some(Value::Array(list)), Segment::Seq { index }) if *index < list.len() => {
            list.remove(*index);
            true
        }
        (Some(Value::Object(object)), Segment::Map { key }) => object.shift_remove(key).is_some(),
        _ => false,
    }
}

/// A text whose values JSON knows: what is no UTF-8 has signs of replacement, as halves of surrogate pairs have; what is no
/// number is null; control characters are escaped; a byte order mark is gone.
fn repaired(json: &[u8]) -> String {
    let text = String::from_utf8_lossy(json);
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut out = String::with_capacity(rest.len());
    while !rest.is_empty() {
        let (between, string) = rest.split_at(rest.find('"').unwrap_or(rest.len()));
        repair_values(between, &mut out);
        let (string, behind) = string.split_at(end_of_string(string));
        repair_string(string, &mut out);
        rest = behind;
    }
    out
}

/// What Python and JavaScript write for what is no number.
fn repair_values(text: &str, out: &mut String) {
    if !text.contains(['N', 'I']) {
        out.push_str(text);
        return;
    }
    out.push_str(&text.replace("-Infinity", "null").replace("Infinity", "null").replace("NaN", "null"));
}

/// Behind the quotation mark that ends a string, or its text.
fn end_of_string(text: &str) -> usize {
    let mut at = 1;
    while let Some(found) = text.as_bytes().get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if text.as_bytes()[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    text.len()
}

fn repair_string(string: &str, out: &mut String) {
    let mut rest = string;
    while let Some(at) = rest.find(|character: char| character == '\\' || character < ' ') {
        out.push_str(&rest[..at]);
        let from = &rest[at..];
        let taken = match (unit(from), from.get(6..).and_then(unit)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                out.push_str("\\ufffd");
                rest = &from[6..];
                continue;
            }
            (Some(_), _) => 6,
            (None, _) if from.starts_with('\\') => 1 + from[1..].chars().next().map_or(0, char::len_utf8),
            (None, _) => {
                let _ = write!(out, "\\u{:04x}", from.as_bytes()[0]);
                rest = &from[1..];
                continue;
            }
        };
        out.push_str(&from[..taken]);
        rest = &from[taken..];
    }
    out.push_str(rest);
}

/// The unit of UTF-16 that an escape at the beginning of a text stands for.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Outer<'a> {
        #[serde(borrow, default)]
        text: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        raw: Option<&'a RawValue>,
        #[serde(borrow, default)]
        list: Option<Vec<Inner<'a>>>,
    }

    #[derive(Debug, Deserialize)]
    struct Inner<'a> {
        #[serde(default)]
        number: Option<u64>,
        #[serde(borrow, default)]
        word: Option<Cow<'a, str>>,
    }

    /// Text, raw JSON, and of each entry of the list its number and its word.
    type Told = (String, String, Vec<(Option<u64>, String)>);

    /// What could be read.
    fn told(json: &[u8]) -> Option<Told> {
        let scratch = Scratch::default();
        let outer: Outer<'_> = read(json, &scratch)?;
        let list = outer.list.unwrap_or_default().into_iter();
        Some((
            outer.text.unwrap_or_default().into_owned(),
            outer.raw.map_or("", RawValue::get).to_owned(),
            list.map(|inner| (inner.number, inner.word.unwrap_or_default().into_owned())).collect(),
        ))
    }

    #[test]
    fn a_broken_field_spoils_only_itself() {
        let whole = ("t".to_owned(), "{\"a\":1}".to_owned(), vec![(Some(1), "w".to_owned())]);
        for json in [
            r#"{"text":"t","raw":{"a":1},"list":[{"number":1,"word":"w"}]}"#,
            r#"{"text":"x","raw":{"a":1},"list":[{"number":1,"word":"w"}],"text":"t"}"#,
            r#"{"text":"t","other":NaN,"raw":{"a":1},"more":[-Infinity,Infinity],"list":[{"number":1,"word":"w"}]}"#,
            "\u{feff}{\"text\":\"t\",\"raw\":{\"a\":1},\"list\":[{\"number\":1,\"word\":\"w\"}]}",
            r#"{"text":"t","raw":{"a":1},"list":[7,{"number":1,"word":"w"},"no"]}"#,
        ] {
            assert_eq!(told(json.as_bytes()).unwrap(), whole, "{json}");
        }
        let broken =
            told(br#"{"text":5,"raw":{"a":1},"list":[{"number":-1,"word":"w"},{"number":2,"word":[]}]}"#);
        let list = vec![(None, "w".to_owned()), (Some(2), String::new())];
        assert_eq!(broken.unwrap(), (String::new(), "{\"a\":1}".into(), list));
        assert_eq!(told(br#"{"list":"no","raw":1}"#).unwrap(), (String::new(), "1".into(), vec![]));
        for nothing in ["", "{", "[1]x", "7", "nonsense"] {
            assert_eq!(told(nothing.as_bytes()), None, "{nothing}");
        }
    }

    #[test]
    fn texts_are_mended() {
        let text = |json: &[u8]| told(json).unwrap().0;
        assert_eq!(text(b"{\"text\":\"a\xffb\"}"), "a\u{fffd}b");
        assert_eq!(text(br#"{"text":"\ud83d and \ud83d\ude00 \udc00"}"#), "\u{fffd} and \u{1f600} \u{fffd}");
        assert_eq!(text(b"{\"text\":\"a\nb\tc\"}"), "a\nb\tc");
        assert_eq!(text(br#"{"x":NaN,"text":"NaN \"Infinity\" \\"}"#), "NaN \"Infinity\" \\");
    }

    #[test]
    fn what_is_no_json_is_passed_on_mended() {
        let instead = |json: &'static str| {
            let scratch = Scratch::default();
            read::<Outer<'_>>(json.as_bytes(), &scratch).unwrap();
            scratch.instead_of(json.as_bytes())
        };
        assert_eq!(instead(r#"{"text":"t","x":NaN}"#).unwrap(), r#"{"text":"t","x":null}"#);
        for json in [r#"{"text":"t"}"#, r#"{"text":5}"#, r#"{"text":"a","text":"b"}"#] {
            assert_eq!(instead(json), None, "{json}");
        }
    }

    #[test]
    fn only_so_many_fields_are_taken_out() {
        let numbers = |count: usize| json!({"text": "t", "list": vec![7; count]}).to_string();
        assert!(told(numbers(MOST_FIELDS - 1).as_bytes()).is_some());
        assert!(told(numbers(MOST_FIELDS).as_bytes()).is_none());
    }

    proptest! {
        #[test]
        fn what_is_json_stays_what_it_is(text in "\\PC{0,20}", number: i64, word in "[ -~]{0,9}") {
            let json = json!({"text": text, "n": [number, null, {"w": word}]});
            prop_assert_eq!(value(json.to_string().as_bytes()), Some(json));
        }

        #[test]
        fn nothing_is_too_strange_to_be_looked_at(bytes in prop::collection::vec(prop::sample::select(b"{}[]\":,\\uNaInfty-0d8\xff\n".to_vec()), 0..60)) {
            let _ = told(&bytes);
        }
    }
}
