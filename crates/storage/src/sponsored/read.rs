//! The tables of sponsored allowances, read at one moment.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use accounting::{Credits, Day, ModelId, ProviderName, SponsoredId};

use super::{CoveredModel, Member, MemberKind, SponsoredAllowance};
use crate::database::in_snapshot;
use crate::{Database, Error, Kind};

const ALLOWANCE: &str = "token_tracking_sponsored_allowance";
const BESIDE: &str = "token_tracking_sponsored";
const MEMBER: &str = "token_tracking_sponsored_member";

/// What is asked.
pub(crate) struct Queries {
    pub allowances: String,
    pub beside: String,
    pub covered: String,
    pub qualified: String,
    pub members: String,
    pub workspace_models: String,
}

/// What was found.
pub(crate) struct Rows {
    pub allowances: Vec<AllowanceRow>,
    pub beside: Vec<BesideRow>,
    pub covered: Vec<(String, String)>,
    pub qualified: Vec<(String, String, String)>,
    pub members: Vec<(String, String, String)>,
    pub workspace_models: Vec<(String, String)>,
}

/// The original's columns: id, name, sponsor, total, daily, made at.
type AllowanceRow = (String, Option<String>, Option<String>, i64, Option<i64>, Option<String>);
/// Ours: id, first day, last day, public, deleted at.
type BesideRow = (String, Option<String>, Option<String>, i64, Option<i64>);

/// Reads the tables in a transaction.
macro_rules! rows {
    ($database:expr, $transaction:expr) => {{
        let queries = $crate::sponsored::Queries::of($database);
        macro_rules! all {
            ($sql:expr) => {
                sqlx::query_as(sqlx::AssertSqlSafe($sql)).fetch_all(&mut *$transaction).await?
            };
        }
        $crate::sponsored::Rows {
            allowances: all!(queries.allowances),
            beside: all!(queries.beside),
            covered: all!(queries.covered),
            qualified: all!(queries.qualified),
            members: all!(queries.members),
            workspace_models: all!(queries.workspace_models),
        }
    }};
}
pub(crate) use rows;

/// The allowances that are not deleted, by name.
pub(crate) async fn read(database: &Database) -> Result<Vec<SponsoredAllowance>, Error> {
    let (allowances, unusable) = Rows::read(database).await?.allowances();
    match unusable.into_values().next() {
        Some(error) => Err(error),
        None => Ok(allowances),
    }
}

impl Queries {
    pub(crate) fn of(database: &Database) -> Self {
        let created_at = match database.kind() {
            Kind::Sqlite => "substr(CAST(creation_date AS TEXT), 1, 19)",
            Kind::Postgres => "to_char(creation_date AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')",
        };
        Self {
            allowances: format!(
                "SELECT CAST(id AS TEXT), name, sponsor_id, CAST(total_credit_limit AS BIGINT), \
                   CAST(daily_credit_limit AS BIGINT), {created_at} FROM {} ORDER BY lower(name), 1",
                database.table(ALLOWANCE)
            ),
            beside: format!(
                "SELECT id, starts_on, ends_on, public, deleted_at FROM {}",
                database.table(BESIDE)
            ),
            covered: format!(
                "SELECT DISTINCT CAST(sponsored_allowance_id AS TEXT), base_model_id FROM {} \
                 WHERE sponsored_allowance_id IS NOT NULL AND base_model_id IS NOT NULL ORDER BY 2",
                database.table("token_tracking_sponsored_allowance_base_models")
            ),
            qualified: format!(
                "SELECT sponsored_id, provider, model FROM {} ORDER BY 2, 3",
                database.table("token_tracking_sponsored_model")
            ),
            members: format!(
                "SELECT sponsored_id, kind, member FROM {} ORDER BY 2, 3",
                database.table(MEMBER)
            ),
            workspace_models: format!(
                "SELECT id, sponsored_id FROM {} ORDER BY 1",
                database.table("token_tracking_sponsored_workspace_model")
            ),
        }
    }
}

impl Rows {
    pub(crate) async fn read(database: &Database) -> Result<Self, Error> {
        in_snapshot!(database, transaction => Ok(rows!(database, transaction)))
    }

