//! Prices as people write them: the original's JSON, with the classes and tiers that it did not know.

use std::collections::BTreeMap;

use accounting::{Credits, ModelId, Price, ProviderName, Rate, Tier, check_name};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Number, Value, json};

use super::prices::{self, LONGEST_NAME, NewPrice};
use crate::{Database, Error, PricedModel, nearest};

const MILLION: u64 = 1_000_000;

/// An amount of credits as a JSON number or text, as it is written: a number never becomes a float on the way.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
struct Amount(Box<RawValue>);

impl Amount {
    fn credits(&self) -> Result<Credits, accounting::Error> {
        let text = self.0.get();
        let unquoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
        unquoted.parse()
    }
}

/// Which tokens a class is part of: its rate is for as many, where nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whole {
    Input,
    Output,
}

type Slot = fn(&mut Price) -> &mut Option<Rate>;

/// The classes of tokens beside input and output: `{name}_cost_credits` for `per_{name}_tokens`.
const CLASSES: [(&str, Whole, Slot); 6] = [
    ("cached_input", Whole::Input, |price| &mut price.cached_input),
    ("cache_write", Whole::Input, |price| &mut price.cache_write),
    ("cache_write_long", Whole::Input, |price| &mut price.cache_write_long),
    ("input_audio", Whole::Input, |price| &mut price.input_audio),
    ("reasoning", Whole::Output, |price| &mut price.reasoning),
    ("output_audio", Whole::Output, |price| &mut price.output_audio),
];
/// What is counted apiece: `{name}_cost_credits` for `per_{name}s`.
const APIECE: [(&str, Slot); 2] =
    [("image", |price| &mut price.images), ("request", |price| &mut price.calls)];

/// A JSON object that is taken apart field by field, so that what is left over is a mistake.
struct Fields(BTreeMap<String, Box<RawValue>>);

impl Fields {
    fn read(raw: &RawValue) -> Result<Self, String> {
        serde_json::from_str(raw.get()).map(Self).map_err(|error| error.to_string())
    }

    fn maybe<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>, String> {
        let Some(raw) = self.0.remove(key).filter(|raw| raw.get() != "null") else { return Ok(None) };
        serde_json::from_str(raw.get()).map_err(|error| format!("{key}: {error}"))
    }

    fn must<T: DeserializeOwned>(&mut self, key: &str) -> Result<T, String> {
        self.maybe(key)?.ok_or_else(|| format!("missing field `{key}`"))
    }

    /// Credits for so many, if they are given.
    fn rate(&mut self, cost: &str, per: &str, default_per: u64) -> Result<Option<Rate>, String> {
        let (credits, per) = (self.maybe::<Amount>(cost)?, self.maybe::<u64>(per)?.unwrap_or(default_per));
        let credits =
            credits.map(|amount| amount.credits().map_err(|error| format!("{cost}: {error}"))).transpose()?;
        Ok(credits.map(|credits| Rate::new(credits, per)))
    }

    /// The rates of tokens, for the model or for one of its tiers.
    fn tokens(&mut self, per_input: u64, per_output: u64) -> Result<Price, String> {
        let must = |rate: Option<Rate>, key: &str| rate.ok_or_else(|| format!("missing field `{key}`"));
        let input =
            must(self.rate("input_cost_credits", "per_input_tokens", per_input)?, "input_cost_credits")?;
        let output =
            must(self.rate("output_cost_credits", "per_output_tokens", per_output)?, "output_cost_credits")?;
        let mut price = Price::new(input, output);
        for (name, whole, slot) in CLASSES {
            let per = if whole == Whole::Input { input.per } else { output.per };
            *slot(&mut price) =
                self.rate(&format!("{name}_cost_credits"), &format!("per_{name}_tokens"), per)?;
        }
        Ok(price)
    }

    fn nothing_else(self) -> Result<(), String> {
        self.0.into_keys().next().map_or(Ok(()), |key| Err(format!("unknown field `{key}`")))
    }
}

