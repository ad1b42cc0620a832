//! Forgetting a user: a pseudonym takes the place of the id, and whatever else names the user goes, everywhere in our tables and
//! in the original's usage log. Amounts, models and times stay, so the books stay right. This is the one edit of the ledger.
//!
//! Open WebUI's own tables are only read: who is still a user there is known again with the next request.

use std::collections::{BTreeMap, HashSet};

use accounting::{AccountKey, UserId};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::admin::audit::{Change, note};
use crate::admin::users;
use crate::database::in_transaction;
use crate::ledger::Turn;
use crate::reading::{Query, Reading, aside};
use crate::reports::usage::user_named;
use crate::{Database, Error, Kind, migrate, names, new_id};

/// So many ids go into one statement.
const AT_ONCE: usize = 5000;

/// What is known of a user who is to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgettable {
    /// The id.
    pub id: String,
    /// Names and e-mail addresses that we, or Open WebUI, know.
    pub names: Vec<String>,
    /// Whether Open WebUI has the user still.
    pub in_open_webui: bool,
}

/// What was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// The user's name from now on.
    pub pseudonym: String,
    /// Rows of the ledger.
    pub entries: usize,
    /// Accounts.
    pub accounts: usize,
    /// Keys that were revoked or bore the name.
    pub keys: u64,
    /// Notes of the audit.
    pub notes: usize,
}

/// Finds whom to forget, by id, e-mail address or name.
///
/// # Errors
/// [`Error::NotFound`] for none, [`Error::Conflict`] for several.
pub async fn find(database: &Database, which: &str) -> Result<Forgettable, Error> {
    let id = user_named(database, which).await?;
    let mut names = Vec::new();
    let in_open_webui = database.has_table("user").await?;
    let wanted = users::Wanted { id: Some(id.clone()), ..users::Wanted::default() };
    let known = users::find(database, &wanted).await?;
    names.extend(known.iter().flat_map(|user| [user.name.to_string(), user.email.to_string()]));
    let (seen, kept) = (database.table("token_tracking_user"), database.table("token_tracking_name"));
    for sql in [
        format!("SELECT name FROM {seen} WHERE id = $1"),
        format!("SELECT email FROM {seen} WHERE id = $1"),
        format!("SELECT name FROM {kept} WHERE id = $1 AND kind = 'user'"),
    ] {
        let found: Vec<String> = crate::on_pool!(database, pool => {
            sqlx::query_scalar(AssertSqlSafe(sql)).bind(&id).fetch_all(pool).await?
        });
        names.extend(found);
    }
    names.retain(|name| !name.is_empty() && *name != id);
    names.sort();
    names.dedup();
    Ok(Forgettable { id, names, in_open_webui: in_open_webui && !known.is_empty() })
}

