//! Calendar days, weeks and months in an IANA time zone, also where clocks change. A request belongs to the periods of its
//! admission.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Error;

/// The time zone in which days begin and end.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone(TimeZone);

/// One local calendar day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(Date);

/// For how long a limit holds before it starts afresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// A calendar day.
    Day,
    /// A calendar week, from Monday on.
    Week,
    /// A calendar month.
    Month,
}

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Self = Self(TimeZone::UTC);

    /// The zone with that IANA name, such as `Europe/Berlin`.
    pub fn named(name: &str) -> Result<Self, Error> {
        TimeZone::get(name).map(Self).map_err(|_| Error::NotAZone(name.to_owned()))
    }

    /// That zone.
    pub fn new(zone: TimeZone) -> Self {
        Self(zone)
    }

    /// Its IANA name, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.0.iana_name()
    }

    /// The day in which `now` falls here.
    pub fn day(&self, now: Timestamp) -> Day {
        Day(self.0.to_datetime(now).date())
    }

    /// What clocks here show at that moment.
    pub fn local(&self, moment: Timestamp) -> DateTime {
        self.0.to_datetime(moment)
    }

    /// When clocks here show that: the first time, if they do so twice; as if they had not been set forward, if they never do.
    pub fn at(&self, local: DateTime) -> Option<Timestamp> {
        self.0.to_timestamp(local).ok()
    }

    /// When that day begins here: its first moment, also where clocks change at midnight.
    pub fn start_of(&self, day: Day) -> Result<Timestamp, Error> {
        let start = day.0.to_zoned_datetime(self.0.clone()).and_then(|zoned| zoned.start_of_day());
        start
            .map(|zoned| zoned.timestamp())
            .map_err(|_| Error::Malformed(day.to_string(), "day with a beginning"))
    }

    /// When that day ends here: the first moment of the next, whichever daylight-saving change lies between.
    pub fn end_of(&self, day: Day) -> Result<Timestamp, Error> {
        self.end_of_period(Period::Day, day)
    }

    /// When the period that holds that day ends here.
    pub fn end_of_period(&self, period: Period, day: Day) -> Result<Timestamp, Error> {
        self.start_of(period.next(day)?)
    }

    /// `moment` as people here write it: `2026-03-29 00:00:00 CET`.
    pub fn show(&self, moment: Timestamp) -> String {
        moment.to_zoned_datetime(self.0.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
    }
}

impl Period {
    /// All of them, shortest first.
    pub const ALL: [Self; 3] = [Self::Day, Self::Week, Self::Month];

    /// Its name: `day`, `week`, `month`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// As a property of a limit: `daily`, `weekly`, `monthly`.
    pub const fn adjective(self) -> &'static str {
        match self {
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
        }
    }

    /// The first day of the period that holds that day.
    pub fn first(self, day: Day) -> Day {
        match self {
            Self::Day => day,
            // Only before the first Monday of the calendar, in the year -9999, is there none.
            Self::Week if day.0.weekday() == Weekday::Monday => day,
            Self::Week => day.0.nth_weekday(-1, Weekday::Monday).map_or(day, Day),
            Self::Month => Day(day.0.first_of_month()),
        }
    }

    /// The first day of the period after the one that holds that day.
    pub fn next(self, day: Day) -> Result<Day, Error> {
        let step = match self {
            Self::Day => 1.day(),
            Self::Week => 1.week(),
            Self::Month => 1.month(),
        };
        let next = self.first(day).0.checked_add(step);
        next.map(Day).map_err(|_| Error::Malformed(day.to_string(), "day with a successor"))
    }

    /// The days of the period that holds that day.
    pub fn days(self, day: Day) -> Result<Vec<Day>, Error> {
        let (first, next) = (self.first(day), self.next(day)?);
        Ok(first.0.series(1.day()).map(Day).take_while(|day| *day < next).collect())
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Period {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|period| period.name() == text);
        found.ok_or_else(|| Error::Malformed(text.to_owned(), "period (day, week or month)"))
    }
}

impl Day {
    /// That calendar date.
    pub const fn new(date: Date) -> Self {
        Self(date)
    }

    /// As a calendar date.
    pub const fn date(self) -> Date {
        self.0
    }
}

impl fmt::Display for Day {
    /// `YYYY-MM-DD`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

impl FromStr for Day {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        text.parse().map(Self).map_err(|_| Error::Malformed(text.to_owned(), "day (YYYY-MM-DD)"))
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// (zone, a moment, its day, the end of that day)
    const DAYS: [(&str, &str, &str, &str); 8] = [
        ("UTC", "2026-11-24T23:59:59.999999Z", "2026-11-24", "2026-11-25T00:00:00Z"),
        // 23 hours: clocks go forward at 02:00.
        ("Europe/Berlin", "2026-03-28T23:00:00Z", "2026-03-29", "2026-03-29T22:00:00Z"),
        // 25 hours: clocks go back at 03:00.
        ("Europe/Berlin", "2026-10-24T22:00:00Z", "2026-10-25", "2026-10-25T23:00:00Z"),
        ("America/New_York", "2026-03-08T05:00:00Z", "2026-03-08", "2026-03-09T04:00:00Z"),
        ("America/New_York", "2026-11-01T04:00:00Z", "2026-11-01", "2026-11-02T05:00:00Z"),
        ("Asia/Kathmandu", "2026-06-01T18:14:59Z", "2026-06-01", "2026-06-01T18:15:00Z"),
        // Clocks go forward at midnight: the day begins at 01:00.
        ("Asia/Beirut", "2026-03-28T21:59:59Z", "2026-03-28", "2026-03-28T22:00:00Z"),
        // A day that Samoa never had lies between these two.
        ("Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29", "2011-12-30T10:00:00Z"),
    ];

