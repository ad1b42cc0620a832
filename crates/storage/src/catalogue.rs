//! What requests need to know of prices, settings, groups and users: a snapshot, at most two seconds old.
//!
//! The original and administrators write these tables at any time, so they are read again; if that fails, nothing is
//! served on old knowledge.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use accounting::{Clock, Label, ModelId, Price, PriceVersion, ProviderName, UserId};
use sqlx::AssertSqlSafe;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::admin::prices;
use crate::groups::{self, Limits};
use crate::settings::Settings;
use crate::sponsored::{self, Sponsorships, WorkspaceModel};
use crate::{Database, Error, migrate, on_pool, price_json};

/// Knowledge older than this is not used any more.
const AGE: Duration = Duration::from_secs(2);
/// So many users are remembered before the memory is cleared.
const MOST_USERS: usize = 50_000;
/// And so many workspace models.
const MOST_WORKSPACE_MODELS: usize = 1000;

/// A model with its price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PricedModel {
    /// The provider.
    pub provider: ProviderName,
    /// The model.
    pub model: ModelId,
    /// Its name for people.
    pub name: String,
    /// The version of this price.
    pub version: PriceVersion,
    /// The price.
    pub price: Price,
    /// The longest answer that the model gives, in tokens.
    pub max_output_tokens: Option<u64>,
    /// The longest context that the model takes, in tokens.
    pub context_tokens: Option<u64>,
}

/// A user that the database knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownUser {
    /// The id.
    pub id: UserId,
    /// The name.
    pub name: Label,
    /// The e-mail address.
    pub email: Label,
}

/// Prices, settings and groups at one moment.
#[derive(Debug)]
pub struct Snapshot {
    models: HashMap<(ProviderName, ModelId), PricedModel>,
    /// Models whose price this program can't use: nothing else may be charged in its place.
    unusable_prices: HashMap<(ProviderName, ModelId), Error>,
    /// The price of models that have none of their own.
    default_price: Option<PricedModel>,
    settings: Settings,
    /// What each user's groups add.
    groups: HashMap<String, Limits>,
    pub(crate) sponsored: Sponsorships,
    user_table: bool,
}

/// Reads the tables when needed. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalogue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    database: Database,
    clock: Arc<dyn Clock>,
    snapshot: RwLock<Taken>,
    /// How often this process itself has changed what is read.
    changes: AtomicU64,
    /// One reads, the others wait for it.
    reading: Mutex<()>,
    users: RwLock<HashMap<UserId, (Instant, Option<KnownUser>)>>,
    workspace_models: RwLock<HashMap<String, (Instant, Option<WorkspaceModel>)>>,
}

/// A snapshot, and from when it is.
#[derive(Debug)]
struct Taken {
    began: Instant,
    changes: u64,
    snapshot: Arc<Snapshot>,
}

impl Catalogue {
    /// Reads everything for the first time.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the database is away.
    pub async fn open(database: &Database, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let snapshot = Arc::new(read(database, &*clock).await?);
        complain(&snapshot, None);
        Ok(Self(Arc::new(Inner {
            database: database.clone(),
            clock,
            snapshot: RwLock::new(Taken { began: Instant::now(), changes: 0, snapshot }),
            changes: AtomicU64::new(0),
            reading: Mutex::default(),
            users: RwLock::default(),
            workspace_models: RwLock::default(),
        })))
    }

    /// The database that it reads.
    pub fn database(&self) -> &Database {
        &self.0.database
    }

    /// What holds now.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the last reading is too old and the database is away.
    pub async fn snapshot(&self) -> Result<Arc<Snapshot>, Error> {
        if let Some(snapshot) = self.fresh() {
            return Ok(snapshot);
        }
        let _reading = self.0.reading.lock().await;
        if let Some(snapshot) = self.fresh() {
            return Ok(snapshot);
        }
        let (began, changes) = (Instant::now(), self.0.changes.load(Ordering::SeqCst));
        // Seldom, and much: most requests go without room for it.
        let snapshot = Arc::new(Box::pin(read(&self.0.database, &*self.0.clock)).await?);
        let taken = Taken { began, changes, snapshot: Arc::clone(&snapshot) };
        let before =
            std::mem::replace(&mut *self.0.snapshot.write().unwrap_or_else(PoisonError::into_inner), taken);
        complain(&snapshot, Some(&before.snapshot));
        Ok(snapshot)
    }

