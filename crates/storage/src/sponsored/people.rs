//! Who the members of sponsored allowances are: users, and whoever is in the groups that are named.

use std::collections::{BTreeSet, HashMap};

use accounting::SponsoredId;
use uuid::Uuid;

use super::{MemberKind, SponsoredAllowance};
use crate::{Database, Error, groups, open_webui_groups};

/// The users of each allowance that names anybody. A group that is gone has nobody in it.
pub(crate) async fn people<'a>(
    database: &Database,
    allowances: impl Iterator<Item = &'a SponsoredAllowance> + Clone,
) -> Result<HashMap<SponsoredId, BTreeSet<String>>, Error> {
    let names = |kind: MemberKind| {
        let mut all = allowances.clone().flat_map(|allowance| &allowance.members);
        all.any(|member| member.kind == kind)
    };
    let credit_groups = if names(MemberKind::CreditGroup) {
        groups::members(database, &groups::terms(database).await?).await?
    } else {
        HashMap::new()
    };
    let open_webui =
        if names(MemberKind::OpenWebUiGroup) { open_webui_groups(database).await? } else { HashMap::new() };
    let mut people: HashMap<SponsoredId, BTreeSet<String>> = HashMap::new();
    for allowance in allowances.filter(|allowance| !allowance.members.is_empty()) {
        let users = people.entry(allowance.id).or_default();
        for member in &allowance.members {
            match member.kind {
                MemberKind::User => {
                    users.insert(member.id.clone());
                }
                MemberKind::CreditGroup => {
                    let found = Uuid::try_parse(&member.id).ok().and_then(|id| credit_groups.get(&id));
                    users.extend(found.into_iter().flat_map(|members| members.keys().cloned()));
                }
                MemberKind::OpenWebUiGroup => {
                    users.extend(
                        open_webui.get(&member.id).into_iter().flat_map(|group| group.members.clone()),
                    );
                }
            }
        }
    }
    Ok(people)
}
