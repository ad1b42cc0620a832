//! `credit-group create|get|list|update|delete|add-user|remove-user|list-users`.

use std::process::ExitCode;

use storage::Database;
use storage::admin::groups::{self, Change, Group};
use storage::admin::users;

use crate::connect::LastDatabase;
use crate::output::{self, FormatArguments, number, text};

/// Manage credit groups: each adds its credits to the daily allowance of its members.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a group.
    Create {
        /// Its name.
        name: String,
        /// Credits that it adds for each member and day, whole.
        allowance: i64,
        /// What it is for.
        description: String,
        #[command(flatten)]
        database: LastDatabase,
    },
    /// Show a group.
    Get {
        /// Its name.
        name: String,
        #[command(flatten)]
        database: LastDatabase,
        #[command(flatten)]
        format: FormatArguments,
    },
    /// List all groups.
    List {
        #[command(flatten)]
        database: LastDatabase,
        #[command(flatten)]
        format: FormatArguments,
    },
    /// Change a group's credits.
    Update {
        /// Its name.
        name: String,
        /// Credits that it adds for each member and day, whole.
        allowance: i64,
        #[command(flatten)]
        database: LastDatabase,
    },
    /// Delete a group.
    Delete {
        /// Its name.
        name: String,
        #[command(flatten)]
        database: LastDatabase,
        /// Also if it has members.
        #[arg(long)]
        force: bool,
    },
    /// Add a user to a group.
    AddUser {
        /// The user's id (or e-mail address, or name).
        user_id: String,
        /// The group's name.
        credit_group: String,
        #[command(flatten)]
        database: LastDatabase,
    },
    /// Remove a user from a group.
    RemoveUser {
        /// The user's id (or e-mail address, or name).
        user_id: String,
        /// The group's name.
        credit_group: String,
        #[command(flatten)]
        database: LastDatabase,
    },
    /// List the members of a group.
    ListUsers {
        /// Its name.
        name: String,
        #[command(flatten)]
        database: LastDatabase,
        #[command(flatten)]
        format: FormatArguments,
    },
}

pub(crate) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Create { name, allowance, description, database } => {
            let group = groups::create(&open(database).await?, &name, allowance, &description).await?;
            output::line(format!(
                "The group {} adds {} credits a day to each member.",
                group.name, group.allowance
            ))?;
        }
        Command::Get { name, database, format } => {
            let group = groups::get(&open(database).await?, &name).await?;
            show(vec![group], format)?;
        }
        Command::List { database, format } => {
            let all = groups::list(&open(database).await?).await?;
            show(all, format)?;
        }
        Command::Update { name, allowance, database } => {
            let group = groups::update(
                &open(database).await?,
                &name,
                Change { allowance: Some(allowance), ..Change::default() },
            )
            .await?;
            output::line(format!("The group {} now adds {} credits a day.", group.name, group.allowance))?;
        }
        Command::Delete { name, database, force } => {
            groups::delete(&open(database).await?, &name, force).await?;
            output::line(format!("The group {name} is deleted. What its members were charged stays."))?;
        }
        Command::AddUser { user_id, credit_group, database } => {
            let database = open(database).await?;
            let user = users::one(&database, &user_id).await?;
            groups::add_user(&database, &credit_group, &user.id).await?;
            output::line(format!("{} is in the group {credit_group}.", user.id))?;
        }
        Command::RemoveUser { user_id, credit_group, database } => {
            let database = open(database).await?;
            // Somebody who left Open WebUI can still be removed.
            let id = match users::one(&database, &user_id).await {
                Ok(user) => user.id,
                Err(storage::Error::NotFound { .. }) => accounting::UserId::new(user_id)?,
                Err(error) => return Err(error.into()),
            };
            groups::remove_user(&database, &credit_group, &id).await?;
            output::line(format!("{id} is no longer in the group {credit_group}."))?;
        }
        Command::ListUsers { name, database, format } => {
            let members = groups::members(&open(database).await?, &name).await?;
            crate::user::show(members, format)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn open(database: LastDatabase) -> anyhow::Result<Database> {
    database.chosen().open().await
}

fn show(all: Vec<Group>, format: FormatArguments) -> anyhow::Result<()> {
    let columns = [
        text("id", "Id"),
        text("name", "Name"),
        number("max_credit", "Credits a day"),
        text("description", "Description"),
    ];
    let row = |group: Group| {
        vec![group.id.to_string().into(), group.name.into(), group.allowance.into(), group.description.into()]
    };
    Ok(output::rows(format.format, &columns, all.into_iter().map(row).collect())?)
}
