//! What a server reports of a request's usage: counts, as it tells them, under the names that it gives them.
//!
//! * A field that is no count is passed over; it spoils no other.
//! * Reports grow: [`Report::grow`] is the one rule for all servers that tell more than one.
//! * A part that is larger than its whole is cut to it ([`Whole`]); the usage is marked as adjusted.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::unknown_numbers;

/// A count that servers report. Which of them lie within others is the matter of those who read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    /// Input tokens.
    Input,
    /// Output tokens.
    Output,
    /// Both.
    Total,
    /// Read from a cache, within the input.
    Cached,
    /// Read from a cache, as Anthropic counts it: beside the input.
    CacheRead,
    /// Written to a cache, beside the input.
    CacheWritten,
    /// Written to a cache, within the input.
    CacheWrittenWithin,
    /// Of what was written, that which is kept for minutes.
    CacheWrittenShort,
    /// Of what was written, that which is kept for an hour.
    CacheWrittenLong,
    /// Input tokens of sound.
    InputAudio,
    /// Input tokens of sound that came from a cache.
    CachedAudio,
    /// Seconds of sound in the input.
    AudioSeconds,
    /// What the server's own tools brought in, beside the input.
    ToolInput,
    /// The sound among it.
    ToolInputAudio,
    /// Output tokens of reasoning.
    Reasoning,
    /// The same, told beside the output instead of among its details.
    ReasoningBeside,
    /// Output tokens of sound.
    OutputAudio,
}

/// How many there are.
const COUNTS: usize = Count::OutputAudio as usize + 1;

/// Nothing has more tokens.
const MOST: u64 = 1_000_000_000_000;

/// Details deeper than this are not looked at.
const DEEPEST: usize = 3;

/// What is known of a field of a usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    /// It is that count.
    Count(Count),
    /// It tells nothing that is charged, or what another field tells as well.
    Known,
    /// Nothing.
    Unknown,
}

/// What the fields of a server are called: by the object that holds them (empty for the usage itself) and their name.
pub(crate) type Names = fn(holder: &str, name: &str) -> Field;

/// The counts of a report, or of several that have come one after the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Report([Option<u64>; COUNTS]);

impl Report {
    /// Nothing.
    pub(crate) const EMPTY: Self = Self([None; COUNTS]);

    /// Reads a usage; empty if it is none.
    pub(crate) fn read(json: &str, names: Names) -> Self {
        let mut report = Self::default();
        report.collect(json, "", names, 0);
        report
    }

    /// What was told; 0 is told as well.
    pub(crate) const fn get(&self, count: Count) -> Option<u64> {
        self.0[count as usize]
    }

    /// What was told, or 0.
    pub(crate) fn or_zero(&self, count: Count) -> u64 {
        self.get(count).unwrap_or_default()
    }

    /// Whether nothing was told.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// The same count under several names is there once.
    pub(crate) fn tell(&mut self, count: Count, told: u64) {
        let slot = &mut self.0[count as usize];
        *slot = (*slot).max(Some(told));
    }

    /// Takes a later report of the same answer. A count of it replaces the earlier one if it is larger, or if it is above 0 and
    /// its report has every count that is known: then it is a correction. 0 and what is missing never do.
    pub(crate) fn grow(&mut self, later: &Self) {
        let complete = self.0.iter().zip(&later.0).all(|(known, told)| known.is_none() || told.is_some());
        for (known, told) in self.0.iter_mut().zip(later.0) {
            if told > *known || (complete && told > Some(0)) {
                *known = told;
            }
        }
    }

    fn collect(&mut self, json: &str, holder: &str, names: Names, depth: usize) {
        let Ok(Entries(entries)) = serde_json::from_str(json) else { return };
        for (name, raw) in entries {
            let text = raw.get();
            match text.as_bytes().first() {
                Some(b'{') if depth < DEEPEST => self.collect(text, &name, names, depth + 1),
                Some(b'[') => self.collect_modalities(text, &name, names),
                Some(b'0'..=b'9') => {
                    let Some(told) = whole_number(text) else { continue };
                    match names(holder, &name) {
                        Field::Count(count) => self.tell(count, told),
                        Field::Unknown if told > 0 => unknown_numbers::found(holder, &name),
                        Field::Known | Field::Unknown => {}
                    }
                }
                _ => {}
            }
        }
    }

    /// Google's details are lists, with an entry for each modality.
    fn collect_modalities(&mut self, json: &str, holder: &str, names: Names) {
        let entries: Vec<&RawValue> = serde_json::from_str(json).unwrap_or_default();
        let mut sums: Vec<(Count, u64)> = Vec::new();
        for raw in entries {
            let Ok(Entries(entry)) = serde_json::from_str(raw.get()) else { continue };
            let of = |field: &str| entry.iter().find(|(name, _)| name == field).map(|(_, raw)| raw.get());
            let (Some(modality), Some(told)) = (of("modality"), of("tokenCount").and_then(whole_number))
            else {
                continue;
            };
            if let Field::Count(count) = names(holder, modality.trim_matches('"')) {
                match sums.iter_mut().find(|(one, _)| *one == count) {
                    Some((_, sum)) => *sum = sum.saturating_add(told),
                    None => sums.push((count, told)),
                }
            }
        }
        for (count, sum) in sums {
            self.tell(count, sum);
        }
    }
}

/// A count by itself.
pub(crate) fn whole_number_of(raw: &RawValue) -> Option<u64> {
    whole_number(raw.get())
}

