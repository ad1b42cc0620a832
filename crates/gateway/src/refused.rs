//! Requests that were refused, in the log: one line for each, with who asked for what and by which key.
//!
//! The rule it protects: an administrator finds what a user was told, and nobody floods the log: of one user's refusals of
//! one kind a line a second is written, with how many it stands for. What a client wrote is masked and bounded: it may be a
//! secret in the wrong place.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use accounting::UserId;
use axum::response::Response;
use providers::safe_words;
use tokio::time::Instant;

use crate::error::ApiError;
use crate::rarely::Rarely;

/// So many kinds of refusals of different users are told apart within a second; more share one line.
const MOST: usize = 1_000;
/// So many bytes of what a client wrote are looked at.
const LONGEST: usize = 1_024;

/// What is known of a request: who asks for what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Asker {
    /// The name of the key that was brought.
    pub key: Option<String>,
    pub user: Option<UserId>,
    pub model: Option<String>,
    /// The path, where it is none of ours.
    pub path: Option<String>,
}

impl Asker {
    /// Whoever asked at a path that is none of ours.
    pub(crate) fn at(path: &str) -> Self {
        Self { path: Some(begin(path).into()), ..Self::default() }
    }

    /// The model may be as long as a body.
    pub(crate) fn set_model(&mut self, model: &str) {
        self.model = Some(begin(model).into());
    }
}

fn begin(text: &str) -> &str {
    text.split_at(text.floor_char_boundary(LONGEST)).0
}

/// Goes with an answer that refuses a request, until it is logged.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    code: &'static str,
    asker: Asker,
}

impl Refused {
    /// Of an error; `None` if it has its line in the log already.
    pub(crate) fn of(error: &mut ApiError) -> Option<Self> {
        let asker = error.asker.take().map(|asker| *asker).unwrap_or_default();
        (!error.is_logged).then_some(Self { code: error.code, asker })
    }
}

/// Which refusals were logged a moment ago.
#[derive(Debug, Default)]
pub(crate) struct RefusalLog(Mutex<HashMap<(Option<UserId>, &'static str), Rarely>>);

impl RefusalLog {
    /// Logs an answer, if it refuses its request; `id`: what the answer is called.
    pub(crate) fn note(&self, response: &mut Response, id: &str) {
        let Some(Refused { code, asker }) = response.extensions_mut().remove::<Refused>() else { return };
        let Some(times) = self.say(asker.user.as_ref(), code, Instant::now()) else { return };
        let Asker { key, user, model, path } = &asker;
        tracing::info!(
            request = id,
            user = user.as_ref().map(UserId::as_str),
            key = key.as_deref(),
            model = model.as_deref().map(safe_words),
            path = path.as_deref().map(safe_words),
            status = response.status().as_u16(),
            code,
            times,
            "a request was refused"
        );
    }

    /// Logs a connection that ended because the head of its request can't be read: the library answers that by itself, without
    /// a body.
    pub(crate) fn note_unread(&self, error: &hyper::Error) {
        if !error.is_parse() {
            return;
        }
        let code = if error.is_parse_too_large() { "head_too_large" } else { "head_not_readable" };
        if let Some(times) = self.say(None, code, Instant::now()) {
            tracing::info!(code, %error, times, "a request was refused");
        }
    }

    fn say(&self, user: Option<&UserId>, code: &'static str, now: Instant) -> Option<u64> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (user.cloned(), code);
        if !known.contains_key(&key) && known.len() >= MOST {
            known.retain(|_, rarely| !rarely.may_say(now));
            if known.len() >= MOST {
                key = (None, "");
            }
        }
        known.entry(key).or_default().say(now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn nobody_floods_the_log_and_nobody_hides_behind_another() {
        let (log, second, mut now) = (RefusalLog::default(), Duration::from_secs(1), Instant::now());
        let user = |name: &str| UserId::new(name).unwrap();
        let (ann, bob) = (user("ann"), user("bob"));
        assert_eq!(log.say(Some(&ann), "busy", now), Some(1));
        assert_eq!(log.say(Some(&ann), "busy", now), None);
        assert_eq!(log.say(Some(&ann), "no_allowance", now), Some(1));
        assert_eq!(log.say(Some(&bob), "busy", now), Some(1));
        now += second;
        assert_eq!(log.say(Some(&ann), "busy", now), Some(2));
        now += second;
        let many = (0..5_000).filter_map(|number| log.say(Some(&user(&format!("u{number}"))), "busy", now));
        assert_eq!(many.count(), MOST + 1, "those beyond the bound share a line");
        assert!(log.0.lock().unwrap().len() <= MOST + 1);
        now += second;
        assert_eq!(log.say(Some(&user("late")), "busy", now), Some(1));
    }

    #[test]
    fn a_secret_in_the_wrong_place_is_masked() {
        for text in ["/v1/sk-proj-abcdefghijklmnop1234567890/chat", "sk-proj-abcdefghijklmnop1234567890"] {
            assert!(!safe_words(text).contains("abcdefghij"), "{}", safe_words(text));
        }
        for text in ["gpt-4o-mini", "/chat/completions", "openrouter/deepseek/deepseek-chat", "llama3.2:3b"] {
            assert_eq!(safe_words(text), text);
        }
        let mut asker = Asker::default();
        asker.set_model(&"ä".repeat(LONGEST));
        assert_eq!(asker.model.unwrap().len(), LONGEST);
    }
}
