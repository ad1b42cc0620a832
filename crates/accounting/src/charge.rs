//! The charge of one request: price × usage, summed exactly and rounded up once, to the microcredit.

use crate::{Credits, Error, Measure, Price, Rate, Usage};

/// What `usage` costs at `price`: at least the exact sum, and less than a microcredit above it.
///
/// # Errors
/// [`Error::BadUsage`] if the usage contradicts itself, [`Error::Overflow`] if the charge leaves the range of credits.
pub fn charge(price: &Price, usage: &Usage) -> Result<Credits, Error> {
    let level = price.at(usage.input);
    let per = level.common_per().ok_or_else(|| Error::BadPrice("it has no common token count".into()))?;
    let mut sum: i128 = 0;
    for (measure, count) in usage.by_measure()? {
        let rate = level.rate(measure);
        // Microcredits for `per` of them: whole, because `per` is a multiple of `rate.per`.
        let each = i128::from(rate.credits.micro()) * i128::from(per / rate.per);
        let part = each.checked_mul(i128::from(count)).ok_or(Error::Overflow)?;
        sum = sum.checked_add(part).ok_or(Error::Overflow)?;
    }
    rounded_up(sum, per)
}

/// How `usage` is charged where it has pictures that `price` has no rate for: their tokens lie in the output, so all of that
/// which is of no class of its own counts as the dearest, and is marked as adjusted. `None`: as it is.
pub fn with_unpriced_pictures(price: &Price, usage: &Usage) -> Option<Usage> {
    let level = price.at(usage.input);
    if usage.images == 0 || level.images.is_some() {
        return None;
    }
    let plain = usage.output.checked_sub(usage.reasoning)?.checked_sub(usage.output_audio)?;
    let (reasoning, audio) = (level.rate(Measure::Reasoning), level.rate(Measure::OutputAudio));
    let dearest = level.output.dearer(reasoning).dearer(audio);
    let mut charged = Usage { adjusted: true, ..*usage };
    match dearest {
        _ if dearest == level.output => {}
        _ if dearest == reasoning => charged.reasoning += plain,
        _ => charged.output_audio += plain,
    }
    Some(charged)
}

/// How many tokens at `rate` cost at most `credits`, and no more than `at_most`.
pub fn usage_bought(rate: Rate, credits: Credits, at_most: u64) -> u64 {
    if rate.credits <= Credits::ZERO {
        return at_most;
    }
    let budget = i128::from(credits.micro().max(0));
    let tokens = budget * i128::from(rate.per) / i128::from(rate.credits.micro());
    u64::try_from(tokens).map_or(at_most, |tokens| tokens.min(at_most))
}

