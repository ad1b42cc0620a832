//! What a request may have in it that we don't know: under `strict` nothing whose kind is unknown, because its cost can't be
//! bounded; under `one_credit` anything, counted as its JSON, and told once in the log.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use accounting::Policy;
use providers::{BadRequest, Unknown};

use crate::MeterError;

/// So many kinds are remembered; clients choose their names.
const MOST: usize = 256;

/// Kinds of things that were told.
#[derive(Debug, Default)]
pub(crate) struct ToldKinds(Mutex<BTreeSet<String>>);

impl ToldKinds {
    /// Whether this is to be told now: once for each kind, and no more once there are too many.
    fn first(&self, kind: &str) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.len() < MOST && !told.contains(kind) && told.insert(kind.to_owned())
    }

    /// Checks a request by the policy. `check` is its own check, with what to do with the unknown.
    ///
    /// # Errors
    /// [`MeterError::BadRequest`] names the field, and the policy that would take it.
    pub(crate) fn check(
        &self,
        policy: Policy,
        check: impl Fn(Unknown) -> Result<Vec<String>, BadRequest>,
    ) -> Result<(), MeterError> {
        match policy {
            Policy::Strict => check(Unknown::Refuse).map(|_| ()).map_err(|mut error| {
                if check(Unknown::Count).is_ok() {
                    error.message.push_str(" (the admission policy one_credit would take it)");
                }
                error.into()
            }),
            Policy::OneCredit => {
                for kind in check(Unknown::Count)? {
                    if self.first(&kind) {
                        tracing::warn!(%kind, "a request has something unknown in it: counted as its JSON");
                    }
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(message: &str) -> BadRequest {
        BadRequest::new(message, Some("input".into()))
    }

    #[test]
    fn a_refusal_says_which_policy_would_take_it_if_one_does() {
        let told = ToldKinds::default();
        let unknown = |unknown| match unknown {
            Unknown::Refuse => Err(refuse("no")),
            Unknown::Count => Ok(vec!["kind".into()]),
        };
        let error = told.check(Policy::Strict, unknown).unwrap_err().to_string();
        assert_eq!(error, "no (the admission policy one_credit would take it)");
        assert!(told.check(Policy::OneCredit, unknown).is_ok());
        let hosted = |_| Err(refuse("never"));
        for policy in [Policy::Strict, Policy::OneCredit] {
            assert_eq!(told.check(policy, hosted).unwrap_err().to_string(), "never");
        }
    }

    #[test]
    fn each_kind_is_told_once_and_not_without_end() {
        let told = ToldKinds::default();
        assert!(told.first("a") && !told.first("a") && told.first("b"));
        for number in 0..2 * MOST {
            told.first(&number.to_string());
        }
        assert_eq!(told.0.lock().unwrap().len(), MOST);
        assert!(!told.first("another"));
    }
}
