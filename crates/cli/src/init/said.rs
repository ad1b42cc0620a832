//! How `init` speaks of prices and settings.

use serde_json::Value;
use storage::admin::files::{Done, Kept, Tally};
use storage::original::{Absorbed, Imported, Stricter};
use storage::reports::health;
use storage::{Database, Error, KNOWN_SETTINGS, Settings};

use super::{Begin, List};
use crate::{original, output};

/// Where the site has a list of its own.
const OWN_LIST: &str = "a list of your own, left as it is (`owui-token-tracking pricing search` finds more, `pricing import` adds them)";

/// What became of prices.
pub(super) fn prices(absorbed: &Absorbed, list: List, begin: &Begin, files: &Done) -> anyhow::Result<()> {
    let adopted = original::prices(absorbed).map(|what| format!("{what}, ")).unwrap_or_default();
    let listed = match (&begin.given.prices, &files.prices, list) {
        (Some(from), Some(tally), _) => format!("{}: {}", from.file, counted(tally)),
        (_, _, List::Own) => OWN_LIST.to_owned(),
        (_, _, List::BuiltIn { added, kept }) => {
            format!("{added} added, {kept} there already and left as they are")
        }
    };
    output::line(format!("Prices    {adopted}{listed}"))?;
    for kept in files.prices.iter().flat_map(|tally| &tally.kept) {
        let shown = |here: &Value| here.as_str().map_or_else(|| price(here), str::to_owned);
        let here = kept.here.as_ref().map_or_else(|| "deleted".to_owned(), shown);
        let file = price(&kept.file);
        output::line(format!(
            "Kept      {}: {here}, {}; the file has {file}. {}",
            kept.name,
            by(kept),
            how_to_take_the_price(kept)
        ))?;
    }
    Ok(())
}

/// What became of settings; `missing` are those that would be added.
pub(super) fn settings(begin: &Begin, files: &Done, missing: &[String]) -> anyhow::Result<()> {
    if begin.given.settings.is_empty() {
        return match missing {
            [] => output::line("Settings  ready (owui-token-tracking settings list)"),
            missing => output::line(format!("Settings  would be added: {}", missing.join(", "))),
        }
        .map_err(Into::into);
    }
    let from: Vec<&str> = begin.given.settings.iter().map(|file| file.file.as_str()).collect();
    output::line(format!("Settings  {}: {}", from.join(", "), counted(&files.settings)))?;
    if !missing.is_empty() {
        output::line(format!("Settings  would be added: {}", missing.join(", ")))?;
    }
    for kept in &files.settings.kept {
        let (name, file) = (&kept.name, text(&kept.file));
        let here = kept.here.as_ref().map_or_else(|| "not set".to_owned(), text);
        let (quoted_name, quoted_file) = (quoted(name), quoted(&file));
        let command = match KNOWN_SETTINGS.iter().any(|known| known.key == name) {
            true => format!("settings set {quoted_name} {quoted_file}"),
            false => format!("settings init --setting {quoted_name} {quoted_file} ''"),
        };
        output::line(format!(
            "Kept      {name}: {here}, {}; the file has {file}. To take the file's: `owui-token-tracking {command}`; to keep this one, \
             write it into the file",
            by(kept)
        ))?;
    }
    Ok(())
}

/// What differs from what the earlier installation said of its usage. In a preview it can still be chosen otherwise.
pub(super) async fn beside(
    database: &Database,
    usage: &Imported,
    settings: &Settings,
    is_preview: bool,
) -> anyhow::Result<()> {
    if usage.rows == 0 {
        return Ok(());
    }
    output::line(
        "Usage     fractions of credits count from now on: a balance may be one credit lower than version 0.1 showed it",
    )?;
    if usage.moved > 0 {
        let server = health::server_zone(database).await?.unwrap_or_default();
        let begins = settings.timezone.name().unwrap_or("the time zone of this system");
        let first =
            if is_preview { "" } else { "`owui-token-tracking database downgrade --export FILE`, then " };
        output::line(format!(
            "Usage     {} of these rows count on another day than version 0.1 wrote: it wrote local times, and PostgreSQL's sessions \
             took them to be in {server}, while days begin in {begins} here. To keep the days of the rows: {first}\
             `owui-token-tracking init --setting timezone {server} ''`",
            usage.moved
        ))?;
    }
    Ok(())
}

