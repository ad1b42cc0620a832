//! All users at once, for whoever has to find many of them.

use std::collections::HashMap;

use crate::admin::users::{self, Wanted};
use crate::{Database, Error, KnownUser, nearest};

/// All users that are known.
#[derive(Debug)]
pub struct Directory {
    users: Vec<KnownUser>,
    has_open_webui: bool,
    by_id: HashMap<String, usize>,
    /// By e-mail address and by name, in lower case.
    by_email: HashMap<String, Vec<usize>>,
    by_name: HashMap<String, Vec<usize>>,
}

impl Directory {
    /// Reads all.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the database is away.
    pub async fn read(database: &Database) -> Result<Self, Error> {
        let users = users::find(database, &Wanted::default()).await?;
        let mut directory = Self {
            users: Vec::new(),
            has_open_webui: database.has_table(users::OPEN_WEBUIS).await?,
            by_id: HashMap::new(),
            by_email: HashMap::new(),
            by_name: HashMap::new(),
        };
        for (place, user) in users.iter().enumerate() {
            directory.by_id.insert(user.id.to_string(), place);
            directory.by_email.entry(user.email.to_lowercase()).or_default().push(place);
            directory.by_name.entry(user.name.to_lowercase()).or_default().push(place);
        }
        directory.users = users;
        Ok(directory)
    }

    /// The one user with that id, e-mail address or name, as [`users::one`].
    ///
    /// # Errors
    /// [`Error::NotFound`] for none, [`Error::Conflict`] for several.
    pub fn one(&self, which: &str) -> Result<&KnownUser, Error> {
        if let Some(user) = self.by_id.get(which).and_then(|place| self.users.get(*place)) {
            return Ok(user);
        }
        let lower = which.to_lowercase();
        let found = self.by_email.get(&lower).or_else(|| self.by_name.get(&lower));
        let found: Vec<&KnownUser> =
            found.into_iter().flatten().filter_map(|place| self.users.get(*place)).collect();
        match found.as_slice() {
            [one] => Ok(one),
            [] => {
                let names = self
                    .users
                    .iter()
                    .flat_map(|user| [user.id.as_str(), user.name.as_str(), user.email.as_str()]);
                let hint = nearest::hint(which, names, users::otherwise(self.has_open_webui));
                Err(Error::NotFound { what: "user", name: which.to_owned(), hint })
            }
            several => {
                let ids: Vec<&str> = several.iter().map(|user| user.id.as_str()).collect();
                Err(Error::Conflict {
                    what: format!("several users fit `{which}`; name one by id: {}", ids.join(", ")),
                })
            }
        }
    }
}
