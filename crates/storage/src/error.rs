//! What can go wrong with the database, named by what the caller can do about it.

/// An error of the database. Messages say what to do and never hold a password.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The database is away, busy, or its disk is full: try again.
    #[error("the database is not available: {what}")]
    Unavailable {
        /// What is in the way.
        what: String,
    },
    /// Our tables are missing or older than this program.
    #[error(
        "the database is not set up for this version (it has schema {found}, this program needs {known}): run `owui-token-tracking init`"
    )]
    NotMigrated {
        /// The schema found; 0 for none.
        found: i64,
        /// The schema that this program needs.
        known: i64,
    },
    /// Our tables are newer than this program.
    #[error(
        "the database has schema {found}, and this program knows only up to {known}: install the newer version of it"
    )]
    NewerSchema {
        /// The schema found.
        found: i64,
        /// The newest schema that this program knows.
        known: i64,
    },
    /// The database user may not do this.
    #[error(
        "the database user lacks a right: {what}. Grant it the rights to create and write tables in this schema"
    )]
    NoRights {
        /// What was refused.
        what: String,
    },
    /// An SQLite file that this program may not write.
    #[error(
        "the database can't be written: {what}. Let this program's user write the file and its folder, or run this as the \
         user who owns them"
    )]
    ReadOnly {
        /// What SQLite says.
        what: String,
    },
    /// An address of a database that can't be used.
    #[error("{0}")]
    BadUrl(String),
    /// There is no such thing.
    #[error("there is no {what} `{name}`{hint}")]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
        /// Behind it: what to do, or empty.
        hint: String,
    },
    /// It exists already, or is in use.
    #[error("{what}")]
    Conflict {
        /// What is in the way, and what to do.
        what: String,
    },
    /// A value that can't be kept.
    #[error("{what}")]
    Invalid {
        /// What is wrong with it.
        what: String,
    },
    /// A row that contradicts the rules of its table; somebody else wrote it.
    #[error("bad data in {table}, column {column}, row {row}: correct it or delete the row")]
    Inconsistency {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The row's key.
        row: String,
    },
    /// A value that a newer version has written, or nobody could use.
    #[error(
        "{what} has {value}, which this version does not know: install the newer version of this program"
    )]
    NewerData {
        /// Whose it is.
        what: String,
        /// The value.
        value: String,
    },
    /// A setting whose value can't be used.
    #[error(
        "the setting `{key}` can't be used ({why}): correct it with `owui-token-tracking settings set {key} …`, or, if a newer \
         version wrote it, install that version"
    )]
    BadSetting {
        /// Its key.
        key: String,
        /// What is wrong with its value.
        why: String,
    },
    /// An amount, a price or an id that can't be.
    #[error(transparent)]
    Accounting(#[from] accounting::Error),
}

impl Error {
    pub(crate) fn not_found(what: &'static str, name: impl ToString) -> Self {
        Self::NotFound { what, name: name.to_string(), hint: String::new() }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let Some(code) =
            error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned())
        else {
            return match error {
                sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Decode(_)
                | sqlx::Error::ColumnNotFound(_) => {
                    Self::Invalid { what: format!("the database holds a value of another type: {error}") }
                }
                sqlx::Error::RowNotFound | sqlx::Error::Encode(_) | sqlx::Error::TypeNotFound { .. } => {
                    Self::Invalid { what: error.to_string() }
                }
                sqlx::Error::PoolTimedOut => {
                    Self::Unavailable { what: "it gave no connection for 5 s; try again later".into() }
                }
                error => Self::Unavailable { what: error.to_string() },
            };
        };
        let said =
            error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
        let what = error.to_string();
        // PostgreSQL: five characters; SQLite: the extended result code as a number.
        match code.parse::<i64>().ok().filter(|_| code.len() < 5) {
            Some(sqlite) => match sqlite & 0xff {
                // READONLY
                8 => Self::ReadOnly { what: sqlite_says(8, &said) },
                // BUSY, LOCKED, NOMEM, IOERR, CORRUPT, FULL, CANTOPEN, PROTOCOL, SCHEMA, NOTADB: also a file that was replaced
                // by another one, until it is put back.
                5 | 6 | 7 | 10 | 11 | 13 | 14 | 15 | 17 | 26 => {
                    Self::Unavailable { what: sqlite_says(sqlite & 0xff, &said) }
                }
                // PERM, AUTH
                3 | 23 => Self::NoRights { what },
                19 => Self::Conflict { what },
                _ => Self::Invalid { what },
            },
            None => match code.get(..2).unwrap_or_default() {
                // Connection, resources, intervention (shutdown), system error, rollback (deadlock, serialization),
                // object in use, no such database yet, wrong password (it may be rotated), read only.
                "08" | "53" | "57" | "58" | "40" | "55" | "3D" | "28" | "25" => Self::Unavailable { what },
                "23" => Self::Conflict { what },
                _ if code == "42501" => Self::NoRights { what },
                _ => Self::Invalid { what },
            },
        }
    }
}

/// What an error of SQLite means for people, with its own words.
pub(crate) fn sqlite_says(primary_code: i64, message: &str) -> String {
    let meaning = match primary_code {
        // BUSY, LOCKED
        5 | 6 => {
            "another program is writing to it and keeps it locked; let it finish, or end it, and try again"
        }
        // READONLY
        8 => "its file is read-only here",
        // IOERR
        10 => "its file can't be read or written; see whether its disk is full or fails",
        // CORRUPT
        11 => "its file is damaged",
        // FULL
        13 => "its disk is full; make room",
        // CANTOPEN
        14 => {
            "its file, or one beside it, can't be opened; let this program's user read and write it and its folder"
        }
        // NOTADB
        26 => "its file is no SQLite database",
        _ => return message.to_owned(),
    };
    format!("{meaning} ({message})")
}

#[cfg(test)]
mod tests {
    use crate::{Database, DatabaseUrl};

    async fn empty() -> (tempfile::TempDir, Database) {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::sqlite_file(folder.path().join("x.db"));
        let database = Database::create(&url).await.unwrap();
        (folder, database)
    }

    #[tokio::test]
    async fn a_file_that_can_not_be_written_says_why_and_what_to_do() {
        for (limit, expected) in [
            ("PRAGMA query_only = 1", "can't be written: its file is read-only here"),
            ("PRAGMA max_page_count = 1", "its disk is full; make room"),
        ] {
            let (_folder, database) = empty().await;
            let text = "x".repeat(10_000);
            let sql = format!("{limit}; CREATE TABLE a (b TEXT); INSERT INTO a VALUES ('{text}')");
            let said = database.run(sql).await.unwrap_err().to_string();
            assert!(said.contains(expected), "{limit}: {said}");
            assert!(!said.contains("code:"), "{said}");
        }
    }
}
