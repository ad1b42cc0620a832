//! Sponsored allowances as requests need them, and the workspace models of Open WebUI that open them.
//!
//! The original keeps names, limits and models; what it has no place for (dates, members, providers) is in tables of ours
//! beside them, and counts only for what the original's still say.

mod chats;
mod people;
mod read;
mod snapshot;
mod workspace_model;

use std::fmt;

use accounting::{Credits, Day, ModelId, ProviderName, SponsoredId};

pub(crate) use people::people;
pub(crate) use read::{Queries, Rows, read, rows};
pub(crate) use snapshot::Sponsorships;
pub use workspace_model::WorkspaceModel;
pub(crate) use workspace_model::workspace_model;

/// Credits that a sponsor grants for named models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SponsoredAllowance {
    /// Its id.
    pub id: SponsoredId,
    /// Its name: what stands before `---` in the id of a workspace model that draws on it.
    pub name: String,
    /// Who pays: a user's id, or any name; empty if unknown.
    pub sponsor: String,
    /// The models that it covers.
    pub models: Vec<CoveredModel>,
    /// What all users together may spend, ever.
    pub total: Credits,
    /// What each user may spend in a day; `None` for no limit.
    pub daily: Option<Credits>,
    /// The first day on which it pays; `None` for no first.
    pub starts_on: Option<Day>,
    /// The last day on which it pays; `None` for no last.
    pub ends_on: Option<Day>,
    /// Who may use it; empty: whoever may use its workspace models.
    pub members: Vec<Member>,
    /// Whether everybody may use its models as models of their own.
    pub public: bool,
    /// When it was made, UTC, as `YYYY-MM-DD HH:MM:SS`.
    pub created_at: String,
}

/// A model that an allowance covers: at one provider, or at every provider that prices it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CoveredModel {
    /// The provider; `None` for every one.
    pub provider: Option<ProviderName>,
    /// The model.
    pub model: ModelId,
}

/// Somebody who may use an allowance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Member {
    /// What they are.
    pub kind: MemberKind,
    /// The id of the user or group.
    pub id: String,
}

/// Who can be a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MemberKind {
    /// One user.
    User,
    /// Whoever is in a credit group.
    CreditGroup,
    /// Whoever is in a group of Open WebUI.
    OpenWebUiGroup,
}

impl SponsoredAllowance {
    /// Whether it names that model, at whatever provider.
    pub fn covers(&self, model: &ModelId) -> bool {
        self.models.iter().any(|covered| covered.model == *model)
    }

    /// Whether it pays for that model at that provider.
    pub fn pays_for(&self, provider: &ProviderName, model: &ModelId) -> bool {
        let fits = |covered: &CoveredModel| covered.provider.as_ref().is_none_or(|named| named == provider);
        self.models.iter().any(|covered| covered.model == *model && fits(covered))
    }

    /// Whether its models are offered as models of their own: to its members, or to everybody.
    pub fn offers_models(&self) -> bool {
        self.public || !self.members.is_empty()
    }

    /// Its name as ids of models have it: see [`handle`].
    pub fn handle(&self) -> String {
        handle(&self.name)
    }
}

/// A name as ids of models in Open WebUI can have it: without white space, and without the `/` that ends it there.
pub fn handle(name: &str) -> String {
    let is_gap = |character: char| character.is_whitespace() || character == '/';
    name.split(is_gap).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

impl fmt::Display for CoveredModel {
    /// `provider/model`, or `model` alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.provider {
            Some(provider) => write!(f, "{provider}/{}", self.model),
            None => self.model.fmt(f),
        }
    }
}

impl fmt::Display for Member {
    /// `user:ann`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.as_str(), self.id)
    }
}

impl MemberKind {
    /// As the database names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::CreditGroup => "credit_group",
            Self::OpenWebUiGroup => "open_webui_group",
        }
    }

    fn read(text: &str) -> Option<Self> {
        [Self::User, Self::CreditGroup, Self::OpenWebUiGroup].into_iter().find(|kind| kind.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_an_id_has_no_gaps() {
        assert_eq!(handle("AI Department"), "AI-Department");
        assert_eq!(handle(" a \t/ b/c "), "a-b-c");
        assert_eq!(handle("course-101"), "course-101");
        assert_eq!(handle(&handle("x  y")), handle("x  y"));
    }
}
