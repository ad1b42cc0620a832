//! `key create|list|revoke`.

use std::process::ExitCode;

use accounting::Clock;
use anyhow::{Context, bail};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use storage::SystemClock;
use storage::admin::{keys, users};

use crate::connect::DatabaseArguments;
use crate::output::{self, Format, FormatArguments, text};

/// Manage the gateway's keys.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a key. It is shown once, and kept only as a hash.
    #[command(after_help = "Examples:\n  owui-token-tracking key create open-webui\n  \
        owui-token-tracking key create laptop --user ann@example.org --expires-in-days 90")]
    Create {
        /// What it is for.
        name: String,
        /// The one user it may ask for (id, e-mail address or name). Without: it may name users, as Open WebUI does.
        #[arg(long)]
        user: Option<String>,
        /// After so many days it stops to work.
        #[arg(long)]
        expires_in_days: Option<u32>,
        #[command(flatten)]
        database: DatabaseArguments,
        #[command(flatten)]
        format: FormatArguments,
    },
    /// List all keys.
    #[command(after_help = "Example:\n  \
        owui-token-tracking key list")]
    List {
        #[command(flatten)]
        database: DatabaseArguments,
        #[command(flatten)]
        format: FormatArguments,
    },
    /// Revoke a key; it stops to work within two seconds.
    #[command(after_help = "Examples:\n  \
        owui-token-tracking key revoke laptop\n  \
        owui-token-tracking key revoke laptop --yes")]
    Revoke {
        /// Its id or its name.
        key: String,
        /// Do not ask.
        #[arg(short = 'y', long)]
        yes: bool,
        #[command(flatten)]
        database: DatabaseArguments,
    },
}

pub(crate) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    let now = SystemClock.now();
    match command {
        Command::Create { name, user, expires_in_days, database, format } => {
            let database = database.open().await?;
            let user = match user {
                Some(which) => Some(users::one(&database, &which).await?.id),
                None => None,
            };
            let expiry = |days: u32| now.checked_add(SignedDuration::from_hours(i64::from(days) * 24));
            let expires_at =
                expires_in_days.map(expiry).transpose().context("--expires-in-days is too large")?;
            let (key, secret) = keys::create(&database, &name, user, expires_at, now).await?;
            match format.format {
                Format::Json | Format::Csv => {
                    let made = json!({
                        "id": key.id, "name": key.name, "user_id": key.user.map(|user| user.to_string()),
                        "expires_at": key.expires_at.map(|at| at.to_string()), "key": secret,
                    });
                    output::data(format.format, &made)?;
                }
                Format::Table => {
                    let may = match &key.user {
                        Some(user) => format!("asks for {user} only"),
                        None => "may name users: give it to Open WebUI alone".into(),
                    };
                    output::line(format!("{secret}\n\nThis key {may}. It is not shown again."))?;
                }
            }
        }
        Command::List { database, format } => {
            let all = keys::list(&database.open().await?).await?;
            let columns = [
                text("id", "Id"),
                text("name", "Name"),
                text("kind", "Kind"),
                text("user_id", "User"),
                text("created_at", "Created (UTC)"),
                text("expires_at", "Expires (UTC)"),
                text("revoked_at", "Revoked (UTC)"),
            ];
            let time = |at: Option<Timestamp>| at.map(|at| at.to_string()).into();
            let row = |key: keys::Key| {
                let kind = if key.user.is_some() { "bound" } else { "forwarding" };
                vec![
                    key.id.into(),
                    key.name.into(),
                    kind.into(),
                    key.user.map(|user| user.to_string()).into(),
                    time(Some(key.created_at)),
                    time(key.expires_at),
                    time(key.revoked_at),
                ]
            };
            output::rows(format.format, &columns, all.into_iter().map(row).collect())?;
        }
        Command::Revoke { key, yes, database } => {
            let database = database.open().await?;
            if !yes && output::declined(&format!("Revoke {key}? Whoever has it gets no answers any more."))? {
                bail!("nothing was revoked");
            }
            for key in keys::revoke(&database, &key, now).await? {
                output::line(format!("Revoked: `{}`, {} (id {}).", key.name, key.whose(), key.id))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