/// Forgets.
///
/// # Errors
/// [`Error::NewerSchema`] where a newer version may keep more than this program knows, [`Error::Conflict`] while requests of
/// the user are running, [`Error::Unavailable`] if the database is away or busy; then nothing has changed.
pub async fn forget(database: &Database, user: &Forgettable) -> Result<Forgotten, Error> {
    migrate::require_current(database).await?;
    let id = user.id.as_str();
    let pseudonym = format!("forgotten-{}", &new_id().simple().to_string()[20..]);
    // Read beforehand, so that nobody waits for it; what is written meanwhile is found by its id.
    let began = new_id().simple().to_string();
    let lists = aside(database, entries(database.clone(), id.to_owned())).await?;
    let table = |name: &str| database.table(&format!("token_tracking_{name}"));
    let (ledger, account) = (table("ledger"), table("account"));
    let listed = match database.kind() {
        Kind::Sqlite => "SELECT value FROM json_each($1)",
        Kind::Postgres => "SELECT json_array_elements_text(CAST($1 AS json))",
    };
    let later = format!("SELECT id, accounts FROM {ledger} WHERE id >= $1 AND user_id = $2");
    let rewrite = format!(
        "UPDATE {ledger} SET user_id = $2, accounts = $3, \
           chat_id = CASE WHEN chat_id IS NULL THEN NULL ELSE $2 END, \
           message_id = CASE WHEN message_id IS NULL THEN NULL ELSE $2 END, \
           provider_request_id = NULL, reason = CASE WHEN reason IS NULL THEN NULL ELSE $2 END \
         WHERE id IN ({listed})"
    );
    let holds = format!("SELECT request FROM {}", table("hold"));
    let keys_of = format!("SELECT key FROM {account} WHERE user_id = $1");
    let rename = format!("UPDATE {account} SET key = $1, user_id = $2 WHERE key = $3");
    // Whatever is summed at this moment is summed again, with the pseudonym.
    let unclaim = format!("UPDATE {} SET claim = NULL WHERE claim IS NOT NULL", table("rollup_day"));
    let mut renamed = vec![
        format!("UPDATE {} SET user_id = $1 WHERE user_id = $2", table("rollup")),
        format!("UPDATE {} SET user_id = $1 WHERE user_id = $2", table("usage_log")),
        format!("UPDATE {} SET sponsor_id = $1 WHERE sponsor_id = $2", table("sponsored_allowance")),
    ];
    // Only a later schema has it.
    if database.has_table(crate::refusals::TABLE).await? {
        renamed.push(format!("UPDATE {} SET user_id = $1 WHERE user_id = $2", table("refusal")));
    }
    let removed = [
        format!("DELETE FROM {} WHERE user_id = $1", table("credit_group_user")),
        format!("DELETE FROM {} WHERE kind = 'user' AND member = $1", table("sponsored_member")),
        format!("DELETE FROM {} WHERE user_id = $1", table("sponsored_chat")),
        format!("DELETE FROM {} WHERE id = $1", table("user")),
        format!("DELETE FROM {} WHERE kind = 'user' AND id = $1", table("name")),
    ];
    let revoke = format!(
        "UPDATE {} SET user_id = $1, name = $1, revoked_at = COALESCE(revoked_at, $2) WHERE user_id = $3",
        table("key")
    );
    let notes = format!("SELECT id, who, subject, before, after FROM {}", table("audit"));
    let renote = format!(
        "UPDATE {} SET who = $1, subject = $2, before = $3, after = $4 WHERE id = $5",
        table("audit")
    );
    let now = accounting::Clock::now(&crate::SystemClock).as_microsecond();
    let who = Who { user, pseudonym: &pseudonym };
    let _turn = Turn::take(database).await;
    Ok(in_transaction!(database, transaction => {
        let running: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(holds)).fetch_all(&mut *transaction).await?;
        if running.iter().any(|request| is_of(request, id)) {
            return Err(Error::Conflict {
                what: format!("requests of `{id}` are running: wait for their end, and try again"),
            });
        }
        let mut lists = lists;
        let query = sqlx::query_as(AssertSqlSafe(later)).bind(&began).bind(id);
        let rows: Vec<(String, String)> = query.fetch_all(&mut *transaction).await?;
        for (id, accounts) in rows {
            lists.entry(accounts).or_default().insert(id);
        }
        let keys: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(keys_of)).bind(id).fetch_all(&mut *transaction).await?;
        for key in &keys {
            let query = sqlx::query(AssertSqlSafe(rename.clone())).bind(who.key(key)?).bind(&pseudonym);
            query.bind(key).execute(&mut *transaction).await?;
        }
        let mut entries = 0;
        for (accounts, ids) in lists {
            let accounts = who.list(&accounts)?;
            let ids: Vec<String> = ids.into_iter().collect();
            for ids in ids.chunks(AT_ONCE) {
                let ids = serde_json::to_string(ids).map_err(|error| Error::Invalid { what: error.to_string() })?;
                let query = sqlx::query(AssertSqlSafe(rewrite.clone())).bind(ids).bind(&pseudonym);
                let done = query.bind(&accounts).execute(&mut *transaction).await?;
                entries += usize::try_from(done.rows_affected()).unwrap_or_default();
            }
        }
        sqlx::query(AssertSqlSafe(unclaim)).execute(&mut *transaction).await?;
        for sql in renamed {
            sqlx::query(AssertSqlSafe(sql)).bind(&pseudonym).bind(id).execute(&mut *transaction).await?;
        }
        for sql in removed {
            sqlx::query(AssertSqlSafe(sql)).bind(id).execute(&mut *transaction).await?;
        }
        let query = sqlx::query(AssertSqlSafe(revoke)).bind(&pseudonym).bind(now).bind(id);
        let revoked = query.execute(&mut *transaction).await?.rows_affected();
        let mut changed = 0;
        let noted: Vec<Note> =
            sqlx::query_as(AssertSqlSafe(notes)).fetch_all(&mut *transaction).await?;
        for (note, by, subject, before, after) in noted {
            let texts = (who.text(&by), who.text(&subject), who.json(before.as_deref()), who.json(after.as_deref()));
            if texts != (by, subject, before, after) {
                changed += 1;
                let (by, subject, before, after) = texts;
                let query = sqlx::query(AssertSqlSafe(renote.clone())).bind(by).bind(subject).bind(before);
                query.bind(after).bind(note).execute(&mut *transaction).await?;
            }
        }
        let after = Some(json!({"ledger rows": entries, "accounts": keys.len(), "keys": revoked, "notes": changed}));
        note!(transaction, database, Change { action: "user forget", subject: &pseudonym, before: None, after });
        Forgotten { pseudonym, entries, accounts: keys.len(), keys: revoked, notes: changed }
    }))
}

