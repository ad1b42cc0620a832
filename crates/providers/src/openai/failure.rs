//! What errors in OpenAI's shape say, and in the shapes that compatible servers have instead.

use serde_json::Value;

use crate::error::safe_words;
use crate::failure::{Failure, named_status, says_our_key, wait_of};

/// Codes and classes by which servers say that our key or account is at fault, whatever the status: no money left, or closed
/// (OpenAI, "Error codes"; Groq, "API Error Codes"; LiteLLM, "Budgets"; Moonshot, "Error description").
const OURS: [&str; 12] = [
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    "account_deactivated",
    "organization_restricted",
    "budget_exceeded",
    "exceeded_current_quota_error",
    "insufficient_balance",
    "insufficient_credits",
    "invalid_api_key",
    "invalid_authentication_error",
    "authentication_error",
];

/// The body of an error, or an error that came in the place of an answer.
pub(crate) fn error(body: &[u8]) -> Failure {
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return Failure::default() };
    let value = value.get(0).unwrap_or(&value);
    let of_choice = || value.pointer("/choices/0/error").filter(|error| !error.is_null());
    match value.get("error").filter(|error| !error.is_null()) {
        // Text Generation Inference, Ollama and xAI: the words alone, and the code beside them.
        Some(words @ Value::String(_)) => failure(value, Some(words), value),
        Some(error) => failure(error, None, value),
        None => match value.pointer("/errors/0").or_else(|| value.get("base_resp")).or_else(of_choice) {
            Some(error) => failure(error, None, value),
            None => failure(value, None, value),
        },
    }
}

/// `around`: the object that the error stands in.
fn failure(error: &Value, words: Option<&Value>, around: &Value) -> Failure {
    let text = |field: &str| match error.get(field)? {
        Value::String(text) if !text.is_empty() => Some(safe_words(text)),
        Value::Number(number) => Some(safe_words(&number.to_string())),
        _ => None,
    };
    let words = words.or_else(|| error.get("message")).unwrap_or(error);
    let mut message = self::words(words, 0);
    // OpenRouter hands on what the server behind it said ("Errors and Debugging", `metadata.raw`).
    let raw = error.pointer("/metadata/raw").and_then(|raw| match raw {
        Value::String(page) if page.trim_start().starts_with('<') => None,
        Value::String(text) => Some(serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into())),
        other => Some(other.clone()),
    });
    if let Some(behind) = raw.and_then(|raw| self::words(&raw, 0)) {
        message = Some(message.map_or_else(|| behind.clone(), |message| format!("{message}: {behind}")));
    }
    let code = ["code", "error_code", "status_code"].into_iter().find_map(text);
    let kind = text("type").or_else(|| text("error_type")).filter(|kind| kind != "error");
    let is_ours = |code: &String| OURS.contains(&code.as_str());
    Failure {
        ours: [&code, &kind].into_iter().flatten().any(is_ours)
            || message.as_deref().is_some_and(says_our_key),
        status: named_status(error).or_else(|| named_status(around)),
        param: text("param"),
        retry_after: wait_of(error, message.as_deref()).or_else(|| wait_of(around, None)),
        message: message.map(|text| safe_words(&text)),
        code,
        kind,
    }
}

/// Makes all texts of an error safe to show that passes as it came.
pub(super) fn make_safe(error: &mut Value) {
    match error {
        Value::String(text) => *text = safe_words(text),
        Value::Array(list) => list.iter_mut().for_each(make_safe),
        Value::Object(object) => object.values_mut().for_each(make_safe),
        _ => {}
    }
}

/// The words in whatever a server puts where words should be, such as FastAPI's list of what is wrong with each field.
fn words(value: &Value, depth: u8) -> Option<String> {
    const DEEPEST: u8 = 4;
    if depth > DEEPEST {
        return None;
    }
    match value {
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Array(list) => {
            let each: Vec<String> = list.iter().filter_map(|item| words(item, depth + 1)).collect();
            (!each.is_empty()).then(|| each.join("; "))
        }
        Value::Object(_) => {
            let inner =
                WORDS.into_iter().find_map(|field| value.get(field).filter(|value| !value.is_null()))?;
            let inner = words(inner, depth + 1)?;
            let place = value.get("loc").and_then(Value::as_array).into_iter().flatten();
            let place: Vec<String> =
                place.map(|step| step.as_str().map_or_else(|| step.to_string(), str::to_owned)).collect();
            Some(if place.is_empty() { inner } else { format!("{}: {inner}", place.join(".")) })
        }
        _ => None,
    }
}

