//! The settings: which there are, what they mean, and what may be written into them. They live in the original's table,
//! as text.

use std::collections::BTreeMap;
use std::time::Duration;

use accounting::{Credits, Policy, Zone};
use jiff::tz::TimeZone;

use crate::groups::Limits;
use crate::{Error, nearest};

/// All settings, read.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Every user's daily credits; `None` if nobody set it, and then nothing is served.
    pub base_credit_allowance: Option<Credits>,
    /// Every user's weekly credits; `None` for no weekly limit.
    pub base_weekly_allowance: Option<Credits>,
    /// Every user's monthly credits; `None` for no monthly limit.
    pub base_monthly_allowance: Option<Credits>,
    /// The rule of admission.
    pub admission_policy: Policy,
    /// Output tokens for which a hold is estimated at most.
    pub hold_output_tokens: u64,
    /// How long a request waits for other holds of its user.
    pub hold_wait: Duration,
    /// Fewer output tokens than this are not worth sending under the strict policy.
    pub strict_min_output: u64,
    /// Where days begin and end.
    pub timezone: Zone,
    /// What becomes of models without a price.
    pub unpriced_models: Unpriced,
    /// Credits for one USD, if answers are to name their cost.
    pub credits_per_usd: Option<Credits>,
    /// Why settings whose values can't be used can't be, by their keys.
    unusable: BTreeMap<String, Error>,
}

/// What becomes of models without a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unpriced {
    /// Refused, with the command that adds a price.
    Refuse,
    /// Served for nothing, and logged.
    Free,
    /// Charged at the default price.
    Default,
}

/// The setting of every user's daily credits, which the original has too.
const BASE: &str = "base_credit_allowance";
/// The settings of the default price.
pub(crate) const DEFAULT_INPUT: &str = "default_input_price";
pub(crate) const DEFAULT_OUTPUT: &str = "default_output_price";

/// A setting as people see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownSetting {
    /// Its key.
    pub key: &'static str,
    /// Its value where nobody set it; empty for none.
    pub default: &'static str,
    /// What it means, with its unit.
    pub description: &'static str,
}

/// All settings there are.
pub const KNOWN: [KnownSetting; 12] = [
    KnownSetting {
        key: "base_credit_allowance",
        default: "",
        description: "Baseline credit allowance for all users, in credits per day.",
    },
    KnownSetting {
        key: "base_weekly_allowance",
        default: "none",
        description: "Weekly limit of all users beside the daily one, in credits; or none.",
    },
    KnownSetting {
        key: "base_monthly_allowance",
        default: "none",
        description: "Monthly limit of all users beside the daily one, in credits; or none.",
    },
    KnownSetting {
        key: "admission_policy",
        default: "one_credit",
        description: "one_credit: sent while a credit is free; strict: sent only if the worst case is covered.",
    },
    KnownSetting {
        key: "hold_output_tokens",
        default: "4096",
        description: "Output tokens for which a hold is estimated at most (policy one_credit).",
    },
    KnownSetting {
        key: "hold_wait",
        default: "20",
        description: "Seconds that a request waits for credits held by other requests of the same user.",
    },
    KnownSetting {
        key: "strict_min_output",
        default: "256",
        description: "Output tokens that must be affordable at least (policy strict).",
    },
    KnownSetting {
        key: "timezone",
        default: "",
        description: "IANA time zone in which days begin and end; by default the system's.",
    },
    KnownSetting {
        key: "unpriced_models",
        default: "refuse",
        description: "Models without a price: refuse, free, or default (charged at the default price).",
    },
    KnownSetting {
        key: DEFAULT_INPUT,
        default: "",
        description: "The default price: credits for a million input tokens.",
    },
    KnownSetting {
        key: DEFAULT_OUTPUT,
        default: "",
        description: "The default price: credits for a million output tokens.",
    },
    KnownSetting {
        key: "credits_per_usd",
        default: "",
        description: "Credits for one USD; if set, answers name their cost in USD.",
    },
];

const MOST_SECONDS: u64 = 3600;
const MOST_TOKENS: u64 = 10_000_000;

impl Settings {
    /// What holds where nobody set anything.
    pub fn defaults() -> Self {
        Self {
            base_credit_allowance: None,
            base_weekly_allowance: None,
            base_monthly_allowance: None,
            admission_policy: Policy::OneCredit,
            hold_output_tokens: 4096,
            hold_wait: Duration::from_secs(20),
            strict_min_output: 256,
            timezone: Zone::new(TimeZone::system()),
            unpriced_models: Unpriced::Refuse,
            credits_per_usd: None,
            unusable: BTreeMap::new(),
        }
    }

    /// Notes that a setting has a value that can't be used.
    pub(crate) fn refuse(&mut self, key: String, why: &Error) {
        let error = Error::BadSetting { key: key.clone(), why: why.to_string() };
        self.unusable.insert(key, error);
    }

    /// Those that can't be used.
    pub(crate) fn unusable(&self) -> impl Iterator<Item = &Error> {
        self.unusable.values()
    }

    /// Makes sure that these settings can be used, for what depends on them.
    ///
    /// # Errors
    /// [`Error::BadSetting`] for the first that can't.
    pub fn require(&self, keys: &[&str]) -> Result<(), Error> {
        keys.iter().find_map(|key| self.unusable.get(*key)).map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Where days begin and end.
    ///
    /// # Errors
    /// [`Error::BadSetting`] if the setting can't be used.
    pub fn zone(&self) -> Result<&Zone, Error> {
        self.require(&["timezone"])?;
        Ok(&self.timezone)
    }

    /// What all users are granted, whatever groups they are in.
    pub fn base(&self) -> Limits {
        Limits {
            daily: self.base_credit_allowance.unwrap_or_default(),
            weekly: self.base_weekly_allowance,
            monthly: self.base_monthly_allowance,
        }
    }

    /// Sets one as the table has it. What the original took for a number as the base allowance counts as it did there: `1_500`,
    /// and `-5`, with which nobody has anything but what their groups add.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn read(&mut self, key: &str, value: &str) -> Result<(), Error> {
        match self.set(key, value) {
            Err(error) if key == BASE => match whole_number(value) {
                Some(credits) => {
                    self.base_credit_allowance = Some(credits);
                    Ok(())
                }
                None => Err(error),
            },
            done => done,
        }
    }

