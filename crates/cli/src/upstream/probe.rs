//! Takes a price of the list apart, by asking what requests of one class of tokens each would cost.

use std::time::{Duration, SystemTime};

use accounting::{Credits, Price, Rate, Tier};
use anyhow::{Context, bail};
use genai_prices::{Calculator, PriceCalculation, PriceRequest, Usage, UsageKey};
use jiff::{SignedDuration, Timestamp};

use super::usd::Usd;

const MILLION: u32 = 1_000_000;
const THOUSAND: u32 = 1000;
/// Lengths of input at which the price is looked at. Between two of them it changes at most once, in lists of today.
const LENGTHS: [u32; 9] = [1000, 60_000, 110_000, 150_000, 230_000, 265_000, 400_000, 900_000, 10_000_000];
/// Some prices depend on the time of the day.
const TIMES_OF_DAY: i64 = 48;

/// What is charged beside tokens of the classes that this program knows.
const APART: [(&str, &[UsageKey]); 10] = [
    ("image tokens of the input", &[UsageKey::INPUT_IMAGE_TOKENS]),
    ("video tokens of the input", &[UsageKey::INPUT_VIDEO_TOKENS]),
    ("image tokens of the output", &[UsageKey::OUTPUT_IMAGE_TOKENS]),
    ("video tokens of the output", &[UsageKey::OUTPUT_VIDEO_TOKENS]),
    ("audio by the second", &[UsageKey::AUDIO_SECONDS]),
    ("audio of the input by the second", &[UsageKey::AUDIO_SECONDS, UsageKey::INPUT_AUDIO_SECONDS]),
    ("audio of the output by the second", &[UsageKey::AUDIO_SECONDS, UsageKey::OUTPUT_AUDIO_SECONDS]),
    ("characters", &[UsageKey::INPUT_CHARACTERS]),
    ("pages", &[UsageKey::INPUT_DOCUMENT_PAGES]),
    ("messages", &[UsageKey::INPUT_TEXT_MESSAGES]),
];

/// A moment, as the crate takes it.
fn system_time(at: Timestamp) -> anyhow::Result<SystemTime> {
    let since_1970 = Duration::from_secs(u64::try_from(at.as_second())?);
    SystemTime::UNIX_EPOCH.checked_add(since_1970).context("a time out of range")
}

/// A model of the list, at a time, in credits.
pub(super) struct Probe<'a> {
    provider: &'a str,
    model: &'a str,
    at: SystemTime,
    credits_per_usd: Credits,
}

/// What was found.
pub(super) struct Found {
    pub price: Price,
    pub entry: String,
    pub apart: Vec<&'static str>,
}

impl<'a> Probe<'a> {
    /// At the dearest time of that day, so that no request is charged too little.
    pub(super) fn new(
        provider: &'a str,
        model: &'a str,
        credits_per_usd: Credits,
        now: Timestamp,
    ) -> anyhow::Result<Self> {
        let day = now.as_second() - now.as_second().rem_euclid(86_400);
        let tokens = [(UsageKey::INPUT_TOKENS, LENGTHS[0]), (UsageKey::OUTPUT_TOKENS, LENGTHS[0])];
        let mut dearest = Self { provider, model, at: system_time(now)?, credits_per_usd };
        let mut most = dearest.cost(&tokens)?.total_price;
        for time in 0..TIMES_OF_DAY {
            let at = Timestamp::from_second(day)?.checked_add(SignedDuration::from_mins(30 * time))?;
            let probe = Self { provider, model, at: system_time(at)?, credits_per_usd };
            let cost = probe.cost(&tokens)?.total_price;
            if cost > most {
                (dearest, most) = (probe, cost);
            }
        }
        Ok(dearest)
    }

    pub(super) fn find(&self) -> anyhow::Result<Found> {
        let mut price = self.level(LENGTHS[0])?;
        let mut reached = price.clone();
        for pair in LENGTHS.windows(2) {
            let [from, to] = [pair[0], pair[1]];
            let next = self.level(to)?;
            if next != reached {
                let above_input = u64::from(self.last_of(&reached, from, to)?);
                price.tiers.push(Tier { above_input, price: next.clone() });
                reached = next;
            }
        }
        let apart = self.apart();
        if price.is_free() && !apart.is_empty() {
            bail!("its price is for {}, not by tokens, so it can't be charged here", apart.join(", "));
        }
        Ok(Found { price, entry: self.cost(&[])?.model_id, apart })
    }

