//! The prices that a new installation begins with, and those in files.

use accounting::{ModelId, ProviderName};
use anyhow::Context;
use jiff::Timestamp;
use serde::Deserialize;
use storage::admin::price_list;
use storage::admin::prices::NewPrice;

use crate::upstream;

/// Current models of the four vendors whose pipes are here, and every model that the original begins with.
const FIRST: &str = include_str!("models.json");

/// What the original begins with and the public list does not have: Mistral Small 24.09 at the price of its release, by Mistral's
/// announcement of 17 September 2024 (0.20 USD and 0.60 USD); its endpoint was retired in November 2025.
const OWN: &str = r#"[{"provider": "mistral", "id": "mistral-small-2409", "name": "Mistral Small 24.09",
    "input_cost_credits": 200, "output_cost_credits": 600, "context_tokens": 32000}]"#;

/// A model to begin with; its price is the public list's.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct First {
    provider: String,
    id: String,
    /// Where the list's name will not do.
    name: Option<String>,
    /// The list does not know it.
    max_output_tokens: Option<u64>,
    /// `PROVIDER/MODEL` in the list, if another provider's price is meant: weights that anybody may serve.
    list: Option<String>,
}

/// The prices in a JSON file.
pub(crate) fn read_file(path: &std::path::Path) -> anyhow::Result<Vec<NewPrice>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    price_list::parse(&text).with_context(|| format!("in {}", path.display()))
}

/// The prices that a new installation begins with, as they are now.
pub(crate) fn built_in(now: Timestamp) -> anyhow::Result<Vec<NewPrice>> {
    let first: Vec<First> = serde_json::from_str(FIRST)?;
    let mut prices = first.into_iter().map(|first| first.priced(now)).collect::<anyhow::Result<Vec<_>>>()?;
    prices.extend(price_list::parse(OWN)?);
    Ok(prices)
}

impl First {
    fn priced(self, now: Timestamp) -> anyhow::Result<NewPrice> {
        let provider = ProviderName::new(&self.provider)?;
        let listed = self.list.as_deref().and_then(|list| list.split_once('/'));
        let (from, model) = listed.unwrap_or((&self.provider, &self.id));
        let listed = upstream::price(from, model, Some(&provider), upstream::usual_rate(), now)?;
        Ok(NewPrice {
            model: ModelId::new(self.id)?,
            name: self.name.unwrap_or(listed.new.name),
            max_output_tokens: self.max_output_tokens,
            ..listed.new
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_installation_begins_with_prices_by_tokens_of_models_that_are_offered_once() {
        let models = built_in("2026-11-24T12:00:00Z".parse().unwrap()).unwrap();
        let mut keys: Vec<_> = models.iter().map(|model| (&model.provider, &model.model)).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), models.len());
        for model in &models {
            assert!(model.price.input.credits > accounting::Credits::ZERO, "{model:?}");
            assert!(!model.name.is_empty() && model.price.clone().checked().is_ok());
        }
    }
}
