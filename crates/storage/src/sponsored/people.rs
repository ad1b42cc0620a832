//! Who the members of sponsored allowances are: users, and whoever is in the groups that are named.

use std::collections::{BTreeSet, HashMap};

use accounting::SponsoredId;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::{MemberKind, SponsoredAllowance};
use crate::open_webui_groups::{OpenWebUiGroup, members};
use crate::{Database, Error, on_pool};

/// The users of each allowance that names anybody. A group that is gone has nobody in it.
pub(crate) async fn people<'a>(
    database: &Database,
    allowances: impl Iterator<Item = &'a SponsoredAllowance> + Clone,
) -> Result<HashMap<SponsoredId, BTreeSet<String>>, Error> {
    let names = |kind: MemberKind| {
        let mut all = allowances.clone().flat_map(|allowance| &allowance.members);
        all.any(|member| member.kind == kind)
    };
    let (credit_groups, groups) = if names(MemberKind::CreditGroup) {
        let groups = members(database).await?;
        (credit_groups(database, &groups).await?, groups)
    } else if names(MemberKind::OpenWebUiGroup) {
        (HashMap::new(), members(database).await?)
    } else {
        Default::default()
    };
    let mut people: HashMap<SponsoredId, BTreeSet<String>> = HashMap::new();
    for allowance in allowances.filter(|allowance| !allowance.members.is_empty()) {
        let users = people.entry(allowance.id).or_default();
        for member in &allowance.members {
            match member.kind {
                MemberKind::User => {
                    users.insert(member.id.clone());
                }
                MemberKind::CreditGroup => {
                    users.extend(credit_groups.get(&member.id).into_iter().flatten().cloned())
                }
                MemberKind::OpenWebUiGroup => {
                    users.extend(groups.get(&member.id).into_iter().flat_map(|group| group.members.clone()));
                }
            }
        }
    }
    Ok(people)
}

/// Who is in each credit group, by its id: those who were added, and those of the Open WebUI group that it follows.
async fn credit_groups(
    database: &Database,
    open_webui: &HashMap<String, OpenWebUiGroup>,
) -> Result<HashMap<String, BTreeSet<String>>, Error> {
    let added = format!(
        "SELECT DISTINCT CAST(credit_group_id AS TEXT), CAST(user_id AS TEXT) FROM {} \
         WHERE credit_group_id IS NOT NULL AND user_id IS NOT NULL",
        database.table("token_tracking_credit_group_user")
    );
    let following = format!(
        "SELECT id, open_webui_group FROM {} WHERE open_webui_group IS NOT NULL",
        database.table("token_tracking_group")
    );
    type Pairs = Vec<(String, String)>;
    let (added, following): (Pairs, Pairs) = on_pool!(database, pool => (
        sqlx::query_as(AssertSqlSafe(added)).fetch_all(pool).await?,
        sqlx::query_as(AssertSqlSafe(following)).fetch_all(pool).await?,
    ));
    let key = |id: String| Uuid::try_parse(&id).map_or(id, |uuid| uuid.simple().to_string());
    let mut groups: HashMap<String, BTreeSet<String>> = HashMap::new();
    for (id, user) in added {
        groups.entry(key(id)).or_default().insert(user);
    }
    for (id, followed) in following {
        let users = open_webui.get(&followed).map(|group| group.members.clone());
        groups.entry(key(id)).or_default().extend(users.unwrap_or_default());
    }
    Ok(groups)
}
