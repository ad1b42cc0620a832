//! Sponsored allowances, in the original's tables.

use accounting::{Credits, ModelId, SponsoredId};
use sqlx::AssertSqlSafe;

use crate::database::in_transaction;
use crate::sponsored::read;
use crate::{Database, Error, SponsoredAllowance, nearest, new_id, on_pool};

/// Which allowance is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// That with this id.
    Id(SponsoredId),
    /// That with this name, in any case.
    Name(String),
}

/// What an allowance is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Its name.
    pub name: String,
    /// Who pays: a user's id, or any name.
    pub sponsor: String,
    /// The models that it covers.
    pub models: Vec<ModelId>,
    /// Whole credits that all users together may spend, ever.
    pub total: i64,
    /// Whole credits that each user may spend in a day; `None` for no limit.
    pub daily: Option<i64>,
}

/// What of an allowance is to change; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub name: Option<String>,
    /// Who pays: a user's id, or any name.
    pub sponsor: Option<String>,
    /// The models that it covers.
    pub models: Option<Vec<ModelId>>,
    /// Whole credits that all users together may spend, ever.
    pub total: Option<i64>,
    /// Whole credits that each user may spend in a day; `Some(None)` for no limit.
    pub daily: Option<Option<i64>>,
}

/// All allowances, by name.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn list(database: &Database) -> Result<Vec<SponsoredAllowance>, Error> {
    read(database).await
}

/// One allowance.
///
/// # Errors
/// [`Error::NotFound`] if there is none such.
pub async fn get(database: &Database, which: &Which) -> Result<SponsoredAllowance, Error> {
    let is_it = |allowance: &SponsoredAllowance| match which {
        Which::Id(id) => allowance.id == *id,
        Which::Name(name) => allowance.name.to_lowercase() == name.to_lowercase(),
    };
    let all = read(database).await?;
    all.iter().find(|allowance| is_it(allowance)).cloned().ok_or_else(|| {
        let (name, names) = (which.to_string(), all.iter().map(|allowance| allowance.name.as_str()));
        let hint = nearest::hint(&name, names, "`owui-token-tracking sponsored list` shows all");
        Error::NotFound { what: "sponsored allowance", name, hint }
    })
}

/// Makes an allowance.
///
/// # Errors
/// [`Error::Conflict`] if there is one of that name, [`Error::NotFound`] if a model has no price,
/// [`Error::Invalid`] for limits that can't be.
pub async fn create(database: &Database, terms: &Terms) -> Result<SponsoredAllowance, Error> {
    check(database, terms, None).await?;
    let id = SponsoredId::new(new_id());
    let sql = format!(
        "INSERT INTO {} (id, name, sponsor_id, total_credit_limit, daily_credit_limit) VALUES ({}, $2, $3, $4, $5)",
        database.table("token_tracking_sponsored_allowance"),
        database.uuid("$1")
    );
    let link = link(database);
    in_transaction!(database, transaction => {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(id.to_string()).bind(&terms.name).bind(&terms.sponsor);
        query.bind(terms.total).bind(terms.daily).execute(&mut *transaction).await?;
        for model in &terms.models {
            let query = sqlx::query(AssertSqlSafe(link.clone())).bind(id.to_string()).bind(model.as_str());
            query.execute(&mut *transaction).await?;
        }
    });
    get(database, &Which::Id(id)).await
}

/// Changes an allowance. What is spent stays spent: a limit below it refuses from then on.
///
/// # Errors
/// As [`get`] and [`create`].
pub async fn update(database: &Database, which: &Which, change: Change) -> Result<SponsoredAllowance, Error> {
    let before = get(database, which).await?;
    let whole = |credits: Credits| credits.micro() / 1_000_000;
    let terms = Terms {
        name: change.name.unwrap_or_else(|| before.name.clone()),
        sponsor: change.sponsor.clone().unwrap_or_else(|| before.sponsor.clone()),
        models: change.models.clone().unwrap_or_else(|| before.models.clone()),
        total: change.total.unwrap_or_else(|| whole(before.total)),
        daily: change.daily.unwrap_or_else(|| before.daily.map(whole)),
    };
    check(database, &terms, Some(&before)).await?;
    let sql = format!(
        "UPDATE {} SET name = $2, sponsor_id = $3, total_credit_limit = $4, daily_credit_limit = $5 WHERE id = {}",
        database.table("token_tracking_sponsored_allowance"),
        database.uuid("$1")
    );
    let (unlink, link) = (unlink(database), link(database));
    let id = before.id.to_string();
    in_transaction!(database, transaction => {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(&id).bind(&terms.name).bind(&terms.sponsor);
        query.bind(terms.total).bind(terms.daily).execute(&mut *transaction).await?;
        if change.models.is_some() {
            sqlx::query(AssertSqlSafe(unlink)).bind(&id).execute(&mut *transaction).await?;
            for model in &terms.models {
                let query = sqlx::query(AssertSqlSafe(link.clone())).bind(&id).bind(model.as_str());
                query.execute(&mut *transaction).await?;
            }
        }
    });
    get(database, &Which::Id(before.id)).await
}

