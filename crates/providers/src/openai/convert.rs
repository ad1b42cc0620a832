//! From OpenAI's JSON to what we need to know. Pure.

use accounting::{ModelId, Usage};
use bytes::Bytes;
use serde_json::value::RawValue;

use super::failure::error;
use super::wire;
use crate::ProviderError;
use crate::answer::{Chunk, Complete, Produced, Reported, What};
use crate::failure::Failure;
use crate::framing::readable;

/// A whole answer.
pub(crate) fn complete(body: Bytes) -> Result<Complete, ProviderError> {
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

/// What an event of a stream tells, and the error that ends the stream with it.
#[derive(Debug, PartialEq)]
pub(crate) struct Read {
    pub what: What,
    /// How many choices end with it.
    pub ended: u64,
    pub error: Option<ProviderError>,
}

/// One event of a stream.
pub(crate) fn event(data: &Bytes) -> Read {
    let only = |what| Read { what, ended: 0, error: None };
    if data.is_empty() {
        return only(What::Other);
    }
    if data.trim_ascii() == b"[DONE]" {
        return only(What::Done);
    }
    match serde_json::from_slice::<wire::Answer<'_>>(data) {
        Ok(answer) => read(&answer, data),
        Err(_) => match readable(data) {
            Some(data) => event(&data),
            // What we can't read passes on; it may be an extension.
            None => only(What::Other),
        },
    }
}

fn read(answer: &wire::Answer<'_>, data: &Bytes) -> Read {
    let choices = answer.choices.as_deref().unwrap_or_default();
    let ended = choices.iter().filter(|choice| choice.ends()).count() as u64;
    let finish = ended > 0;
    let mut text = String::new();
    produced(answer, &mut text);
    let groq = answer.x_groq.as_ref();
    // Some servers tell with each chunk how far they are.
    let reported = if choices.is_empty() || finish { Reported::Final } else { Reported::SoFar };
    let told = answer.usage.or(groq.and_then(|groq| groq.usage));
    let what = What::Chunk(Chunk {
        produced: text,
        finish,
        no_choices: choices.is_empty(),
        usage: told.and_then(|raw| usage(raw.get())).map(reported),
        // Azure's first chunk has no name yet.
        model: answer.model.as_deref().filter(|model| !model.is_empty()).map(str::to_owned),
    });
    let said = |raw: &&RawValue| raw.get() != "null";
    let top = answer.object.is_some_and(|object| object.get() == "\"error\"");
    let failed =
        |choice: &wire::Choice<'_>| choice.finish_reason.is_some_and(|reason| reason.get() == "\"error\"");
    let error = if answer.error.filter(said).is_some() || top {
        Some(error(data))
    } else if let Some(raw) = groq.and_then(|groq| groq.error).filter(said) {
        Some(error(raw.get().as_bytes()))
    } else {
        choices.iter().any(failed).then(|| error(data))
    };
    Read { what, ended, error: error.map(Failure::reported) }
}

/// The list of models.
pub(crate) fn models(body: &[u8]) -> Result<Vec<ModelId>, ProviderError> {
    let models: wire::Models = serde_json::from_slice(body)
        .map_err(|_| ProviderError::BadAnswer { what: "not a list of models" })?;
    Ok(models.data.into_iter().filter_map(|model| ModelId::new(model.id).ok()).collect())
}

/// All output of an answer that is billed.
fn produced(answer: &wire::Answer<'_>, text: &mut String) {
    for choice in answer.choices.iter().flatten() {
        text.push_str(choice.text.as_deref().unwrap_or_default());
        let Some(message) = &choice.delta else { continue };
        let text_of = |content| wire::Content::text(content).unwrap_or_default();
        text.push_str(text_of(message.content.as_ref()));
        // The same under two names is there once.
        let reasoning = wire::Content::text(message.reasoning_content.as_ref());
        match reasoning.or_else(|| wire::Content::text(message.reasoning.as_ref())) {
            Some(reasoning) => text.push_str(reasoning),
            None => message.reasoning_details.iter().for_each(|details| details.collect(text)),
        }
        text.push_str(text_of(message.refusal.as_ref()));
        let calls = message.tool_calls.iter().flat_map(|calls| &calls.0);
        for function in calls.filter_map(|call| call.function.as_ref()).chain(&message.function_call) {
            text.push_str(function.name.as_deref().unwrap_or_default());
            text.push_str(text_of(function.arguments.as_ref()));
        }
    }
}

/// The usage of a response, which has other names for the same.
pub(crate) fn responses_usage(json: &str) -> Option<Usage> {
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
///
/// Compatible servers name the same tokens differently, and some report a part beside its whole instead of within it.
/// `total_tokens` tells: what it has more than prompt and completion is such a part.
pub(crate) fn usage(json: &str) -> Option<Usage> {
    let usage: wire::Usage = serde_json::from_str(json).ok()?;
    // A usage without any count says nothing.
    if usage.prompt_tokens.is_none() && usage.completion_tokens.is_none() {
        return None;
    }
    let count = |count: Option<i64>| u64::try_from(count.unwrap_or_default()).ok();
    let prompt = usage.prompt_tokens_details.unwrap_or_default();
    let completion = usage.completion_tokens_details.unwrap_or_default();
    let (mut input, mut output) = (count(usage.prompt_tokens)?, count(usage.completion_tokens)?);
    // Under several names: the same tokens.
    let (read, written) = (count(usage.cache_read_input_tokens)?, count(usage.cache_creation_input_tokens)?);
    let cached_input = read
        .max(count(prompt.cached_tokens)?)
        .max(count(usage.prompt_cache_hit_tokens)?)
        .max(count(usage.num_cached_tokens)?);
    let all_written =
        written.max(count(prompt.cache_write_tokens)?).max(count(prompt.cache_creation_tokens)?);
    let long = |creation: Option<wire::CacheCreation>| count(creation?.ephemeral_1h_input_tokens);
    let cache_write_long = long(prompt.cache_creation_token_details).or(long(usage.cache_creation));
    let cache_write_long = cache_write_long.unwrap_or_default().min(all_written);
    let mut more = match usage.total_tokens {
        Some(total) => count(Some(total))?.saturating_sub(input.saturating_add(output)),
        None => 0,
    };
    // Anthropic counts its cache beside the input.
    let cache = read.saturating_add(written);
    if cache > 0 && (cache > input || more == cache) {
        input = input.saturating_add(cache);
        more = more.saturating_sub(cache);
    }
    let mut reasoning = count(completion.reasoning_tokens)?;
    let seconds = count(usage.prompt_audio_seconds)?;
    // Some count reasoning beside the output, and some don't even tell it apart. Where there is audio, it may be that.
    if seconds == 0 && more > 0 {
        output = output.saturating_add(more);
        if more != reasoning {
            reasoning = reasoning.saturating_add(more);
        }
    }
    // OpenAI counts cached audio in both; a token is charged once, as cached.
    let input_audio =
        count(prompt.audio_tokens)?.min(input.checked_sub(cached_input)?.checked_sub(all_written)?);
    Usage {
        cached_input,
        cache_write: all_written - cache_write_long,
        cache_write_long,
        // A second of audio is one piece of its class, because it is billed by time.
        input_audio: input_audio.saturating_add(seconds),
        reasoning,
        output_audio: count(completion.audio_tokens)?.min(output.checked_sub(reasoning)?),
        ..Usage::tokens(input.saturating_add(seconds), output)
    }
    .checked()
    .ok()
}

#[cfg(test)]
mod tests;
