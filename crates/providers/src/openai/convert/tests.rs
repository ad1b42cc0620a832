use proptest::prelude::*;
use serde_json::json;

use super::*;

fn chunk(json: &str) -> Chunk {
    match event(&Bytes::copy_from_slice(json.as_bytes())) {
        Read { what: What::Chunk(chunk), error: None, .. } => chunk,
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
    let usage = chunk(r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#);
    assert_eq!(
        usage,
        Chunk { no_choices: true, usage: Some(Reported::Final(Usage::tokens(3, 4))), ..Chunk::default() }
    );
    let calls =
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{}"}}]}}]}"#;
    assert_eq!(chunk(calls).produced, "f{}");
    let thought =
        r#"{"choices":[{"delta":{"content":null,"reasoning_content":"hm"}},{"delta":{"content":"x"}}]}"#;
    assert_eq!(chunk(thought).produced, "hmx");
}

#[test]
fn other_events() {
    let of = |text: &'static str| event(&Bytes::from_static(text.as_bytes()));
    let only = |what| Read { what, ended: 0, error: None };
    assert_eq!(of("[DONE]"), only(What::Done));
    assert_eq!(of(""), only(What::Other));
    assert_eq!(of("{half"), only(What::Other));
    assert_eq!(event(&Bytes::from_static(b"\xff\xfe")), only(What::Other));
}

#[test]
fn usage_in_our_classes() {
    let all = r#"{"prompt_tokens":100,"completion_tokens":50,
        "prompt_tokens_details":{"cached_tokens":80,"audio_tokens":30},
        "completion_tokens_details":{"reasoning_tokens":40,"audio_tokens":5}}"#;
    let expected =
        Usage { cached_input: 80, input_audio: 20, reasoning: 40, output_audio: 5, ..Usage::tokens(100, 50) };
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
fn the_same_tokens_by_other_names() {
    let with = |more: &str| usage(&format!(r#"{{"prompt_tokens":100,"completion_tokens":50,{more}}}"#));
    let plain = Usage::tokens(100, 50);
    let cached = |cached_input| Some(Usage { cached_input, ..plain });
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
        // OpenRouter.
        (
            r#""cost":0.00014,"prompt_tokens_details":{"cached_tokens":20,"cache_write_tokens":30,"audio_tokens":0,"video_tokens":0}"#,
            Some(Usage { cached_input: 20, cache_write: 30, ..plain }),
        ),
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
        // Mistral bills audio by the second, and counts its tokens in the total alone.
        (
            r#""total_tokens":950,"prompt_audio_seconds":60"#,
            Some(Usage { input_audio: 60, ..Usage::tokens(160, 50) }),
        ),
        (r#""total_tokens":-1"#, None),
        (r#""prompt_cache_hit_tokens":101"#, None),
        (r#""prompt_tokens_details":{"cached_tokens":60,"cache_write_tokens":60}"#, None),
        (r#""cache_creation_input_tokens":-3"#, None),
    ] {
        assert_eq!(with(more), expected, "{more}");
    }
}

proptest! {
    /// Whatever is reported, no token is in two classes, and all of the prompt and the completion are charged.
    #[test]
    fn classes_add_up(counts in prop::collection::vec(prop::option::of(-1_i64..200), 14)) {
        let at = |index: usize| json!(counts[index]);
        let report = json!({
            "prompt_tokens": at(0), "completion_tokens": at(1), "total_tokens": at(2),
            "prompt_tokens_details": {"cached_tokens": at(3), "audio_tokens": at(4), "cache_write_tokens": at(5),
                "cache_creation_token_details": {"ephemeral_1h_input_tokens": at(6)}},
            "completion_tokens_details": {"reasoning_tokens": at(7), "audio_tokens": at(8)},
            "prompt_cache_hit_tokens": at(9), "num_cached_tokens": at(10), "prompt_audio_seconds": at(11),
            "cache_read_input_tokens": at(12), "cache_creation_input_tokens": at(13),
        });
        if let Some(usage) = usage(&report.to_string()) {
            let sum: u64 = usage.by_measure().unwrap().iter().map(|(_, count)| count).sum();
            prop_assert_eq!(sum, usage.input + usage.output + usage.calls);
            let told = |index: usize| u64::try_from(counts[index].unwrap_or_default()).unwrap();
            prop_assert!(usage.input >= told(0) && usage.output >= told(1));
            let largest = (told(0) + told(1) + told(12) + told(13)).max(told(2)) + told(11);
            prop_assert!(usage.input + usage.output <= largest);
            prop_assert!(usage.cached_input >= told(3).max(told(9)) && usage.reasoning >= told(7));
            prop_assert!(usage.cache_write + usage.cache_write_long >= told(5).max(told(13)));
        }
    }
}

#[test]
fn bytes_that_are_no_utf_8_are_read_all_the_same() {
    for (bytes, produced) in [
        (&b"{\"id\":\"\xff\",\"choices\":[{\"delta\":{\"content\":\"ab\"}}]}"[..], "ab"),
        (b"{\"choices\":[{\"delta\":{\"content\":\"a\xe2\x82\"}}]}", "a\u{fffd}"),
    ] {
        let Read { what: What::Chunk(chunk), .. } = event(&Bytes::copy_from_slice(bytes)) else { panic!() };
        assert_eq!(chunk.produced, produced);
    }
    let usage = b"{\"id\":\"\xff\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}";
    let Read { what: What::Chunk(chunk), .. } = event(&Bytes::from_static(usage)) else { panic!() };
    assert_eq!(chunk.usage, Some(Reported::Final(Usage::tokens(3, 4))));
}

#[test]
fn an_empty_reason_is_no_end() {
    let open = chunk(r#"{"choices":[{"delta":{"content":"a"},"finish_reason":""}]}"#);
    assert!(!open.finish);
}

#[test]
fn reasoning_in_pieces_is_produced() {
    let said = |more: &str| {
        let details = r#""reasoning_details":[{"type":"reasoning.text","text":"hm"},{"type":"reasoning.encrypted","data":"AA"}]"#;
        chunk(&format!(r#"{{"choices":[{{"delta":{{{more}{details}}}}}]}}"#)).produced
    };
    assert_eq!((said("").as_str(), said(r#""reasoning":"hm","#).as_str()), ("hm", "hm"));
}
