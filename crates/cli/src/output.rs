//! How commands show what they found: as a table for people, or as JSON for scripts.

use std::io::{self, IsTerminal, Write};

use accounting::Credits;
use anyhow::bail;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde_json::{Number, Value};

/// The form of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A table.
    #[default]
    Table,
    /// JSON.
    Json,
}

/// The form, as an option.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct FormatArguments {
    /// How to show the result.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// A column: its key in JSON, its head in a table, and whether it holds numbers.
pub(crate) struct Column {
    pub key: &'static str,
    pub head: &'static str,
    pub number: bool,
}

/// A column of text.
pub(crate) const fn text(key: &'static str, head: &'static str) -> Column {
    Column { key, head, number: false }
}

/// A column of numbers; its head names the unit.
pub(crate) const fn number(key: &'static str, head: &'static str) -> Column {
    Column { key, head, number: true }
}

/// Credits as an exact JSON number.
pub(crate) fn credits(credits: Credits) -> Value {
    credits.to_string().parse::<Number>().map_or(Value::Null, Value::Number)
}

/// Shows rows; in JSON, as a list of objects.
pub(crate) fn rows(format: Format, columns: &[Column], rows: Vec<Vec<Value>>) -> io::Result<()> {
    match format {
        Format::Table => table(columns, &rows),
        Format::Json => {
            let object = |row: Vec<Value>| {
                Value::Object(columns.iter().map(|column| column.key.to_owned()).zip(row).collect())
            };
            json(&Value::Array(rows.into_iter().map(object).collect()))
        }
    }
}

/// Shows one value as JSON.
pub(crate) fn json(value: &Value) -> io::Result<()> {
    writeln!(io::stdout(), "{value:#}")
}

/// Shows a line for people.
pub(crate) fn line(text: impl std::fmt::Display) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}

/// Asks on a terminal; elsewhere the answer is no.
pub(crate) fn confirmed(question: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("{question} Say --yes, because nobody can be asked here");
    }
    write!(io::stderr(), "{question} [y/N] ")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

fn table(columns: &[Column], rows: &[Vec<Value>]) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(columns.iter().map(|column| column.head));
    for row in rows {
        table.add_row(row.iter().map(shown));
    }
    for (index, _) in columns.iter().enumerate().filter(|(_, column)| column.number) {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    line(table)
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        other => other.to_string(),
    }
}
