//! Who the members of sponsored allowances are: users, and whoever is in the groups that are named.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use accounting::SponsoredId;
use uuid::Uuid;

use super::{MemberKind, SponsoredAllowance};
use crate::groups;
use crate::open_webui_groups::members;
use crate::{Database, Error};

/// The users of each allowance that names anybody. A group that is gone has nobody in it.
pub(crate) async fn people<'a>(
    database: &Database,
    allowances: impl Iterator<Item = &'a SponsoredAllowance> + Clone,
) -> Result<HashMap<SponsoredId, BTreeSet<String>>, Error> {
    let names = |kind: MemberKind| {
        let mut all = allowances.clone().flat_map(|allowance| &allowance.members);
        all.any(|member| member.kind == kind)
    };
    let in_credit_groups =
        if names(MemberKind::CreditGroup) { credit_groups(database).await? } else { HashMap::new() };
    let in_groups = if names(MemberKind::OpenWebUiGroup) { members(database).await? } else { HashMap::new() };
    let mut people: HashMap<SponsoredId, BTreeSet<String>> = HashMap::new();
    for allowance in allowances.filter(|allowance| !allowance.members.is_empty()) {
        let users = people.entry(allowance.id).or_default();
        for member in &allowance.members {
            match member.kind {
                MemberKind::User => {
                    users.insert(member.id.clone());
                }
                MemberKind::CreditGroup => {
                    users.extend(in_credit_groups.get(&member.id).into_iter().flatten().cloned());
                }
                MemberKind::OpenWebUiGroup => {
                    users.extend(
                        in_groups.get(&member.id).into_iter().flat_map(|group| group.members.clone()),
                    );
                }
            }
        }
    }
    Ok(people)
}

/// Who is in each credit group, by its id.
async fn credit_groups(database: &Database) -> Result<HashMap<String, BTreeSet<String>>, Error> {
    let members = groups::members(database, &groups::terms(database).await?).await?;
    let of =
        |(id, users): (Uuid, BTreeMap<String, _>)| (id.simple().to_string(), users.into_keys().collect());
    Ok(members.into_iter().map(of).collect())
}
