//! Text from outside: labels of requests, names of users, words of providers.
//!
//! The rule it protects: what outsiders write can't stop a charge and can't pass for something else. PostgreSQL refuses NUL,
//! terminals obey control characters, and invisible characters make one name look like another. A [`Label`] has none of them,
//! however it was made: the constructor replaces them, and so does reading one back from a database that an older version wrote.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize};

use crate::Error;

/// The most characters of a label: what Open WebUI's and the original's columns take.
const LONGEST: usize = 255;
/// Stands for a character that a label can't have: visible, so that the text matches no name without it.
const REPLACED: char = char::REPLACEMENT_CHARACTER;
/// Ends a label that was longer: so it matches nothing that really is that short.
const CUT: char = '…';

/// A short text from outside, safe to keep and to compare: at most 255 characters, none of them [hidden](is_hidden), without
/// space around it. May be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Label(String);

impl Label {
    /// The text, cleaned: line ends and tabs become spaces, other hidden characters `�`, and what is too long is cut and ends
    /// with `…`. Never refuses: a request must not fail, nor go uncharged, for the sake of a label.
    pub fn new(text: &str) -> Self {
        let text = text.trim();
        if text.len() <= LONGEST && is_plain(text) {
            return Self(text.to_owned());
        }
        let mut label: String = text.chars().take(LONGEST).map(shown).collect();
        if text.chars().nth(LONGEST).is_some() {
            label.pop();
            label.push(CUT);
        }
        Self(label)
    }

    /// The text, cleaned; `None` if it says nothing.
    pub fn some(text: &str) -> Option<Self> {
        Some(Self::new(text)).filter(|label| !label.is_empty())
    }

    /// The label as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn shown(character: char) -> char {
    match character {
        '\t' | '\n' | '\r' => ' ',
        hidden if is_hidden(hidden) => REPLACED,
        other => other,
    }
}

/// Whether a text is of printable ASCII alone, as most are: nothing in it is [hidden](is_hidden).
pub fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Whether a character does not show as itself: control characters, line separators, and format characters of Unicode that
/// reverse, split or hide text. The joiners that Persian and emoji need are none of them.
pub const fn is_hidden(character: char) -> bool {
    // Cc; and Cf with Zl and Zp, but for U+200C and U+200D (Unicode 16, "General_Category").
    matches!(character,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
        | '\u{890}' | '\u{891}' | '\u{8e2}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
        | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}')
}

/// Checks a name that an administrator gives: unlike a [`Label`] it is refused, not cleaned, because whoever wrote it can
/// write it again.
///
/// # Errors
/// [`Error::BadText`] for hidden characters, for nothing, and for more than `longest` characters.
pub fn check_name(text: &str, what: &'static str, longest: usize) -> Result<(), Error> {
    if text.is_empty() { Err(Error::BadText { what, longest }) } else { check_text(text, what, longest) }
}

/// The same for a text that may be empty, such as a description.
///
/// # Errors
/// [`Error::BadText`] for hidden characters and for more than `longest` characters.
pub fn check_text(text: &str, what: &'static str, longest: usize) -> Result<(), Error> {
    let fits = text.chars().count() <= longest && !text.chars().any(is_hidden);
    if fits { Ok(()) } else { Err(Error::BadText { what, longest }) }
}

impl Deref for Label {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<&str> for Label {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Label {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0
    }
}

impl PartialEq<str> for Label {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for Label {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_does_not_show_is_replaced() {
        for (text, expected) in [
            ("a\0b", "a\u{fffd}b"),
            ("\u{1b}[31mred\u{9b}", "\u{fffd}[31mred\u{fffd}"),
            ("dept---\u{200b}gpt", "dept---\u{fffd}gpt"),
            ("user\u{202e}nimda", "user\u{fffd}nimda"),
            ("two\r\nlines\tand", "two  lines and"),
            ("  Ann Müller \n", "Ann Müller"),
            ("می\u{200c}خواهم 👩\u{200d}💻", "می\u{200c}خواهم 👩\u{200d}💻"),
            ("\n\t", ""),
        ] {
            assert_eq!(Label::new(text), expected, "{text:?}");
        }
        assert_eq!(Label::some(" \r\n"), None);
    }

    #[test]
    fn what_is_too_long_is_cut_at_a_character_and_says_so() {
        assert_eq!(Label::new(&"ü".repeat(255)), "ü".repeat(255).as_str());
        assert_eq!(Label::new(&"ü".repeat(256)), format!("{}…", "ü".repeat(254)).as_str());
    }

    #[test]
    fn names_of_administrators_are_refused_instead() {
        assert!(check_name("Staff of 2026", "a name", 255).is_ok());
        for wrong in ["", "a\0b", "a\u{202e}b", "a\nb"] {
            assert!(check_name(wrong, "a name", 255).is_err(), "{wrong:?}");
        }
        assert!(
            check_text("", "a description", 10).is_ok() && check_text("12345678901", "a text", 10).is_err()
        );
    }

    proptest! {
        #[test]
        fn a_label_is_clean_and_stays_as_it_is(text in any::<String>()) {
            let label = Label::new(&text);
            prop_assert!(!label.chars().any(is_hidden) && label.chars().count() <= LONGEST);
            prop_assert_eq!(Label::new(&label), label.clone());
        }
    }
}
