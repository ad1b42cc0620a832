//! Accounts: counters with a limit, on which credits are spent and held.

use std::fmt;
use std::str::FromStr;

use crate::{Credits, Day, Error, SponsoredId, UserId};

/// Which account: its scope, its kind and the local day of admission.
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
const SPONSORED_USER: &str = "sponsored-user-day";
const SPONSORED_TOTAL: &str = "sponsored-total";

impl AccountKey {
    /// The kind of account, as the database names it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::User { .. } => USER,
            Self::SponsoredUser { .. } => SPONSORED_USER,
            Self::SponsoredTotal { .. } => SPONSORED_TOTAL,
        }
    }

    /// The user whose account it is, if it is one user's.
    pub const fn user(&self) -> Option<&UserId> {
        match self {
            Self::User { user, .. } | Self::SponsoredUser { user, .. } => Some(user),
            Self::SponsoredTotal { .. } => None,
        }
    }

    /// The sponsored allowance that it belongs to.
    pub const fn sponsored(&self) -> Option<SponsoredId> {
        match self {
            Self::User { .. } => None,
            Self::SponsoredUser { sponsored, .. } | Self::SponsoredTotal { sponsored } => Some(*sponsored),
        }
    }

    /// The day it counts, if it counts one day.
    pub const fn day(&self) -> Option<Day> {
        match self {
            Self::User { day, .. } | Self::SponsoredUser { day, .. } => Some(*day),
            Self::SponsoredTotal { .. } => None,
        }
    }
}

impl fmt::Display for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { day, user } => write!(f, "{USER}:{day}:{user}"),
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
        match kind {
            USER => {
                let (day, user) = rest.split_once(':').ok_or_else(wrong)?;
                Ok(Self::User { day: day.parse()?, user: UserId::new(user)? })
            }
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
            AccountKey::SponsoredUser { day, sponsored, user },
            AccountKey::SponsoredTotal { sponsored },
        ] {
            assert_eq!(key.to_string().parse::<AccountKey>().unwrap(), key);
        }
        assert!("user-day:2026-13-01:x".parse::<AccountKey>().is_err());
        assert!("nonsense".parse::<AccountKey>().is_err());
    }
}
