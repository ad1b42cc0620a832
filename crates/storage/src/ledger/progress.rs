//! How far the requests of a process have come, as one text in its owner's row.
//!
//! The rule it protects: whoever settles what a dead process left knows at most half a second less than its clients saw. So
//! this is saved four times a second; one row for each process costs a small part of what one for each hold does. What was
//! saved of a request in the row of its hold, every two seconds, is for programs that don't know this text.

use std::collections::{BTreeMap, HashMap};

use accounting::{OwnerId, RequestId};
use serde::{Serialize, Serializer};
use serde_json::Value;
use sqlx::AssertSqlSafe;

use super::entry::Progress;
use crate::{Database, Error, on_pool};

/// Requests by their ids.
struct Requests<'a>(&'a [(RequestId, Progress)]);

impl Serialize for Requests<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(id, progress)| (id, progress)))
    }
}

/// As the row keeps it.
pub(super) fn text(progress: &[(RequestId, Progress)]) -> Result<String, Error> {
    serde_json::to_string(&Requests(progress)).map_err(|error| Error::Invalid { what: error.to_string() })
}

/// What owners have saved, by the ids of their requests. Each request is read by itself, when it is needed: what one of them
/// has that this program does not know spoils no other.
#[derive(Debug, Default)]
pub(super) struct Saved(HashMap<String, Value>);

impl Saved {
    /// What these owners saved last.
    pub(super) async fn by<'a>(
        database: &Database,
        owners: impl Iterator<Item = &'a str>,
    ) -> Result<Self, Error> {
        let owners: BTreeMap<&str, ()> = owners.map(|owner| (owner, ())).collect();
        let sql = format!("SELECT progress FROM {} WHERE id = $1", database.table("token_tracking_owner"));
        let mut saved = HashMap::new();
        for owner in owners.into_keys().filter(|owner| owner.parse::<OwnerId>().is_ok()) {
            let text: Option<Option<String>> = on_pool!(database, pool => {
                let query = sqlx::query_scalar(AssertSqlSafe(sql.clone()));
                query.bind(owner).fetch_optional(pool).await?
            });
            let Some(text) = text.flatten() else { continue };
            match serde_json::from_str::<HashMap<String, Value>>(&text) {
                Ok(requests) => saved.extend(requests),
                Err(error) => {
                    tracing::error!(%error, owner, "what a dead process saved of its requests can't be read");
                }
            }
        }
        Ok(Self(saved))
    }

    /// How far a request has come, by this and by what its hold has; `Err` if one of them can't be read.
    pub(super) fn latest(&self, id: &str, of_hold: Option<&str>) -> serde_json::Result<Option<Progress>> {
        let saved = self.0.get(id).cloned().map(serde_json::from_value::<Progress>).transpose()?;
        let of_hold = of_hold.map(serde_json::from_str::<Progress>).transpose()?;
        Ok(saved.into_iter().chain(of_hold).max_by_key(Progress::how_far))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use accounting::Usage;

    #[test]
    fn the_later_of_both_counts_and_a_bad_one_spoils_no_other() {
        let ids = [crate::new_id(), crate::new_id()].map(RequestId::new);
        let progress = |output_tokens, usage| Progress { output_tokens, usage, ..Progress::default() };
        let adjusted = Usage { adjusted: true, ..Usage::tokens(3, 2) };
        let told = Progress { growing: true, ..progress(9, Some(adjusted)) };
        let text = text(&[(ids[0], told.clone()), (ids[1], progress(1, None))]).unwrap();
        let text = text.replacen("\"output_tokens\":1,", "\"output_tokens\":\"many\",", 1);
        let saved = Saved(serde_json::from_str(&text).unwrap());
        let of_hold = |output_tokens| serde_json::to_string(&progress(output_tokens, None)).unwrap();
        let latest = |hold: Option<String>| saved.latest(&ids[0].to_string(), hold.as_deref()).unwrap();
        assert_eq!(latest(None), Some(told.clone()));
        assert_eq!(latest(Some(of_hold(9))), Some(told));
        assert_eq!(latest(Some(of_hold(10))), Some(progress(10, None)));
        assert_eq!(Saved::default().latest("x", Some(&of_hold(4))).unwrap(), Some(progress(4, None)));
        assert!(saved.latest(&ids[1].to_string(), None).is_err());
    }
}
