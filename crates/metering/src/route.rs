//! Which provider serves a model, and at which price.

use std::collections::{HashMap, HashSet};

use accounting::{ModelId, Price, PriceVersion, ProviderName, SponsoredId, UserId};
use providers::Provider;
use storage::{Snapshot, Unpriced, nearest};

use crate::MeterError;
use crate::model_lists::ModelLists;
use crate::sponsored::{self, Audience};

/// A model of a provider, with the price that it has now.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub provider: ProviderName,
    pub model: ModelId,
    pub price: Price,
    /// `None` for a model that is served free because it has no price.
    pub version: Option<PriceVersion>,
    pub max_output_tokens: Option<u64>,
    /// Whether OpenAI itself serves it: only there its name says for certain which model it is.
    pub is_openais: bool,
    /// The allowance whose model of its own was asked for.
    pub sponsored: Option<SponsoredId>,
}

/// A model that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedModel {
    /// The id to ask for: the provider's own; `provider/id` where two providers have the same, or where that of one means a
    /// model of another.
    pub id: String,
    /// The provider's name in the price table.
    pub provider: String,
    /// The provider's own id.
    pub model: ModelId,
    /// The name for people.
    pub name: String,
}

/// The configured providers.
#[derive(Debug)]
pub(crate) struct Routes {
    providers: Vec<Provider>,
    lists: ModelLists,
}

impl Routes {
    pub(crate) fn new(providers: Vec<Provider>) -> Self {
        Self { providers, lists: ModelLists::default() }
    }

    /// The models that have a price and a provider.
    pub(crate) fn offered(&self, snapshot: &Snapshot) -> Vec<OfferedModel> {
        let served: Vec<_> =
            snapshot.models().filter(|model| self.named(&model.provider).is_some()).collect();
        let mut count: HashMap<&ModelId, usize> = HashMap::new();
        for model in &served {
            *count.entry(&model.model).or_default() += 1;
        }
        let qualified = |model: &storage::PricedModel| format!("{}/{}", model.provider, model.model);
        let all_qualified: HashSet<String> = served.iter().map(|model| qualified(model)).collect();
        let id = |model: &storage::PricedModel| match count.get(&model.model) {
            Some(1) if !all_qualified.contains(model.model.as_str()) => model.model.to_string(),
            _ => qualified(model),
        };
        let mut offered: Vec<_> = served
            .iter()
            .map(|model| OfferedModel {
                id: id(model),
                provider: model.provider.to_string(),
                model: model.model.clone(),
                name: model.name.clone(),
            })
            .collect();
        offered.sort_by(|a, b| a.id.cmp(&b.id));
        offered
    }

    /// The same with the models that sponsored allowances offer as models of their own.
    pub(crate) fn offered_to(&self, snapshot: &Snapshot, audience: Audience<'_>) -> Vec<OfferedModel> {
        let mut models = self.offered(snapshot);
        models.extend(sponsored::offered(snapshot, &models, audience));
        models
    }

    /// The error for a model that there is not, with those of this user's that may have been meant.
    pub(crate) fn with_meant(&self, snapshot: &Snapshot, user: &UserId, error: MeterError) -> MeterError {
        let MeterError::UnknownModel { model, .. } = error else { return error };
        let offered = self.offered_to(snapshot, Audience::User(user));
        let meant = nearest::several(&model, offered.iter().map(|model| model.id.as_str()));
        MeterError::UnknownModel { meant: meant.into_iter().map(Into::into).collect(), model }
    }

    /// The ids of the models that cost nothing. Without providers of its own (each request names one), all that there are.
    pub(crate) fn free(&self, snapshot: &Snapshot) -> Vec<String> {
        let offered = self.offered(snapshot);
        let free = snapshot.models().filter(|model| model.price.is_free());
        let id = |model: &storage::PricedModel| {
            let is_it = |offer: &&OfferedModel| {
                offer.provider == model.provider.as_str() && offer.model == model.model
            };
            match offered.iter().find(is_it) {
                Some(offer) => Some(offer.id.clone()),
                None => self.providers.is_empty().then(|| model.model.to_string()),
            }
        };
        let mut ids: Vec<String> = free.filter_map(id).collect();
        ids.sort_unstable();
        ids
    }

    /// The route of `asked`: `provider/id` with a provider of ours, else a model's id; or one of those as an allowance's own.
    pub(crate) async fn find(
        &self,
        snapshot: &Snapshot,
        asked: &str,
    ) -> Result<(Provider, Route), MeterError> {
        match sponsored::own_model(snapshot, asked)? {
            Some((id, model)) => {
                let (provider, route) = self.plain(snapshot, model).await?;
                Ok((provider, Route { sponsored: Some(id), ..route }))
            }
            None => self.plain(snapshot, asked).await,
        }
    }

