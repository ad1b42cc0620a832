//! What a snapshot of the catalogue knows of sponsored allowances.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use accounting::{SponsoredId, UserId};

use super::{Rows, SponsoredAllowance, handle, people};
use crate::names::{is_same, meant};
use crate::{Database, Error, Snapshot};

/// The allowances with their people, and the workspace models that are registered for them.
#[derive(Debug)]
pub(crate) struct Sponsorships {
    allowances: Vec<SponsoredAllowance>,
    people: HashMap<SponsoredId, BTreeSet<String>>,
    registered: BTreeMap<String, SponsoredId>,
    unusable: BTreeMap<SponsoredId, Error>,
}

impl Sponsorships {
    pub(crate) async fn read(database: &Database) -> Result<Self, Error> {
        let rows = Rows::read(database).await?;
        let registered = rows.registered()?;
        let (allowances, unusable) = rows.allowances();
        let people = people(database, allowances.iter()).await?;
        Ok(Self { allowances, people, registered, unusable })
    }

    /// Those that can't be used, and why.
    pub(crate) fn unusable(&self) -> impl Iterator<Item = (&SponsoredId, &Error)> {
        self.unusable.iter()
    }
}

impl Snapshot {
    /// The sponsored allowance with that name, in any case; or whose name the id of a model has so.
    pub fn sponsored_named(&self, name: &str) -> Option<&SponsoredAllowance> {
        let all = &self.sponsored.allowances;
        let by_name = meant(name, all.iter().map(|allowance| (allowance, allowance.name.as_str())));
        let in_ids = handle(name);
        by_name
            .first()
            .copied()
            .or_else(|| all.iter().find(|allowance| is_same(&allowance.handle(), &in_ids)))
    }

    /// The sponsored allowance with that id.
    pub fn sponsored(&self, id: SponsoredId) -> Option<&SponsoredAllowance> {
        self.sponsored.allowances.iter().find(|allowance| allowance.id == id)
    }

    /// All sponsored allowances, by name.
    pub fn all_sponsored(&self) -> &[SponsoredAllowance] {
        &self.sponsored.allowances
    }

    /// The sponsored allowance for which a workspace model is registered.
    pub fn sponsored_by_registration(&self, workspace_model: &str) -> Option<&SponsoredAllowance> {
        self.sponsored(*self.sponsored.registered.get(workspace_model)?)
    }

    /// Why the allowance for which a workspace model is registered can't be used, if it can't. Then nobody else may pay.
    pub fn unusable_registration(&self, workspace_model: &str) -> Option<&Error> {
        self.sponsored.unusable.get(self.sponsored.registered.get(workspace_model)?)
    }

    /// Whether the user is one of those whom the allowance names; nobody is, where it names nobody.
    pub fn is_member(&self, allowance: &SponsoredAllowance, user: &UserId) -> bool {
        self.sponsored.people.get(&allowance.id).is_some_and(|people| people.contains(user.as_str()))
    }
}
