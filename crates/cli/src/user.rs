//! `user find|list|create|export|forget`.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use accounting::UserId;
use storage::admin::forget;
use storage::admin::users::{self, Wanted};
use storage::reports::person;
use storage::{Database, KnownUser};

use crate::connect::{DatabaseArguments, LastDatabase};
use crate::output::{self, FormatArguments, text};
use crate::private_file;

/// Find users, make them where there is no Open WebUI, forget them.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Find users by id, name and e-mail address; all that is given must fit. Exit code 1 if nobody does.
    #[command(after_help = "Examples:\n  \
        owui-token-tracking user find --email ann@example.org\n  \
        owui-token-tracking user find --name 'Ann Miller' --format json")]
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
    /// Make a user where there is no Open WebUI, so that a key can be bound to them. Open WebUI makes its users itself.
    #[command(after_help = "Examples:\n  \
        owui-token-tracking user create ann --email ann@example.org\n  \
        owui-token-tracking key create laptop --user ann")]
    Create {
        /// The name.
        name: String,
        /// The e-mail address.
        #[arg(long)]
        email: Option<String>,
        /// The id, which the ledger has and which clients that name users send; by default the name.
        #[arg(long)]
        id: Option<String>,
        #[command(flatten)]
        database: DatabaseArguments,
        #[command(flatten)]
        format: FormatArguments,
    },
    /// Write all that is kept about a user as JSON. What Open WebUI keeps itself is not part of it.
    #[command(after_help = "Example:\n  \
        owui-token-tracking user export ann@example.org --output ann.json")]
    Export {
        /// The user, by id, e-mail address or name.
        user: String,
        /// Where to; - is the standard output.
        #[arg(long, short, default_value = "-", value_name = "FILE")]
        output: String,
        #[command(flatten)]
        database: DatabaseArguments,
    },
    /// Forget a user: a pseudonym takes the place of the id everywhere in our tables, name, e-mail address, chats and messages go.
    /// Amounts stay, so the books stay right. This can't be undone.
    #[command(
        after_help = "Example:\n  owui-token-tracking user export ann@example.org --output ann.json\n  \
        owui-token-tracking user forget ann@example.org"
    )]
    Forget {
        /// The user, by id, e-mail address or name.
        user: String,
        /// Don't ask.
        #[arg(long, short = 'y')]
        yes: bool,
        #[command(flatten)]
        database: DatabaseArguments,
    },
    /// List all users.
    #[command(after_help = "Example:\n  \
        owui-token-tracking user list")]
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
        Command::Create { name, email, id, database, format } => {
            let id = UserId::from_outside(id.as_deref().unwrap_or(&name))?;
            let database = database.open().await?;
            let made = users::create(&database, &id, &name, email.as_deref().unwrap_or_default()).await?;
            show(vec![made], format)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Export { user, output, database } => {
            return export(&database.open().await?, &user, &output).await;
        }
        Command::Forget { user, yes, database } => {
            return forget_user(&database.open().await?, &user, yes).await;
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
    let row = |user: KnownUser| {
        vec![user.id.to_string().into(), String::from(user.name).into(), String::from(user.email).into()]
    };
    Ok(output::rows(format.format, &columns, users.into_iter().map(row).collect())?)
}

async fn export(database: &Database, which: &str, to: &str) -> anyhow::Result<ExitCode> {
    let user = forget::find(database, which).await?;
    let sink: Box<dyn Write + Send> =
        if to == "-" { Box::new(io::stdout()) } else { Box::new(private_file::create(to)?) };
    let sink = Arc::new(Mutex::new(BufWriter::new(sink)));
    let filled = Arc::clone(&sink);
    let write = move |piece: &str| -> anyhow::Result<()> {
        let mut filled = filled.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(filled.write_all(piece.as_bytes())?)
    };
    person::person(database, &user, write).await?;
    sink.lock().unwrap_or_else(PoisonError::into_inner).flush()?;
    Ok(ExitCode::SUCCESS)
}

async fn forget_user(database: &Database, which: &str, yes: bool) -> anyhow::Result<ExitCode> {
    let user = forget::find(database, which).await?;
    let names = if user.names.is_empty() { String::new() } else { format!(" ({})", user.names.join(", ")) };
    if user.in_open_webui {
        output::line(
            "Open WebUI has this user still: delete them there too, or the next request makes them known again.",
        )?;
    }
    if !yes && !output::confirmed(&format!("Forget {}{names} for good?", user.id))? {
        return Ok(ExitCode::FAILURE);
    }
    let done = forget::forget(database, &user).await?;
    output::line(format!(
        "Forgotten: {} row(s) of the ledger and {} account(s) are {}'s now; {} key(s) revoked, {} note(s) of the audit changed.",
        done.entries, done.accounts, done.pseudonym, done.keys, done.notes
    ))?;
    Ok(ExitCode::SUCCESS)
}
