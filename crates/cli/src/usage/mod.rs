//! `usage --by …`, `usage rollup|export|prune`.

mod export;
mod prune;
pub(crate) mod refused;
mod rollup;

pub(crate) use rollup::progress;

use std::process::ExitCode;

use accounting::Day;
use serde_json::{Number, Value};
use storage::Database;
use storage::reports::usage::{self, By, Key, Of, Question, Sums};

use crate::connect::DatabaseArguments;
use crate::output::{self, Column, Format, FormatArguments, credits, number, text};

/// How to sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Side {
    /// For each user.
    User,
    /// For each credit group, as its members are now; who is in several counts in each.
    Group,
    /// For each group of Open WebUI, in the same way.
    OwuiGroup,
    /// For each model.
    Model,
    /// For each provider.
    Provider,
    /// For each sponsored allowance.
    Sponsor,
    /// For each of Open WebUI's tasks, such as title_generation.
    Task,
    /// For each local day.
    Day,
    /// For each week, from Monday on.
    Week,
    /// For each month.
    Month,
}

/// Show who used what.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    report: ReportArguments,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Rollup(rollup::Arguments),
    Export(Box<export::Arguments>),
    Prune(prune::Arguments),
}

const EXAMPLES: &str = "\
Examples:
  owui-token-tracking usage --by model --from 2026-11-01 --to 2026-11-30
  owui-token-tracking usage --by user --top 10
  owui-token-tracking usage --by month --group staff --format csv
  owui-token-tracking usage --by user,model --sponsor course-101
  owui-token-tracking usage --refused --by user,model --from 2026-11-01";

#[derive(Debug, clap::Args)]
struct ReportArguments {
    /// How to sum; two of them, divided by a comma, for each combination.
    #[arg(long, value_enum, default_value = "user", value_delimiter = ',')]
    by: Vec<Side>,
    #[command(flatten)]
    filters: Filters,
    /// Only so many rows, those that cost most.
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Show who was refused instead, at which limit and how often, by user, model, provider, sponsor or day.
    #[arg(long)]
    refused: bool,
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    format: FormatArguments,
}

/// Which usage is asked for; all that is given must fit.
#[derive(Debug, clap::Args)]
struct Filters {
    /// From this day on (YYYY-MM-DD).
    #[arg(long, value_name = "DAY")]
    from: Option<Day>,
    /// Up to and with this day (YYYY-MM-DD).
    #[arg(long, value_name = "DAY")]
    to: Option<Day>,
    /// Only this user's, by id, e-mail address or name.
    #[arg(long)]
    user: Option<String>,
    /// Only that of the present members of this credit group.
    #[arg(long)]
    group: Option<String>,
    /// Only that of the present members of this group of Open WebUI, by name or id.
    #[arg(long)]
    owui_group: Option<String>,
    /// Only this model's.
    #[arg(long)]
    model: Option<String>,
    /// Only this provider's.
    #[arg(long)]
    provider: Option<String>,
    /// Only what this sponsored allowance paid, by name or id.
    #[arg(long)]
    sponsor: Option<String>,
    /// Only this task's; an empty text for requests that are no task.
    #[arg(long)]
    task: Option<String>,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Some(Command::Rollup(arguments)) => rollup::run(arguments).await,
        Some(Command::Export(arguments)) => export::run(*arguments).await,
        Some(Command::Prune(arguments)) => prune::run(arguments).await,
        None => report(arguments.report).await,
    }
}

