//! The model servers that requests bring along: a pipe's settings count at once, because each request names them.
//!
//! The rule it protects: only a private gateway believes such a header, so no client of a public one can send a request,
//! or a key of ours, to a server of its choice.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use accounting::ProviderName;
use http::{HeaderMap, HeaderName};
use providers::{Kind, Network, Provider, ProviderConfig, ProviderOptions, Secret, TimeLimits};
use serde::Deserialize;
use storage::admin::keys;
use url::Url;

use crate::error::ApiError;

/// Names the model server of a request, as a line of JSON.
pub(crate) const SERVER: HeaderName = HeaderName::from_static("x-tracking-server");
/// So many servers, with their connections, are kept; a changed setting makes a new one.
const MOST: usize = 64;
/// Seconds; no time limit is longer than a day.
const LONGEST: u64 = 86_400;

/// What the header says. Times in seconds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
    kind: String,
    base_url: Option<String>,
    api_key: Option<String>,
    api_version: Option<String>,
    #[serde(default)]
    permissive_safety: bool,
    stream_options: Option<bool>,
    cache_in_input: Option<bool>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    connect_timeout: Option<u64>,
    first_byte_timeout: Option<u64>,
    idle_timeout: Option<u64>,
}

/// The servers that requests have named.
#[derive(Debug)]
pub(crate) struct Servers {
    /// Whether requests may name servers at all.
    private: bool,
    network: Network,
    /// By the hash of what the header said: it holds a key.
    known: Mutex<HashMap<String, Provider>>,
}

impl Servers {
    pub(crate) fn new(private: bool, network: Network) -> Self {
        Self { private, network, known: Mutex::default() }
    }

    /// The server that the request names, if it names one.
    pub(crate) fn named(&self, headers: &HeaderMap) -> Result<Option<Provider>, ApiError> {
        let Some(value) = headers.get(SERVER) else { return Ok(None) };
        let wrong = |what: String| ApiError::bad_request(format!("The header {SERVER}: {what}."), None);
        if !self.private {
            return Err(wrong("requests to this gateway can't choose a model server".into()));
        }
        let text = value.to_str().map_err(|_| wrong("write it in ASCII".into()))?;
        let hash = keys::hash(text);
        if let Some(provider) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&hash) {
            return Ok(Some(provider.clone()));
        }
        // The text holds a key: what is wrong with it is said without it.
        let named: Named = serde_json::from_str(text)
            .map_err(|error| wrong(format!("it is no such JSON object ({:?})", error.classify())))?;
        let provider = named.open(&self.network).map_err(wrong)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(hash, provider.clone());
        Ok(Some(provider))
    }
}

impl Named {
    fn open(self, network: &Network) -> Result<Provider, String> {
        let kind: Kind = self.kind.parse()?;
        let base_url = self.base_url.filter(|url| !url.is_empty());
        let base_url = base_url.unwrap_or_else(|| kind.entry().base_url.into());
        let defaults = TimeLimits::default();
        let limit = |what: &str, seconds: Option<u64>, default: Duration| match seconds {
            None => Ok(default),
            Some(seconds) if (1..=LONGEST).contains(&seconds) => Ok(Duration::from_secs(seconds)),
            Some(_) => Err(format!("{what} is in seconds, from 1 to {LONGEST}")),
        };
        let config = ProviderConfig {
            name: ProviderName::new(&self.name).map_err(|error| error.to_string())?,
            kind,
            base_url: Url::parse(&base_url)
                .map_err(|error| format!("its base_url can't be read: {error}"))?,
            api_key: self.api_key.filter(|key| !key.trim().is_empty()).map(Secret::new),
            limits: TimeLimits {
                connect: limit("connect_timeout", self.connect_timeout, defaults.connect)?,
                first_byte: limit("first_byte_timeout", self.first_byte_timeout, defaults.first_byte)?,
                idle: limit("idle_timeout", self.idle_timeout, defaults.idle)?,
            },
            options: ProviderOptions {
                api_version: self.api_version,
                permissive_safety: self.permissive_safety,
                stream_options: self.stream_options,
                cache_in_input: self.cache_in_input,
                headers: self.headers.into_iter().map(|(name, value)| (name, Secret::new(value))).collect(),
            },
            network: network.clone(),
        };
        Provider::new(config).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn named(private: bool, text: &'static str) -> Result<Option<Provider>, ApiError> {
        let headers = HeaderMap::from_iter([(SERVER, HeaderValue::from_static(text))]);
        Servers::new(private, Network::default()).named(&headers)
    }

    const GOOD: &str = r#"{"name":"OpenAI","kind":"openai","api_key":"sk-1"}"#;

    #[test]
    fn all_options_of_a_provider_can_be_named() {
        let all = r#"{"name":"a","kind":"anthropic","api_key":"sk-1","stream_options":false,"cache_in_input":true,
            "permissive_safety":true,"api_version":"1","headers":{"X-Team":"physics"}}"#;
        let named: Named = serde_json::from_str(all).unwrap();
        assert_eq!((named.stream_options, named.cache_in_input), (Some(false), Some(true)));
        assert!(named.open(&Network::default()).is_ok());
    }

    #[test]
    fn only_a_private_gateway_is_told_where_to_send_requests() {
        assert_eq!(named(true, GOOD).unwrap().unwrap().name().as_str(), "openai");
        assert_eq!(named(false, GOOD).unwrap_err().status, 400);
        assert!(Servers::new(false, Network::default()).named(&HeaderMap::new()).unwrap().is_none());
    }

    #[test]
    fn the_same_server_keeps_its_connections() {
        let (servers, headers) = (
            Servers::new(true, Network::default()),
            HeaderMap::from_iter([(SERVER, HeaderValue::from_static(GOOD))]),
        );
        servers.named(&headers).unwrap();
        servers.named(&headers).unwrap();
        assert_eq!(servers.known.lock().unwrap().len(), 1);
        assert!(!format!("{servers:?}").contains("sk-1"));
    }

    #[test]
    fn mistakes_are_named_without_the_key() {
        for (text, says) in [
            (r#"{"name":"a","kind":"telepathy","api_key":"sk-1"}"#, "telepathy"),
            (r#"{"name":"a","kind":"openai","api_key":"sk-1","base_url":"x"}"#, "base_url"),
            (r#"{"name":"a","kind":"openai","api_key":"sk-1","idle_timeout":0}"#, "idle_timeout"),
            (
                r#"{"name":"a","kind":"openai","api_key":"sk-1","headers":{"Authorization":"sk-1"}}"#,
                "authorization",
            ),
            (r#"{"name":"a","kind":"openai","api_key":"sk-1","other":0}"#, "JSON"),
            ("sk-1", "JSON"),
        ] {
            let error = named(true, text).unwrap_err();
            assert!(error.message.contains(says) && !error.message.contains("sk-1"), "{}", error.message);
        }
    }
}
