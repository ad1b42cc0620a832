//! What no word that goes out may tell: our keys, and the values of the headers that are configured, of all providers that
//! there are.
//!
//! The rule it protects: a server that repeats what it was sent tells no secret, whatever that looks like. They are kept in one
//! place for all, because a server may know the key of another, and because words are read where nobody knows of whom.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock, Weak};

/// A value with fewer bytes is not masked: it would stand in words that have nothing to do with it.
const SHORTEST: usize = 6;
/// The same for a part of a value, such as what stands behind `Bearer`.
const SHORTEST_PART: usize = 8;

pub(crate) const MASK: &str = "***";

static KNOWN: RwLock<Vec<Weak<Vec<String>>>> = RwLock::new(Vec::new());

/// The secrets of one provider, which are masked as long as this is there.
#[derive(Clone)]
pub(crate) struct Secrets(#[expect(dead_code, reason = "kept, not read")] Arc<Vec<String>>);

impl Secrets {
    pub(crate) fn known<'a>(values: impl Iterator<Item = &'a str>) -> Self {
        let mut all: Vec<String> = Vec::new();
        for value in values.map(str::trim) {
            let parts = value.split(|c: char| c.is_whitespace() || "=;,".contains(c));
            let parts = parts.filter(|part| part.len() >= SHORTEST_PART);
            all.extend(
                parts.chain([value].into_iter().filter(|whole| whole.len() >= SHORTEST)).map(Into::into),
            );
        }
        // A secret that is in another one is masked behind it.
        all.sort_unstable_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        all.dedup();
        let all = Arc::new(all);
        let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|secrets| secrets.strong_count() > 0);
        known.push(Arc::downgrade(&all));
        Self(all)
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(MASK)
    }
}

/// A text without any of them.
pub(crate) fn masked(text: &str) -> Cow<'_, str> {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    let mut masked = Cow::Borrowed(text);
    for secrets in known.iter().filter_map(Weak::upgrade) {
        for secret in secrets.iter().filter(|secret| text.contains(secret.as_str())) {
            masked = masked.replace(secret.as_str(), MASK).into();
        }
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_configured_is_masked_as_long_as_it_is() {
        let said = "no team physics-3 here: token geheim-wort, wort, 1";
        assert_eq!(masked(said), said);
        let secrets = Secrets::known(["physics-3", "token geheim-wort", "1", "", "wort"].into_iter());
        assert_eq!(masked(said), "no team *** here: ***, wort, 1");
        assert_eq!(masked("geheim-wort alone"), "*** alone");
        drop(secrets);
        let others = Secrets::known(["another"].into_iter());
        assert_eq!(masked(said), said);
        assert_eq!(KNOWN.read().unwrap().len(), 1);
        drop(others);
    }
}
