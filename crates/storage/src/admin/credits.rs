//! Adjustments: credits that an administrator grants or revokes beside all limits, as entries of the ledger. Nothing is
//! edited: a grant is an entry of less than nothing on the account of the present period, or on the total of a sponsored
//! allowance.

use accounting::{Account, AccountKey, Clock, Credits, Day, Period, SponsoredId, UserId, check_name};
use jiff::Timestamp;
use serde_json::json;

use crate::admin::audit::{Change, note};
use crate::admin::users;
use crate::database::in_transaction;
use crate::ledger::booking::{Booking, book, lock_account};
use crate::ledger::{EntryKind, Turn};
use crate::{Database, Error, Snapshot};

/// More than this at once is a slip of the pen, and would end in an overflow some day.
const MOST: i64 = 1_000_000_000_000;
/// Reasons are read by people.
const LONGEST_REASON: usize = 1000;

/// Whose credits are adjusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// A user's, of the present period.
    User(UserId, Period),
    /// Those of a sponsored allowance, of its total.
    Sponsored(SponsoredId),
}

/// What an adjustment has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjusted {
    /// The account.
    pub account: AccountKey,
    /// What was added to its spending; less than nothing for a grant.
    pub charge: Credits,
    /// The account as it is now.
    pub now: Account,
    /// Its limit.
    pub limit: Credits,
}

/// Which way credits go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// More can be spent.
    Grant,
    /// Less can be spent.
    Revoke,
}

/// Who is meant by a user's id, e-mail address or name, or by the name or id of a sponsored allowance.
///
/// # Errors
/// [`Error::NotFound`] for nobody, [`Error::Conflict`] for both a user and an allowance.
pub async fn find(
    database: &Database,
    clock: &dyn Clock,
    which: &str,
    period: Period,
) -> Result<Whose, Error> {
    let sponsored = sponsored(database, clock, which).await;
    match (users::one(database, which).await, sponsored) {
        (Ok(_), Ok(_)) => Err(Error::Conflict {
            what: format!(
                "`{which}` is a user and a sponsored allowance; say which with --user or --sponsored, or give an id"
            ),
        }),
        (Ok(user), Err(Error::NotFound { .. })) => Ok(Whose::User(user.id, period)),
        (Err(Error::NotFound { .. }), Ok(sponsored)) => Ok(sponsored),
        (Err(Error::NotFound { name, .. }), Err(Error::NotFound { .. })) => Err(Error::NotFound {
            what: "user or sponsored allowance",
            name,
            hint: "; `owui-token-tracking user list` and `sponsored list` show all".into(),
        }),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

/// The sponsored allowance with that name or id.
///
/// # Errors
/// [`Error::NotFound`] if there is none.
pub async fn sponsored(database: &Database, clock: &dyn Clock, which: &str) -> Result<Whose, Error> {
    let snapshot = Snapshot::of(database, clock).await?;
    let by_id = which.parse().ok().and_then(|id| snapshot.sponsored(id));
    let found = snapshot.sponsored_named(which).or(by_id).map(|allowance| Whose::Sponsored(allowance.id));
    found.ok_or_else(|| Error::NotFound {
        what: "sponsored allowance",
        name: which.to_owned(),
        hint: "; `owui-token-tracking sponsored list` shows all".into(),
    })
}

/// Grants credits, or revokes them.
///
/// # Errors
/// [`Error::Invalid`] for an amount that is not above zero, for no reason, and for a period in which the user has no limit.
pub async fn adjust(
    database: &Database,
    clock: &dyn Clock,
    whose: &Whose,
    direction: Direction,
    amount: Credits,
    reason: &str,
) -> Result<Adjusted, Error> {
    if amount <= Credits::ZERO || amount > Credits::from_whole(MOST)? {
        let what = format!(
            "{amount} can't be granted or revoked: write an amount of credits above zero, such as 50"
        );
        return Err(Error::Invalid { what });
    }
    let (action, charge) = match direction {
        Direction::Grant => ("credits grant", Credits::ZERO.minus(amount)?),
        Direction::Revoke => ("credits revoke", amount),
    };
    let place = Place::of(database, clock, whose).await?;
    place.write(database, action, reason, |_| Ok(charge)).await
}

/// Begins a user's day anew: what was spent today is spent no more. In the week and the month it still is.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn reset(
    database: &Database,
    clock: &dyn Clock,
    user: &UserId,
    reason: &str,
) -> Result<Adjusted, Error> {
    let place = Place::of(database, clock, &Whose::User(user.clone(), Period::Day)).await?;
    place.write(database, "credits reset", reason, |account| Credits::ZERO.minus(account.spent)).await
}

/// Where an adjustment is booked.
struct Place {
    account: AccountKey,
    limit: Credits,
    subject: String,
    day: Day,
    at: Timestamp,
}

impl Place {
    async fn of(database: &Database, clock: &dyn Clock, whose: &Whose) -> Result<Self, Error> {
        let snapshot = Snapshot::of(database, clock).await?;
        let at = clock.now();
        let day = snapshot.settings().zone()?.day(at);
        Ok(match whose {
            Whose::User(user, period) => {
                let limit = snapshot.limits(user).of(*period).ok_or_else(|| Error::Invalid {
                    what: format!(
                        "{user} has no {0} limit, so there is nothing to grant or revoke for the {period}: set one with \
                         `owui-token-tracking settings set base_{0}_allowance` or `credit-group update --{0}`, or adjust \
                         the day",
                        period.adjective()
                    ),
                })?;
                let account = AccountKey::of_user(*period, day, user.clone());
                Self { account, limit, subject: user.to_string(), day, at }
            }
            Whose::Sponsored(sponsored) => {
                let allowance = snapshot
                    .sponsored(*sponsored)
                    .ok_or_else(|| Error::not_found("sponsored allowance", sponsored))?;
                let account = AccountKey::SponsoredTotal { sponsored: *sponsored };
                Self { account, limit: allowance.total, subject: allowance.name.clone(), day, at }
            }
        })
    }

    async fn write(
        &self,
        database: &Database,
        action: &str,
        reason: &str,
        charge: impl Fn(Account) -> Result<Credits, accounting::Error>,
    ) -> Result<Adjusted, Error> {
        let reason = reason.trim();
        if check_name(reason, "a reason", LONGEST_REASON).is_err() {
            let what = format!(
                "say why, with --reason, in 1 to {LONGEST_REASON} characters, none of them a line end or invisible"
            );
            return Err(Error::Invalid { what });
        }
        let Self { account, limit, subject, day, at } = self;
        let _turn = Turn::take(database).await;
        Ok(in_transaction!(database, transaction => {
            let before = lock_account!(transaction, database, account);
            let charge = charge(before)?;
            let kind = EntryKind::Adjustment;
            let mut now = before;
            if charge != Credits::ZERO {
                let booking = Booking { kind, account, day: *day, charge, reason: Some(reason), at: *at };
                now = book!(transaction, database, before, booking);
                let key = account.to_string();
                note!(transaction, database, Change {
                    action,
                    subject,
                    before: Some(json!({ "account": key, "spent": before.spent })),
                    after: Some(json!({ "account": key, "spent": now.spent, "reason": reason })),
                });
            }
            Adjusted { account: account.clone(), charge, now, limit: *limit }
        }))
    }
}
