//! All users at once, for whoever has to find one of them or many.

use std::collections::HashMap;

use crate::admin::users::{self, Wanted};
use crate::names::{folded, meant};
use crate::{Database, Error, KnownUser, nearest};

/// All users that are known.
#[derive(Debug)]
pub struct Directory {
    users: Vec<KnownUser>,
    has_open_webui: bool,
    by_id: HashMap<String, usize>,
    /// By e-mail address and by name, without case.
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
            directory.by_email.entry(folded(&user.email)).or_default().push(place);
            directory.by_name.entry(folded(&user.name)).or_default().push(place);
        }
        directory.users = users;
        Ok(directory)
    }

    /// The one user with that id, e-mail address or name: one that is written just so goes before those that differ in case.
    ///
    /// # Errors
    /// [`Error::NotFound`] for none, [`Error::Conflict`] for several.
    pub fn one(&self, which: &str) -> Result<&KnownUser, Error> {
        if let Some(user) = self.by_id.get(which).and_then(|place| self.users.get(*place)) {
            return Ok(user);
        }
        let wanted = folded(which);
        let of = |places: &HashMap<String, Vec<usize>>| -> Vec<&KnownUser> {
            let places = places.get(&wanted).into_iter().flatten();
            places.filter_map(|place| self.users.get(*place)).collect()
        };
        let by_email = meant(which, of(&self.by_email).into_iter().map(|user| (user, user.email.as_str())));
        let by_name = meant(which, of(&self.by_name).into_iter().map(|user| (user, user.name.as_str())));
        let is_just_so = by_name.iter().any(|user| user.name.as_str() == which)
            && by_email.iter().all(|user| user.email.as_str() != which);
        let found = if by_email.is_empty() || is_just_so { by_name } else { by_email };
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
                let each = several.iter().map(|user| format!("{} ({})", user.id, user.name));
                Err(Error::Conflict {
                    what: format!(
                        "several users fit `{which}`; name one by id: {}",
                        each.collect::<Vec<_>>().join(", ")
                    ),
                })
            }
        }
    }
}
