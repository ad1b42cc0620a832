//! From OpenAI's JSON to what we need to know. Pure.

use accounting::{ModelId, Usage};
use bytes::Bytes;
use serde_json::Value;

use super::wire;
use crate::ProviderError;
use crate::answer::{Chunk, Complete, Produced, Reported, What};
use crate::error::{Failure, safe_words};

/// A whole answer.
pub(super) fn complete(body: Bytes) -> Result<Complete, ProviderError> {
    let (usage, model, produced) = {
        let answer: wire::Answer<'_> = serde_json::from_slice(&body)
            .map_err(|_| ProviderError::BadAnswer { what: "not JSON of an answer" })?;
        if answer.choices.is_none() && answer.data.is_none() {
            return Err(ProviderError::BadAnswer { what: "neither choices nor data" });
        }
        let mut text = String::new();
        produced(&answer, &mut text);
        let usage = answer.usage.and_then(|raw| usage(raw.get()));
        (usage, answer.model.map(|model| model.into_owned()), Produced { text })
    };
    Ok(Complete { body, usage, model, produced, request_id: None, omitted: Vec::new() })
}

/// One event of a stream.
///
/// # Errors
/// If the event is an error.
pub(crate) fn event(data: &Bytes) -> Result<What, ProviderError> {
    if data.is_empty() {
        return Ok(What::Other);
    }
    if data.trim_ascii() == b"[DONE]" {
        return Ok(What::Done);
    }
    // What we can't read passes on; it may be an extension.
    let Ok(answer) = serde_json::from_slice::<wire::Answer<'_>>(data) else { return Ok(What::Other) };
    if let Some(raw) = answer.error.filter(|raw| raw.get() != "null") {
        let Failure { code, message, .. } = failure(raw.get());
        let what =
            format!("the server reported: {} ({})", message.unwrap_or_default(), code.unwrap_or_default());
        return Err(ProviderError::Broken { what });
    }
    let choices = answer.choices.as_deref().unwrap_or_default();
    let finish = choices.iter().any(|choice| choice.finish_reason.is_some());
    let mut text = String::new();
    produced(&answer, &mut text);
    // Some servers tell with each chunk how far they are.
    let reported = if choices.is_empty() || finish { Reported::Final } else { Reported::SoFar };
    Ok(What::Chunk(Chunk {
        produced: text,
        finish,
        no_choices: choices.is_empty(),
        usage: answer.usage.and_then(|raw| usage(raw.get())).map(reported),
        model: answer.model.map(|model| model.into_owned()),
    }))
}

/// The body of an error.
pub(crate) fn error(body: &[u8]) -> Failure {
    let value: Option<Value> = serde_json::from_slice(body).ok();
    match value.as_ref().and_then(|value| value.get("error").or(Some(value))) {
        Some(Value::String(text)) => Failure { message: Some(safe_words(text)), ..Failure::default() },
        Some(error @ Value::Object(_)) => failure(&error.to_string()),
        _ => Failure::default(),
    }
}

/// The list of models.
pub(super) fn models(body: &[u8]) -> Result<Vec<ModelId>, ProviderError> {
    let models: wire::Models = serde_json::from_slice(body)
        .map_err(|_| ProviderError::BadAnswer { what: "not a list of models" })?;
    Ok(models.data.into_iter().filter_map(|model| ModelId::new(model.id).ok()).collect())
}

pub(super) fn failure(json: &str) -> Failure {
    let Ok(error) = serde_json::from_str::<wire::Failure>(json) else { return Failure::default() };
    let code = match error.code {
        Some(Value::String(code)) => Some(code),
        Some(Value::Number(code)) => Some(code.to_string()),
        _ => error.kind,
    };
    let code = code.map(|code| safe_words(&code));
    // Too many requests of ours, or no money left: the same status, told apart by the code.
    let ours = code.as_deref() == Some("insufficient_quota");
    Failure { code, message: error.message.map(|text| safe_words(&text)), ours, retry_after: None }
}

/// All output of an answer that is billed.
fn produced(answer: &wire::Answer<'_>, text: &mut String) {
    for choice in answer.choices.iter().flatten() {
        text.push_str(choice.text.as_deref().unwrap_or_default());
        let Some(message) = &choice.delta else { continue };
        if let Some(content) = message.content.as_ref().filter(|content| content.0 != "null") {
            text.push_str(&content.0);
        }
        let reasoning = message.reasoning_content.as_deref().or(message.reasoning.as_deref());
        text.push_str(reasoning.unwrap_or_default());
        text.push_str(message.refusal.as_deref().unwrap_or_default());
        let calls = message.tool_calls.iter().flatten().filter_map(|call| call.function.as_ref());
        for function in calls.chain(&message.function_call) {
            text.push_str(function.name.as_deref().unwrap_or_default());
            text.push_str(function.arguments.as_deref().unwrap_or_default());
        }
    }
}

