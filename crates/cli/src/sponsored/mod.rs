//! `sponsored create|list|get|update|delete|register|unregister|registered|publish|unpublish|report`.

mod publish;
mod report;
mod shown;
mod terms;

use std::process::ExitCode;

use anyhow::bail;
use storage::admin::sponsored::{self, Which};
use storage::{SponsoredAllowance, SystemClock};

use crate::connect::DatabaseArguments;
use crate::output::{self, FormatArguments, text};

/// Manage sponsored allowances: credits that a sponsor grants for named models.
///
/// In Open WebUI, a workspace model that an administrator made, with an id such as `research---gpt`, draws on the allowance
/// `research` instead of on its user's own credits.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make an allowance.
    #[command(after_help = EXAMPLE)]
    Create {
        #[command(flatten)]
        terms: Box<terms::Made>,
        #[command(flatten)]
        database: DatabaseArguments,
    },
    /// List all allowances.
    #[command(after_help = "Example:\n  \
        owui-token-tracking sponsored list")]
    List {
        #[command(flatten)]
        database: DatabaseArguments,
        #[command(flatten)]
        format: FormatArguments,
    },
    /// Show one.
    #[command(after_help = "Example:\n  \
        owui-token-tracking sponsored get --name research")]
    Get {
        #[command(flatten)]
        which: Chosen,
        #[command(flatten)]
        database: DatabaseArguments,
        #[command(flatten)]
        format: FormatArguments,
    },
    /// Change one; what is not given stays.
    #[command(
        after_help = "Example:\n  owui-token-tracking sponsored update --name research --ends 2027-03-31 --no-daily-limit"
    )]
    Update {
        #[command(flatten)]
        which: Chosen,
        #[command(flatten)]
        change: Box<terms::Changed>,
        #[command(flatten)]
        database: DatabaseArguments,
    },
    /// Delete one. What was charged to it stays in the ledger, and reports go on naming it.
    #[command(after_help = "Examples:\n  \
        owui-token-tracking sponsored delete --name research\n  \
        owui-token-tracking sponsored delete --name research --yes")]
    Delete {
        #[command(flatten)]
        which: Chosen,
        /// Do not ask.
        #[arg(short = 'y', long)]
        yes: bool,
        #[command(flatten)]
        database: DatabaseArguments,
    },
    /// Let a workspace model of Open WebUI open an allowance, whoever made it and whatever its id is.
    #[command(after_help = "Example:\n  owui-token-tracking sponsored register writing-coach research")]
    Register {
        /// The workspace model's id.
        workspace_model: String,
        /// The allowance's name.
        allowance: String,
        #[command(flatten)]
        database: DatabaseArguments,
    },
    /// Take that back.
    #[command(after_help = "Example:\n  \
        owui-token-tracking sponsored unregister tutor")]
    Unregister {
        /// The workspace model's id.
        workspace_model: String,
        #[command(flatten)]
        database: DatabaseArguments,
    },
    /// List the workspace models that are registered.
    #[command(after_help = "Example:\n  \
        owui-token-tracking sponsored registered")]
    Registered {
        #[command(flatten)]
        database: DatabaseArguments,
        #[command(flatten)]
        format: FormatArguments,
    },
    /// Put an allowance's models into a running Open WebUI, visible to those who may use them.
    #[command(after_help = publish::EXAMPLE)]
    Publish(publish::Arguments),
    /// Take them out again.
    #[command(after_help = "Example:\n  \
        owui-token-tracking sponsored unpublish research --url http://localhost:8080 --token sk-…")]
    Unpublish(publish::Removal),
    /// Show what was used of allowances, by whom and for what, what is left, and how long it will last.
    #[command(after_help = report::EXAMPLE)]
    Report(report::Arguments),
}

const EXAMPLE: &str = "Examples:\n  owui-token-tracking sponsored create --sponsor-id \"AI Department\" --name research \\\n    \
    -m gpt-4o -m openai/gpt-4o-mini -t 100000 -d 500\n  owui-token-tracking sponsored create --sponsor-id ann@example.org \
    --name course-101 -m gpt-4o-mini -t 20000 \\\n    --starts 2027-01-11 --ends 2027-03-26 --member-owui-group Students \
    --member-user bob@example.org\n\nThen `sponsored publish` puts its models into Open WebUI; or make a workspace model there \
    as an administrator, with an id such as research---gpt-4o.";

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
        Command::Create { terms, database } => {
            let made = sponsored::create(&database.open().await?, &terms.terms()).await?;
            output::line(format!("The sponsored allowance {} has the id {}.", made.name, made.id))?;
            output::line(format!(
                "Workspace models of administrators with ids such as {}---NAME draw on it.",
                made.handle()
            ))?;
            own_models(&made)?;
        }
        Command::List { database, format } => {
            let database = database.open().await?;
            shown::show(&database, sponsored::list(&database).await?, format).await?;
        }
        Command::Get { which, database, format } => {
            let database = database.open().await?;
            let found = sponsored::get(&database, &which.which()?).await?;
            shown::show(&database, vec![found], format).await?;
        }
        Command::Update { which, change, database } => {
            let changed =
                sponsored::update(&database.open().await?, &which.which()?, change.change()).await?;
            output::line(format!("The sponsored allowance {} is changed.", changed.name))?;
            own_models(&changed)?;
        }
        Command::Delete { which, yes, database } => {
            let database = database.open().await?;
            let which = which.which()?;
            let name = sponsored::get(&database, &which).await?.name;
            if !yes && output::declined(&format!("Delete the sponsored allowance {name}?"))? {
                bail!("nothing was deleted");
            }
            sponsored::delete(&database, &which, &SystemClock).await?;
            output::line(format!(
                "The sponsored allowance {name} is deleted. What was charged to it stays."
            ))?;
        }
        Command::Register { workspace_model, allowance, database } => {
            let which = Which::Name(allowance);
            let allowance = sponsored::register(&database.open().await?, &workspace_model, &which).await?;
            output::line(format!(
                "The workspace model {workspace_model} draws on the sponsored allowance {}.",
                allowance.name
            ))?;
        }
        Command::Unregister { workspace_model, database } => {
            sponsored::unregister(&database.open().await?, &workspace_model).await?;
            output::line(format!("The workspace model {workspace_model} is no longer registered."))?;
        }
        Command::Registered { database, format } => {
            let all = sponsored::registered(&database.open().await?).await?;
            let columns = [text("workspace_model", "Workspace model"), text("allowance", "Allowance")];
            let rows = all.into_iter().map(|(id, allowance)| vec![id.into(), allowance.name.into()]);
            output::rows(format.format, &columns, rows.collect())?;
        }
        Command::Publish(arguments) => return publish::publish(arguments).await,
        Command::Unpublish(arguments) => return publish::unpublish(arguments).await,
        Command::Report(arguments) => return report::run(arguments).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// Says by which ids an allowance's models of their own are asked for, and what shows them in Open WebUI.
fn own_models(allowance: &SponsoredAllowance) -> anyhow::Result<()> {
    if !allowance.offers_models() {
        return Ok(());
    }
    let handle = allowance.handle();
    let ids: Vec<String> =
        allowance.models.iter().map(|covered| format!("sponsored/{handle}/{}", covered.model)).collect();
    output::line(format!(
        "Its models are offered as {}. `owui-token-tracking sponsored publish '{}'` shows them in Open WebUI.",
        ids.join(", "),
        allowance.name
    ))?;
    Ok(())
}
