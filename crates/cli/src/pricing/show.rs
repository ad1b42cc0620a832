//! Prices as tables and JSON.

use std::io::{self, Write};

use accounting::{Price, Rate};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use storage::admin::price_list;
use storage::admin::prices::{Unreadable, Version};

use crate::escape;
use crate::output::{self, Format, credits, text};

const MILLION: u64 = 1_000_000;

/// Prices that hold.
pub(super) fn present(found: &[Version], format: Format) -> anyhow::Result<()> {
    if format != Format::Table {
        return Ok(output::data(format, &found.iter().map(whole).collect())?);
    }
    let columns = [
        text("provider", "Provider"),
        text("id", "Model"),
        text("name", "Name"),
        text("input", "Input (credits/tokens)"),
        text("output", "Output (credits/tokens)"),
        text("rest", "Apart"),
        text("source", "Source"),
    ];
    let rows = found.iter().map(|version| {
        let (model, price) = (&version.priced, &version.priced.price);
        vec![
            model.provider.to_string().into(),
            model.model.to_string().into(),
            model.name.clone().into(),
            rate(price.input).into(),
            rate(price.output).into(),
            apart(price).into(),
            version.source.clone().into(),
        ]
    });
    Ok(output::rows(format, &columns, rows.collect())?)
}

/// Says on standard error which prices a table lacks, so that what reads the table reads only prices.
pub(super) fn unreadable(versions: &[Unreadable]) -> anyhow::Result<()> {
    for Unreadable { error, .. } in versions {
        writeln!(io::stderr(), "Not shown: {}", escape::terminal(&error.to_string()))?;
    }
    Ok(())
}

/// All versions of prices.
pub(super) fn history(versions: &[Version], now: Timestamp, format: Format) -> anyhow::Result<()> {
    if format != Format::Table {
        let rows = versions.iter().map(|version| {
            let mut shown = whole(version);
            shown["deleted"] = version.deleted.into();
            shown
        });
        return Ok(output::data(format, &rows.collect())?);
    }
    let columns = [
        text("provider", "Provider"),
        text("version", "Version"),
        text("valid_from", "Valid from (UTC)"),
        text("input", "Input (credits/tokens)"),
        text("output", "Output (credits/tokens)"),
        text("rest", "Apart"),
        text("source", "Source"),
    ];
    let rows = versions.iter().map(|version| {
        let price = &version.priced.price;
        let (input, output, rest) = match version.deleted {
            true => ("deleted".into(), Value::Null, Value::Null),
            false => (rate(price.input), rate(price.output).into(), apart(price).into()),
        };
        let from = version.valid_from.round(jiff::Unit::Second).unwrap_or(version.valid_from);
        let to_come = if version.valid_from > now { " (to come)" } else { "" };
        vec![
            version.priced.provider.to_string().into(),
            version.priced.version.0.into(),
            format!("{from}{to_come}").into(),
            input.into(),
            output,
            rest,
            version.source.clone().into(),
        ]
    });
    Ok(output::rows(format, &columns, rows.collect())?)
}

/// All that is kept of a version: the price in the form in which it can be read again, and where it is from.
fn whole(version: &Version) -> Value {
    let mut shown = price_list::show(&version.priced);
    let about = json!({
        "version": version.priced.version.0,
        "valid_from": version.valid_from.to_string(),
        "source": version.source,
        "upstream": version.upstream,
    });
    if let (Value::Object(shown), Value::Object(about)) = (&mut shown, about) {
        let about: Map<String, Value> = about.into_iter().filter(|(_, value)| !value.is_null()).collect();
        shown.extend(about);
    }
    shown
}

/// What does not cost as input or output, in short.
pub(super) fn apart(price: &Price) -> String {
    let classes = [
        ("cached", price.cached_input),
        ("cache write", price.cache_write),
        ("for an hour", price.cache_write_long),
        ("audio in", price.input_audio),
        ("reasoning", price.reasoning),
        ("audio out", price.output_audio),
        ("image", price.images),
        ("request", price.calls),
    ];
    let classes = classes.into_iter().filter_map(|(name, there)| Some(format!("{name} {}", rate(there?))));
    let tiers = price.tiers.iter().map(|tier| {
        format!(">{}: {}, {}", per(tier.above_input), rate(tier.price.input), rate(tier.price.output))
    });
    classes.chain(tiers).collect::<Vec<_>>().join("; ")
}

/// A rate, short: `2500/1M`.
pub(super) fn rate(rate: Rate) -> String {
    format!("{}/{}", credits(rate.credits), per(rate.per))
}

/// A number of tokens, short.
fn per(tokens: u64) -> String {
    match tokens {
        _ if tokens > 0 && tokens.is_multiple_of(MILLION) => format!("{}M", tokens / MILLION),
        _ if tokens > 0 && tokens.is_multiple_of(1000) => format!("{}k", tokens / 1000),
        _ => tokens.to_string(),
    }
}
