//! Addresses of databases, as Open WebUI's users have them: SQLAlchemy's URLs and Open WebUI's own variables.

use std::fmt;
use std::path::{Path, PathBuf};

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::{Error, Pooling};

/// The connections of a process that nobody limits otherwise.
const CONNECTIONS: u32 = 5;
/// With fewer, a statement could wait for another of the same command.
const FEWEST: u32 = 3;
const MOST: u32 = 1000;

/// The kind of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// SQLite.
    Sqlite,
    /// PostgreSQL.
    Postgres,
}

/// The address of a database. Shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    target: Target,
    schema: Option<String>,
    connections: u32,
    pooling: Option<Pooling>,
}

#[derive(Clone, PartialEq, Eq)]
enum Target {
    Sqlite(PathBuf),
    Postgres(url::Url),
}

const SUPPORTED: &str = "supported are sqlite:///relative.db, sqlite:////absolute.db and \
    postgresql://user:password@host:5432/name (also with +psycopg, +psycopg2, +asyncpg or +aiosqlite)";

impl DatabaseUrl {
    /// Reads an SQLAlchemy-style URL.
    ///
    /// # Errors
    /// [`Error::BadUrl`] naming what is supported.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(Error::BadUrl(format!("this is no database URL: {SUPPORTED}")));
        };
        let target = match scheme.to_ascii_lowercase().as_str() {
            "sqlite" | "sqlite+aiosqlite" | "sqlite+pysqlite" => Target::Sqlite(sqlite_path(rest)?),
            "postgres"
            | "postgresql"
            | "postgresql+psycopg"
            | "postgresql+psycopg2"
            | "postgresql+asyncpg" => Target::Postgres(postgres_url(rest)?),
            other => {
                return Err(Error::BadUrl(format!(
                    "databases of the kind `{other}` are not supported; {SUPPORTED}"
                )));
            }
        };
        Ok(Self::of(target))
    }

    /// The address of an SQLite file.
    pub fn sqlite_file(path: impl Into<PathBuf>) -> Self {
        Self::of(Target::Sqlite(path.into()))
    }

    const fn of(target: Target) -> Self {
        Self { target, schema: None, connections: CONNECTIONS, pooling: None }
    }

    /// The same with our tables in that schema (PostgreSQL; Open WebUI's `DATABASE_SCHEMA`).
    #[must_use]
    pub fn with_schema(mut self, schema: Option<String>) -> Self {
        self.schema = schema.filter(|schema| !schema.is_empty());
        self
    }

    /// The same with that many connections at most for a process: one is the ledger's writer's.
    ///
    /// # Errors
    /// [`Error::BadUrl`] if they are too few or too many.
    pub fn with_connections(self, connections: u32) -> Result<Self, Error> {
        if !(FEWEST..=MOST).contains(&connections) {
            return Err(Error::BadUrl(format!(
                "a process has from {FEWEST} to {MOST} connections to its database, not {connections}"
            )));
        }
        Ok(Self { connections, ..self })
    }

    /// The same with what a pooler in front of PostgreSQL keeps together, `session` or `transaction`; with `auto` it is found
    /// out.
    ///
    /// # Errors
    /// [`Error::BadUrl`] if it is another word.
    pub fn with_pooling(self, word: &str) -> Result<Self, Error> {
        let pooling = match word {
            "auto" => None,
            "session" => Some(Pooling::Session),
            "transaction" => Some(Pooling::Transaction),
            _ => return Err(Error::BadUrl(format!("pooling is auto, session or transaction, not `{word}`"))),
        };
        Ok(Self { pooling, ..self })
    }

    /// The same with `DATABASE_SCHEMA`, `OWUI_TRACKING_CONNECTIONS` and `OWUI_TRACKING_POOLING`, where they are set.
    ///
    /// # Errors
    /// [`Error::BadUrl`] if one of them can't be used.
    pub fn with_environment(mut self, get: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        if let Some(schema) = get("DATABASE_SCHEMA") {
            self = self.with_schema(Some(schema));
        }
        if let Some(connections) = get("OWUI_TRACKING_CONNECTIONS") {
            let connections = connections
                .parse()
                .map_err(|_| Error::BadUrl("OWUI_TRACKING_CONNECTIONS is no number".into()))?;
            self = self.with_connections(connections)?;
        }
        if let Some(word) = get("OWUI_TRACKING_POOLING") {
            self = self.with_pooling(&word)?;
        }
        Ok(self)
    }

    /// What Open WebUI would use with that environment: `DATABASE_URL`; or `DATABASE_TYPE`, `_USER`, `_PASSWORD`,
    /// `_HOST`, `_PORT` and `_NAME`; or `DATA_DIR`. `None` if it says nothing.
    ///
    /// # Errors
    /// [`Error::BadUrl`] if it says something that can't be used.
    pub fn from_environment(get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Error> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let url = if let Some(url) = get("DATABASE_URL") {
            Self::parse(&url)?
        } else if let Some(kind) = get("DATABASE_TYPE") {
            let part = |name: &str| {
                get(name).ok_or_else(|| Error::BadUrl(format!("DATABASE_TYPE is set, but {name} is not")))
            };
            let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            match kind.as_str() {
                "sqlite" => Self::parse(&format!("sqlite:///{}", part("DATABASE_NAME")?))?,
                _ => Self::parse(&format!(
                    "{kind}://{}:{}@{}:{}/{}",
                    encode(&part("DATABASE_USER")?),
                    encode(&part("DATABASE_PASSWORD")?),
                    part("DATABASE_HOST")?,
                    part("DATABASE_PORT")?,
                    encode(&part("DATABASE_NAME")?)
                ))?,
            }
        } else if let Some(folder) = get("DATA_DIR") {
            Self::sqlite_file(Path::new(&folder).join("webui.db"))
        } else {
            return Ok(None);
        };
        url.with_environment(get).map(Some)
    }

    /// The kind of database.
    pub const fn kind(&self) -> Kind {
        match self.target {
            Target::Sqlite(_) => Kind::Sqlite,
            Target::Postgres(_) => Kind::Postgres,
        }
    }

    /// The file, of an SQLite database.
    pub fn path(&self) -> Option<&Path> {
        match &self.target {
            Target::Sqlite(path) => Some(path),
            Target::Postgres(_) => None,
        }
    }

    /// The schema that was named.
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// The connections of the pool.
    pub(crate) const fn pool_size(&self) -> u32 {
        self.connections.saturating_sub(1)
    }

    /// What a pooler keeps together, if somebody said so.
    pub(crate) const fn pooling(&self) -> Option<Pooling> {
        self.pooling
    }

    /// The URL for PostgreSQL's driver, with the password.
    pub(crate) fn postgres(&self) -> Option<&url::Url> {
        match &self.target {
            Target::Postgres(url) => Some(url),
            Target::Sqlite(_) => None,
        }
    }
}

