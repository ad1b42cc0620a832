//! What the body of an error says, and which error it is: the same whether it comes with a status of its own or inside an
//! answer of status 200.
//!
//! The rule it protects: an error is an error whatever the HTTP status, and one of our key or account is never the user's.

use std::time::Duration;

use accounting::Usage;
use memchr::memmem;
use serde_json::Value;

use crate::error::{ProviderError, Said};
use crate::unknown_numbers;

/// No wait is longer.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

/// What the body of an error says. Its texts are safe to show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The server's code.
    pub code: Option<String>,
    /// Its class of errors.
    pub kind: Option<String>,
    /// The field of the request that it names.
    pub param: Option<String>,
    /// Its words.
    pub message: Option<String>,
    /// The status that it names.
    pub status: Option<u16>,
    /// Our key or our account is at fault, whatever the status says.
    pub ours: bool,
    /// How long to wait, if it says so.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// The error that it is with that status. `wait`: what the head of the answer says.
    pub(crate) fn at_status(self, status: u16, wait: Option<Duration>) -> ProviderError {
        let Self { code, param, message: words, ours, retry_after, .. } = self;
        let retry_after = wait.or(retry_after);
        // A code that is the status again says nothing.
        let code = code.filter(|code| *code != status.to_string());
        let said = Said { code, param, words, rates: None };
        match status {
            _ if ours => ProviderError::OurKey { status },
            401..=403 => ProviderError::OurKey { status },
            429 => ProviderError::RateLimited { retry_after, said },
            // 529 is Anthropic's own status for it, 498 Groq's.
            498 | 503 | 529 => ProviderError::Overloaded { status, retry_after, said },
            // Groq's for a request that was given up there.
            499 => ProviderError::Failed { status, said },
            400..=499 => ProviderError::Rejected { status, said },
            300..=399 => ProviderError::BadAnswer { what: "a redirect, which is not followed" },
            _ => ProviderError::Failed { status, said },
        }
    }

    /// The error that it is inside an answer of status 200: with the status that it names, else the one that its code or
    /// its class means.
    pub(crate) fn reported(self) -> ProviderError {
        let meant = || [&self.code, &self.kind].into_iter().flatten().find_map(|word| status_of(word));
        let status = self.status.or_else(meant).unwrap_or(502);
        ProviderError::Reported { error: Box::new(self.at_status(status, None)), usage: None }
    }
}

/// What words in codes and classes of errors mean, without case and anything but letters and digits. The first that is
/// found counts.
const MEANINGS: [(&str, u16); 39] = [
    ("ratelimit", 429),
    ("toomanyrequests", 429),
    ("resourceexhausted", 429),
    ("throttl", 429),
    ("overloaded", 529),
    ("unavailable", 503),
    ("capacity", 503),
    ("apikey", 401),
    ("authentication", 401),
    ("unauthorized", 401),
    ("unauthenticated", 401),
    ("permission", 403),
    ("forbidden", 403),
    ("accessdenied", 403),
    ("billing", 402),
    ("balance", 402),
    ("quota", 429),
    ("notfound", 404),
    ("toolarge", 413),
    ("timeout", 504),
    ("deadline", 504),
    ("unprocessable", 422),
    ("context", 400),
    ("badrequest", 400),
    ("requesterror", 400),
    ("contentfilter", 400),
    ("contentpolicy", 400),
    ("moderation", 400),
    ("safety", 400),
    ("sensitive", 400),
    ("inspection", 400),
    ("image", 400),
    ("tooluse", 400),
    ("validation", 400),
    ("unsupported", 400),
    ("invalid", 400),
    ("precondition", 400),
    ("internal", 500),
    ("server", 500),
];

/// The status that a code or a class of errors means.
fn status_of(word: &str) -> Option<u16> {
    let plain: String =
        word.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    MEANINGS.iter().find(|(part, _)| plain.contains(part)).map(|(_, status)| *status)
}

