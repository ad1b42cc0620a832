//! Who used what: sums of usage by any one or two of its sides, from the roll-up for the days that are in it and from the
//! ledger for the others, all at one moment.

mod fold;
pub(crate) mod names;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use accounting::{Day, SponsoredId};
use jiff::civil::Date;

use crate::reading::{Query, Reading, aside};
use crate::rollup::sums::{Wanted, next, previous};
use crate::{Database, Error, Kind};
use fold::Fold;
pub(crate) use names::Names;

pub use crate::rollup::Sums;
pub use names::{Of, require, sponsored_named, user_named};

/// How usage is summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// For each user.
    User,
    /// For each credit group, as its members are now. Who is in several counts in each of them.
    Group,
    /// For each group of Open WebUI, in the same way.
    OpenWebUiGroup,
    /// For each model.
    Model,
    /// For each provider.
    Provider,
    /// For each sponsored allowance.
    Sponsor,
    /// For each of Open WebUI's tasks.
    Task,
    /// For each local day.
    Day,
    /// For each week, from Monday on, as `2026-W48`.
    Week,
    /// For each month, as `2026-11`.
    Month,
}

/// What is asked; all that is given must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Question {
    /// By what it is summed; none: all together.
    pub by: Vec<By>,
    /// From this day on.
    pub from: Option<Day>,
    /// Up to this day, included.
    pub to: Option<Day>,
    /// Only this user's, by id.
    pub user: Option<String>,
    /// Only that of the present members of this credit group, by name.
    pub group: Option<String>,
    /// Only that of the present members of this group of Open WebUI, by name or id.
    pub open_webui_group: Option<String>,
    /// Only this provider's.
    pub provider: Option<String>,
    /// Only this model's.
    pub model: Option<String>,
    /// Only what this sponsored allowance paid.
    pub sponsored: Option<SponsoredId>,
    /// Only this task's; the empty text stands for requests that are no task.
    pub task: Option<String>,
    /// Only so many rows, those that cost most.
    pub top: Option<usize>,
}

/// The answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The sums, dearest first; periods in their order.
    pub rows: Vec<UsageRow>,
    /// Of everything, also of rows that were left out, each request once.
    pub total: Sums,
}

/// A sum of usage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// What it is the sum of, for each [`By`] in the question.
    pub keys: Vec<Key>,
    /// The sums.
    pub sums: Sums,
}

/// A user, model, day, …
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Its id; `None` for no group, no sponsor, no task.
    pub id: Option<String>,
    /// Its name for people, where it has one.
    pub name: Option<String>,
}

impl UsageRow {
    /// The first key's id; empty for none.
    pub fn key(&self) -> &str {
        self.keys.first().and_then(|key| key.id.as_deref()).unwrap_or_default()
    }
}

impl By {
    /// The column that it is read from.
    pub(crate) const fn column(self) -> &'static str {
        match self {
            Self::User | Self::Group | Self::OpenWebUiGroup => "user_id",
            Self::Model => "model",
            Self::Provider => "provider",
            Self::Sponsor => "sponsored_id",
            Self::Task => "task",
            Self::Day | Self::Week | Self::Month => "day",
        }
    }

    /// Whether it is a period of time.
    pub const fn is_period(self) -> bool {
        matches!(self, Self::Day | Self::Week | Self::Month)
    }
}

/// Sums of usage.
///
/// # Errors
/// [`Error::NotFound`] for a group that is not there, [`Error::Unavailable`] if the database is away.
pub async fn usage(database: &Database, question: &Question) -> Result<Report, Error> {
    let names = Names::of(database, question).await?;
    let done = aside(database, read(database.clone(), question.clone(), names));
    done.await
}

