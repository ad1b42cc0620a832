//! OpenAI's usage in our classes, as chats and the Responses API tell it (API reference, "The chat completion object", "The
//! response object"), with what compatible servers tell in its place.
//!
//! They name the same tokens differently, and some report a part beside its whole instead of within it. `total_tokens` tells:
//! what it has more than prompt and completion is such a part.

use accounting::Usage;
use serde::Deserialize;

use crate::report::{Count, Field, Report, Whole};

/// A usage as it was told.
pub(super) fn read(json: &str) -> Report {
    Report::read(json, field)
}

/// The fields, in docs/source/providers.md with their sources.
fn field(holder: &str, name: &str) -> Field {
    const INPUT: [&str; 2] = ["prompt_tokens_details", "input_tokens_details"];
    const OUTPUT: [&str; 2] = ["completion_tokens_details", "output_tokens_details"];
    let count = match (holder, name) {
        ("", "prompt_tokens" | "input_tokens") => Count::Input,
        ("", "completion_tokens" | "output_tokens") => Count::Output,
        ("", "total_tokens") => Count::Total,
        ("", "cached_tokens" | "prompt_cache_hit_tokens" | "num_cached_tokens") => Count::Cached,
        ("", "cache_read_input_tokens") => Count::CacheRead,
        ("", "cache_creation_input_tokens") => Count::CacheWritten,
        ("", "reasoning_tokens") => Count::ReasoningBeside,
        ("", "prompt_audio_seconds") => Count::AudioSeconds,
        (_, "ephemeral_1h_input_tokens") => Count::CacheWrittenLong,
        (details, "cached_tokens") if INPUT.contains(&details) => Count::Cached,
        (details, "cache_write_tokens" | "cache_creation_tokens" | "cache_creation_input_tokens")
            if INPUT.contains(&details) =>
        {
            Count::CacheWrittenWithin
        }
        (details, "audio_tokens") if INPUT.contains(&details) => Count::InputAudio,
        (details, "audio_tokens") if OUTPUT.contains(&details) => Count::OutputAudio,
        (details, "reasoning_tokens") if OUTPUT.contains(&details) => Count::Reasoning,
        // The rest of a whole, what costs nothing, and how long it took.
        (_, "text_tokens" | "image_tokens" | "video_tokens" | "ephemeral_5m_input_tokens")
        | ("", "prompt_cache_miss_tokens" | "cost" | "cost_in_usd_ticks" | "request_count")
        | ("", "queue_time" | "prompt_time" | "completion_time" | "total_time")
        | ("cost" | "cost_details", _)
        | (_, "accepted_prediction_tokens" | "rejected_prediction_tokens") => return Field::Known,
        _ => return Field::Unknown,
    };
    Field::Count(count)
}

/// The usage of a chat or a response; `None` if neither input nor output was told.
pub(super) fn of_chat(report: &Report) -> Option<Usage> {
    let told = |count| report.or_zero(count);
    // There is no request without input: 0 of it means that it was not counted.
    let input = report.get(Count::Input).filter(|input| *input > 0);
    let (mut input, mut output, mut more) = match (input, report.get(Count::Output)) {
        (None, None) if report.get(Count::Input).is_none() => return None,
        (Some(input), Some(output)) => {
            (input, output, told(Count::Total).saturating_sub(input.saturating_add(output)))
        }
        // One that is missing is what the total leaves of the other.
        (Some(input), None) => (input, told(Count::Total).saturating_sub(input), 0),
        (None, output) => {
            let output = output.unwrap_or_default();
            (told(Count::Total).saturating_sub(output), output, 0)
        }
    };
    let (read, written) = (told(Count::CacheRead), told(Count::CacheWritten));
    let cached = read.max(told(Count::Cached));
    let all_written = written.max(told(Count::CacheWrittenWithin));
    // Anthropic counts its cache beside the input.
    let cache = read.saturating_add(written);
    if cache > 0 && (cache > input || more == cache) {
        input = input.saturating_add(cache);
        more = more.saturating_sub(cache);
    }
    let (seconds, mut audio) = (told(Count::AudioSeconds), told(Count::InputAudio));
    let mut reasoning = told(Count::Reasoning);
    if seconds > 0 {
        // Sound that is billed by time is not billed by its tokens as well; they lie within the input, or beside it.
        if more == 0 && report.get(Count::Total).is_some() {
            input = input.saturating_sub(audio);
        }
        audio = 0;
    } else if more > 0 {
        // Some count reasoning beside the output, and some don't even tell it apart. Where there is sound, it may be that.
        output = output.saturating_add(more);
        if more != reasoning {
            reasoning = reasoning.saturating_add(more);
        }
    }
    let beside = told(Count::ReasoningBeside);
    let outside = beside > input.saturating_add(output);
    if outside {
        // More than everything together can't lie within.
        output = output.saturating_add(beside);
    }
    reasoning = reasoning.max(beside);
    let (mut of_input, mut of_output) = (Whole::of(input), Whole::of(output));
    let all_written = of_input.part(all_written);
    let cached_input = of_input.part(cached);
    let cache_write_long = told(Count::CacheWrittenLong).min(all_written);
    // OpenAI counts cached audio in both; a token is charged once, as cached.
    let input_audio = of_input.overlapping(audio);
    let reasoning = of_output.part(reasoning);
    let output_audio = of_output.overlapping(told(Count::OutputAudio));
    Usage {
        cached_input,
        cache_write: all_written - cache_write_long,
        cache_write_long,
        // A second of audio is one piece of its class, because it is billed by time.
        input_audio: input_audio.saturating_add(seconds),
        reasoning,
        output_audio,
        adjusted: outside || of_input.cut || of_output.cut,
        ..Usage::tokens(input.saturating_add(seconds), output)
    }
    .checked()
    .ok()
}

/// The usage of a chat, if nothing in it is wrong.
pub(super) fn exact(json: &str) -> Option<Usage> {
    #[derive(Deserialize)]
    struct Wholes {
        #[serde(default, rename = "prompt_tokens")]
        _input: Option<u64>,
        #[serde(default, rename = "completion_tokens")]
        _output: Option<u64>,
    }
    serde_json::from_str::<Wholes>(json).ok()?;
    of_chat(&read(json)).filter(|usage| !usage.adjusted)
}

/// The usage of vectors: all of it is input.
pub(super) fn of_embeddings(report: &Report) -> Option<Usage> {
    let both = report.or_zero(Count::Input).saturating_add(report.or_zero(Count::Output));
    let input = both.max(report.or_zero(Count::Total));
    let cached_input = report.or_zero(Count::Cached).min(input);
    (!report.is_empty()).then(|| Usage { cached_input, ..Usage::tokens(input, 0) })
}

#[cfg(test)]
mod tests;
