//! Calls whose arguments come in pieces (Vertex AI, "Function calling", streaming of arguments): put together, so that
//! clients get whole ones. Each piece says by a path where its value belongs; texts grow by further pieces of the same path.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Arguments may be nested so deep, as in the parser.
const DEEPEST: usize = 127;

/// A call that goes on.
#[derive(Debug, Default)]
pub(super) struct OpenCall {
    /// Google's own id of it.
    pub id: Option<String>,
    pub name: String,
    pub arguments: Map<String, Value>,
    pub signature: Option<String>,
    /// Whether its arguments were counted as they came.
    pub counted: bool,
}

/// One piece of the arguments.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Piece<'a> {
    #[serde(borrow)]
    json_path: Cow<'a, str>,
    #[serde(borrow, default)]
    string_value: Option<Cow<'a, str>>,
    #[serde(default)]
    number_value: Option<Value>,
    #[serde(default)]
    bool_value: Option<bool>,
}

impl Piece<'_> {
    /// What it says. One that says nothing else is null.
    fn value(&self) -> Value {
        let number = self.number_value.as_ref().filter(|value| value.is_number());
        match &self.string_value {
            Some(text) => (**text).into(),
            None => number.cloned().or(self.bool_value.map(Value::Bool)).unwrap_or_default(),
        }
    }
}

impl OpenCall {
    /// Adds pieces, as they came. Those that can't be read are left out. Returns what is new of it, as text.
    pub(super) fn add(&mut self, pieces: &RawValue) -> String {
        let mut added = String::new();
        let pieces: Vec<&RawValue> = serde_json::from_str(pieces.get()).unwrap_or_default();
        for piece in pieces.into_iter().filter_map(|raw| serde_json::from_str::<Piece<'_>>(raw.get()).ok()) {
            let Some(steps) = steps(&piece.json_path) else { continue };
            let value = piece.value();
            match &value {
                Value::String(text) => added.push_str(text),
                other => added.push_str(&other.to_string()),
            }
            let mut root = Value::Object(std::mem::take(&mut self.arguments));
            put(&mut root, &steps, value);
            if let Value::Object(arguments) = root {
                self.arguments = arguments;
            }
        }
        added
    }
}

#[derive(Debug, PartialEq)]
enum Step<'a> {
    Name(&'a str),
    Place(usize),
}

/// The steps of a path (RFC 9535), as far as one leads to a single value: `$.a.b[0]['c d']`.
fn steps(path: &str) -> Option<Vec<Step<'_>>> {
    let mut rest = path.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if steps.len() == DEEPEST {
            return None;
        }
        if let Some(name) = rest.strip_prefix('.') {
            let end = name.find(['.', '[']).unwrap_or(name.len());
            steps.push(Step::Name(&name[..end]));
            rest = &name[end..];
            continue;
        }
        let inner = rest.strip_prefix('[')?;
        rest = match inner.chars().next().filter(|mark| matches!(mark, '\'' | '"')) {
            Some(mark) => {
                let (name, rest) = inner[1..].split_once(mark)?;
                steps.push(Step::Name(name));
                rest.strip_prefix(']')?
            }
            None => {
                let (place, rest) = inner.split_once(']')?;
                steps.push(Step::Place(place.parse().ok()?));
                rest
            }
        };
    }
    // The first step is an argument's name.
    matches!(steps.first(), Some(Step::Name(_))).then_some(steps)
}

/// Puts a value where the steps lead, and makes what is missing on the way. A place behind the end of a list is its end.
fn put(mut into: &mut Value, steps: &[Step<'_>], value: Value) {
    for step in steps {
        into = match step {
            Step::Name(name) => {
                if !into.is_object() {
                    *into = Value::Object(Map::new());
                }
                match into {
                    Value::Object(object) => object.entry(*name).or_insert(Value::Null),
                    _ => return,
                }
            }
            Step::Place(place) => {
                if !into.is_array() {
                    *into = Value::Array(Vec::new());
                }
                match into {
                    Value::Array(list) => {
                        let place = (*place).min(list.len());
                        if place == list.len() {
                            list.push(Value::Null);
                        }
                        &mut list[place]
                    }
                    _ => return,
                }
            }
        };
    }
    match (into, value) {
        (Value::String(text), Value::String(more)) => text.push_str(&more),
        (into, value) => *into = value,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn put_together(pieces: Value) -> Value {
        let mut call = OpenCall::default();
        // Each in an event of its own, as they come.
        for piece in pieces.as_array().unwrap() {
            let raw = json!([piece]).to_string();
            call.add(serde_json::from_str(&raw).unwrap());
        }
        call.arguments.into()
    }

    #[test]
    fn pieces_become_the_arguments() {
        let pieces = json!([
            {"jsonPath": "$.city", "stringValue": "San ", "willContinue": true},
            {"jsonPath": "$.city", "stringValue": "Jose"},
            {"jsonPath": "$.days", "numberValue": 3},
            {"jsonPath": "$.deep.list[0].on", "boolValue": true},
            {"jsonPath": "$.deep.list[1]['a b']", "nullValue": null},
            {"jsonPath": "$.deep.list[7][\"c.d\"]", "stringValue": "x"},
        ]);
        let expected = json!({"city": "San Jose", "days": 3,
            "deep": {"list": [{"on": true}, {"a b": null}, {"c.d": "x"}]}});
        assert_eq!(put_together(pieces), expected);
    }

    #[test]
    fn what_can_not_be_read_spoils_nothing_else() {
        let deep = format!("${}", "[0]".repeat(DEEPEST + 1));
        let pieces = json!([
            {"jsonPath": "$.a", "stringValue": "x"},
            {"jsonPath": "$", "stringValue": "y"},
            {"jsonPath": "$[0]", "stringValue": "y"},
            {"jsonPath": "$.b[", "stringValue": "y"},
            {"jsonPath": "$.b[-1]", "stringValue": "y"},
            {"jsonPath": deep, "stringValue": "y"},
            {"jsonPath": 7}, 7, {"stringValue": "y"},
            {"jsonPath": "$.c.d", "numberValue": "NaN"},
        ]);
        assert_eq!(put_together(pieces), json!({"a": "x", "c": {"d": null}}));
        let mut call = OpenCall::default();
        assert_eq!(call.add(serde_json::from_str("{}").unwrap()), "");
    }
}