/// The status that an error names itself: as a number, or as text of digits.
pub(crate) fn named_status(error: &Value) -> Option<u16> {
    let number = |value: &Value| match value {
        Value::Number(number) => number.as_u64().and_then(|number| u16::try_from(number).ok()),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    ["status_code", "status", "code", "http_status", "statusCode"]
        .into_iter()
        .filter_map(|field| error.get(field).and_then(number))
        .find(|status| (400..600).contains(status))
}

/// Whether the words say that our key is wrong or our account is empty, as some servers do with the status of a wrong
/// request (xAI, for one).
pub(crate) fn says_our_key(words: &str) -> bool {
    const SAYINGS: [&str; 14] = [
        "incorrect api key",
        "invalid api key",
        "invalid x-api-key",
        "api key not valid",
        "api key is invalid",
        "api key is not valid",
        "api key expired",
        "no api key",
        "missing api key",
        "no auth credentials",
        "invalid authentication",
        "insufficient balance",
        "insufficient credits",
        "credit balance is too low",
    ];
    let words = words.to_ascii_lowercase();
    SAYINGS.iter().any(|saying| words.contains(saying))
}

/// How long to wait, as an error or its words say it: `retry_after` in seconds, `try again in 1.5s`.
pub(crate) fn wait_of(error: &Value, words: Option<&str>) -> Option<Duration> {
    let field = |name: &str| error.get(name).or_else(|| error.get("metadata")?.get(name));
    let text = |value: &Value| match value {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        _ => None,
    };
    let seconds = ["retry_after", "retry_after_seconds"].into_iter().find_map(|name| {
        let text = field(name).and_then(text)?;
        duration(&text, "s")
    });
    let milliseconds = || duration(&field("retry_after_ms").and_then(text)?, "ms");
    let told = || {
        let words = words?.to_ascii_lowercase();
        let behind = ["try again in ", "retry after ", "retry in "]
            .into_iter()
            .find_map(|before| words.split_once(before).map(|(_, behind)| behind.to_owned()))?;
        let end = behind.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(behind.len());
        let (number, unit) = behind.split_at(end);
        let unit = unit.trim_start();
        let unit = ["ms", "milli", "s", "m"].into_iter().find(|begin| unit.starts_with(begin))?;
        duration(number.trim_end_matches('.'), unit)
    };
    seconds.or_else(milliseconds).or_else(told).map(|wait| wait.min(LONGEST_WAIT))
}

/// A decimal number of seconds, or of milliseconds or minutes.
fn duration(number: &str, unit: &str) -> Option<Duration> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction = fraction.get(..9).unwrap_or(fraction);
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds: u32 = format!("{fraction:0<9}").parse().ok()?;
    let seconds = Duration::new(whole.parse::<u64>().ok()?.min(LONGEST_WAIT.as_secs()), nanoseconds);
    Some(match unit {
        "ms" | "milli" => seconds / 1000,
        "m" => seconds * 60,
        _ => seconds,
    })
}

/// A quick look whether JSON of status 200 could report an error: vectors, for one, have no output in words either.
pub(crate) fn may_be_reported(body: &[u8]) -> bool {
    [&b"\"error"[..], b"\"base_resp\""].into_iter().any(|field| memmem::find(body, field).is_some())
}

/// Whether JSON of status 200, which is no answer or an empty one, reports an error.
pub(crate) fn is_reported(body: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return false };
    let value = value.get(0).unwrap_or(&value);
    let Some(object) = value.as_object() else { return false };
    let is = |field: &str, word: &str| object.get(field).and_then(Value::as_str) == Some(word);
    let of_choice = |choice: &Value| {
        choice.get("error").is_some_and(says_something)
            || choice.get("finish_reason").and_then(Value::as_str) == Some("error")
    };
    let choices = object.get("choices").and_then(Value::as_array);
    object.get("error").is_some_and(says_something)
        || object.get("errors").is_some_and(says_something)
        || is("type", "error")
        || is("object", "error")
        || choices.is_some_and(|choices| choices.iter().any(of_choice))
        // MiniMax says 0 where all is well.
        || object.get("base_resp").and_then(|said| said.get("status_code")).is_some_and(says_something)
        || !ANSWERS.iter().any(|field| object.get(*field).is_some_and(|value| !value.is_null()))
            && (object.get("detail").is_some_and(says_something)
                || WORDS.iter().any(|field| object.get(*field).is_some_and(Value::is_string)))
}

/// The error that came as plain JSON where events were promised.
pub(crate) fn in_place_of_events(raw: &[u8]) -> Option<ProviderError> {
    let json = raw.trim_ascii();
    (json.starts_with(b"{") && is_reported(json)).then(|| crate::openai::error(json).reported())
}

/// One of these is in each answer.
const ANSWERS: [&str; 8] =
    ["choices", "data", "output", "content", "candidates", "embeddings", "embedding", "response"];
/// Where errors that stand for themselves have their words.
const WORDS: [&str; 4] = ["message", "msg", "error_msg", "error_message"];

/// Whether a field of an error is more than a placeholder.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_i64() != Some(0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(object) => !object.is_empty(),
    }
}

