//! Anthropic's usage in our classes ("Prompt caching", "Tracking cache performance").
//!
//! Anthropic counts input that was neither read from nor written to a cache apart; all input is the sum of the three. Servers
//! with its protocol may count all input in one, with the cache within.

use accounting::Usage;
use serde_json::value::RawValue;

use crate::report::{Count, Field, Report, Whole};

/// A usage as the events of an answer tell it, one after the other.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Told {
    /// Whether the cache lies within the input, if that is configured.
    cache_in_input: Option<bool>,
    report: Report,
    /// Whether a cache came last, alone, and holds all that the start called input.
    is_input_cached: bool,
}

impl Told {
    pub(super) fn new(cache_in_input: Option<bool>) -> Self {
        Self { cache_in_input, ..Self::default() }
    }

    /// Whether that told how long the answer is.
    pub(super) fn hear(&mut self, usage: Option<&RawValue>) -> bool {
        let Some(usage) = usage else { return false };
        let later = Report::read(usage.get(), field);
        let (input, cache) = (self.report.or_zero(Count::Input), cached(&later));
        let alone = later.or_zero(Count::Input) == 0;
        let first = cached(&self.report) == 0 && input > 0 && cache >= input;
        self.is_input_cached = alone && (first || self.is_input_cached);
        self.report.grow(&later);
        match later.get(Count::Output) {
            Some(0) => self.report.or_zero(Count::Output) == 0,
            told => told.is_some(),
        }
    }

    /// In our classes; `None` if it is missing.
    pub(super) fn usage(&self) -> Option<Usage> {
        let told = |count| self.report.or_zero(count);
        // A usage without any of these says nothing.
        if [Count::Input, Count::Output, Count::CacheRead]
            .iter()
            .all(|count| self.report.get(*count).is_none())
        {
            return None;
        }
        let (read, written) = (told(Count::CacheRead), written(&self.report));
        let within = self.cache_in_input.unwrap_or(self.is_input_cached);
        let mut input = told(Count::Input);
        if !within {
            input = input.saturating_add(read).saturating_add(written);
        } else if self.cache_in_input.is_none() {
            input = input.max(read.saturating_add(written));
        }
        let output = told(Count::Output);
        let (mut of_input, mut of_output) = (Whole::of(input), Whole::of(output));
        let written = of_input.part(written);
        let mut of_written = Whole::of(written);
        let cache_write_long = of_written.part(told(Count::CacheWrittenLong));
        let cached_input = of_input.part(read.max(told(Count::Cached)));
        let reasoning = of_output.part(told(Count::Reasoning));
        let guessed = self.cache_in_input.is_none() && within;
        Usage {
            cached_input,
            // What is not told to be kept for an hour is kept for minutes.
            cache_write: written - cache_write_long,
            cache_write_long,
            reasoning,
            adjusted: guessed || of_input.cut || of_written.cut || of_output.cut,
            ..Usage::tokens(input, output)
        }
        .checked()
        .ok()
    }
}

/// The usage of a whole answer.
pub(super) fn whole(usage: Option<&RawValue>, cache_in_input: Option<bool>) -> Option<Usage> {
    let mut told = Told::new(cache_in_input);
    told.hear(usage);
    told.usage()
}

/// All that was written to a cache: the whole, or the sum of its parts where only they are told.
fn written(report: &Report) -> u64 {
    let (short, long) = (report.or_zero(Count::CacheWrittenShort), report.or_zero(Count::CacheWrittenLong));
    match report.or_zero(Count::CacheWritten) {
        0 => short.saturating_add(long),
        written => written,
    }
}

/// All that has to do with a cache.
fn cached(report: &Report) -> u64 {
    report.or_zero(Count::CacheRead).saturating_add(written(report))
}

