use super::*;

fn chunk(json: &str) -> Chunk {
    match event(&Bytes::copy_from_slice(json.as_bytes()), &mut Report::default()) {
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
    let of = |text: &'static str| event(&Bytes::from_static(text.as_bytes()), &mut Report::default());
    let only = |what| Read { what, ended: 0, error: None, mended: None };
    assert_eq!(of("[DONE]"), only(What::Done));
    assert_eq!(of(""), only(What::Other));
    assert_eq!(of("{half"), only(What::Other));
    assert_eq!(event(&Bytes::from_static(b"\xff\xfe"), &mut Report::default()), only(What::Other));
}

#[test]
fn bytes_that_are_no_utf_8_are_read_all_the_same() {
    for (bytes, produced) in [
        (&b"{\"id\":\"\xff\",\"choices\":[{\"delta\":{\"content\":\"ab\"}}]}"[..], "ab"),
        (b"{\"choices\":[{\"delta\":{\"content\":\"a\xe2\x82\"}}]}", "a\u{fffd}"),
    ] {
        let Read { what: What::Chunk(chunk), .. } =
            event(&Bytes::copy_from_slice(bytes), &mut Report::default())
        else {
            panic!()
        };
        assert_eq!(chunk.produced, produced);
    }
    let usage = b"{\"id\":\"\xff\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}";
    let Read { what: What::Chunk(chunk), .. } = event(&Bytes::from_static(usage), &mut Report::default())
    else {
        panic!()
    };
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