fn rounded_up(numerator: i128, denominator: u64) -> Result<Credits, Error> {
    let denominator = i128::from(denominator);
    let micro = numerator.div_euclid(denominator) + i128::from(numerator.rem_euclid(denominator) != 0);
    i64::try_from(micro).map(Credits::from_micro).map_err(|_| Error::Overflow)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rates() -> impl Strategy<Value = Rate> {
        let per = prop::sample::select(vec![1_u64, 3, 7, 1000, 1_000_000]);
        (0_i64..1_000_000_000_000, per).prop_map(|(micro, per)| Rate::new(Credits::from_micro(micro), per))
    }

    fn prices() -> impl Strategy<Value = Price> {
        let optional = || prop::option::of(rates());
        (rates(), rates(), optional(), optional(), optional(), optional()).prop_map(
            |(input, output, cached_input, cache_write, reasoning, calls)| Price {
                cached_input,
                cache_write,
                reasoning,
                calls,
                ..Price::new(input, output)
            },
        )
    }

    fn usages() -> impl Strategy<Value = Usage> {
        let count = 0_u64..1_000_000;
        (count.clone(), count.clone(), count.clone(), count.clone(), count).prop_map(
            |(plain, cached_input, cache_write, spoken, reasoning)| Usage {
                cached_input,
                cache_write,
                reasoning,
                ..Usage::tokens(plain + cached_input + cache_write, spoken + reasoning)
            },
        )
    }

    /// The exact cost as a fraction over `d`, computed the long way: one common denominator for all classes.
    fn exact(price: &Price, usage: &Usage) -> (i128, i128) {
        usage.by_measure().unwrap().iter().fold((0, 1), |(n, d), (measure, count)| {
            let rate = price.at(usage.input).rate(*measure);
            let (m, e) = (i128::from(rate.credits.micro()) * i128::from(*count), i128::from(rate.per));
            if d % e == 0 { (n + m * (d / e), d) } else { (n * e + m * d, d * e) }
        })
    }

    proptest! {
        #[test]
        fn never_below_cost_and_never_a_microcredit_too_much(price in prices(), usage in usages()) {
            let charged = i128::from(charge(&price.clone().checked().unwrap(), &usage).unwrap().micro());
            let (n, d) = exact(&price, &usage);
            prop_assert!(charged * d >= n && (charged - 1) * d < n, "{charged} against {n}/{d}");
        }

        #[test]
        fn no_usage_or_price_panics(price in prices(), input: u64, output: u64, cached_input: u64, reasoning: u64) {
            let _ = charge(&price, &Usage { cached_input, reasoning, ..Usage::tokens(input, output) });
        }

        #[test]
        fn what_is_bought_can_be_paid_and_one_more_can_not(rate in rates(), micro in 0_i64..1_000_000_000) {
            let credits = Credits::from_micro(micro);
            let price = Price::new(Rate::FREE, rate);
            let tokens = usage_bought(rate, credits, 1_000_000);
            prop_assert!(charge(&price, &Usage::tokens(0, tokens)).unwrap() <= credits);
            prop_assert!(tokens == 1_000_000 || charge(&price, &Usage::tokens(0, tokens + 1)).unwrap() > credits);
        }

        #[test]
        fn the_dearest_rates_bound_every_class(price in prices(), usage in usages()) {
            let bound = charge(&price.dearest(usage.input), &Usage::tokens(usage.input, usage.output)).unwrap();
            prop_assert!(charge(&price, &usage).unwrap() <= bound);
        }
    }

    #[test]
    fn a_charge_out_of_range_is_an_error() {
        let price = Price::new(Rate::new(Credits::MAX, 1), Rate::FREE);
        assert_eq!(charge(&price, &Usage::tokens(2, 0)), Err(Error::Overflow));
    }

    #[test]
    fn pictures_without_a_rate_cost_as_the_dearest_output() {
        let rate = |micro| Rate::new(Credits::from_micro(micro), 1);
        let usage = Usage { images: 1, reasoning: 2, output_audio: 3, ..Usage::tokens(1, 10) };
        let plain = Price::new(rate(1), rate(10));
        for (price, reasoning, output_audio) in [
            (plain.clone(), 2, 3),
            (Price { reasoning: Some(rate(20)), ..plain.clone() }, 7, 3),
            (Price { output_audio: Some(rate(30)), reasoning: Some(rate(20)), ..plain.clone() }, 2, 8),
            (Price { output_audio: Some(rate(5)), ..plain.clone() }, 2, 3),
        ] {
            let expected = Usage { reasoning, output_audio, adjusted: true, ..usage };
            assert_eq!(with_unpriced_pictures(&price, &usage), Some(expected), "{price:?}");
            assert!(charge(&price, &expected).unwrap() >= charge(&price, &usage).unwrap());
        }
        let priced = Price { images: Some(rate(9)), ..plain.clone() };
        assert_eq!(with_unpriced_pictures(&priced, &usage), None);
        assert_eq!(with_unpriced_pictures(&plain, &Usage { images: 0, ..usage }), None);
    }

    #[test]
    fn rounded_once_not_per_class() {
        // A third of a microcredit each: together one, not two.
        let third = Rate::new(Credits::from_micro(1), 3);
        assert_eq!(charge(&Price::new(third, third), &Usage::tokens(1, 1)), Ok(Credits::from_micro(1)));
    }
}
