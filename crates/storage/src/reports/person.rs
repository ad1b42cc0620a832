//! All that is kept about one user, as one JSON object, written piece by piece: a ledger of any length passes in little memory.
//!
//! Open WebUI's own tables are not ours to give out; the user's name and address are read there.

use accounting::Credits;
use serde_json::{Value, json};

use super::export::{self, COLUMNS};
use crate::admin::forget::Forgettable;
use crate::reading::{Query, Reading, Row, aside};
use crate::{Database, Error, migrate, refusals};

/// Writes the object; `write` gets its text in pieces.
///
/// # Errors
/// What `write` says; [`Error::Unavailable`] if the database is away, [`Error::NewerSchema`] where a newer version may keep more
/// than this program knows.
pub async fn person<E: From<Error> + Send + 'static>(
    database: &Database,
    user: &Forgettable,
    write: impl FnMut(&str) -> Result<(), E> + Send + 'static,
) -> Result<(), E> {
    migrate::require_current(database).await?;
    aside(database, read(database.clone(), user.clone(), write)).await
}

/// A table: its name in the object, its columns (those that end in `#` are numbers, in `¢` microcredits), and its rows.
struct Section {
    name: &'static str,
    columns: &'static [&'static str],
    from: String,
}

fn sections(database: &Database) -> Vec<Section> {
    let table = |name: &str| database.table(&format!("token_tracking_{name}"));
    let of = |name, columns, from| Section { name, columns, from };
    vec![
        of("seen", &["name", "email", "seen_at#"], format!("{} WHERE id = ", table("user"))),
        of("kept_name", &["name", "kept_at#"], format!("{} WHERE kind = 'user' AND id = ", table("name"))),
        of("credit_groups", &["credit_group_id"], format!("{} WHERE user_id = ", table("credit_group_user"))),
        of(
            "sponsored_memberships",
            &["sponsored_id"],
            format!("{} WHERE kind = 'user' AND member = ", table("sponsored_member")),
        ),
        of("sponsors", &["id", "name"], format!("{} WHERE sponsor_id = ", table("sponsored_allowance"))),
        of(
            "sponsored_chats",
            &["chat_id", "sponsored_id", "noted_at#"],
            format!("{} WHERE user_id = ", table("sponsored_chat")),
        ),
        of(
            "keys",
            &["id", "name", "created_at#", "expires_at#", "revoked_at#"],
            format!("{} WHERE user_id = ", table("key")),
        ),
        of("accounts", &["key", "spent¢", "held¢"], format!("{} WHERE user_id = ", table("account"))),
        of(
            "summed_days",
            &[
                "day",
                "provider",
                "model",
                "sponsored_id",
                "task",
                "requests#",
                "input_tokens#",
                "output_tokens#",
                "charge¢",
            ],
            format!("{} WHERE grain = 0 AND user_id = ", table("rollup")),
        ),
        of(
            "usage_log",
            &[
                "log_date",
                "provider",
                "model_id",
                "prompt_tokens#",
                "response_tokens#",
                "sponsored_allowance_id",
            ],
            format!("{} WHERE user_id = ", table("usage_log")),
        ),
    ]
}

