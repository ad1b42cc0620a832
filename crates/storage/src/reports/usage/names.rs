//! Names for what the ledger knows by id, and who is in which group now.

use std::collections::{BTreeSet, HashMap, HashSet};

use accounting::SponsoredId;
use sqlx::AssertSqlSafe;

use super::{By, Question};
use crate::admin::users;
use crate::names::meant;
use crate::{Database, Error, groups, nearest, on_pool, open_webui_groups, refusals};

/// A group as its members are now.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub name: String,
    pub members: BTreeSet<String>,
}

/// What a question needs to know beside sums.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub users: HashMap<String, String>,
    pub sponsored: HashMap<String, String>,
    pub groups: HashMap<String, Group>,
    pub open_webui_groups: HashMap<String, Group>,
    /// The users to whom the question is narrowed.
    pub picked: Option<HashSet<String>>,
}

impl Names {
    pub(crate) async fn of(database: &Database, question: &Question) -> Result<Self, Error> {
        let asks = |by: By| question.by.contains(&by);
        let mut names = Self::default();
        if asks(By::User) {
            names.users = users(database).await?;
        }
        if asks(By::Sponsor) {
            names.sponsored = sponsored(database).await?;
        }
        if asks(By::Group) || question.group.is_some() {
            names.groups = credit_groups(database).await?;
        }
        if asks(By::OpenWebUiGroup) || question.open_webui_group.is_some() {
            let groups = open_webui_groups(database).await?.into_iter();
            let group = groups.map(|(id, group)| (id, Group { name: group.name, members: group.members }));
            names.open_webui_groups = group.collect();
        }
        let mut narrow = |which: &Option<String>, groups: &HashMap<String, Group>, what, otherwise: &str| {
            let Some(which) = which else { return Ok(()) };
            let fitting = match groups.get(which) {
                Some(group) => vec![group],
                None => meant(which, groups.values().map(|group| (group, group.name.as_str()))),
            };
            let group = match fitting.as_slice() {
                [group] => *group,
                [] => {
                    let names = groups.values().map(|group| group.name.as_str());
                    let hint = nearest::hint(which, names, otherwise);
                    return Err(Error::NotFound { what, name: which.clone(), hint });
                }
                _ => {
                    return Err(Error::Conflict {
                        what: format!("several groups are called `{which}`; name one by its id"),
                    });
                }
            };
            let members: HashSet<String> = group.members.iter().cloned().collect();
            names.picked = Some(match names.picked.take() {
                Some(others) => others.intersection(&members).cloned().collect(),
                None => members,
            });
            Ok(())
        };
        let credit_group_list = "`owui-token-tracking credit-group list` shows all";
        narrow(&question.group, &names.groups, "credit group", credit_group_list)?;
        let open_webui = "`owui-token-tracking usage --by owui-group` shows all with usage";
        narrow(&question.open_webui_group, &names.open_webui_groups, "Open WebUI group", open_webui)?;
        Ok(names)
    }
}

/// Two columns of text as a map; where one is empty, nothing.
async fn pairs(database: &Database, sql: String) -> Result<HashMap<String, String>, Error> {
    let rows: Vec<(Option<String>, Option<String>)> =
        on_pool!(database, pool => sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?);
    Ok(rows.into_iter().filter_map(|(id, name)| Some((id?, name.filter(|name| !name.is_empty())?))).collect())
}

/// The names that were kept of what was deleted.
async fn kept(database: &Database, kind: &str) -> Result<HashMap<String, String>, Error> {
    pairs(
        database,
        format!("SELECT id, name FROM {} WHERE kind = '{kind}'", database.table("token_tracking_name")),
    )
    .await
}

/// Users' names: those of Open WebUI before those that were seen, before those of deleted users.
async fn users(database: &Database) -> Result<HashMap<String, String>, Error> {
    let mut names = kept(database, "user").await?;
    let mut tables = vec!["token_tracking_user"];
    if database.has_table("user").await? {
        tables.push("user");
    }
    for table in tables {
        let table = database.table(table);
        names.extend(
            pairs(database, format!("SELECT CAST(id AS TEXT), CAST(name AS TEXT) FROM {table}")).await?,
        );
    }
    Ok(names)
}

async fn sponsored(database: &Database) -> Result<HashMap<String, String>, Error> {
    let mut names = kept(database, "sponsored_allowance").await?;
    let table = database.table("token_tracking_sponsored_allowance");
    let sql = format!("SELECT replace(CAST(id AS TEXT), '-', ''), name FROM {table}");
    names.extend(pairs(database, sql).await?);
    Ok(names)
}

/// The credit groups with their members, those of a followed Open WebUI group among them.
async fn credit_groups(database: &Database) -> Result<HashMap<String, Group>, Error> {
    let table = database.table("token_tracking_credit_group");
    let named =
        pairs(database, format!("SELECT replace(CAST(id AS TEXT), '-', ''), name FROM {table}")).await?;
    let mut members = groups::members(database, &groups::terms(database).await?).await?;
    let group = |(id, name): (String, String)| {
        let members = uuid::Uuid::try_parse(&id).ok().and_then(|id| members.remove(&id)).unwrap_or_default();
        (id, Group { name, members: members.into_keys().collect() })
    };
    Ok(named.into_iter().map(group).collect())
}

