//! What to do with a kind of thing that we don't know, where the kinds that there are are known.
//!
//! The rule it protects: what is unknown can't be bounded, so it is refused where a bound is promised; elsewhere it passes,
//! counted as its JSON, so that a vendor's next kind fails for nobody.

use std::fmt::Display;

use serde_json::Value;

use super::bad;
use crate::BadRequest;

/// So many kinds of one request are told; a request may have thousands.
const MOST: usize = 8;
/// The most characters of a name that a client chose.
const LONGEST: usize = 64;

/// What to do with kinds of items, parts, blocks and roles that we don't know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// Refuse them: what they cost can't be bounded.
    Refuse,
    /// Let them pass, counted as their JSON.
    Count,
}

/// The kinds of a request, as they are looked at.
#[derive(Debug)]
pub(crate) struct Kinds {
    unknown: Unknown,
    found: Vec<String>,
}

impl Kinds {
    pub(crate) const fn new(unknown: Unknown) -> Self {
        Self { unknown, found: Vec::new() }
    }

    /// What was unknown and passes, once each: safe to log.
    pub(crate) fn into_found(self) -> Vec<String> {
        self.found
    }

    /// Whether `value` is one of `known`; if it is not, it is refused or noted. `at`: where it stands; `what`: what such
    /// a value is called.
    ///
    /// # Errors
    /// Says where it is and what is known.
    pub(crate) fn check(
        &mut self,
        value: Option<&Value>,
        known: &[&str],
        what: &str,
        at: impl Display,
    ) -> Result<bool, BadRequest> {
        match value.and_then(Value::as_str) {
            Some(kind) if known.contains(&kind) => Ok(true),
            _ => self.unknown(value, known, what, at).map(|()| false),
        }
    }

    /// Something unknown: refused or noted.
    ///
    /// # Errors
    /// Says where it is and what is known.
    pub(crate) fn unknown(
        &mut self,
        kind: Option<&Value>,
        known: &[&str],
        what: &str,
        at: impl Display,
    ) -> Result<(), BadRequest> {
        let name = match kind {
            None | Some(Value::Null) => format!("something without a {what}"),
            Some(Value::String(kind)) => format!("the {what} `{}`", printable(kind)),
            Some(_) => format!("a {what} that is no text"),
        };
        let at = at.to_string();
        if self.unknown == Unknown::Refuse {
            let field = at.split('.').next().unwrap_or_default().to_owned();
            let message = format!(
                "`{at}`: {name} is not known here, so what it costs can't be bounded; known are {}",
                known.join(", ")
            );
            return Err(bad(message, &field));
        }
        let place: Vec<&str> = at.split('.').filter(|part| part.parse::<usize>().is_err()).collect();
        let told = format!("{name} in {}", place.join("."));
        if self.found.len() < MOST && !self.found.contains(&told) {
            self.found.push(told);
        }
        Ok(())
    }
}

/// A client's text, short and without what a terminal or a log could stumble over.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .take(LONGEST)
        .map(|letter| if letter.is_ascii_graphic() || letter == ' ' { letter } else { '?' })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_unknown_is_refused_with_words_or_told_once() {
        let check = |kinds: &mut Kinds, value: &Value| {
            kinds.check(Some(value), &["a", "b"], "type", "input.3.content.0")
        };
        let mut refusing = Kinds::new(Unknown::Refuse);
        assert_eq!(check(&mut refusing, &json!("a")), Ok(true));
        let error = check(&mut refusing, &json!("c\u{1b}")).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("input"));
        assert!(error.message.contains("`input.3.content.0`: the type `c?`"), "{error}");
        assert!(error.message.ends_with("known are a, b"), "{error}");
        for odd in [json!(null), json!(7), json!(["a"]), json!(""), json!("A")] {
            assert!(check(&mut refusing, &odd).is_err(), "{odd}");
        }
        let mut counting = Kinds::new(Unknown::Count);
        for value in [json!("a"), json!("c"), json!("c"), json!(7), json!(8), json!(null)] {
            check(&mut counting, &value).unwrap();
        }
        let found = counting.into_found();
        let told = ["the type `c`", "a type that is no text", "something without a type"];
        assert_eq!(found, told.map(|told| format!("{told} in input.content")));
        let mut many = Kinds::new(Unknown::Count);
        for number in 0..100 {
            check(&mut many, &json!(format!("{}{number}", "x".repeat(60)))).unwrap();
        }
        assert!(many.into_found().len() <= MOST);
    }
}
