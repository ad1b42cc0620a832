//! `credit-group create|get|list|update|delete|add-user|remove-user|list-users`.

use std::collections::HashMap;
use std::process::ExitCode;
use std::str::FromStr;

use accounting::Credits;
use anyhow::bail;
use serde_json::Value;
use storage::admin::groups::{self, Change, Group};
use storage::{Database, KnownUser, Membership, open_webui_groups};

use crate::connect::LastDatabase;
use crate::members::Members;
use crate::output::{self, FormatArguments, credits, number, text};

/// Manage credit groups: each adds its credits to the allowances of its members.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a group.
    #[command(after_help = "Examples:\n  \
        owui-token-tracking credit-group create staff 2000 \"Everybody who works here\"\n  \
        owui-token-tracking credit-group create course 100 \"Spring\" --weekly 300 --owui-group \"Course 101\"")]
    Create {
        /// Its name.
        name: String,
        /// Credits that it adds for each member and day, whole.
        allowance: i64,
        /// What it is for.
        description: String,
        #[command(flatten)]
        beside: Beside,
        #[command(flatten)]
        database: LastDatabase,
    },
    /// Show a group.
    #[command(after_help = "Example:\n  \
        owui-token-tracking credit-group get staff")]
    Get {
        /// Its name.
        name: String,
        #[command(flatten)]
        database: LastDatabase,
        #[command(flatten)]
        format: FormatArguments,
    },
    /// List all groups.
    #[command(after_help = "Examples:\n  \
        owui-token-tracking credit-group list\n  \
        owui-token-tracking credit-group list --format csv")]
    List {
        #[command(flatten)]
        database: LastDatabase,
        #[command(flatten)]
        format: FormatArguments,
    },
    /// Change a group; what is not given stays. It counts within two seconds.
    #[command(after_help = "Examples:\n  owui-token-tracking credit-group update staff 3000\n  \
        owui-token-tracking credit-group update staff --weekly 10000 --monthly none")]
    Update {
        /// Its name.
        name: String,
        /// Credits that it adds for each member and day, whole.
        allowance: Option<i64>,
        /// A new name for it.
        #[arg(long)]
        new_name: Option<String>,
        /// What it is for.
        #[arg(long)]
        description: Option<String>,
        #[command(flatten)]
        beside: Beside,
        /// Follow no Open WebUI group any more.
        #[arg(long, conflicts_with = "owui_group")]
        no_owui_group: bool,
        #[command(flatten)]
        database: LastDatabase,
    },
    /// Delete a group.
    #[command(after_help = "Examples:\n  \
        owui-token-tracking credit-group delete staff\n  \
        owui-token-tracking credit-group delete staff --force")]
    Delete {
        /// Its name.
        name: String,
        #[command(flatten)]
        database: LastDatabase,
        /// Also if it has members.
        #[arg(long)]
        force: bool,
        /// Do not ask.
        #[arg(short = 'y', long)]
        yes: bool,
    },
    /// Add users to a group.
    #[command(override_usage = ADD_USAGE, after_help = "Examples:\n  \
        owui-token-tracking credit-group add-user ann@example.org staff\n  \
        owui-token-tracking credit-group add-user --file new.txt staff")]
    AddUser(Members),
    /// Remove users from a group.
    #[command(override_usage = REMOVE_USAGE, after_help = "Examples:\n  \
        owui-token-tracking credit-group remove-user ann@example.org staff\n  \
        grep @old.example.org users.txt | owui-token-tracking credit-group remove-user --file - staff")]
    RemoveUser(Members),
    /// List the members of a group.
    #[command(after_help = "Example:\n  \
        owui-token-tracking credit-group list-users staff")]
    ListUsers {
        /// Its name.
        name: String,
        #[command(flatten)]
        database: LastDatabase,
        #[command(flatten)]
        format: FormatArguments,
    },
}

const ADD_USAGE: &str = "owui-token-tracking credit-group add-user <USER_ID> <CREDIT_GROUP> [DATABASE_URL]\n       \
    owui-token-tracking credit-group add-user --file <FILE> <CREDIT_GROUP> [DATABASE_URL]";
const REMOVE_USAGE: &str = "owui-token-tracking credit-group remove-user <USER_ID> <CREDIT_GROUP> [DATABASE_URL]\n       \
    owui-token-tracking credit-group remove-user --file <FILE> <CREDIT_GROUP> [DATABASE_URL]";

/// What a group has that the original does not know.
#[derive(Debug, clap::Args)]
pub(crate) struct Beside {
    /// Credits that it adds for each member and week; with them its members have a weekly limit. `none`: no more.
    #[arg(long, value_name = "CREDITS|none")]
    weekly: Option<Cap>,
    /// Credits that it adds for each member and month; with them its members have a monthly limit. `none`: no more.
    #[arg(long, value_name = "CREDITS|none")]
    monthly: Option<Cap>,
    /// Whoever is in this group of Open WebUI is a member too, as long as they are.
    #[arg(long, value_name = "NAME_OR_ID")]
    owui_group: Option<String>,
}

