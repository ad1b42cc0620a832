//! What Google reports as used ("Generating content", UsageMetadata), in our classes.

use accounting::Usage;

use super::wire::{ModalityCount, UsageMetadata};

/// A usage, and whether it tells of the candidates' tokens: a count that is 0 is left out, and so is one that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    pub usage: Usage,
    pub candidates: bool,
}

/// Reads one; `None` if it is no usage, or can't be right.
///
/// * The prompt has what came from a cache in it; what Google's own tools brought in stands beside it.
/// * The candidates' tokens are without thoughts.
/// * Audio that came from a cache counts as cached.
pub(super) fn read(json: &str) -> Option<Counted> {
    let reported: UsageMetadata = serde_json::from_str(json).ok()?;
    let count = |count: Option<i64>| u64::try_from(count.unwrap_or_default()).ok();
    // There is no request without a prompt.
    let prompt = u64::try_from(reported.prompt_token_count?).ok()?;
    let input = prompt.checked_add(count(reported.tool_use_prompt_token_count)?)?;
    let cached_input = count(reported.cached_content_token_count)?;
    let candidates = count(reported.candidates_token_count)?;
    let reasoning = count(reported.thoughts_token_count)?;
    let cached_audio = audio(reported.cache_tokens_details)?;
    let heard = audio(reported.prompt_tokens_details)?
        .saturating_sub(cached_audio)
        .checked_add(audio(reported.tool_use_prompt_tokens_details)?)?;
    let usage = Usage {
        cached_input,
        input_audio: heard.min(input.checked_sub(cached_input)?),
        reasoning,
        output_audio: audio(reported.candidates_tokens_details)?.min(candidates),
        ..Usage::tokens(input, candidates.checked_add(reasoning)?)
    };
    Some(Counted { usage: usage.checked().ok()?, candidates: reported.candidates_token_count.is_some() })
}

/// The tokens of audio among those of all modalities.
fn audio(details: Option<Vec<ModalityCount>>) -> Option<u64> {
    let details = details.unwrap_or_default();
    let mut of_audio = details.iter().filter(|detail| detail.modality.as_deref() == Some("AUDIO"));
    of_audio.try_fold(0_u64, |sum, detail| {
        sum.checked_add(u64::try_from(detail.token_count.unwrap_or_default()).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use accounting::Measure;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn every_class() {
        let all = json!({
            "promptTokenCount": 100, "cachedContentTokenCount": 40, "candidatesTokenCount": 20,
            "thoughtsTokenCount": 300, "toolUsePromptTokenCount": 7, "totalTokenCount": 427,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 50}, {"modality": "AUDIO", "tokenCount": 50}],
            "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 30}],
            "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 5}],
            "toolUsePromptTokensDetails": [{"modality": "TEXT", "tokenCount": 7}],
        });
        let usage = Usage {
            cached_input: 40,
            input_audio: 20,
            reasoning: 300,
            output_audio: 5,
            ..Usage::tokens(107, 320)
        };
        assert_eq!(read(&all.to_string()), Some(Counted { usage, candidates: true }));
        let blocked = Counted { usage: Usage::tokens(9, 0), candidates: false };
        assert_eq!(read(r#"{"promptTokenCount":9,"totalTokenCount":9}"#), Some(blocked));
    }

    #[test]
    fn nonsense_counts_as_missing() {
        for nonsense in [
            "{}",
            "null",
            "7",
            r#"{"totalTokenCount":9}"#,
            r#"{"candidatesTokenCount":9}"#,
            r#"{"promptTokenCount":-1,"candidatesTokenCount":5}"#,
            r#"{"promptTokenCount":1.5}"#,
            r#"{"promptTokenCount":5,"cachedContentTokenCount":6}"#,
            r#"{"promptTokenCount":5,"thoughtsTokenCount":-6}"#,
            r#"{"promptTokenCount":5,"promptTokensDetails":[{"modality":"AUDIO","tokenCount":-1}]}"#,
            r#"{"promptTokenCount":9000000000000000000}"#,
        ] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }

    proptest! {
        #[test]
        fn classes_add_up_and_nothing_counts_twice(
            text in 0_i64..1000, heard in 0_i64..1000, cached_text in 0_i64..1000, cached_heard in 0_i64..1000,
            tools in 0_i64..1000, said in 0_i64..1000, thought in 0_i64..1000,
        ) {
            let (cached_text, cached_heard) = (cached_text.min(text), cached_heard.min(heard));
            let reported = json!({
                "promptTokenCount": text + heard, "cachedContentTokenCount": cached_text + cached_heard,
                "toolUsePromptTokenCount": tools, "candidatesTokenCount": said, "thoughtsTokenCount": thought,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": text}, {"modality": "AUDIO", "tokenCount": heard}],
                "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": cached_text}, {"modality": "AUDIO", "tokenCount": cached_heard}],
            });
            let usage = read(&reported.to_string()).unwrap().usage;
            let classes = usage.by_measure().unwrap();
            let of = |measure: Measure| {
                i64::try_from(classes.iter().find(|(one, _)| *one == measure).unwrap().1).unwrap()
            };
            prop_assert_eq!(of(Measure::Input), text - cached_text + tools);
            prop_assert_eq!(of(Measure::CachedInput), cached_text + cached_heard);
            prop_assert_eq!(of(Measure::InputAudio), heard - cached_heard);
            prop_assert_eq!(of(Measure::Output), said);
            prop_assert_eq!(of(Measure::Reasoning), thought);
            let total: u64 = [Measure::Input, Measure::CachedInput, Measure::InputAudio, Measure::Output, Measure::Reasoning]
                .into_iter().map(|measure| u64::try_from(of(measure)).unwrap()).sum();
            prop_assert_eq!(total, u64::try_from(text + heard + tools + said + thought).unwrap());
        }
    }
}
