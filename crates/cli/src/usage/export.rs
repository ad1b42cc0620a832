//! `usage export`.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};
use storage::reports::export::{self, COLUMNS, Entries, NAMES, Value};

use super::{Filters, question_of};
use crate::connect::DatabaseArguments;
use crate::{escape, output, private_file};

/// So many rows pass between two looks of the bar.
const LOOK: u64 = 4096;

/// Write the ledger row by row, as CSV or JSON Lines.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The form.
    #[arg(long, value_enum, default_value = "csv")]
    format: Form,
    /// Where to; - is the standard output.
    #[arg(long, short, default_value = "-", value_name = "FILE")]
    output: String,
    /// Also what is no request: adjustments by `credits` (kind `adjustment`), and what was spent before a user got a weekly or
    /// monthly limit, booked on its account (kind `carried`). The charges then don't add up to what `usage` shows.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    database: DatabaseArguments,
}

const EXAMPLES: &str = "\
A row for each request, and for each correction of one; their charges add up to what `usage` shows. Amounts are exact \
credits. In CSV a text that a spreadsheet would take for a formula (it begins with = + - @, a tab or a return) has an \
apostrophe before it; JSON Lines have every text as it is.

Examples:
  owui-token-tracking usage export --from 2026-11-01 --to 2026-11-30 --output november.csv
  owui-token-tracking usage export --format jsonl --user ann@example.org | gzip > ann.jsonl.gz";

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// Comma-separated values, with a head.
    Csv,
    /// A JSON object on each line.
    Jsonl,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { format, output, all, filters, database } = arguments;
    let database = database.open().await?;
    let question = question_of(&database, filters).await?;
    let entries = if all { Entries::All } else { Entries::Usage };
    let bar = ProgressBar::new_spinner().with_style(
        ProgressStyle::with_template("{spinner} {pos} rows, {per_sec}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner()),
    );
    let to: Box<dyn Write + Send> =
        if output == "-" { Box::new(io::stdout()) } else { Box::new(private_file::create(&output)?) };
    let sink = Arc::new(Mutex::new((Sink::new(format, to)?, 0_u64)));
    let (filled, shown) = (Arc::clone(&sink), bar.clone());
    let each = move |values: &[Value<'_>]| {
        let mut filled = filled.lock().unwrap_or_else(PoisonError::into_inner);
        let (sink, rows) = &mut *filled;
        *rows += 1;
        if rows.is_multiple_of(LOOK) {
            shown.set_position(*rows);
        }
        sink.write(values)
    };
    let done = export::entries(&database, &question, entries, each).await;
    bar.finish_and_clear();
    let mut filled = sink.lock().unwrap_or_else(PoisonError::into_inner);
    match done.and_then(|()| filled.0.flush()) {
        // Whoever reads it has seen enough, as `head` does.
        Err(error) if is_broken_pipe(&error) => return Ok(ExitCode::SUCCESS),
        done => done?,
    }
    if output != "-" {
        output::line(format!("{} rows written to {output}.", filled.1))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain();
    causes.any(|cause| {
        let kind = match cause.downcast_ref::<csv::Error>().map(csv::Error::kind) {
            Some(csv::ErrorKind::Io(error)) => Some(error.kind()),
            _ => cause.downcast_ref::<io::Error>().map(io::Error::kind),
        };
        kind == Some(io::ErrorKind::BrokenPipe)
    })
}

/// Where rows go.
enum Sink {
    Csv(Box<csv::Writer<Box<dyn Write + Send>>>),
    Lines(BufWriter<Box<dyn Write + Send>>),
}

impl Sink {
    fn new(form: Form, to: Box<dyn Write + Send>) -> anyhow::Result<Self> {
        Ok(match form {
            Form::Csv => {
                let mut writer = csv::WriterBuilder::new().buffer_capacity(1 << 16).from_writer(to);
                writer.write_record(names())?;
                Self::Csv(Box::new(writer))
            }
            Form::Jsonl => Self::Lines(BufWriter::with_capacity(1 << 16, to)),
        })
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Csv(writer) => writer.flush()?,
            Self::Lines(writer) => writer.flush()?,
        }
        Ok(())
    }

    fn write(&mut self, values: &[Value<'_>]) -> anyhow::Result<()> {
        match self {
            Self::Csv(writer) => {
                for value in values {
                    match value {
                        Value::Nothing => writer.write_field("")?,
                        Value::Text(text) => writer.write_field(&*escape::spreadsheet(text))?,
                        Value::Number(number) => writer.write_field(number.to_string())?,
                        Value::Credits(credits) => writer.write_field(credits.to_string())?,
                        Value::Time(time) => writer.write_field(time.to_string())?,
                    }
                }
                writer.write_record(None::<&[u8]>)?;
            }
            Self::Lines(writer) => line(writer, values)?,
        }
        Ok(())
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    COLUMNS.iter().map(|column| column.name).chain(NAMES)
}

fn line(writer: &mut impl Write, values: &[Value<'_>]) -> anyhow::Result<()> {
    for (index, (name, value)) in names().zip(values).enumerate() {
        let before = if index == 0 { '{' } else { ',' };
        write!(writer, "{before}\"{name}\":")?;
        match value {
            Value::Nothing => writer.write_all(b"null")?,
            Value::Text(text) => serde_json::to_writer(&mut *writer, text)?,
            Value::Number(number) => write!(writer, "{number}")?,
            Value::Credits(credits) => write!(writer, "{credits}")?,
            Value::Time(time) => write!(writer, "\"{time}\"")?,
        }
    }
    writer.write_all(b"}\n")?;
    Ok(())
}
