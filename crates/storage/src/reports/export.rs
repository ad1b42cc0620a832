//! The ledger row by row, for other programs: as many rows as there are, in little memory.
//!
//! Rows are read in portions, so that no reader holds the database's log back for as long as an export takes; rows of the ledger
//! never change.

use std::collections::HashMap;

use accounting::Credits;
use jiff::Timestamp;

use super::usage::{self, Question};
use crate::reading::{Query, Reading, Row, aside};
use crate::rollup::sums::{FIRST_ID, USAGE, ids, ledger_key};
use crate::{Database, Error};

/// So many rows are read at once.
const PORTION: usize = 50_000;

/// A column of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Credits,
    Time,
}

/// A value of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// There is none.
    Nothing,
    /// A text.
    Text(&'a str),
    /// A count.
    Number(i64),
    /// An amount.
    Credits(Credits),
    /// A moment.
    Time(Timestamp),
}

macro_rules! columns {
    ($($name:literal: $kind:ident,)*) => { [$(Column { name: $name, kind: Kind::$kind },)*] };
}

/// All columns of the ledger, in the order in which they are given out.
pub const COLUMNS: [Column; 38] = columns! {
    "id": Text, "kind": Text, "corrects": Text, "day": Text, "user_id": Text, "sponsored_id": Text, "provider": Text,
    "model": Text, "answered_model": Text, "task": Text, "input_tokens": Number, "cached_input_tokens": Number,
    "cache_write_tokens": Number, "cache_write_long_tokens": Number, "input_audio_tokens": Number,
    "output_tokens": Number, "reasoning_tokens": Number, "output_audio_tokens": Number, "images": Number,
    "calls": Number, "charge": Credits, "price_version": Number, "estimated": Text, "outcome": Text, "policy": Text,
    "over_hold": Number, "way_in": Text, "chat_id": Text, "message_id": Text, "workspace_model": Text,
    "instance": Text, "provider_request_id": Text, "started_at": Time, "first_byte_at": Time, "ended_at": Time,
    "reason": Text, "accounts": Text, "adjusted": Number,
};
/// What stands behind them: the names of the user and the sponsored allowance, where they are known.
pub const NAMES: [&str; 2] = ["user_name", "sponsored_name"];

/// Reads a row that was selected by [`COLUMNS`].
pub(crate) fn values<'r>(row: &'r Row<'_>) -> Result<Vec<Value<'r>>, Error> {
    let value = |(index, column): (usize, &Column)| {
        Ok(match column.kind {
            Kind::Text => row.text(index)?.map_or(Value::Nothing, Value::Text),
            Kind::Number => row.number(index)?.map_or(Value::Nothing, Value::Number),
            Kind::Credits => {
                row.number(index)?.map_or(Value::Nothing, |micro| Value::Credits(Credits::from_micro(micro)))
            }
            Kind::Time => match row.number(index)? {
                None => Value::Nothing,
                Some(at) => {
                    Timestamp::from_microsecond(at).map(Value::Time).map_err(|_| bad_time(row, column))?
                }
            },
        })
    };
    COLUMNS.iter().enumerate().map(value).collect()
}

fn bad_time(row: &Row<'_>, column: &Column) -> Error {
    let id = row.text(0).ok().flatten().unwrap_or_default().to_owned();
    Error::Inconsistency { table: "token_tracking_ledger".into(), column: column.name.into(), row: id }
}

/// The head of a query whose rows [`values`] reads.
pub(crate) fn select(database: &Database) -> Query {
    let names: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
    Query::new(format!("SELECT {} FROM {}", names.join(", "), database.table("token_tracking_ledger")))
}

/// Which rows an export has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entries {
    /// Usage: requests, their corrections and imports. Their charges add up to what [`usage`] reports.
    Usage,
    /// All: also what is booked by hand, and what is carried to the account of a week or a month.
    All,
}

/// Hands the rows of the ledger that fit to `each`, in the order in which they began, corrections last: values by [`COLUMNS`],
/// then [`NAMES`]. How the question sums does not matter here.
///
/// # Errors
/// What `each` says; [`Error::Unavailable`] if the database is away.
pub async fn entries<E: From<Error> + Send + 'static>(
    database: &Database,
    question: &Question,
    entries: Entries,
    each: impl FnMut(&[Value<'_>]) -> Result<(), E> + Send + 'static,
) -> Result<(), E> {
    let by = vec![usage::By::User, usage::By::Sponsor];
    let question = Question { by, ..question.clone() };
    let names = usage::Names::of(database, &question).await?;
    aside(database, read(database.clone(), question, entries, names, each)).await
}

async fn read<E: From<Error> + Send + 'static>(
    database: Database,
    question: Question,
    entries: Entries,
    names: usage::Names,
    mut each: impl FnMut(&[Value<'_>]) -> Result<(), E> + Send + 'static,
) -> Result<(), E> {
    let (first, end) = ids(question.from, question.to);
    let mut handed = |row: &Row<'_>| -> Result<(), E> {
        let mut values = values(row)?;
        let name = |value: Option<&Value<'_>>, names: &'_ HashMap<String, String>| match value {
            Some(Value::Text(id)) => names.get(*id).cloned(),
            _ => None,
        };
        let [user, sponsored] = [name(values.get(4), &names.users), name(values.get(5), &names.sponsored)];
        if let (Some(members), Some(Value::Text(user))) = (&names.picked, values.get(4))
            && !members.contains(*user)
        {
            return Ok(());
        }
        values.push(user.as_deref().map_or(Value::Nothing, Value::Text));
        values.push(sponsored.as_deref().map_or(Value::Nothing, Value::Text));
        each(&values)
    };
    let mut last = first.clone();
    loop {
        let mut query = select(&database);
        query.push(" WHERE corrects IS NULL AND id >= ").text(&last).push(" AND id < ").text(&end);
        narrow(&mut query, &question, entries);
        query.push(&format!(" ORDER BY id LIMIT {PORTION}"));
        let (mut count, mut read) = (0, String::new());
        Reading::begin(&database)
            .await?
            .each(query, |row| {
                count += 1;
                if count == PORTION {
                    row.some_text(0)?.clone_into(&mut read);
                }
                handed(row)
            })
            .await?;
        if count < PORTION {
            break;
        }
        // The least id behind it.
        read.push('0');
        last = read;
    }
    let mut query = select(&database);
    query
        .push(" WHERE corrects IS NOT NULL AND corrects >= ")
        .text(first)
        .push(" AND corrects < ")
        .text(&end);
    narrow(&mut query, &question, entries);
    query.push(" ORDER BY id");
    Reading::begin(&database).await?.each(query, handed).await
}

fn narrow(query: &mut Query, question: &Question, entries: Entries) {
    if entries == Entries::Usage {
        query.push(&format!(" AND {USAGE}"));
    }
    for (key, value) in usage::filters(question) {
        query.push(&format!(" AND {} = ", ledger_key(key))).text(value);
    }
    if let Some(from) = question.from {
        query.push(" AND day >= ").text(from.to_string());
    }
    if let Some(to) = question.to {
        query.push(" AND day <= ").text(to.to_string());
    }
    query.push(" AND id > ").text(FIRST_ID);
}