fn read(raw: &RawValue) -> Result<NewPrice, String> {
    let mut fields = Fields::read(raw)?;
    // What lists say beside the price itself.
    for about in ["version", "valid_from", "source", "upstream"] {
        fields.0.remove(about);
    }
    let (id, provider, name): (String, String, String) =
        (fields.must("id")?, fields.must("provider")?, fields.must("name")?);
    check_name(&name, "the name of a model", LONGEST_NAME).map_err(|error| error.to_string())?;
    let mut price = fields.tokens(MILLION, MILLION)?;
    for (name, slot) in APIECE {
        *slot(&mut price) = fields.rate(&format!("{name}_cost_credits"), &format!("per_{name}s"), 1)?;
    }
    for raw in fields.maybe::<Vec<Box<RawValue>>>("tiers")?.unwrap_or_default() {
        let tier = read_tier(&raw, &price).map_err(|error| format!("tiers: {error}"))?;
        price.tiers.push(tier);
    }
    let new = NewPrice {
        provider: ProviderName::new(&provider).map_err(|error| error.to_string())?,
        model: ModelId::new(id).map_err(|error| error.to_string())?,
        name,
        price: price.checked().map_err(|error| error.to_string())?,
        max_output_tokens: fields.maybe("max_output_tokens")?,
        context_tokens: fields.maybe("context_tokens")?,
    };
    fields.nothing_else()?;
    Ok(new)
}

fn read_tier(raw: &RawValue, base: &Price) -> Result<Tier, String> {
    let mut fields = Fields::read(raw)?;
    let above_input = fields.must("above_input_tokens")?;
    let mut price = fields.tokens(base.input.per, base.output.per)?;
    // What is counted apiece costs the same at any length.
    (price.images, price.calls) = (base.images, base.calls);
    fields.nothing_else()?;
    Ok(Tier { above_input, price })
}

/// A tier of a price as people write it, in JSON: `above_input_tokens`, and costs as of a model. Tokens are counted by as many as
/// in `base`, where nothing else is said.
///
/// # Errors
/// [`Error::Invalid`] says what is wrong.
pub fn parse_tier(text: &str, base: &Price) -> Result<Tier, Error> {
    let raw: &RawValue = serde_json::from_str(text)
        .map_err(|error| Error::Invalid { what: format!("this is no valid JSON: {error}") })?;
    read_tier(raw, base).map_err(|what| Error::Invalid { what })
}

/// The prices in a JSON text: a list of models, or one.
///
/// # Errors
/// [`Error::Invalid`] says which model is wrong, and how.
pub fn parse(text: &str) -> Result<Vec<NewPrice>, Error> {
    let whole: &RawValue = serde_json::from_str(text)
        .map_err(|error| Error::Invalid { what: format!("this is no valid JSON: {error}") })?;
    let list: Vec<&RawValue> = serde_json::from_str(whole.get()).unwrap_or_else(|_| vec![whole]);
    let read = |(index, raw): (usize, &RawValue)| {
        read(raw).map_err(|error| {
            let value: Value = serde_json::from_str(raw.get()).unwrap_or_default();
            let id = value.get("id").and_then(Value::as_str).unwrap_or("without id");
            Error::Invalid { what: format!("model {} ({id}): {error}", index + 1) }
        })
    };
    list.into_iter().enumerate().map(read).collect()
}

/// The present prices of the models in a JSON text, with what it changes of them: each names its `id` and its `provider`.
///
/// # Errors
/// [`Error::NotFound`] for a model that has no price, else as [`parse`].
pub async fn updated(database: &Database, text: &str, now: Timestamp) -> Result<Vec<NewPrice>, Error> {
    let value: Value = serde_json::from_str(text)
        .map_err(|error| Error::Invalid { what: format!("this is no valid JSON: {error}") })?;
    let list = if let Value::Array(list) = value { list } else { vec![value] };
    let mut updated = Vec::new();
    for change in list {
        let word = |key: &str| change.get(key).and_then(Value::as_str).map(str::to_owned);
        let (Some(id), Some(provider)) = (word("id"), word("provider")) else {
            return Err(Error::Invalid { what: "each update names its `id` and its `provider`".into() });
        };
        let (model, provider) = (ModelId::new(id)?, ProviderName::new(provider)?);
        let found = prices::get(database, &model, Some(&provider), now).await?;
        let Some(there) = found.first() else {
            return Err(nearest::unknown_price(database, &model, Some(&provider)).await);
        };
        let mut merged = shown(&NewPrice::from(there.clone()), true);
        if let (Value::Object(merged), Value::Object(change)) = (&mut merged, change) {
            merged.extend(change);
        }
        updated.extend(parse(&merged.to_string())?);
    }
    Ok(updated)
}

/// Credits as an exact JSON number.
fn number(credits: Credits) -> Value {
    credits.to_string().parse::<Number>().map_or(Value::Null, Value::Number)
}

/// A price as JSON, in the form in which it can be read again.
pub fn show(model: &PricedModel) -> Value {
    describe(&NewPrice::from(model.clone()))
}

/// The same of a price that is not written yet.
pub fn describe(model: &NewPrice) -> Value {
    shown(model, false)
}

