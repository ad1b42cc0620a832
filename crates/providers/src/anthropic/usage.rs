//! Anthropic's usage in our classes ("Prompt caching", "Tracking cache performance").
//!
//! Anthropic counts input that was neither read from nor written to a cache apart; all input is the sum of the three.

use accounting::Usage;
use serde_json::value::RawValue;

use super::wire;

/// A usage as the events of a stream tell it: later counts are cumulative and replace earlier ones, what they leave out stays.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Told(wire::Usage);

impl Told {
    /// Whether that told how long the answer is.
    pub(super) fn hear(&mut self, usage: Option<&RawValue>) -> bool {
        let Some(usage) = usage.and_then(|raw| serde_json::from_str::<wire::Usage>(raw.get()).ok()) else {
            return false;
        };
        let known = &mut self.0;
        known.input_tokens = usage.input_tokens.or(known.input_tokens);
        known.cache_creation_input_tokens =
            usage.cache_creation_input_tokens.or(known.cache_creation_input_tokens);
        known.cache_read_input_tokens = usage.cache_read_input_tokens.or(known.cache_read_input_tokens);
        known.cache_creation = usage.cache_creation.or(known.cache_creation);
        known.output_tokens = usage.output_tokens.or(known.output_tokens);
        known.output_tokens_details = usage.output_tokens_details.or(known.output_tokens_details);
        usage.output_tokens.is_some()
    }

    /// In our classes; `None` if it is missing or can't be right.
    pub(super) fn usage(&self) -> Option<Usage> {
        usage(&self.0)
    }
}

/// The usage of a whole answer.
pub(super) fn whole(usage: Option<&RawValue>) -> Option<Usage> {
    let mut told = Told::default();
    told.hear(usage);
    told.usage()
}

fn usage(told: &wire::Usage) -> Option<Usage> {
    // A usage without either count says nothing.
    if told.input_tokens.is_none() && told.output_tokens.is_none() {
        return None;
    }
    let count = |count: Option<i64>| u64::try_from(count.unwrap_or_default()).ok();
    let (short, long) = match &told.cache_creation {
        Some(kept) => (count(kept.ephemeral_5m_input_tokens)?, count(kept.ephemeral_1h_input_tokens)?),
        None => (0, 0),
    };
    let written = match told.cache_creation_input_tokens {
        Some(_) => count(told.cache_creation_input_tokens)?,
        None => short.checked_add(long)?,
    };
    let cached_input = count(told.cache_read_input_tokens)?;
    let input = count(told.input_tokens)?.checked_add(cached_input)?.checked_add(written)?;
    let thinking = told.output_tokens_details.and_then(|details| details.thinking_tokens);
    Usage {
        cached_input,
        // What is not told to be kept for an hour is kept for minutes. More for an hour than in all can't be.
        cache_write: written.checked_sub(long)?,
        cache_write_long: long,
        reasoning: count(thinking)?,
        ..Usage::tokens(input, count(told.output_tokens)?)
    }
    .checked()
    .ok()
}

#[cfg(test)]
mod tests {
    use accounting::Measure;
    use proptest::prelude::*;

    use super::*;

    fn of(json: &str) -> Option<Usage> {
        usage(&serde_json::from_str(json).unwrap())
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
        assert_eq!(of(all), Some(expected));
        let without = r#"{"input_tokens":1,"cache_creation_input_tokens":2,"output_tokens":3}"#;
        assert_eq!(of(without), Some(Usage { cache_write: 2, ..Usage::tokens(3, 3) }));
        let only_parts = r#"{"input_tokens":1,"output_tokens":3,
            "cache_creation":{"ephemeral_5m_input_tokens":4,"ephemeral_1h_input_tokens":5}}"#;
        let expected = Usage { cache_write: 4, cache_write_long: 5, ..Usage::tokens(10, 3) };
        assert_eq!(of(only_parts), Some(expected));
        for nonsense in [
            "{}",
            r#"{"input_tokens":-1,"output_tokens":3}"#,
            r#"{"input_tokens":1,"output_tokens":3,"cache_read_input_tokens":-1}"#,
            r#"{"input_tokens":1,"output_tokens":3,"output_tokens_details":{"thinking_tokens":4}}"#,
            r#"{"input_tokens":1,"output_tokens":3,"cache_creation_input_tokens":1,"cache_creation":{"ephemeral_1h_input_tokens":2}}"#,
            r#"{"input_tokens":9223372036854775807,"output_tokens":3}"#,
        ] {
            assert_eq!(of(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn later_counts_replace_earlier_ones_and_the_rest_stays() {
        let mut told = Told::default();
        let mut hear = |json: &str| told.hear(Some(&*RawValue::from_string(json.into()).unwrap()));
        assert!(hear(r#"{"input_tokens":7,"cache_read_input_tokens":5,"output_tokens":1}"#));
        assert!(hear(r#"{"output_tokens":9,"input_tokens":null}"#));
        assert!(!hear(r#"{"output_tokens":9.5}"#));
        assert_eq!(told.usage(), Some(Usage { cached_input: 5, ..Usage::tokens(12, 9) }));
    }

    proptest! {
        #[test]
        fn classes_add_up_and_none_is_counted_twice(
            input in 0_i64..1_000_000, read in 0_i64..1_000_000, short in 0_i64..1_000_000, long in 0_i64..1_000_000,
            output in 0_i64..1_000_000, share in 0_i64..=100, breakdown: bool,
        ) {
            let thinking = output * share / 100;
            let told = wire::Usage {
                input_tokens: Some(input),
                cache_creation_input_tokens: Some(short + long),
                cache_read_input_tokens: Some(read),
                cache_creation: breakdown.then_some(wire::CacheCreation {
                    ephemeral_5m_input_tokens: Some(short),
                    ephemeral_1h_input_tokens: Some(long),
                }),
                output_tokens: Some(output),
                output_tokens_details: Some(wire::OutputDetails { thinking_tokens: Some(thinking) }),
            };
            let counts = usage(&told).unwrap().by_measure().unwrap();
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
