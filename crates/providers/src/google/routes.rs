//! Where Google's routes are, and which names of models can be part of them.

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use crate::BadRequest;
use crate::conversation::bad;

/// What may stand in a part of a path as it is.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What the names of models begin with in Google's own lists.
const PREFIX: &str = "models/";

/// The addresses of Google's routes.
#[derive(Debug)]
pub(super) struct Routes {
    /// Up to the version, without a slash at its end.
    base: String,
    pub(super) models: Uri,
}

impl Routes {
    /// # Errors
    /// Says what is wrong with the base URL.
    pub(super) fn new(base_url: &Url) -> Result<Self, String> {
        if base_url.query().is_some() || base_url.fragment().is_some() {
            return Err("its base_url must be without a query".into());
        }
        let base = base_url.as_str().trim_end_matches('/');
        // People paste the address with the version, or that of the routes that are compatible with OpenAI's.
        let base = base.strip_suffix("/openai").unwrap_or(base);
        let base = format!("{}/v1beta", base.strip_suffix("/v1beta").unwrap_or(base).trim_end_matches('/'));
        let models = format!("{base}/models?pageSize=1000")
            .parse()
            .map_err(|error| format!("its base_url can't be used: {error}"))?;
        Ok(Self { base, models })
    }

    /// The address of one of a model's methods.
    ///
    /// # Errors
    /// If that can't be the name of a model.
    pub(super) fn method(&self, model: &str, method: &str) -> Result<Uri, BadRequest> {
        let name = path_part(model)?;
        let uri = format!("{}/models/{}:{method}", self.base, utf8_percent_encode(name, PATH));
        uri.parse().map_err(|_| no_name())
    }
}

/// The name of a model as Google's requests name it in their body.
pub(super) fn full_name(model: &str) -> String {
    format!("{PREFIX}{}", bare_name(model))
}

/// The name without what stands before all names.
pub(super) fn bare_name(model: &str) -> &str {
    model.strip_prefix(PREFIX).unwrap_or(model)
}

/// A name that stays one part of a path even where a server decodes it twice.
fn path_part(model: &str) -> Result<&str, BadRequest> {
    let name = bare_name(model);
    let breaks = |c: char| matches!(c, '/' | '\\' | ':' | '?' | '#' | '%') || c.is_control();
    if name.is_empty() || name.chars().all(|c| c == '.') || name.contains(breaks) {
        return Err(no_name());
    }
    Ok(name)
}

fn no_name() -> BadRequest {
    bad("model", "this can't be the name of one of Google's models; names look like gemini-2.5-flash")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(base: &str) -> Routes {
        Routes::new(&Url::parse(base).unwrap()).unwrap()
    }

    #[test]
    fn addresses_with_and_without_the_version() {
        for base in
            ["http://h", "http://h/", "http://h/v1beta", "http://h/v1beta/", "http://h/v1beta/openai/"]
        {
            let routes = routes(base);
            assert_eq!(routes.models, "http://h/v1beta/models?pageSize=1000");
            for model in ["gemini-2.5-flash", "models/gemini-2.5-flash"] {
                let uri = routes.method(model, "streamGenerateContent?alt=sse").unwrap();
                assert_eq!(uri, "http://h/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse");
            }
        }
        assert_eq!(routes("http://h/google").models, "http://h/google/v1beta/models?pageSize=1000");
        assert!(Routes::new(&Url::parse("http://h/?key=1").unwrap()).is_err());
    }

    #[test]
    fn names_stay_one_part_of_the_path() {
        let routes = routes("http://h");
        for name in [
            "",
            "models/",
            ".",
            "..",
            "a/b",
            "models/models/a",
            "a:countTokens",
            "a?x=1",
            "a#b",
            "a%2fb",
            "a\\b",
            "a\nb",
        ] {
            assert_eq!(routes.method(name, "m").unwrap_err().param.as_deref(), Some("model"), "{name:?}");
        }
        assert_eq!(routes.method("été 1", "m").unwrap(), "http://h/v1beta/models/%C3%A9t%C3%A9%201:m");
    }
}
