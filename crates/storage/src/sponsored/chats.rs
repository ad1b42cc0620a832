//! Which allowance paid the last request of a chat: a task of Open WebUI names its chat, but not its workspace model.

use accounting::{Clock, SponsoredId, UserId};
use sqlx::AssertSqlSafe;

use crate::{Catalogue, Database, Error, SystemClock, on_pool};

const DAY: i64 = 24 * 60 * 60 * 1_000_000;
/// A chat that nobody went on with for so long is forgotten, in microseconds.
const MEMORY: i64 = 30 * DAY;

impl Catalogue {
    /// The allowance that paid the last request of that user's chat, if one did.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the database is away.
    pub async fn sponsor_of_chat(&self, user: &UserId, chat: &str) -> Result<Option<SponsoredId>, Error> {
        Ok(noted(self.database(), user, chat).await?.map(|(sponsored, _)| sponsored))
    }

    /// Notes who paid a request of that user's chat: an allowance, or nobody but the user. Writes only what has changed.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the database is away.
    pub async fn note_sponsor_of_chat(
        &self,
        user: &UserId,
        chat: &str,
        sponsor: Option<SponsoredId>,
    ) -> Result<(), Error> {
        let database = self.database();
        let now = SystemClock.now().as_microsecond();
        let before = noted(database, user, chat).await?;
        let is_fresh = before.is_none_or(|(_, at)| now.saturating_sub(at) < DAY);
        if before.map(|(sponsored, _)| sponsored) == sponsor && is_fresh {
            return Ok(());
        }
        let table = database.table("token_tracking_sponsored_chat");
        let note = format!(
            "INSERT INTO {table} (user_id, chat_id, sponsored_id, noted_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (user_id, chat_id) DO UPDATE SET sponsored_id = excluded.sponsored_id, noted_at = excluded.noted_at"
        );
        let remove = format!("DELETE FROM {table} WHERE user_id = $1 AND chat_id = $2");
        let forget = format!("DELETE FROM {table} WHERE noted_at < $1");
        // A request waits for this: not behind the lock of administrative changes, which may take long.
        on_pool!(database, pool => {
            match sponsor {
                Some(sponsored) => {
                    let query = sqlx::query(AssertSqlSafe(note)).bind(user.as_str()).bind(chat);
                    query.bind(sponsored.to_string()).bind(now).execute(pool).await?;
                }
                None => {
                    let query = sqlx::query(AssertSqlSafe(remove)).bind(user.as_str()).bind(chat);
                    query.execute(pool).await?;
                }
            }
            sqlx::query(AssertSqlSafe(forget)).bind(now.saturating_sub(MEMORY)).execute(pool).await?;
        });
        Ok(())
    }
}

/// The allowance, and when it was noted.
async fn noted(database: &Database, user: &UserId, chat: &str) -> Result<Option<(SponsoredId, i64)>, Error> {
    let sql = format!(
        "SELECT sponsored_id, noted_at FROM {} WHERE user_id = $1 AND chat_id = $2",
        database.table("token_tracking_sponsored_chat")
    );
    let row: Option<(String, i64)> = on_pool!(database, pool => {
        sqlx::query_as(AssertSqlSafe(sql)).bind(user.as_str()).bind(chat).fetch_optional(pool).await?
    });
    row.map(|(sponsored, at)| Ok((sponsored.parse()?, at))).transpose()
}
