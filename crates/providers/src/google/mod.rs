//! Google's Gemini API.

use crate::protocol::{KeyHeader, Protocol, Setup};
use crate::registry::Entry;

/// Google's Gemini API.
pub(crate) static GOOGLE: Entry = Entry {
    name: "google",
    provider: "google_genai",
    base_url: "https://generativelanguage.googleapis.com",
    key_variable: "GOOGLE_API_KEY",
    needs_key: true,
    by_environment: Some("GOOGLE_API_BASE_URL"),
    key_header: KeyHeader::Named("x-goog-api-key"),
    headers: &[],
    open,
};

fn open(_: &Setup) -> Result<Box<dyn Protocol>, String> {
    Err("this kind of provider is not ready yet".into())
}