/// An id, who, subject, before, after.
type Note = (String, String, String, Option<String>, Option<String>);

/// The user's rows of the ledger: for each list of accounts, their ids.
async fn entries(database: Database, user: String) -> Result<BTreeMap<String, HashSet<String>>, Error> {
    let mut reading = Reading::begin(&database).await?;
    let mut query = Query::new(format!(
        "SELECT id, accounts FROM {} WHERE user_id = ",
        database.table("token_tracking_ledger")
    ));
    query.text(user);
    let mut lists: BTreeMap<String, HashSet<String>> = BTreeMap::new();
    reading
        .each(query, |row| {
            let (id, accounts) = (row.some_text(0)?.to_owned(), row.some_text(1)?.to_owned());
            lists.entry(accounts).or_default().insert(id);
            Ok::<(), Error>(())
        })
        .await?;
    Ok(lists)
}

/// Whether a hold's request is that user's.
fn is_of(request: &str, id: &str) -> bool {
    // A newer version may have written more into it.
    let record: Option<serde_json::Value> = serde_json::from_str(request).ok();
    record.is_none_or(|record| record["user"] == id)
}

/// Who is forgotten, and under which name.
struct Who<'a> {
    user: &'a Forgettable,
    pseudonym: &'a str,
}

impl Who<'_> {
    /// An account's key, with the pseudonym. The user stands last in the keys of users' accounts.
    fn key(&self, key: &str) -> Result<String, Error> {
        let parsed: AccountKey = key.parse()?;
        if parsed.user().map(UserId::as_str) != Some(&self.user.id) {
            return Ok(key.to_owned());
        }
        let head = key.strip_suffix(&self.user.id).ok_or_else(|| Error::Inconsistency {
            table: "token_tracking_account".into(),
            column: "key".into(),
            row: key.to_owned(),
        })?;
        Ok(format!("{head}{}", self.pseudonym))
    }

    /// A list of accounts.
    fn list(&self, accounts: &str) -> Result<String, Error> {
        let wrong = || Error::Inconsistency {
            table: "token_tracking_ledger".into(),
            column: "accounts".into(),
            row: accounts.to_owned(),
        };
        let keys: Vec<String> = serde_json::from_str(accounts).map_err(|_| wrong())?;
        let keys: Vec<String> = keys.iter().map(|key| self.key(key)).collect::<Result<_, _>>()?;
        serde_json::to_string(&keys).map_err(|_| wrong())
    }

    /// A text: the pseudonym, if it is the user's id, name or address; or with it in the place of the id or an address.
    fn text(&self, text: &str) -> String {
        let Forgettable { id, names, .. } = self.user;
        let same = |name: &String| names::is_same(name, text);
        if text == id || names.iter().any(same) {
            return self.pseudonym.to_owned();
        }
        let telling = names.iter().filter(|name| name.contains('@')).chain([id]);
        telling.fold(text.to_owned(), |text, name| replaced(&text, name, self.pseudonym))
    }

    fn json(&self, json: Option<&str>) -> Option<String> {
        let text = json?;
        Some(match serde_json::from_str::<Value>(text) {
            Ok(value) => {
                let after = self.value(value.clone());
                // As it was written, where nothing names the user.
                if after == value { text.to_owned() } else { after.to_string() }
            }
            Err(_) => self.text(text),
        })
    }

    fn value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => self.text(&text).into(),
            Value::Array(values) => values.into_iter().map(|value| self.value(value)).collect(),
            Value::Object(fields) => {
                fields.into_iter().map(|(key, value)| (self.text(&key), self.value(value))).collect()
            }
            other => other,
        }
    }
}

/// A text with another word in the place of one that stands by itself: `ann` is in `user-day:2026-11-24:ann`, not in `annual`.
fn replaced(text: &str, word: &str, by: &str) -> String {
    let belongs = |letter: Option<char>| {
        letter.is_some_and(|letter| letter.is_alphanumeric() || "-_.@".contains(letter))
    };
    let (mut done, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(word).filter(|_| !word.is_empty()) {
        let (before, after) = (&rest[..at], &rest[at + word.len()..]);
        done.push_str(before);
        let inside = belongs(done.chars().next_back()) || belongs(after.chars().next());
        done.push_str(if inside { word } else { by });
        rest = after;
    }
    done + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_replaced_where_they_stand_alone() {
        for (text, expected) in [
            ("ann", "x"),
            ("user-day:2026-11-24:ann", "user-day:2026-11-24:x"),
            ("annual, joann", "annual, joann"),
            ("ann, ann@example.org", "x, ann@example.org"),
        ] {
            assert_eq!(replaced(text, "ann", "x"), expected);
        }
    }
}
