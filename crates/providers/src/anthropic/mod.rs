//! Anthropic's Messages API.

use crate::protocol::{KeyHeader, Protocol, Setup};
use crate::registry::Entry;

/// Anthropic's Messages API.
pub(crate) static ANTHROPIC: Entry = Entry {
    name: "anthropic",
    provider: "anthropic",
    base_url: "https://api.anthropic.com",
    key_variable: "ANTHROPIC_API_KEY",
    needs_key: true,
    by_environment: Some("ANTHROPIC_API_BASE_URL"),
    key_header: KeyHeader::Named("x-api-key"),
    headers: &[("anthropic-version", "2023-06-01")],
    open,
};

fn open(_: &Setup) -> Result<Box<dyn Protocol>, String> {
    Err("this kind of provider is not ready yet".into())
}

/// Stands in until this kind is ready.
pub(crate) fn refuse(_: &serde_json::Map<String, serde_json::Value>) -> Result<(), crate::BadRequest> {
    Ok(())
}
