//! `pricing list|get|add|update|upsert|delete`.

use std::path::PathBuf;
use std::process::ExitCode;

use accounting::{Clock, Credits, ModelId, Price, ProviderName, Rate};
use anyhow::{Context, bail};
use serde_json::Value;
use storage::admin::price_list;
use storage::admin::prices::{self, NewPrice, Source, Write};
use storage::{Database, PricedModel, SystemClock, nearest};

use crate::connect::DatabaseArguments;
use crate::models;
use crate::output::{self, Format, FormatArguments, credits, number, text};

/// Manage prices.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List all prices.
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
        /// The model's id.
        #[arg(long)]
        id: Option<String>,
        #[command(flatten)]
        one: One,
    },
    /// Change the price of a model: what is not given stays.
    Update {
        /// The model's id.
        model_id: Option<String>,
        #[command(flatten)]
        one: One,
    },
    /// Add or replace the price of a model.
    Upsert {
        /// The model's id.
        model_id: Option<String>,
        #[command(flatten)]
        one: One,
    },
    /// Delete the price of a model. Charges made at it stay.
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
}

const EXAMPLE_ADD: &str = "Example (2.50 USD and 10 USD for a million tokens, at 1000 credits for 1 USD):\n  \
    owui-token-tracking pricing add --provider openai --id gpt-4o --name \"GPT-4o\" \\\n    \
    --input-cost-credits 2500 --output-cost-credits 10000";

/// A price on the command line, or several in a file.
#[derive(Debug, clap::Args)]
pub(crate) struct One {
    /// Several models, from a JSON file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The provider, such as openai.
    #[arg(long)]
    provider: Option<String>,
    /// The model's name for people.
    #[arg(long)]
    name: Option<String>,
    /// Credits for PER_INPUT_TOKENS input tokens.
    #[arg(long)]
    input_cost_credits: Option<Credits>,
    /// By default 1000000.
    #[arg(long)]
    per_input_tokens: Option<u64>,
    /// Credits for PER_OUTPUT_TOKENS output tokens.
    #[arg(long)]
    output_cost_credits: Option<Credits>,
    /// By default 1000000.
    #[arg(long)]
    per_output_tokens: Option<u64>,
    /// Credits for PER_INPUT_TOKENS input tokens read from a cache; by default as input.
    #[arg(long)]
    cached_input_cost_credits: Option<Credits>,
    /// Credits for PER_INPUT_TOKENS input tokens written to a cache; by default as input.
    #[arg(long)]
    cache_write_cost_credits: Option<Credits>,
    /// Credits for PER_INPUT_TOKENS input tokens written to a cache that is kept for an hour; by default as other writes.
    #[arg(long)]
    cache_write_long_cost_credits: Option<Credits>,
    /// Credits for PER_INPUT_TOKENS input tokens of audio; by default as input.
    #[arg(long)]
    input_audio_cost_credits: Option<Credits>,
    /// Credits for PER_OUTPUT_TOKENS reasoning tokens; by default as output.
    #[arg(long)]
    reasoning_cost_credits: Option<Credits>,
    /// Credits for PER_OUTPUT_TOKENS output tokens of audio; by default as output.
    #[arg(long)]
    output_audio_cost_credits: Option<Credits>,
    /// Credits for each image made, beside its tokens.
    #[arg(long)]
    image_cost_credits: Option<Credits>,
    /// Credits for each request, beside its tokens.
    #[arg(long)]
    request_cost_credits: Option<Credits>,
    /// The longest answer of the model, in tokens.
    #[arg(long)]
    max_output_tokens: Option<u64>,
    #[command(flatten)]
    database: DatabaseArguments,
}

const MILLION: u64 = 1_000_000;

