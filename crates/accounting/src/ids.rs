//! Ids as types of their own, so that no mistake can swap two of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use crate::Error;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// An id that comes with a request. Beside what `new` refuses it has no [hidden](crate::is_hidden) character: one
            /// could pass for another in every list. It is refused and not cleaned as a label is, because two ids must never
            /// become one. What was taken before can still be read, by `new`.
            pub fn from_outside(text: &str) -> Result<Self, Error> {
                if text.chars().any(crate::is_hidden) {
                    let shown = text.escape_default().take(80).collect();
                    return Err(Error::Malformed(shown, "id: it has characters that do not show"));
                }
                Self::new(text.to_owned())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            /// As `new`: what is read back is checked as what comes in.
            fn try_from(text: String) -> Result<Self, Error> {
                Self::new(text)
            }
        }
    };
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        ///
        /// Written as 32 lower-case hex digits, as the database keeps it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(#[serde(with = "uuid::serde::simple")] Uuid);

        impl $name {
            /// The id of that UUID.
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// As a UUID.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.simple(), f)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            /// Reads a UUID in any of its usual forms.
            fn from_str(text: &str) -> Result<Self, Error> {
                Uuid::try_parse(text).map(Self).map_err(|_| Error::Malformed(text.to_owned(), $what))
            }
        }
    };
}

text_id! {
    /// A user of Open WebUI (its `user.id`), or of the gateway alone.
    UserId
}
text_id! {
    /// A model as its provider names it.
    ModelId
}
text_id! {
    /// The price table's provider, always in lower case: two spellings of one provider are one.
    ProviderName
}
uuid_id! {
    /// One request of ours (UUIDv7), never an id that a client chose.
    RequestId, "request id"
}
uuid_id! {
    /// A process that owns holds.
    OwnerId, "owner id"
}
uuid_id! {
    /// A sponsored allowance.
    SponsoredId, "sponsored allowance id"
}

/// The version of a price: a row of the price table that never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PriceVersion(pub i64);

/// The most characters an id may have: what Open WebUI's own tables take.
const MAX_TEXT: usize = 255;

impl UserId {
    /// The id, if it is one that a database can keep: 1 to 255 characters, no control characters.
    pub fn new(text: impl Into<String>) -> Result<Self, Error> {
        checked(text.into(), "user id (1 to 255 characters, none of them a control character)").map(Self)
    }
}

impl ModelId {
    /// The id, if it is one that a database can keep: 1 to 255 characters, no control characters.
    pub fn new(text: impl Into<String>) -> Result<Self, Error> {
        checked(text.into(), "model id (1 to 255 characters, none of them a control character)").map(Self)
    }
}

impl ProviderName {
    /// The name in lower case: 1 to 255 characters, no control characters.
    pub fn new(text: impl AsRef<str>) -> Result<Self, Error> {
        checked(
            text.as_ref().to_lowercase(),
            "provider name (1 to 255 characters, none of them a control character)",
        )
        .map(Self)
    }
}

fn checked(text: String, what: &'static str) -> Result<String, Error> {
    let fits = !text.is_empty() && text.chars().count() <= MAX_TEXT && !text.chars().any(char::is_control);
    if fits { Ok(text) } else { Err(Error::Malformed(text.escape_default().take(80).collect(), what)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provider_names_have_one_spelling() {
        assert_eq!(ProviderName::new("OpenAI").unwrap(), ProviderName::new("openai").unwrap());
    }

    #[test]
    fn what_no_database_keeps_is_refused() {
        assert!(UserId::new("").is_err());
        assert!(UserId::new("a\0b").is_err());
        for hidden in ["a\u{202e}b", "a\u{200b}b", "a\u{feff}", "\u{2066}a"] {
            assert!(UserId::from_outside(hidden).is_err(), "{hidden:?}");
            // As older versions took it.
            assert_eq!(UserId::new(hidden).unwrap().as_str(), hidden);
        }
        assert_eq!(UserId::from_outside("ann\u{200d}ü").unwrap(), UserId::new("ann\u{200d}ü").unwrap());
        for character in ('\0'..=' ').chain('\u{7f}'..='\u{9f}').filter(|character| *character != ' ') {
            assert!(ModelId::new(format!("a{character}b")).is_err(), "{character:?}");
        }
        assert!(UserId::new("ü".repeat(256)).is_err());
        assert!(UserId::new("ü".repeat(255)).is_ok());
    }
}
