//! `pricing list|get|add|update|upsert|delete|history`, and the public list: `search|import|diff|sync`.

mod listed;
mod options;
mod show;

use std::collections::BTreeSet;
use std::process::ExitCode;

use accounting::{Clock, ModelId, ProviderName};
use anyhow::bail;
use storage::admin::prices::{self, Source, Write};
use storage::reports::usage::{self, Of};
use storage::{Database, SystemClock, nearest};

use self::options::One;
use crate::connect::DatabaseArguments;
use crate::output::{self, FormatArguments};

/// Manage prices.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List all prices.
    #[command(after_help = "Example:\n  \
        owui-token-tracking pricing list --provider openai")]
    List {
        /// Only those of this provider, such as openai.
        #[arg(long)]
        provider: Option<String>,
        #[command(flatten)]
        database: DatabaseArguments,
        #[command(flatten)]
        format: FormatArguments,
    },
    /// Show the price of one model.
    #[command(after_help = "Example:\n  \
        owui-token-tracking pricing get gpt-4o")]
    Get {
        /// The model's id.
        model_id: String,
        /// Only at this provider.
        #[arg(long)]
        provider: Option<String>,
        #[command(flatten)]
        database: DatabaseArguments,
        #[command(flatten)]
        format: FormatArguments,
    },
    /// Add the price of a new model.
    #[command(after_help = EXAMPLE_ADD)]
    Add {
        #[command(flatten)]
        model: Named,
        #[command(flatten)]
        one: One,
    },
    /// Change the price of a model: what is not given stays.
    #[command(after_help = "Examples:\n  \
        owui-token-tracking pricing update gpt-4o --provider openai --output-cost-credits 8000\n  \
        owui-token-tracking pricing update --json changes.json")]
    Update {
        #[command(flatten)]
        model: Named,
        #[command(flatten)]
        one: One,
    },
    /// Add or replace the price of a model.
    #[command(after_help = "Examples:\n  \
        owui-token-tracking pricing upsert gpt-4o --provider openai --name GPT-4o --input-cost-credits 2500 --output-cost-credits 10000\n  \
        owui-token-tracking pricing upsert --json prices.json")]
    Upsert {
        #[command(flatten)]
        model: Named,
        #[command(flatten)]
        one: One,
    },
    /// Delete the price of a model. Charges made at it stay.
    #[command(after_help = "Example:\n  \
        owui-token-tracking pricing delete gpt-4o --provider openai --yes")]
    Delete {
        /// The model's id.
        model_id: String,
        /// Only at this provider.
        #[arg(long)]
        provider: Option<String>,
        /// Do not ask.
        #[arg(short = 'y', long)]
        yes: bool,
        #[command(flatten)]
        database: DatabaseArguments,
    },
    /// Show all versions of a model's price: what it was, is, and will be.
    #[command(after_help = "Example:\n  owui-token-tracking pricing history gpt-4o --provider openai")]
    History {
        /// The model's id.
        model_id: String,
        /// Only at this provider.
        #[arg(long)]
        provider: Option<String>,
        #[command(flatten)]
        database: DatabaseArguments,
        #[command(flatten)]
        format: FormatArguments,
    },
    /// Search the public list of prices that comes with this program.
    #[command(after_help = "Examples:\n  owui-token-tracking pricing search claude sonnet\n  \
        owui-token-tracking pricing search openrouter/deepseek")]
    Search(listed::Search),
    /// Take prices from the public list into the price table.
    #[command(
        after_help = "Examples:\n  owui-token-tracking pricing import openai/gpt-4.1 anthropic/claude-opus-4-5\n  \
        owui-token-tracking pricing import openrouter/deepseek/deepseek-chat --as my-router --rate 1200"
    )]
    Import(listed::Import),
    /// Show where the prices that came from the public list differ from it. Exit code 1 if one does.
    #[command(after_help = "Example:\n  \
        owui-token-tracking pricing diff")]
    Diff(listed::Diff),
    /// Bring the prices that came from the public list up to date with it. Prices of one's own stay.
    #[command(after_help = "Example:\n  owui-token-tracking pricing sync --dry-run")]
    Sync(listed::Sync),
}

/// The model whose price is written: behind the command, or as an option.
#[derive(Debug, clap::Args)]
pub(crate) struct Named {
    /// The model's id.
    model_id: Option<String>,
    /// The model's id, as an option.
    #[arg(long, conflicts_with = "model_id")]
    id: Option<String>,
}

impl Named {
    fn id(self) -> Option<String> {
        self.model_id.or(self.id)
    }
}

