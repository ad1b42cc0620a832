use proptest::prelude::*;
use serde_json::json;

use super::*;

fn usage(json: &str) -> Option<Usage> {
    of_chat(&read(json))
}

fn adjusted(usage: Usage) -> Option<Usage> {
    Some(Usage { adjusted: true, ..usage })
}

#[test]
fn in_our_classes() {
    let all = r#"{"prompt_tokens":100,"completion_tokens":50,
        "prompt_tokens_details":{"cached_tokens":80,"audio_tokens":30},
        "completion_tokens_details":{"reasoning_tokens":40,"audio_tokens":5}}"#;
    let expected =
        Usage { cached_input: 80, input_audio: 20, reasoning: 40, output_audio: 5, ..Usage::tokens(100, 50) };
    assert_eq!(usage(all), Some(expected));
    let response = all.replace("prompt_tokens", "input_tokens").replace("completion_tokens", "output_tokens");
    assert_eq!(usage(&response), Some(expected));
    assert_eq!(usage(r#"{"prompt_tokens":9,"total_tokens":9}"#), Some(Usage::tokens(9, 0)));
    for nothing in ["{}", "null", "7", r#"{"total_tokens":9}"#, r#"{"prompt_tokens":-1}"#] {
        assert_eq!(usage(nothing), None, "{nothing}");
    }
}

#[test]
fn what_is_wrong_spoils_only_itself() {
    for (json, expected) in [
        (r#"{"prompt_tokens":-1,"completion_tokens":5}"#, Some(Usage::tokens(0, 5))),
        (r#"{"prompt_tokens":1.5,"completion_tokens":5}"#, Some(Usage::tokens(0, 5))),
        (r#"{"prompt_tokens":"7","completion_tokens":5,"total_tokens":12}"#, Some(Usage::tokens(7, 5))),
        (r#"{"prompt_tokens":0,"completion_tokens":5,"total_tokens":12}"#, Some(Usage::tokens(7, 5))),
        (r#"{"prompt_tokens":7,"total_tokens":12}"#, Some(Usage::tokens(7, 5))),
        (
            r#"{"prompt_tokens":5,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":6}}"#,
            adjusted(Usage { cached_input: 5, ..Usage::tokens(5, 5) }),
        ),
        (
            r#"{"prompt_tokens":43,"completion_tokens":10,"completion_tokens_details":{"reasoning_tokens":11}}"#,
            adjusted(Usage { reasoning: 10, ..Usage::tokens(43, 10) }),
        ),
        (
            r#"{"prompt_tokens":5,"completion_tokens":5,"completion_tokens_details":{"reasoning_tokens":-6}}"#,
            Some(Usage::tokens(5, 5)),
        ),
        (
            r#"{"prompt_tokens":5,"completion_tokens":5,"completion_tokens_details":7,"prompt_tokens_details":[]}"#,
            Some(Usage::tokens(5, 5)),
        ),
    ] {
        assert_eq!(usage(json), expected, "{json}");
    }
}

#[test]
fn the_same_tokens_by_other_names() {
    let with = |more: &str| usage(&format!(r#"{{"prompt_tokens":100,"completion_tokens":50,{more}}}"#));
    let plain = Usage::tokens(100, 50);
    let cached = |cached_input| Some(Usage { cached_input, ..plain });
    let written = |cache_write| Some(Usage { cache_write, ..plain });
    for (more, expected) in [
        // DeepSeek: both names are the same tokens.
        (
            r#""prompt_cache_hit_tokens":64,"prompt_cache_miss_tokens":36,"prompt_tokens_details":{"cached_tokens":64}"#,
            cached(64),
        ),
        (r#""prompt_cache_hit_tokens":64,"prompt_cache_miss_tokens":36"#, cached(64)),
        (
            r#""num_cached_tokens":10,"prompt_tokens_details":null,"completion_tokens_details":null"#,
            cached(10),
        ),
        (r#""prompt_audio_seconds":{},"num_cached_tokens":null"#, Some(plain)),
        // Moonshot.
        (r#""cached_tokens":70"#, cached(70)),
        // OpenRouter.
        (
            r#""cost":0.00014,"prompt_tokens_details":{"cached_tokens":20,"cache_write_tokens":30,"audio_tokens":0,"video_tokens":0}"#,
            Some(Usage { cached_input: 20, cache_write: 30, ..plain }),
        ),
        // DashScope, and OpenAI's own from GPT-5.6 on.
        (r#""prompt_tokens_details":{"cache_creation_input_tokens":90,"cached_tokens":0}"#, written(90)),
        (r#""input_tokens_details":{"cache_write_tokens":90,"cached_tokens":0}"#, written(90)),
        // LiteLLM in front of Anthropic: within the input, or beside it.
        (
            r#""total_tokens":150,"prompt_tokens_details":{"cached_tokens":20,"cache_creation_tokens":30},"cache_creation_input_tokens":30,"cache_read_input_tokens":20"#,
            Some(Usage { cached_input: 20, cache_write: 30, ..plain }),
        ),
        (
            r#""total_tokens":150,"cache_creation_input_tokens":300,"cache_read_input_tokens":20"#,
            Some(Usage { cached_input: 20, cache_write: 300, ..Usage::tokens(420, 50) }),
        ),
        (
            r#""total_tokens":200,"cache_creation_input_tokens":30,"cache_read_input_tokens":20"#,
            Some(Usage { cached_input: 20, cache_write: 30, ..Usage::tokens(150, 50) }),
        ),
        (
            r#""total_tokens":150,"cache_creation_input_tokens":30,"cache_creation":{"ephemeral_5m_input_tokens":10,"ephemeral_1h_input_tokens":20}"#,
            Some(Usage { cache_write: 10, cache_write_long: 20, ..plain }),
        ),
        // Reasoning within the output, beside it, and not told apart.
        (
            r#""total_tokens":150,"completion_tokens_details":{"reasoning_tokens":40}"#,
            Some(Usage { reasoning: 40, ..plain }),
        ),
        (
            r#""total_tokens":550,"completion_tokens_details":{"reasoning_tokens":400}"#,
            Some(Usage { reasoning: 400, ..Usage::tokens(100, 450) }),
        ),
        (r#""total_tokens":550"#, Some(Usage { reasoning: 400, ..Usage::tokens(100, 450) })),
        // At the top, within the output; more than all other tokens together can't lie there.
        (r#""reasoning_tokens":40"#, Some(Usage { reasoning: 40, ..plain })),
        (r#""reasoning_tokens":60"#, adjusted(Usage { reasoning: 50, ..plain })),
        (r#""reasoning_tokens":7000"#, adjusted(Usage { reasoning: 7000, ..Usage::tokens(100, 7050) })),
        // Mistral bills audio by the second, and counts its tokens in the total alone, beside the input, or within.
        (
            r#""total_tokens":950,"prompt_audio_seconds":60"#,
            Some(Usage { input_audio: 60, ..Usage::tokens(160, 50) }),
        ),
        (
            r#""total_tokens":525,"prompt_audio_seconds":3,"prompt_tokens_details":{"audio_tokens":375}"#,
            Some(Usage { input_audio: 3, ..Usage::tokens(103, 50) }),
        ),
        (
            r#""total_tokens":150,"prompt_audio_seconds":3,"prompt_tokens_details":{"audio_tokens":90}"#,
            Some(Usage { input_audio: 3, ..Usage::tokens(13, 50) }),
        ),
        (r#""total_tokens":-1"#, Some(plain)),
        (r#""prompt_cache_hit_tokens":101"#, adjusted(Usage { cached_input: 100, ..plain })),
        // Both were told to be nearly all of the prompt: what was written is known to be new.
        (
            r#""prompt_tokens_details":{"cached_tokens":60,"cache_write_tokens":60}"#,
            adjusted(Usage { cached_input: 40, cache_write: 60, ..plain }),
        ),
        (r#""cache_creation_input_tokens":-3"#, Some(plain)),
    ] {
        assert_eq!(with(more), expected, "{more}");
    }
}

#[test]
fn what_can_be_corrected_must_be_right() {
    assert_eq!(exact(r#"{"prompt_tokens":3,"completion_tokens":4}"#), Some(Usage::tokens(3, 4)));
    for wrong in [
        "{}",
        r#"{"prompt_tokens":-3,"completion_tokens":4}"#,
        r#"{"prompt_tokens":"3","completion_tokens":4}"#,
        r#"{"prompt_tokens":3,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":5}}"#,
    ] {
        assert_eq!(exact(wrong), None, "{wrong}");
    }
}

#[test]
fn vectors_have_only_input() {
    let of = |json: &str| of_embeddings(&read(json));
    for (json, input) in [
        (r#"{"prompt_tokens":3,"total_tokens":3}"#, Some(3)),
        (r#"{"total_tokens":3000}"#, Some(3000)),
        (r#"{"prompt_tokens":0,"total_tokens":3}"#, Some(3)),
        (r#"{"prompt_tokens":3}"#, Some(3)),
        (r#"{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}"#, Some(5)),
        ("{}", None),
    ] {
        assert_eq!(of(json), input.map(|input| Usage::tokens(input, 0)), "{json}");
    }
}

proptest! {
    /// Whatever is reported, no token is in two classes, and all of the prompt and the completion are charged.
    #[test]
    fn classes_add_up(counts in prop::collection::vec(prop::option::of(-1_i64..200), 15)) {
        let at = |index: usize| json!(counts[index]);
        let report = json!({
            "prompt_tokens": at(0), "completion_tokens": at(1), "total_tokens": at(2),
            "prompt_tokens_details": {"cached_tokens": at(3), "audio_tokens": at(4), "cache_write_tokens": at(5),
                "cache_creation_token_details": {"ephemeral_1h_input_tokens": at(6)}},
            "completion_tokens_details": {"reasoning_tokens": at(7), "audio_tokens": at(8)},
            "prompt_cache_hit_tokens": at(9), "num_cached_tokens": at(10), "prompt_audio_seconds": at(11),
            "cache_read_input_tokens": at(12), "cache_creation_input_tokens": at(13), "reasoning_tokens": at(14),
        });
        let told = |index: usize| u64::try_from(counts[index].unwrap_or_default()).unwrap_or_default();
        let usage = usage(&report.to_string());
        prop_assert_eq!(usage.is_some(), counts[0] >= Some(0) || counts[1] >= Some(0));
        if let Some(usage) = usage {
            let sum: u64 = usage.by_measure().unwrap().iter().map(|(_, count)| count).sum();
            prop_assert_eq!(sum, usage.input + usage.output + usage.calls);
            // Of sound that is billed by time, only the seconds are charged.
            prop_assert!(usage.input + told(4) >= told(0) && usage.output >= told(1));
            let largest = (told(0) + told(1)).max(told(2)) + told(11) + told(12) + told(13) + told(14);
            prop_assert!(usage.input + usage.output <= largest);
            if !usage.adjusted {
                prop_assert!(usage.cached_input >= told(3).max(told(9)) && usage.reasoning >= told(7));
                prop_assert!(usage.cache_write + usage.cache_write_long >= told(5).max(told(13)));
            }
        }
    }
}
