//! The members of an allowance, as administrators name them and as they are shown.

use std::collections::{BTreeSet, HashMap};

use crate::admin::{groups, users};
use crate::names::meant;
use crate::open_webui_groups::members as open_webui_groups;
use crate::sponsored::{Member, MemberKind, people as people_of};
use crate::{Database, Error, SponsoredAllowance};

/// A member as an administrator names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedMember {
    /// What they are.
    pub kind: MemberKind,
    /// A user's id, e-mail address or name; a group's name or id.
    pub name: String,
}

/// Finds the members that are named, each once.
///
/// # Errors
/// [`Error::NotFound`] for one who is not there, [`Error::Conflict`] where several are meant.
pub async fn named_members(database: &Database, named: &[NamedMember]) -> Result<Vec<Member>, Error> {
    let mut members = BTreeSet::new();
    for NamedMember { kind, name } in named {
        let id = match kind {
            MemberKind::User => users::one(database, name).await?.id.to_string(),
            MemberKind::CreditGroup => groups::get(database, name).await?.id.simple().to_string(),
            MemberKind::OpenWebUiGroup => open_webui_group(database, name).await?,
        };
        members.insert(Member { kind: *kind, id });
    }
    Ok(members.into_iter().collect())
}

/// How each member of these allowances is shown: `user:Ann`, `group:staff`, `owui-group:Lab`; one who is gone by the id.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn member_names(
    database: &Database,
    allowances: &[SponsoredAllowance],
) -> Result<HashMap<Member, String>, Error> {
    let members: BTreeSet<&Member> = allowances.iter().flat_map(|allowance| &allowance.members).collect();
    let mut names = HashMap::new();
    if members.is_empty() {
        return Ok(names);
    }
    let groups: HashMap<String, String> = groups::list(database)
        .await?
        .into_iter()
        .map(|group| (group.id.simple().to_string(), group.name))
        .collect();
    let open_webui = open_webui_groups(database).await?;
    for member in members {
        let (kind, name) = match member.kind {
            MemberKind::User => {
                let wanted = users::Wanted { id: Some(member.id.clone()), ..users::Wanted::default() };
                let found = users::find(database, &wanted).await?.pop();
                ("user", found.map(|user| String::from(user.name)).filter(|name| !name.is_empty()))
            }
            MemberKind::CreditGroup => ("group", groups.get(&member.id).cloned()),
            MemberKind::OpenWebUiGroup => {
                ("owui-group", open_webui.get(&member.id).map(|group| group.name.clone()))
            }
        };
        names.insert(member.clone(), format!("{kind}:{}", name.unwrap_or_else(|| member.id.clone())));
    }
    Ok(names)
}

/// The users whom an allowance names, themselves or by a credit group; those of Open WebUI's groups included.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn people(database: &Database, allowance: &SponsoredAllowance) -> Result<BTreeSet<String>, Error> {
    Ok(people_of(database, std::iter::once(allowance)).await?.remove(&allowance.id).unwrap_or_default())
}

async fn open_webui_group(database: &Database, name: &str) -> Result<String, Error> {
    let mut all = open_webui_groups(database).await?;
    if all.remove(name).is_some() {
        return Ok(name.to_owned());
    }
    let mut found: Vec<String> = meant(name, all.iter().map(|(id, group)| (id.clone(), group.name.as_str())));
    match found.len() {
        0 => Err(Error::NotFound {
            what: "group of Open WebUI",
            name: name.to_owned(),
            hint: "; Open WebUI shows all under Admin Panel, Users, Groups".into(),
        }),
        1 => Ok(found.swap_remove(0)),
        _ => {
            found.sort_unstable();
            let what = format!(
                "several groups of Open WebUI have the name `{name}`; name one by its id: {}",
                found.join(", ")
            );
            Err(Error::Conflict { what })
        }
    }
}
