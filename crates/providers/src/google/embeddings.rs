//! Vectors ("Embeddings", models.batchEmbedContents). Pure.

use bytes::Bytes;
use http::Uri;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Number, Value};

use super::routes::full_name;
use super::usage;
use super::wire::{Content, Data, Part};
use crate::answer::Complete;
use crate::chunk;
use crate::conversation::bad;
use crate::protocol::{Asked, Outgoing};
use crate::{BadRequest, EmbeddingsRequest, ProviderError};

/// One request takes no more texts.
const MOST_TEXTS: usize = 100;

/// Fields that are read; `user` only names someone.
const READ: [&str; 8] =
    ["model", "input", "dimensions", "encoding_format", "taskType", "task_type", "title", "service_tier"];

#[derive(Debug, Serialize)]
struct Batch<'a> {
    requests: Vec<One<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct One<'a> {
    model: &'a str,
    content: Content<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimensionality: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
}

/// The request to send to `uri`.
///
/// # Errors
/// Names the field that Google can't take.
pub(super) fn convert(request: &EmbeddingsRequest, uri: Uri) -> Result<Outgoing, BadRequest> {
    let body = request.body();
    if request.token_count() > 0 {
        return Err(bad("input", "Google's models embed texts, not lists of tokens"));
    }
    in_base64(request)?;
    let given = |field: &str| body.get(field).filter(|value| !value.is_null());
    let dimensions = match given("dimensions") {
        Some(value) => Some(
            value
                .as_u64()
                .ok_or_else(|| bad("dimensions", "dimensions must be a whole number, not negative"))?,
        ),
        None => None,
    };
    let text = |field: &str| match given(field) {
        Some(value) => value.as_str().map(Some).ok_or_else(|| bad(field, format!("{field} must be a text"))),
        None => Ok(None),
    };
    let (task_type, title) = (text("taskType")?.or(text("task_type")?), text("title")?);
    let model = full_name(request.model());
    let one = |input| One {
        model: &model,
        content: Content {
            role: None,
            parts: vec![Part { data: Data::Text(input), thought_signature: None }],
        },
        output_dimensionality: dimensions,
        task_type,
        title,
    };
    let requests: Vec<One<'_>> = request.input_text().map(one).collect();
    if requests.len() > MOST_TEXTS {
        return Err(bad("input", format!("Google takes at most {MOST_TEXTS} texts in one request")));
    }
    let lost = body.iter().filter(|(field, value)| !value.is_null() && !READ.contains(&field.as_str()));
    let omitted = lost.map(|(field, _)| field.clone()).collect();
    Ok(Outgoing::json(uri, &Batch { requests })?.omitting(omitted))
}

