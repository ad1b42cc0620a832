//! Requests for embeddings, in OpenAI's shape.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{bad, model, object};
use crate::BadRequest;

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

    /// The length of all texts in bytes.
    pub fn input_length(&self) -> u64 {
        self.input_text().map(|text| text.len() as u64).sum()
    }

    /// Refuses what would change the model, the endpoint, the key or the tier, or would bill extra.
    ///
    /// # Errors
    /// Names the field.
    pub fn refuse_unpriced_fields(&self) -> Result<(), BadRequest> {
        crate::refused::check(&self.body)
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
}
