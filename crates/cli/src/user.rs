//! `user find|list`.

use std::process::ExitCode;

use storage::KnownUser;
use storage::admin::users::{self, Wanted};

use crate::connect::LastDatabase;
use crate::output::{self, FormatArguments, text};

/// Find users.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Find users by id, name and e-mail address; all that is given must fit. Exit code 1 if nobody does.
    Find {
        /// The id.
        #[arg(long)]
        id: Option<String>,
        /// The name, in any case.
        #[arg(long)]
        name: Option<String>,
        /// The e-mail address, in any case.
        #[arg(long)]
        email: Option<String>,
        #[command(flatten)]
        database: LastDatabase,
        #[command(flatten)]
        format: FormatArguments,
    },
    /// List all users.
    List {
        #[command(flatten)]
        database: LastDatabase,
        #[command(flatten)]
        format: FormatArguments,
    },
}

pub(crate) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    let (database, wanted, format) = match command {
        Command::Find { id, name, email, database, format } => {
            if id.is_none() && name.is_none() && email.is_none() {
                anyhow::bail!("say whom to find: --id, --name or --email; `user list` shows all");
            }
            (database, Some(Wanted { id, name, email }), format)
        }
        Command::List { database, format } => (database, None, format),
    };
    let database = database.chosen().open().await?;
    let found = users::find(&database, &wanted.clone().unwrap_or_default()).await?;
    if found.is_empty() && wanted.is_some() {
        anyhow::bail!("no user fits");
    }
    show(found, format)?;
    Ok(ExitCode::SUCCESS)
}

/// Shows users.
pub(crate) fn show(users: Vec<KnownUser>, format: FormatArguments) -> anyhow::Result<()> {
    let columns = [text("id", "Id"), text("name", "Name"), text("email", "E-mail")];
    let row = |user: KnownUser| vec![user.id.to_string().into(), user.name.into(), user.email.into()];
    Ok(output::rows(format.format, &columns, users.into_iter().map(row).collect())?)
}