/// What JSON that reports an error tells of what was used.
pub(crate) fn usage_beside(body: &[u8]) -> Option<Usage> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let json = value.get("usage")?.to_string();
    let usage = crate::openai::told_usage(&json);
    unknown_numbers::read_of_nobody();
    let usage = usage?;
    (usage.input > 0 || usage.output > 0).then_some(usage)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn statuses_of_every_server() {
        let of = |status: u16, ours: bool| Failure { ours, ..Failure::default() }.at_status(status, None);
        let (retry_after, said) = (None, Said::default());
        assert_eq!(of(429, false), ProviderError::RateLimited { retry_after, said: said.clone() });
        assert_eq!(of(429, true), ProviderError::OurKey { status: 429 });
        assert_eq!(of(402, false), ProviderError::OurKey { status: 402 });
        for status in [498, 503, 529] {
            let overloaded = ProviderError::Overloaded { status, retry_after, said: said.clone() };
            assert_eq!(of(status, false), overloaded);
        }
        assert_eq!(of(499, false), ProviderError::Failed { status: 499, said: said.clone() });
        assert!(matches!(of(422, false), ProviderError::Rejected { status: 422, .. }));
        assert_eq!(of(500, false), ProviderError::Failed { status: 500, said });
        assert!(matches!(of(301, false), ProviderError::BadAnswer { .. }));
    }

    #[test]
    fn codes_and_classes_mean_a_status() {
        for (word, status) in [
            ("rate_limit_exceeded", Some(429)),
            ("RateLimitError", Some(429)),
            ("overloaded_error", Some(529)),
            ("engine_overloaded_error", Some(529)),
            ("UNAVAILABLE", Some(503)),
            ("invalid_api_key", Some(401)),
            ("model_not_found", Some(404)),
            ("NotFoundError", Some(404)),
            ("invalid-argument", Some(400)),
            ("BadRequestError", Some(400)),
            ("context_length_exceeded", Some(400)),
            ("tool_use_failed", Some(400)),
            ("request_too_large", Some(413)),
            ("server_error", Some(500)),
            ("something_else", None),
        ] {
            assert_eq!(status_of(word), status, "{word}");
        }
    }

    #[test]
    fn waits_in_fields_and_in_words() {
        let wait = |error: Value, words: &str| wait_of(&error, Some(words)).map(|wait| wait.as_millis());
        assert_eq!(wait(json!({"retry_after": 7}), ""), Some(7000));
        assert_eq!(wait(json!({"metadata": {"retry_after_seconds": 1.5}}), ""), Some(1500));
        assert_eq!(wait(json!({"retry_after_ms": "250"}), ""), Some(250));
        assert_eq!(wait(json!({}), "Please try again in 7.66s. See"), Some(7660));
        assert_eq!(wait(json!({}), "Please try again in 20ms."), Some(20));
        assert_eq!(wait(json!({}), "Please retry after 12 seconds."), Some(12_000));
        assert_eq!(wait(json!({}), "Try again in 2m"), Some(120_000));
        for nothing in ["try again in a moment", "retry after", "try again in -1s", "try again in 1.2.3s"] {
            assert_eq!(wait(json!({}), nothing), None, "{nothing}");
        }
        assert_eq!(wait(json!({"retry_after": 1_000_000_000_u64}), ""), Some(86_400_000));
    }

    #[test]
    fn what_reports_an_error_and_what_does_not() {
        for error in [
            json!({"error": {"message": "no"}}),
            json!([{"error": {"message": "no"}}]),
            json!({"error": "no", "choices": []}),
            json!({"type": "error", "message": "no"}),
            json!({"object": "error"}),
            json!({"choices": [{"finish_reason": "error", "message": {}}]}),
            json!({"choices": [{"error": {"code": 502}}]}),
            json!({"base_resp": {"status_code": 1002, "status_msg": "rate limit"}, "choices": null}),
            json!({"errors": [{"code": 1}], "result": null}),
            json!({"detail": "no"}),
            json!({"code": 20012, "message": "no such model", "data": null}),
        ] {
            assert!(is_reported(error.to_string().as_bytes()), "{error}");
        }
        for answer in [
            json!({"error": null, "choices": []}),
            json!({"error": "", "choices": [{"finish_reason": "length"}]}),
            json!({"error": {}, "data": []}),
            json!({"base_resp": {"status_code": 0, "status_msg": "success"}, "choices": []}),
            json!({"message": {"content": ""}, "choices": []}),
            json!({"message": {"role": "assistant", "content": ""}, "done": true}),
            json!({}),
            json!(7),
            json!([]),
        ] {
            assert!(!is_reported(answer.to_string().as_bytes()), "{answer}");
        }
        assert!(!is_reported(b"<html>"));
    }
}
