use serde_json::{Map, json};

use super::*;

fn memory(body: &str) -> usize {
    Outline::read(body.as_bytes()).unwrap().memory
}

/// What a value takes, from what its parts say of themselves.
fn taken(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 0,
        Value::Number(number) => number.as_str().len(),
        Value::String(text) => text.capacity(),
        Value::Array(list) => list.capacity() * VALUE + list.iter().map(taken).sum::<usize>(),
        Value::Object(map) => in_map(map),
    }
}

fn in_map(map: &Map<String, Value>) -> usize {
    let entries: usize = map.iter().map(|(name, value)| name.capacity() + taken(value)).sum();
    // A map does not tell its capacity: at least what is in it, and its table.
    entries + map.len() * (ENTRY + size_of::<usize>() + 1)
}

#[test]
fn what_is_counted_is_no_less_than_what_is_built() {
    let deep = format!("{}0{}", r#"{"a":"#.repeat(120), "}".repeat(120));
    let lists = format!("{}{}", "[".repeat(120), "]".repeat(120));
    for (piece, times) in [
        ("0,", 5000),
        ("[],", 5000),
        ("{},", 5000),
        (r#"{"":0},"#, 5000),
        (r#""a","#, 5000),
        (r#"{"a":1,"b":2,"c":3,"d":4},"#, 900),
        (r#"[0],"#, 5000),
        (r#""\u00e9\n\"","#, 5000),
        ("12345678901234567890.5e-7,", 2000),
        ("true,null , false,\n", 2000),
        (&format!("{deep},"), 20),
        (&format!("{lists},"), 20),
        (&format!("\"{}\",", "\\u0001".repeat(10_000)), 3),
        (&format!("\"{}\",", "x".repeat(100_000)), 3),
    ] {
        let body = format!("{{\"model\":\"m\",\"x\":[{}0]}}", piece.repeat(times));
        let built = taken(&serde_json::from_str(&body).unwrap());
        let counted = memory(&body);
        assert!(counted >= built, "{}: {counted} < {built}", &piece[..piece.len().min(30)]);
        // Nor is it far more, but for texts that are shorter without their escapes.
        assert!(
            counted <= 6 * built + 1000 || piece.contains('\\'),
            "{}: {counted} > {built}",
            &piece[..piece.len().min(30)]
        );
    }
    let names: Map<String, Value> =
        (0..5000).map(|number| (format!("name-{number}"), json!(number))).collect();
    let body = Value::Object(names);
    assert!(memory(&body.to_string()) >= taken(&body));
}

#[test]
fn ordinary_requests_take_a_few_times_their_size() {
    let tool = json!({"type": "function", "function": {"name": "search", "description": "x".repeat(300),
        "parameters": {"type": "object", "properties": {"query": {"type": "string"}, "limit": {"type": "integer"}}}}});
    let message = json!({"role": "user", "content": "word ".repeat(100)});
    let body = json!({"model": "m", "messages": vec![message; 1000], "tools": vec![tool; 30]}).to_string();
    assert!(memory(&body) < 4 * body.len(), "{} {}", memory(&body), body.len());
    let picture = json!({"model": "m", "messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{}", "A".repeat(1_000_000))}}]}]});
    let body = picture.to_string();
    assert!(memory(&body) < body.len() + 20_000, "{}", memory(&body));
}

#[test]
fn the_model_is_known_before() {
    for (body, model) in [
        (r#"{"model":"gpt","messages":[{"model":"other"}],"x":{"model":"y"}}"#, Some("gpt")),
        (r#"{"x":[1,2],"mod\u0065l" : "g\u0070t"}"#, Some("gpt")),
        // As the parser has it: the last one counts.
        (r#"{"model":"a","model":"b"}"#, Some("b")),
        (r#"{"x":"model","y":"z"}"#, None),
        (r#"{"model":5}"#, None),
        (r#"["model","m"]"#, None),
        ("", None),
        ("nonsense", None),
        (r#"{"model"#, None),
        (r#"{"model":"a\"#, None),
        ("]]}}", None),
    ] {
        assert_eq!(Outline::read(body.as_bytes()).unwrap().model.as_deref(), model, "{body}");
    }
}

#[test]
fn whatever_bytes_come_it_ends() {
    for first in 0..=u8::MAX {
        for second in [b' ', b'"', b'{', b'1', 0x0b, 0x0c, 0x7f, 0x80, first] {
            let _ = Outline::read(&[first, second]);
            let _ = Outline::of_embeddings(&[b"{\"input\":[1,", &[first, second][..], b"2]}"].concat());
        }
    }
}

#[test]
fn depth_is_bounded() {
    let deep = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    assert!(Outline::read(deep(126).as_bytes()).is_ok());
    assert!(serde_json::from_str::<Value>(&deep(126)).is_ok());
    let refused = Outline::read(deep(127).as_bytes()).unwrap_err();
    assert!(refused.message.contains("127"), "{}", refused.message);
    assert!(serde_json::from_str::<Value>(&deep(127)).is_err());
    // What is in a text is no depth.
    assert!(Outline::read(format!("{{\"a\":\"{}\"}}", "[{".repeat(5000)).as_bytes()).is_ok());
}

#[test]
fn names_that_the_parser_takes_for_its_own_are_refused() {
    for name in [
        "$serde_json::private::RawValue",
        "$serde_json::private::Number",
        r"\u0024serde_json::private::Number",
        r"$serde_json::private::\u004eumber",
    ] {
        for body in [
            format!("{{\"{name}\":\"1\"}}"),
            format!("{{\"model\":\"m\",\"messages\":[{{\"{name}\" : \"[[1]]\"}}]}}"),
            format!("[{{\"a\":1,\"{name}\":\"1\"}}]"),
        ] {
            assert!(Outline::read(body.as_bytes()).is_err(), "{body}");
        }
        // As a text it is one.
        assert!(Outline::read(format!("{{\"a\":\"{name}\"}}").as_bytes()).is_ok());
    }
}

#[test]
fn a_list_of_tokens_to_embed_takes_nothing() {
    let tokens = |list: &str| format!("{{\"model\":\"m\",\"input\":[{list}0],\"dimensions\":5}}");
    let memory = |body: &str| Outline::of_embeddings(body.as_bytes()).unwrap().memory;
    assert!(memory(&tokens(&"17,".repeat(300_000))) < 2000);
    assert!(memory(&tokens(&"[17,5],".repeat(1000))) < 2000);
    let texts = tokens(&"17,\"a\",".repeat(1000));
    assert_eq!(memory(&texts), Outline::read(texts.as_bytes()).unwrap().memory);
    let elsewhere = tokens("").replace("\"dimensions\":5", &format!("\"x\":[{}0]", "1,".repeat(1000)));
    assert!(memory(&elsewhere) > 70_000);
}
