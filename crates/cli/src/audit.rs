//! `audit`: who changed what, when.

use std::process::ExitCode;

use anyhow::bail;
use serde_json::Value;
use storage::Database;
use storage::admin::audit::{self, ACTIONS, Noted, Wanted};
use storage::nearest::nearest;

use crate::connect::DatabaseArguments;
use crate::output::{self, Format, FormatArguments, text};
use crate::when::{When, when};

/// Show who changed what: prices, settings, groups, allowances, keys. The newest change is the last.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  owui-token-tracking audit --last 20\n  \
    owui-token-tracking audit --since 2026-11-01 --action pricing\n  \
    owui-token-tracking audit --subject openai/gpt-4o --format json")]
pub(crate) struct Arguments {
    /// From this day on (YYYY-MM-DD, in the configured time zone), or from this moment (2026-11-24T12:00:00Z).
    #[arg(long, value_name = "WHEN", value_parser = when)]
    since: Option<When>,
    /// Only what was done to this: a name or an id.
    #[arg(long)]
    subject: Option<String>,
    /// Only actions that begin so, such as `pricing` or `settings set`.
    #[arg(long)]
    action: Option<String>,
    /// Only the newest so many.
    #[arg(long, value_name = "N")]
    last: Option<u32>,
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    format: FormatArguments,
}

/// Characters of a change in a table.
const LONGEST: usize = 160;

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let database = arguments.database.open().await?;
    let since = match arguments.since {
        Some(since) => Some(since.moment(&database).await?),
        None => None,
    };
    let wanted = Wanted { since, subject: arguments.subject, action: arguments.action, most: arguments.last };
    let found = audit::list(&database, &wanted).await?;
    if found.is_empty() && (wanted.subject.is_some() || wanted.action.is_some()) {
        require_known(&database, &wanted).await?;
    }
    show(found, arguments.format.format)?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses a subject, or the begin of an action, that the audit does not have at any time.
async fn require_known(database: &Database, wanted: &Wanted) -> anyhow::Result<()> {
    let all = audit::list(database, &Wanted::default()).await?;
    let refuse = |what: &str, given: &str, known: &[&str]| match nearest(given, known.iter().copied()) {
        Some(name) => bail!("nothing is noted of the {what} `{given}`; did you mean `{name}`?"),
        None => {
            bail!("nothing is noted of the {what} `{given}`; `owui-token-tracking audit` shows all changes")
        }
    };
    if let Some(subject) = &wanted.subject {
        let known: Vec<&str> = all.iter().map(|noted| noted.subject.as_str()).collect();
        if !known.contains(&subject.as_str()) {
            return refuse("subject", subject, &known);
        }
    }
    if let Some(action) = &wanted.action {
        let known: Vec<&str> = all.iter().map(|noted| noted.action.as_str()).chain(ACTIONS).collect();
        if !known.iter().any(|one| one.starts_with(action.as_str())) {
            return refuse("action", action, &known);
        }
    }
    Ok(())
}

fn show(changes: Vec<Noted>, format: Format) -> anyhow::Result<()> {
    if format == Format::Table {
        let columns = [
            text("at", "When (UTC)"),
            text("who", "Who"),
            text("action", "Action"),
            text("subject", "Subject"),
            text("change", "Change"),
        ];
        // People read seconds.
        let at = |at: jiff::Timestamp| at.round(jiff::Unit::Second).unwrap_or(at).to_string();
        let row = |change: Noted| {
            let what = shortly(change.before.as_ref(), change.after.as_ref());
            vec![
                at(change.at).into(),
                change.who.into(),
                change.action.into(),
                change.subject.into(),
                what.into(),
            ]
        };
        return Ok(output::rows(format, &columns, changes.into_iter().map(row).collect())?);
    }
    let columns = ["at", "who", "action", "subject", "before", "after"].map(|key| text(key, ""));
    let row = |change: Noted| {
        vec![
            change.at.to_string().into(),
            change.who.into(),
            change.action.into(),
            change.subject.into(),
            change.before.unwrap_or(Value::Null),
            change.after.unwrap_or(Value::Null),
        ]
    };
    Ok(output::rows(format, &columns, changes.into_iter().map(row).collect())?)
}

/// A change in a few words: of what has parts, those that have changed. The other forms of the output have all of it.
fn shortly(before: Option<&Value>, after: Option<&Value>) -> String {
    let said = match (before, after) {
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let keys = before.keys().chain(after.keys().filter(|key| !before.contains_key(*key)));
            let (old, new) = (|key: &String| before.get(key), |key: &String| after.get(key));
            let changed = keys.filter(|key| old(key) != new(key));
            let part = |key: &String| {
                format!(
                    "{key}: {} → {}",
                    old(key).map_or("nothing".into(), plain),
                    new(key).map_or("nothing".into(), plain)
                )
            };
            changed.map(part).collect::<Vec<_>>().join(", ")
        }
        (Some(before), Some(after)) => format!("{} → {}", plain(before), plain(after)),
        (None, Some(after)) => plain(after),
        (Some(before), None) => format!("was {}", plain(before)),
        (None, None) => String::new(),
    };
    match said.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", said[..end].trim_end()),
        None => said,
    }
}

/// Without brackets around the whole, and without what is not set.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(" "),
        Value::Object(parts) => {
            let is_set =
                |part: &Value| !part.is_null() && part.as_array().is_none_or(|list| !list.is_empty());
            let parts = parts.iter().filter(|(_, part)| is_set(part));
            parts.map(|(key, part)| format!("{key}: {}", plain(part))).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_in_a_few_words() {
        let (small, large) =
            (json!({"a": 1, "b": null, "c": ["x", "y"]}), json!({"a": 2, "b": null, "d": "z"}));
        for (before, after, said) in [
            (None, Some(&small), "a: 1, c: x y"),
            (Some(&small), None, "was a: 1, c: x y"),
            (Some(&small), Some(&large), "a: 1 → 2, c: x y → nothing, d: nothing → z"),
            (Some(&json!("7")), Some(&json!("8")), "7 → 8"),
            (None, None, ""),
        ] {
            assert_eq!(shortly(before, after), said);
        }
        let long = shortly(None, Some(&json!("ä".repeat(LONGEST + 1))));
        assert_eq!(long, format!("{}…", "ä".repeat(LONGEST)));
    }
}
