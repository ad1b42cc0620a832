//! How much text a request is at most to a model of which nothing is known: for bounds.
//!
//! The rule it protects: a tokenizer whose smallest pieces are bytes makes at most one token of each byte that it reads. What
//! it reads may be longer than what was sent: many take characters apart first (Unicode, annex 15), and what is JSON is
//! written anew by templates, in lines and with escapes.

use unicode_normalization::UnicodeNormalization;

/// No parser of JSON goes deeper.
const DEEPEST: u64 = 128;
/// Spaces before a line for each level, in templates that write JSON for people.
const INDENT: u64 = 4;

/// How much text a request is at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TextSize {
    /// Bytes of all texts, in the longest form in which a tokenizer may read them.
    pub bytes: u64,
    /// How many texts there are; a template may write something between them.
    pub texts: u64,
    /// How many messages, or items of a conversation.
    pub messages: u64,
    /// How many tools, calls of tools and results of them.
    pub calls: u64,
}

impl TextSize {
    /// Adds a text of a client's own.
    pub(super) fn add(&mut self, text: &str) {
        self.texts += 1;
        self.bytes += plain(text);
    }

    /// Adds JSON, which a template writes anew.
    pub(super) fn add_json(&mut self, json: &str) {
        self.texts += 1;
        self.bytes += written_anew(json);
    }
}

/// Bytes of a text, as it is or taken apart.
fn plain(text: &str) -> u64 {
    let length = text.len() as u64;
    if text.is_ascii() {
        return length;
    }
    length.max(text.nfkd().map(|letter| letter.len_utf8() as u64).sum())
}

/// Bytes of JSON that is written with a line for each value, and with everything escaped that any writer escapes.
fn written_anew(json: &str) -> u64 {
    let (mut bytes, mut depth) = (0, 0_u64);
    let (mut in_text, mut escaped) = (false, false);
    for byte in json.bytes() {
        bytes += match byte {
            // `\u003c`
            b'<' | b'>' | b'&' | b'\'' => 6,
            // Six for each half of a pair; a character of two bytes takes six too.
            0x80.. => 3,
            b'"' | b'\\' => 2,
            _ => 1,
        };
        if in_text {
            (in_text, escaped) = (escaped || byte != b'"', !escaped && byte == b'\\');
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'{' | b'[' => depth = (depth + 1).min(DEEPEST),
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' | b':' => {}
            _ => continue,
        }
        if !in_text {
            bytes += if byte == b':' { 1 } else { 1 + INDENT * depth };
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn texts_are_as_long_as_their_longest_form() {
        for (text, bytes) in [
            ("", 0),
            ("abc", 3),
            ("größe", 8),
            // A greeting of eighteen letters in one character.
            ("\u{FDFA}", 33),
            ("\u{1D160}", 12),
            // Shorter when taken apart.
            ("\u{FF21}", 3),
        ] {
            assert_eq!(plain(text), bytes, "{text}");
        }
    }

    /// What a writer that escapes all beyond ASCII makes of it, and one that writes pages.
    fn escaped(text: &str) -> String {
        let mut out = String::new();
        for letter in text.chars() {
            if letter.is_ascii() && !"<>&'".contains(letter) {
                out.push(letter);
            } else {
                letter
                    .encode_utf16(&mut [0; 2])
                    .iter()
                    .for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
            }
        }
        out
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "\\PC*".prop_map(Value::from)
        ];
        leaf.prop_recursive(5, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec(("[a-z<\"é]{0,6}", inner), 0..5)
                    .prop_map(|fields| fields.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn json_is_at_least_as_long_as_any_writer_makes_it(value in any_json()) {
            let mut pretty = Vec::new();
            let lines = serde_json::ser::PrettyFormatter::with_indent(b"    ");
            serde::Serialize::serialize(&value, &mut serde_json::Serializer::with_formatter(&mut pretty, lines)).unwrap();
            let pretty = escaped(std::str::from_utf8(&pretty).unwrap());
            prop_assert!(written_anew(&value.to_string()) >= pretty.len() as u64, "{}", pretty);
        }
    }

    #[test]
    fn deep_json_has_an_end() {
        assert!(written_anew(&"[".repeat(10_000)) < 10_000 * (2 + INDENT * DEEPEST));
        assert_eq!(written_anew(&json!("a").to_string()), 5);
    }
}