    async fn plain(&self, snapshot: &Snapshot, asked: &str) -> Result<(Provider, Route), MeterError> {
        let unknown = || unknown(asked);
        let model = ModelId::new(asked).map_err(|_| unknown())?;
        let priced = |provider: &Provider, model: &ModelId| {
            Some((provider.clone(), priced(snapshot, provider.name(), model)?))
        };
        let qualified = self.qualified(asked);
        // Whoever names one of ours means it, also where another's own ids look like that (`anthropic/…` of OpenRouter).
        if let Some((provider, model)) = &qualified {
            usable(snapshot, provider.name(), model)?;
            if let Some(found) = priced(provider, model) {
                return Ok(found);
            }
        }
        let mut found: Vec<(Provider, Route)> =
            self.providers.iter().filter_map(|provider| priced(provider, &model)).collect();
        if found.is_empty() {
            for provider in &self.providers {
                usable(snapshot, provider.name(), &model)?;
            }
        }
        match found.len() {
            0 => Box::pin(self.without_price(snapshot, qualified, model)).await?.ok_or_else(unknown),
            1 => Ok(found.swap_remove(0)),
            _ => {
                let choices: Vec<_> =
                    found.iter().map(|(_, route)| format!("{}/{}", route.provider, route.model)).collect();
                Err(MeterError::BadRequest {
                    message: format!(
                        "several providers have this model; ask for one of: {}",
                        choices.join(", ")
                    ),
                    param: Some("model".into()),
                    details: None,
                })
            }
        }
    }

    /// A model without a price that a provider offers: see [`unpriced`]. `None` if no provider has it.
    async fn without_price(
        &self,
        snapshot: &Snapshot,
        qualified: Option<(&Provider, ModelId)>,
        model: ModelId,
    ) -> Result<Option<(Provider, Route)>, MeterError> {
        let candidates: Vec<(&Provider, ModelId)> = match qualified {
            Some(one) => vec![one],
            None => self.providers.iter().map(|provider| (provider, model.clone())).collect(),
        };
        let Some((provider, model)) = self.lists.find(candidates).await else { return Ok(None) };
        Ok(Some((provider.clone(), unpriced(snapshot, provider.name(), model)?)))
    }

    fn qualified(&self, asked: &str) -> Option<(&Provider, ModelId)> {
        let (provider, model) = asked.split_once('/')?;
        let provider = self.named(&ProviderName::new(provider).ok()?)?;
        Some((provider, ModelId::new(model).ok()?))
    }

    fn named(&self, name: &ProviderName) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.name() == name)
    }
}

/// The route to a model of that provider, whoever sends the request.
pub(crate) fn at(snapshot: &Snapshot, provider: &ProviderName, asked: &str) -> Result<Route, MeterError> {
    let (sponsored, asked) = match sponsored::own_model(snapshot, asked)? {
        Some((id, model)) => (Some(id), model),
        None => (None, asked),
    };
    let model = ModelId::new(asked).map_err(|_| unknown(asked))?;
    let route = match priced(snapshot, provider, &model) {
        Some(route) => route,
        None => unpriced(snapshot, provider, model)?,
    };
    Ok(Route { sponsored, ..route })
}

fn priced(snapshot: &Snapshot, provider: &ProviderName, model: &ModelId) -> Option<Route> {
    let priced = snapshot.price(provider, model)?;
    Some(Route {
        provider: provider.clone(),
        model: priced.model.clone(),
        price: priced.price.clone(),
        version: Some(priced.version),
        max_output_tokens: priced.max_output_tokens,
        is_openais: false,
        sponsored: None,
    })
}

/// A model without a price: refused with the command that helps, free, or at the default price, as the setting
/// `unpriced_models` says. Without a default price, refused.
fn unpriced(snapshot: &Snapshot, provider: &ProviderName, model: ModelId) -> Result<Route, MeterError> {
    // A model that nobody has priced has the name that a request gives it.
    let model = ModelId::from_outside(model.as_str())?;
    usable(snapshot, provider, &model)?;
    snapshot.settings().require(&["unpriced_models"])?;
    let (price, version) = match (snapshot.settings().unpriced_models, snapshot.default_price()) {
        (Unpriced::Refuse, _) | (Unpriced::Default, None) => {
            return Err(MeterError::Unpriced { provider: provider.to_string(), model: model.to_string() });
        }
        (Unpriced::Free, _) => (Price::FREE, None),
        (Unpriced::Default, Some(default)) => (default.price.clone(), Some(default.version)),
    };
    let provider = provider.clone();
    Ok(Route { provider, model, price, version, max_output_tokens: None, is_openais: false, sponsored: None })
}

/// A model whose price can't be used is not one without a price: nothing may be charged in its place.
fn usable(snapshot: &Snapshot, provider: &ProviderName, model: &ModelId) -> Result<(), MeterError> {
    match snapshot.unusable_price(provider, model) {
        Some(error) => Err(MeterError::UnusablePrice { message: error.to_string() }),
        None => Ok(()),
    }
}

fn unknown(asked: &str) -> MeterError {
    MeterError::UnknownModel { model: asked.chars().take(255).collect(), meant: Vec::new() }
}
