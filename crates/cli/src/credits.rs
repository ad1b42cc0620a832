//! `credits grant|revoke|reset`.

use std::process::ExitCode;

use accounting::{Credits, Period, UserId};
use storage::admin::credits::{self, Adjusted, Direction, Whose};
use storage::admin::users;
use storage::reports::balance::balances;
use storage::{Database, SystemClock};

use crate::connect::DatabaseArguments;
use crate::output;

/// Grant or revoke credits beside all limits.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Grant credits: to a user for the present day, week or month, or to a sponsored allowance in all.
    #[command(after_help = "Examples:\n  \
        owui-token-tracking credits grant ann@example.org 50 --reason \"a talk tomorrow\"\n  \
        owui-token-tracking credits grant ann@example.org 200 --period month --reason \"thesis\"\n  \
        owui-token-tracking credits grant course-101 5000 --reason \"a second group\"\n\n\
        It is an entry of the ledger, on the account of the present period: with the next day, week or month it is gone. A \
        credit granted for the day does not raise the limits of the week and the month.")]
    Grant(Adjustment),
    /// Revoke credits, as `grant` grants them.
    #[command(after_help = "Example:\n  \
        owui-token-tracking credits revoke ann@example.org 50 --reason \"granted twice\"")]
    Revoke(Adjustment),
    /// Begin a user's day anew: what was spent today is spent no more, but for the week and the month.
    #[command(after_help = "Example:\n  owui-token-tracking credits reset ann@example.org")]
    Reset {
        /// The user, by id, e-mail address or name.
        user: String,
        /// Why.
        #[arg(long, default_value = "reset")]
        reason: String,
        #[command(flatten)]
        database: DatabaseArguments,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Adjustment {
    /// A user, by id, e-mail address or name; or a sponsored allowance, by name or id.
    whose: String,
    /// How many credits, with decimals if need be.
    amount: Credits,
    /// Why; kept in the ledger.
    #[arg(long)]
    reason: String,
    /// For a user: the present day, week or month [default: day].
    #[arg(long)]
    period: Option<Period>,
    /// It is a user, though a sponsored allowance has the same name.
    #[arg(long)]
    user: bool,
    /// It is a sponsored allowance, though a user has the same name.
    #[arg(long, conflicts_with = "user")]
    sponsored: bool,
    #[command(flatten)]
    database: DatabaseArguments,
}

pub(crate) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Grant(adjustment) => adjust(adjustment, Direction::Grant).await?,
        Command::Revoke(adjustment) => adjust(adjustment, Direction::Revoke).await?,
        Command::Reset { user, reason, database } => {
            let database = database.open().await?;
            let user = users::one(&database, &user).await?;
            let done = credits::reset(&database, &SystemClock, &user.id, &reason).await?;
            if done.charge == Credits::ZERO {
                output::line(format!("{} has spent nothing today.", user.id))?;
            } else {
                output::line(format!("The day of {} begins anew.", user.id))?;
                left(&database, &user.id).await?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn adjust(adjustment: Adjustment, direction: Direction) -> anyhow::Result<()> {
    let Adjustment { whose, amount, reason, period, user, sponsored, database } = adjustment;
    let (database, clock) = (database.open().await?, SystemClock);
    let for_user = period.unwrap_or(Period::Day);
    let found = match (user, sponsored) {
        (true, _) => Whose::User(users::one(&database, &whose).await?.id, for_user),
        (_, true) => credits::sponsored(&database, &clock, &whose).await?,
        (false, false) => credits::find(&database, &clock, &whose, for_user).await?,
    };
    if let (Whose::Sponsored(_), Some(period)) = (&found, period) {
        anyhow::bail!(
            "{whose} is a sponsored allowance, and its total has no {period}: leave --period away, or say --user"
        );
    }
    let done = credits::adjust(&database, &clock, &found, direction, amount, &reason).await?;
    let verb = if direction == Direction::Grant { "granted to" } else { "revoked from" };
    match &found {
        Whose::User(user, period) => {
            output::line(format!("{amount} credits are {verb} {user} for this {period}."))?;
            left(&database, user).await?;
        }
        Whose::Sponsored(_) => {
            let Adjusted { now, limit, .. } = done;
            output::line(format!(
                "{amount} credits are {verb} {whose}; {} are left in all.",
                now.free(limit)?
            ))?;
        }
    }
    Ok(())
}

/// What the user can spend now: a grant for one period does not help where another is used up.
async fn left(database: &Database, user: &UserId) -> anyhow::Result<()> {
    for balance in balances(database, &SystemClock, Some(user.as_str())).await? {
        let of = |free: Credits, period: Period| format!("{free} of this {period}");
        let left: Vec<String> = balance.periods().map(|one| of(one.free, one.period)).collect();
        output::line(format!("Left: {}.", left.join(", ")))?;
    }
    Ok(())
}