    /// All names with their ids, those of deleted allowances included.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.allowances.iter().filter_map(|row| Some((row.0.as_str(), row.1.as_deref()?)))
    }

    /// The workspace models that are registered, each with its allowance.
    pub(crate) fn registered(&self) -> Result<BTreeMap<String, SponsoredId>, Error> {
        let one = |(id, sponsored): &(String, String)| Ok((id.clone(), sponsored.parse()?));
        self.workspace_models.iter().map(one).collect()
    }

    /// The allowances that are not deleted, by name, and why others can't be used, by their ids.
    pub(crate) fn allowances(self) -> (Vec<SponsoredAllowance>, BTreeMap<SponsoredId, Error>) {
        let mut unusable: BTreeMap<SponsoredId, Error> = BTreeMap::new();
        let mut beside: HashMap<SponsoredId, BesideRow> = HashMap::new();
        // A row whose id is none is nobody's.
        beside.extend(self.beside.into_iter().filter_map(|row| Some((row.0.parse().ok()?, row))));
        // A provider counts only where the original's table still has the model.
        let mut providers: HashMap<(SponsoredId, String), Vec<ProviderName>> = HashMap::new();
        for (id, provider, model) in self.qualified {
            let Ok(id) = id.parse::<SponsoredId>() else { continue };
            match ProviderName::new(provider) {
                Ok(provider) => providers.entry((id, model)).or_default().push(provider),
                Err(error) => drop(unusable.insert(id, error.into())),
            }
        }
        let mut models: HashMap<SponsoredId, BTreeSet<CoveredModel>> = HashMap::new();
        for (id, model) in self.covered {
            let Ok(id) = id.parse::<SponsoredId>() else { continue };
            let named = providers.remove(&(id, model.clone())).unwrap_or_default();
            let model = match ModelId::new(model) {
                Ok(model) => model,
                Err(error) => {
                    unusable.insert(id, error.into());
                    continue;
                }
            };
            let of = |provider| CoveredModel { provider, model: model.clone() };
            let covered = models.entry(id).or_default();
            if named.is_empty() {
                covered.insert(of(None));
            }
            covered.extend(named.into_iter().map(Some).map(of));
        }
        let mut members: HashMap<SponsoredId, Vec<Member>> = HashMap::new();
        for (sponsored, kind, member) in self.members {
            let Ok(id) = sponsored.parse::<SponsoredId>() else { continue };
            match MemberKind::read(&kind) {
                Some(kind) => members.entry(id).or_default().push(Member { kind, id: member }),
                // Without this member it would be open to others than its sponsor meant.
                None => {
                    let what = format!("the sponsored allowance {sponsored}");
                    let value = format!("a member of the kind `{kind}`");
                    unusable.insert(id, Error::NewerData { what, value });
                }
            }
        }
        let mut allowances = Vec::with_capacity(self.allowances.len());
        for row in self.allowances {
            let Ok(id) = row.0.parse::<SponsoredId>() else {
                tracing::debug!(id = row.0, "a sponsored allowance whose id is none");
                continue;
            };
            let beside = beside.remove(&id).unwrap_or_else(|| (row.0.clone(), None, None, 0, None));
            if beside.4.is_some() {
                unusable.remove(&id);
                continue;
            }
            let parts = (models.remove(&id).unwrap_or_default(), members.remove(&id).unwrap_or_default());
            match allowance(id, row, beside, parts) {
                Ok(allowance) if !unusable.contains_key(&id) => allowances.push(allowance),
                Ok(_) => {}
                Err(error) => drop(unusable.insert(id, error)),
            }
        }
        (allowances, unusable)
    }
}

fn allowance(
    parsed: SponsoredId,
    (id, name, sponsor, total, daily, created_at): AllowanceRow,
    (_, starts_on, ends_on, public, _): BesideRow,
    (models, members): (BTreeSet<CoveredModel>, Vec<Member>),
) -> Result<SponsoredAllowance, Error> {
    let day = |column: &str, text: Option<String>| {
        let parsed = text.map(|text| text.parse::<Day>()).transpose();
        parsed.map_err(|_| wrong(BESIDE, column, &id))
    };
    Ok(SponsoredAllowance {
        id: parsed,
        name: name.ok_or_else(|| wrong(ALLOWANCE, "name", &id))?,
        sponsor: sponsor.unwrap_or_default(),
        models: models.into_iter().collect(),
        total: Credits::saturating_from_whole(total),
        daily: daily.map(Credits::saturating_from_whole),
        starts_on: day("starts_on", starts_on)?,
        ends_on: day("ends_on", ends_on)?,
        members,
        public: public != 0,
        created_at: created_at.unwrap_or_default(),
    })
}

fn wrong(table: &str, column: &str, row: &str) -> Error {
    Error::Inconsistency { table: table.into(), column: column.into(), row: row.into() }
}
