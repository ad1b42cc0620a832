//! The models that an allowance is to cover, as administrators write them: `model`, or `provider/model`. A model's own id
//! may hold a `/` too, so both readings are looked up in the price table.

use std::collections::BTreeSet;

use accounting::{ModelId, ProviderName};
use jiff::Timestamp;

use crate::admin::prices;
use crate::sponsored::CoveredModel;
use crate::{Database, Error, PricedModel, nearest};

/// The models that are meant.
pub(super) async fn resolved(database: &Database, written: &[String]) -> Result<Vec<CoveredModel>, Error> {
    // A price that will hold is one too.
    let priced = prices::list(database, None, Timestamp::MAX).await?;
    let models: Result<BTreeSet<_>, _> = written.iter().map(|text| one(&priced, text)).collect();
    let models = models?;
    // Covered everywhere is covered at each provider.
    let everywhere = |covered: &CoveredModel| {
        covered.provider.is_some() && models.contains(&CoveredModel { provider: None, ..covered.clone() })
    };
    Ok(models.iter().filter(|covered| !everywhere(covered)).cloned().collect())
}

fn one(priced: &[PricedModel], text: &str) -> Result<CoveredModel, Error> {
    let model = ModelId::new(text)?;
    let whole: Vec<&PricedModel> = priced.iter().filter(|there| there.model == model).collect();
    let qualified = |mark: char| {
        let (provider, model) = text.split_once(mark)?;
        let (provider, model) = (ProviderName::new(provider).ok()?, ModelId::new(model).ok()?);
        let is_it = |there: &PricedModel| there.provider == provider && there.model == model;
        priced.iter().any(is_it).then_some(CoveredModel { provider: Some(provider), model })
    };
    match (whole.first(), qualified('/')) {
        (Some(_), None) => Ok(CoveredModel { provider: None, model }),
        (None, Some(covered)) => Ok(covered),
        (Some(other), Some(covered)) => Err(Error::Conflict {
            what: format!(
                "`{text}` is a model of {}, and also the model {} of {}; write `{}/{text}` for the first, `{}:{}` for the \
                 second",
                other.provider,
                covered.model,
                covered.provider.as_ref().map_or("", ProviderName::as_str),
                other.provider,
                covered.provider.as_ref().map_or("", ProviderName::as_str),
                covered.model
            ),
        }),
        (None, None) => qualified(':').ok_or_else(|| unknown(priced, &model)),
    }
}

/// Names the providers that have a model of that id, or else what was probably meant.
fn unknown(priced: &[PricedModel], model: &ModelId) -> Error {
    let otherwise = "`owui-token-tracking pricing list` shows all, `pricing add` makes one";
    let last = model.as_str().rsplit('/').next().unwrap_or_default();
    let elsewhere = priced.iter().filter(|there| there.model.as_str() == last);
    let elsewhere: Vec<String> = elsewhere.map(|there| format!("{}/{last}", there.provider)).collect();
    let hint = if elsewhere.is_empty() {
        nearest::hint(last, priced.iter().map(|there| there.model.as_str()), otherwise)
    } else {
        format!("; there is {}. {otherwise}", elsewhere.join(", "))
    };
    Error::NotFound { what: "price of", name: model.to_string(), hint }
}

#[cfg(test)]
mod tests {
    use accounting::{Price, PriceVersion};

    use super::*;

    fn priced(provider: &str, model: &str) -> PricedModel {
        PricedModel {
            provider: ProviderName::new(provider).unwrap(),
            model: ModelId::new(model).unwrap(),
            name: model.into(),
            version: PriceVersion(1),
            price: Price::FREE,
            max_output_tokens: None,
            context_tokens: None,
        }
    }

    #[test]
    fn both_readings_of_a_slash_are_looked_up() {
        let table = [
            priced("openai", "gpt-4o"),
            priced("azure", "gpt-4o"),
            priced("openrouter", "openai/gpt-4o"),
            priced("openrouter", "meta/llama"),
            priced("ollama", "llama3:8b"),
        ];
        let read =
            |text: &str| one(&table, text).map(|covered| (covered.provider.is_some(), covered.to_string()));
        assert_eq!(read("gpt-4o").unwrap(), (false, "gpt-4o".into()));
        assert_eq!(read("Azure/gpt-4o").unwrap(), (true, "azure/gpt-4o".into()));
        assert_eq!(read("meta/llama").unwrap(), (false, "meta/llama".into()));
        assert_eq!(read("openrouter/meta/llama").unwrap(), (true, "openrouter/meta/llama".into()));
        assert_eq!(read("openrouter/openai/gpt-4o").unwrap(), (true, "openrouter/openai/gpt-4o".into()));
        assert_eq!(read("openai:gpt-4o").unwrap(), (true, "openai/gpt-4o".into()));
        assert_eq!(read("llama3:8b").unwrap(), (false, "llama3:8b".into()));
        let both = read("openai/gpt-4o").unwrap_err().to_string();
        assert!(both.contains("`openrouter/openai/gpt-4o`") && both.contains("`openai:gpt-4o`"), "{both}");
        let elsewhere = read("mistral/gpt-4o").unwrap_err().to_string();
        assert!(elsewhere.contains("there is openai/gpt-4o, azure/gpt-4o"), "{elsewhere}");
        assert!(read("azure/gpt4o").unwrap_err().to_string().contains("did you mean `gpt-4o`?"));
        assert!(read("nothing").unwrap_err().to_string().contains("pricing list"));
    }
}
