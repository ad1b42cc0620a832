//! What models cost at their providers: the data of the crate `genai-prices`, behind an interface of our own.
//!
//! The crate answers what a request costs, not what a price is made of. So it is asked for requests of one class of tokens
//! each, and for longer and longer inputs to find the tiers.

mod probe;
mod usd;

use accounting::{Credits, ModelId, ProviderName};
use anyhow::{Context, bail};
use genai_prices::Calculator;
use jiff::Timestamp;
use storage::admin::prices::{NewPrice, Upstream};

use self::probe::Probe;

/// The list and its version, as it is in `Cargo.lock`.
pub(crate) const LIST: &str = "genai-prices 0.2.1";

/// Credits for one USD, where nothing else is said.
pub(crate) fn usual_rate() -> Credits {
    Credits::from_whole(1000).unwrap_or(Credits::MAX)
}

/// The providers that are named in another way here.
const NAMES: [(&str, &str); 1] = [("google", "google_genai")];

/// Our name of a provider of the list.
pub(crate) fn our_name(theirs: &str) -> &str {
    NAMES.iter().find(|(listed, _)| *listed == theirs).map_or(theirs, |(_, ours)| ours)
}

fn their_name(ours: &str) -> &str {
    NAMES.iter().find(|(_, name)| *name == ours).map_or(ours, |(listed, _)| listed)
}

/// A model of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The provider, as the list names it.
    pub provider: &'static str,
    pub model: &'static str,
    pub name: Option<&'static str>,
}

/// A price from the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub new: NewPrice,
    pub upstream: Upstream,
    /// The entry of the list that has this model: of several ids of one model, the list has one.
    pub entry: String,
    /// What its provider charges beside, and this program can't tell apart.
    pub apart: Vec<&'static str>,
}

/// All models of the list.
pub(crate) fn entries() -> impl Iterator<Item = Entry> {
    Calculator::bundled().providers().flat_map(|provider| {
        provider.models().map(move |model| Entry {
            provider: provider.id(),
            model: model.id(),
            name: model.name(),
        })
    })
}

/// The entries whose provider, model or name has all words of a text.
pub(crate) fn search(text: &str) -> Vec<Entry> {
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    let fits = |entry: &Entry| {
        let ours = our_name(entry.provider);
        let named = format!("{}/{} {ours} {}", entry.provider, entry.model, entry.name.unwrap_or_default())
            .to_lowercase();
        words.iter().all(|word| named.contains(word))
    };
    entries().filter(fits).collect()
}

/// The price of `PROVIDER/MODEL` now, in credits at that rate; for the provider `here`, if the price table is to name it so.
pub(crate) fn price(
    provider: &str,
    model: &str,
    here: Option<&ProviderName>,
    credits_per_usd: Credits,
    now: Timestamp,
) -> anyhow::Result<Listed> {
    let calculator = Calculator::bundled();
    let Some(listed) = calculator.providers().find(|listed| listed.id() == their_name(provider)) else {
        bail!("{LIST} has no provider {provider}; it has: {}", all_providers());
    };
    let probe = Probe::new(listed.id(), model, credits_per_usd, now).with_context(|| {
        format!("{LIST} has no model {model} of {provider}; `owui-token-tracking pricing search {model}` shows what it has")
    })?;
    let found = probe.find().with_context(|| format!("{provider}/{model}"))?;
    // The model may be another provider's, which this one serves at its price.
    let mut known = listed.models().chain(calculator.providers().flat_map(|provider| provider.models()));
    let about = known.find(|about| about.id() == found.entry);
    let name = about.and_then(|about| about.name()).filter(|_| found.entry == model).unwrap_or(model);
    let provider = here.cloned().map_or_else(|| ProviderName::new(our_name(listed.id())), Ok)?;
    Ok(Listed {
        new: NewPrice {
            provider,
            model: ModelId::new(model)?,
            name: name.to_owned(),
            price: found.price.checked()?,
            max_output_tokens: None,
            context_tokens: about.and_then(|about| about.context_window()),
        },
        upstream: Upstream {
            list: LIST.into(),
            provider: listed.id().into(),
            model: model.into(),
            credits_per_usd,
        },
        entry: found.entry,
        apart: found.apart,
    })
}

/// USD for a million tokens at a price, for people.
pub(crate) fn usd_for_a_million(rate: accounting::Rate, credits_per_usd: Credits) -> String {
    usd::shown(rate.credits, rate.per, credits_per_usd).unwrap_or_default()
}