/// A count, however it is written; one that can't be is none.
fn whole_number(text: &str) -> Option<u64> {
    let whole = match text.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|digit| digit == b'0') => whole,
        _ => text,
    };
    whole.parse().ok().filter(|told| *told <= MOST)
}

/// A whole of which parts are taken.
#[derive(Debug)]
pub(crate) struct Whole {
    left: u64,
    /// Whether a part was larger than what was left.
    pub cut: bool,
}

impl Whole {
    pub(crate) const fn of(whole: u64) -> Self {
        Self { left: whole, cut: false }
    }

    /// A part, cut to what is left.
    pub(crate) fn part(&mut self, told: u64) -> u64 {
        self.cut |= told > self.left;
        self.overlapping(told)
    }

    /// A part of which some may lie in the parts before as well.
    pub(crate) fn overlapping(&mut self, told: u64) -> u64 {
        let part = told.min(self.left);
        self.left -= part;
        part
    }
}

/// The entries of an object, in their order, each as it came.
pub(crate) struct Entries<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfObject;

        impl<'de> Visitor<'de> for OfObject {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::with_capacity(8);
                while let Some(Name(name)) = map.next_key()? {
                    entries.push((name, map.next_value()?));
                }
                Ok(entries)
            }
        }

        deserializer.deserialize_map(OfObject).map(Self)
    }
}

/// A name, borrowed where it can be.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(holder: &str, name: &str) -> Field {
        match (holder, name) {
            ("", "input") => Field::Count(Count::Input),
            ("", "output" | "completion") => Field::Count(Count::Output),
            ("details", "cached") => Field::Count(Count::Cached),
            ("lists", "AUDIO") => Field::Count(Count::InputAudio),
            _ => Field::Unknown,
        }
    }

    fn counts(json: &str) -> [Option<u64>; 4] {
        let report = Report::read(json, names);
        [Count::Input, Count::Output, Count::Cached, Count::InputAudio].map(|count| report.get(count))
    }

    #[test]
    fn each_field_is_read_by_itself() {
        for (json, expected) in [
            (r#"{"input":3,"output":4,"details":{"cached":1}}"#, [Some(3), Some(4), Some(1), None]),
            (r#"{"input":"3","output":4,"details":7}"#, [None, Some(4), None, None]),
            (r#"{"input":-3,"output":4.0,"details":{"cached":1.5}}"#, [None, Some(4), None, None]),
            (r#"{"input":3,"input":5,"other":{"input":9}}"#, [Some(5), None, None, None]),
            (r#"{"output":3,"completion":2,"input":null}"#, [None, Some(3), None, None]),
            (r#"{"input":9999999999999999999999,"output":0}"#, [None, Some(0), None, None]),
            (
                r#"{"lists":[{"modality":"AUDIO","tokenCount":2},7,{"modality":"TEXT","tokenCount":9},{"modality":"AUDIO","tokenCount":3}]}"#,
                [None, None, None, Some(5)],
            ),
            ("null", [None; 4]),
            ("7", [None; 4]),
            ("[]", [None; 4]),
        ] {
            assert_eq!(counts(json), expected, "{json}");
        }
    }

    #[test]
    fn reports_grow() {
        let grown = |reports: &[&str]| {
            let mut report = Report::default();
            for later in reports {
                report.grow(&Report::read(later, names));
            }
            [Count::Input, Count::Output, Count::Cached].map(|count| report.get(count))
        };
        for (reports, expected) in [
            // Larger ones replace.
            (&[r#"{"input":9,"output":1}"#, r#"{"output":5}"#][..], [Some(9), Some(5), None]),
            // 0 and what is missing do not.
            (&[r#"{"input":9,"output":1}"#, r#"{"input":0,"output":0}"#], [Some(9), Some(1), None]),
            (&[r#"{"input":9,"output":1}"#, r#"{"details":{"cached":4}}"#], [Some(9), Some(1), Some(4)]),
            // A smaller one is a correction where all is told again.
            (&[r#"{"input":9,"output":1}"#, r#"{"input":7,"output":5}"#], [Some(7), Some(5), None]),
            (&[r#"{"input":9,"output":7}"#, r#"{"output":5}"#], [Some(9), Some(7), None]),
            (&[r#"{"input":9,"output":7}"#, r#"{"input":0,"output":5}"#], [Some(9), Some(5), None]),
        ] {
            assert_eq!(grown(reports), expected, "{reports:?}");
        }
    }

    #[test]
    fn parts_are_cut_to_their_whole() {
        let mut whole = Whole::of(10);
        assert_eq!((whole.part(6), whole.overlapping(6), whole.cut), (6, 4, false));
        assert_eq!((whole.part(1), whole.cut), (0, true));
    }

    proptest! {
        #[test]
        fn nothing_that_was_told_is_lost(reports in prop::collection::vec((prop::option::of(0_u64..99), prop::option::of(0_u64..99)), 1..6)) {
            let mut grown = Report::default();
            for (input, output) in &reports {
                let mut later = Report::default();
                input.iter().for_each(|told| later.tell(Count::Input, *told));
                output.iter().for_each(|told| later.tell(Count::Output, *told));
                grown.grow(&later);
            }
            let input = reports.iter().filter_map(|report| report.0).max();
            let output = reports.iter().filter_map(|report| report.1).max();
            prop_assert_eq!(grown.get(Count::Input).is_some(), input.is_some());
            prop_assert_eq!(grown.or_zero(Count::Input) > 0, input > Some(0));
            prop_assert_eq!(grown.or_zero(Count::Output) > 0, output > Some(0));
            prop_assert!(grown.get(Count::Output) <= output && grown.get(Count::Input) <= input);
        }
    }
}
