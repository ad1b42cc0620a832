//! Views of a request for OpenAI's older Completions API (API reference, "Completions"): a prompt that a model goes on with, and
//! no conversation.

use serde_json::{Map, Value};

use super::text::{Found, beside};
use super::{MOST_CHOICES, bad, whole};
use crate::BadRequest;
use crate::refused::{self, refuse_field, said};

/// So many tokens come at most where a request names no limit (API reference, "Completions", `max_tokens`).
pub(super) const OUTPUT: u64 = 16;

/// Refused with a value. llama.cpp reads `n_predict` before `max_tokens`, and `n_cmpl` before `n` ("llama-server"); vLLM reads
/// `prompt_embeds` beside the prompt, of any length ("Prompt embedding inputs").
const NEVER: [(&str, &str); 3] = [
    ("n_predict", "write max_tokens"),
    ("n_cmpl", "write n"),
    ("prompt_embeds", "what is no text can't be counted: send the prompt"),
];

/// How many answers a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    /// So many come.
    pub answers: u64,
    /// So many are made and billed.
    pub made: u64,
}

/// Reads how many answers there will be: `n` for each prompt, or as many as are chosen from.
///
/// # Errors
/// Names the field.
pub(super) fn wanted(body: &Map<String, Value>) -> Result<Wanted, BadRequest> {
    let prompts = prompts(body.get("prompt")).ok_or_else(|| {
        bad("prompt must be a text, a list of texts, a list of tokens, or a list of such lists", "prompt")
    })?;
    let number = |field: &str| match whole(body, field)? {
        Some(number) if number == 0 || number > MOST_CHOICES => {
            Err(bad(format!("{field} must be from 1 to {MOST_CHOICES}"), field))
        }
        number => Ok(number.unwrap_or(1)),
    };
    let (n, best_of) = (number("n")?, number("best_of")?);
    if body.get("best_of").is_some_and(|best_of| !best_of.is_null()) && best_of < n {
        return Err(bad("best_of must be at least n", "best_of"));
    }
    if best_of > n && body.get("stream") == Some(&Value::Bool(true)) {
        return Err(bad("best_of can't be streamed: only the end shows which is best", "best_of"));
    }
    Ok(Wanted { answers: prompts.saturating_mul(n), made: prompts.saturating_mul(n.max(best_of)) })
}

/// How many prompts there are; `None` if that is none.
fn prompts(prompt: Option<&Value>) -> Option<u64> {
    let is_token = |value: &Value| value.is_u64();
    match prompt? {
        Value::String(_) => Some(1),
        Value::Array(list) if list.is_empty() => None,
        Value::Array(list) if list.iter().all(is_token) => Some(1),
        Value::Array(list) => {
            let fits = |value: &Value| match value {
                Value::String(_) => true,
                Value::Array(tokens) => !tokens.is_empty() && tokens.iter().all(is_token),
                _ => false,
            };
            list.iter().all(fits).then_some(list.len() as u64)
        }
        _ => None,
    }
}

/// How many prompts a request has that was read.
pub(super) fn prompt_count(body: &Map<String, Value>) -> usize {
    usize::try_from(prompts(body.get("prompt")).unwrap_or(1)).unwrap_or(usize::MAX)
}

/// Tokens that are given as numbers.
pub(super) fn token_count(body: &Map<String, Value>) -> u64 {
    fn count(value: &Value) -> u64 {
        match value {
            Value::Array(list) => list.iter().map(count).sum(),
            value => u64::from(value.is_number()),
        }
    }
    body.get("prompt").map_or(0, count)
}

/// What stands at the beginning of each answer if the request wants its prompt there: its texts, in the order of the answers.
/// `None` for prompts of tokens, whose text is not known here.
pub(super) fn echoes(body: &Map<String, Value>) -> Option<Vec<&str>> {
    if body.get("echo") != Some(&Value::Bool(true)) {
        return Some(Vec::new());
    }
    let n = usize::try_from(whole(body, "n").ok().flatten().unwrap_or(1)).unwrap_or(1);
    let prompts = match body.get("prompt")? {
        Value::String(text) => vec![text.as_str()],
        Value::Array(list) => list.iter().map(Value::as_str).collect::<Option<_>>()?,
        _ => return None,
    };
    Some(prompts.into_iter().flat_map(|prompt| std::iter::repeat_n(prompt, n)).collect())
}

/// Refuses what would cost what has no price.
///
/// # Errors
/// Names the field.
pub(super) fn refuse(body: &Map<String, Value>) -> Result<(), BadRequest> {
    for (field, why) in NEVER {
        if body.get(field).is_some_and(said) {
            return Err(refuse_field(field, why));
        }
    }
    refused::check(body, super::chat::RUN)?;
    if body.get("stream") == Some(&Value::Bool(true)) && echoes(body).is_none() {
        let why = "of a prompt of tokens, a stream shows as a text of unknown length what was not made";
        return Err(refuse_field("echo", why));
    }
    Ok(())
}

/// All that counts as input. Tokens that are given as numbers are not in it.
pub(super) fn found(body: &Map<String, Value>, tools: bool) -> Found<'_> {
    let mut found = Found::default();
    match body.get("prompt") {
        Some(Value::Array(list)) => list.iter().for_each(|prompt| found.text(Some(prompt))),
        prompt => found.text(prompt),
    }
    found.text(body.get("suffix"));
    beside(body, &["prompt", "suffix"], tools).for_each(|value| found.json(Some(value)));
    found
}
