//! Pages of other hosts, whose scripts may ask here with a key that is bound to a user (CORS). None, unless the
//! configuration names them.

use http::header::ORIGIN;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tower_http::cors::{AllowHeaders, CorsLayer, MaxAge};
use url::Url;

use crate::ConfigProblem;
use crate::error::ApiError;

/// What a page may read of an answer beside its body.
const SHOWN: [&str; 9] = [
    "retry-after",
    "request-id",
    "x-request-id",
    "x-should-retry",
    "x-tracking-credits",
    "x-tracking-credits-remaining",
    "x-tracking-omitted",
    "x-tracking-overhead-ms",
    "x-tracking-request",
];

/// The origin of pages, such as `https://app.example.org`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedOrigin(HeaderValue);

impl AllowedOrigin {
    /// Reads one of the configuration.
    ///
    /// # Errors
    /// Says what to write instead.
    pub fn new(text: &str) -> Result<Self, ConfigProblem> {
        let bare = text.trim().trim_end_matches('/').to_ascii_lowercase();
        let wrong = || {
            ConfigProblem(format!(
                "gateway.allowed_origins: `{text}` is no origin of pages; write scheme, host and port, such as \
                 https://app.example.org"
            ))
        };
        let url = Url::parse(&bare).map_err(|_| wrong())?;
        // As browsers write it, else it would never be the same.
        let is_one = matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == bare;
        if !is_one || bare.contains(['*', ',']) {
            return Err(wrong());
        }
        HeaderValue::from_str(&bare).map(Self).map_err(|_| wrong())
    }
}

/// What answers the browsers that show such pages.
pub(crate) fn layer(allowed: &[AllowedOrigin]) -> CorsLayer {
    let origins: Vec<HeaderValue> = allowed.iter().map(|AllowedOrigin(origin)| origin.clone()).collect();
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(SHOWN.map(HeaderName::from_static))
        .max_age(MaxAge::exact(std::time::Duration::from_secs(3600)))
}

/// Refuses a page that has a key which may name any user: whoever looks at the page has that key too.
pub(crate) fn refuse_forwarding(headers: &HeaderMap, allowed: &[AllowedOrigin]) -> Result<(), ApiError> {
    let from_page = |origin: &HeaderValue| allowed.iter().any(|AllowedOrigin(known)| known == origin);
    if headers.get_all(ORIGIN).iter().any(from_page) {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "invalid_request_error",
            "bound_key_needed",
            "A page may ask here only with a key that is bound to a user: make one with `owui-token-tracking key create \
             --user`.",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_written_whole() {
        for (text, read) in [
            ("https://App.example.org", "https://app.example.org"),
            (" http://localhost:3000/ ", "http://localhost:3000"),
        ] {
            assert_eq!(AllowedOrigin::new(text).unwrap(), AllowedOrigin(read.parse().unwrap()));
        }
        for wrong in [
            "*",
            "app.example.org",
            "https://*.example.org",
            "https://a.example/x",
            "ftp://a",
            "null",
            "",
            "https://a:443",
            "http://:3000",
            "https://a#x",
            "https://a,b",
            "https://a:",
        ] {
            let problem = AllowedOrigin::new(wrong).unwrap_err().to_string();
            assert!(problem.contains("gateway.allowed_origins"), "{problem}");
        }
    }
}