/// Deletes an allowance. The ledger keeps what was charged to it.
///
/// # Errors
/// [`Error::NotFound`] if there is none such, [`Error::Conflict`] if the original's usage log refers to it.
pub async fn delete(database: &Database, which: &Which) -> Result<(), Error> {
    let allowance = get(database, which).await?;
    let id = allowance.id.to_string();
    let used = format!(
        "SELECT COUNT(*) FROM {} WHERE sponsored_allowance_id = {}",
        database.table("token_tracking_usage_log"),
        database.uuid("$1")
    );
    let used: i64 = on_pool!(database, pool => {
        sqlx::query_scalar(AssertSqlSafe(used)).bind(&id).fetch_one(pool).await?
    });
    if used > 0 {
        return Err(Error::Conflict {
            what: format!(
                "the usage log of the earlier installation has {used} rows of the sponsored allowance `{}`; to end it, \
                 set its total limit to 0 instead",
                allowance.name
            ),
        });
    }
    let remove = format!(
        "DELETE FROM {} WHERE id = {}",
        database.table("token_tracking_sponsored_allowance"),
        database.uuid("$1")
    );
    let unlink = unlink(database);
    in_transaction!(database, transaction => {
        sqlx::query(AssertSqlSafe(unlink)).bind(&id).execute(&mut *transaction).await?;
        sqlx::query(AssertSqlSafe(remove)).bind(&id).execute(&mut *transaction).await?;
    });
    Ok(())
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

fn link(database: &Database) -> String {
    format!(
        "INSERT INTO {} (sponsored_allowance_id, base_model_id) VALUES ({}, $2)",
        database.table("token_tracking_sponsored_allowance_base_models"),
        database.uuid("$1")
    )
}

fn unlink(database: &Database) -> String {
    format!(
        "DELETE FROM {} WHERE sponsored_allowance_id = {}",
        database.table("token_tracking_sponsored_allowance_base_models"),
        database.uuid("$1")
    )
}

/// Whether an allowance can be so. `before`: what it is now, if it is there.
async fn check(database: &Database, terms: &Terms, before: Option<&SponsoredAllowance>) -> Result<(), Error> {
    let invalid = |what: String| Err(Error::Invalid { what });
    if terms.name.trim().is_empty() || terms.name.chars().count() > 200 || terms.name.contains("---") {
        return invalid(
            "the name of a sponsored allowance has 1 to 200 characters and no `---`, which ends it in a model's id"
                .into(),
        );
    }
    for (what, limit) in [("total", Some(terms.total)), ("daily", terms.daily)] {
        if limit.is_some_and(|limit| !(0..=i64::from(i32::MAX)).contains(&limit)) {
            return invalid(format!("the {what} limit is in whole credits, from 0 to {}", i32::MAX));
        }
    }
    if terms.sponsor.is_empty() || terms.sponsor.chars().count() > 255 || terms.sponsor.contains('\0') {
        return invalid("the sponsor has 1 to 255 characters: a user's id, or whoever pays".into());
    }
    if terms.models.is_empty() {
        return invalid("a sponsored allowance covers at least one model".into());
    }
    for other in read(database).await? {
        let itself = before.is_some_and(|before| before.id == other.id);
        if !itself && other.name.to_lowercase() == terms.name.to_lowercase() {
            return Err(Error::Conflict {
                what: format!("there is a sponsored allowance `{}` already", other.name),
            });
        }
    }
    let mirror = database.table("token_tracking_model_pricing");
    for model in &terms.models {
        let sql = format!("SELECT COUNT(*) FROM {mirror} WHERE id = $1");
        let priced: i64 = on_pool!(database, pool => {
            sqlx::query_scalar(AssertSqlSafe(sql)).bind(model.as_str()).fetch_one(pool).await?
        });
        if priced == 0 {
            return Err(nearest::unknown_price(database, model).await);
        }
    }
    Ok(())
}
