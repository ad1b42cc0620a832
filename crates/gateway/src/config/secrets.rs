//! Keys and secrets of the configuration. An empty one is an error wherever somebody wrote it: taken as it is, it would be a
//! secret that everybody knows; passed over, a door would stand open that its writer believes locked.

use std::net::SocketAddr;

use providers::Secret;

use super::ConfigProblem;

/// A key that others can reach has at least so many characters.
const FEWEST: usize = 8;
/// One of fewer characters is warned of.
const ADVISED: usize = 16;

/// Where the texts of the configuration come from: the file, and the environment.
pub(super) struct Texts<F>(pub(super) F);

impl<F: Fn(&str) -> Option<String>> Texts<F> {
    /// A variable; an empty one counts as not set.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    /// A text of the file, or the variable that it names as `env:NAME`.
    pub(super) fn resolve(&self, what: &str, text: Option<String>) -> Result<Option<String>, ConfigProblem> {
        let Some(text) = text else { return Ok(None) };
        let Some(name) = text.strip_prefix("env:") else { return Ok(Some(text)) };
        match (self.0)(name) {
            Some(value) if is_blank(&value) => Err(ConfigProblem(format!(
                "{what} is to be read from {name}, which is empty: set {name}, or leave the line out"
            ))),
            Some(value) => Ok(Some(value)),
            None => Err(ConfigProblem(format!("{what} is to be read from {name}, which is not set"))),
        }
    }

    /// A secret of the file.
    pub(super) fn secret(&self, what: &str, text: Option<String>) -> Result<Option<Secret>, ConfigProblem> {
        match self.resolve(what, text)? {
            Some(text) if is_blank(&text) => Err(ConfigProblem(format!(
                "{what} is empty, and an empty secret keeps nobody out: write one, or leave the line out"
            ))),
            text => Ok(text.map(Secret::new)),
        }
    }

    /// A secret of the file, or else of a variable that is for nothing but this.
    pub(super) fn secret_or(
        &self,
        what: &str,
        text: Option<String>,
        variable: &str,
    ) -> Result<Option<Secret>, ConfigProblem> {
        if let Some(secret) = self.secret(what, text)? {
            return Ok(Some(secret));
        }
        match (self.0)(variable) {
            Some(text) if is_blank(&text) => Err(ConfigProblem(format!(
                "{variable} is empty, and an empty secret keeps nobody out: set it, or remove the variable"
            ))),
            text => Ok(text.map(Secret::new)),
        }
    }
}

/// Whether it is empty, or nothing but space.
fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// A key that requests bring in a header, which can't hold every character and loses space at its ends.
pub(super) fn sendable(what: &str, key: Option<Secret>) -> Result<Option<Secret>, ConfigProblem> {
    let fits = |text: &str| text.trim() == text && text.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    match key {
        Some(key) if !fits(key.expose()) => Err(ConfigProblem(format!(
            "{what} has characters that no request can bring (space or a line break at its ends, or others than ASCII): \
             use letters, digits, - and _"
        ))),
        key => Ok(key),
    }
}

/// Refuses a key that can be guessed where others can reach the gateway, and warns of what is merely short.
pub(super) fn check_lengths(
    listen: SocketAddr,
    key: Option<&Secret>,
    jwt_secrets: &[Secret],
) -> Result<Vec<String>, ConfigProblem> {
    let length = |secret: &Secret| secret.expose().chars().count();
    let mut warnings = Vec::new();
    if let Some(key) = key.filter(|_| !listen.ip().is_loopback()) {
        let length = length(key);
        if length < FEWEST {
            return Err(ConfigProblem(format!(
                "gateway.key has {length} character(s), and others can reach {listen}: whoever guesses it may ask in \
                 anyone's name. Use at least {FEWEST}, better {ADVISED}, as `openssl rand -hex 32` makes them"
            )));
        }
        if length < ADVISED {
            warnings.push(format!(
                "gateway.key has only {length} characters, and others can reach {listen}: use at least {ADVISED}"
            ));
        }
    }
    if jwt_secrets.iter().any(|secret| length(secret) < ADVISED) {
        warnings.push(format!(
            "a signing secret has fewer than {ADVISED} characters: whoever sees a signed header can guess it. Use at \
             least {ADVISED}, here and in Open WebUI"
        ));
    }
    Ok(warnings)
}