/// The fields, in docs/source/providers.md with their sources.
fn field(holder: &str, name: &str) -> Field {
    let count = match (holder, name) {
        ("", "input_tokens") => Count::Input,
        ("", "output_tokens") => Count::Output,
        ("", "cache_read_input_tokens") => Count::CacheRead,
        ("", "cache_creation_input_tokens") => Count::CacheWritten,
        ("cache_creation", "ephemeral_5m_input_tokens") => Count::CacheWrittenShort,
        ("cache_creation", "ephemeral_1h_input_tokens") => Count::CacheWrittenLong,
        ("output_tokens_details", "thinking_tokens" | "reasoning_tokens") => Count::Reasoning,
        // OpenAI's name, by servers that speak both: within the input.
        ("" | "input_tokens_details" | "prompt_tokens_details", "cached_tokens") => Count::Cached,
        // The same again, or in sum.
        ("", "total_tokens" | "prompt_tokens" | "completion_tokens") => return Field::Known,
        _ => return Field::Unknown,
    };
    Field::Count(count)
}

#[cfg(test)]
mod tests {
    use accounting::Measure;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// What reports tell that come one after the other.
    fn of(reports: &[&str], cache_in_input: Option<bool>) -> Option<Usage> {
        let mut told = Told::new(cache_in_input);
        for report in reports {
            told.hear(Some(&*RawValue::from_string((*report).into()).unwrap()));
        }
        told.usage()
    }

