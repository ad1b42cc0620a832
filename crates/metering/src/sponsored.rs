//! The models that a sponsored allowance offers as models of its own: `sponsored/{allowance}/{model}`.
//!
//! Their id says who pays, so no workspace model is needed, and they can be the base of any. Who may use them is decided
//! where each request's payer is ([`crate::payer`]); a list is only a list.

use accounting::{ProviderName, SponsoredId, UserId};
use storage::{Snapshot, SponsoredAllowance};

use crate::MeterError;
use crate::route::OfferedModel;

/// What their ids begin with.
const BEGINNING: &str = "sponsored/";

/// For whom the models are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience<'a> {
    /// Whoever it is: all that are offered to anybody.
    Anybody,
    /// One user: what they may use.
    User(&'a UserId),
}

/// The allowance and the model that an id such as `sponsored/research/gpt-4o` names; `None` for another id.
pub(crate) fn own_model<'a>(
    snapshot: &Snapshot,
    asked: &'a str,
) -> Result<Option<(SponsoredId, &'a str)>, MeterError> {
    let Some((allowance, model)) = asked.strip_prefix(BEGINNING).and_then(|rest| rest.split_once('/')) else {
        return Ok(None);
    };
    let by_id = allowance.parse().ok().and_then(|id| snapshot.sponsored(id));
    match by_id.or_else(|| snapshot.sponsored_named(allowance)) {
        Some(found) => Ok(Some((found.id, model))),
        None => Err(MeterError::NotSponsored {
            message: format!(
                "the model `{asked}` names the sponsored allowance `{allowance}`, which does not exist"
            ),
        }),
    }
}

/// The models of one provider, or of all, as code that sends its own requests names them: by the provider's own ids.
pub(crate) fn at(snapshot: &Snapshot, provider: Option<&ProviderName>) -> Vec<OfferedModel> {
    let named = snapshot.models_of(provider).into_iter().map(|model| OfferedModel {
        id: model.model.to_string(),
        provider: model.provider.to_string(),
        model: model.model.clone(),
        name: model.name.clone(),
    });
    named.collect()
}

/// The models of their own that allowances offer, made of those that are served.
pub(crate) fn offered(
    snapshot: &Snapshot,
    served: &[OfferedModel],
    audience: Audience<'_>,
) -> Vec<OfferedModel> {
    let is_for = |allowance: &&SponsoredAllowance| match audience {
        Audience::Anybody => allowance.offers_models(),
        Audience::User(user) => allowance.public || snapshot.is_member(allowance, user),
    };
    let mut offered = Vec::new();
    for allowance in snapshot.all_sponsored().iter().filter(is_for) {
        let covered = served.iter().filter(|model| {
            let provider = ProviderName::new(&model.provider);
            provider.is_ok_and(|provider| allowance.pays_for(&provider, &model.model))
        });
        offered.extend(covered.map(|model| OfferedModel {
            id: format!("{BEGINNING}{}/{}", allowance.handle(), model.id),
            provider: model.provider.clone(),
            model: model.model.clone(),
            name: format!("{} - {}", allowance.name, model.name),
        }));
    }
    offered
}