/// Where words are.
const WORDS: [&str; 7] = ["msg", "message", "detail", "error", "error_msg", "error_message", "status_msg"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_in_any_shape() {
        let of = |text: &str| error(text.as_bytes());
        // (body, code, class, status, words)
        for (body, code, kind, status, words) in [
            (r#"{"error":{"message":"bad","type":"t","code":null}}"#, None, Some("t"), None, "bad"),
            (r#"{"error":"bad"}"#, None, None, None, "bad"),
            (r#"{"message":"bad","code":422}"#, Some("422"), None, Some(422), "bad"),
            (
                r#"{"statusCode":404,"message":"Resource not found"}"#,
                None,
                None,
                Some(404),
                "Resource not found",
            ),
            // vLLM
            (
                r#"{"object":"error","message":"too long","type":"BadRequestError","param":null,"code":400}"#,
                Some("400"),
                Some("BadRequestError"),
                Some(400),
                "too long",
            ),
            // Text Generation Inference
            (
                r#"{"error":"Input validation error: `inputs` is too long","error_type":"validation"}"#,
                None,
                Some("validation"),
                None,
                "Input validation error: `inputs` is too long",
            ),
            // Groq
            (
                r#"{"error":{"message":"Failed to call a function.","type":"invalid_request_error","code":"tool_use_failed","failed_generation":"<x>","status_code":400}}"#,
                Some("tool_use_failed"),
                Some("invalid_request_error"),
                Some(400),
                "Failed to call a function.",
            ),
            // OpenRouter
            (
                r#"{"error":{"message":"Provider returned error","code":400,"metadata":{"provider_name":"P","raw":"{\"error\":{\"message\":\"bad tool\"}}"}},"user_id":"u"}"#,
                Some("400"),
                None,
                Some(400),
                "Provider returned error: bad tool",
            ),
            (
                r#"{"error":{"message":"Provider returned error","code":429,"metadata":{"provider_name":"P","raw":"m is rate-limited upstream"}}}"#,
                Some("429"),
                None,
                Some(429),
                "Provider returned error: m is rate-limited upstream",
            ),
            (
                r#"{"error":{"message":"Provider returned error","code":502,"metadata":{"provider_name":"P","raw":"\n<html><body>Bad Gateway</body></html>"}}}"#,
                Some("502"),
                None,
                Some(502),
                "Provider returned error",
            ),
            // LiteLLM
            (
                r#"{"error":{"message":"litellm.BadRequestError: no","type":null,"param":null,"code":"400"}}"#,
                Some("400"),
                None,
                Some(400),
                "litellm.BadRequestError: no",
            ),
            // FastAPI
            (
                r#"{"detail":[{"type":"missing","loc":["body","messages",0],"msg":"Field required","input":{"secret":1}}]}"#,
                None,
                None,
                None,
                "body.messages.0: Field required",
            ),
            // Mistral
            (
                r#"{"object":"error","message":{"detail":[{"loc":["body","n"],"msg":"wrong"}]},"type":"invalid_request_error","param":null,"code":null}"#,
                None,
                Some("invalid_request_error"),
                None,
                "body.n: wrong",
            ),
            // MiniMax
            (
                r#"{"base_resp":{"status_code":1026,"status_msg":"input new_sensitive"},"choices":null}"#,
                Some("1026"),
                None,
                None,
                "input new_sensitive",
            ),
            // OpenRouter, in the middle of a whole answer
            (
                r#"{"choices":[{"finish_reason":"error","error":{"code":502,"message":"lost"}}]}"#,
                Some("502"),
                None,
                Some(502),
                "lost",
            ),
            // Cloudflare
            (
                r#"{"success":false,"errors":[{"code":7003,"message":"no route"}]}"#,
                Some("7003"),
                None,
                None,
                "no route",
            ),
        ] {
            let failure = of(body);
            assert_eq!(
                (
                    failure.code.as_deref(),
                    failure.kind.as_deref(),
                    failure.status,
                    failure.message.as_deref()
                ),
                (code, kind, status, Some(words)),
                "{body}"
            );
            assert!(!failure.ours, "{body}");
        }
        assert_eq!(of("<html>"), Failure::default());
        let azure = of(
            r#"{"error":{"message":"The response was filtered.","type":null,"param":"prompt","code":"content_filter","status":400,
            "innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{"hate":{"filtered":true}}}}}"#,
        );
        assert_eq!(
            (azure.code.as_deref(), azure.param.as_deref(), azure.status),
            (Some("content_filter"), Some("prompt"), Some(400))
        );
        for ours in [
            r#"{"error":{"message":"no money","type":"insufficient_quota","code":"insufficient_quota"}}"#,
            r#"{"error":{"message":"Budget has been exceeded!","type":"budget_exceeded","param":null,"code":"400"}}"#,
            r#"{"error":{"message":"restricted","code":"organization_restricted"}}"#,
            // xAI says so with status 400.
            r#"{"code":"invalid-argument","error":"Incorrect API key provided: xa***ey. You can obtain an API key from the console."}"#,
            r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","code":"invalid_request_error"}}"#,
        ] {
            assert!(of(ours).ours, "{ours}");
        }
    }
}
