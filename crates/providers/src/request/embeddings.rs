//! Requests for embeddings, in OpenAI's shape.

use std::fmt;

use bytes::Bytes;
use indexmap::IndexMap;
use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::text::json_length;
use super::{Kinds, TextSize, Unknown, bad, model, not_an_object};
use crate::BadRequest;

/// Fields that no model reads as text. All others count: some servers put an instruction before each text, or take texts
/// and pictures by other names (vLLM, "Pooling models"; Cohere, "Embed").
const NOT_READ: [&str; 18] = [
    "model",
    "input",
    "encoding_format",
    "dimensions",
    "output_dimension",
    "output_dtype",
    "embedding_types",
    "user",
    "metadata",
    "service_tier",
    "safety_identifier",
    "input_type",
    "task_type",
    "taskType",
    "truncate",
    "prompt_name",
    "keep_alive",
    "options",
];

/// A request for embeddings.
#[derive(Debug, Clone)]
pub struct EmbeddingsRequest {
    original: Bytes,
    body: Map<String, Value>,
    /// Tokens to embed stay as they came; in `body`, nothing stands at their place.
    tokens: Option<Tokens>,
}

/// Tokens that are given as numbers, as they stand in the request: a value of its own for each would take a hundred times
/// their size.
#[derive(Debug, Clone)]
struct Tokens {
    json: Box<RawValue>,
    count: u64,
}

/// The body to send.
pub(crate) struct Sent<'a>(&'a EmbeddingsRequest);

impl EmbeddingsRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// Says which field is wrong.
    pub fn parse(original: Bytes) -> Result<Self, BadRequest> {
        let fields: IndexMap<String, &RawValue> = super::fields::fields(&original)?;
        let mut tokens = None;
        let mut body = Map::with_capacity(fields.len());
        for (name, json) in fields {
            if name == "input" && is_tokens(json.get()) {
                let count = count_tokens(json.get()).filter(|count| *count > 0).ok_or_else(wrong_input)?;
                tokens = Some(Tokens { json: json.to_owned(), count });
                body.insert(name, Value::Null);
                continue;
            }
            let value = serde_json::from_str(json.get()).map_err(|error| not_an_object(&original, &error))?;
            body.insert(name, value);
        }
        model(&body)?;
        let list_fits = |list: &Vec<Value>| {
            !list.is_empty() && list.iter().all(|value| value.is_string() || value.is_u64())
        };
        match body.get("input") {
            Some(Value::String(_)) => {}
            Some(Value::Array(list)) if list_fits(list) => {}
            Some(Value::Null) if tokens.is_some() => {}
            _ => return Err(wrong_input()),
        }
        Ok(Self { original, body, tokens })
    }

    /// As the client sent it.
    pub fn original(&self) -> Bytes {
        self.original.clone()
    }

    /// The model asked for.
    pub fn model(&self) -> &str {
        self.body.get("model").and_then(Value::as_str).unwrap_or_default()
    }

    /// Asks for another model.
    pub fn set_model(&mut self, model: String) {
        self.body.insert("model".into(), Value::String(model));
    }

    /// The texts to embed.
    pub fn input_text(&self) -> impl Iterator<Item = &str> {
        let input = self.body.get("input");
        let one = input.and_then(Value::as_str);
        let many = input.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        one.into_iter().chain(many)
    }

    /// How many tokens are given as numbers.
    pub fn token_count(&self) -> u64 {
        let list = self.body.get("input").and_then(Value::as_array).into_iter().flatten();
        let among_texts = list.filter(|value| value.is_number()).count() as u64;
        among_texts + self.tokens.as_ref().map_or(0, |tokens| tokens.count)
    }

    /// What else may be read: the JSON of fields that are not known.
    pub fn other_text(&self) -> impl Iterator<Item = String> + '_ {
        self.others().map(|(_, value)| value.to_string())
    }

    fn others(&self) -> impl Iterator<Item = (&String, &Value)> {
        let read = |(name, value): &(&String, &Value)| {
            !NOT_READ.contains(&name.as_str()) && (value.is_string() || value.is_array() || value.is_object())
        };
        self.body.iter().filter(read)
    }

    /// How much text it is at most, to a model of which nothing is known. Tokens that are given as numbers are not in it.
    pub fn size_at_most(&self) -> TextSize {
        let mut size = TextSize::default();
        self.input_text().for_each(|text| size.add(text));
        self.other_text().for_each(|json| size.add_json(&json));
        // Servers put marks around each, and some a prompt of their own.
        TextSize { messages: size.texts, ..size }
    }

    /// The length of all texts in bytes.
    pub fn input_length(&self) -> u64 {
        let others: u64 = self.others().map(|(_, value)| json_length(value)).sum();
        self.input_text().map(|text| text.len() as u64).sum::<u64>() + others
    }

    /// Refuses what would change the model, the endpoint, the key or the tier, or would bill extra. Tells what is unknown in
    /// it and passes.
    ///
    /// # Errors
    /// Names the field.
    pub fn refuse_unpriced_fields(&self, unknown: Unknown) -> Result<Vec<String>, BadRequest> {
        crate::refused::check(&self.body, super::chat::RUN)?;
        let mut kinds = Kinds::new(unknown);
        for (name, _) in self.others().filter(|(_, value)| !value.is_string()) {
            kinds.unknown(Some(&Value::from(name.as_str())), &NOT_READ, "field", name)?;
        }
        Ok(kinds.into_found())
    }

    /// All but tokens that are given as numbers.
    pub(crate) const fn body(&self) -> &Map<String, Value> {
        &self.body
    }

    /// All of it.
    pub(crate) const fn sent(&self) -> Sent<'_> {
        Sent(self)
    }
}