    /// The longest input that still has the price of `from`; at `to` it has another.
    fn last_of(&self, price: &Price, mut from: u32, mut to: u32) -> anyhow::Result<u32> {
        while to - from > 1 {
            let middle = from.midpoint(to);
            if self.level(middle)? == *price { from = middle } else { to = middle }
        }
        Ok(from)
    }

    /// The rates of requests with so many input tokens.
    fn level(&self, input: u32) -> anyhow::Result<Price> {
        let whole = [(UsageKey::INPUT_TOKENS, input), (UsageKey::OUTPUT_TOKENS, MILLION)];
        let with = |parts: &[(UsageKey, u32)]| self.cost(&[whole.as_slice(), parts].concat());
        let of_input = |keys: &[UsageKey]| {
            let parts: Vec<_> = keys.iter().map(|key| (key.clone(), input)).collect();
            self.rate(with(&parts)?.input_price, input, MILLION)
        };
        let of_output = |keys: &[UsageKey]| {
            let parts: Vec<_> = keys.iter().map(|key| (key.clone(), MILLION)).collect();
            self.rate(with(&parts)?.output_price, MILLION, MILLION)
        };
        let mut price = Price::new(of_input(&[])?, of_output(&[])?);
        let unless = |whole: Rate, rate: Rate| (rate != whole).then_some(rate);
        price.cached_input = unless(price.input, of_input(&[UsageKey::CACHE_READ_TOKENS])?);
        price.cache_write = unless(price.input, of_input(&[UsageKey::CACHE_WRITE_TOKENS])?);
        let long = of_input(&[UsageKey::CACHE_WRITE_TOKENS, UsageKey::CACHE_WRITE_1H_TOKENS])?;
        price.cache_write_long = unless(price.cache_write.unwrap_or(price.input), long);
        price.input_audio = unless(price.input, of_input(&[UsageKey::INPUT_AUDIO_TOKENS])?);
        price.reasoning = unless(price.output, of_output(&[UsageKey::OUTPUT_REASONING_TOKENS])?);
        price.output_audio = unless(price.output, of_output(&[UsageKey::OUTPUT_AUDIO_TOKENS])?);
        let request = self.rate(self.cost(&[])?.total_price, 1, THOUSAND)?;
        price.calls = unless(Rate::new(Credits::ZERO, u64::from(THOUSAND)), request);
        Ok(price)
    }

    fn apart(&self) -> Vec<&'static str> {
        let whole = [(UsageKey::INPUT_TOKENS, THOUSAND), (UsageKey::OUTPUT_TOKENS, THOUSAND)];
        let cost = |keys: &[UsageKey]| {
            let parts = keys.iter().map(|key| (key.clone(), THOUSAND));
            self.cost(&whole.iter().cloned().chain(parts).collect::<Vec<_>>())
                .map(|cost| cost.total_price)
                .ok()
        };
        let plain = cost(&[]);
        let mut found: Vec<&str> = Vec::new();
        for (what, keys) in &APART {
            let costs = cost(keys);
            let is_told = what.starts_with("audio of") && found.contains(&"audio by the second");
            if costs.is_some() && costs != plain && !is_told {
                found.push(what);
            }
        }
        found
    }

    /// Credits for `per`, if `of` cost so many USD.
    fn rate(&self, usd: f64, of: u32, per: u32) -> anyhow::Result<Rate> {
        let credits = Usd::of(usd, of, per).and_then(|usd| usd.credits(self.credits_per_usd));
        Ok(Rate::new(credits.context("its price is out of range")?, u64::from(per)))
    }

    fn cost(&self, used: &[(UsageKey, u32)]) -> anyhow::Result<PriceCalculation> {
        let mut usage = Usage::new();
        for (key, count) in used {
            usage.insert(key.clone(), f64::from(*count));
        }
        let request =
            PriceRequest::new(self.model, &usage).with_provider_id(self.provider).with_timestamp(self.at);
        Ok(Calculator::bundled().calculate(&request)?)
    }
}
