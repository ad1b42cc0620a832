//! The kinds of servers that we know, one entry each. A new kind is a folder of its own and a line here.

use std::fmt;
use std::str::FromStr;

use url::Url;

use crate::protocol::{KeyHeader, Protocol, Setup};
use crate::{anthropic, google, mistral, ollama, openai};

/// A kind of server: what to call it, where it is by default, how it takes our key, and who speaks its protocol.
#[derive(Debug)]
pub struct Entry {
    /// As the configuration names it.
    pub name: &'static str,
    /// The price table's provider, where nothing else is said.
    pub provider: &'static str,
    /// Where such servers are, where nothing else is said; empty if that can't be known.
    pub base_url: &'static str,
    /// The environment variable that holds our key, as the vendor names it; empty for servers without keys.
    pub key_variable: &'static str,
    /// Whether such a server can't be used without a key.
    pub needs_key: bool,
    /// The environment variable that holds its address, if the environment alone may configure such a server.
    pub by_environment: Option<&'static str>,
    /// How the key is sent.
    pub(crate) key_header: KeyHeader,
    /// Sent with each request.
    pub(crate) headers: &'static [(&'static str, &'static str)],
    /// Sets up the protocol.
    pub(crate) open: fn(&Setup) -> Result<Box<dyn Protocol>, String>,
}

/// All of them.
pub(crate) static ENTRIES: &[&Entry] = &[
    &openai::OPENAI,
    &anthropic::ANTHROPIC,
    &google::GOOGLE,
    &mistral::MISTRAL,
    &ollama::OLLAMA,
    &openai::AZURE,
    &openai::OPENROUTER,
    &openai::DEEPSEEK,
    &openai::GROQ,
    &openai::VLLM,
    &openai::TGI,
    &openai::LITELLM,
    &openai::XAI,
    &openai::PERPLEXITY,
    &openai::MOONSHOT,
    &openai::DASHSCOPE,
    &openai::TOGETHER,
    &openai::FIREWORKS,
    &openai::VOYAGE,
];

/// The protocol that a server speaks.
#[derive(Clone, Copy)]
pub struct Kind(pub(crate) &'static Entry);

impl Kind {
    /// OpenAI's, and all that are compatible with it.
    pub const OPENAI: Self = Self(&openai::OPENAI);
    /// Anthropic's Messages API.
    pub const ANTHROPIC: Self = Self(&anthropic::ANTHROPIC);
    /// Google's Gemini API.
    pub const GOOGLE: Self = Self(&google::GOOGLE);
    /// Mistral's.
    pub const MISTRAL: Self = Self(&mistral::MISTRAL);
    /// Ollama's own.
    pub const OLLAMA: Self = Self(&ollama::OLLAMA);

    /// All kinds.
    pub fn all() -> impl Iterator<Item = Self> {
        ENTRIES.iter().map(|entry| Self(entry))
    }

    /// The kind of a server at that address: Azure's servers have a dialect of their own, also where they are called
    /// compatible with OpenAI's.
    pub(crate) fn at(self, base_url: &Url) -> Self {
        if self == Self::OPENAI && openai::is_azure(base_url) { Self(&openai::AZURE) } else { self }
    }

    /// What is known of it.
    pub const fn entry(self) -> &'static Entry {
        self.0
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Kind {}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::all().find(|kind| kind.0.name.eq_ignore_ascii_case(text)).ok_or_else(|| {
            let names: Vec<&str> = Self::all().map(|kind| kind.0.name).collect();
            format!(
                "`{text}` is no kind of provider that this program knows: write one of {}",
                names.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_addresses_can_be_read() {
        for entry in ENTRIES {
            assert_eq!(ENTRIES.iter().filter(|other| other.name == entry.name).count(), 1, "{}", entry.name);
            assert!(entry.base_url.is_empty() || url::Url::parse(entry.base_url).is_ok(), "{}", entry.name);
        }
        assert!("telepathy".parse::<Kind>().unwrap_err().contains("anthropic"));
    }
}
