//! The lists of models that providers offer, remembered.
//!
//! The rule it protects: a provider whose list hangs holds nobody but who needs that very list, and them not for long. Many
//! who need the same list at once ask for it once; an old list serves while a new one is on its way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use accounting::{ModelId, ProviderName};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use providers::Provider;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

/// A list is asked for again after this long, and after a failure sooner.
const AGE: Duration = Duration::from_secs(60);
const AGE_OF_FAILURE: Duration = Duration::from_secs(10);
/// A provider has so long to tell its list.
const PATIENCE: Duration = Duration::from_secs(10);

/// The lists of all providers.
#[derive(Debug, Default)]
pub(crate) struct ModelLists {
    all: Mutex<HashMap<ProviderName, Arc<ModelList>>>,
    /// Nothing waits for these at shutdown: a list can be asked for another time.
    tasks: TaskTracker,
}

/// The list of one provider.
#[derive(Debug, Default)]
struct ModelList {
    known: Mutex<Option<Known>>,
    /// Held while it is being asked for.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone)]
struct Known {
    models: Arc<[ModelId]>,
    ask_again: Instant,
}

impl ModelLists {
    /// The first of the candidates whose provider lists its model; where lists have to be asked for, the first to tell.
    pub(crate) async fn find<'a>(
        &self,
        candidates: Vec<(&'a Provider, ModelId)>,
    ) -> Option<(&'a Provider, ModelId)> {
        let mut unknown = Vec::new();
        for (provider, model) in candidates {
            let list = self.of(provider.name());
            match list.current(provider, &self.tasks) {
                Some(models) if models.contains(&model) => return Some((provider, model)),
                Some(_) => {}
                None => unknown.push((list, provider, model)),
            }
        }
        let asked = unknown.into_iter().map(|(list, provider, model)| async move {
            let listed = list.ask(provider).await.contains(&model);
            listed.then_some((provider, model))
        });
        let mut answers: FuturesUnordered<_> = asked.collect();
        while let Some(answer) = answers.next().await {
            if answer.is_some() {
                return answer;
            }
        }
        None
    }

    fn of(&self, provider: &ProviderName) -> Arc<ModelList> {
        let mut lists = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(lists.entry(provider.clone()).or_default())
    }
}

impl ModelList {
    /// What is known. If that is old, it is asked for again beside.
    fn current(self: &Arc<Self>, provider: &Provider, tasks: &TaskTracker) -> Option<Arc<[ModelId]>> {
        let known = self.known()?;
        if known.ask_again <= Instant::now() && self.asking.try_lock().is_ok() {
            let (list, provider) = (Arc::clone(self), provider.clone());
            // Whoever began it may go away; the list serves others too.
            tasks.spawn(async move { list.ask(&provider).await });
        }
        Some(known.models)
    }

    /// Asks the provider, or waits for whoever is asking it.
    async fn ask(&self, provider: &Provider) -> Arc<[ModelId]> {
        let _asking = self.asking.lock().await;
        let before = self.known();
        if let Some(known) = &before
            && known.ask_again > Instant::now()
        {
            return Arc::clone(&known.models);
        }
        let told = timeout(PATIENCE, provider.models()).await.ok().and_then(Result::ok);
        let age = if told.is_some() { AGE } else { AGE_OF_FAILURE };
        // What was known is better than nothing.
        let models = told.map(Into::into).or(before.map(|known| known.models)).unwrap_or_default();
        let known = Known { models: Arc::clone(&models), ask_again: Instant::now() + age };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
        models
    }

    fn known(&self) -> Option<Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
