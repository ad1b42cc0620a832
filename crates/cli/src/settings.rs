//! `settings list|get|set|init`.

use std::process::ExitCode;

use serde_json::Value;
use storage::admin::settings::{self, Setting};

use crate::connect::DatabaseArguments;
use crate::output::{self, FormatArguments, text};

/// Manage settings.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List all settings with their meaning.
    #[command(after_help = "Examples:\n  \
        owui-token-tracking settings list\n  \
        owui-token-tracking settings list --format json")]
    List {
        #[command(flatten)]
        database: DatabaseArguments,
        #[command(flatten)]
        format: FormatArguments,
    },
    /// Show one setting's value.
    #[command(after_help = "Example:\n  \
        owui-token-tracking settings get timezone")]
    Get {
        /// The setting.
        key: String,
        #[command(flatten)]
        database: DatabaseArguments,
        #[command(flatten)]
        format: FormatArguments,
    },
    /// Change one setting; it counts within two seconds.
    #[command(after_help = "Examples:\n  \
        owui-token-tracking settings set base_credit_allowance 500\n  \
        owui-token-tracking settings set timezone Europe/Berlin")]
    Set {
        /// The setting.
        key: String,
        /// Its value.
        value: String,
        #[command(flatten)]
        database: DatabaseArguments,
    },
    /// Write settings to begin with: by default the base allowance of 1000 credits.
    #[command(after_help = "Examples:\n  \
        owui-token-tracking settings init\n  \
        owui-token-tracking settings init --setting base_credit_allowance 500 'Less than usual'")]
    Init {
        /// A setting with its value and description; may be repeated.
        #[arg(long, num_args = 3, value_names = ["KEY", "VALUE", "DESCRIPTION"])]
        setting: Vec<String>,
        #[command(flatten)]
        database: DatabaseArguments,
    },
}

pub(crate) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::List { database, format } => {
            let all = settings::list(&database.open().await?).await?;
            show(all, format)?;
        }
        Command::Get { key, database, format } => {
            let one = settings::get(&database.open().await?, &key).await?;
            show(vec![one], format)?;
        }
        Command::Set { key, value, database } => {
            settings::set(&database.open().await?, &key, &value).await?;
            output::line(format!("{key} is now {value}."))?;
        }
        Command::Init { setting, database } => {
            let database = database.open().await?;
            let given: Vec<(String, String, String)> = setting
                .chunks_exact(3)
                .map(|three| (three[0].clone(), three[1].clone(), three[2].clone()))
                .collect();
            let begin = if given.is_empty() { settings::initial() } else { given };
            settings::init(&database, &begin, true).await?;
            output::line(format!("{} setting(s) written.", begin.len()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(all: Vec<Setting>, format: FormatArguments) -> anyhow::Result<()> {
    let columns = [
        text("setting_key", "Setting"),
        text("setting_value", "Value"),
        text("default", "Default"),
        text("description", "Meaning"),
    ];
    let row = |setting: Setting| {
        vec![
            setting.key.into(),
            setting.value.map_or(Value::Null, Value::from),
            setting.default.into(),
            setting.description.into(),
        ]
    };
    Ok(output::rows(format.format, &columns, all.into_iter().map(row).collect())?)
}