const EXAMPLE_ADD: &str = "Examples (2.50 USD and 10 USD for a million tokens, at 1000 credits for 1 USD; then a price with a tier; \
    then one that holds from the new year on):\n  \
    owui-token-tracking pricing add --provider openai --id gpt-4o --name \"GPT-4o\" \\\n    \
    --input-cost-credits 2500 --output-cost-credits 10000 --cached-input-cost-credits 1250\n  \
    owui-token-tracking pricing add --provider google_genai --id gemini-pro --name Pro \\\n    \
    --input-cost-credits 1250 --output-cost-credits 10000 \\\n    \
    --tier '{\"above_input_tokens\": 200000, \"input_cost_credits\": 2500, \"output_cost_credits\": 15000}'\n  \
    owui-token-tracking pricing update gpt-4o --provider openai --output-cost-credits 8000 --from 2027-01-01";

pub(crate) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    let now = SystemClock.now();
    let source = Source::Administrator;
    match command {
        Command::List { provider, database, format } => {
            let database = database.open().await?;
            let provider = of_provider(&database, provider).await?;
            let found = prices::present(&database, provider.as_ref(), now).await?;
            show::present(&found.readable, format.format)?;
            show::unreadable(&found.unreadable)?;
        }
        Command::Get { model_id, provider, database, format } => {
            let database = database.open().await?;
            let (model, provider) = (ModelId::new(model_id)?, provider.map(ProviderName::new).transpose()?);
            let mut found = prices::present(&database, provider.as_ref(), now).await?;
            found.readable.retain(|version| version.priced.model == model);
            found.unreadable.retain(|version| version.of.1 == model.as_str());
            if found.readable.is_empty() {
                return Err(match found.unreadable.into_iter().next() {
                    Some(unreadable) => unreadable.error.into(),
                    None => nearest::unknown_price(&database, &model, provider.as_ref()).await.into(),
                });
            }
            show::present(&found.readable, format.format)?;
            show::unreadable(&found.unreadable)?;
        }
        Command::Add { model, one } => {
            let database = one.database.open().await?;
            let (new, from) = (one.whole(model.id())?, one.from(&database, now).await?);
            changed(prices::write_from(&database, &new, Write::Add, source, now, from).await?, "added")?;
        }
        Command::Upsert { model, one } => {
            let database = one.database.open().await?;
            let (new, from) = (one.whole(model.id())?, one.from(&database, now).await?);
            changed(prices::write_from(&database, &new, Write::Upsert, source, now, from).await?, "written")?;
        }
        Command::Update { model, one } => {
            let database = one.database.open().await?;
            let from = one.from(&database, now).await?;
            let new = one.updated(&database, model.id(), from).await?;
            changed(prices::write_from(&database, &new, Write::Update, source, now, from).await?, "changed")?;
        }
        Command::Delete { model_id, provider, yes, database } => {
            let database = database.open().await?;
            let (model, provider) = (ModelId::new(model_id)?, provider.map(ProviderName::new).transpose()?);
            // Those that are to hold later go too.
            let found = prices::history(&database, &model, provider.as_ref()).await?;
            let readable = found.readable.iter().map(|version| version.priced.provider.as_str());
            let unreadable = found.unreadable.iter().map(|version| version.of.0.as_str());
            let providers: BTreeSet<&str> = readable.chain(unreadable).collect();
            let providers: Vec<&str> = providers.into_iter().collect();
            if providers.is_empty() {
                return Err(nearest::unknown_price(&database, &model, provider.as_ref()).await.into());
            }
            let question = format!("Delete the price of {model} ({})?", providers.join(", "));
            if !yes && !output::confirmed(&question)? {
                bail!("nothing was deleted");
            }
            changed(prices::delete(&database, &model, provider.as_ref(), now).await?, "deleted")?;
        }
        Command::History { model_id, provider, database, format } => {
            let database = database.open().await?;
            let (model, provider) = (ModelId::new(model_id)?, provider.map(ProviderName::new).transpose()?);
            let versions = prices::history(&database, &model, provider.as_ref()).await?;
            if versions.readable.is_empty() && versions.unreadable.is_empty() {
                return Err(nearest::unknown_price(&database, &model, provider.as_ref()).await.into());
            }
            show::history(&versions.readable, now, format.format)?;
            show::unreadable(&versions.unreadable)?;
        }
        Command::Search(arguments) => return listed::search(arguments).await,
        Command::Import(arguments) => return listed::import(arguments).await,
        Command::Diff(arguments) => return listed::diff(arguments).await,
        Command::Sync(arguments) => return listed::sync(arguments).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// A provider to which a command is narrowed: one that there is.
async fn of_provider(database: &Database, name: Option<String>) -> anyhow::Result<Option<ProviderName>> {
    let Some(name) = name.map(ProviderName::new).transpose()? else { return Ok(None) };
    usage::require(database, Of::Provider, name.as_str(), &crate::usage::providers()).await?;
    Ok(Some(name))
}

fn changed(count: usize, what: &str) -> anyhow::Result<()> {
    let text = match count {
        0 => "Nothing has changed: that is the price already.".into(),
        1 => format!("1 price {what}."),
        _ => format!("{count} prices {what}."),
    };
    Ok(output::line(text)?)
}
