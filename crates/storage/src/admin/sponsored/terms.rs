//! What an allowance is to be, and whether it can be so.

use accounting::{Credits, Day, SponsoredId, check_name, is_hidden};
use serde_json::{Value, json};

use super::models;
use super::naming::{NamedMember, named_members};
use crate::sponsored::{CoveredModel, Member, Rows};
use crate::{Database, Error, SponsoredAllowance, handle, names};

/// What an allowance is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// Its name.
    pub name: String,
    /// Who pays: a user's id, or any name.
    pub sponsor: String,
    /// The models that it covers, each as `model` (at every provider that prices it) or `provider/model`.
    pub models: Vec<String>,
    /// Whole credits that all users together may spend, ever.
    pub total: i64,
    /// Whole credits that each user may spend in a day; `None` for no limit.
    pub daily: Option<i64>,
    /// The first day on which it pays.
    pub starts_on: Option<Day>,
    /// The last day on which it pays.
    pub ends_on: Option<Day>,
    /// Who may use it; nobody: whoever may use its workspace models.
    pub members: Vec<NamedMember>,
    /// Whether everybody may use its models as models of their own.
    pub public: bool,
}

/// What of an allowance is to change; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub name: Option<String>,
    /// Who pays: a user's id, or any name.
    pub sponsor: Option<String>,
    /// The models that it covers.
    pub models: Option<Vec<String>>,
    /// Whole credits that all users together may spend, ever.
    pub total: Option<i64>,
    /// Whole credits that each user may spend in a day; `Some(None)` for no limit.
    pub daily: Option<Option<i64>>,
    /// The first day on which it pays; `Some(None)` for no first.
    pub starts_on: Option<Option<Day>>,
    /// The last day on which it pays; `Some(None)` for no last.
    pub ends_on: Option<Option<Day>>,
    /// Who may use it.
    pub members: Option<Vec<NamedMember>>,
    /// Whether everybody may use its models as models of their own.
    pub public: Option<bool>,
}

/// Terms whose models and members were found.
#[derive(Debug, Clone)]
pub(super) struct Resolved {
    pub name: String,
    pub sponsor: String,
    pub models: Vec<CoveredModel>,
    pub total: i64,
    pub daily: Option<i64>,
    pub starts_on: Option<Day>,
    pub ends_on: Option<Day>,
    pub members: Vec<Member>,
    pub public: bool,
}

impl Terms {
    pub(super) async fn resolved(&self, database: &Database) -> Result<Resolved, Error> {
        Ok(Resolved {
            name: self.name.clone(),
            sponsor: self.sponsor.clone(),
            models: models::resolved(database, &self.models).await?,
            total: self.total,
            daily: self.daily,
            starts_on: self.starts_on,
            ends_on: self.ends_on,
            members: named_members(database, &self.members).await?,
            public: self.public,
        })
    }
}

/// A change whose models and members were found.
pub(super) struct ResolvedChange {
    change: Change,
    models: Option<Vec<CoveredModel>>,
    members: Option<Vec<Member>>,
}

impl Change {
    pub(super) async fn resolved(self, database: &Database) -> Result<ResolvedChange, Error> {
        let models = match &self.models {
            Some(named) => Some(models::resolved(database, named).await?),
            None => None,
        };
        let members = match &self.members {
            Some(named) => Some(named_members(database, named).await?),
            None => None,
        };
        Ok(ResolvedChange { change: self, models, members })
    }
}

impl ResolvedChange {
    /// The terms after it.
    pub(super) fn of(self, before: &SponsoredAllowance) -> Resolved {
        let (Self { change, models, members }, before) = (self, Resolved::from(before));
        Resolved {
            name: change.name.unwrap_or(before.name),
            sponsor: change.sponsor.unwrap_or(before.sponsor),
            models: models.unwrap_or(before.models),
            total: change.total.unwrap_or(before.total),
            daily: change.daily.unwrap_or(before.daily),
            starts_on: change.starts_on.unwrap_or(before.starts_on),
            ends_on: change.ends_on.unwrap_or(before.ends_on),
            members: members.unwrap_or(before.members),
            public: change.public.unwrap_or(before.public),
        }
    }
}

impl From<&SponsoredAllowance> for Resolved {
    fn from(allowance: &SponsoredAllowance) -> Self {
        let whole = |credits: Credits| credits.micro() / 1_000_000;
        Self {
            name: allowance.name.clone(),
            sponsor: allowance.sponsor.clone(),
            models: allowance.models.clone(),
            total: whole(allowance.total),
            daily: allowance.daily.map(whole),
            starts_on: allowance.starts_on,
            ends_on: allowance.ends_on,
            members: allowance.members.clone(),
            public: allowance.public,
        }
    }
}

impl Resolved {
    /// Whether an allowance can be so. `itself`: its id, if it is there already.
    pub(super) fn check(&self, rows: &Rows, itself: Option<SponsoredId>) -> Result<(), Error> {
        let invalid = |what: String| Err(Error::Invalid { what });
        let in_ids = handle(&self.name);
        let is_bad = |name: &str| name.contains("---") || name.chars().any(is_hidden);
        if in_ids.is_empty() || self.name.chars().count() > 200 || is_bad(&in_ids) || is_bad(&self.name) {
            return invalid(
                "the name of a sponsored allowance has 1 to 200 characters and no `---`, which ends it in a model's id"
                    .into(),
            );
        }
        for (what, limit) in [("total", Some(self.total)), ("daily", self.daily)] {
            if limit.is_some_and(|limit| !(0..=i64::from(i32::MAX)).contains(&limit)) {
                return invalid(format!("the {what} limit is in whole credits, from 0 to {}", i32::MAX));
            }
        }
        if check_name(&self.sponsor, "a sponsor", 255).is_err() {
            return invalid("the sponsor has 1 to 255 characters: a user's id, or whoever pays".into());
        }
        if self.models.is_empty() {
            return invalid("a sponsored allowance covers at least one model".into());
        }
        if let (Some(first), Some(last)) = (self.starts_on, self.ends_on)
            && first > last
        {
            return invalid(format!("the first day, {first}, is after the last, {last}"));
        }
        let itself = itself.map(|id| id.to_string());
        for (id, name) in rows.names() {
            let is_itself = itself.as_deref() == Some(id.replace('-', "").as_str());
            // Two names that are one in the ids of models would be one allowance there.
            if !is_itself && names::is_same(&handle(name), &in_ids) {
                return Err(Error::Conflict {
                    what: format!("there is a sponsored allowance `{name}` already"),
                });
            }
        }
        Ok(())
    }

    /// For the audit.
    pub(super) fn shown(&self) -> Value {
        json!({
            "name": self.name,
            "sponsor": self.sponsor,
            "models": self.models.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "total": self.total,
            "daily": self.daily,
            "starts_on": self.starts_on,
            "ends_on": self.ends_on,
            "members": self.members.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "public": self.public,
        })
    }
}
