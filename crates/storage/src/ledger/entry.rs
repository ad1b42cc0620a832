//! What the ledger keeps of a request: what is known when it is admitted, how far it has come, and its end.

use accounting::{
    AccountKey, Credits, Day, Label, ModelId, Policy, PriceVersion, ProviderName, RequestId, SponsoredId,
    Usage, UserId,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Error;

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)*
        }

        impl $name {
            /// As the database keeps it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}

named! {
    /// What an entry of the ledger is.
    EntryKind {
        /// One request of a user.
        Request = "request",
        /// The difference to an entry that was settled by somebody else at a guess.
        Correction = "correction",
        /// Credits that an administrator granted (negative) or revoked.
        Adjustment = "adjustment",
        /// A request that the original served and logged.
        Import = "import",
        /// What entries that are not kept any more, or that did not know this account, add up to.
        Carried = "carried",
    }
}

named! {
    /// The way a request came in.
    WayIn {
        /// The gateway.
        Gateway = "gateway",
        /// A tracked pipe.
        Pipe = "pipe",
        /// The original, which served and logged it.
        Original = "original",
    }
}

named! {
    /// How a request ended.
    Outcome {
        /// The whole answer was delivered.
        Complete = "complete",
        /// The client went away, or pressed Stop.
        ClientGone = "client_gone",
        /// The provider broke off or answered nonsense.
        ProviderFailed = "provider_failed",
        /// The provider was silent for too long.
        TimedOut = "timed_out",
        /// The answer passed the bound of the strict policy.
        Cut = "cut",
        /// This process was shut down meanwhile.
        Shutdown = "shutdown",
        /// The process that sent it died; another one settled it.
        Recovered = "recovered",
        /// Nothing was produced, after another process had charged it as that of a dead one: the charge is taken back.
        Released = "released",
        /// It happened elsewhere, and is recorded although a rule here would have refused it.
        NotAllowed = "not_allowed",
    }
}

named! {
    /// How a charge was estimated.
    Estimated {
        /// Tokens counted by a tokenizer.
        Counted = "counted",
        /// Tokens guessed from the length of the text.
        Length = "length",
    }
}

/// What is known of a request when it is admitted. The hold keeps it, so that any process can settle it. Its texts are
/// [`Label`]s: whatever a hold has in its JSON, what is read of it can be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestRecord {
    /// Who asked.
    pub user: UserId,
    /// Who pays, if a sponsor does.
    pub sponsored: Option<SponsoredId>,
    /// The local day of admission.
    pub day: Day,
    /// The provider.
    pub provider: ProviderName,
    /// The model asked for.
    pub model: ModelId,
    /// The price at admission; `None` for a model served free without a price.
    pub price_version: Option<PriceVersion>,
    /// The rule by which it was admitted.
    pub policy: Policy,
    /// The way it came in.
    pub way_in: WayIn,
    /// Open WebUI's task, such as `title_generation`.
    pub task: Option<Label>,
    /// Open WebUI's chat.
    pub chat_id: Option<Label>,
    /// Open WebUI's message.
    pub message_id: Option<Label>,
    /// Open WebUI's workspace model.
    pub workspace_model: Option<Label>,
    /// Which of several Open WebUIs on one database.
    pub instance: Option<Label>,
    /// When it was admitted, in microseconds since 1970 UTC.
    pub started_at: i64,
    /// Input tokens guessed from its length.
    pub input_tokens: u64,
}

/// How far a request has come, as last saved for whoever may have to settle it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Output tokens guessed from the length of what has passed.
    pub output_tokens: u64,
    /// The usage that the provider has reported so far.
    pub usage: Option<Usage>,
    /// Whether that is its input and only so much of its output: more was coming.
    #[serde(default)]
    pub growing: bool,
    /// When the first byte came, in microseconds since 1970 UTC.
    pub first_byte_at: Option<i64>,
}

impl Progress {
    /// Of two of one request, the greater one is the later.
    pub(super) fn how_far(&self) -> (bool, u64, bool, u64) {
        let (told, output) = (self.usage.is_some(), self.usage.map_or(0, |usage| usage.output));
        (told && !self.growing, self.output_tokens, told, output)
    }
}

/// The end of a request: what replaces its hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The request.
    pub id: RequestId,
    /// What was known of it at admission.
    pub record: RequestRecord,
    /// The accounts it draws on.
    pub accounts: Vec<AccountKey>,
    /// The model that the answer names, if another.
    pub answered_model: Option<Label>,
    /// The price charged at, if dearer than the one at admission.
    pub price_version: Option<PriceVersion>,
    /// What it used.
    pub usage: Usage,
    /// What it costs.
    pub charge: Credits,
    /// Whether and how that is estimated.
    pub estimated: Option<Estimated>,
    /// How it ended.
    pub outcome: Outcome,
    /// The provider's own id of the request.
    pub provider_request_id: Option<Label>,
    /// When the first byte came.
    pub first_byte_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Timestamp,
}

/// Stands for the provider's id of a request whose texts the database refused.
pub(crate) const TEXTS_REMOVED: &str = "(texts removed)";

impl Settlement {
    /// Takes every text out that a charge does not need, and says so in place of the provider's id. `false` if they are out
    /// already. Who, which model, when, how much and on which accounts stay.
    pub(super) fn remove_texts(&mut self) -> bool {
        let Self { record, answered_model, provider_request_id, .. } = self;
        if provider_request_id.as_deref() == Some(TEXTS_REMOVED) {
            return false;
        }
        let RequestRecord { task, chat_id, message_id, workspace_model, instance, .. } = record;
        for text in [task, chat_id, message_id, workspace_model, instance, answered_model] {
            *text = None;
        }
        *provider_request_id = Some(TEXTS_REMOVED.into());
        true
    }
}

/// Accounts as the database keeps them: a JSON array of their keys.
pub(super) fn account_list<'a>(accounts: impl IntoIterator<Item = &'a AccountKey>) -> Result<String, Error> {
    let keys: Vec<String> = accounts.into_iter().map(ToString::to_string).collect();
    serde_json::to_string(&keys).map_err(|error| Error::Invalid { what: error.to_string() })
}

/// A policy as the database keeps it.
pub(super) const fn policy_name(policy: Policy) -> &'static str {
    match policy {
        Policy::OneCredit => "one_credit",
        Policy::Strict => "strict",
    }
}
