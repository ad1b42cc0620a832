//! Text in JSON of any shape.

use std::io::{self, Write};

use serde_json::Value;

/// What stands under these names is no text that a model reads: kinds, ids, and data of pictures and files.
const NO_TEXT: [&str; 16] = [
    "type",
    "role",
    "id",
    "call_id",
    "tool_use_id",
    "status",
    "cache_control",
    "image_url",
    "file_data",
    "file_id",
    "file_url",
    "url",
    "data",
    "media_type",
    "encrypted_content",
    "signature",
];

/// Every text in `value` that a model reads.
pub(super) fn collect<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(list) => list.iter().for_each(|item| collect(item, texts)),
        Value::Object(object) => {
            for (name, value) in object.iter().filter(|(name, _)| !NO_TEXT.contains(&name.as_str())) {
                // Arguments and schemas: their names are read as well.
                if value.is_object() || matches!(name.as_str(), "input" | "arguments") {
                    texts.push(name);
                }
                collect(value, texts);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// How long a value is as JSON, without building it.
pub(super) fn json_length(value: &Value) -> u64 {
    struct Length(u64);
    impl Write for Length {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut length = Length(0);
    // Writing into a counter can't fail.
    let _ = serde_json::to_writer(&mut length, value);
    length.0
}