    #[test]
    fn each_class_has_its_own_count() {
        let all = r#"{"input_tokens":10,"cache_creation_input_tokens":300,"cache_read_input_tokens":4000,
            "cache_creation":{"ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":200},
            "output_tokens":50,"output_tokens_details":{"thinking_tokens":40},"server_tool_use":null,"service_tier":"standard"}"#;
        let expected = Usage {
            cached_input: 4000,
            cache_write: 100,
            cache_write_long: 200,
            reasoning: 40,
            ..Usage::tokens(4310, 50)
        };
        assert_eq!(of(&[all], None), Some(expected));
        let without = r#"{"input_tokens":1,"cache_creation_input_tokens":2,"output_tokens":3}"#;
        assert_eq!(of(&[without], None), Some(Usage { cache_write: 2, ..Usage::tokens(3, 3) }));
        let only_parts = r#"{"input_tokens":1,"output_tokens":3,
            "cache_creation":{"ephemeral_5m_input_tokens":4,"ephemeral_1h_input_tokens":5}}"#;
        let expected = Usage { cache_write: 4, cache_write_long: 5, ..Usage::tokens(10, 3) };
        assert_eq!(of(&[only_parts], None), Some(expected));
        assert_eq!(of(&["{}"], None), None);
    }

    #[test]
    fn what_is_wrong_spoils_only_itself() {
        let adjusted = |usage| Usage { adjusted: true, ..usage };
        for (report, expected) in [
            (r#"{"input_tokens":-1,"output_tokens":3}"#, Usage::tokens(0, 3)),
            (r#"{"input_tokens":1,"output_tokens":3,"cache_read_input_tokens":-1}"#, Usage::tokens(1, 3)),
            (r#"{"input_tokens":9223372036854775807,"output_tokens":3}"#, Usage::tokens(0, 3)),
            (
                r#"{"input_tokens":1,"output_tokens":3,"output_tokens_details":{"thinking_tokens":4}}"#,
                adjusted(Usage { reasoning: 3, ..Usage::tokens(1, 3) }),
            ),
            (
                r#"{"input_tokens":1,"output_tokens":3,"cache_creation_input_tokens":1,"cache_creation":{"ephemeral_1h_input_tokens":2}}"#,
                adjusted(Usage { cache_write_long: 1, ..Usage::tokens(2, 3) }),
            ),
        ] {
            assert_eq!(of(&[report], None), Some(expected), "{report}");
        }
    }

    #[test]
    fn later_reports_complete_earlier_ones() {
        let full = r#"{"input_tokens":15,"cache_read_input_tokens":120000,"output_tokens":1}"#;
        let cached = Usage { cached_input: 120_000, ..Usage::tokens(120_015, 12) };
        for last in [
            r#"{"output_tokens":12}"#,
            r#"{"output_tokens":12,"input_tokens":null}"#,
            r#"{"output_tokens":12,"input_tokens":0,"cache_read_input_tokens":0,"cache_creation_input_tokens":0}"#,
            r#"{"output_tokens":12,"cache_read_input_tokens":120000}"#,
        ] {
            assert_eq!(of(&[full, last], None), Some(cached), "{last}");
        }
        let mut told = Told::default();
        let mut hear = |json: &str| told.hear(Some(&*RawValue::from_string(json.into()).unwrap()));
        assert!(hear(r#"{"input_tokens":7,"output_tokens":1}"#));
        assert!(!hear(r#"{"output_tokens":9.5}"#) && !hear(r#"{"output_tokens":0}"#) && !hear("{}"));
        assert!(hear(r#"{"output_tokens":9}"#));
    }

    #[test]
    fn a_cache_lies_beside_the_input_or_within() {
        let (start, last) = (
            r#"{"input_tokens":900,"output_tokens":1}"#,
            r#"{"cache_read_input_tokens":900,"output_tokens":9}"#,
        );
        let both = r#"{"input_tokens":1000,"cache_read_input_tokens":900,"output_tokens":9}"#;
        let usage = |input, adjusted| Some(Usage { cached_input: 900, adjusted, ..Usage::tokens(input, 9) });
        // A cache that comes alone and is all that was called input before lies within; set, it lies where that says.
        assert_eq!(of(&[start, last], None), usage(900, true));
        assert_eq!(of(&[start, last], Some(false)), usage(1800, false));
        assert_eq!(of(&[start, last], Some(true)), usage(900, false));
        assert_eq!(of(&[both], None), usage(1900, false));
        assert_eq!(of(&[both], Some(true)), usage(1000, false));
        // A smaller one, and one beside an input, lie beside it.
        let smaller = r#"{"cache_read_input_tokens":100,"output_tokens":9}"#;
        assert_eq!(of(&[start, smaller], None).unwrap().input, 1000);
        assert_eq!(of(&[start, both], None), usage(1900, false));
        // What is larger than its whole is cut.
        let large = r#"{"input_tokens":100,"cache_read_input_tokens":900,"output_tokens":9}"#;
        let cut = Usage { cached_input: 100, adjusted: true, ..Usage::tokens(100, 9) };
        assert_eq!(of(&[large], Some(true)), Some(cut));
    }

    proptest! {
        #[test]
        fn classes_add_up_and_none_is_counted_twice(
            input in 0_i64..1_000_000, read in 0_i64..1_000_000, short in 0_i64..1_000_000, long in 0_i64..1_000_000,
            output in 0_i64..1_000_000, share in 0_i64..=100, breakdown: bool,
        ) {
            let thinking = output * share / 100;
            let mut told = json!({
                "input_tokens": input, "cache_creation_input_tokens": short + long, "cache_read_input_tokens": read,
                "output_tokens": output, "output_tokens_details": {"thinking_tokens": thinking},
            });
            if breakdown {
                told["cache_creation"] =
                    json!({"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long});
            }
            let usage = of(&[&told.to_string()], None).unwrap();
            prop_assert!(!usage.adjusted);
            let counts = usage.by_measure().unwrap();
            let of = |measure| counts.iter().find(|(m, _)| *m == measure).map(|(_, count)| *count as i64).unwrap();
            prop_assert_eq!(of(Measure::Input), input);
            prop_assert_eq!(of(Measure::CachedInput), read);
            prop_assert_eq!(of(Measure::CacheWrite), if breakdown { short } else { short + long });
            prop_assert_eq!(of(Measure::CacheWriteLong), if breakdown { long } else { 0 });
            prop_assert_eq!(of(Measure::Output) + of(Measure::Reasoning), output);
            prop_assert_eq!(of(Measure::Reasoning), thinking);
        }
    }
}