impl Serialize for Sent<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let EmbeddingsRequest { body, tokens, .. } = self.0;
        let mut map = serializer.serialize_map(Some(body.len()))?;
        for (name, value) in body {
            match tokens {
                Some(tokens) if name == "input" => map.serialize_entry(name, &tokens.json)?,
                _ => map.serialize_entry(name, value)?,
            }
        }
        map.end()
    }
}

fn wrong_input() -> BadRequest {
    bad("input must be a text, a list of texts, or a list of tokens", "input")
}

/// Whether nothing but lists and whole numbers stands there.
fn is_tokens(json: &str) -> bool {
    let fits = |byte: u8| matches!(byte, b'[' | b']' | b',' | b'0'..=b'9') || byte.is_ascii_whitespace();
    json.bytes().all(fits)
}

/// How many tokens there are in a list of them, or in a list of such lists.
fn count_tokens(json: &str) -> Option<u64> {
    let count = |nested| {
        let mut read = serde_json::Deserializer::from_str(json);
        Count { nested }.deserialize(&mut read).ok()
    };
    count(false).or_else(|| count(true))
}

/// Counts what is in a list, without keeping it.
struct Count {
    nested: bool,
}

impl<'de> DeserializeSeed<'de> for Count {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Count {
    type Value = u64;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of tokens")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<u64, A::Error> {
        let mut count = 0;
        if self.nested {
            while let Some(inner) = list.next_element_seed(Self { nested: false })? {
                count += inner;
            }
        } else {
            while list.next_element::<u64>()?.is_some() {
                count += 1;
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn embeddings_inputs() {
        let parse = |input: Value| {
            EmbeddingsRequest::parse(Bytes::from(json!({"model": "m", "input": input}).to_string()))
        };
        assert_eq!(parse(json!(["a", "bc"])).unwrap().input_length(), 3);
        assert_eq!(parse(json!([[1, 2], [3]])).unwrap().token_count(), 3);
        for wrong in [json!([]), json!([[]]), json!([1, [2]]), json!([[1], 2]), json!([[1], "a"]), json!(5)] {
            assert!(parse(wrong.clone()).is_err(), "{wrong}");
        }
        assert_eq!(parse(json!(["a", 7])).unwrap().token_count(), 1);
        assert!(parse(json!([["a"]])).is_err());
        assert!(parse(json!({"a": 1})).is_err());
    }

    #[test]
    fn what_is_read_beside_the_input_counts_and_lists_of_it_are_unknown() {
        let with = |field: &str, value: Value| {
            let body = json!({"model": "m", "input": "abc", field: value});
            EmbeddingsRequest::parse(Bytes::from(body.to_string())).unwrap()
        };
        for (field, value) in
            [("messages", json!([{"role": "user", "content": "long"}])), ("images", json!({}))]
        {
            let request = with(field, value.clone());
            assert_eq!(request.other_text().collect::<Vec<_>>(), [value.to_string()]);
            assert_eq!(request.input_length(), 3 + value.to_string().len() as u64);
            assert_eq!(
                request.refuse_unpriced_fields(Unknown::Refuse).unwrap_err().param.as_deref(),
                Some(field)
            );
            let told = request.refuse_unpriced_fields(Unknown::Count).unwrap();
            assert_eq!(told, [format!("the field `{field}` in {field}")]);
        }
        for (field, value, length) in [
            ("instruction", json!("read"), 6),
            ("input_type", json!("q"), 0),
            ("metadata", json!({"a": 1}), 0),
        ] {
            let request = with(field, value);
            assert_eq!(request.refuse_unpriced_fields(Unknown::Refuse), Ok(vec![]), "{field}");
            assert_eq!(request.input_length(), 3 + length, "{field}");
        }
        for field in ["Model", "INPUT", "Dimensions", "cachedContent", "service_tier"] {
            assert!(with(field, json!("x")).refuse_unpriced_fields(Unknown::Count).is_err(), "{field}");
        }
    }

    #[test]
    fn tokens_pass_as_they_came() {
        let body = r#"{"model":"m","input":[1, 22,333],"dimensions":1.50}"#;
        let mut request = EmbeddingsRequest::parse(Bytes::from(body)).unwrap();
        request.set_model("n".into());
        let sent = serde_json::to_string(&request.sent()).unwrap();
        assert_eq!(sent, r#"{"model":"n","input":[1, 22,333],"dimensions":1.50}"#);
        let texts = r#"{"input":["a"],"model":"m"}"#;
        let request = EmbeddingsRequest::parse(Bytes::from(texts)).unwrap();
        assert_eq!(serde_json::to_string(&request.sent()).unwrap(), texts);
    }
}