/// Which sponsored allowances hold more strictly than with the original.
pub(super) fn stricter(found: &[Stricter]) -> anyhow::Result<()> {
    for Stricter { name, what, command } in found {
        output::line(format!("Sponsored {name}: {what}. To change it: `{command}`"))?;
    }
    Ok(())
}

/// Settings that can't be used, and whether there are any; and one that hardly anybody means.
pub(super) fn problems(unusable: &[(String, Error)], settings: &Settings) -> anyhow::Result<bool> {
    if let Some(credits) = settings.base_credit_allowance.filter(|credits| credits.is_negative()) {
        output::line(format!(
            "Note      base_credit_allowance is {credits}, as with version 0.1: users have what their groups add, less that. To change \
             it: `owui-token-tracking settings set base_credit_allowance 0`"
        ))?;
    }
    for (key, error) in unusable {
        output::line(format!(
            "Problem   {error}. What it concerns is refused until then: `owui-token-tracking settings set {key} VALUE`"
        ))?;
    }
    Ok(!unusable.is_empty())
}

fn counted(tally: &Tally) -> String {
    let Tally { added, changed, unchanged, kept } = tally;
    let kept = match kept.len() {
        0 => String::new(),
        kept => format!(", {kept} kept as somebody has changed them since"),
    };
    format!("{added} added, {changed} changed, {unchanged} as they were{kept}")
}

fn by(kept: &Kept) -> String {
    match &kept.by {
        Some((who, at)) => format!("by {who} at {}", at.strftime("%Y-%m-%d %H:%M:%S UTC")),
        None => "by somebody, in the table itself".to_owned(),
    }
}

/// A price in one line.
fn price(shown: &Value) -> String {
    let rate = |cost: &str, per: &str| format!("{} for {}", text(&shown[cost]), text(&shown[per]));
    let more = if is_plain(shown) { "" } else { " and more" };
    format!(
        "{} input tokens, {} output tokens{more}",
        rate("input_cost_credits", "per_input_tokens"),
        rate("output_cost_credits", "per_output_tokens")
    )
}

/// Whether a price has nothing but what the original knows.
fn is_plain(shown: &Value) -> bool {
    const PLAIN: [&str; 9] = [
        "provider",
        "id",
        "name",
        "input_cost_credits",
        "per_input_tokens",
        "output_cost_credits",
        "per_output_tokens",
        "max_output_tokens",
        "context_tokens",
    ];
    shown.as_object().is_none_or(|fields| fields.keys().all(|key| PLAIN.contains(&key.as_str())))
}

fn how_to_take_the_price(kept: &Kept) -> String {
    let file = &kept.file;
    let is_simple = is_plain(file) && kept.here.as_ref().is_none_or(is_plain);
    let command = if is_simple {
        let quoted = |key: &str| quoted(&text(&file[key]));
        format!(
            "pricing upsert {} --provider {} --name {} --input-cost-credits {} --per-input-tokens {} --output-cost-credits {} \
             --per-output-tokens {}",
            quoted("id"),
            quoted("provider"),
            quoted("name"),
            quoted("input_cost_credits"),
            quoted("per_input_tokens"),
            quoted("output_cost_credits"),
            quoted("per_output_tokens")
        )
    } else {
        "pricing upsert --json` with that entry of the file, or `init --overwrite".to_owned()
    };
    format!("To take the file's: `owui-token-tracking {command}`; to keep this one, write it into the file")
}

/// As a shell needs it.
fn quoted(text: &str) -> String {
    let is_safe = |character: char| character.is_ascii_alphanumeric() || "._-/:@".contains(character);
    if !text.is_empty() && text.chars().all(is_safe) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