async fn read(database: Database, question: Question, names: Names) -> Result<Report, Error> {
    let mut columns: Vec<&'static str> = Vec::new();
    // Members of a group are picked from sums of their own.
    let of_group = question.group.is_some() || question.open_webui_group.is_some();
    for column in question.by.iter().map(|by| by.column()).chain(of_group.then_some("user_id")) {
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    let mut reading = Reading::begin(&database).await?;
    let mut fold = Fold::new(columns.len());
    let filters = filters(&question);
    // PostgreSQL sums by hashing; SQLite would sort all rows.
    let grouped = database.kind() == Kind::Postgres;
    let wanted = Wanted { database: &database, keys: &columns, grouped, filters: &filters };
    let days = format!(
        "SELECT day FROM {} WHERE rolled_at IS NOT NULL",
        database.table("token_tracking_rollup_day")
    );
    let closed = reading.all(Query::new(days), |row| Ok(row.some_text(0)?.parse()?)).await?;
    reading.each(wanted.rollup(question.from, question.to), |row| fold.add(row)).await?;
    for (from, to) in open(&closed.into_iter().collect(), question.from, question.to) {
        for query in wanted.ledger(from, to) {
            reading.each(query, |row| fold.add(row)).await?;
        }
    }
    reading.each(wanted.corrected(question.from, question.to), |row| fold.add(row)).await?;
    drop(reading);
    answer(&question, &columns, fold, &names)
}

pub(crate) fn filters(question: &Question) -> Vec<(&'static str, String)> {
    let sponsored = question.sponsored.map(|id| id.to_string());
    [
        ("user_id", question.user.clone()),
        ("provider", question.provider.as_ref().map(|name| name.to_lowercase())),
        ("model", question.model.clone()),
        ("sponsored_id", sponsored),
        ("task", question.task.clone()),
    ]
    .into_iter()
    .filter_map(|(column, value)| Some((column, value?)))
    .collect()
}

/// The ranges of days that are not in the roll-up.
fn open(closed: &BTreeSet<Day>, from: Option<Day>, to: Option<Day>) -> Vec<(Option<Day>, Option<Day>)> {
    let mut open = Vec::new();
    let mut next_open = from;
    let wanted = |day: &&Day| from.is_none_or(|from| **day >= from) && to.is_none_or(|to| **day <= to);
    for day in closed.iter().filter(wanted) {
        if next_open.is_none_or(|next_open| next_open < *day) {
            open.push((next_open, previous(*day)));
        }
        next_open = next(*day);
    }
    if to.is_none_or(|to| next_open.is_none_or(|next_open| next_open <= to)) {
        open.push((next_open, to));
    }
    open
}

fn answer(question: &Question, columns: &[&'static str], fold: Fold, names: &Names) -> Result<Report, Error> {
    let members = names.picked.as_ref();
    let user = columns.iter().position(|column| *column == "user_id");
    let mut rows: BTreeMap<Vec<Key>, Sums> = BTreeMap::new();
    let mut total = Sums::default();
    for (values, sums) in fold.into_sums() {
        let picked = |members: &HashSet<String>| user.is_some_and(|user| members.contains(&values[user]));
        if !members.is_none_or(picked) || sums == Sums::default() {
            continue;
        }
        total.add(&sums)?;
        let value = |by: By| {
            let column = columns.iter().position(|column| *column == by.column());
            column.map_or("", |column| values[column].as_str())
        };
        let mut combined: Vec<Vec<Key>> = vec![Vec::new()];
        for by in &question.by {
            let keys = keys(*by, value(*by), names)?;
            let with = |keys_before: &Vec<Key>| -> Vec<Vec<Key>> {
                keys.iter().map(|key| [keys_before.as_slice(), std::slice::from_ref(key)].concat()).collect()
            };
            combined = combined.iter().flat_map(with).collect();
        }
        for keys in combined {
            rows.entry(keys).or_default().add(&sums)?;
        }
    }
    let mut rows: Vec<UsageRow> = rows.into_iter().map(|(keys, sums)| UsageRow { keys, sums }).collect();
    rows.sort_by(|a, b| b.sums.credits.cmp(&a.sums.credits).then_with(|| a.keys.cmp(&b.keys)));
    rows.truncate(question.top.unwrap_or(usize::MAX));
    if question.by.first().is_some_and(|by| by.is_period()) {
        rows.sort_by(|a, b| a.keys[0].cmp(&b.keys[0]).then_with(|| b.sums.credits.cmp(&a.sums.credits)));
    }
    Ok(Report { rows, total })
}

/// What a value counts for: a user for each of the groups that it is in.
fn keys(by: By, value: &str, names: &Names) -> Result<Vec<Key>, Error> {
    let id = (!value.is_empty()).then(|| value.to_owned());
    let named = |name: Option<&String>| vec![Key { id: id.clone(), name: name.cloned() }];
    Ok(match by {
        By::User => named(names.users.get(value)),
        By::Sponsor => named(names.sponsored.get(value)),
        By::Group | By::OpenWebUiGroup => {
            let groups = if by == By::Group { &names.groups } else { &names.open_webui_groups };
            let with = groups.iter().filter(|(_, group)| group.members.contains(value));
            let key = |(id, group): (&String, &names::Group)| Key {
                id: Some(id.clone()),
                name: Some(group.name.clone()),
            };
            let keys: Vec<Key> = with.map(key).collect();
            if keys.is_empty() { vec![Key { id: None, name: None }] } else { keys }
        }
        By::Week => vec![Key { id: Some(week(value.parse::<Day>()?.date())), name: None }],
        By::Month => vec![Key { id: value.get(..7).map(str::to_owned), name: None }],
        By::Model | By::Provider | By::Task | By::Day => named(None),
    })
}

/// The week of a date after ISO 8601.
fn week(date: Date) -> String {
    let week = date.iso_week_date();
    format!("{:04}-W{:02}", week.year(), week.week())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_not_rolled_up_is_read_from_the_ledger() {
        let closed: BTreeSet<Day> = ["2026-01-02", "2026-01-03", "2026-01-05"].map(day).into();
        let range = |from: &str, to: &str| {
            let day = |text: &str| (!text.is_empty()).then(|| day(text));
            (day(from), day(to))
        };
        for (from, to, expected) in [
            ("", "", vec![("", "2026-01-01"), ("2026-01-04", "2026-01-04"), ("2026-01-06", "")]),
            ("2026-01-02", "2026-01-05", vec![("2026-01-04", "2026-01-04")]),
            ("2026-01-03", "2026-01-03", vec![]),
            ("2026-01-01", "2026-01-02", vec![("2026-01-01", "2026-01-01")]),
            ("2026-01-05", "2026-01-09", vec![("2026-01-06", "2026-01-09")]),
            ("2027-01-01", "", vec![("2027-01-01", "")]),
        ] {
            let (first, last) = range(from, to);
            let expected: Vec<_> = expected.into_iter().map(|(from, to)| range(from, to)).collect();
            assert_eq!(open(&closed, first, last), expected, "{from} to {to}");
        }
        assert_eq!(open(&BTreeSet::new(), None, None), [(None, None)]);
    }

    #[test]
    fn weeks_belong_to_the_year_of_their_thursday() {
        for (date, expected) in
            [("2026-11-27", "2026-W48"), ("2027-01-03", "2026-W53"), ("2027-01-04", "2027-W01")]
        {
            assert_eq!(week(date.parse().unwrap()), expected);
        }
    }
}
