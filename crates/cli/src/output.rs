//! How commands show what they found: as a table for people, as JSON or CSV for programs.
//!
//! A table fits the terminal, and is coloured only on one; a number is never cut or rounded in any form.

use std::io::{self, IsTerminal, Write};

use accounting::Credits;
use anyhow::bail;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, Width,
};
use serde_json::{Map, Number, Value};

use crate::escape;

/// The form of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A table.
    #[default]
    Table,
    /// JSON.
    Json,
    /// CSV, with the keys of the JSON as its first row.
    Csv,
}

/// The form, as an option.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct FormatArguments {
    /// How to show the result.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// A column: its key in JSON and CSV, its head in a table, and what it holds.
pub(crate) struct Column {
    pub key: &'static str,
    pub head: &'static str,
    kind: Kind,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    State,
}

/// A column of text.
pub(crate) const fn text(key: &'static str, head: &'static str) -> Column {
    Column { key, head, kind: Kind::Text }
}

/// A column of numbers; its head names the unit.
pub(crate) const fn number(key: &'static str, head: &'static str) -> Column {
    Column { key, head, kind: Kind::Number }
}

/// A column of states: `ok`, `warning`, `problem`.
pub(crate) const fn state(key: &'static str, head: &'static str) -> Column {
    Column { key, head, kind: Kind::State }
}

/// Credits as an exact JSON number.
pub(crate) fn credits(credits: Credits) -> Value {
    credits.to_string().parse::<Number>().map_or(Value::Null, Value::Number)
}

/// What is said below an empty table, so that nobody takes it for a fault.
pub(crate) const NOTHING: &str = "There is nothing to show.";

/// Shows rows; in JSON, as a list of objects.
pub(crate) fn rows(format: Format, columns: &[Column], rows: Vec<Vec<Value>>) -> io::Result<()> {
    match format {
        Format::Table if rows.is_empty() => {
            table(columns, &rows)?;
            line(NOTHING)
        }
        Format::Table => table(columns, &rows),
        Format::Json => json(&Value::Array(objects(columns, rows))),
        Format::Csv => csv(columns.iter().map(|column| column.key), rows.iter()),
    }
}

/// Rows as JSON objects.
pub(crate) fn objects(columns: &[Column], rows: Vec<Vec<Value>>) -> Vec<Value> {
    let keys = || columns.iter().map(|column| column.key.to_owned());
    rows.into_iter().map(|row| Value::Object(keys().zip(row).collect())).collect()
}

/// Shows a value for programs. In CSV a list has a row for each of its objects, and anything else is one row; a table is the
/// caller's to make, and JSON stands in for it.
pub(crate) fn data(format: Format, value: &Value) -> io::Result<()> {
    if format != Format::Csv {
        return json(value);
    }
    let one = std::slice::from_ref(value);
    let objects: Vec<&Map<String, Value>> =
        value.as_array().map_or(one, Vec::as_slice).iter().filter_map(Value::as_object).collect();
    let mut keys: Vec<&str> = Vec::new();
    for key in objects.iter().flat_map(|object| object.keys()) {
        if !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    let row = |object: &&Map<String, Value>| -> Vec<Value> {
        keys.iter().map(|key| object.get(*key).cloned().unwrap_or_default()).collect()
    };
    csv(keys.iter().copied(), objects.iter().map(row).collect::<Vec<_>>().iter())
}

/// Shows one value as JSON.
pub(crate) fn json(value: &Value) -> io::Result<()> {
    writeln!(io::stdout(), "{value:#}")
}

/// Shows a line for people.
pub(crate) fn line(text: impl std::fmt::Display) -> io::Result<()> {
    writeln!(io::stdout(), "{}", escape::terminal(&text.to_string()))
}

/// Asks on a terminal; elsewhere the answer is no.
pub(crate) fn confirmed(question: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("{question} Say --yes, because nobody can be asked here");
    }
    write!(io::stderr(), "{} [y/N] ", escape::terminal(question))?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Whether somebody at a terminal, asked, says no. Elsewhere nobody can, and the command counts: for commands that the
/// original has and never asks for, so that scripts with them go on.
pub(crate) fn declined(question: &str) -> anyhow::Result<bool> {
    Ok(io::stdin().is_terminal() && !confirmed(question)?)
}

/// Whether what is shown may be coloured: on a terminal that can, unless the environment says `NO_COLOR`.
fn coloured() -> bool {
    let can = std::env::var_os("TERM").is_none_or(|kind| kind != "dumb");
    io::stdout().is_terminal() && can && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn table(columns: &[Column], rows: &[Vec<Value>]) -> io::Result<()> {
    // Without a terminal, whoever reads may say how much room there is.
    let said = || std::env::var("COLUMNS").ok().and_then(|width| width.parse().ok());
    let width = if io::stdout().is_terminal() { None } else { said() };
    // Its cells are escaped; what else is in it are its own colours.
    writeln!(io::stdout(), "{}", drawn(columns, rows, coloured(), width))
}

/// The table; without a width, as wide as the terminal at most, if there is one.
fn drawn(columns: &[Column], rows: &[Vec<Value>], coloured: bool, width: Option<u16>) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    if let Some(width) = width {
        table.set_width(width);
    }
    if coloured {
        table.enforce_styling();
    }
    table.set_header(columns.iter().map(|column| {
        let head = Cell::new(column.head);
        if coloured { head.add_attribute(Attribute::Bold) } else { head }
    }));
    for row in rows {
        let cells = columns.iter().zip(row).map(|(column, value)| {
            let text = shown(value);
            let colour = colour(column.kind, &text).filter(|_| coloured);
            let cell = Cell::new(text);
            colour.map_or(cell.clone(), |colour| cell.fg(colour))
        });
        table.add_row(cells);
    }
    let least = least(columns, rows, table.width());
    for ((index, column), least) in columns.iter().enumerate().zip(least) {
        if let Some(drawn) = table.column_mut(index) {
            if column.kind == Kind::Number {
                drawn.set_cell_alignment(CellAlignment::Right);
            }
            drawn.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(least)));
        }
    }
    table
}