/// Whether the vectors are to be handed out in base64.
fn in_base64(request: &EmbeddingsRequest) -> Result<bool, BadRequest> {
    match request.body().get("encoding_format") {
        None | Some(Value::Null) => Ok(false),
        Some(format) if format == "float" => Ok(false),
        Some(format) if format == "base64" => Ok(true),
        Some(_) => Err(bad("encoding_format", "encoding_format must be float or base64")),
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vectors<'a> {
    embeddings: Vec<Vector>,
    #[serde(borrow, default)]
    usage_metadata: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Vector {
    values: Vec<Number>,
}

/// The answer in OpenAI's shape.
///
/// # Errors
/// If it is none, or not one vector for each text.
pub(super) fn complete(
    request: &EmbeddingsRequest,
    asked: &Asked,
    body: &Bytes,
) -> Result<Complete, ProviderError> {
    let vectors: Vectors<'_> =
        serde_json::from_slice(body).map_err(|_| ProviderError::BadAnswer { what: "not JSON of vectors" })?;
    if vectors.embeddings.len() != request.input_text().count() {
        return Err(ProviderError::BadAnswer { what: "not one vector for each text" });
    }
    let base64 = in_base64(request).unwrap_or_default();
    let written = vectors.embeddings.into_iter().map(|Vector { values }| {
        if base64 { packed(&values) } else { Some(values.into_iter().map(Value::Number).collect()) }
    });
    let written = written
        .collect::<Option<Vec<Value>>>()
        .ok_or(ProviderError::BadAnswer { what: "a vector with something that is no number" })?;
    let usage = vectors.usage_metadata.and_then(|raw| usage::of_embeddings(&usage::read(raw.get())));
    Ok(chunk::embeddings(asked, written, usage))
}

fn packed(values: &[Number]) -> Option<Value> {
    let vector: Option<Vec<f32>> = values.iter().map(|value| value.to_string().parse().ok()).collect();
    Some(chunk::vector_in_base64(&vector?).into())
}

#[cfg(test)]
mod tests {
    use accounting::Usage;
    use serde_json::json;

    use super::*;

    const ANSWER: &[u8] = include_bytes!("../../fixtures/google/embeddings.json");

    fn request(body: Value) -> EmbeddingsRequest {
        EmbeddingsRequest::parse(body.to_string().into()).unwrap()
    }

    fn sent(body: Value) -> Result<(Value, Vec<String>), BadRequest> {
        let outgoing = convert(&request(body), Uri::from_static("http://h"))?;
        Ok((serde_json::from_slice(&outgoing.body).unwrap(), outgoing.omitted))
    }

    fn asked() -> Asked {
        Asked { model: "m".into(), created: 7, request_id: None }
    }

    #[test]
    fn requests() {
        let (body, omitted) = sent(json!({
            "model": "gemini-embedding-001", "input": ["a", "b"], "dimensions": 3, "user": "u", "taskType": "RETRIEVAL_QUERY"
        }))
        .unwrap();
        let one = |text: &str| {
            json!({"model": "models/gemini-embedding-001", "content": {"parts": [{"text": text}]},
                   "outputDimensionality": 3, "taskType": "RETRIEVAL_QUERY"})
        };
        assert_eq!((body, omitted), (json!({"requests": [one("a"), one("b")]}), vec!["user".to_owned()]));
        let (single, _) = sent(json!({"model": "models/m", "input": "a"})).unwrap();
        assert_eq!(
            single,
            json!({"requests": [{"model": "models/m", "content": {"parts": [{"text": "a"}]}}]})
        );
        for (field, value) in [
            ("input", json!([1, 2])),
            ("input", vec!["x"; 101].into()),
            ("dimensions", json!("3")),
            ("encoding_format", json!("int8")),
            ("title", json!(7)),
        ] {
            let mut body = json!({"model": "m", "input": "a"});
            body[field] = value;
            assert_eq!(sent(body).unwrap_err().param.as_deref(), Some(field));
        }
    }

    #[test]
    fn answers_as_floats_and_in_base64() {
        let body = Bytes::from_static(ANSWER);
        let complete_as = |format: &str| {
            let request = request(json!({"model": "m", "input": ["a", "b"], "encoding_format": format}));
            let complete = complete(&request, &asked(), &body).unwrap();
            assert_eq!(complete.usage, Some(Usage::tokens(7, 0)));
            serde_json::from_slice::<Value>(&complete.body).unwrap()
        };
        let floats = complete_as("float");
        assert_eq!(floats["data"][0]["embedding"].to_string(), "[0.5,-0.25,1e-3]");
        assert_eq!((&floats["data"][1]["index"], &floats["usage"]["prompt_tokens"]), (&json!(1), &json!(7)));
        // 1.0, 0.0 and -2.5 as little-endian floats.
        assert_eq!(complete_as("base64")["data"][1]["embedding"], "AACAPwAAAAAAACDA");
    }

    #[test]
    fn what_is_no_answer() {
        let request = request(json!({"model": "m", "input": "a"}));
        for body in [&b"<html>"[..], b"{}", ANSWER] {
            assert!(complete(&request, &asked(), &Bytes::copy_from_slice(body)).is_err());
        }
    }
}
