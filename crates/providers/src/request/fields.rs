//! The outermost object of a body, in which each field stands once.
//!
//! The rule it protects: of a field that stands twice, one server reads the first and another the last.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use indexmap::IndexMap;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{bad, not_an_object, printable};
use crate::BadRequest;

/// What fields are gathered in.
pub(super) trait Gathers<V>: Default {
    /// Takes one; gives its name back if it was there already.
    fn take(&mut self, name: String, value: V) -> Option<String>;
}

impl Gathers<Value> for Map<String, Value> {
    fn take(&mut self, name: String, value: Value) -> Option<String> {
        match self.entry(name) {
            serde_json::map::Entry::Occupied(there) => Some(there.key().clone()),
            serde_json::map::Entry::Vacant(new) => {
                new.insert(value);
                None
            }
        }
    }
}

impl<'a> Gathers<&'a RawValue> for IndexMap<String, &'a RawValue> {
    fn take(&mut self, name: String, value: &'a RawValue) -> Option<String> {
        match self.entry(name) {
            indexmap::map::Entry::Occupied(there) => Some(there.key().clone()),
            indexmap::map::Entry::Vacant(new) => {
                new.insert(value);
                None
            }
        }
    }
}

/// The fields of a body.
///
/// # Errors
/// If it is no object, or names the field that stands twice.
pub(super) fn fields<'a, M: Gathers<V>, V: Deserialize<'a>>(body: &'a Bytes) -> Result<M, BadRequest> {
    let Fields { all, twice, .. } =
        serde_json::from_slice::<Fields<M, V>>(body).map_err(|error| not_an_object(body, &error))?;
    match twice {
        None => Ok(all),
        Some(name) => {
            let name = printable(&name);
            Err(bad(format!("`{name}` stands twice in the body: write it once"), &name))
        }
    }
}

struct Fields<M, V> {
    all: M,
    /// The first field that stands there again.
    twice: Option<String>,
    values: PhantomData<V>,
}

impl<'de, M: Gathers<V>, V: Deserialize<'de>> Deserialize<'de> for Fields<M, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self { all: M::default(), twice: None, values: PhantomData })
    }
}

impl<'de, M: Gathers<V>, V: Deserialize<'de>> Visitor<'de> for Fields<M, V> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some((name, value)) = map.next_entry::<String, V>()? {
            let again = self.all.take(name, value);
            self.twice = self.twice.take().or(again);
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ChatRequest, EmbeddingsRequest, Shape};
    use super::*;

    #[test]
    fn no_field_stands_twice_in_any_shape() {
        let twice = |field: &str, first: &str, second: &str| {
            let rest = r#""messages":[],"input":"x","max_tokens":5"#;
            let body = format!(r#"{{"{field}":{first},"{field}":{second},{rest},"model":"m"}}"#);
            body.replace(r#""model":"m"}"#, if field == "model" { "\"a\":1}" } else { r#""model":"m"}"# })
        };
        for body in [
            twice("model", "\"free\"", "\"dear\""),
            twice("seed", "1", "2"),
            twice("service_tier", "\"priority\"", "null"),
            // The same name, written with an escape.
            r#"{"model":"m","messages":[],"input":"x","n":1,"\u006e":50}"#.to_owned(),
        ] {
            let body = Bytes::from(body);
            for shape in [Shape::Chat, Shape::Responses, Shape::Messages] {
                let error = ChatRequest::parse_as(shape, body.clone()).unwrap_err();
                assert!(error.message.contains("stands twice"), "{shape:?} {body:?}: {error}");
            }
            let error = EmbeddingsRequest::parse(body.clone()).unwrap_err();
            assert!(error.message.contains("stands twice"), "{body:?}: {error}");
        }
        let tokens = Bytes::from_static(br#"{"model":"m","input":[1,2],"input":"long"}"#);
        assert_eq!(EmbeddingsRequest::parse(tokens).unwrap_err().param.as_deref(), Some("input"));
        let inner = Bytes::from_static(br#"{"model":"m","messages":[],"metadata":{"a":1,"a":2}}"#);
        assert!(ChatRequest::parse_as(Shape::Chat, inner).is_ok());
    }
}
