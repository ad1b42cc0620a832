//! Who joins or leaves a credit group: one user, or one on each line of a file.

use std::collections::BTreeSet;
use std::io::Read;
use std::process::ExitCode;

use accounting::UserId;
use anyhow::{Context, bail};
use storage::admin::directory::Directory;
use storage::admin::{groups, users};
use storage::{Database, Error, Membership};

use crate::connect::LastDatabase;
use crate::output;

/// The original takes a user, a group and a database; a file stands in the place of the user.
#[derive(Debug, clap::Args)]
pub(crate) struct Members {
    /// The user's id (or e-mail address, or name); with --file, the group.
    user_id: String,
    /// The group's name.
    credit_group: Option<String>,
    #[command(flatten)]
    database: LastDatabase,
    /// Users to be taken from a file, by id, e-mail address or name, one on each line; `-` for standard input. All or none,
    /// unless --partial.
    #[arg(long)]
    file: Option<String>,
    /// Take the lines that can be taken, and report the others.
    #[arg(long, requires = "file")]
    partial: bool,
}

/// Who is meant, and in which group.
struct Meant {
    database: Database,
    group: String,
    users: Vec<UserId>,
    /// Lines that can't be taken, with the reason.
    wrong: Vec<String>,
}

impl Members {
    pub(crate) async fn add(self) -> anyhow::Result<ExitCode> {
        let (partial, bulk) = (self.partial, self.file.is_some());
        let meant = self.meant(false).await?;
        meant.check(partial)?;
        let added = groups::add_users(&meant.database, &meant.group, &meant.users).await?;
        match meant.users.as_slice() {
            [one] if !bulk => output::line(format!("{one} is in the group {}.", meant.group))?,
            all => {
                let already = all.len().saturating_sub(added);
                let group = &meant.group;
                output::line(format!(
                    "{added} users are added to the group {group}; {already} were in it already."
                ))?;
            }
        }
        meant.end()
    }

    pub(crate) async fn remove(self) -> anyhow::Result<ExitCode> {
        let (partial, bulk) = (self.partial, self.file.is_some());
        let meant = self.meant(true).await?;
        meant.check(partial)?;
        groups::remove_users(&meant.database, &meant.group, &meant.users).await?;
        match meant.users.as_slice() {
            [one] if !bulk => output::line(format!("{one} is no longer in the group {}.", meant.group))?,
            all => output::line(format!("{} users are removed from the group {}.", all.len(), meant.group))?,
        }
        meant.end()
    }

    /// `leaving`: somebody who left Open WebUI can still be removed.
    async fn meant(self, leaving: bool) -> anyhow::Result<Meant> {
        let Self { user_id, credit_group, database, file, .. } = self;
        let Some(file) = file else {
            let Some(group) = credit_group else { bail!("name the credit group too: USER_ID CREDIT_GROUP") };
            let database = database.chosen().open().await?;
            let user = match users::one(&database, &user_id).await {
                Ok(user) => user.id,
                Err(Error::NotFound { .. }) if leaving => UserId::new(user_id)?,
                Err(error) => return Err(error.into()),
            };
            return Ok(Meant { database, group, users: vec![user], wrong: Vec::new() });
        };
        if database.is_last() {
            bail!("with --file, name only the credit group (and the database): --file FILE CREDIT_GROUP");
        }
        let lines = lines(&file)?;
        let (group, database) = (user_id, database.or_last(credit_group).chosen().open().await?);
        let directory = Directory::read(&database).await?;
        let members = groups::memberships_of(&database, &group).await?;
        let named: BTreeSet<&str> = members
            .iter()
            .filter(|(_, how)| *how == Membership::Named)
            .map(|(user, _)| user.id.as_str())
            .collect();
        let (mut users, mut seen, mut wrong) = (Vec::new(), BTreeSet::new(), Vec::new());
        for (number, line) in lines {
            let found = match directory.one(&line) {
                Ok(user) => Ok(user.id.clone()),
                Err(Error::NotFound { .. }) if leaving && named.contains(line.as_str()) => {
                    UserId::new(line).map_err(Error::from)
                }
                Err(error) => Err(error),
            };
            match found {
                Ok(user) if leaving && !named.contains(user.as_str()) => {
                    wrong.push(format!("line {number}: {user} is not in the group"));
                }
                Ok(user) if seen.insert(user.clone()) => users.push(user),
                Ok(_) => {}
                Err(error) => wrong.push(format!("line {number}: {error}")),
            }
        }
        Ok(Meant { database, group, users, wrong })
    }
}

impl Meant {
    /// All or none.
    fn check(&self, partial: bool) -> anyhow::Result<()> {
        if !self.wrong.is_empty() && !partial {
            bail!(
                "nothing is changed, because of\n  {}\nCorrect these lines, or take the others with --partial",
                self.wrong.join("\n  ")
            );
        }
        Ok(())
    }

    fn end(self) -> anyhow::Result<ExitCode> {
        if self.wrong.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        bail!("these lines are left out:\n  {}", self.wrong.join("\n  "))
    }
}

/// The lines of a file that say something, with their numbers.
fn lines(file: &str) -> anyhow::Result<Vec<(usize, String)>> {
    let mut text = String::new();
    if file == "-" {
        std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
    } else {
        text = std::fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
    }
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    Ok((1..)
        .zip(lines)
        .filter(|(_, line)| !line.is_empty())
        .map(|(number, line)| (number, line.to_owned()))
        .collect())
}