    /// Says that this process has changed something: the next snapshot is read anew. Other processes notice in their time.
    pub fn changed(&self) {
        self.0.changes.fetch_add(1, Ordering::SeqCst);
    }

    fn fresh(&self) -> Option<Arc<Snapshot>> {
        let current = self.0.snapshot.read().unwrap_or_else(PoisonError::into_inner);
        let is_fresh =
            current.began.elapsed() < AGE && current.changes == self.0.changes.load(Ordering::SeqCst);
        is_fresh.then(|| Arc::clone(&current.snapshot))
    }

    /// A price by its version, also one that holds no more.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the database is away, [`Error::Inconsistency`] if the row is bad.
    pub async fn price_version(&self, version: PriceVersion) -> Result<Option<PricedModel>, Error> {
        let sql = format!("{} WHERE version = $1", select_prices(&self.0.database));
        let row: Option<PriceRow> = on_pool!(self.0.database, pool => {
            sqlx::query_as(AssertSqlSafe(sql)).bind(version.0).fetch_optional(pool).await?
        });
        row.map(PriceRow::read).transpose()
    }

    /// The user with that id: Open WebUI's, where its `user` table is, else one that was seen here before.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the database is away.
    pub async fn user(&self, id: &UserId) -> Result<Option<KnownUser>, Error> {
        let known = self.0.users.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if let Some((at, user)) = known.filter(|(at, _)| at.elapsed() < AGE) {
            let _ = at;
            return Ok(user);
        }
        Box::pin(self.read_user(id)).await
    }

    /// Reads a user, for a while.
    async fn read_user(&self, id: &UserId) -> Result<Option<KnownUser>, Error> {
        let table = if self.snapshot().await?.user_table { "user" } else { "token_tracking_user" };
        let began = Instant::now();
        let sql = format!(
            "SELECT CAST(name AS TEXT) AS name, CAST(email AS TEXT) AS email FROM {} WHERE id = $1",
            self.0.database.table(table)
        );
        let row: Option<(Option<String>, Option<String>)> = on_pool!(self.0.database, pool => {
            sqlx::query_as(AssertSqlSafe(sql)).bind(id.as_str()).fetch_optional(pool).await?
        });
        let user = row.map(|(name, email)| KnownUser {
            id: id.clone(),
            name: name.map(Label::from).unwrap_or_default(),
            email: email.map(Label::from).unwrap_or_default(),
        });
        self.note(id, began, user.clone());
        Ok(user)
    }

    /// Whether Open WebUI's `user` table is there, so that unknown users are strangers.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the database is away.
    pub async fn has_user_table(&self) -> Result<bool, Error> {
        Ok(self.snapshot().await?.user_table)
    }

    /// Remembers a user who was seen, where there is no Open WebUI beside us. Writes only what has changed.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the database is away.
    pub async fn remember_user(&self, user: KnownUser) -> Result<(), Error> {
        let before = self.user(&user.id).await?;
        let kept = |new: Label, old: Option<&Label>| {
            if new.is_empty() { old.cloned().unwrap_or_default() } else { new }
        };
        let user = KnownUser {
            name: kept(user.name, before.as_ref().map(|user| &user.name)),
            email: kept(user.email, before.as_ref().map(|user| &user.email)),
            id: user.id,
        };
        if before.as_ref() == Some(&user) {
            return Ok(());
        }
        Box::pin(self.write_user(user)).await
    }

    async fn write_user(&self, user: KnownUser) -> Result<(), Error> {
        let sql = format!(
            "INSERT INTO {} (id, name, email, seen_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, email = excluded.email, seen_at = excluded.seen_at",
            self.0.database.table("token_tracking_user")
        );
        let now = self.0.clock.now().as_microsecond();
        on_pool!(self.0.database, pool => {
            let query = sqlx::query(AssertSqlSafe(sql)).bind(user.id.as_str()).bind(user.name.as_str());
            query.bind(user.email.as_str()).bind(now).execute(pool).await?;
        });
        self.note(&user.id.clone(), Instant::now(), Some(user));
        Ok(())
    }

