//! Prices as people write them: the original's JSON, with the classes and tiers that it did not know.

use accounting::{Credits, ModelId, Price, ProviderName, Rate, Tier};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Number, Value, json};

use super::prices::{self, NewPrice};
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

/// A model and its price in a file. Costs are credits for `per_input_tokens` or `per_output_tokens` tokens.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    provider: String,
    name: String,
    input_cost_credits: Amount,
    #[serde(default = "million")]
    per_input_tokens: u64,
    output_cost_credits: Amount,
    #[serde(default = "million")]
    per_output_tokens: u64,
    cached_input_cost_credits: Option<Amount>,
    cache_write_cost_credits: Option<Amount>,
    cache_write_long_cost_credits: Option<Amount>,
    input_audio_cost_credits: Option<Amount>,
    reasoning_cost_credits: Option<Amount>,
    output_audio_cost_credits: Option<Amount>,
    /// Credits for each image made.
    image_cost_credits: Option<Amount>,
    /// Credits for each request.
    request_cost_credits: Option<Amount>,
    #[serde(default)]
    tiers: Vec<TierEntry>,
    max_output_tokens: Option<u64>,
    context_tokens: Option<u64>,
}

/// The price of longer inputs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct TierEntry {
    above_input_tokens: u64,
    input_cost_credits: Amount,
    output_cost_credits: Amount,
    cached_input_cost_credits: Option<Amount>,
    cache_write_cost_credits: Option<Amount>,
    cache_write_long_cost_credits: Option<Amount>,
    input_audio_cost_credits: Option<Amount>,
    reasoning_cost_credits: Option<Amount>,
    output_audio_cost_credits: Option<Amount>,
}

const fn million() -> u64 {
    MILLION
}

impl Entry {
    fn read(self) -> Result<NewPrice, accounting::Error> {
        let (input, output) = (self.per_input_tokens, self.per_output_tokens);
        let rate = |amount: &Amount, per: u64| Ok::<_, accounting::Error>(Rate::new(amount.credits()?, per));
        let maybe =
            |amount: &Option<Amount>, per| amount.as_ref().map(|amount| rate(amount, per)).transpose();
        let mut price =
            Price::new(rate(&self.input_cost_credits, input)?, rate(&self.output_cost_credits, output)?);
        price.cached_input = maybe(&self.cached_input_cost_credits, input)?;
        price.cache_write = maybe(&self.cache_write_cost_credits, input)?;
        price.cache_write_long = maybe(&self.cache_write_long_cost_credits, input)?;
        price.input_audio = maybe(&self.input_audio_cost_credits, input)?;
        price.reasoning = maybe(&self.reasoning_cost_credits, output)?;
        price.output_audio = maybe(&self.output_audio_cost_credits, output)?;
        price.images = maybe(&self.image_cost_credits, 1)?;
        price.calls = maybe(&self.request_cost_credits, 1)?;
        for tier in &self.tiers {
            let mut dearer =
                Price::new(rate(&tier.input_cost_credits, input)?, rate(&tier.output_cost_credits, output)?);
            dearer.cached_input = maybe(&tier.cached_input_cost_credits, input)?;
            dearer.cache_write = maybe(&tier.cache_write_cost_credits, input)?;
            dearer.cache_write_long = maybe(&tier.cache_write_long_cost_credits, input)?;
            dearer.input_audio = maybe(&tier.input_audio_cost_credits, input)?;
            dearer.reasoning = maybe(&tier.reasoning_cost_credits, output)?;
            dearer.output_audio = maybe(&tier.output_audio_cost_credits, output)?;
            (dearer.images, dearer.calls) = (price.images, price.calls);
            price.tiers.push(Tier { above_input: tier.above_input_tokens, price: dearer });
        }
        Ok(NewPrice {
            provider: ProviderName::new(&self.provider)?,
            model: ModelId::new(self.id)?,
            name: self.name,
            price: price.checked()?,
            max_output_tokens: self.max_output_tokens,
            context_tokens: self.context_tokens,
        })
    }
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
        let wrong = |error: String| {
            let value: Value = serde_json::from_str(raw.get()).unwrap_or_default();
            let id = value.get("id").and_then(Value::as_str).unwrap_or("without id");
            Error::Invalid { what: format!("model {} ({id}): {error}", index + 1) }
        };
        let entry: Entry = serde_json::from_str(raw.get()).map_err(|error| wrong(error.to_string()))?;
        entry.read().map_err(|error| wrong(error.to_string()))
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
        let Some(there) = found.first() else { return Err(nearest::unknown_price(database, &model).await) };
        let mut merged = show(there);
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
    let price = &model.price;
    let cost = |rate: Rate| number(rate.credits);
    let mut shown = json!({
        "provider": model.provider.as_str(),
        "id": model.model.as_str(),
        "name": model.name,
        "input_cost_credits": cost(price.input),
        "per_input_tokens": price.input.per,
        "output_cost_credits": cost(price.output),
        "per_output_tokens": price.output.per,
    });
    let classes = |shown: &mut Value, price: &Price| {
        for (key, rate) in [
            ("cached_input_cost_credits", price.cached_input),
            ("cache_write_cost_credits", price.cache_write),
            ("cache_write_long_cost_credits", price.cache_write_long),
            ("input_audio_cost_credits", price.input_audio),
            ("reasoning_cost_credits", price.reasoning),
            ("output_audio_cost_credits", price.output_audio),
        ] {
            if let Some(rate) = rate {
                shown[key] = cost(rate);
            }
        }
    };
    classes(&mut shown, price);
    for (key, rate) in [("image_cost_credits", price.images), ("request_cost_credits", price.calls)] {
        if let Some(rate) = rate {
            shown[key] = cost(rate);
        }
    }
    let tiers = price.tiers.iter().map(|tier| {
        let mut shown = json!({
            "above_input_tokens": tier.above_input,
            "input_cost_credits": cost(tier.price.input),
            "output_cost_credits": cost(tier.price.output),
        });
        classes(&mut shown, &tier.price);
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
