//! Names of fields that another server would read as one of ours.
//!
//! The rule it protects: what was priced is what is sent. Servers written in Go match names without case, and the last one
//! wins (`encoding/json`, "Unmarshal"): beside `max_tokens` no `Max_Tokens` may stand.

use std::borrow::Cow;
use std::fmt::Display;

use serde_json::{Map, Value};

use crate::BadRequest;

/// A name in the form in which all that are the same without case are equal. Two letters beyond ASCII fold to one of it
/// (Unicode, `CaseFolding.txt`): the long s and the sign of the kelvin.
pub(crate) fn folded(name: &str) -> Cow<'_, str> {
    if is_folded(name) {
        return Cow::Borrowed(name);
    }
    let letter = |letter: char| match letter {
        '\u{17F}' => 's',
        '\u{212A}' => 'k',
        letter => letter.to_ascii_lowercase(),
    };
    Cow::Owned(name.chars().map(letter).collect())
}

fn is_folded(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase())
}

/// Refuses a name in `object` that is one of `known` but for its case. `at`: where the object is, empty at the top.
///
/// # Errors
/// Names the field.
pub(crate) fn refuse_lookalikes(
    object: &Map<String, Value>,
    known: &[&[&str]],
    at: impl Display,
) -> Result<(), BadRequest> {
    for name in object.keys().filter(|name| !is_folded(name)) {
        let plain = folded(name);
        let known = || known.iter().copied().flatten().copied();
        if known().any(|known| known == name) {
            continue;
        }
        let Some(ours) = known().find(|known| folded(known) == plain) else { continue };
        let at = at.to_string();
        let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        let message =
            format!("`{path}` can't be used here: some servers would take it for `{ours}`; write `{ours}`");
        return Err(BadRequest::new(message, Some(path)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn refused(object: &Value) -> Option<String> {
        let known: &[&[&str]] = &[&["max_tokens", "kind"], &["generationConfig"]];
        refuse_lookalikes(object.as_object().unwrap(), known, "").err().and_then(|error| error.param)
    }

    #[test]
    fn only_what_looks_like_ours_is_refused() {
        for name in ["Max_Tokens", "MAX_TOKENS", "max_to\u{212A}enS", "max_token\u{17F}", "generationconfig"]
        {
            let expected = (name != "generationconfig").then_some(name);
            assert_eq!(refused(&json!({ name: 1 })).as_deref(), expected, "{name}");
        }
        for name in ["max_tokens", "generationConfig", "Other", "größe", "maxTokens", "\u{130}"] {
            assert_eq!(refused(&json!({ name: 1 })), None, "{name}");
        }
        assert_eq!(refused(&json!({"GENERATIONCONFIG": 1})).as_deref(), Some("GENERATIONCONFIG"));
    }

    proptest! {
        #[test]
        fn no_case_of_a_name_passes(upper in prop::collection::vec(any::<bool>(), 10), foreign in any::<bool>()) {
            let name: String = "max_tokens"
                .chars()
                .zip(upper)
                .map(|(letter, upper)| match letter {
                    's' if upper && foreign => '\u{17F}',
                    'k' if upper && foreign => '\u{212A}',
                    letter if upper => letter.to_ascii_uppercase(),
                    letter => letter,
                })
                .collect();
            prop_assert_eq!(folded(&name), "max_tokens");
            prop_assert_eq!(refused(&json!({ name.as_str(): 1 })).is_none(), name == "max_tokens");
        }
    }
}