    /// Open WebUI's workspace model with that id; `None` if there is none, or no Open WebUI beside us.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the database is away.
    pub async fn workspace_model(&self, id: &str) -> Result<Option<WorkspaceModel>, Error> {
        let known = &self.0.workspace_models;
        let remembered = known.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if let Some((at, model)) = remembered
            && at.elapsed() < AGE
        {
            return Ok(model);
        }
        let began = Instant::now();
        let model = Box::pin(sponsored::workspace_model(&self.0.database, id)).await?;
        let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_WORKSPACE_MODELS {
            known.clear();
        }
        known.insert(id.to_owned(), (began, model.clone()));
        Ok(model)
    }

    fn note(&self, id: &UserId, at: Instant, user: Option<KnownUser>) {
        let mut users = self.0.users.write().unwrap_or_else(PoisonError::into_inner);
        if users.len() >= MOST_USERS {
            users.clear();
        }
        users.insert(id.clone(), (at, user));
    }
}

impl Snapshot {
    /// Reads the present state of a database, once.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it is away.
    pub async fn of(database: &Database, clock: &dyn Clock) -> Result<Self, Error> {
        read(database, clock).await
    }

    /// The price of a model that holds now.
    pub fn price(&self, provider: &ProviderName, model: &ModelId) -> Option<&PricedModel> {
        self.models.get(&(provider.clone(), model.clone()))
    }

    /// Why the price of a model can't be used, if it has one that can't.
    pub fn unusable_price(&self, provider: &ProviderName, model: &ModelId) -> Option<&Error> {
        self.unusable_prices.get(&(provider.clone(), model.clone()))
    }

    /// All that is in these tables and can't be used here: prices, settings, sponsored allowances. What they concern is
    /// refused, the rest goes on.
    pub fn problems(&self) -> impl Iterator<Item = &Error> {
        let prices = self.unusable_prices.values();
        prices.chain(self.settings.unusable()).chain(self.sponsored.unusable().map(|(_, error)| error))
    }

    /// The price of models that have none of their own, if one was set.
    pub const fn default_price(&self) -> Option<&PricedModel> {
        self.default_price.as_ref()
    }

    /// All models that have a price of their own now.
    pub fn models(&self) -> impl Iterator<Item = &PricedModel> {
        self.models.values()
    }

    /// Those of one provider, or of all, by provider and model.
    pub fn models_of(&self, provider: Option<&ProviderName>) -> Vec<&PricedModel> {
        let is_wanted = |model: &&PricedModel| provider.is_none_or(|provider| model.provider == *provider);
        let mut models: Vec<&PricedModel> = self.models.values().filter(is_wanted).collect();
        models.sort_by(|a, b| (&a.provider, &a.model).cmp(&(&b.provider, &b.model)));
        models
    }

    /// The settings.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A user's limits: for each period the base and what each group adds. Without a base allowance, nothing a day; there is a
    /// weekly limit if the base or a group has one, and a monthly one likewise.
    pub fn limits(&self, user: &UserId) -> Limits {
        let base = self.settings.base();
        self.groups.get(user.as_str()).map_or(base, |added| base.plus(*added))
    }

    /// Whether Open WebUI's `user` table is there.
    pub const fn has_user_table(&self) -> bool {
        self.user_table
    }
}

/// Says what can't be used, once.
fn complain(snapshot: &Snapshot, before: Option<&Snapshot>) {
    let known: Vec<String> =
        before.iter().flat_map(|before| before.problems()).map(Error::to_string).collect();
    for problem in snapshot.problems().map(Error::to_string).filter(|problem| !known.contains(problem)) {
        tracing::error!(problem, "something in the database can't be used; what it concerns is refused");
    }
}