    #[test]
    fn days_begin_and_end_with_the_clocks_of_the_zone() {
        for (zone, moment, day, end) in DAYS {
            let zone = Zone::named(zone).unwrap();
            assert_eq!(zone.day(at(moment)).to_string(), day, "{zone:?} {moment}");
            assert_eq!(zone.end_of(day.parse().unwrap()).unwrap(), at(end), "{zone:?} {moment}");
        }
    }

    /// (zone, a day, the period that holds it, its first day, its first moment, the first moment after it)
    const PERIODS: [(&str, &str, Period, &str, &str, &str); 10] = [
        // 167 hours: clocks go forward on its Sunday; and 743.
        (
            "Europe/Berlin",
            "2026-03-29",
            Period::Week,
            "2026-03-23",
            "2026-03-22T23:00:00Z",
            "2026-03-29T22:00:00Z",
        ),
        (
            "Europe/Berlin",
            "2026-03-01",
            Period::Month,
            "2026-03-01",
            "2026-02-28T23:00:00Z",
            "2026-03-31T22:00:00Z",
        ),
        // 169 hours: clocks go back on its Sunday; and 745.
        (
            "Europe/Berlin",
            "2026-10-19",
            Period::Week,
            "2026-10-19",
            "2026-10-18T22:00:00Z",
            "2026-10-25T23:00:00Z",
        ),
        (
            "Europe/Berlin",
            "2026-10-31",
            Period::Month,
            "2026-10-01",
            "2026-09-30T22:00:00Z",
            "2026-10-31T23:00:00Z",
        ),
        (
            "America/New_York",
            "2026-03-08",
            Period::Week,
            "2026-03-02",
            "2026-03-02T05:00:00Z",
            "2026-03-09T04:00:00Z",
        ),
        // Clocks go back on the first day of the month, the last of its week.
        (
            "America/New_York",
            "2026-11-01",
            Period::Week,
            "2026-10-26",
            "2026-10-26T04:00:00Z",
            "2026-11-02T05:00:00Z",
        ),
        (
            "America/New_York",
            "2026-11-30",
            Period::Month,
            "2026-11-01",
            "2026-11-01T04:00:00Z",
            "2026-12-01T05:00:00Z",
        ),
        (
            "Asia/Kathmandu",
            "2026-12-31",
            Period::Week,
            "2026-12-28",
            "2026-12-27T18:15:00Z",
            "2027-01-03T18:15:00Z",
        ),
        (
            "Asia/Kathmandu",
            "2028-02-29",
            Period::Month,
            "2028-02-01",
            "2028-01-31T18:15:00Z",
            "2028-02-29T18:15:00Z",
        ),
        // Clocks go forward at midnight, and the week begins on a Monday at midnight all the same.
        (
            "Asia/Beirut",
            "2026-03-29",
            Period::Week,
            "2026-03-23",
            "2026-03-22T22:00:00Z",
            "2026-03-29T21:00:00Z",
        ),
    ];

    #[test]
    fn weeks_and_months_begin_and_end_with_the_clocks_of_the_zone() {
        for (zone, day, period, first, start, end) in PERIODS {
            let (zone, day): (_, Day) = (Zone::named(zone).unwrap(), day.parse().unwrap());
            assert_eq!(period.first(day).to_string(), first, "{zone:?} {day} {period}");
            assert_eq!(zone.start_of(period.first(day)).unwrap(), at(start), "{zone:?} {day} {period}");
            assert_eq!(zone.end_of_period(period, day).unwrap(), at(end), "{zone:?} {day} {period}");
        }
    }

    proptest! {
        #[test]
        fn every_moment_lies_in_one_period_of_each_kind(
            zone in prop::sample::select(&["Europe/Berlin", "America/New_York", "Asia/Kathmandu"][..]),
            second in 1_700_000_000_i64..2_000_000_000,
        ) {
            let (zone, now) = (Zone::named(zone).unwrap(), Timestamp::from_second(second).unwrap());
            let day = zone.day(now);
            for period in Period::ALL {
                let (first, next) = (period.first(day), period.next(day).unwrap());
                prop_assert!(zone.start_of(first).unwrap() <= now && now < zone.end_of_period(period, day).unwrap());
                prop_assert_eq!(period.first(first), first);
                prop_assert_eq!(period.first(next), next);
                let days = period.days(day).unwrap();
                prop_assert_eq!((days[0], Period::Day.next(days[days.len() - 1]).unwrap()), (first, next));
                prop_assert!(days.iter().all(|day| period.first(*day) == first));
                prop_assert!(period != Period::Week || days.len() == 7);
            }
        }
    }

    #[test]
    fn unknown_zones_are_named() {
        assert_eq!(Zone::named("Mars/Olympus"), Err(Error::NotAZone("Mars/Olympus".into())));
    }
}