async fn report(arguments: ReportArguments) -> anyhow::Result<ExitCode> {
    if arguments.by.len() > 2 {
        anyhow::bail!("--by takes at most two, such as --by user,model");
    }
    let database = arguments.database.open().await?;
    let format = arguments.format.format;
    let sides = arguments.by.clone();
    let question = question_of(&database, arguments.filters).await?;
    let by = sides.iter().map(|side| side.by()).collect();
    let question = Question { by, top: arguments.top, ..question };
    if arguments.refused {
        return refused::run(&database, &question, &sides, format).await;
    }
    let report = usage::usage(&database, &question).await?;
    let is_empty = report.rows.is_empty();
    let columns: Vec<Column> =
        sides.iter().flat_map(|side| heads(*side, format)).chain(sums(format)).collect();
    let mut rows: Vec<Vec<Value>> = Vec::new();
    for row in report.rows {
        let keys = sides.iter().zip(&row.keys).flat_map(|(side, key)| shown(*side, key, format));
        rows.push(keys.chain(values(&row.sums, format)).collect());
    }
    if format == Format::Table {
        // For programs it would look like one more row.
        let keys =
            sides.iter().enumerate().map(|(index, _)| if index == 0 { "Total".into() } else { "".into() });
        rows.push(keys.chain(values(&report.total, format)).collect());
    }
    output::rows(format, &columns, rows)?;
    if is_empty && format == Format::Table {
        output::line(output::NOTHING)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn question_of(database: &Database, filters: Filters) -> anyhow::Result<Question> {
    let user = match &filters.user {
        Some(which) => Some(usage::user_named(database, which).await?),
        None => None,
    };
    let sponsored = match &filters.sponsor {
        Some(which) => Some(usage::sponsored_named(database, which).await?),
        None => None,
    };
    let providers = providers();
    for (of, name, others) in [
        (Of::Model, filters.model.clone(), &[][..]),
        (Of::Provider, filters.provider.as_ref().map(|name| name.to_lowercase()), &providers[..]),
        (Of::Task, filters.task.clone(), &[][..]),
    ] {
        if let Some(name) = name {
            usage::require(database, of, &name, others).await?;
        }
    }
    let Filters { from, to, group, owui_group, model, provider, task, .. } = filters;
    Ok(Question {
        from,
        to,
        user,
        group,
        open_webui_group: owui_group,
        provider,
        model,
        sponsored,
        task,
        ..Question::default()
    })
}

/// The names of the providers that this program knows by itself.
pub(crate) fn providers() -> Vec<&'static str> {
    providers::Kind::all().map(|kind| kind.entry().provider).filter(|name| !name.is_empty()).collect()
}

impl Side {
    const fn by(self) -> By {
        match self {
            Self::User => By::User,
            Self::Group => By::Group,
            Self::OwuiGroup => By::OpenWebUiGroup,
            Self::Model => By::Model,
            Self::Provider => By::Provider,
            Self::Sponsor => By::Sponsor,
            Self::Task => By::Task,
            Self::Day => By::Day,
            Self::Week => By::Week,
            Self::Month => By::Month,
        }
    }

    /// What stands for none of it in a table.
    const fn none(self) -> &'static str {
        match self {
            Self::Group | Self::OwuiGroup => "(no group)",
            Self::Sponsor => "(own allowance)",
            Self::Task => "(no task)",
            _ => "",
        }
    }
}

/// The columns of a side. People see names; programs get ids with them.
fn heads(side: Side, format: Format) -> Vec<Column> {
    let table = format == Format::Table;
    match side {
        Side::User if table => vec![text("user", "User")],
        Side::User => vec![text("user_id", ""), text("user_name", "")],
        Side::Group if table => vec![text("group", "Credit group")],
        Side::Group => vec![text("group_id", ""), text("group_name", "")],
        Side::OwuiGroup if table => vec![text("group", "Open WebUI group")],
        Side::OwuiGroup => vec![text("owui_group_id", ""), text("owui_group_name", "")],
        Side::Sponsor if table => vec![text("sponsored", "Sponsored allowance")],
        Side::Sponsor => vec![text("sponsored_id", ""), text("sponsored_name", "")],
        Side::Model => vec![text("model", "Model")],
        Side::Provider => vec![text("provider", "Provider")],
        Side::Task => vec![text("task", "Task")],
        Side::Day => vec![text("day", "Day")],
        Side::Week => vec![text("week", "Week")],
        Side::Month => vec![text("month", "Month")],
    }
}

fn shown(side: Side, key: &Key, format: Format) -> Vec<Value> {
    let value = |text: &Option<String>| text.clone().map_or(Value::Null, Value::from);
    if format == Format::Table {
        let text = key.name.as_deref().or(key.id.as_deref()).unwrap_or_else(|| side.none());
        return vec![text.into()];
    }
    let named = matches!(side, Side::User | Side::Group | Side::OwuiGroup | Side::Sponsor);
    if named { vec![value(&key.id), value(&key.name)] } else { vec![value(&key.id)] }
}

fn sums(format: Format) -> Vec<Column> {
    let mut columns = vec![
        number("requests", "Requests"),
        number("input_tokens", "Input tokens"),
        number("cached_input_tokens", "Cached"),
        number("cache_write_tokens", "Cache writes"),
        number("output_tokens", "Output tokens"),
        number("reasoning_tokens", "Reasoning"),
        number("credits", "Credits"),
        number("estimated_percent", "Estimated %"),
    ];
    if format != Format::Table {
        let more = [("imported", ""), ("estimated", ""), ("estimated_credits", "")];
        columns.extend(more.map(|(key, head)| number(key, head)));
    }
    columns
}

fn values(sums: &Sums, format: Format) -> Vec<Value> {
    let counts =
        [sums.requests, sums.input, sums.cached_input, sums.cache_write, sums.output, sums.reasoning];
    let mut values: Vec<Value> = counts.map(Value::from).into();
    values.push(credits(sums.credits));
    values.push(percent(sums.estimated_permille()));
    if format != Format::Table {
        values.extend([sums.imported.into(), sums.estimated.into(), credits(sums.estimated_credits)]);
    }
    values
}

/// Tenths of a percent as an exact number of percent.
fn percent(permille: i64) -> Value {
    let text = match permille % 10 {
        0 => format!("{}", permille / 10),
        tenth => format!("{}.{}", permille / 10, tenth.abs()),
    };
    text.parse::<Number>().map_or(Value::Null, Value::Number)
}
