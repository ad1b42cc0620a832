//! What a request may cost, before it is sent: from request, price and settings to the bid for its hold.

use accounting::{
    AccountKey, AccountLimit, Bid, Credits, Policy, Price, Quote, Usage, UserId, Worst, charge,
};
use providers::{ChatRequest, EmbeddingsRequest, TextSize};
use storage::Settings;

use crate::families::Vocabulary;
use crate::route::Route;
use crate::{MeterError, bounds, count, families};

/// What is quoted: the two kinds of request.
pub(crate) enum Asked<'a> {
    Chat(&'a ChatRequest),
    Embeddings(&'a EmbeddingsRequest),
}

/// A quote with what else the flow needs to know of it.
pub(crate) struct Quoted {
    pub bid: Bid,
    /// Input tokens by length, for whoever must settle without having counted.
    pub input_tokens: u64,
}

/// What the request may cost under the policy of the settings.
pub(crate) async fn quote(
    asked: &Asked<'_>,
    user: &UserId,
    accounts: Vec<AccountLimit>,
    route: &Route,
    settings: &Settings,
) -> Result<Quoted, MeterError> {
    let input_tokens = asked.input_by_length(route.model.as_str());
    let quote = if route.price.is_free() {
        Quote::Free
    } else {
        match settings.admission_policy {
            Policy::OneCredit => {
                // Other servers with the same API have other limits where none is said.
                let usual = asked.usual_output().filter(|_| route.is_openais);
                let output = asked.output_limit().or(usual).unwrap_or(settings.hold_output_tokens);
                let output = output.min(settings.hold_output_tokens).saturating_mul(asked.choices());
                Quote::Estimate(charge(&route.price, &Usage::tokens(input_tokens, output))?)
            }
            Policy::Strict => Quote::Worst(Box::pin(worst(asked, user, route, settings)).await?),
        }
    };
    Ok(Quoted { bid: Bid { accounts, quote }, input_tokens })
}

async fn worst(
    asked: &Asked<'_>,
    user: &UserId,
    route: &Route,
    settings: &Settings,
) -> Result<Worst, MeterError> {
    let model = route.model.as_str();
    let family = families::of(model);
    // Elsewhere a name says nothing: whoever runs the server gives it.
    let vocabulary = (route.is_openais && family.published).then_some(family.vocabulary);
    let input = bounds::input_bound(model, asked.text(vocabulary, user).await, &asked.media())?;
    let dearest: Price = route.price.dearest(input);
    let longest = route.max_output_tokens.unwrap_or(u64::MAX);
    let wanted = asked.output_limit().or(asked.usual_output()).or(route.max_output_tokens);
    let wanted = wanted.unwrap_or(family.output).min(longest);
    Ok(Worst {
        input: charge(&dearest, &Usage::tokens(input, 0))?,
        output: dearest.output,
        output_tokens: wanted,
        choices: asked.choices(),
        least_output_tokens: settings.strict_min_output,
    })
}

impl Asked<'_> {
    pub(crate) fn model(&self) -> &str {
        match self {
            Self::Chat(request) => request.model(),
            Self::Embeddings(request) => request.model(),
        }
    }

    fn input_by_length(&self, model: &str) -> u64 {
        match self {
            Self::Chat(request) => {
                let family = families::of(model);
                let media = request.media().iter().map(|media| family.media(media)).sum::<u64>();
                let tokens = request.token_count() + count::around_all(request);
                count::by_length(request.input_length()) + tokens + media
            }
            Self::Embeddings(request) => count::by_length(request.input_length()) + request.token_count(),
        }
    }

    /// How long the answer may be, if the request says so; texts to embed have none.
    fn output_limit(&self) -> Option<u64> {
        match self {
            Self::Chat(request) => request.output_limit(),
            Self::Embeddings(_) => Some(0),
        }
    }

    /// The same where the request says nothing, if its API does.
    fn usual_output(&self) -> Option<u64> {
        match self {
            Self::Chat(request) => request.usual_output(),
            Self::Embeddings(_) => None,
        }
    }

    fn choices(&self) -> u64 {
        match self {
            Self::Chat(request) => request.choices(),
            Self::Embeddings(_) => 1,
        }
    }

    fn media(&self) -> Vec<providers::Media> {
        match self {
            Self::Chat(request) => request.media(),
            Self::Embeddings(_) => Vec::new(),
        }
    }

    async fn text(&self, vocabulary: Option<Vocabulary>, user: &UserId) -> (TextSize, Option<u64>) {
        let input = match self {
            Self::Chat(request) => count::Input::Chat(request.shape(), request.original()),
            Self::Embeddings(request) => count::Input::Embeddings(request.original()),
        };
        count::text_of(vocabulary, user, input).await
    }
}

/// The tightest of the accounts' remaining credits, `None` if none has a limit.
pub(crate) fn remaining(
    limits: &[AccountLimit],
    states: &[(AccountKey, accounting::Account)],
) -> Option<Credits> {
    limits
        .iter()
        .filter_map(|AccountLimit { account, limit }| {
            let (_, state) = states.iter().find(|(key, _)| key == account)?;
            state.free((*limit)?).ok()
        })
        .min()
}
