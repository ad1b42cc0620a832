//! A price as options of a command, or several in a file.

use std::path::PathBuf;

use accounting::{Credits, ModelId, Price, ProviderName, Rate};
use anyhow::{Context, bail};
use jiff::Timestamp;
use storage::admin::price_list;
use storage::admin::prices::{self, NewPrice};
use storage::{Database, nearest};

use crate::connect::DatabaseArguments;
use crate::models;
use crate::when::{When, when};

const MILLION: u64 = 1_000_000;

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
    #[command(flatten)]
    classes: Classes,
    /// The price of inputs above a length, in JSON, in place of the tiers that are there; may be repeated; `none` for no tiers.
    #[arg(long, value_name = "JSON")]
    tier: Vec<String>,
    /// The longest answer of the model, in tokens.
    #[arg(long)]
    max_output_tokens: Option<u64>,
    /// The longest context of the model, in tokens.
    #[arg(long)]
    context_tokens: Option<u64>,
    /// From when it holds: a day (YYYY-MM-DD, in the configured time zone) or a moment (2027-01-01T00:00:00Z); by default now.
    #[arg(long, value_name = "WHEN", value_parser = when)]
    from: Option<When>,
    #[command(flatten)]
    pub(super) database: DatabaseArguments,
}

/// What is charged apart from other input and output.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Classes of usage with a cost of their own")]
struct Classes {
    /// Credits for input tokens read from a cache; by default as input.
    #[arg(long)]
    cached_input_cost_credits: Option<Credits>,
    /// By default as many as PER_INPUT_TOKENS.
    #[arg(long)]
    per_cached_input_tokens: Option<u64>,
    /// Credits for input tokens written to a cache; by default as input.
    #[arg(long)]
    cache_write_cost_credits: Option<Credits>,
    /// By default as many as PER_INPUT_TOKENS.
    #[arg(long)]
    per_cache_write_tokens: Option<u64>,
    /// Credits for input tokens written to a cache that is kept for an hour; by default as other writes.
    #[arg(long)]
    cache_write_long_cost_credits: Option<Credits>,
    /// By default as many as PER_INPUT_TOKENS.
    #[arg(long)]
    per_cache_write_long_tokens: Option<u64>,
    /// Credits for input tokens of audio; by default as input.
    #[arg(long)]
    input_audio_cost_credits: Option<Credits>,
    /// By default as many as PER_INPUT_TOKENS.
    #[arg(long)]
    per_input_audio_tokens: Option<u64>,
    /// Credits for reasoning tokens; by default as output.
    #[arg(long)]
    reasoning_cost_credits: Option<Credits>,
    /// By default as many as PER_OUTPUT_TOKENS.
    #[arg(long)]
    per_reasoning_tokens: Option<u64>,
    /// Credits for output tokens of audio; by default as output.
    #[arg(long)]
    output_audio_cost_credits: Option<Credits>,
    /// By default as many as PER_OUTPUT_TOKENS.
    #[arg(long)]
    per_output_audio_tokens: Option<u64>,
    /// Credits for images made, beside their tokens.
    #[arg(long)]
    image_cost_credits: Option<Credits>,
    /// By default 1.
    #[arg(long)]
    per_images: Option<u64>,
    /// Credits for requests, beside their tokens.
    #[arg(long)]
    request_cost_credits: Option<Credits>,
    /// By default 1.
    #[arg(long)]
    per_requests: Option<u64>,
}

impl One {
    /// All that a new price needs, from the options or from the file.
    pub(super) fn whole(&self, id: Option<String>) -> anyhow::Result<Vec<NewPrice>> {
        if let Some(path) = &self.json {
            self.nothing_beside_the_file(id.as_ref())?;
            return models::read_file(path);
        }
        let missing: Vec<&str> = [
            (id.is_none(), "MODEL_ID"),
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
            price: self.rest(price)?,
            max_output_tokens: self.max_output_tokens,
            context_tokens: self.context_tokens,
        }])
    }

    /// The price that holds then, with what the options change, or the prices of the file with what they say.
    pub(super) async fn updated(
        &self,
        database: &Database,
        id: Option<String>,
        from: Timestamp,
    ) -> anyhow::Result<Vec<NewPrice>> {
        if let Some(path) = &self.json {
            self.nothing_beside_the_file(id.as_ref())?;
            let text =
                std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            return price_list::updated(database, &text, from)
                .await
                .with_context(|| format!("in {}", path.display()));
        }
        let (Some(id), Some(provider)) = (id, &self.provider) else {
            bail!("name the MODEL_ID and its --provider; or give several models with --json FILE");
        };
        let (model, provider) = (ModelId::new(id)?, ProviderName::new(provider)?);
        let mut found = prices::get(database, &model, Some(&provider), from).await?;
        let Some(there) = found.pop() else {
            return Err(nearest::unknown_price(database, &model, Some(&provider)).await.into());
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
        new.price = self.rest(new.price)?;
        new.max_output_tokens = self.max_output_tokens.or(new.max_output_tokens);
        new.context_tokens = self.context_tokens.or(new.context_tokens);
        Ok(vec![new])
    }

    /// That price with the classes and tiers of the options.
    fn rest(&self, price: Price) -> anyhow::Result<Price> {
        let mut price = self.classes.set(price);
        if !self.tier.is_empty() {
            price.tiers.clear();
            for text in self.tier.iter().filter(|text| *text != "none") {
                let tier = price_list::parse_tier(text, &price).context("in --tier")?;
                price.tiers.push(tier);
            }
        }
        Ok(price)
    }

    /// From when the price is to hold.
    pub(super) async fn from(&self, database: &Database, now: Timestamp) -> anyhow::Result<Timestamp> {
        let Some(from) = self.from else { return Ok(now) };
        let from = from.moment(database).await?;
        if from < now {
            bail!("--from {from} has passed; what was charged stays, so a price holds from now on or later");
        }
        Ok(from)
    }

    fn nothing_beside_the_file(&self, id: Option<&String>) -> anyhow::Result<()> {
        if id.is_some() || self.provider.is_some() || self.name.is_some() || self.input_cost_credits.is_some()
        {
            bail!("--json can't be combined with the options of a single model");
        }
        Ok(())
    }
}

impl Classes {
    fn set(&self, mut price: Price) -> Price {
        let rate = |there: &mut Option<Rate>, credits: Option<Credits>, per: Option<u64>, usual_per: u64| {
            *there = match (credits, *there) {
                (Some(credits), _) => Some(Rate::new(credits, per.unwrap_or(usual_per))),
                (None, there) => there.map(|there| Rate::new(there.credits, per.unwrap_or(there.per))),
            };
        };
        let (input, output) = (price.input.per, price.output.per);
        rate(&mut price.cached_input, self.cached_input_cost_credits, self.per_cached_input_tokens, input);
        rate(&mut price.cache_write, self.cache_write_cost_credits, self.per_cache_write_tokens, input);
        let (long, per_long) = (self.cache_write_long_cost_credits, self.per_cache_write_long_tokens);
        rate(&mut price.cache_write_long, long, per_long, input);
        rate(&mut price.input_audio, self.input_audio_cost_credits, self.per_input_audio_tokens, input);
        rate(&mut price.reasoning, self.reasoning_cost_credits, self.per_reasoning_tokens, output);
        rate(&mut price.output_audio, self.output_audio_cost_credits, self.per_output_audio_tokens, output);
        rate(&mut price.images, self.image_cost_credits, self.per_images, 1);
        rate(&mut price.calls, self.request_cost_credits, self.per_requests, 1);
        price
    }
}
