//! Ollama's own API.

use crate::protocol::{KeyHeader, Protocol, Setup};
use crate::registry::Entry;

/// Ollama's own API.
pub(crate) static OLLAMA: Entry = Entry {
    name: "ollama",
    provider: "ollama",
    base_url: "http://localhost:11434",
    key_variable: "OLLAMA_API_KEY",
    needs_key: false,
    by_environment: Some("OLLAMA_BASE_URL"),
    key_header: KeyHeader::Bearer,
    headers: &[],
    open,
};

fn open(_: &Setup) -> Result<Box<dyn Protocol>, String> {
    Err("this kind of provider is not ready yet".into())
}