/// In full, each rate says for how many it is, so that none changes with another.
fn shown(model: &NewPrice, full: bool) -> Value {
    let mut shown =
        json!({"provider": model.provider.as_str(), "id": model.model.as_str(), "name": model.name});
    let mut price = model.price.clone();
    show_tokens(&mut shown, &mut price, None, full);
    for (name, slot) in APIECE {
        show_rate(
            &mut shown,
            *slot(&mut price),
            &format!("{name}_cost_credits"),
            &format!("per_{name}s"),
            Some(1),
        );
    }
    let tiers = model.price.tiers.iter().map(|tier| {
        let mut shown = json!({"above_input_tokens": tier.above_input});
        show_tokens(&mut shown, &mut tier.price.clone(), Some(&model.price).filter(|_| !full), full);
        shown
    });
    let tiers: Vec<Value> = tiers.collect();
    if !tiers.is_empty() {
        shown["tiers"] = Value::Array(tiers);
    }
    for (key, tokens) in
        [("max_output_tokens", model.max_output_tokens), ("context_tokens", model.context_tokens)]
    {
        if let Some(tokens) = tokens {
            shown[key] = tokens.into();
        }
    }
    shown
}

/// The rates of tokens; in a tier, `per` only where it is not that of its model.
fn show_tokens(shown: &mut Value, price: &mut Price, base: Option<&Price>, full: bool) {
    let (input, output) = (price.input, price.output);
    let (per_input, per_output) = (base.map(|base| base.input.per), base.map(|base| base.output.per));
    show_rate(shown, Some(input), "input_cost_credits", "per_input_tokens", per_input);
    show_rate(shown, Some(output), "output_cost_credits", "per_output_tokens", per_output);
    for (name, whole, slot) in CLASSES {
        let per = if whole == Whole::Input { input.per } else { output.per };
        let (cost, per_key) = (format!("{name}_cost_credits"), format!("per_{name}_tokens"));
        show_rate(shown, *slot(price), &cost, &per_key, Some(per).filter(|_| !full));
    }
}

fn show_rate(shown: &mut Value, rate: Option<Rate>, cost: &str, per: &str, usual_per: Option<u64>) {
    let Some(rate) = rate else { return };
    shown[cost] = number(rate.credits);
    if usual_per != Some(rate.per) {
        shown[per] = rate.per.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_read_again_with_every_class() {
        let text = r#"[{"provider":"p","id":"m","name":"M","input_cost_credits":1,"per_input_tokens":1000,"output_cost_credits":2,
            "per_output_tokens":1000,"cached_input_cost_credits":0.1,"cache_write_cost_credits":1.25,
            "cache_write_long_cost_credits":2,"input_audio_cost_credits":3,"reasoning_cost_credits":4,
            "output_audio_cost_credits":5,"image_cost_credits":6,"request_cost_credits":7,"tiers":[
            {"above_input_tokens":200000,"input_cost_credits":2,"output_cost_credits":3,"cached_input_cost_credits":0.2,
            "cache_write_cost_credits":2.5,"cache_write_long_cost_credits":4,"input_audio_cost_credits":6,
            "reasoning_cost_credits":8,"output_audio_cost_credits":10}]}]"#;
        let new = parse(text).unwrap().remove(0);
        let NewPrice { provider, model, name, price, max_output_tokens, context_tokens } = new.clone();
        let version = accounting::PriceVersion(1);
        let there = PricedModel { provider, model, name, version, price, max_output_tokens, context_tokens };
        assert_eq!(parse(&show(&there).to_string()).unwrap(), [new]);
    }

    #[test]
    fn amounts_are_exact_and_mistakes_are_named() {
        let one = r#"{"id":"m","provider":"P","name":"M","input_cost_credits":0.000001,"output_cost_credits":"2.5"}"#;
        let parsed = parse(one).unwrap();
        assert_eq!(parsed[0].price.input, Rate::new(Credits::from_micro(1), MILLION));
        assert_eq!(parsed[0].price.output, Rate::new(Credits::from_micro(2_500_000), MILLION));
        for (text, says) in [
            ("{", "no valid JSON"),
            (r#"{"id":"m"}"#, "model 1 (m)"),
            (
                r#"[{"id":"m","provider":"p","name":"n","input_cost_credits":-1,"output_cost_credits":1}]"#,
                "below zero",
            ),
            (
                r#"{"id":"m","provider":"p","name":"n","input_cost_credits":1,"output_cost_credits":1,"x":1}"#,
                "unknown field",
            ),
            (
                r#"{"id":"m","provider":"p","name":"n","input_cost_credits":1e-9,"output_cost_credits":1}"#,
                "no amount",
            ),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
