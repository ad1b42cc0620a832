//! Requests for embeddings, in OpenAI's shape.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::text::json_length;
use super::{Kinds, Unknown, bad, model, object};
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
}

impl EmbeddingsRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// Says which field is wrong.
    pub fn parse(original: Bytes) -> Result<Self, BadRequest> {
        let body = object(&original)?;
        model(&body)?;
        let list_fits = |list: &Vec<Value>| {
            let flat = |value: &Value| value.is_string() || value.is_u64();
            let nested =
                |value: &Value| value.as_array().is_some_and(|inner| inner.iter().all(Value::is_u64));
            !list.is_empty() && (list.iter().all(flat) || list.iter().all(nested))
        };
        match body.get("input") {
            Some(Value::String(_)) => {}
            Some(Value::Array(list)) if list_fits(list) => {}
            _ => return Err(bad("input must be a text, a list of texts, or a list of tokens", "input")),
        }
        Ok(Self { original, body })
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
        list.map(|value| match value {
            Value::Number(_) => 1,
            Value::Array(inner) => inner.len() as u64,
            _ => 0,
        })
        .sum()
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
        crate::refused::check(&self.body, &["function", "custom"])?;
        let mut kinds = Kinds::new(unknown);
        for (name, _) in self.others().filter(|(_, value)| !value.is_string()) {
            kinds.unknown(Some(&Value::from(name.as_str())), &NOT_READ, "field", name)?;
        }
        Ok(kinds.into_found())
    }

    pub(crate) const fn body(&self) -> &Map<String, Value> {
        &self.body
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
        assert!(parse(json!([])).is_err());
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
}
