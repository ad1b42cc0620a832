//! Which hosts a gateway without a key answers to. It listens on loopback, but a browser can be led there: a foreign name
//! that is made to mean 127.0.0.1 brings a page's requests along (DNS rebinding). Such a request still names the foreign
//! host, and its page's origin.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, StatusCode, Uri};
use providers::is_loopback;

use crate::error::ApiError;
use crate::form::Form;
use crate::{ConfigProblem, Gateway};

/// A host that a request may name, without its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHost(String);

impl AllowedHost {
    /// Reads one of the configuration.
    ///
    /// # Errors
    /// Says what to write instead.
    pub fn new(text: &str) -> Result<Self, ConfigProblem> {
        let bare = text.trim();
        let address = bare.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let is_name = bare.contains(|c: char| c.is_ascii_alphanumeric())
            && bare.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
        match address {
            Ok(IpAddr::V6(address)) => Ok(Self(format!("[{address}]"))),
            Ok(IpAddr::V4(address)) => Ok(Self(address.to_string())),
            Err(_) if is_name => Ok(Self(plain(bare))),
            Err(_) => Err(ConfigProblem(format!(
                "gateway.allowed_hosts: `{bare}` is no name of a host; write it alone, without http:// and port, such \
                 as tracking.example.org"
            ))),
        }
    }
}

/// Refuses what names a foreign host or comes from a foreign page. For gateways without a key.
pub(crate) async fn guard(State(gateway): State<Gateway>, request: Request, next: Next) -> Response {
    match check(request.uri(), request.headers(), &gateway.config.allowed_hosts) {
        Ok(()) => next.run(request).await,
        Err(error) => Form::near(request.uri().path(), request.headers()).show(error),
    }
}

fn check(uri: &Uri, headers: &HeaderMap, allowed: &[AllowedHost]) -> Result<(), ApiError> {
    let is_ours = |authority: &Authority| {
        let host = plain(authority.host());
        !authority.as_str().contains('@')
            && (is_loopback(&host) || allowed.iter().any(|AllowedHost(name)| *name == host))
    };
    let mut hosts = headers.get_all(HOST).iter();
    let (named, more) = (hosts.next(), hosts.next());
    let named_is_ours = named.map(|host| {
        let host: Option<Authority> = host.to_str().ok().and_then(|text| text.parse().ok());
        host.as_ref().is_some_and(is_ours)
    });
    // HTTP/2 names it in the address of the request. Either may be missing, but not both.
    let of_uri_is_ours = uri.authority().map(is_ours);
    let named: Vec<bool> = named_is_ours.into_iter().chain(of_uri_is_ours).collect();
    let hosts_are_ours = more.is_none() && !named.is_empty() && named.iter().all(|ours| *ours);
    if !hosts_are_ours {
        return Err(refusal(
            "host_not_allowed",
            "This gateway has no key, so it answers only requests to this machine's own address (localhost), and this \
             one names another host.",
        ));
    }
    let mut origins = headers.get_all(ORIGIN).iter();
    let is_our_page = |origin: &http::HeaderValue| {
        let uri: Option<Uri> = origin.to_str().ok().and_then(|text| text.parse().ok());
        uri.is_some_and(|uri| uri.scheme().is_some() && uri.authority().is_some_and(is_ours))
    };
    if origins.all(is_our_page) {
        return Ok(());
    }
    Err(refusal(
        "origin_not_allowed",
        "This gateway has no key, so it answers no pages of other hosts, and this request comes from one.",
    ))
}

/// Names are compared without case and without the dot that ends a full one.
fn plain(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

fn refusal(code: &'static str, what: &str) -> ApiError {
    let message = format!(
        "{what} An administrator can set a key (gateway.key or OWUI_TRACKING_KEY), or name the host in \
         gateway.allowed_hosts."
    );
    ApiError::new(StatusCode::FORBIDDEN, "invalid_request_error", code, message)
}

#[cfg(test)]
mod tests {
    use http::header::HeaderName;

    use super::*;

    fn code(pairs: &[(HeaderName, &str)]) -> Option<&'static str> {
        let allowed = ["Tracking.Example.org", "2001:db8::1"].map(|text| AllowedHost::new(text).unwrap());
        let headers = pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        check(&Uri::from_static("/v1/models"), &headers, &allowed).err().map(|error| {
            assert_eq!(error.status, 403);
            error.code
        })
    }

    #[test]
    fn only_loopback_and_configured_hosts() {
        for ours in [
            "localhost",
            "LOCALHOST:8787",
            "localhost.:1",
            "app.localhost",
            "127.0.0.1:8787",
            "127.9.9.9",
            "[::1]:8787",
            "[::ffff:127.0.0.1]",
            "tracking.example.org:443",
            "[2001:db8::1]",
        ] {
            assert_eq!(code(&[(HOST, ours)]), None, "{ours}");
        }
        for foreign in [
            "evil.example",
            "127.0.0.1.evil.example:8787",
            "localhost.evil.example",
            "notlocalhost",
            "10.0.0.1",
            "0.0.0.0",
            "[::2]",
            "tracking.example.org.evil.example",
            "localhost@evil.example",
            "evil.example@localhost",
            "",
            "a b",
        ] {
            assert_eq!(code(&[(HOST, foreign)]), Some("host_not_allowed"), "{foreign}");
        }
        assert_eq!(code(&[]), Some("host_not_allowed"));
        assert_eq!(code(&[(HOST, "localhost"), (HOST, "localhost")]), Some("host_not_allowed"));
    }

    #[test]
    fn only_pages_of_these_hosts() {
        let from = |origin| code(&[(HOST, "localhost:8787"), (ORIGIN, origin)]);
        for ours in ["http://localhost:3000", "https://tracking.example.org", "http://[::1]"] {
            assert_eq!(from(ours), None, "{ours}");
        }
        for foreign in ["https://evil.example", "null", "", "localhost", "http://localhost.evil.example"] {
            assert_eq!(from(foreign), Some("origin_not_allowed"), "{foreign}");
        }
        let both = [(HOST, "localhost"), (ORIGIN, "http://localhost"), (ORIGIN, "http://evil.example")];
        assert_eq!(code(&both), Some("origin_not_allowed"));
    }

    #[test]
    fn a_target_with_a_host_of_its_own_is_looked_at_too() {
        let headers = HeaderMap::from_iter([(HOST, "localhost".parse().unwrap())]);
        let target = |text| check(&Uri::from_static(text), &headers, &[]);
        assert!(target("http://localhost/v1/models").is_ok());
        assert_eq!(target("http://evil.example/v1/models").unwrap_err().code, "host_not_allowed");
    }

    #[test]
    fn hosts_are_written_alone() {
        for wrong in ["http://a.example", "a.example:80", "*", "", "a b"] {
            let problem = AllowedHost::new(wrong).unwrap_err().to_string();
            assert!(problem.contains("allowed_hosts"), "{problem}");
        }
    }
}
