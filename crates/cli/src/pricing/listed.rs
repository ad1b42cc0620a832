//! Prices of the public list: what it has, taking from it, and what has changed there since.

use std::process::ExitCode;

use accounting::{Clock, Credits, ProviderName};
use anyhow::bail;
use serde_json::{Value, json};
use storage::admin::prices::{self, BUILT_IN, LISTED, NewPrice, Upstream, Version, Write};
use storage::{Database, Snapshot, SystemClock};

use super::of_provider;
use super::show::{apart, rate};
use crate::connect::DatabaseArguments;
use crate::output::{self, Format, FormatArguments, text};
use crate::upstream::{self, Entry, LIST, Listed};

#[derive(Debug, clap::Args)]
pub(crate) struct Search {
    /// Words that the provider, the model or its name has.
    #[arg(required = true)]
    text: Vec<String>,
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    format: FormatArguments,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// A provider of the list, and its model; may be repeated.
    #[arg(required = true, value_name = "PROVIDER/MODEL")]
    models: Vec<String>,
    /// The provider's name in the price table, if it is to be another one.
    #[arg(long = "as", value_name = "PROVIDER")]
    here: Option<String>,
    #[command(flatten)]
    rate: Rate,
    #[command(flatten)]
    database: DatabaseArguments,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Diff {
    /// Only those of this provider.
    #[arg(long)]
    provider: Option<String>,
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    format: FormatArguments,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Sync {
    /// Only those of this provider.
    #[arg(long)]
    provider: Option<String>,
    /// Only show what would change.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(short = 'y', long)]
    yes: bool,
    #[command(flatten)]
    database: DatabaseArguments,
}

/// How USD become credits.
#[derive(Debug, Clone, Copy, clap::Args)]
struct Rate {
    /// Credits for one USD; by default the setting `credits_per_usd`, or 1000.
    #[arg(long, value_name = "CREDITS")]
    rate: Option<Credits>,
}

impl Rate {
    async fn chosen(self, database: &Database) -> anyhow::Result<Credits> {
        let rate = match self.rate {
            Some(rate) => rate,
            None => {
                let snapshot = Snapshot::of(database, &SystemClock).await?;
                snapshot.settings().credits_per_usd.unwrap_or_else(upstream::usual_rate)
            }
        };
        if rate <= Credits::ZERO {
            bail!("--rate {rate}: write the credits that one USD buys, such as 1000");
        }
        Ok(rate)
    }
}

pub(super) async fn search(arguments: Search) -> anyhow::Result<ExitCode> {
    let Search { text: words, database, format } = arguments;
    let (database, now) = (database.open().await?, SystemClock.now());
    let present = prices::present(&database, None, now).await?.readable;
    let found = upstream::search(&words.join(" "));
    let columns = [
        text("provider", "Provider"),
        text("id", "Model"),
        text("name", "Name"),
        text("input_usd", "Input (USD/1M)"),
        text("output_usd", "Output (USD/1M)"),
        text("cached_input_usd", "Cached (USD/1M)"),
        text("in_table", "In the price table"),
    ];
    let row = |entry: &Entry| {
        let usual = upstream::usual_rate();
        let price = upstream::price(entry.provider, entry.model, None, usual, now)
            .ok()
            .map(|listed| listed.new.price);
        let usd = |rate: Option<accounting::Rate>| {
            rate.map_or(Value::Null, |rate| upstream::usd_for_a_million(rate, usual).into())
        };
        let ours = upstream::our_name(entry.provider);
        let there = present.iter().any(|version| {
            version.priced.provider.as_str() == ours && version.priced.model.as_str() == entry.model
        });
        vec![
            ours.into(),
            entry.model.into(),
            entry.name.unwrap_or_default().into(),
            usd(price.as_ref().map(|price| price.input)),
            usd(price.as_ref().map(|price| price.output)),
            usd(price.as_ref().and_then(|price| price.cached_input)),
            there.into(),
        ]
    };
    output::rows(format.format, &columns, found.iter().map(row).collect())?;
    if format.format == Format::Table {
        output::line(format!(
            "{} model(s) of {LIST}. Without a price: not by tokens, or known by other ids.",
            found.len()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn import(arguments: Import) -> anyhow::Result<ExitCode> {
    let Import { models, here, rate: given, database } = arguments;
    let (database, now) = (database.open().await?, SystemClock.now());
    let (rate_used, here) = (given.chosen(&database).await?, here.map(ProviderName::new).transpose()?);
    let mut listed = Vec::new();
    for named in &models {
        let Some((provider, model)) = named.split_once('/') else {
            bail!(
                "{named} names no model: write PROVIDER/MODEL, as `owui-token-tracking pricing search {named}` shows them"
            );
        };
        listed.push(upstream::price(&provider.to_lowercase(), model, here.as_ref(), rate_used, now)?);
    }
    let mut new = Vec::new();
    for listed in &listed {
        let mut price = listed.new.clone();
        // The list does not know it; somebody may have said it.
        let held = prices::get(&database, &price.model, Some(&price.provider), now).await?;
        price.max_output_tokens = held.first().and_then(|held| held.max_output_tokens);
        new.push((price, listed.upstream.clone()));
    }
    let changed = prices::write_listed(&database, &new, Write::Upsert, "pricing import", now).await?;
    for listed in &listed {
        output::line(told(listed))?;
    }
    output::line(format!(
        "{changed} price(s) taken from {LIST} at {rate_used} credits for one USD; {} were so already.",
        new.len() - changed
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// An imported price, in one line.
fn told(listed: &Listed) -> String {
    let Listed { new, entry, upstream, apart: beside } = listed;
    let free = if new.price.is_free() { ", free" } else { "" };
    let same = if *entry == upstream.model { String::new() } else { format!(" (in the list: {entry})") };
    let rest = apart(&new.price);
    let rest = if rest.is_empty() { rest } else { format!("; {rest}") };
    let beside = match beside.as_slice() {
        [] => String::new(),
        beside => format!(
            ". Its provider charges apart, and this program as other tokens or not at all: {}",
            beside.join(", ")
        ),
    };
    let (input, output) = (rate(new.price.input), rate(new.price.output));
    format!("{}/{}{same}: input {input}, output {output}{rest}{free}{beside}", new.provider, new.model)
}

/// A price that is from the list and is not as there.
struct Difference {
    here: Version,
    there: NewPrice,
    upstream: Upstream,
}

/// What differs, and the models that the list does not have any more.
async fn differences(
    database: &Database,
    provider: Option<String>,
) -> anyhow::Result<(Vec<Difference>, Vec<String>)> {
    let (provider, now) = (of_provider(database, provider).await?, SystemClock.now());
    let (mut differences, mut gone) = (Vec::new(), Vec::new());
    for here in prices::present(database, provider.as_ref(), now).await?.readable {
        let Some(entry) = origin(&here) else { continue };
        let kept = &here.priced;
        let listed =
            upstream::price(&entry.provider, &entry.model, Some(&kept.provider), entry.credits_per_usd, now);
        let Ok(listed) = listed else {
            gone.push(format!("{}/{}", kept.provider, kept.model));
            continue;
        };
        // Names and the longest answer are the administrator's.
        let there = NewPrice {
            price: listed.new.price,
            context_tokens: listed.new.context_tokens.or(kept.context_tokens),
            ..NewPrice::from(kept.clone())
        };
        if there != NewPrice::from(kept.clone()) {
            differences.push(Difference { here, there, upstream: listed.upstream });
        }
    }
    Ok((differences, gone))
}

/// The entry of the list from which a price is; `None` for prices of one's own.
fn origin(version: &Version) -> Option<Upstream> {
    let built_in = || Upstream {
        list: LIST.into(),
        provider: version.priced.provider.to_string(),
        model: version.priced.model.to_string(),
        credits_per_usd: upstream::usual_rate(),
    };
    match version.source.as_str() {
        LISTED => version.upstream.clone(),
        BUILT_IN => Some(built_in()),
        _ => None,
    }
}

fn show(differences: &[Difference], format: Format) -> anyhow::Result<()> {
    if format != Format::Table {
        let rows = differences.iter().map(|difference| {
            let Difference { here, there, upstream } = difference;
            let (here, there) = (NewPrice::from(here.priced.clone()), there);
            let price = storage::admin::price_list::describe;
            json!({
                "provider": here.provider.as_str(), "id": here.model.as_str(), "here": price(&here), "there": price(there),
                "upstream": upstream,
            })
        });
        return Ok(output::data(format, &rows.collect())?);
    }
    let columns = [
        text("provider", "Provider"),
        text("id", "Model"),
        text("what", "What"),
        text("here", "Here"),
        text("there", "In the list"),
    ];
    let mut rows: Vec<Vec<Value>> = Vec::new();
    for Difference { here, there, .. } in differences {
        let (old, new) = (&here.priced.price, &there.price);
        let context = |tokens: Option<u64>| tokens.map_or_else(String::new, |tokens| tokens.to_string());
        for (what, old, new) in [
            ("input", rate(old.input), rate(new.input)),
            ("output", rate(old.output), rate(new.output)),
            ("apart", apart(old), apart(new)),
            ("context", context(here.priced.context_tokens), context(there.context_tokens)),
        ] {
            if old != new {
                let (provider, model) = (here.priced.provider.to_string(), here.priced.model.to_string());
                rows.push(vec![provider.into(), model.into(), what.into(), old.into(), new.into()]);
            }
        }
    }
    Ok(output::rows(format, &columns, rows)?)
}

pub(super) async fn diff(arguments: Diff) -> anyhow::Result<ExitCode> {
    let Diff { provider, database, format } = arguments;
    let (differences, gone) = differences(&database.open().await?, provider).await?;
    if format.format == Format::Table && differences.is_empty() {
        output::line(format!("All prices from the list are as in {LIST}."))?;
    } else {
        show(&differences, format.format)?;
    }
    if format.format == Format::Table && !gone.is_empty() {
        output::line(format!("Not in {LIST}, and left as they are: {}.", gone.join(", ")))?;
    }
    Ok(if differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) async fn sync(arguments: Sync) -> anyhow::Result<ExitCode> {
    let Sync { provider, dry_run, yes, database } = arguments;
    let database = database.open().await?;
    let (differences, _) = differences(&database, provider).await?;
    if differences.is_empty() {
        output::line(format!("Nothing to do: all prices from the list are as in {LIST}."))?;
        return Ok(ExitCode::SUCCESS);
    }
    show(&differences, Format::Table)?;
    let count = differences.len();
    if dry_run {
        output::line(format!("{count} price(s) would change."))?;
        return Ok(ExitCode::SUCCESS);
    }
    if !yes && !output::confirmed(&format!("Change {count} price(s)?"))? {
        bail!("nothing was changed");
    }
    let new: Vec<(NewPrice, Upstream)> =
        differences.into_iter().map(|difference| (difference.there, difference.upstream)).collect();
    let changed =
        prices::write_listed(&database, &new, Write::Refresh, "pricing sync", SystemClock.now()).await?;
    output::line(format!("{changed} price(s) are as in {LIST} now."))?;
    Ok(ExitCode::SUCCESS)
}