async fn read<E: From<Error> + Send + 'static>(
    database: Database,
    user: Forgettable,
    mut write: impl FnMut(&str) -> Result<(), E> + Send + 'static,
) -> Result<(), E> {
    let mut reading = Reading::begin(&database).await?;
    write(&format!("{{\"id\":{},\"names\":{}", json!(user.id), json!(user.names)))?;
    let mut sections = sections(&database);
    // Only a later schema has it.
    if database.has_table(refusals::TABLE).await? {
        sections.push(Section {
            name: "refusals",
            columns: &[
                "day",
                "provider",
                "model",
                "reason",
                "limited_by",
                "sponsored_id",
                "requests#",
                "first_at#",
                "last_at#",
            ],
            from: format!("{} WHERE user_id = ", database.table(refusals::TABLE)),
        });
    }
    for Section { name, columns, from } in sections {
        let plain = |column: &&str| column.trim_end_matches(['#', '¢']).to_owned();
        let names: Vec<String> = columns.iter().map(plain).collect();
        let selected = columns.iter().zip(&names).map(|(column, name)| {
            let kind = if column.ends_with(['#', '¢']) { "BIGINT" } else { "TEXT" };
            format!("CAST({name} AS {kind})")
        });
        let mut query = Query::new(format!("SELECT {} FROM {from}", selected.collect::<Vec<_>>().join(", ")));
        query.text(user.id.as_str());
        let value = |row: &Row<'_>, index: usize| -> Result<Value, Error> {
            Ok(match columns[index] {
                column if column.ends_with('#') => json!(row.number(index)?),
                column if column.ends_with('¢') => {
                    json!(row.number(index)?.map(|micro| Credits::from_micro(micro).to_string()))
                }
                _ => json!(row.text(index)?),
            })
        };
        let object = |row: &Row<'_>| {
            let fields = names.iter().enumerate().map(|(index, name)| Ok((name.clone(), value(row, index)?)));
            fields.collect::<Result<serde_json::Map<_, _>, Error>>().map(Value::Object)
        };
        list(&mut reading, name, query, &mut write, |row| object(row).map(Some)).await?;
    }
    let mut query = export::select(&database);
    query.push(" WHERE user_id = ").text(user.id.as_str()).push(" ORDER BY id");
    list(&mut reading, "ledger", query, &mut write, |row| entry(row).map(Some)).await?;
    let holds = Query::new(format!("SELECT request FROM {}", database.table("token_tracking_hold")));
    let of_user = |row: &Row<'_>| {
        let request: Value = serde_json::from_str(row.some_text(0)?).unwrap_or_default();
        Ok(Some(request).filter(|request| request.get("user") == Some(&json!(user.id))))
    };
    list(&mut reading, "running", holds, &mut write, of_user).await?;
    let notes = Query::new(format!(
        "SELECT CAST(at AS TEXT), who, action, subject, before, after FROM {} ORDER BY at",
        database.table("token_tracking_audit")
    ));
    let naming = |row: &Row<'_>| {
        let text = |index| row.text(index).map(Option::unwrap_or_default);
        let all = [text(1)?, text(3)?, text(4)?, text(5)?];
        let names = || std::iter::once(&user.id).chain(&user.names);
        let named = all
            .iter()
            .any(|text| names().any(|name| text == name || text.contains(&json!(name).to_string())));
        let note = json!({
            "at": text(0)?, "who": all[0], "action": text(2)?, "subject": all[1], "before": all[2], "after": all[3],
        });
        Ok(named.then_some(note))
    };
    list(&mut reading, "audit", notes, &mut write, naming).await?;
    write("}\n")
}

/// Writes a list of what each row gives.
async fn list<E: From<Error>>(
    reading: &mut Reading,
    name: &str,
    query: Query,
    write: &mut (impl FnMut(&str) -> Result<(), E> + Send),
    object: impl Fn(&Row<'_>) -> Result<Option<Value>, Error> + Send + Sync,
) -> Result<(), E> {
    write(&format!(",\n\"{name}\":["))?;
    let mut before = "\n";
    reading
        .each(query, |row| {
            if let Some(value) = object(row)? {
                write(before)?;
                write(&value.to_string())?;
                before = ",\n";
            }
            Ok::<(), E>(())
        })
        .await?;
    write("]")
}

fn entry(row: &Row<'_>) -> Result<Value, Error> {
    let value = |value: export::Value<'_>| match value {
        export::Value::Nothing => Value::Null,
        export::Value::Text(text) => text.into(),
        export::Value::Number(number) => number.into(),
        export::Value::Credits(credits) => credits.to_string().into(),
        export::Value::Time(time) => time.to_string().into(),
    };
    let values = export::values(row)?;
    let fields = COLUMNS.iter().zip(values).map(|(column, one)| (column.name.to_owned(), value(one)));
    Ok(Value::Object(fields.collect()))
}
