//! What has happened elsewhere is recorded, whatever the rules say of it: none of them can undo it. A rule that would have
//! refused it before it happened becomes a remark, and the entry's outcome is [`storage::ledger::Outcome::NotAllowed`].

use accounting::{Day, ModelId, Price, ProviderName, UserId};
use storage::Snapshot;

use crate::route::{self, Route};
use crate::{MeterError, sponsored};

/// There is no such sponsored allowance, so the user was charged.
pub(crate) const NOT_FOUND: &str = "sponsored_not_found";
/// The workspace model does not open the sponsored allowance that it names, so the user was charged.
pub(crate) const NOT_OPENED: &str = "sponsored_not_opened";
/// The sponsored allowance does not cover the model.
pub(crate) const NOT_COVERED: &str = "sponsored_not_covered";
/// The sponsored allowance has not begun.
pub(crate) const NOT_BEGUN: &str = "sponsored_not_begun";
/// The sponsored allowance is over.
pub(crate) const ENDED: &str = "sponsored_ended";
/// The sponsored allowance is for others.
pub(crate) const NOT_MEMBER: &str = "sponsored_not_member";
/// The model has no price, so nothing was charged.
pub(crate) const UNPRICED: &str = "model_not_priced";
/// Open WebUI knows no such user.
const UNKNOWN_USER: &str = "user_not_found";

/// A rule that would have refused what has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Which rule, for programs.
    pub code: &'static str,
    /// The same for people.
    pub message: String,
}

impl Remark {
    /// That Open WebUI knows no such user.
    pub fn unknown_user(user: &UserId) -> Self {
        Self { code: UNKNOWN_USER, message: format!("there is no user `{user}` in Open WebUI") }
    }
}

/// What a rule does that refuses: it ends what is about to happen, and leaves a remark on what has happened.
pub(crate) struct Rules<'a> {
    /// The day of the request.
    pub today: Day,
    /// Where remarks are left; `None` before a request.
    pub remarks: Option<&'a mut Vec<Remark>>,
}

impl Rules<'_> {
    pub(crate) fn refuse(&mut self, code: &'static str, message: String) -> Result<(), MeterError> {
        match &mut self.remarks {
            Some(remarks) => {
                remarks.push(Remark { code, message });
                Ok(())
            }
            None => Err(MeterError::NotSponsored { message }),
        }
    }
}

/// The route of what has happened. Without a price it cost nothing that can be told: its tokens are kept.
pub(crate) fn route_of_past(
    snapshot: &Snapshot,
    provider: &ProviderName,
    asked: &str,
    remarks: &mut Vec<Remark>,
) -> Result<Route, MeterError> {
    let asked = match sponsored::own_model(snapshot, asked) {
        Err(MeterError::NotSponsored { message }) => {
            remarks.push(Remark { code: NOT_FOUND, message });
            asked.splitn(3, '/').nth(2).unwrap_or(asked)
        }
        _ => asked,
    };
    match route::at(snapshot, provider, asked) {
        Err(error @ MeterError::Unpriced { .. }) => {
            remarks.push(Remark { code: UNPRICED, message: error.to_string() });
            let (sponsored, asked) = match sponsored::own_model(snapshot, asked)? {
                Some((id, model)) => (Some(id), model),
                None => (None, asked),
            };
            Ok(Route {
                provider: provider.clone(),
                model: ModelId::from_outside(asked)?,
                price: Price::FREE,
                version: None,
                max_output_tokens: None,
                is_openais: false,
                sponsored,
            })
        }
        other => other,
    }
}
