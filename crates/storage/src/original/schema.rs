//! The original's own migrations: in which state its tables are, and what brings them to its newest one.

use crate::{Database, Error, Kind, on_pool};

/// Its migrations, oldest first, and the table that each one made; the last one added a column to the first one's table.
const REVISIONS: [(&str, &str); 6] = [
    ("99fb3ad5e0e7", USAGE_LOG),
    ("6099739cae0b", "token_tracking_model_pricing"),
    ("c46ceb8649c3", "token_tracking_credit_group"),
    ("036cd1c4af2d", "token_tracking_base_settings"),
    ("10d29ec2fd0a", "token_tracking_sponsored_allowance"),
    (HEAD, USAGE_LOG),
];
/// The newest of them.
pub const HEAD: &str = "a118dd7f6b7f";
/// Where it notes them.
pub(crate) const VERSION_TABLE: &str = "token_tracking_alembic_version";
pub(crate) const USAGE_LOG: &str = "token_tracking_usage_log";
pub(crate) const SPONSORED: &str = "sponsored_allowance_id";
/// All of its tables.
pub(crate) const TABLES: [&str; 7] = [
    USAGE_LOG,
    "token_tracking_model_pricing",
    "token_tracking_credit_group",
    "token_tracking_credit_group_user",
    "token_tracking_base_settings",
    "token_tracking_sponsored_allowance",
    "token_tracking_sponsored_allowance_base_models",
];

/// The state of the original's tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revision {
    /// There are none.
    None,
    /// As one of its migrations left them, older than the newest.
    Older(String),
    /// As its newest migration leaves them.
    Head,
    /// As a version of it left them that this program does not know.
    Unknown(String),
}

impl Revision {
    /// Its name as the original gives it.
    pub fn name(&self) -> &str {
        match self {
            Self::None => "none",
            Self::Older(name) | Self::Unknown(name) => name,
            Self::Head => HEAD,
        }
    }
}

/// The state of the original's tables: what it noted, or else what is there.
pub(crate) async fn revision(database: &Database) -> Result<Revision, Error> {
    if !database.has_table(USAGE_LOG).await? {
        return Ok(Revision::None);
    }
    let noted = noted(database).await?;
    let is_known = |name: &String| REVISIONS.iter().any(|(revision, _)| revision == name);
    if let Some(unknown) = noted.iter().find(|name| !is_known(name)) {
        return Ok(Revision::Unknown(unknown.clone()));
    }
    if noted.iter().any(|name| name == HEAD) || database.has_column(USAGE_LOG, SPONSORED).await? {
        return Ok(Revision::Head);
    }
    if let Some(older) = noted.into_iter().next() {
        return Ok(Revision::Older(older));
    }
    let mut last = REVISIONS[0].0;
    for (revision, table) in &REVISIONS[1..REVISIONS.len() - 1] {
        if !database.has_table(table).await? {
            break;
        }
        last = revision;
    }
    Ok(Revision::Older(last.to_owned()))
}

async fn noted(database: &Database) -> Result<Vec<String>, Error> {
    if !database.has_table(VERSION_TABLE).await? {
        return Ok(Vec::new());
    }
    let sql = format!("SELECT version_num FROM {} ORDER BY 1", database.table(VERSION_TABLE));
    Ok(on_pool!(database, pool => sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(pool).await?))
}

/// The original's tables and columns that are missing.
pub(crate) async fn missing(database: &Database) -> Result<Vec<String>, Error> {
    let mut missing = Vec::new();
    for table in TABLES {
        if !database.has_table(table).await? {
            missing.push(table.to_owned());
        }
    }
    if !missing.iter().any(|table| table == USAGE_LOG) && !database.has_column(USAGE_LOG, SPONSORED).await? {
        missing.push(format!("{USAGE_LOG}.{SPONSORED}"));
    }
    Ok(missing)
}

/// What brings its tables to their newest state. Made of statements that change nothing where there is nothing to do, but for
/// the column, which is added only if it is missing.
pub(crate) async fn to_head(database: &Database, with_users: bool) -> Result<String, Error> {
    let create = match database.kind() {
        Kind::Sqlite => include_str!("../migrations/original_sqlite.sql"),
        Kind::Postgres => include_str!("../migrations/original_postgres.sql"),
    };
    let mut sql = create.replace("/*user*/", if with_users { "REFERENCES \"user\" (id)" } else { "" });
    if missing(database).await?.iter().any(|what| what.contains('.')) {
        sql.push_str(&format!(
            "\nALTER TABLE {USAGE_LOG} ADD COLUMN {SPONSORED} UUID \
             CONSTRAINT fk_usage_log_sponsored_allowance REFERENCES token_tracking_sponsored_allowance (id);"
        ));
    }
    // A state that is newer than all we know stays noted as it is.
    let known: Vec<String> = REVISIONS.iter().map(|(revision, _)| format!("'{revision}'")).collect();
    sql.push_str(&format!(
        "\nCREATE TABLE IF NOT EXISTS {VERSION_TABLE} (version_num VARCHAR(32) NOT NULL, \
           CONSTRAINT token_tracking_alembic_version_pkc PRIMARY KEY (version_num));\n\
         DELETE FROM {VERSION_TABLE} WHERE version_num IN ({});\n\
         INSERT INTO {VERSION_TABLE} (version_num) SELECT '{HEAD}' WHERE NOT EXISTS (SELECT 1 FROM {VERSION_TABLE});\n",
        known.join(", ")
    ));
    Ok(sql)
}
