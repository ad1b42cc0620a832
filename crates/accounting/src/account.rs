//! Accounts: counters with a limit, on which credits are spent and held.

use std::fmt;
use std::str::FromStr;

use crate::{Credits, Day, Error, Period, SponsoredId, UserId};

/// Which account: its scope, its kind and the local period of admission.
///
/// The database keeps its text form, which is also the order in which accounts are locked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AccountKey {
    /// What a user draws on one day.
    User {
        /// The day.
        day: Day,
        /// The user.
        user: UserId,
    },
    /// What a user draws in one week.
    UserWeek {
        /// Its Monday.
        week: Day,
        /// The user.
        user: UserId,
    },
    /// What a user draws in one month.
    UserMonth {
        /// Its first day.
        month: Day,
        /// The user.
        user: UserId,
    },
    /// What a user draws on a sponsored allowance on one day.
    SponsoredUser {
        /// The day.
        day: Day,
        /// The sponsored allowance.
        sponsored: SponsoredId,
        /// The user.
        user: UserId,
    },
    /// What all users together draw on a sponsored allowance, for ever.
    SponsoredTotal {
        /// The sponsored allowance.
        sponsored: SponsoredId,
    },
}

/// An account with the limit that holds for one request; without one it only counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountLimit {
    /// The account.
    pub account: AccountKey,
    /// Its limit, `None` if unlimited.
    pub limit: Option<Credits>,
}

/// The state of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Account {
    /// The sum of its ledger rows.
    pub spent: Credits,
    /// The sum of its open holds.
    pub held: Credits,
}

impl Account {
    /// limit − spent − held; negative if the limit was lowered or a hold was estimated too low.
    pub fn free(&self, limit: Credits) -> Result<Credits, Error> {
        self.unspent(limit)?.minus(self.held)
    }

    /// limit − spent: what would be free if nothing were held.
    pub fn unspent(&self, limit: Credits) -> Result<Credits, Error> {
        limit.minus(self.spent)
    }
}

const USER: &str = "user-day";
const USER_WEEK: &str = "user-week";
const USER_MONTH: &str = "user-month";
const SPONSORED_USER: &str = "sponsored-user-day";
const SPONSORED_TOTAL: &str = "sponsored-total";

impl AccountKey {
    /// A user's account of the period that holds that day.
    pub fn of_user(period: Period, day: Day, user: UserId) -> Self {
        let first = period.first(day);
        match period {
            Period::Day => Self::User { day, user },
            Period::Week => Self::UserWeek { week: first, user },
            Period::Month => Self::UserMonth { month: first, user },
        }
    }

    /// The kind of account, as the database names it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::User { .. } => USER,
            Self::UserWeek { .. } => USER_WEEK,
            Self::UserMonth { .. } => USER_MONTH,
            Self::SponsoredUser { .. } => SPONSORED_USER,
            Self::SponsoredTotal { .. } => SPONSORED_TOTAL,
        }
    }

    /// The user whose account it is, if it is one user's.
    pub const fn user(&self) -> Option<&UserId> {
        match self {
            Self::User { user, .. }
            | Self::UserWeek { user, .. }
            | Self::UserMonth { user, .. }
            | Self::SponsoredUser { user, .. } => Some(user),
            Self::SponsoredTotal { .. } => None,
        }
    }

    /// The sponsored allowance that it belongs to.
    pub const fn sponsored(&self) -> Option<SponsoredId> {
        match self {
            Self::User { .. } | Self::UserWeek { .. } | Self::UserMonth { .. } => None,
            Self::SponsoredUser { sponsored, .. } | Self::SponsoredTotal { sponsored } => Some(*sponsored),
        }
    }

    /// The period that it counts, if it counts one, and the first day of it.
    pub const fn period(&self) -> Option<(Period, Day)> {
        match self {
            Self::User { day, .. } | Self::SponsoredUser { day, .. } => Some((Period::Day, *day)),
            Self::UserWeek { week, .. } => Some((Period::Week, *week)),
            Self::UserMonth { month, .. } => Some((Period::Month, *month)),
            Self::SponsoredTotal { .. } => None,
        }
    }

    /// The first day that it counts, if it counts a period.
    pub const fn day(&self) -> Option<Day> {
        match self.period() {
            Some((_, day)) => Some(day),
            None => None,
        }
    }
}

impl fmt::Display for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { day, user } => write!(f, "{USER}:{day}:{user}"),
            Self::UserWeek { week, user } => write!(f, "{USER_WEEK}:{week}:{user}"),
            Self::UserMonth { month, user } => write!(f, "{USER_MONTH}:{month}:{user}"),
            Self::SponsoredUser { day, sponsored, user } => {
                write!(f, "{SPONSORED_USER}:{day}:{sponsored}:{user}")
            }
            Self::SponsoredTotal { sponsored } => write!(f, "{SPONSORED_TOTAL}:{sponsored}"),
        }
    }
}

impl FromStr for AccountKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Malformed(text.to_owned(), "account key");
        let (kind, rest) = text.split_once(':').ok_or_else(wrong)?;
        let of_user = |period: Period| {
            let (day, user) = rest.split_once(':').ok_or_else(wrong)?;
            let (day, user) = (day.parse()?, UserId::new(user)?);
            if period.first(day) == day { Ok(Self::of_user(period, day, user)) } else { Err(wrong()) }
        };
        match kind {
            USER => of_user(Period::Day),
            USER_WEEK => of_user(Period::Week),
            USER_MONTH => of_user(Period::Month),
            SPONSORED_USER => {
                let (day, rest) = rest.split_once(':').ok_or_else(wrong)?;
                let (sponsored, user) = rest.split_once(':').ok_or_else(wrong)?;
                let (day, sponsored) = (day.parse()?, sponsored.parse()?);
                Ok(Self::SponsoredUser { day, sponsored, user: UserId::new(user)? })
            }
            SPONSORED_TOTAL => Ok(Self::SponsoredTotal { sponsored: rest.parse()? }),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip() {
        let day = "2026-11-24".parse().unwrap();
        let sponsored = SponsoredId::new(uuid::Uuid::from_u128(7));
        let user = UserId::new("a:b c").unwrap();
        for key in [
            AccountKey::User { day, user: user.clone() },
            AccountKey::of_user(Period::Week, day, user.clone()),
            AccountKey::of_user(Period::Month, day, user.clone()),
            AccountKey::SponsoredUser { day, sponsored, user },
            AccountKey::SponsoredTotal { sponsored },
        ] {
            assert_eq!(key.to_string().parse::<AccountKey>().unwrap(), key);
        }
        for wrong in
            ["user-day:2026-13-01:x", "user-week:2026-11-24:x", "user-month:2026-11-02:x", "nonsense"]
        {
            assert!(wrong.parse::<AccountKey>().is_err(), "{wrong}");
        }
        let week = AccountKey::of_user(Period::Week, day, UserId::new("ann").unwrap());
        assert_eq!(week.to_string(), "user-week:2026-11-23:ann");
    }
}
