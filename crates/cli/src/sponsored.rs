//! `sponsored create|list|get|update|delete`.

use std::process::ExitCode;

use accounting::{Credits, ModelId};
use anyhow::bail;
use serde_json::Value;
use storage::SponsoredAllowance;
use storage::admin::sponsored::{self, Change, Terms, Which};

use crate::connect::DatabaseArguments;
use crate::output::{self, FormatArguments, number, text};

/// Manage sponsored allowances: credits that a sponsor grants for named models.
///
/// In Open WebUI, a workspace model that an administrator made, with an id such as `research---gpt`, draws on the allowance
/// `research` instead of on its user's own credits.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make an allowance.
    #[command(after_help = EXAMPLE)]
    Create {
        /// Who pays: a user's id, or any name.
        #[arg(long)]
        sponsor_id: String,
        /// Its name.
        #[arg(long)]
        name: String,
        /// A model that it covers; may be repeated.
        #[arg(short, long = "model", required = true, value_name = "MODEL")]
        models: Vec<String>,
        /// Whole credits that all users together may spend, ever.
        #[arg(short, long, visible_alias = "total-limit")]
        total_credit_limit: i64,
        /// Whole credits that each user may spend in a day; no limit without.
        #[arg(short, long, visible_alias = "daily-limit")]
        daily_credit_limit: Option<i64>,
        #[command(flatten)]
        database: DatabaseArguments,
    },
    /// List all allowances.
    List {
        #[command(flatten)]
        database: DatabaseArguments,
        #[command(flatten)]
        format: FormatArguments,
    },
    /// Show one.
    Get {
        #[command(flatten)]
        which: Chosen,
        #[command(flatten)]
        database: DatabaseArguments,
        #[command(flatten)]
        format: FormatArguments,
    },
    /// Change one; what is not given stays.
    Update {
        #[command(flatten)]
        which: Chosen,
        /// A new name.
        #[arg(long)]
        new_name: Option<String>,
        /// Another who pays.
        #[arg(long)]
        sponsor_id: Option<String>,
        /// The models that it covers, instead of those before; may be repeated.
        #[arg(short, long = "model", value_name = "MODEL")]
        models: Vec<String>,
        /// Whole credits that all users together may spend, ever.
        #[arg(short, long, visible_alias = "total-limit")]
        total_credit_limit: Option<i64>,
        /// Whole credits that each user may spend in a day, or `none`.
        #[arg(short, long, visible_alias = "daily-limit", value_parser = daily)]
        daily_credit_limit: Option<Daily>,
        #[command(flatten)]
        database: DatabaseArguments,
    },
    /// Delete one. What was charged to it stays in the ledger.
    Delete {
        #[command(flatten)]
        which: Chosen,
        /// Do not ask.
        #[arg(short = 'y', long)]
        yes: bool,
        #[command(flatten)]
        database: DatabaseArguments,
    },
}

const EXAMPLE: &str = "Example:\n  owui-token-tracking sponsored create --sponsor-id \"AI Department\" --name research \\\n    \
    -m gpt-4o -m gpt-4o-mini -t 100000 -d 500\n\nThen make a workspace model in Open WebUI as an administrator, with an id \
    such as research---gpt-4o.";

/// Which allowance is meant.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Chosen {
    /// The allowance with this id.
    #[arg(long)]
    id: Option<String>,
    /// The allowance with this name.
    #[arg(long)]
    name: Option<String>,
}

/// A daily limit, or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Daily(Option<i64>);

fn daily(text: &str) -> Result<Daily, String> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(Daily(None));
    }
    text.parse().map(|limit| Daily(Some(limit))).map_err(|_| "write whole credits, or none".into())
}

impl Chosen {
    fn which(self) -> anyhow::Result<Which> {
        match self {
            Self { id: Some(id), .. } => Ok(Which::Id(id.parse()?)),
            Self { name, .. } => Ok(Which::Name(name.unwrap_or_default())),
        }
    }
}

pub(crate) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Create { sponsor_id, name, models, total_credit_limit, daily_credit_limit, database } => {
            let database = database.open().await?;
            let terms = Terms {
                name,
                sponsor: sponsor_id,
                models: ids(models)?,
                total: total_credit_limit,
                daily: daily_credit_limit,
            };
            let made = sponsored::create(&database, &terms).await?;
            output::line(format!("The sponsored allowance {} has the id {}.", made.name, made.id))?;
            output::line(format!(
                "Workspace models of administrators with ids such as {}---NAME draw on it.",
                made.name
            ))?;
        }
        Command::List { database, format } => {
            show(sponsored::list(&database.open().await?).await?, format)?;
        }
        Command::Get { which, database, format } => {
            show(vec![sponsored::get(&database.open().await?, &which.which()?).await?], format)?;
        }
        Command::Update {
            which,
            new_name,
            sponsor_id,
            models,
            total_credit_limit,
            daily_credit_limit,
            database,
        } => {
            let database = database.open().await?;
            let change = Change {
                name: new_name,
                sponsor: sponsor_id,
                models: if models.is_empty() { None } else { Some(ids(models)?) },
                total: total_credit_limit,
                daily: daily_credit_limit.map(|Daily(limit)| limit),
            };
            let changed = sponsored::update(&database, &which.which()?, change).await?;
            output::line(format!("The sponsored allowance {} is changed.", changed.name))?;
        }
        Command::Delete { which, yes, database } => {
            let database = database.open().await?;
            let which = which.which()?;
            let name = sponsored::get(&database, &which).await?.name;
            if !yes && output::declined(&format!("Delete the sponsored allowance {name}?"))? {
                bail!("nothing was deleted");
            }
            sponsored::delete(&database, &which).await?;
            output::line(format!(
                "The sponsored allowance {name} is deleted. What was charged to it stays."
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn ids(models: Vec<String>) -> anyhow::Result<Vec<ModelId>> {
    Ok(models.into_iter().map(ModelId::new).collect::<Result<_, _>>()?)
}

fn show(all: Vec<SponsoredAllowance>, format: FormatArguments) -> anyhow::Result<()> {
    let columns = [
        text("id", "Id"),
        text("name", "Name"),
        text("sponsor_id", "Sponsor"),
        text("base_models", "Models"),
        number("total_credit_limit", "Total (credits)"),
        number("daily_credit_limit", "Daily (credits per user)"),
        text("creation_date", "Made at (UTC)"),
    ];
    let whole = |credits: Credits| credits.micro() / 1_000_000;
    let row = |one: SponsoredAllowance| {
        let models: Vec<&str> = one.models.iter().map(ModelId::as_str).collect();
        vec![
            one.id.to_string().into(),
            one.name.into(),
            one.sponsor.into(),
            models.join(", ").into(),
            whole(one.total).into(),
            one.daily.map_or(Value::Null, |limit| whole(limit).into()),
            one.created_at.into(),
        ]
    };
    Ok(output::rows(format.format, &columns, all.into_iter().map(row).collect())?)
}
