//! The way to model servers: which proxy stands in it, and whose certificates are believed.
//!
//! This machine itself is never asked for through a proxy, whatever is set: what runs here is not reachable from there.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

/// Proxies and authorities, as the configuration or the environment names them.
#[derive(Debug, Clone, Default)]
pub struct Network {
    proxies: Option<Arc<Matcher>>,
    authorities: Option<PathBuf>,
}

/// A proxy for one server. Shown without its user and password.
#[derive(Clone)]
pub struct Proxy {
    pub(crate) uri: Uri,
    pub(crate) authorization: Option<HeaderValue>,
}

/// The variables that name proxies, as curl and Python read them; each also in small letters.
const VARIABLES: [&str; 3] = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"];

impl Network {
    /// What the environment says, and what in it can't be used: that counts as not set, as it may be there for others.
    pub fn from_environment(get: impl Fn(&str) -> Option<String>) -> (Self, Vec<String>) {
        let get = |name: &str| {
            let small = || get(&name.to_ascii_lowercase()).filter(|text| !text.is_empty());
            get(name).filter(|text| !text.is_empty()).or_else(small)
        };
        let mut unusable = Vec::new();
        let [https, http, all] = VARIABLES.map(|name| {
            let text = get(name).unwrap_or_default();
            match check(&text) {
                Err(why) if !text.is_empty() => {
                    unusable.push(format!("{name} is not used: {why}"));
                    String::new()
                }
                _ => text,
            }
        });
        if https.is_empty() && http.is_empty() && all.is_empty() {
            return (Self::default(), unusable);
        }
        let no = get("NO_PROXY").unwrap_or_default();
        let matcher = Matcher::builder().https(https).http(http).all(all).no(no).build();
        (Self { proxies: Some(Arc::new(matcher)), authorities: None }, unusable)
    }

    /// The same with that proxy for all servers but those of `except`, which is written as `NO_PROXY` is.
    ///
    /// # Errors
    /// Says what is wrong with its address, without showing it.
    pub fn through(self, proxy: &str, except: &str) -> Result<Self, String> {
        check(proxy)?;
        let matcher = Matcher::builder().all(proxy.to_owned()).no(except.to_owned()).build();
        Ok(Self { proxies: Some(Arc::new(matcher)), ..self })
    }

    /// The same without a proxy.
    #[must_use]
    pub fn direct(self) -> Self {
        Self { proxies: None, ..self }
    }

    /// The same with the authorities of that file (PEM) beside those of the machine.
    #[must_use]
    pub fn with_authorities(self, file: PathBuf) -> Self {
        Self { authorities: Some(file), ..self }
    }

    /// The proxy through which a server is asked, if there is one.
    pub fn proxy_to(&self, server: &Url) -> Option<Proxy> {
        if is_loopback(server.host_str()?) {
            return None;
        }
        let found = self.proxies.as_ref()?.intercept(&server.as_str().parse().ok()?)?;
        Some(Proxy { uri: found.uri().clone(), authorization: found.basic_auth().cloned() })
    }

    /// The file with more authorities.
    pub(crate) fn authorities(&self) -> Option<&Path> {
        self.authorities.as_deref()
    }
}

/// Whether that is the address of a proxy that we can use.
fn check(text: &str) -> Result<(), String> {
    let uri: Option<Uri> = text.parse().ok();
    let usable = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), None | Some("http" | "https"))
            && uri.authority().is_some_and(|authority| !authority.host().is_empty())
    });
    if usable {
        Ok(())
    } else {
        Err("it is no address of an HTTP proxy, such as http://proxy.example.org:3128".into())
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        write!(f, "{}://{authority}", self.uri.scheme_str().unwrap_or("http"))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Whether a host, as a URL names it, is this machine itself.
pub fn is_loopback(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        // No resolver answers these otherwise (RFC 6761).
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> (Network, Vec<String>) {
        Network::from_environment(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn proxy(network: &Network, server: &str) -> Option<String> {
        network.proxy_to(&server.parse().unwrap()).map(|proxy| proxy.to_string())
    }

    #[test]
    fn the_environment_as_others_read_it() {
        let (network, unusable) = environment(&[
            ("https_proxy", "http://ann:s%40cret@proxy.example:3128"),
            ("HTTP_PROXY", "plain.example:8080"),
            ("NO_PROXY", "internal.example, 10.0.0.0/8"),
        ]);
        assert_eq!(unusable, [""; 0]);
        assert_eq!(
            proxy(&network, "https://api.openai.com/v1").as_deref(),
            Some("http://proxy.example:3128")
        );
        assert_eq!(proxy(&network, "http://vllm.example/v1").as_deref(), Some("http://plain.example:8080"));
        for direct in ["https://internal.example", "https://llm.internal.example", "http://10.1.2.3/v1"] {
            assert_eq!(proxy(&network, direct), None, "{direct}");
        }
        let with_password = network.proxy_to(&"https://api.openai.com".parse().unwrap()).unwrap();
        assert!(with_password.authorization.is_some());
        assert!(!format!("{network:?} {with_password:?}").contains("cret"));
        let (all, _) = environment(&[("ALL_PROXY", "http://proxy.example:3128"), ("no_proxy", "*")]);
        assert_eq!(proxy(&all, "https://api.openai.com"), None);
    }

    #[test]
    fn this_machine_is_never_behind_a_proxy() {
        let network = Network::default().through("http://proxy.example:3128", "").unwrap();
        for here in [
            "http://localhost:11434",
            "https://LOCALHOST/v1",
            "http://127.0.0.1:8000",
            "http://127.8.8.8",
            "http://[::1]:1",
            "http://ollama.localhost",
        ] {
            assert_eq!(proxy(&network, here), None, "{here}");
        }
        assert!(proxy(&network, "http://localhost.example").is_some());
        assert_eq!(proxy(&network.direct(), "http://example.org"), None);
    }

    #[test]
    fn what_is_no_proxy_is_said_without_its_password() {
        for wrong in ["socks5://ann:secret@proxy:1080", "not a proxy:secret", "http://", "ftp://secret@x"] {
            let why = Network::default().through(wrong, "").unwrap_err();
            assert!(why.contains("proxy.example.org") && !why.contains("secret"), "{why}");
            let (network, unusable) = environment(&[("ALL_PROXY", wrong)]);
            assert!(unusable[0].contains("ALL_PROXY") && !unusable[0].contains("secret"), "{unusable:?}");
            assert_eq!(proxy(&network, "https://api.openai.com"), None);
        }
    }
}
