//! Money. [`Credits`] counts whole microcredits; all arithmetic is checked, and nothing here is a float.

use std::fmt;
use std::iter::Sum;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Error;

const MICRO: i64 = 1_000_000;

/// An amount of credits in whole microcredits (1 credit = 1,000,000 microcredits; recommended: 1000 credits = 1 USD).
///
/// Shown and read as a decimal number of credits. In JSON it is written as text, so that no reader makes a float of
/// it by accident; who must write a JSON number uses its decimal form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Credits(i64);

impl Credits {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// One credit.
    pub const ONE: Self = Self(MICRO);
    /// The largest amount.
    pub const MAX: Self = Self(i64::MAX);

    /// That many microcredits.
    pub const fn from_micro(microcredits: i64) -> Self {
        Self(microcredits)
    }

    /// That many whole credits.
    pub fn from_whole(credits: i64) -> Result<Self, Error> {
        credits.checked_mul(MICRO).map(Self).ok_or(Error::Overflow)
    }

    /// That many whole credits, or the amount of that sign that is nearest: for limits, where more than all is all.
    pub const fn saturating_from_whole(credits: i64) -> Self {
        Self(credits.saturating_mul(MICRO))
    }

    /// The sum, or the amount that is nearest: for limits.
    #[must_use]
    pub const fn saturating_plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// In microcredits.
    pub const fn micro(self) -> i64 {
        self.0
    }

    /// In whole credits, rounded down.
    pub const fn whole(self) -> i64 {
        self.0.div_euclid(MICRO)
    }

    /// The sum, or an error if it leaves the range.
    pub fn plus(self, other: Self) -> Result<Self, Error> {
        self.0.checked_add(other.0).map(Self).ok_or(Error::Overflow)
    }

    /// The difference, or an error if it leaves the range.
    pub fn minus(self, other: Self) -> Result<Self, Error> {
        self.0.checked_sub(other.0).map(Self).ok_or(Error::Overflow)
    }

    /// The sum of many, or an error if it leaves the range.
    pub fn total(all: impl IntoIterator<Item = Self>) -> Result<Self, Error> {
        let sum: i128 = all.into_iter().map(|credits| i128::from(credits.0)).sum();
        i64::try_from(sum).map(Self).map_err(|_| Error::Overflow)
    }

    /// Whether this is less than nothing.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }
}

impl Sum<Credits> for Result<Credits, Error> {
    fn sum<I: Iterator<Item = Credits>>(iter: I) -> Self {
        Credits::total(iter)
    }
}

impl fmt::Display for Credits {
    /// The exact decimal, without trailing zeros: `12`, `0.000001`, `-3.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.unsigned_abs();
        let (whole, part) = (magnitude / MICRO.unsigned_abs(), magnitude % MICRO.unsigned_abs());
        let mut text = whole.to_string();
        if part != 0 {
            text.push('.');
            text.push_str(format!("{part:06}").trim_end_matches('0'));
        }
        f.pad_integral(self.0 >= 0, "", &text)
    }
}

impl FromStr for Credits {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::NotCredits(text.to_owned());
        let trimmed = text.trim();
        let (sign, digits) = match trimmed.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, trimmed.strip_prefix('+').unwrap_or(trimmed)),
        };
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() && part.is_empty() || !all_digits(whole) || !all_digits(part) {
            return Err(wrong());
        }
        let part = part.trim_end_matches('0');
        if part.len() > 6 {
            return Err(wrong());
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| Error::Overflow)? };
        let part: i128 = format!("{part:0<6}").parse().map_err(|_| wrong())?;
        let micro = whole
            .checked_mul(i128::from(MICRO))
            .and_then(|micro| micro.checked_add(part))
            .ok_or(Error::Overflow)?;
        i64::try_from(sign * micro).map(Self).map_err(|_| Error::Overflow)
    }
}

impl Serialize for Credits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Credits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shown_exactly() {
        let shown = |micro| Credits::from_micro(micro).to_string();
        assert_eq!(shown(0), "0");
        assert_eq!(shown(1), "0.000001");
        assert_eq!(shown(-3_500_000), "-3.5");
        assert_eq!(shown(i64::MIN), "-9223372036854.775808");
        assert_eq!(format!("{:>6}", Credits::ONE), "     1");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", ".", "1.0000001", "1e3", "NaN", "--1", "1,5", "९"] {
            assert!(matches!(text.parse::<Credits>(), Err(Error::NotCredits(_))), "{text}");
        }
        assert_eq!("9223372036854.775808".parse::<Credits>(), Err(Error::Overflow));
        assert_eq!("1.50000000".parse::<Credits>(), Ok(Credits::from_micro(1_500_000)));
    }

    #[test]
    fn sums_never_wrap() {
        assert_eq!(Credits::MAX.plus(Credits::from_micro(1)), Err(Error::Overflow));
        assert_eq!(Credits::from_whole(i64::MAX), Err(Error::Overflow));
        assert_eq!(Credits::total([Credits::MAX, Credits::MAX]), Err(Error::Overflow));
    }

    proptest! {
        #[test]
        fn text_round_trips(micro: i64) {
            let credits = Credits::from_micro(micro);
            prop_assert_eq!(credits.to_string().parse::<Credits>(), Ok(credits));
        }
    }
}
