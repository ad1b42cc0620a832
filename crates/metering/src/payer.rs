//! Who is charged: the user, or a sponsored allowance.
//!
//! The rule it protects: nobody spends somebody else's money by a name alone. A sponsored allowance opens in three ways:
//! through a workspace model named `{allowance}---{anything}` that an administrator made in Open WebUI, or any that an
//! administrator registered; for a task, through its chat, whose last request it paid; and to its members, or to everybody
//! where it is public, by a model of its own ([`crate::sponsored`]). Then it pays from its first day to its last, for its
//! members if it names any, and only for the models that it covers.

use accounting::{AccountKey, AccountLimit, Credits, Day, Period, SponsoredId, UserId};
use storage::{Snapshot, SponsoredAllowance};

use crate::MeterError;
use crate::meter::Labels;
use crate::remark::{self, Rules};
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
    /// Whether Open WebUI says from which chat the request comes: only it knows what is a task of a chat.
    pub by_open_webui: bool,
}

impl Requester {
    /// A user with the allowance of the database.
    pub const fn user(user: UserId) -> Self {
        Self { user, limit: None, sponsored: None, by_open_webui: false }
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
    mut rules: Rules<'_>,
) -> Result<Payer, MeterError> {
    let Requester { user, limit, sponsored, by_open_webui } = requester;
    let chat = labels.chat_id.as_deref().filter(|_| by_open_webui && !snapshot.all_sponsored().is_empty());
    let is_task = labels.task.is_some();
    // What has happened is paid by whom its caller names.
    let is_told = sponsored.is_some() && rules.remarks.is_some();
    let allowance = match (route.sponsored, sponsored) {
        (Some(id), _) => Some(snapshot.sponsored(id).ok_or(MeterError::NoAllowance)?),
        (None, Some(named)) => {
            let found = named_allowance(snapshot, &named);
            if found.is_none() {
                rules.refuse(remark::NOT_FOUND, format!("there is no sponsored allowance `{named}`"))?;
            }
            found
        }
        (None, None) => match opened(shared, snapshot, labels, route).await {
            Err(MeterError::NotSponsored { message }) => {
                rules.refuse(remark::NOT_OPENED, message)?;
                None
            }
            found => found?,
        },
    };
    let allowance = match (allowance, chat) {
        (None, Some(chat)) if is_task => Box::pin(of_chat(shared, snapshot, &user, chat)).await?,
        (allowance, _) => allowance,
    };
    let allowance = match allowance {
        None => None,
        Some(allowance) => match refusal(snapshot, allowance, &user, route, rules.today) {
            None => Some(allowance),
            // The task model is the administrator's choice, not the sponsor's: then the user pays.
            Some(_) if is_task && route.sponsored.is_none() && !is_told => None,
            Some((code, message)) => {
                rules.refuse(code, message)?;
                Some(allowance)
            }
        },
    };
    let sponsored = allowance.map(|allowance| allowance.id);
    if let Some(chat) = chat.filter(|_| !is_task)
        && let Err(error) = Box::pin(shared.catalogue.note_sponsor_of_chat(&user, chat, sponsored)).await
    {
        // Then the chat's tasks are paid as before. The request itself needs no such note.
        tracing::warn!(%error, "who pays a chat could not be noted");
    }
    Ok(Payer { user, limit, sponsored })
}

/// Why that allowance does not pay for this, if it does not.
fn refusal(
    snapshot: &Snapshot,
    allowance: &SponsoredAllowance,
    user: &UserId,
    route: &Route,
    today: Day,
) -> Option<(&'static str, String)> {
    let name = &allowance.name;
    if !allowance.pays_for(&route.provider, &route.model) {
        let covered: Vec<String> = allowance.models.iter().map(ToString::to_string).collect();
        let (provider, model, covered) = (&route.provider, &route.model, covered.join(", "));
        let of_provider = if allowance.covers(model) { format!(" of {provider}") } else { String::new() };
        return Some((
            remark::NOT_COVERED,
            format!(
                "the sponsored allowance `{name}` does not cover the model `{model}`{of_provider}; it covers: {covered}"
            ),
        ));
    }
    if let Some(first) = allowance.starts_on.filter(|first| today < *first) {
        let message = format!("the sponsored allowance `{name}` begins on {first}; today is {today}");
        return Some((remark::NOT_BEGUN, message));
    }
    if let Some(last) = allowance.ends_on.filter(|last| today > *last) {
        return Some((remark::ENDED, format!("the sponsored allowance `{name}` ended on {last}")));
    }
    let is_open = allowance.public || (allowance.members.is_empty() && route.sponsored.is_none());
    if is_open || snapshot.is_member(allowance, user) {
        return None;
    }
    let message = if allowance.members.is_empty() {
        format!(
            "the sponsored allowance `{name}` names no members and is not public, so it offers no models of its own; use \
             one of its workspace models"
        )
    } else {
        format!("the sponsored allowance `{name}` is for its members, and you are not one; ask who grants it")
    };
    Some((remark::NOT_MEMBER, message))
}

fn named_allowance<'a>(snapshot: &'a Snapshot, named: &str) -> Option<&'a SponsoredAllowance> {
    let by_id = named.parse().ok().and_then(|id| snapshot.sponsored(id));
    by_id.or_else(|| snapshot.sponsored_named(named))
}

/// The allowance that paid the last request of the task's chat.
async fn of_chat<'a>(
    shared: &Shared,
    snapshot: &'a Snapshot,
    user: &UserId,
    chat: &str,
) -> Result<Option<&'a SponsoredAllowance>, MeterError> {
    let sponsor = shared.catalogue.sponsor_of_chat(user, chat).await?;
    Ok(sponsor.and_then(|id| snapshot.sponsored(id)))
}

/// The allowance that the request's workspace model opens, if it is one that does.
async fn opened<'a>(
    shared: &Shared,
    snapshot: &'a Snapshot,
    labels: &Labels,
    route: &Route,
) -> Result<Option<&'a SponsoredAllowance>, MeterError> {
    let Some(id) = &labels.workspace_model else { return Ok(None) };
    let refused = |message: String| Err(MeterError::NotSponsored { message });
    if let Some(error) = snapshot.unusable_registration(id) {
        return refused(error.to_string());
    }
    let registered = snapshot.sponsored_by_registration(id);
    let allowance = match (registered, id.split_once(MARK)) {
        (Some(allowance), _) => allowance,
        (None, None) => return Ok(None),
        (None, Some((name, _))) => match snapshot.sponsored_named(name) {
            Some(allowance) => allowance,
            None => {
                return refused(format!(
                    "the model `{id}` names the sponsored allowance `{name}`, which does not exist"
                ));
            }
        },
    };
    let name = &allowance.name;
    match shared.catalogue.workspace_model(id).await? {
        // Without Open WebUI's tables, the registration is all that can be known.
        None if registered.is_some() && !snapshot.has_user_table() => Ok(Some(allowance)),
        None => refused(format!("there is no workspace model `{id}` in Open WebUI's database")),
        Some(model) if registered.is_none() && !model.by_administrator => refused(format!(
            "the workspace model `{id}` was not made by an administrator, so it does not open the sponsored allowance \
             `{name}`; an administrator can let it: owui-token-tracking sponsored register {id} \"{name}\""
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
    snapshot.settings().require(&[
        "base_credit_allowance",
        "base_weekly_allowance",
        "base_monthly_allowance",
    ])?;
    if payer.limit.is_none() && snapshot.settings().base_credit_allowance.is_none() {
        return Err(MeterError::NoAllowance);
    }
    let limits = snapshot.limits(&user);
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
