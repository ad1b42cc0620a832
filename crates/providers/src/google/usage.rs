//! What Google reports as used ("Generating content", UsageMetadata), in our classes.
//!
//! * The prompt has what came from a cache in it; what Google's own tools brought in stands beside it.
//! * The candidates' tokens are without thoughts.
//! * Audio that came from a cache counts as cached.
//! * A count that is 0 is left out, and so is one that is missing; then it is what the total leaves of the others.

use accounting::Usage;

use crate::report::{Count, Field, Report, Whole};

/// A usage, and whether it tells of the candidates' tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    pub usage: Usage,
    pub candidates: bool,
}

/// A usage as it was told.
pub(super) fn read(json: &str) -> Report {
    Report::read(json, field)
}

/// The fields, in docs/source/providers.md with their sources.
fn field(holder: &str, name: &str) -> Field {
    let count = match (holder, name) {
        ("", "promptTokenCount") => Count::Input,
        ("", "cachedContentTokenCount") => Count::Cached,
        ("", "candidatesTokenCount") => Count::Output,
        ("", "thoughtsTokenCount") => Count::Reasoning,
        ("", "toolUsePromptTokenCount") => Count::ToolInput,
        ("", "totalTokenCount") => Count::Total,
        ("promptTokensDetails", "AUDIO") => Count::InputAudio,
        ("cacheTokensDetails", "AUDIO") => Count::CachedAudio,
        ("candidatesTokensDetails", "AUDIO") => Count::OutputAudio,
        ("toolUsePromptTokensDetails", "AUDIO") => Count::ToolInputAudio,
        _ => return Field::Unknown,
    };
    Field::Count(count)
}

/// In our classes; `None` if nothing was told.
pub(super) fn counted(report: &Report) -> Option<Counted> {
    let told = |count| report.or_zero(count);
    let (tools, reasoning, total) = (told(Count::ToolInput), told(Count::Reasoning), told(Count::Total));
    let rest = |one: u64| total.saturating_sub(one).saturating_sub(tools).saturating_sub(reasoning);
    let (prompt, candidates) = match (report.get(Count::Input), report.get(Count::Output)) {
        (None, None) if reasoning == 0 => return None,
        (Some(prompt), Some(candidates)) => (prompt, Some(candidates)),
        (None, Some(candidates)) => (rest(candidates), Some(candidates)),
        (Some(prompt), None) => (prompt, Some(rest(prompt)).filter(|rest| *rest > 0)),
        (None, None) => (0, None),
    };
    let input = prompt.saturating_add(tools);
    let output = candidates.unwrap_or_default().saturating_add(reasoning);
    let (mut of_input, mut of_candidates) = (Whole::of(input), Whole::of(candidates.unwrap_or_default()));
    let cached_input = of_input.part(told(Count::Cached));
    let heard = told(Count::InputAudio).saturating_sub(told(Count::CachedAudio));
    let usage = Usage {
        cached_input,
        input_audio: of_input.overlapping(heard.saturating_add(told(Count::ToolInputAudio))),
        reasoning,
        output_audio: of_candidates.overlapping(told(Count::OutputAudio)),
        adjusted: of_input.cut,
        ..Usage::tokens(input, output)
    };
    Some(Counted { usage: usage.checked().ok()?, candidates: candidates.is_some() })
}

/// The usage of vectors: all of it is input.
pub(super) fn of_embeddings(report: &Report) -> Option<Usage> {
    let input = report.or_zero(Count::Input).max(report.or_zero(Count::Total));
    (!report.is_empty()).then(|| Usage::tokens(input, 0))
}

#[cfg(test)]
mod tests {
    use accounting::Measure;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn of(json: &str) -> Option<Counted> {
        counted(&read(json))
    }

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
        assert_eq!(of(&all.to_string()), Some(Counted { usage, candidates: true }));
        let blocked = Counted { usage: Usage::tokens(9, 0), candidates: false };
        assert_eq!(of(r#"{"promptTokenCount":9,"totalTokenCount":9}"#), Some(blocked));
    }

    #[test]
    fn each_count_stands_for_itself() {
        for nothing in ["{}", "null", "7", r#"{"totalTokenCount":9}"#, r#"{"promptTokenCount":1.5}"#] {
            assert_eq!(of(nothing), None, "{nothing}");
        }
        let adjusted = |usage| Usage { adjusted: true, ..usage };
        let thought = |input, output, reasoning| Usage { reasoning, ..Usage::tokens(input, output) };
        for (json, usage, candidates) in [
            (r#"{"candidatesTokenCount":9}"#, Usage::tokens(0, 9), true),
            (r#"{"candidatesTokenCount":18,"thoughtsTokenCount":58}"#, thought(0, 76, 58), true),
            (r#"{"promptTokenCount":-1,"candidatesTokenCount":5}"#, Usage::tokens(0, 5), true),
            (
                r#"{"promptTokenCount":5,"cachedContentTokenCount":6}"#,
                adjusted(Usage { cached_input: 5, ..Usage::tokens(5, 0) }),
                false,
            ),
            (r#"{"promptTokenCount":5,"thoughtsTokenCount":-6}"#, Usage::tokens(5, 0), false),
            (
                r#"{"promptTokenCount":5,"promptTokensDetails":[{"modality":"AUDIO","tokenCount":-1}]}"#,
                Usage::tokens(5, 0),
                false,
            ),
            // What is missing is what the total leaves.
            (
                r#"{"candidatesTokenCount":18,"thoughtsTokenCount":58,"totalTokenCount":100}"#,
                thought(24, 76, 58),
                true,
            ),
            (
                r#"{"promptTokenCount":440,"thoughtsTokenCount":27,"toolUsePromptTokenCount":86,"totalTokenCount":600}"#,
                thought(526, 74, 27),
                true,
            ),
            (
                r#"{"promptTokenCount":440,"thoughtsTokenCount":27,"toolUsePromptTokenCount":86,"totalTokenCount":553}"#,
                thought(526, 27, 27),
                false,
            ),
        ] {
            assert_eq!(of(json), Some(Counted { usage, candidates }), "{json}");
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
            let usage = of(&reported.to_string()).unwrap().usage;
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