fn all_providers() -> String {
    let names: Vec<&str> =
        Calculator::bundled().providers().map(|provider| our_name(provider.id())).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use accounting::{Price, Rate};

    use super::*;

    const NOON: &str = "2026-11-24T12:00:00Z";

    fn found(provider: &str, model: &str) -> Listed {
        price(provider, model, None, usual_rate(), NOON.parse().unwrap()).unwrap()
    }

    fn million(credits: &str) -> Rate {
        Rate::new(credits.parse().unwrap(), 1_000_000)
    }

    #[test]
    fn the_list_is_named_with_its_version() {
        let lock = include_str!("../../../../Cargo.lock");
        let locked = lock.split_once("name = \"genai-prices\"\nversion = \"").unwrap().1;
        let version = locked.split_once('"').unwrap().0;
        assert_eq!(LIST, format!("genai-prices {version}"));
    }

    #[test]
    fn every_class_of_tokens_has_its_price() {
        let gpt = found("openai", "gpt-4o");
        assert_eq!(
            gpt.new.price,
            Price { cached_input: Some(million("1250")), ..Price::new(million("2500"), million("10000")) }
        );
        assert_eq!((gpt.new.provider.as_str(), gpt.new.context_tokens), ("openai", Some(128_000)));
        let claude = found("anthropic", "claude-sonnet-4-5-20250929");
        assert_eq!(claude.entry, "claude-sonnet-4-5");
        assert_eq!(claude.upstream.model, "claude-sonnet-4-5-20250929");
        let price = &claude.new.price;
        assert_eq!((price.input, price.output), (million("3000"), million("15000")));
        assert_eq!(
            (price.cached_input, price.cache_write, price.cache_write_long),
            (Some(million("300")), Some(million("3750")), Some(million("6000")))
        );
        let flash = found("google_genai", "gemini-2.5-flash");
        assert_eq!(flash.new.provider.as_str(), "google_genai");
        assert_eq!(flash.new.price.input_audio, Some(million("1000")));
        let spoken = found("openai", "gpt-audio");
        assert_eq!(spoken.new.price.output_audio, Some(million("64000")));
    }

    #[test]
    fn tiers_begin_where_they_do() {
        let pro = found("google", "gemini-2.5-pro").new.price;
        assert_eq!((pro.input, pro.output), (million("1250"), million("10000")));
        let [tier] = pro.tiers.as_slice() else { unreachable!("{pro:?}") };
        assert_eq!(
            (tier.above_input, tier.price.input, tier.price.output),
            (200_000, million("2500"), million("15000"))
        );
        let tiered = |provider: &str, model: &str| -> Vec<u64> {
            found(provider, model).new.price.tiers.iter().map(|tier| tier.above_input).collect()
        };
        assert_eq!(tiered("openai", "gpt-5.4"), [272_000]);
        assert!(tiered("openai", "gpt-4o").is_empty());
    }

    #[test]
    fn what_has_no_price_by_tokens_is_refused_and_the_rest_is_told() {
        let now = NOON.parse().unwrap();
        let refused = |provider: &str, model: &str| {
            format!("{:#}", price(provider, model, None, usual_rate(), now).unwrap_err())
        };
        assert!(refused("openai", "whisper-1").contains("audio by the second"));
        assert!(refused("nobody", "m").contains("google_genai"));
        assert!(refused("openai", "no-such-model").contains("pricing search no-such-model"));
        assert_eq!(found("google", "gemini-3-pro-image-preview").apart, ["image tokens of the output"]);
        assert!(found("google", "gemma-3").new.price.is_free());
    }

    #[test]
    fn another_rate_is_another_price_of_the_same() {
        let rate = "333.333333".parse().unwrap();
        let listed = price("openai", "gpt-4o", None, rate, NOON.parse().unwrap()).unwrap();
        assert_eq!(listed.new.price.input, million("833.333333"));
        assert!(listed.new.price.tiers.is_empty());
        let usd = |rate| usd_for_a_million(rate, usual_rate());
        assert_eq!(usd(found("openai", "gpt-4o").new.price.input), "2.5");
    }

    #[test]
    fn prices_by_the_time_of_the_day_are_those_of_the_dearest() {
        let at = |time: &str| {
            let now = format!("2025-08-01T{time}Z").parse().unwrap();
            price("deepseek", "deepseek-chat", None, usual_rate(), now).unwrap().new.price
        };
        assert_eq!(at("01:00:00"), at("20:00:00"));
    }

    #[test]
    fn every_model_of_the_list_has_a_price_or_a_reason() {
        let now: Timestamp = NOON.parse().unwrap();
        let (mut priced, mut others) = (0, 0);
        let vendors = ["openai", "anthropic", "google", "mistral", "deepseek"];
        for entry in entries().filter(|entry| vendors.contains(&entry.provider)) {
            match price(entry.provider, entry.model, None, usual_rate(), now)
                .map_err(|error| format!("{error:#}"))
            {
                Ok(_) => priced += 1,
                // Some entries are known by other ids only.
                Err(error) if error.contains("not by tokens") || error.contains("has no model") => {
                    others += 1
                }
                Err(error) => unreachable!("{entry:?}: {error}"),
            }
        }
        assert!(priced > 200 && others > 5, "{priced} {others}");
    }
}