pub(crate) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    let now = SystemClock.now();
    match command {
        Command::List { provider, database, format } => {
            let provider = provider.map(ProviderName::new).transpose()?;
            let found = prices::list(&database.open().await?, provider.as_ref(), now).await?;
            show(&found, format.format)?;
        }
        Command::Get { model_id, provider, database, format } => {
            let database = database.open().await?;
            let (model, provider) = (ModelId::new(model_id)?, provider.map(ProviderName::new).transpose()?);
            let found = prices::get(&database, &model, provider.as_ref(), now).await?;
            if found.is_empty() {
                return Err(nearest::unknown_price(&database, &model).await.into());
            }
            show(&found, format.format)?;
        }
        Command::Add { id, one } => {
            let database = one.database.open().await?;
            let new = one.whole(id, "--id")?;
            changed(prices::write(&database, &new, Write::Add, Source::Administrator, now).await?, "added")?;
        }
        Command::Upsert { model_id, one } => {
            let database = one.database.open().await?;
            let new = one.whole(model_id, "MODEL_ID")?;
            changed(
                prices::write(&database, &new, Write::Upsert, Source::Administrator, now).await?,
                "written",
            )?;
        }
        Command::Update { model_id, one } => {
            let database = one.database.open().await?;
            let new = one.updated(&database, model_id).await?;
            changed(
                prices::write(&database, &new, Write::Upsert, Source::Administrator, now).await?,
                "changed",
            )?;
        }
        Command::Delete { model_id, provider, yes, database } => {
            let database = database.open().await?;
            let (model, provider) = (ModelId::new(model_id)?, provider.map(ProviderName::new).transpose()?);
            let found = prices::get(&database, &model, provider.as_ref(), now).await?;
            if !found.is_empty()
                && !yes
                && !output::confirmed(&format!("Delete {} price(s) of {model}?", found.len()))?
            {
                bail!("nothing was deleted");
            }
            changed(prices::delete(&database, &model, provider.as_ref(), now).await?, "deleted")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl One {
    /// All that a new price needs, from the options or from the file.
    fn whole(&self, id: Option<String>, id_option: &str) -> anyhow::Result<Vec<NewPrice>> {
        if let Some(path) = &self.json {
            self.nothing_beside_the_file(id.as_ref())?;
            return models::read_file(path);
        }
        let missing: Vec<&str> = [
            (id.is_none(), id_option),
            (self.provider.is_none(), "--provider"),
            (self.name.is_none(), "--name"),
            (self.input_cost_credits.is_none(), "--input-cost-credits"),
            (self.output_cost_credits.is_none(), "--output-cost-credits"),
        ]
        .into_iter()
        .filter_map(|(missing, name)| missing.then_some(name))
        .collect();
        let (Some(id), Some(provider), Some(name), Some(input), Some(output)) =
            (id, &self.provider, &self.name, self.input_cost_credits, self.output_cost_credits)
        else {
            bail!("missing: {}; or give several models with --json FILE", missing.join(", "));
        };
        let price = Price::new(
            Rate::new(input, self.per_input_tokens.unwrap_or(MILLION)),
            Rate::new(output, self.per_output_tokens.unwrap_or(MILLION)),
        );
        Ok(vec![NewPrice {
            provider: ProviderName::new(provider)?,
            model: ModelId::new(id)?,
            name: name.clone(),
            price: self.classes(price),
            max_output_tokens: self.max_output_tokens,
            context_tokens: None,
        }])
    }

    /// The present price with what the options change, or the prices of the file with what they say.
    async fn updated(&self, database: &Database, id: Option<String>) -> anyhow::Result<Vec<NewPrice>> {
        let now = SystemClock.now();
        if let Some(path) = &self.json {
            self.nothing_beside_the_file(id.as_ref())?;
            let text =
                std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            return price_list::updated(database, &text, now)
                .await
                .with_context(|| format!("in {}", path.display()));
        }
        let (Some(id), Some(provider)) = (id, &self.provider) else {
            bail!("name the MODEL_ID and its --provider; or give several models with --json FILE");
        };
        let (model, provider) = (ModelId::new(id)?, ProviderName::new(provider)?);
        let mut found = prices::get(database, &model, Some(&provider), now).await?;
        let Some(there) = found.pop() else {
            return Err(nearest::unknown_price(database, &model).await.into());
        };
        let mut new = NewPrice::from(there);
        if let Some(name) = &self.name {
            new.name.clone_from(name);
        }
        let set = |rate: &mut Rate, credits: Option<Credits>, per: Option<u64>| {
            rate.credits = credits.unwrap_or(rate.credits);
            rate.per = per.unwrap_or(rate.per);
        };
        set(&mut new.price.input, self.input_cost_credits, self.per_input_tokens);
        set(&mut new.price.output, self.output_cost_credits, self.per_output_tokens);
        new.price = self.classes(new.price);
        new.max_output_tokens = self.max_output_tokens.or(new.max_output_tokens);
        Ok(vec![new])
    }

    fn classes(&self, mut price: Price) -> Price {
        let rate = |credits: Option<Credits>, per: u64, there: Option<Rate>| {
            credits.map(|credits| Rate::new(credits, per)).or(there)
        };
        price.cached_input = rate(self.cached_input_cost_credits, price.input.per, price.cached_input);
        price.cache_write = rate(self.cache_write_cost_credits, price.input.per, price.cache_write);
        price.cache_write_long =
            rate(self.cache_write_long_cost_credits, price.input.per, price.cache_write_long);
        price.input_audio = rate(self.input_audio_cost_credits, price.input.per, price.input_audio);
        price.reasoning = rate(self.reasoning_cost_credits, price.output.per, price.reasoning);
        price.output_audio = rate(self.output_audio_cost_credits, price.output.per, price.output_audio);
        price.images = rate(self.image_cost_credits, 1, price.images);
        price.calls = rate(self.request_cost_credits, 1, price.calls);
        price
    }

    fn nothing_beside_the_file(&self, id: Option<&String>) -> anyhow::Result<()> {
        if id.is_some() || self.provider.is_some() || self.name.is_some() || self.input_cost_credits.is_some()
        {
            bail!("--json can't be combined with the options of a single model");
        }
        Ok(())
    }
}

fn show(found: &[PricedModel], format: Format) -> anyhow::Result<()> {
    if format != Format::Table {
        return Ok(output::data(format, &Value::Array(found.iter().map(price_list::show).collect()))?);
    }
    let columns = [
        text("provider", "Provider"),
        text("id", "Model"),
        text("name", "Name"),
        number("input", "Input (credits/tokens)"),
        number("output", "Output (credits/tokens)"),
        number("cached", "Cached input"),
        number("version", "Version"),
    ];
    let rate = |rate: Rate| Value::String(format!("{}/{}", credits(rate.credits), per(rate.per)));
    let rows = found.iter().map(|model| {
        vec![
            model.provider.to_string().into(),
            model.model.to_string().into(),
            model.name.clone().into(),
            rate(model.price.input),
            rate(model.price.output),
            model.price.cached_input.map_or(Value::Null, rate),
            model.version.0.into(),
        ]
    });
    Ok(output::rows(format, &columns, rows.collect())?)
}

/// A number of tokens, short.
fn per(tokens: u64) -> String {
    match tokens {
        1 => "1".into(),
        _ if tokens.is_multiple_of(MILLION) => format!("{}M", tokens / MILLION),
        _ if tokens.is_multiple_of(1000) => format!("{}k", tokens / 1000),
        _ => tokens.to_string(),
    }
}

fn changed(count: usize, what: &str) -> anyhow::Result<()> {
    let text = match count {
        0 => "Nothing has changed: that is the price already.".into(),
        1 => format!("1 price {what}."),
        _ => format!("{count} prices {what}."),
    };
    Ok(output::line(text)?)
}
