//! What a model costs: a rate per class of usage, with optional tiers by the length of the context.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::usage::Measure;
use crate::{Credits, Error};

/// Credits for a number of tokens (or images, or calls).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// The cost of `per` of them.
    pub credits: Credits,
    /// How many that cost buys; at least 1.
    pub per: u64,
}

/// The price of a model: what one request costs, class by class.
///
/// A class without a rate of its own costs as its whole: cached input, cache writes and input audio as input; reasoning
/// and output audio as output. Images and calls without a rate cost nothing apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Input tokens.
    pub input: Rate,
    /// Output tokens.
    pub output: Rate,
    /// Input tokens read from a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<Rate>,
    /// Input tokens written to a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<Rate>,
    /// Input tokens written to a cache for an hour; absent, as `cache_write`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_long: Option<Rate>,
    /// Input tokens of audio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_audio: Option<Rate>,
    /// Output tokens of reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Rate>,
    /// Output tokens of audio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_audio: Option<Rate>,
    /// Images made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<Rate>,
    /// Calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<Rate>,
    /// Dearer (or cheaper) prices for long inputs, the shortest first. The last one that the input reaches holds for
    /// the whole request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<Tier>,
}

/// The price of requests whose input is longer than a threshold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// The tier holds for requests with more input tokens than this.
    pub above_input: u64,
    /// Its price; it has no tiers of its own.
    pub price: Price,
}

/// The least common multiple of all `per` of a price ends here, so that exact sums fit into 128 bits.
const MOST_PER: u64 = 1_000_000_000_000;

impl Rate {
    /// `credits` for each `per`.
    pub const fn new(credits: Credits, per: u64) -> Self {
        Self { credits, per }
    }

    /// Nothing for any number.
    pub const FREE: Self = Self { credits: Credits::ZERO, per: 1 };

    /// The dearer of two; the first if they cost the same.
    pub(crate) fn dearer(self, other: Self) -> Self {
        let scaled = |rate: Self, by: u64| i128::from(rate.credits.micro()) * i128::from(by);
        match scaled(self, other.per).cmp(&scaled(other, self.per)) {
            Ordering::Less => other,
            Ordering::Equal | Ordering::Greater => self,
        }
    }

    /// The cost of a million at both rates together, rounded up; the dearest that there is where that is too much.
    fn with(self, other: Self) -> Self {
        const PER: u64 = 1_000_000;
        let of = |rate: Self| {
            let (all, per) =
                (i128::from(rate.credits.micro()) * i128::from(PER), i128::from(rate.per.max(1)));
            all / per + i128::from(all % per != 0)
        };
        let sum = i64::try_from(of(self) + of(other)).unwrap_or(i64::MAX);
        Self { credits: Credits::from_micro(sum), per: PER }
    }
}

/// A picture that a model makes has at least so many tokens (Google, "Image generation": 747 and more).
const LEAST_OF_PICTURE: u64 = 258;

impl Price {
    /// A price with a rate for input and one for output.
    pub const fn new(input: Rate, output: Rate) -> Self {
        Self {
            input,
            output,
            cached_input: None,
            cache_write: None,
            cache_write_long: None,
            input_audio: None,
            reasoning: None,
            output_audio: None,
            images: None,
            calls: None,
            tiers: Vec::new(),
        }
    }

    /// The price of what costs nothing.
    pub const FREE: Self = Self::new(Rate::FREE, Rate::FREE);

    /// This price, if every request can be charged exactly at it: no negative rate, no division by zero, tiers in order.
    pub fn checked(self) -> Result<Self, Error> {
        let bad = |why: String| Err(Error::BadPrice(why));
        for price in self.levels() {
            if let Some(rate) = price.rates().into_iter().find(|rate| rate.credits.is_negative()) {
                return bad(format!("a rate of {} credits is below zero", rate.credits));
            }
            if price.rates().iter().any(|rate| rate.per == 0) {
                return bad("credits for 0 tokens; give the number of tokens that the credits buy".into());
            }
            if price.common_per().is_none() {
                return bad(format!(
                    "its token counts have no common multiple up to {MOST_PER}; use 1000000 for all"
                ));
            }
        }
        if self.tiers.iter().any(|tier| !tier.price.tiers.is_empty()) {
            return bad("a tier can't have tiers of its own".into());
        }
        if !self.tiers.windows(2).all(|pair| pair[0].above_input < pair[1].above_input) {
            return bad("its tiers must rise by `above_input`".into());
        }
        Ok(self)
    }

    /// Whether no usage whatever costs anything.
    pub fn is_free(&self) -> bool {
        self.levels().all(|price| price.rates().iter().all(|rate| rate.credits == Credits::ZERO))
    }

    /// The price that holds for a request with that many input tokens.
    pub fn at(&self, input_tokens: u64) -> &Self {
        let tier = self.tiers.iter().rev().find(|tier| input_tokens > tier.above_input);
        tier.map_or(self, |tier| &tier.price)
    }

    /// The rate of a class at this level of context.
    pub fn rate(&self, measure: Measure) -> Rate {
        match measure {
            Measure::Input => self.input,
            Measure::CachedInput => self.cached_input.unwrap_or(self.input),
            Measure::CacheWrite => self.cache_write.unwrap_or(self.input),
            Measure::CacheWriteLong => self.cache_write_long.or(self.cache_write).unwrap_or(self.input),
            Measure::InputAudio => self.input_audio.unwrap_or(self.input),
            Measure::Output => self.output,
            Measure::Reasoning => self.reasoning.unwrap_or(self.output),
            Measure::OutputAudio => self.output_audio.unwrap_or(self.output),
            Measure::Images => self.images.unwrap_or(Rate::FREE),
            Measure::Calls => self.calls.unwrap_or(Rate::FREE),
        }
    }

