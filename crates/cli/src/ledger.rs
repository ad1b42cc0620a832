//! `ledger show REQUEST`.

use std::process::ExitCode;

use accounting::RequestId;
use serde_json::{Map, Value, json};
use storage::reports::entry::{self, Entry, Part};

use crate::connect::DatabaseArguments;
use crate::output::{self, Format, FormatArguments, credits, number, text};

/// Look into the ledger.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show everything that is kept about one request: its row, its corrections, its accounts, and how its charge is computed.
    #[command(after_help = "Example:\n  owui-token-tracking ledger show 019ac2f0d1e27c3b8a5f60718293a4b5")]
    Show {
        /// The request's id: `usage export` names them, and each answer of the gateway does.
        request: RequestId,
        #[command(flatten)]
        database: DatabaseArguments,
        #[command(flatten)]
        format: FormatArguments,
    },
}

pub(crate) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    let Command::Show { request, database, format } = command;
    let database = database.open().await?;
    let Some(entry) = entry::entry(&database, request).await? else {
        anyhow::bail!(
            "the ledger has no request {request}: it may be running still, or its rows may be pruned; \
             `owui-token-tracking usage export` lists those that are there"
        );
    };
    match format.format {
        Format::Table => show(&entry)?,
        format => output::data(format, &as_json(&entry)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(entry: &Entry) -> anyhow::Result<Value> {
    let object = |row: &Vec<(&'static str, Option<String>)>| {
        let one = |(name, value): &(&'static str, Option<String>)| {
            ((*name).to_owned(), value.clone().map_or(Value::Null, Value::from))
        };
        Value::Object(row.iter().map(one).collect::<Map<String, Value>>())
    };
    let accounts = entry.accounts.iter().map(|(key, account)| {
        json!({"account": key.to_string(), "spent": credits(account.spent), "held": credits(account.held)})
    });
    let computed = entry.computed()?;
    let price = entry.price.as_ref().map(|priced| {
        json!({"version": priced.version.0, "provider": priced.provider, "model": priced.model, "price": priced.price})
    });
    Ok(json!({
        "request": entry.rows.first().map(object),
        "corrections": entry.rows.iter().skip(1).map(object).collect::<Vec<_>>(),
        "accounts": accounts.collect::<Vec<_>>(),
        "charge": credits(entry.charge),
        "price": price,
        "computation": computed.as_ref().map(|(parts, _)| parts.iter().map(part).collect::<Vec<_>>()),
        "computed": computed.map(|(_, sum)| credits(sum)),
    }))
}

fn part(part: &Part) -> Value {
    json!({
        "class": class(part), "count": part.count, "credits": credits(part.rate.credits), "per": part.rate.per,
    })
}

/// `CachedInput` as `cached input`.
fn class(part: &Part) -> String {
    let mut name = String::new();
    for letter in format!("{:?}", part.measure).chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push(' ');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

fn show(entry: &Entry) -> anyhow::Result<()> {
    for (index, row) in entry.rows.iter().enumerate() {
        if index > 0 {
            output::line("\nCorrection:")?;
        }
        let known = row.iter().filter_map(|(name, value)| Some(vec![(*name).into(), value.clone()?.into()]));
        output::rows(Format::Table, &[text("column", "Column"), text("value", "Value")], known.collect())?;
    }
    output::line("\nAccounts, as they are now:")?;
    let columns =
        [text("account", "Account"), number("spent", "Spent (credits)"), number("held", "Held (credits)")];
    let account = |(key, account): &(accounting::AccountKey, accounting::Account)| {
        vec![key.to_string().into(), credits(account.spent), credits(account.held)]
    };
    output::rows(Format::Table, &columns, entry.accounts.iter().map(account).collect())?;
    let Some((parts, sum)) = entry.computed()? else {
        return Ok(output::line(format!("\nCharged: {} credits; no price is kept with it.", entry.charge))?);
    };
    if let Some(priced) = &entry.price {
        output::line(format!(
            "\nPrice: version {} of {}/{}; all corrections included:",
            priced.version.0, priced.provider, priced.model
        ))?;
    }
    let columns = [
        text("class", "Class"),
        number("count", "Count"),
        number("credits", "Credits"),
        number("per", "Per"),
    ];
    let row = |part: &Part| {
        vec![class(part).into(), part.count.into(), credits(part.rate.credits), part.rate.per.into()]
    };
    output::rows(Format::Table, &columns, parts.iter().map(row).collect())?;
    let terms: Vec<String> = parts
        .iter()
        .map(|part| format!("{} × {} / {}", part.count, part.rate.credits, part.rate.per))
        .collect();
    let terms = if terms.is_empty() { "nothing".to_owned() } else { terms.join(" + ") };
    output::line(format!("{terms} = {sum} credits, rounded up to the microcredit."))?;
    Ok(output::line(if sum == entry.charge {
        format!("Charged: {} credits, the same.", entry.charge)
    } else {
        format!(
            "Charged: {} credits: how it ended (see outcome) or who entered it decided otherwise.",
            entry.charge
        )
    })?)
}
