//! Keys of the gateway's clients: forwarding (may say for whom they ask) or bound to one user. Only hashes are kept.

use accounting::{UserId, check_name};
use jiff::Timestamp;
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde_json::json;
use sha2::{Digest, Sha256};
use sqlx::AssertSqlSafe;

use super::audit::{Change, note};
use crate::database::in_transaction;
use crate::{Database, Error, nearest, new_id, on_pool};

/// What every key begins with, so that it is recognised where it leaked.
const PREFIX: &str = "owui-tt-";
const SECRET_BYTES: usize = 32;
/// The most characters of a key's name.
const LONGEST_NAME: usize = 255;

/// A key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its id.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// The one user that it is bound to; `None` for a forwarding key.
    pub user: Option<UserId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops to work.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl Key {
    /// Whether it works at that moment.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expiry| now < expiry)
    }

    /// Whose it is, in words.
    pub fn whose(&self) -> String {
        match &self.user {
            Some(user) => format!("a key of the user `{user}`"),
            None => "a forwarding key".into(),
        }
    }
}

/// The hash under which a key is kept: SHA-256, in hex. Keys are random, so it needs no salt.
pub fn hash(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]).collect()
}

/// Makes a key and returns it with its secret, which is never shown again.
///
/// # Errors
/// [`Error::Conflict`] while another key has that name and is not revoked; [`Error::Unavailable`] if the database, or the
/// system's source of randomness, is away; [`Error::Accounting`] for a name that can't be one.
pub async fn create(
    database: &Database,
    name: &str,
    user: Option<UserId>,
    expires_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<(Key, String), Error> {
    check_name(name, "the name of a key", LONGEST_NAME)?;
    let mut bytes = [0_u8; SECRET_BYTES];
    OsRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| Error::Unavailable { what: format!("no random numbers: {error}") })?;
    let secret = format!("{PREFIX}{}", hex(&bytes));
    let key = Key {
        id: new_id().simple().to_string(),
        name: name.into(),
        user,
        created_at: now,
        expires_at,
        revoked_at: None,
    };
    let sql = format!(
        "INSERT INTO {} (id, name, hash, user_id, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6)",
        database.table("token_tracking_key")
    );
    let others = format!("{} WHERE name = $1 AND revoked_at IS NULL", select(database));
    in_transaction!(database, transaction => {
        let query = sqlx::query_as(AssertSqlSafe(others)).bind(&key.name);
        let other: Option<Row> = query.fetch_optional(&mut *transaction).await?;
        if let Some(other) = other {
            return Err(taken(&other.read()?));
        }
        sqlx::query(AssertSqlSafe(sql))
            .bind(&key.id)
            .bind(&key.name)
            .bind(hash(&secret))
            .bind(key.user.as_ref().map(UserId::as_str))
            .bind(now.as_microsecond())
            .bind(expires_at.map(|at| at.as_microsecond()))
            .execute(&mut *transaction)
            .await?;
        // By its id: its name may be that of a person, who may be forgotten.
        let after = Some(json!({"user": key.user, "expires_at": expires_at.map(|at| at.to_string())}));
        note!(transaction, database, Change { action: "key create", subject: &key.id, before: None, after });
    });
    Ok((key, secret))
}

/// Two keys of one name could not be told apart when one of them is to be revoked.
fn taken(by: &Key) -> Error {
    let Key { name, created_at, .. } = by;
    let day = accounting::Zone::UTC.day(*created_at);
    let whose = by.whose();
    let what = format!(
        "there is a key `{name}` already, {whose}, made on {day}; names of keys are unique: choose another one"
    );
    Error::Conflict { what }
}

/// All keys, the newest last.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn list(database: &Database) -> Result<Vec<Key>, Error> {
    let sql = format!("{} ORDER BY created_at, id", select(database));
    let rows: Vec<Row> =
        on_pool!(database, pool => sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?);
    rows.into_iter().map(Row::read).collect()
}

/// The key with that hash.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn find_by_hash(database: &Database, hash: &str) -> Result<Option<Key>, Error> {
    let sql = format!("{} WHERE hash = $1", select(database));
    let row: Option<Row> = on_pool!(database, pool => {
        sqlx::query_as(AssertSqlSafe(sql)).bind(hash).fetch_optional(pool).await?
    });
    row.map(Row::read).transpose()
}

/// Revokes the key with that id or name, and returns what was revoked.
///
/// # Errors
/// [`Error::NotFound`] if there is none; [`Error::Conflict`] if it was revoked before.
pub async fn revoke(database: &Database, which: &str, now: Timestamp) -> Result<Vec<Key>, Error> {
    let sql = format!(
        "UPDATE {} SET revoked_at = $1 WHERE (id = $2 OR name = $2) AND revoked_at IS NULL \
         RETURNING id, name, user_id, created_at, expires_at, revoked_at",
        database.table("token_tracking_key")
    );
    let revoked = in_transaction!(database, transaction => {
        let query = sqlx::query_as(AssertSqlSafe(sql)).bind(now.as_microsecond()).bind(which);
        let rows: Vec<Row> = query.fetch_all(&mut *transaction).await?;
        let revoked = rows.into_iter().map(Row::read).collect::<Result<Vec<Key>, Error>>()?;
        for Key { id, .. } in &revoked {
            note!(transaction, database, Change { action: "key revoke", subject: id, before: None, after: None });
        }
        revoked
    });
    if !revoked.is_empty() {
        return Ok(revoked);
    }
    let all = list(database).await?;
    // The last one that had the name.
    let before = all.iter().filter(|key| key.id == which || key.name == which);
    if let Some(key) = before.max_by_key(|key| key.revoked_at) {
        return Err(revoked_before(key));
    }
    let working = all.iter().filter(|key| key.revoked_at.is_none());
    let names = working.flat_map(|key| [key.id.as_str(), key.name.as_str()]);
    let hint = nearest::hint(which, names, "`owui-token-tracking key list` shows all");
    Err(Error::NotFound { what: "key", name: which.to_owned(), hint })
}

fn revoked_before(key: &Key) -> Error {
    let when = key.revoked_at.map(|at| format!(", on {}", second(at))).unwrap_or_default();
    Error::Conflict { what: format!("the key `{}`, {}, was revoked already{when}", key.name, key.whose()) }
}

/// In UTC, to the second.
fn second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

fn select(database: &Database) -> String {
    format!(
        "SELECT id, name, user_id, created_at, expires_at, revoked_at FROM {}",
        database.table("token_tracking_key")
    )
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    name: String,
    user_id: Option<String>,
    created_at: i64,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
}

impl Row {
    fn read(self) -> Result<Key, Error> {
        let wrong = |column: &str| Error::Inconsistency {
            table: "token_tracking_key".into(),
            column: column.into(),
            row: self.id.clone(),
        };
        let time = |column: &str, at: i64| Timestamp::from_microsecond(at).map_err(|_| wrong(column));
        Ok(Key {
            id: self.id.clone(),
            name: self.name.clone(),
            user: self.user_id.clone().map(UserId::new).transpose().map_err(|_| wrong("user_id"))?,
            created_at: time("created_at", self.created_at)?,
            expires_at: self.expires_at.map(|at| time("expires_at", at)).transpose()?,
            revoked_at: self.revoked_at.map(|at| time("revoked_at", at)).transpose()?,
        })
    }
}
