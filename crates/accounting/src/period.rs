//! Calendar days in an IANA time zone, also the 23- and 25-hour ones. A request belongs to the day of its admission.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, DateTime};
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

    /// When that day ends here: the first moment of the next, whichever daylight-saving change lies between.
    pub fn end_of(&self, day: Day) -> Result<Timestamp, Error> {
        let next = day
            .0
            .checked_add(1.day())
            .map_err(|_| Error::Malformed(day.to_string(), "day with a successor"))?;
        let start = next.to_zoned_datetime(self.0.clone()).and_then(|zoned| zoned.start_of_day());
        start.map(|zoned| zoned.timestamp()).map_err(|_| Error::Malformed(day.to_string(), "day with an end"))
    }

    /// `moment` as people here write it: `2026-03-29 00:00:00 CET`.
    pub fn show(&self, moment: Timestamp) -> String {
        moment.to_zoned_datetime(self.0.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
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

    #[test]
    fn unknown_zones_are_named() {
        assert_eq!(Zone::named("Mars/Olympus"), Err(Error::NotAZone("Mars/Olympus".into())));
    }
}
