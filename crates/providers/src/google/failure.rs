//! What Google's errors say ("Troubleshooting guide", and google.rpc.Status with its details).

use std::time::Duration;

use serde_json::Value;

use super::wire;
use crate::ProviderError;
use crate::error::safe_words;
use crate::failure::{Failure, named_status, says_our_key};

/// A wait longer than this is a mistake.
const LONGEST_WAIT: u64 = 86_400;

/// Reasons that lie with our key, project or account, besides all that begin with `API_KEY`.
const OUR_REASONS: [&str; 8] = [
    "BILLING_DISABLED",
    "SERVICE_DISABLED",
    "CONSUMER_INVALID",
    "CONSUMER_SUSPENDED",
    "ACCOUNT_STATE_INVALID",
    "CREDENTIALS_MISSING",
    "USER_PROJECT_DENIED",
    "RESOURCE_PROJECT_INVALID",
];

/// The body of an error: an object, or a list with one.
pub(super) fn read(body: &[u8]) -> Failure {
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return Failure::default() };
    let first = value.get(0).unwrap_or(&value);
    match first.get("error") {
        Some(Value::String(text)) => Failure { message: Some(safe_words(text)), ..Failure::default() },
        Some(error) => of_error(error),
        None => Failure::default(),
    }
}

/// An error inside an answer.
pub(super) fn inside(json: &str) -> ProviderError {
    serde_json::from_str(json).map(|error| of_error(&error)).unwrap_or_default().reported()
}

fn of_error(error: &Value) -> Failure {
    let failure: wire::Failure = serde_json::from_value(error.clone()).unwrap_or_default();
    let details = failure.details.unwrap_or_default();
    let text = |field: &str| details.iter().find_map(|detail| detail.get(field).and_then(Value::as_str));
    let message = failure.message.unwrap_or_default();
    let ours = text("reason").is_some_and(|reason| {
        reason.starts_with("API_KEY") || OUR_REASONS.contains(&reason)
    }) || message.starts_with("API key")
        || says_our_key(&message)
        // Some accounts must pay before they may ask at all.
        || (failure.status.as_deref() == Some("FAILED_PRECONDITION")
            && (message.contains("billing") || message.contains("location is not supported")));
    Failure {
        code: failure.status.map(|status| safe_words(&status)),
        message: Some(safe_words(&message)).filter(|message| !message.is_empty()),
        status: named_status(error),
        ours,
        retry_after: text("retryDelay").and_then(duration),
        ..Failure::default()
    }
}

/// A duration as protobuf's JSON writes it: seconds with up to nine digits behind the point, and an `s`.
fn duration(text: &str) -> Option<Duration> {
    let text = text.strip_suffix('s')?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds: u32 = format!("{fraction:0<9}").parse().ok()?;
    Some(Duration::new(seconds.parse::<u64>().ok()?.min(LONGEST_WAIT), nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD_KEY: &[u8] = include_bytes!("../../fixtures/google/error_key.json");
    const TOO_MANY: &[u8] = include_bytes!("../../fixtures/google/error_quota.json");

    #[test]
    fn errors_of_every_kind() {
        let key = read(BAD_KEY);
        assert!(key.ours);
        assert_eq!(key.code.as_deref(), Some("INVALID_ARGUMENT"));
        let quota = read(TOO_MANY);
        assert!(!quota.ours);
        assert_eq!(quota.code.as_deref(), Some("RESOURCE_EXHAUSTED"));
        assert_eq!(quota.retry_after, Some(Duration::new(34, 74_824_224)));
        let billing = br#"{"error":{"code":400,"status":"FAILED_PRECONDITION","message":"Please enable billing on your project."}}"#;
        assert!(read(billing).ours);
        let plain =
            read(br#"{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"Unknown name \"x\"."}}"#);
        assert_eq!((plain.ours, plain.message.as_deref()), (false, Some("Unknown name \"x\".")));
        for nothing in [&b"<html>"[..], b"[]", b"{}", b"7", br#"{"error":7}"#] {
            assert_eq!(read(nothing), Failure::default());
        }
        assert!(matches!(inside("{}"), ProviderError::Reported { .. }));
    }

    #[test]
    fn durations() {
        assert_eq!(duration("34s"), Some(Duration::from_secs(34)));
        assert_eq!(duration("0.5s"), Some(Duration::from_millis(500)));
        assert_eq!(duration("9999999s"), Some(Duration::from_secs(LONGEST_WAIT)));
        for wrong in ["34", "s", "-1s", "1.-5s", "1.0123456789s"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