/// SQLAlchemy: three slashes and a relative path, or four and an absolute one.
fn sqlite_path(rest: &str) -> Result<PathBuf, Error> {
    let (path, _options) = rest.split_once('?').unwrap_or((rest, ""));
    let path = path.strip_prefix('/').ok_or_else(|| {
        Error::BadUrl(
            "an SQLite URL has three slashes and a relative path, or four and an absolute one".into(),
        )
    })?;
    if path.is_empty() || path.contains(":memory:") {
        return Err(Error::BadUrl(
            "an SQLite database in memory can't be shared; name a file, as in sqlite:///data/webui.db".into(),
        ));
    }
    let path = percent_decode_str(path)
        .decode_utf8()
        .map_err(|_| Error::BadUrl("the SQLite path is no UTF-8".into()))?;
    Ok(PathBuf::from(path.as_ref()))
}

fn postgres_url(rest: &str) -> Result<url::Url, Error> {
    let mut url = url::Url::parse(&format!("postgresql://{rest}")).map_err(|error| {
        Error::BadUrl(format!(
            "this PostgreSQL URL can't be read ({error}); write special characters of the password percent-encoded"
        ))
    })?;
    // Other drivers' words for what ours knows under one name.
    let pairs: Vec<(String, String)> = url
        .query_pairs()
        .filter_map(|(name, value)| match name.as_ref() {
            "ssl" => {
                Some(("sslmode".into(), if value == "true" { "require".into() } else { value.into_owned() }))
            }
            "sslmode" | "sslrootcert" | "sslcert" | "sslkey" | "host" | "port" | "application_name"
            | "options" => Some((name.into_owned(), value.into_owned())),
            _ => None,
        })
        .collect();
    url.set_query(None);
    if !pairs.is_empty() {
        url.query_pairs_mut().extend_pairs(pairs);
    }
    Ok(url)
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Sqlite(path) => write!(f, "sqlite:///{}", path.display()),
            Target::Postgres(url) => {
                let mut shown = url.clone();
                if shown.password().is_some() {
                    // Only URLs without a host refuse this; those have no password.
                    let _ = shown.set_password(Some("***"));
                }
                shown.set_query(None);
                write!(f, "{shown}")
            }
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(url: &str) -> String {
        DatabaseUrl::parse(url).unwrap().path().unwrap().display().to_string()
    }

    #[test]
    fn sqlite_urls_as_sqlalchemy_reads_them() {
        assert_eq!(path("sqlite:///data/webui.db"), "data/webui.db");
        assert_eq!(path("sqlite:////app/data/webui.db"), "/app/data/webui.db");
        assert_eq!(path("sqlite+aiosqlite:////a%20b.db?timeout=5"), "/a b.db");
        for wrong in ["sqlite://webui.db", "sqlite:///:memory:", "sqlite://", "webui.db"] {
            assert!(matches!(DatabaseUrl::parse(wrong), Err(Error::BadUrl(_))), "{wrong}");
        }
    }

    #[test]
    fn postgres_urls_of_every_driver() {
        for scheme in
            ["postgres", "postgresql", "postgresql+psycopg2", "postgresql+psycopg", "postgresql+asyncpg"]
        {
            let url =
                DatabaseUrl::parse(&format!("{scheme}://ann:p%40ss@db:5433/web?sslmode=require&prepared=1"))
                    .unwrap();
            assert_eq!(url.kind(), Kind::Postgres);
            assert_eq!(
                url.postgres().unwrap().as_str(),
                "postgresql://ann:p%40ss@db:5433/web?sslmode=require"
            );
            assert_eq!(url.to_string(), "postgresql://ann:***@db:5433/web");
            assert!(!format!("{url:?}").contains("p%40ss"));
        }
    }

    #[test]
    fn others_are_refused_with_what_is_supported() {
        for wrong in ["mysql://a@b/c", "sqlite+sqlcipher:///x.db", "mongodb://x"] {
            let message = DatabaseUrl::parse(wrong).unwrap_err().to_string();
            assert!(message.contains("postgresql://"), "{message}");
        }
    }

    #[test]
    fn open_webuis_variables() {
        let from = |pairs: &'static [(&'static str, &'static str)]| {
            DatabaseUrl::from_environment(|name| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert!(from(&[]).unwrap().is_none());
        assert_eq!(from(&[("DATA_DIR", "/d")]).unwrap().unwrap().path().unwrap(), Path::new("/d/webui.db"));
        let parts = &[
            ("DATABASE_TYPE", "postgresql"),
            ("DATABASE_USER", "ann"),
            ("DATABASE_PASSWORD", "p@ss/word"),
            ("DATABASE_HOST", "db"),
            ("DATABASE_PORT", "5432"),
            ("DATABASE_NAME", "web"),
            ("DATABASE_SCHEMA", "tracking"),
        ];
        let url = from(parts).unwrap().unwrap();
        assert_eq!(url.postgres().unwrap().as_str(), "postgresql://ann:p%40ss%2Fword@db:5432/web");
        assert_eq!(url.schema(), Some("tracking"));
        assert!(from(&[("DATABASE_TYPE", "postgresql")]).is_err());
    }

    #[test]
    fn connections_and_poolers() {
        let url = || DatabaseUrl::sqlite_file("x.db");
        assert_eq!((url().pool_size(), url().pooling()), (4, None));
        assert_eq!(url().with_connections(3).unwrap().pool_size(), 2);
        for wrong in [0, 2, 1001] {
            assert!(url().with_connections(wrong).unwrap_err().to_string().contains("from 3 to 1000"));
        }
        assert_eq!(url().with_pooling("transaction").unwrap().pooling(), Some(Pooling::Transaction));
        assert!(url().with_pooling("statement").unwrap_err().to_string().contains("`statement`"));
        let with = |name: &'static str, value: &'static str| {
            url().with_environment(move |asked| (asked == name).then(|| value.to_owned()))
        };
        assert_eq!(with("OWUI_TRACKING_CONNECTIONS", "9").unwrap().pool_size(), 8);
        assert_eq!(with("OWUI_TRACKING_POOLING", "session").unwrap().pooling(), Some(Pooling::Session));
        assert!(with("OWUI_TRACKING_CONNECTIONS", "many").is_err());
    }
}
