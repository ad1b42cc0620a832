//! Who is charged: the user, or a sponsored allowance.
//!
//! The rule it protects: nobody spends somebody else's money by a name alone. A sponsored allowance opens only through a
//! workspace model that an administrator made in Open WebUI, named `{allowance}---{anything}`, and only for the models that
//! it covers.

use accounting::{AccountKey, AccountLimit, Credits, Day, Period, SponsoredId, UserId};
use storage::{Snapshot, SponsoredAllowance};

use crate::MeterError;
use crate::meter::Labels;
use crate::route::Route;
use crate::shared::Shared;

/// Ends the name of an allowance in the id of a workspace model.
const MARK: &str = "---";

/// Who asks, and what is said beside of who is to pay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requester {
    /// The user.
    pub user: UserId,
    /// Replaces the user's daily allowance for this request.
    pub limit: Option<Credits>,
    /// The sponsored allowance that pays, by name or id, where the caller may say so itself.
    pub sponsored: Option<String>,
}

impl Requester {
    /// A user with the allowance of the database.
    pub const fn user(user: UserId) -> Self {
        Self { user, limit: None, sponsored: None }
    }
}

/// Who a request is charged to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Payer {
    pub user: UserId,
    pub limit: Option<Credits>,
    pub sponsored: Option<SponsoredId>,
}

/// Who pays for a request to that model.
pub(crate) async fn payer(
    shared: &Shared,
    snapshot: &Snapshot,
    requester: Requester,
    labels: &Labels,
    route: &Route,
) -> Result<Payer, MeterError> {
    let Requester { user, limit, sponsored } = requester;
    let allowance = match sponsored {
        Some(named) => Some(named_allowance(snapshot, &named)?),
        None => opened(shared, snapshot, labels, route).await?,
    };
    let is_task = labels.task.is_some();
    let allowance = match allowance {
        Some(allowance) if allowance.covers(&route.model) => Some(allowance),
        // The task model is the administrator's choice, not the sponsor's: then the user pays.
        Some(_) if is_task => None,
        Some(allowance) => {
            return Err(MeterError::NotSponsored {
                message: format!(
                    "the sponsored allowance `{}` does not cover the model `{}`; it covers: {}",
                    allowance.name,
                    route.model,
                    allowance.models.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
                ),
            });
        }
        None => None,
    };
    Ok(Payer { user, limit, sponsored: allowance.map(|allowance| allowance.id) })
}

fn named_allowance<'a>(snapshot: &'a Snapshot, named: &str) -> Result<&'a SponsoredAllowance, MeterError> {
    let by_id = named.parse().ok().and_then(|id| snapshot.sponsored(id));
    by_id.or_else(|| snapshot.sponsored_named(named)).ok_or_else(|| MeterError::NotSponsored {
        message: format!("there is no sponsored allowance `{named}`"),
    })
}

/// The allowance that the request's workspace model opens, if it is one that does.
async fn opened<'a>(
    shared: &Shared,
    snapshot: &'a Snapshot,
    labels: &Labels,
    route: &Route,
) -> Result<Option<&'a SponsoredAllowance>, MeterError> {
    let Some(id) = &labels.workspace_model else { return Ok(None) };
    let Some((name, _)) = id.split_once(MARK) else { return Ok(None) };
    let refused = |message: String| Err(MeterError::NotSponsored { message });
    let Some(allowance) = snapshot.sponsored_named(name) else {
        return refused(format!(
            "the model `{id}` names the sponsored allowance `{name}`, which does not exist"
        ));
    };
    match shared.catalogue.workspace_model(id).await? {
        None => refused(format!("there is no workspace model `{id}` in Open WebUI's database")),
        Some(model) if !model.by_administrator => refused(format!(
            "the workspace model `{id}` was not made by an administrator, so it does not open the sponsored allowance \
             `{name}`"
        )),
        Some(model) if labels.task.is_none() && !is_made_of(model.base.as_deref(), route) => {
            refused(format!(
                "the workspace model `{id}` is not made of the model `{}`, so `{name}` does not pay for it",
                route.model
            ))
        }
        Some(_) => Ok(Some(allowance)),
    }
}

/// Open WebUI puts the id of a function, or of a connection, before the provider's own: `function.model`.
fn is_made_of(base: Option<&str>, route: &Route) -> bool {
    let Some(base) = base else { return false };
    let model = route.model.as_str();
    base == model || base.strip_suffix(model).is_some_and(|prefix| prefix.ends_with(['.', '/']))
}

/// The accounts of a payer on a day, with their limits.
pub(crate) fn accounts(
    payer: &Payer,
    snapshot: &Snapshot,
    day: Day,
) -> Result<Vec<AccountLimit>, MeterError> {
    let user = payer.user.clone();
    if let Some(sponsored) = payer.sponsored {
        let allowance = snapshot.sponsored(sponsored).ok_or(MeterError::NoAllowance)?;
        let daily = AccountKey::SponsoredUser { day, sponsored, user };
        return Ok(vec![
            AccountLimit { account: daily, limit: allowance.daily },
            AccountLimit { account: AccountKey::SponsoredTotal { sponsored }, limit: Some(allowance.total) },
        ]);
    }
    if payer.limit.is_none() && snapshot.settings().base_credit_allowance.is_none() {
        return Err(MeterError::NoAllowance);
    }
    let limits = snapshot.limits(&user)?;
    let granted = |period: Period| match payer.limit {
        Some(limit) if period == Period::Day => Some(limit),
        _ => limits.of(period),
    };
    let account = |period: Period| {
        let limit = granted(period)?;
        let account = AccountKey::of_user(period, day, user.clone());
        Some(AccountLimit { account, limit: Some(limit) })
    };
    // Those that start afresh soon come first: a refusal names the last that is in the way.
    Ok(Period::ALL.into_iter().filter_map(account).collect())
}