/// An amount of credits, or none.
#[derive(Debug, Clone, Copy)]
struct Cap(Option<Credits>);

impl FromStr for Cap {
    type Err = accounting::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" { Ok(Self(None)) } else { text.parse().map(|credits| Self(Some(credits))) }
    }
}

impl Beside {
    fn change(self) -> Change {
        Change {
            weekly: self.weekly.map(|cap| cap.0),
            monthly: self.monthly.map(|cap| cap.0),
            open_webui_group: self.owui_group.map(Some),
            ..Change::default()
        }
    }
}

pub(crate) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Create { name, allowance, description, beside, database } => {
            let terms =
                Change { allowance: Some(allowance), description: Some(description), ..beside.change() };
            let group = groups::create_with(&open(database).await?, &name, terms).await?;
            output::line(format!("The group {} adds {} to each member.", group.name, adds(&group)))?;
        }
        Command::Get { name, database, format } => {
            let database = open(database).await?;
            let group = groups::get(&database, &name).await?;
            show(&database, vec![group], format).await?;
        }
        Command::List { database, format } => {
            let database = open(database).await?;
            let all = groups::list(&database).await?;
            show(&database, all, format).await?;
        }
        Command::Update { name, allowance, new_name, description, beside, no_owui_group, database } => {
            let change = beside.change();
            let open_webui_group = if no_owui_group { Some(None) } else { change.open_webui_group };
            let change = Change { name: new_name, allowance, description, open_webui_group, ..change };
            if change == Change::default() {
                anyhow::bail!(
                    "say what is to change: ALLOWANCE, --weekly, --monthly, --owui-group, --no-owui-group, --new-name or --description"
                );
            }
            let group = groups::update(&open(database).await?, &name, change).await?;
            output::line(format!("The group {} now adds {} to each member.", group.name, adds(&group)))?;
        }
        Command::Delete { name, database, force, yes } => {
            let database = open(database).await?;
            let name = groups::get(&database, &name).await?.name;
            if !(yes || force) && output::declined(&format!("Delete the group {name}?"))? {
                bail!("nothing was deleted");
            }
            groups::delete(&database, &name, force).await?;
            output::line(format!("The group {name} is deleted. What its members were charged stays."))?;
        }
        Command::AddUser(members) => return members.add().await,
        Command::RemoveUser(members) => return members.remove().await,
        Command::ListUsers { name, database, format } => {
            let members = groups::memberships_of(&open(database).await?, &name).await?;
            show_members(members, format)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn open(database: LastDatabase) -> anyhow::Result<Database> {
    database.chosen().open().await
}

/// What a group adds, for people.
fn adds(group: &Group) -> String {
    let capped = |limit: Option<Credits>, period: &str| limit.map(|limit| format!("{limit} a {period}"));
    let of = [capped(group.weekly, "week"), capped(group.monthly, "month")];
    let parts = std::iter::once(format!("{} credits a day", group.allowance)).chain(of.into_iter().flatten());
    parts.collect::<Vec<_>>().join(", ")
}

async fn show(database: &Database, all: Vec<Group>, format: FormatArguments) -> anyhow::Result<()> {
    let columns = [
        text("id", "Id"),
        text("name", "Name"),
        number("max_credit", "Credits a day"),
        text("description", "Description"),
        number("weekly", "A week"),
        number("monthly", "A month"),
        text("owui_group", "Open WebUI group"),
    ];
    let follows = all.iter().any(|group| group.open_webui_group.is_some());
    let open_webui = if follows { open_webui_groups(database).await? } else { HashMap::new() };
    let cap = |limit: Option<Credits>| limit.map_or(Value::Null, credits);
    let followed = |id: String| match open_webui.get(&id) {
        Some(group) => group.name.clone(),
        None => format!("{id} (deleted)"),
    };
    let row = |group: Group| {
        vec![
            group.id.to_string().into(),
            group.name.into(),
            group.allowance.into(),
            group.description.into(),
            cap(group.weekly),
            cap(group.monthly),
            group.open_webui_group.map_or(Value::Null, |id| followed(id).into()),
        ]
    };
    Ok(output::rows(format.format, &columns, all.into_iter().map(row).collect())?)
}

fn show_members(members: Vec<(KnownUser, Membership)>, format: FormatArguments) -> anyhow::Result<()> {
    let columns = [text("id", "Id"), text("name", "Name"), text("email", "E-mail"), text("by", "By")];
    let row = |(user, how): (KnownUser, Membership)| {
        let by = match how {
            Membership::Named => "name",
            Membership::Followed => "Open WebUI group",
        };
        vec![
            user.id.to_string().into(),
            String::from(user.name).into(),
            String::from(user.email).into(),
            by.into(),
        ]
    };
    Ok(output::rows(format.format, &columns, members.into_iter().map(row).collect())?)
}
