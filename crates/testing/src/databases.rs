//! Fresh databases for tests, of both kinds: `each_database!` makes one test for each.

use std::io;
use std::sync::OnceLock;

use storage::{Database, DatabaseUrl, new_id};
use tempfile::TempDir;

use crate::pgbouncer::{self, Mode};
use crate::postgres::{SERVER, Server};

/// A database of a test's own, removed when dropped.
#[derive(Debug)]
pub struct TestDatabase {
    url: DatabaseUrl,
    environment: Vec<(&'static str, String)>,
    _folder: Option<TempDir>,
}

/// The server of this process, where none runs already.
static OWN: OnceLock<Result<Server, String>> = OnceLock::new();

impl TestDatabase {
    /// A new SQLite file.
    ///
    /// # Errors
    /// If there is no temporary folder, or the file can't be made.
    pub async fn sqlite() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("tracking-").tempdir()?;
        let path = folder.path().join("tracking.db");
        let url = DatabaseUrl::sqlite_file(&path);
        Database::create(&url).await.map_err(io::Error::other)?.close().await;
        let environment = vec![("DATABASE_URL", format!("sqlite:///{}", path.display()))];
        Ok(Self { url, environment, _folder: Some(folder) })
    }

    /// A new schema on PostgreSQL.
    ///
    /// # Errors
    /// If there is no server and none can be started.
    pub async fn postgres() -> io::Result<Self> {
        let server = match std::env::var(SERVER) {
            Ok(url) => url,
            Err(_) => match OWN.get_or_init(|| Server::start().map_err(|error| error.to_string())) {
                Ok(server) => server.url(),
                Err(error) => return Err(io::Error::other(error.clone())),
            },
        };
        Self::on_server(&server).await
    }

    /// A new schema on PostgreSQL, behind a PgBouncer that pools in that way.
    ///
    /// # Errors
    /// If none runs.
    pub async fn behind_pgbouncer(mode: Mode) -> io::Result<Self> {
        let base = std::env::var(pgbouncer::RUNNING).map_err(|_| {
            io::Error::other(
                "no PgBouncer runs for these tests: start them by scripts/with-postgres, on a machine with Debian's \
                 package pgbouncer",
            )
        })?;
        Self::on_server(&pgbouncer::address(&base, mode)).await
    }

    /// A new schema on that server.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn on_server(server: &str) -> io::Result<Self> {
        let schema = format!("test_{}", new_id().simple());
        let plain = DatabaseUrl::parse(server).map_err(io::Error::other)?;
        let database = Database::open(&plain).await.map_err(io::Error::other)?;
        database.run(format!("CREATE SCHEMA {schema}")).await.map_err(io::Error::other)?;
        database.close().await;
        let environment = vec![("DATABASE_URL", server.to_owned()), ("DATABASE_SCHEMA", schema.clone())];
        Ok(Self { url: plain.with_schema(Some(schema)), environment, _folder: None })
    }

    /// Its address.
    pub const fn url(&self) -> &DatabaseUrl {
        &self.url
    }

    /// The variables that name it to a program.
    pub fn environment(&self) -> &[(&'static str, String)] {
        &self.environment
    }

    /// Connects.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn open(&self) -> Result<Database, storage::Error> {
        Database::open(&self.url).await
    }

    /// Connects, after bringing it to the present schema.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn migrated(&self) -> Result<Database, storage::Error> {
        let database = self.open().await?;
        storage::migrate::migrate(&database).await?;
        Ok(database)
    }
}

/// One test for each kind of database: `each_database!(name, async |database| { … });`
#[macro_export]
macro_rules! each_database {
    ($(#[$attribute:meta])* $name:ident, $body:expr) => {
        mod $name {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            $(#[$attribute])*
            async fn sqlite() {
                let database = $crate::databases::TestDatabase::sqlite().await.expect("an SQLite file");
                ($body)(database).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            $(#[$attribute])*
            async fn postgres() {
                let database = $crate::databases::TestDatabase::postgres().await.expect("a PostgreSQL server");
                ($body)(database).await;
            }
        }
    };
}

/// One test for each way to a database: each kind, and PostgreSQL through PgBouncer in both of its modes.
#[macro_export]
macro_rules! each_way {
    ($name:ident, $body:expr) => {
        mod $name {
            use super::*;

            $crate::one_way!(sqlite, $crate::databases::TestDatabase::sqlite(), $body);
            $crate::one_way!(postgres, $crate::databases::TestDatabase::postgres(), $body);
            $crate::one_way!(
                pgbouncer_by_session,
                $crate::databases::TestDatabase::behind_pgbouncer($crate::pgbouncer::Mode::Session),
                $body
            );
            $crate::one_way!(
                pgbouncer_by_transaction,
                $crate::databases::TestDatabase::behind_pgbouncer($crate::pgbouncer::Mode::Transaction),
                $body
            );
        }
    };
}

/// One of the tests of [`each_way!`].
#[macro_export]
macro_rules! one_way {
    ($way:ident, $database:expr, $body:expr) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $way() {
            let database = $database.await.expect("a database");
            ($body)(database).await;
        }
    };
}
