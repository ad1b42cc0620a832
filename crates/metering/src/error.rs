//! Why a request is not served, named by what the caller can do about it.

use accounting::{AccountKey, Credits, RequestId};
use jiff::Timestamp;
use providers::ProviderError;

/// Why a request is not served. Nothing is charged for it, unless the provider had begun to answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MeterError {
    /// The request itself is wrong, or asks for what could not be charged.
    #[error("{message}")]
    BadRequest {
        /// What is wrong and what to do.
        message: String,
        /// The field concerned.
        param: Option<String>,
        /// By what a client goes on by itself.
        details: Option<providers::Details>,
    },
    /// No configured provider has this model.
    #[error("the model `{model}` does not exist")]
    UnknownModel {
        /// As asked for.
        model: String,
        /// Models that this user may use and that may have been meant.
        meant: Vec<String>,
    },
    /// The model has no price, and the setting `unpriced_models` refuses such models.
    #[error("the model `{model}` of {provider} has no price")]
    Unpriced {
        /// The provider's name in the price table.
        provider: String,
        /// The model's id there.
        model: String,
    },
    /// The model has a price that this version can't use.
    #[error("{message}")]
    UnusablePrice {
        /// Why not, and what to do.
        message: String,
    },
    /// A setting that the request depends on can't be used.
    #[error("{message}")]
    Misconfigured {
        /// Which, and what to do.
        message: String,
    },
    /// The database knows no such user.
    #[error("there is no user `{user}`")]
    UnknownUser {
        /// The id.
        user: String,
    },
    /// There is no allowance to charge: an unknown sponsored one, or the setting `base_credit_allowance` is missing.
    #[error(
        "there is no allowance to charge this request to; set one with `owui-token-tracking settings set base_credit_allowance 1000`"
    )]
    NoAllowance,
    /// The sponsored allowance that was named does not pay for this.
    #[error("{message}")]
    NotSponsored {
        /// Why not, and what to do.
        message: String,
    },
    /// A limit is reached.
    #[error("the credit limit is reached")]
    LimitReached(Box<LimitReached>),
    /// Other requests of the same user held the credits for too long.
    #[error(
        "other requests of yours are still running and hold your remaining credits; try again in a few seconds"
    )]
    Busy,
    /// Too many requests of this user at a time.
    #[error("too many requests at a time")]
    TooManyRequests,
    /// The database is away, or the service is shutting down.
    #[error("the service is not available: {what}")]
    Unavailable {
        /// What is missing.
        what: String,
    },
    /// The provider did not serve it.
    #[error("{}", .0.message())]
    Provider(ProviderError),
    /// A fault of ours.
    #[error("an internal error: {what}")]
    Internal {
        /// For the log.
        what: String,
    },
}

/// A request that was not served.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub struct Unserved {
    /// Why.
    pub error: MeterError,
    /// Its id, if credits were set aside for it: it may have been charged.
    pub id: Option<RequestId>,
}

impl From<MeterError> for Unserved {
    fn from(error: MeterError) -> Self {
        Self { error, id: None }
    }
}

impl From<providers::BadRequest> for Unserved {
    fn from(error: providers::BadRequest) -> Self {
        MeterError::from(error).into()
    }
}

/// The limit that a request met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitReached {
    /// The account.
    pub account: AccountKey,
    /// Its limit.
    pub limit: Credits,
    /// What is spent of it.
    pub spent: Credits,
    /// What the request would need at least, if not the limit alone is in the way.
    pub needs: Option<Credits>,
    /// When the account starts afresh, if ever.
    pub resets_at: Option<Timestamp>,
    /// The same as people in the configured zone write it.
    pub resets_text: Option<String>,
    /// The seconds until then, rounded up.
    pub seconds: Option<u64>,
    /// Models that cost nothing.
    pub free_models: Vec<String>,
}

impl From<storage::Error> for MeterError {
    fn from(error: storage::Error) -> Self {
        match error {
            storage::Error::Unavailable { .. }
            | storage::Error::NotMigrated { .. }
            | storage::Error::NewerSchema { .. } => {
                tracing::error!(%error, "the database can't be used");
                Self::Unavailable {
                    what: "its database can't be used at the moment; tell your administrator".into(),
                }
            }
            storage::Error::BadSetting { .. } => Self::Misconfigured { message: error.to_string() },
            error => Self::Internal { what: error.to_string() },
        }
    }
}

impl From<accounting::Error> for MeterError {
    fn from(error: accounting::Error) -> Self {
        Self::BadRequest {
            message: format!("this request can't be charged: {error}"),
            param: None,
            details: None,
        }
    }
}

impl From<providers::BadRequest> for MeterError {
    fn from(error: providers::BadRequest) -> Self {
        let providers::BadRequest { message, param, details } = error;
        Self::BadRequest { message, param, details }
    }
}