/// The usage of a response, which has other names for the same.
pub(super) fn responses_usage(json: &str) -> Option<Usage> {
    let usage: wire::ResponsesUsage = serde_json::from_str(json).ok()?;
    let count = |count: Option<i64>| u64::try_from(count.unwrap_or_default()).ok();
    let (input, output) =
        (u64::try_from(usage.input_tokens?).ok()?, u64::try_from(usage.output_tokens?).ok()?);
    let (of_input, of_output) =
        (usage.input_tokens_details.unwrap_or_default(), usage.output_tokens_details.unwrap_or_default());
    let (cached_input, reasoning) = (count(of_input.cached_tokens)?, count(of_output.reasoning_tokens)?);
    Usage { cached_input, reasoning, ..Usage::tokens(input, output) }.checked().ok()
}

/// OpenAI's usage in our classes; `None` if it is missing or can't be right.
pub(crate) fn usage(json: &str) -> Option<Usage> {
    let usage: wire::Usage = serde_json::from_str(json).ok()?;
    let count = |count: Option<i64>| u64::try_from(count.unwrap_or_default()).ok();
    let prompt = usage.prompt_tokens_details.unwrap_or_default();
    let completion = usage.completion_tokens_details.unwrap_or_default();
    // A usage without any count says nothing.
    if usage.prompt_tokens.is_none() && usage.completion_tokens.is_none() {
        return None;
    }
    let (input, output) = (count(usage.prompt_tokens)?, count(usage.completion_tokens)?);
    let (cached_input, reasoning) = (count(prompt.cached_tokens)?, count(completion.reasoning_tokens)?);
    Usage {
        cached_input,
        // OpenAI counts cached audio in both; a token is charged once, as cached.
        input_audio: count(prompt.audio_tokens)?.min(input.checked_sub(cached_input)?),
        reasoning,
        output_audio: count(completion.audio_tokens)?.min(output.checked_sub(reasoning)?),
        ..Usage::tokens(input, output)
    }
    .checked()
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(json: &str) -> Chunk {
        match event(&Bytes::copy_from_slice(json.as_bytes())) {
            Ok(What::Chunk(chunk)) => chunk,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn chunks_of_every_kind() {
        let text = chunk(
            r#"{"model":"m","choices":[{"index":0,"delta":{"content":"a\"b"},"finish_reason":null}],"usage":null}"#,
        );
        let model = Some("m".to_owned());
        assert_eq!(text, Chunk { produced: "a\"b".into(), model: model.clone(), ..Chunk::default() });
        let finish = chunk(r#"{"model":"m","choices":[{"delta":{},"finish_reason":"stop"}]}"#);
        assert_eq!(finish, Chunk { finish: true, model, ..Chunk::default() });
        let usage =
            chunk(r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#);
        assert_eq!(
            usage,
            Chunk { no_choices: true, usage: Some(Reported::Final(Usage::tokens(3, 4))), ..Chunk::default() }
        );
        let calls = r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{}"}}]}}]}"#;
        assert_eq!(chunk(calls).produced, "f{}");
        let thought =
            r#"{"choices":[{"delta":{"content":null,"reasoning_content":"hm"}},{"delta":{"content":"x"}}]}"#;
        assert_eq!(chunk(thought).produced, "hmx");
    }

    #[test]
    fn other_events() {
        let of = |text: &'static str| event(&Bytes::from_static(text.as_bytes()));
        assert_eq!(of("[DONE]"), Ok(What::Done));
        assert_eq!(of(""), Ok(What::Other));
        assert_eq!(of("{half"), Ok(What::Other));
        assert!(matches!(of(r#"{"error":{"message":"no","code":5}}"#), Err(ProviderError::Broken { .. })));
        assert_eq!(event(&Bytes::from_static(b"\xff\xfe")), Ok(What::Other));
    }

    #[test]
    fn usage_in_our_classes() {
        let all = r#"{"prompt_tokens":100,"completion_tokens":50,
            "prompt_tokens_details":{"cached_tokens":80,"audio_tokens":30},
            "completion_tokens_details":{"reasoning_tokens":40,"audio_tokens":5}}"#;
        let expected = Usage {
            cached_input: 80,
            input_audio: 20,
            reasoning: 40,
            output_audio: 5,
            ..Usage::tokens(100, 50)
        };
        assert_eq!(usage(all), Some(expected));
        assert_eq!(usage(r#"{"prompt_tokens":9,"total_tokens":9}"#), Some(Usage::tokens(9, 0)));
        for nonsense in [
            "{}",
            "null",
            "7",
            r#"{"prompt_tokens":-1,"completion_tokens":5}"#,
            r#"{"prompt_tokens":1.5,"completion_tokens":5}"#,
            r#"{"prompt_tokens":5,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":6}}"#,
            r#"{"prompt_tokens":5,"completion_tokens":5,"completion_tokens_details":{"reasoning_tokens":-6}}"#,
        ] {
            assert_eq!(usage(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn errors_in_any_shape() {
        let of = |text: &str| error(text.as_bytes());
        let said = |code: Option<&str>, message: &str| Failure {
            code: code.map(Into::into),
            message: Some(message.into()),
            ..Failure::default()
        };
        assert_eq!(of(r#"{"error":{"message":"bad","type":"t","code":null}}"#), said(Some("t"), "bad"));
        assert_eq!(of(r#"{"error":"bad"}"#), said(None, "bad"));
        assert_eq!(of(r#"{"message":"bad","code":422}"#), said(Some("422"), "bad"));
        assert_eq!(of("<html>"), Failure::default());
    }
}
