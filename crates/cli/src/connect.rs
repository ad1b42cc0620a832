//! Which database a command works on, and how it is left: every connection is closed at the end of the process, so that SQLite
//! leaves no log behind.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail};
use storage::{Database, DatabaseUrl, migrate};

/// What this process has connected to, or tried to.
static USED: Mutex<Vec<(DatabaseUrl, Option<Database>)>> = Mutex::new(Vec::new());

/// Connects.
pub(crate) async fn connect(url: &DatabaseUrl) -> Result<Database, storage::Error> {
    remember(url, Database::open(url).await)
}

/// Connects, and makes the SQLite file if there is none.
pub(crate) async fn create(url: &DatabaseUrl) -> Result<Database, storage::Error> {
    remember(url, Database::create(url).await)
}

fn remember(url: &DatabaseUrl, opened: Result<Database, storage::Error>) -> Result<Database, storage::Error> {
    let mut used = USED.lock().unwrap_or_else(PoisonError::into_inner);
    used.push((url.clone(), opened.as_ref().ok().cloned()));
    opened
}

/// Closes all that was opened.
pub(crate) async fn close_all() {
    let used = std::mem::take(&mut *USED.lock().unwrap_or_else(PoisonError::into_inner));
    for database in used.into_iter().filter_map(|(_, database)| database) {
        database.close().await;
    }
}

/// Who keeps the database locked, if it could not be used.
pub(crate) fn locked_by(error: &anyhow::Error) -> Option<String> {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<storage::Error>());
    if !causes.any(|cause| matches!(cause, storage::Error::Unavailable { .. })) {
        return None;
    }
    let used = USED.lock().unwrap_or_else(PoisonError::into_inner);
    let holders: Vec<String> = used.iter().flat_map(|(url, _)| storage::holders(url)).collect();
    (!holders.is_empty()).then(|| format!("It is locked by {}.", holders.join(", ")))
}

/// The database, as an option of each command.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DatabaseArguments {
    /// Database URL in SQLAlchemy format; by default what DATABASE_URL, or Open WebUI's other variables, say.
    #[arg(long = "database-url", value_name = "URL", global = true)]
    option: Option<String>,
}

/// Leave to make an SQLite file.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct CreateArguments {
    /// Make the SQLite file if there is none yet. Without this, a path that leads to no file is taken for a mistake.
    #[arg(long)]
    create: bool,
}

impl CreateArguments {
    /// Connects. A file is made only where that is asked for: on a mistyped path everybody would have spent nothing.
    pub(crate) async fn open(self, url: &DatabaseUrl) -> anyhow::Result<Database> {
        if let Some(path) = url.path().filter(|path| !self.create && !path.exists()) {
            bail!(
                "there is no SQLite file {}; check the path, or pass --create to begin with a new file there",
                std::path::absolute(path)?.display()
            );
        }
        self::create(url).await.with_context(|| format!("opening {url}"))
    }
}

/// The database as a last positional argument, as the original's commands take it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LastDatabase {
    #[command(flatten)]
    named: DatabaseArguments,
    /// Database URL in SQLAlchemy format, as in --database-url.
    #[arg(value_name = "DATABASE_URL")]
    last: Option<String>,
}

impl DatabaseArguments {
    /// The address.
    pub(crate) fn url(&self) -> anyhow::Result<DatabaseUrl> {
        let environment = |name: &str| std::env::var(name).ok();
        match &self.option {
            Some(url) => Ok(DatabaseUrl::parse(url)?.with_environment(environment)?),
            None => match DatabaseUrl::from_environment(environment)? {
                Some(url) => Ok(url),
                None => bail!(
                    "no database is named: set DATABASE_URL (as Open WebUI does) or pass --database-url"
                ),
            },
        }
    }

    /// The address, or the configured one where no option names it.
    pub(crate) fn url_or(&self, configured: Option<DatabaseUrl>) -> anyhow::Result<DatabaseUrl> {
        match configured {
            Some(url) if self.option.is_none() => Ok(url),
            _ => self.url(),
        }
    }

    /// The database, with tables as this program needs them.
    pub(crate) async fn open(&self) -> anyhow::Result<Database> {
        let url = self.url()?;
        let database = connect(&url).await.with_context(|| format!("opening {url}"))?;
        migrate::require_usable(&database).await?;
        Ok(database.acting_as(&whoever_runs_this()))
    }
}

impl LastDatabase {
    /// With what another positional argument turned out to be.
    pub(crate) fn or_last(self, url: Option<String>) -> Self {
        Self { last: self.last.or(url), ..self }
    }

    /// Whether it is named as the last argument.
    pub(crate) fn is_last(&self) -> bool {
        self.last.is_some()
    }

    /// The same, whichever way it is named.
    pub(crate) fn chosen(self) -> DatabaseArguments {
        let Self { named, last } = self;
        DatabaseArguments { option: named.option.or(last) }
    }
}

/// Who runs this command, for the audit: the name in the operating system.
pub(crate) fn whoever_runs_this() -> String {
    let named =
        ["SUDO_USER", "USER", "LOGNAME", "USERNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    named
        .filter(|name| !name.is_empty())
        .map_or_else(|| "command line".into(), |name| format!("{name}, command line"))
}