async fn read(database: &Database, clock: &dyn Clock) -> Result<Snapshot, Error> {
    // A newer version may have taken the database over meanwhile.
    migrate::require_usable(database).await?;
    // Requests are admitted by what is read here: none for a file that nobody will find again.
    database.check_file()?;
    let now = clock.now().as_microsecond();
    let (mut models, unusable_prices) = read_models(database, now).await?;
    let any = (ProviderName::new(prices::ANY)?, ModelId::new(prices::ANY)?);
    Ok(Snapshot {
        default_price: models.remove(&any),
        models,
        unusable_prices,
        settings: read_settings(database).await?,
        groups: groups::limits_by_user(database).await?,
        sponsored: Sponsorships::read(database).await?,
        user_table: database.has_table("user").await?,
    })
}

#[derive(sqlx::FromRow)]
pub(crate) struct PriceRow {
    pub version: i64,
    pub provider: String,
    pub model: String,
    pub name: String,
    pub price: String,
    pub max_output_tokens: Option<i64>,
    pub context_tokens: Option<i64>,
    pub deleted: i64,
}

impl PriceRow {
    pub(crate) fn read(self) -> Result<PricedModel, Error> {
        let wrong = |column: &str| Error::Inconsistency {
            table: "token_tracking_price".into(),
            column: column.into(),
            row: self.version.to_string(),
        };
        let what = format!("{}/{}", self.provider, self.model);
        let price = price_json::read(&self.price, &what, wrong("price"))?;
        let count = |column: &str, count: Option<i64>| {
            count.map(|count| u64::try_from(count).map_err(|_| wrong(column))).transpose()
        };
        Ok(PricedModel {
            provider: ProviderName::new(&self.provider).map_err(|_| wrong("provider"))?,
            model: ModelId::new(self.model.clone()).map_err(|_| wrong("model"))?,
            version: PriceVersion(self.version),
            price,
            max_output_tokens: count("max_output_tokens", self.max_output_tokens)?,
            context_tokens: count("context_tokens", self.context_tokens)?,
            name: self.name.clone(),
        })
    }
}

/// The head of each query for prices.
pub(crate) fn select_prices(database: &Database) -> String {
    format!(
        "SELECT version, provider, model, name, price, max_output_tokens, context_tokens, deleted FROM {}",
        database.table("token_tracking_price")
    )
}

/// Prices by provider and model, and those that can't be used.
type Prices = (HashMap<(ProviderName, ModelId), PricedModel>, HashMap<(ProviderName, ModelId), Error>);

async fn read_models(database: &Database, now: i64) -> Result<Prices, Error> {
    let table = database.table("token_tracking_price");
    let sql =
        format!("{} AS kept WHERE valid_from <= $1 AND {}", select_prices(database), prices::is_last(&table));
    let rows: Vec<PriceRow> = on_pool!(database, pool => {
        sqlx::query_as(AssertSqlSafe(sql)).bind(now).fetch_all(pool).await?
    });
    let (mut models, mut unusable) = (HashMap::new(), HashMap::new());
    for row in rows.into_iter().filter(|row| row.deleted == 0) {
        let key = (ProviderName::new(&row.provider), ModelId::new(row.model.clone()));
        match (row.read(), key) {
            (Ok(model), _) => {
                models.insert((model.provider.clone(), model.model.clone()), model);
            }
            // One bad row must not take the other models down; its own model is refused until it is mended.
            (Err(error), (Ok(provider), Ok(model))) => {
                unusable.insert((provider, model), error);
            }
            (Err(error), _) => tracing::debug!(%error, "a price of no model that there can be"),
        }
    }
    Ok((models, unusable))
}

async fn read_settings(database: &Database) -> Result<Settings, Error> {
    let table = database.table("token_tracking_base_settings");
    let sql = format!("SELECT setting_key, setting_value FROM {table}");
    let rows: Vec<(String, Option<String>)> = on_pool!(database, pool => {
        sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?
    });
    let mut settings = Settings::defaults();
    for (key, value) in rows {
        match settings.read(&key, value.as_deref().unwrap_or_default()) {
            // The original, or a newer version of ours, may keep settings that we don't know.
            Ok(()) | Err(Error::NotFound { .. }) => {}
            // What it concerns is refused; the rest goes on.
            Err(error) => settings.refuse(key, &error),
        }
    }
    Ok(settings)
}
