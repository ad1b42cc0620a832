//! Mistral's API.

use crate::protocol::{KeyHeader, Protocol, Setup};
use crate::registry::Entry;

/// Mistral's API.
pub(crate) static MISTRAL: Entry = Entry {
    name: "mistral",
    provider: "mistral",
    base_url: "https://api.mistral.ai/v1",
    key_variable: "MISTRAL_API_KEY",
    needs_key: true,
    by_environment: Some("MISTRAL_API_BASE_URL"),
    key_header: KeyHeader::Bearer,
    headers: &[],
    open,
};

fn open(_: &Setup) -> Result<Box<dyn Protocol>, String> {
    Err("this kind of provider is not ready yet".into())
}