    /// Sets one from its text.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown key, [`Error::Invalid`] for a value that it can't have.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), Error> {
        let wrong = |allowed: &str| Error::Invalid {
            what: format!("`{value}` can't be the value of {key}: {allowed}"),
        };
        let count = |most: u64| {
            let allowed = format!("write a whole number from 0 to {most}");
            value.trim().parse::<u64>().ok().filter(|count| *count <= most).ok_or_else(|| wrong(&allowed))
        };
        let credits = || {
            let credits = value.parse::<Credits>().ok().filter(|credits| !credits.is_negative());
            credits.ok_or_else(|| wrong("write an amount of credits, such as 1000 or 12.5"))
        };
        // NULL in the table is no value.
        let cap = || match value {
            "" | "none" => Ok(None),
            _ => credits().map(Some).map_err(|_| wrong("write an amount of credits, such as 5000, or none")),
        };
        match key {
            "base_credit_allowance" => self.base_credit_allowance = Some(credits()?),
            "base_weekly_allowance" => self.base_weekly_allowance = cap()?,
            "base_monthly_allowance" => self.base_monthly_allowance = cap()?,
            "admission_policy" => {
                self.admission_policy = match value {
                    "one_credit" => Policy::OneCredit,
                    "strict" => Policy::Strict,
                    _ => return Err(wrong("write one_credit or strict")),
                };
            }
            "hold_output_tokens" => self.hold_output_tokens = count(MOST_TOKENS)?,
            "hold_wait" => self.hold_wait = Duration::from_secs(count(MOST_SECONDS)?),
            "strict_min_output" => self.strict_min_output = count(MOST_TOKENS)?,
            "timezone" => self.timezone = Zone::named(value)?,
            "unpriced_models" => {
                self.unpriced_models = match value {
                    "refuse" => Unpriced::Refuse,
                    "free" => Unpriced::Free,
                    "default" => Unpriced::Default,
                    _ => return Err(wrong("write refuse, free or default")),
                };
            }
            // The price itself is a version in the price table, so that history keeps it.
            DEFAULT_INPUT | DEFAULT_OUTPUT => {
                credits()?;
            }
            "credits_per_usd" => {
                let rate = credits()?;
                if rate == Credits::ZERO {
                    return Err(wrong("write an amount above zero, such as 1000"));
                }
                self.credits_per_usd = Some(rate);
            }
            _ => return Err(unknown(key)),
        }
        Ok(())
    }
}

/// A whole number of credits as Python reads one: with a sign, and with single `_` between digits.
fn whole_number(text: &str) -> Option<Credits> {
    let text = text.trim();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    digits.split('_').all(is_number).then(|| text.replace('_', "").parse().ok()).flatten()
}

/// The error for a key that is no setting, naming the nearest one.
pub(crate) fn unknown(key: &str) -> Error {
    let names = KNOWN.iter().map(|known| known.key);
    let hint = nearest::hint(key, names, "`owui-token-tracking settings list` shows all");
    Error::NotFound { what: "setting", name: key.to_owned(), hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked() {
        let mut settings = Settings::defaults();
        for (key, value) in [
            ("base_credit_allowance", "-1"),
            ("base_credit_allowance", "lots"),
            ("base_weekly_allowance", "-1"),
            ("base_monthly_allowance", "some"),
            ("admission_policy", "lax"),
            ("hold_wait", "3601"),
            ("hold_wait", "1.5"),
            ("timezone", "Mars/Olympus"),
            ("credits_per_usd", "0"),
        ] {
            assert!(settings.set(key, value).is_err(), "{key}={value}");
        }
        settings.set("base_credit_allowance", "12.5").unwrap();
        assert_eq!(settings.base_credit_allowance, Some(Credits::from_micro(12_500_000)));
    }

    #[test]
    fn the_base_allowance_is_read_as_the_original_read_it() {
        for (value, credits) in [
            ("-5", Some(-5)),
            ("1_500", Some(1500)),
            (" +1_0 ", Some(10)),
            ("1500.0", Some(1500)),
            ("12", Some(12)),
        ] {
            let mut settings = Settings::defaults();
            settings.read("base_credit_allowance", value).unwrap();
            let expected = credits.map(|credits| Credits::from_whole(credits).unwrap());
            assert_eq!(settings.base_credit_allowance, expected, "{value}");
        }
        for value in ["", "lots", "1__5", "_1", "1_", "-", "1_500.5"] {
            assert!(Settings::defaults().read("base_credit_allowance", value).is_err(), "{value}");
        }
        assert!(Settings::defaults().read("hold_wait", "-5").is_err());
    }

    #[test]
    fn unknown_keys_name_the_nearest() {
        let message = Settings::defaults().set("base_credit_allowence", "1").unwrap_err().to_string();
        assert!(message.contains("did you mean `base_credit_allowance`?"), "{message}");
    }

    #[test]
    fn every_known_setting_can_be_set() {
        for known in KNOWN {
            if !known.default.is_empty() {
                Settings::defaults().set(known.key, known.default).unwrap();
            }
        }
    }
}
