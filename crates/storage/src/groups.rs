//! What groups grant, and whom: the credits that each adds for each period, and its members.
//!
//! Members are those whom an administrator named, and, if the group follows one of Open WebUI's, whoever is in that.

use std::collections::{BTreeMap, HashMap};

use accounting::{Credits, Period};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::{Database, Error, Kind, OpenWebUiGroup, on_pool, open_webui_groups};

/// Limits for each period, or what a group adds to them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Credits a day.
    pub daily: Credits,
    /// Credits a week, if there is a weekly limit.
    pub weekly: Option<Credits>,
    /// Credits a month, if there is a monthly limit.
    pub monthly: Option<Credits>,
}

/// A group as limits need it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    pub adds: Limits,
    /// The id of the Open WebUI group that it follows.
    pub follows: Option<String>,
}

/// How somebody came to be in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    /// An administrator named them.
    Named,
    /// By the Open WebUI group that the group follows.
    Followed,
}

impl Limits {
    /// The limit of a period.
    pub const fn of(&self, period: Period) -> Option<Credits> {
        match period {
            Period::Day => Some(self.daily),
            Period::Week => self.weekly,
            Period::Month => self.monthly,
        }
    }

    /// Both together; a limit that only one has is the limit. No sum is larger than the largest amount of credits.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        const fn both(one: Option<Credits>, other: Option<Credits>) -> Option<Credits> {
            match (one, other) {
                (Some(one), Some(other)) => Some(one.saturating_plus(other)),
                (Some(one), None) => Some(one),
                (None, other) => other,
            }
        }
        Self {
            daily: self.daily.saturating_plus(other.daily),
            weekly: both(self.weekly, other.weekly),
            monthly: both(self.monthly, other.monthly),
        }
    }
}

/// All groups by id.
pub(crate) async fn terms(database: &Database) -> Result<HashMap<Uuid, Terms>, Error> {
    let hex = match database.kind() {
        Kind::Sqlite => "CAST(granted.id AS TEXT)",
        Kind::Postgres => "replace(CAST(granted.id AS TEXT), '-', '')",
    };
    let sql = format!(
        "SELECT CAST(granted.id AS TEXT), CAST(max_credit AS BIGINT), weekly, monthly, open_webui_group \
         FROM {} AS granted LEFT JOIN {} AS beside ON beside.id = {hex}",
        database.table("token_tracking_credit_group"),
        database.table("token_tracking_group")
    );
    type Row = (Option<String>, Option<i64>, Option<i64>, Option<i64>, Option<String>);
    let rows: Vec<Row> =
        on_pool!(database, pool => sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?);
    let mut groups = HashMap::new();
    for (id, daily, weekly, monthly, follows) in rows {
        // The table is the original's: a row without a proper id is nobody's group.
        let Some(id) = id.and_then(|id| Uuid::try_parse(&id).ok()) else { continue };
        let adds = Limits {
            daily: Credits::saturating_from_whole(daily.unwrap_or_default()),
            weekly: weekly.map(Credits::from_micro),
            monthly: monthly.map(Credits::from_micro),
        };
        groups.insert(id, Terms { adds, follows });
    }
    Ok(groups)
}

/// The members of those groups, by the group's id and their own. Someone entered twice is in it once.
pub(crate) async fn members(
    database: &Database,
    groups: &HashMap<Uuid, Terms>,
) -> Result<HashMap<Uuid, BTreeMap<String, Membership>>, Error> {
    let sql = format!(
        "SELECT DISTINCT CAST(credit_group_id AS TEXT), CAST(user_id AS TEXT) FROM {} \
         WHERE credit_group_id IS NOT NULL AND user_id IS NOT NULL",
        database.table("token_tracking_credit_group_user")
    );
    let rows: Vec<(String, String)> =
        on_pool!(database, pool => sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?);
    let mut members: HashMap<Uuid, BTreeMap<String, Membership>> = HashMap::new();
    if groups.values().any(|terms| terms.follows.is_some()) {
        let open_webui = open_webui_groups(database).await?;
        let followed = |terms: &Terms| open_webui.get(terms.follows.as_ref()?);
        for (id, terms) in groups {
            let Some(OpenWebUiGroup { members: followed, .. }) = followed(terms) else { continue };
            members
                .entry(*id)
                .or_default()
                .extend(followed.iter().map(|user| (user.clone(), Membership::Followed)));
        }
    }
    for (group, user) in rows {
        if let Some(id) = Uuid::try_parse(&group).ok().filter(|id| groups.contains_key(id)) {
            members.entry(id).or_default().insert(user, Membership::Named);
        }
    }
    Ok(members)
}

/// What the groups of each user who is in any add together.
pub(crate) async fn limits_by_user(database: &Database) -> Result<HashMap<String, Limits>, Error> {
    let groups = terms(database).await?;
    let mut limits: HashMap<String, Limits> = HashMap::new();
    for (id, members) in members(database, &groups).await? {
        let Some(terms) = groups.get(&id) else { continue };
        for user in members.into_keys() {
            let sum = limits.entry(user).or_default();
            *sum = sum.plus(terms.adds);
        }
    }
    Ok(limits)
}