/// How narrow each column may become. Half a number is a wrong one, so numbers are never broken; words of heads and texts only
/// where there is no room for them whole.
fn least(columns: &[Column], rows: &[Vec<Value>], width: Option<u16>) -> Vec<u16> {
    const LONG_WORD: usize = 24;
    let length = |word: &str| word.chars().count();
    let longest = |text: &str| text.split_whitespace().map(length).max().unwrap_or(0);
    let column = |(index, column): (usize, &Column)| {
        let cells = rows.iter().filter_map(|row| row.get(index)).map(shown);
        let (whole, word) = cells.fold((0, 0), |(whole, word), cell| {
            (length(&cell).max(whole), longest(&cell).min(LONG_WORD).max(word))
        });
        let numbers = if column.kind == Kind::Number { whole } else { 1 };
        let heads = numbers.max(longest(column.head));
        [numbers, heads, heads.max(word)]
    };
    let each: Vec<[usize; 3]> = columns.iter().enumerate().map(column).collect();
    // A space on both sides of each cell, and the lines between them.
    let needed = |level: usize| each.iter().map(|least| least[level] + 3).sum::<usize>() + 1;
    let level = (0..3).rev().find(|level| width.is_none_or(|width| needed(*level) <= usize::from(width)));
    let padded = |least: &[usize; 3]| u16::try_from(least[level.unwrap_or(0)] + 2).unwrap_or(u16::MAX);
    each.iter().map(padded).collect()
}

fn colour(kind: Kind, text: &str) -> Option<Color> {
    match (kind, text) {
        (Kind::Number, text) if text.starts_with('-') => Some(Color::Red),
        (Kind::State, "problem") => Some(Color::Red),
        (Kind::State, "warning") => Some(Color::Yellow),
        (Kind::State, "ok") => Some(Color::Green),
        _ => None,
    }
}

fn csv<'a>(
    keys: impl Iterator<Item = &'a str>,
    rows: impl Iterator<Item = &'a Vec<Value>>,
) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(io::stdout().lock());
    writer.write_record(keys)?;
    for row in rows {
        writer.write_record(row.iter().map(|value| match value {
            Value::String(text) => escape::spreadsheet(text).into_owned(),
            other => plain(other),
        }))?;
    }
    writer.flush()
}

/// A value in CSV: numbers with all their digits, nothing for null, JSON for what has parts.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A value in a table.
fn shown(value: &Value) -> String {
    match value {
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        other => escape::one_line(&plain(other)).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balances() -> ([Column; 4], Vec<Vec<Value>>) {
        let columns = [
            text("user_id", "User"),
            text("name", "Name"),
            number("spent", "Spent (credits in this period)"),
            number("free", "Free (credits in this period)"),
        ];
        let negative = "-9000000000000.000001".parse::<Number>().unwrap();
        let row = vec![
            "4b0b4d44-7a55-4e39-b3b7-4f9a40c2a9d1".into(),
            "A name of several words that is long".into(),
            "1234567890.123456".parse::<Number>().unwrap().into(),
            negative.into(),
        ];
        (columns, vec![row])
    }

    #[test]
    fn a_table_fits_and_leaves_numbers_whole() {
        let (columns, rows) = balances();
        for width in [80, 100, 200] {
            let drawn = drawn(&columns, &rows, false, Some(width)).to_string();
            assert!(
                drawn.lines().all(|line| line.chars().count() <= usize::from(width)),
                "{width}:\n{drawn}"
            );
            assert!(
                drawn.contains(" -9000000000000.000001 ") && drawn.contains(" 1234567890.123456 "),
                "{drawn}"
            );
        }
    }

    #[test]
    fn colours_only_where_they_are_wanted() {
        let (columns, rows) = balances();
        assert!(!drawn(&columns, &rows, false, None).to_string().contains('\u{1b}'));
        let drawn = drawn(&columns, &rows, true, None).to_string();
        assert!(drawn.contains('\u{1b}'), "{drawn}");
        assert_eq!(colour(Kind::Number, "-1"), Some(Color::Red));
        assert_eq!((colour(Kind::Number, "1"), colour(Kind::Text, "-1")), (None, None));
    }
}