/// The id of the user with that id, e-mail address or name, also of one who was deleted.
///
/// # Errors
/// [`Error::NotFound`] for none, [`Error::Conflict`] for several.
pub async fn user_named(database: &Database, which: &str) -> Result<String, Error> {
    let error = match users::one(database, which).await {
        Ok(user) => return Ok(user.id.to_string()),
        Err(error @ Error::NotFound { .. }) => error,
        Err(error) => return Err(error),
    };
    let all = users(database).await?;
    if all.contains_key(which) {
        return Ok(which.to_owned());
    }
    match meant(which, all.iter().map(|(id, name)| (id, name.as_str()))).as_slice() {
        [] => {}
        [id] => return Ok((*id).clone()),
        several => {
            let mut ids: Vec<&str> = several.iter().map(|id| id.as_str()).collect();
            ids.sort_unstable();
            let what = format!("several users fit `{which}`; name one by id: {}", ids.join(", "));
            return Err(Error::Conflict { what });
        }
    }
    // Somebody whose name nobody has kept is known by what was used.
    let table = database.table("token_tracking_account");
    let sql = format!("SELECT CAST(COUNT(*) AS BIGINT) FROM {table} WHERE user_id = $1");
    let accounts: i64 =
        on_pool!(database, pool => sqlx::query_scalar(AssertSqlSafe(sql)).bind(which).fetch_one(pool).await?);
    if accounts > 0 { Ok(which.to_owned()) } else { Err(error) }
}

/// The sponsored allowance with that name or id, also one that was deleted.
///
/// # Errors
/// [`Error::NotFound`] for none, [`Error::Conflict`] for several.
pub async fn sponsored_named(database: &Database, which: &str) -> Result<SponsoredId, Error> {
    let asked: Option<SponsoredId> = which.parse().ok();
    let all = sponsored(database).await?;
    let mut named = Vec::new();
    for (id, name) in &all {
        let id: SponsoredId = id.parse()?;
        if Some(id) == asked {
            return Ok(id);
        }
        named.push((id, name.as_str()));
    }
    let fitting = meant(which, named);
    match fitting.as_slice() {
        [one] => Ok(*one),
        [] => Err(Error::NotFound {
            what: "sponsored allowance",
            name: which.to_owned(),
            hint: nearest::hint(
                which,
                all.values().map(String::as_str),
                "`owui-token-tracking sponsored list` shows all",
            ),
        }),
        several => {
            let ids: Vec<String> = several.iter().map(ToString::to_string).collect();
            Err(Error::Conflict {
                what: format!("several allowances were called `{which}`; name one by id: {}", ids.join(", ")),
            })
        }
    }
}

/// What usage is of, beside users, groups and allowances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// A model, by its id.
    Model,
    /// A provider, by its name in the price table.
    Provider,
    /// A task of Open WebUI.
    Task,
}

/// The tasks that Open WebUI names.
const TASKS: [&str; 9] = [
    "title_generation",
    "follow_up_generation",
    "tags_generation",
    "emoji_generation",
    "query_generation",
    "image_prompt_generation",
    "autocomplete_generation",
    "function_calling",
    "moa_response_generation",
];

/// Requires that there is, or was, a model, provider or task of that name: one that has a price, was asked for, or is among
/// these `others`.
///
/// # Errors
/// [`Error::NotFound`] with the nearest name.
pub async fn require(database: &Database, of: Of, name: &str, others: &[&str]) -> Result<(), Error> {
    let (what, column, otherwise) = match of {
        Of::Model => (
            "model",
            "model",
            "`owui-token-tracking usage --by model` shows those in use, `pricing list` those with a price",
        ),
        Of::Provider => (
            "provider",
            "provider",
            "`owui-token-tracking usage --by provider` shows those in use, `pricing list` those with prices",
        ),
        Of::Task => ("task", "task", "`owui-token-tracking usage --by task` shows those in use"),
    };
    if others.contains(&name) || (of == Of::Task && (name.is_empty() || TASKS.contains(&name))) {
        return Ok(());
    }
    let table = |table: &str| database.table(&format!("token_tracking_{table}"));
    let mut known: HashSet<String> = others.iter().map(|name| (*name).to_owned()).collect();
    let mut sources = vec![format!("SELECT DISTINCT {column} FROM {} WHERE grain = 0", table("rollup"))];
    match of {
        Of::Task => known.extend(TASKS.map(str::to_owned)),
        Of::Model | Of::Provider => {
            sources.insert(0, format!("SELECT DISTINCT {column} FROM {}", table("price")));
            if database.has_table(refusals::TABLE).await? {
                sources.push(format!("SELECT DISTINCT {column} FROM {}", table("refusal")));
            }
        }
    }
    // Last, because it is the longest.
    sources.push(format!("SELECT DISTINCT {column} FROM {} WHERE {column} IS NOT NULL", table("ledger")));
    for sql in sources {
        let found: Vec<String> =
            on_pool!(database, pool => sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(pool).await?);
        known.extend(found.into_iter().filter(|name| !name.is_empty()));
        if known.contains(name) {
            return Ok(());
        }
    }
    let hint = nearest::hint(name, known.iter().map(String::as_str), otherwise);
    Err(Error::NotFound { what, name: name.to_owned(), hint })
}