    /// The dearest rates that a request with up to that many input tokens may meet, whichever class its tokens turn out
    /// to be: one rate for all input, one for all output, one for the call.
    pub fn dearest(&self, input_tokens: u64) -> Self {
        let levels = || {
            let reached = self.tiers.iter().filter(move |tier| input_tokens > tier.above_input);
            std::iter::once(self).chain(reached.map(|tier| &tier.price))
        };
        let dearest = |measures: &[Measure]| {
            levels().flat_map(|price| measures.iter().map(|m| price.rate(*m))).fold(Rate::FREE, Rate::dearer)
        };
        use Measure::{
            CacheWrite, CacheWriteLong, CachedInput, Calls, Images, Input, InputAudio, Output, OutputAudio,
            Reasoning,
        };
        let input = dearest(&[Input, CachedInput, CacheWrite, CacheWriteLong, InputAudio]);
        let output = dearest(&[Output, Reasoning, OutputAudio]);
        // Pictures have a rate beside that of their tokens.
        let output = match dearest(&[Images]) {
            Rate { credits: Credits::ZERO, .. } => output,
            Rate { credits, per } => output.with(Rate { credits, per: per.saturating_mul(LEAST_OF_PICTURE) }),
        };
        Self { calls: Some(dearest(&[Calls])), ..Self::new(input, output) }
    }

    /// A number that each `per` of this level divides.
    pub(crate) fn common_per(&self) -> Option<u64> {
        self.rates().into_iter().try_fold(1_u64, |multiple, rate| {
            let next = multiple.checked_mul(rate.per.checked_div(greatest_divisor(multiple, rate.per))?)?;
            (next <= MOST_PER).then_some(next)
        })
    }

    fn levels(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.tiers.iter().map(|tier| &tier.price))
    }

    fn rates(&self) -> Vec<Rate> {
        let optional = [
            self.cached_input,
            self.cache_write,
            self.cache_write_long,
            self.input_audio,
            self.reasoning,
            self.output_audio,
            self.images,
            self.calls,
        ];
        [self.input, self.output].into_iter().chain(optional.into_iter().flatten()).collect()
    }
}

fn greatest_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(credits: i64, per: u64) -> Rate {
        Rate::new(Credits::from_whole(credits).unwrap(), per)
    }

    #[test]
    fn absent_classes_cost_as_their_whole() {
        let mut price = Price::new(rate(3, 1000), rate(15, 1000));
        assert_eq!(price.rate(Measure::CachedInput), rate(3, 1000));
        assert_eq!(price.rate(Measure::Reasoning), rate(15, 1000));
        price.cache_write = Some(rate(4, 1000));
        assert_eq!(price.rate(Measure::CacheWriteLong), rate(4, 1000));
        assert_eq!(price.rate(Measure::Calls), Rate::FREE);
    }

    #[test]
    fn unusable_prices_are_refused() {
        let good = Price::new(rate(3, 1000), rate(15, 1000));
        assert!(good.clone().checked().is_ok());
        assert!(Price::new(rate(-1, 1000), rate(1, 1)).checked().is_err());
        assert!(Price::new(rate(1, 0), rate(1, 1)).checked().is_err());
        assert!(Price::new(rate(1, 999_983), rate(1, 9_999_991)).checked().is_err());
        let tier = |above_input| Tier { above_input, price: good.clone() };
        assert!(Price { tiers: vec![tier(5), tier(5)], ..good.clone() }.checked().is_err());
        let nested = Price { tiers: vec![tier(1)], ..good.clone() };
        assert!(Price { tiers: vec![Tier { above_input: 2, price: nested }], ..good }.checked().is_err());
    }

    #[test]
    fn tiers_hold_above_their_threshold() {
        let long = Price::new(rate(6, 1000), rate(30, 1000));
        let price = Price {
            tiers: vec![Tier { above_input: 200_000, price: long.clone() }],
            ..Price::new(rate(3, 1000), rate(15, 1000))
        };
        assert_eq!(price.at(200_000), &price);
        assert_eq!(price.at(200_001), &long);
        assert_eq!(price.dearest(200_000).input, rate(3, 1000));
        assert_eq!(price.dearest(200_001).output, rate(30, 1000));
    }

    #[test]
    fn the_dearest_output_has_the_pictures_that_may_be_in_it() {
        let price = Price { images: Some(rate(39, 1)), ..Price::new(rate(3, 1000), rate(15, 1000)) };
        let pictures = crate::Usage { images: 3, ..crate::Usage::tokens(0, 3 * LEAST_OF_PICTURE) };
        let bound = crate::Usage::tokens(0, pictures.output);
        assert!(
            crate::charge(&price.dearest(0), &bound).unwrap() >= crate::charge(&price, &pictures).unwrap()
        );
        let absurd = Price { images: Some(Rate::new(Credits::from_micro(i64::MAX), 1)), ..price };
        assert_eq!(absurd.dearest(0).output.credits.micro(), i64::MAX);
    }
}
