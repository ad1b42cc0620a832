//! Properties of what is known and of what is unknown, whatever a client makes up.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Any JSON, with names and types that mean something among the others.
fn anything() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("message"),
        Just("item_reference"),
        Just("reasoning"),
        Just("function_call"),
        Just("text"),
        Just("input_text"),
        Just("tool_result"),
        Just("user"),
        Just("assistant"),
        Just(""),
        Just("something_new"),
    ];
    let name = prop_oneof![
        4 => Just("type"), 2 => Just("id"), 3 => Just("role"), 3 => Just("content"), 1 => Just("text"), 1 => Just("output"),
        1 => Just("summary"), 1 => Just("name"), 1 => Just("arguments"), 1 => Just("file_id"), 1 => Just("Type"),
        1 => Just("source"), 1 => Just("tool_calls"), 1 => Just("words"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        word.prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..5).prop_map(|fields| fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    })
}

fn read(shape: Shape, body: &Value) -> ChatRequest {
    ChatRequest::parse_as(shape, Bytes::from(body.to_string())).unwrap()
}

/// A body of each shape that has these where its messages or items are.
fn bodies(list: &[Value]) -> [ChatRequest; 3] {
    let messages = json!({"model": "m", "max_tokens": 5, "messages": list});
    [
        read(Shape::Chat, &messages),
        read(Shape::Messages, &messages),
        read(Shape::Responses, &json!({"model": "m", "input": list})),
    ]
}

proptest! {
    /// What is taken where the unknown is refused is taken everywhere, and nothing in it is unknown.
    #[test]
    fn strict_takes_a_part_of_what_is_taken(list in prop::collection::vec(anything(), 0..4)) {
        for request in bodies(&list) {
            if let Ok(told) = request.refuse_unpriced_fields(Unknown::Refuse) {
                prop_assert!(told.is_empty());
                prop_assert_eq!(request.refuse_unpriced_fields(Unknown::Count), Ok(told));
            }
        }
    }

    /// The length is that of the texts, whatever is unknown in them.
    #[test]
    fn the_length_is_that_of_the_texts(list in prop::collection::vec(anything(), 0..4)) {
        for request in bodies(&list) {
            let length: u64 = request.input_text().iter().map(|text| text.len() as u64).sum();
            prop_assert_eq!(request.input_length(), length);
        }
    }

    /// What is unknown counts, with every word in it.
    #[test]
    fn every_word_of_something_unknown_counts(
        kind in "[a-z]{1,12}", field in "[a-z]{3,8}", word in "[A-Z]{6,20}", nested in any::<bool>(),
    ) {
        let unknown = if nested { json!({"type": kind, field.as_str(): [{"deep": word}]}) } else { json!({"type": kind, field.as_str(): word}) };
        let known = ["text", "refusal", "image", "file", "thinking", "reasoning", "document", "message", "compaction"];
        prop_assume!(!known.contains(&kind.as_str()));
        for (shape, body) in [
            (Shape::Chat, json!({"model": "m", "messages": [{"role": "user", "content": [unknown]}]})),
            (Shape::Messages, json!({"model": "m", "messages": [{"role": "user", "content": [unknown]}]})),
            (Shape::Responses, json!({"model": "m", "input": [unknown]})),
            (Shape::Responses, json!({"model": "m", "input": [{"role": "user", "content": [unknown]}]})),
        ] {
            let request = read(shape, &body);
            prop_assert!(request.input_text().iter().any(|text| text.contains(&word)), "{}", body);
            prop_assert!(request.refuse_unpriced_fields(Unknown::Refuse).is_err(), "{}", body);
            let told = request.refuse_unpriced_fields(Unknown::Count);
            prop_assert!(told.is_ok_and(|told| told.len() == 1), "{}", body);
        }
    }

    /// An item with an id and no content of its own is a name of something kept, whatever its type says.
    #[test]
    fn a_name_of_something_kept_never_passes(
        kind in prop_oneof![
            Just(Value::Null), Just(json!("")), Just(json!(7)), Just(json!(["message"])), Just(json!("message")),
            Just(json!("reasoning")), Just(json!("function_call")), "[a-z_]{1,20}".prop_map(Value::from),
            "[Ii][Tt][Ee][Mm]_[Rr]eference".prop_map(Value::from),
        ],
        has_type in any::<bool>(),
        id in "[a-z]{1,4}_[0-9a-f]{1,30}",
        role in prop::option::of(Just("assistant")),
        empty in prop::option::of(prop_oneof![Just(Value::Null), Just(json!("")), Just(json!([]))]),
        status in prop::option::of(Just("completed")),
    ) {
        let mut item = json!({"id": id});
        if has_type { item["type"] = kind; }
        if let Some(role) = role { item["role"] = json!(role); }
        if let Some(empty) = empty { item["content"] = empty; }
        if let Some(status) = status { item["status"] = json!(status); }
        let request = read(Shape::Responses, &json!({"model": "m", "input": [{"role": "user", "content": "a"}, item]}));
        for unknown in [Unknown::Refuse, Unknown::Count] {
            let refused = request.refuse_unpriced_fields(unknown);
            let param = refused.err().and_then(|error| error.param);
            prop_assert_eq!(param.as_deref(), Some("input"), "{}", item);
        }
    }

    /// A tool of Anthropic's that isn't named is refused, however it begins.
    #[test]
    fn only_named_tools_run_at_the_client(
        kind in "(bash_|text_editor_|computer_|memory_|browser_toolset_|web_search_)?[a-z_]{0,15}[0-9]{0,8}",
    ) {
        let body = json!({"model": "m", "max_tokens": 5, "messages": [], "tools": [{"type": kind, "name": "bash"}]});
        let known = kind == "custom" || crate::anthropic::tokens_of_tool(&kind).is_some();
        for unknown in [Unknown::Refuse, Unknown::Count] {
            let taken = read(Shape::Messages, &body).refuse_unpriced_fields(unknown).is_ok();
            prop_assert_eq!(taken, known, "{}", kind);
        }
    }
}
