//! Sponsored allowances, in the original's tables and in ours beside them.

mod delete;
mod models;
mod naming;
mod terms;
mod workspace_models;

use accounting::{ModelId, SponsoredId};
use sqlx::AssertSqlSafe;

pub use self::delete::delete;
pub use self::naming::{NamedMember, member_names, named_members, people};
pub use self::terms::{Change, Terms};
pub use self::workspace_models::{register, registered, unregister};

use self::terms::Resolved;
use crate::admin::audit::{Change as Noted, note};
use crate::database::in_transaction;
use crate::names::meant;
use crate::sponsored::{read, rows};
use crate::{Database, Error, SponsoredAllowance, nearest, new_id};

/// Which allowance is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// That with this id.
    Id(SponsoredId),
    /// That with this name, in any case.
    Name(String),
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
    which.of(read(database).await?)
}

/// Writes what an allowance is to be into our tables, and its models into the original's.
macro_rules! write_terms {
    ($database:expr, $transaction:expr, $id:expr, $terms:expr) => {{
        let (id, terms): (String, &Resolved) = ($id.to_string(), $terms);
        let beside = format!(
            "INSERT INTO {} (id, starts_on, ends_on, public) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO UPDATE SET \
             starts_on = excluded.starts_on, ends_on = excluded.ends_on, public = excluded.public",
            $database.table("token_tracking_sponsored")
        );
        sqlx::query(AssertSqlSafe(beside))
            .bind(&id)
            .bind(terms.starts_on.map(|day| day.to_string()))
            .bind(terms.ends_on.map(|day| day.to_string()))
            .bind(i64::from(terms.public))
            .execute(&mut *$transaction)
            .await?;
        for sql in unlink($database) {
            sqlx::query(AssertSqlSafe(sql)).bind(&id).execute(&mut *$transaction).await?;
        }
        let model_ids: std::collections::BTreeSet<&ModelId> =
            terms.models.iter().map(|covered| &covered.model).collect();
        for model in model_ids {
            let sql = format!(
                "INSERT INTO {} (sponsored_allowance_id, base_model_id) VALUES ({}, $2)",
                $database.table("token_tracking_sponsored_allowance_base_models"),
                $database.uuid("$1")
            );
            let query = sqlx::query(AssertSqlSafe(sql)).bind(&id).bind(model.as_str());
            query.execute(&mut *$transaction).await?;
        }
        for covered in &terms.models {
            let Some(provider) = &covered.provider else { continue };
            let sql = format!(
                "INSERT INTO {} (sponsored_id, provider, model) VALUES ($1, $2, $3)",
                $database.table("token_tracking_sponsored_model")
            );
            let query = sqlx::query(AssertSqlSafe(sql)).bind(&id).bind(provider.as_str());
            query.bind(covered.model.as_str()).execute(&mut *$transaction).await?;
        }
        for member in &terms.members {
            let sql = format!(
                "INSERT INTO {} (sponsored_id, kind, member) VALUES ($1, $2, $3)",
                $database.table("token_tracking_sponsored_member")
            );
            let query = sqlx::query(AssertSqlSafe(sql)).bind(&id).bind(member.kind.as_str());
            query.bind(&member.id).execute(&mut *$transaction).await?;
        }
    }};
}

/// Makes an allowance.
///
/// # Errors
/// [`Error::Conflict`] if there is one of that name, or a model is named in a way that two have; [`Error::NotFound`] if a
/// model has no price, or there is no such member; [`Error::Invalid`] for terms that can't be.
pub async fn create(database: &Database, terms: &Terms) -> Result<SponsoredAllowance, Error> {
    let terms = terms.resolved(database).await?;
    let id = SponsoredId::new(new_id());
    let insert = format!(
        "INSERT INTO {} (id, name, sponsor_id, total_credit_limit, daily_credit_limit) VALUES ({}, $2, $3, $4, $5)",
        database.table("token_tracking_sponsored_allowance"),
        database.uuid("$1")
    );
    in_transaction!(database, transaction => {
        terms.check(&rows!(database, transaction), None)?;
        let query = sqlx::query(AssertSqlSafe(insert)).bind(id.to_string()).bind(&terms.name);
        let query = query.bind(&terms.sponsor).bind(terms.total).bind(terms.daily);
        query.execute(&mut *transaction).await?;
        write_terms!(database, transaction, id, &terms);
        let after = Some(terms.shown());
        note!(transaction, database, Noted { action: "sponsored create", subject: &terms.name, before: None, after });
    });
    get(database, &Which::Id(id)).await
}

/// Changes an allowance. What is spent stays spent: a limit below it refuses from then on. Running requests end as they
/// were admitted.
///
/// # Errors
/// As [`get`] and [`create`].
pub async fn update(database: &Database, which: &Which, change: Change) -> Result<SponsoredAllowance, Error> {
    let change = change.resolved(database).await?;
    let sql = format!(
        "UPDATE {} SET name = $2, sponsor_id = $3, total_credit_limit = $4, daily_credit_limit = $5 WHERE id = {}",
        database.table("token_tracking_sponsored_allowance"),
        database.uuid("$1")
    );
    let id = in_transaction!(database, transaction => {
        let before = which.of(rows!(database, transaction).allowances().0)?;
        let terms = change.of(&before);
        terms.check(&rows!(database, transaction), Some(before.id))?;
        let query = sqlx::query(AssertSqlSafe(sql)).bind(before.id.to_string()).bind(&terms.name);
        let query = query.bind(&terms.sponsor).bind(terms.total).bind(terms.daily);
        query.execute(&mut *transaction).await?;
        write_terms!(database, transaction, before.id, &terms);
        let (shown, after) = (Some(Resolved::from(&before).shown()), Some(terms.shown()));
        note!(transaction, database, Noted { action: "sponsored update", subject: &before.name, before: shown, after });
        before.id
    });
    get(database, &Which::Id(id)).await
}

impl Which {
    /// The one that is meant.
    fn of(&self, all: Vec<SponsoredAllowance>) -> Result<SponsoredAllowance, Error> {
        let named = || all.iter().map(|allowance| (allowance, allowance.name.as_str()));
        let found = match self {
            Self::Id(id) => all.iter().filter(|allowance| allowance.id == *id).collect(),
            Self::Name(name) => meant(name, named()),
        };
        match found.as_slice() {
            [one] => Ok((*one).clone()),
            [] => {
                let (name, names) = (self.to_string(), named().map(|(_, name)| name));
                let hint = nearest::hint(&name, names, "`owui-token-tracking sponsored list` shows all");
                Err(Error::NotFound { what: "sponsored allowance", name, hint })
            }
            several => {
                let each = several.iter().map(|allowance| format!("{} ({})", allowance.name, allowance.id));
                let what = format!(
                    "several sponsored allowances fit `{self}`; write it just as it is: {}",
                    each.collect::<Vec<_>>().join(", ")
                );
                Err(Error::Conflict { what })
            }
        }
    }
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// Takes models and members out of an allowance.
fn unlink(database: &Database) -> [String; 3] {
    let delete =
        |table: &str, condition: String| format!("DELETE FROM {} WHERE {condition}", database.table(table));
    let original = format!("sponsored_allowance_id = {}", database.uuid("$1"));
    [
        delete("token_tracking_sponsored_allowance_base_models", original),
        delete("token_tracking_sponsored_model", "sponsored_id = $1".into()),
        delete("token_tracking_sponsored_member", "sponsored_id = $1".into()),
    ]
}
