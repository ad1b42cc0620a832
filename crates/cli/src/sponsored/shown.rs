//! Allowances as they are listed.

use accounting::{Credits, Day};
use serde_json::Value;
use storage::admin::sponsored;
use storage::{Database, SponsoredAllowance};

use crate::output::{self, FormatArguments, number, text};

pub(super) async fn show(
    database: &Database,
    all: Vec<SponsoredAllowance>,
    format: FormatArguments,
) -> anyhow::Result<()> {
    let names = sponsored::member_names(database, &all).await?;
    let columns = [
        text("id", "Id"),
        text("name", "Name"),
        text("sponsor_id", "Sponsor"),
        text("base_models", "Models"),
        number("total_credit_limit", "Total (credits)"),
        number("daily_credit_limit", "Daily (credits per user)"),
        text("starts_on", "From"),
        text("ends_on", "To"),
        text("members", "Members"),
        text("public", "Public"),
        text("creation_date", "Made at (UTC)"),
    ];
    let whole = |credits: Credits| credits.micro() / 1_000_000;
    let day = |day: Option<Day>| day.map_or(Value::Null, |day| day.to_string().into());
    let row = |one: SponsoredAllowance| {
        let models: Vec<String> = one.models.iter().map(ToString::to_string).collect();
        let members: Vec<&str> =
            one.members.iter().filter_map(|member| names.get(member)).map(String::as_str).collect();
        vec![
            one.id.to_string().into(),
            one.name.into(),
            one.sponsor.into(),
            models.join(", ").into(),
            whole(one.total).into(),
            one.daily.map_or(Value::Null, |limit| whole(limit).into()),
            day(one.starts_on),
            day(one.ends_on),
            members.join(", ").into(),
            one.public.into(),
            one.created_at.into(),
        ]
    };
    Ok(output::rows(format.format, &columns, all.into_iter().map(row).collect())?)
}
