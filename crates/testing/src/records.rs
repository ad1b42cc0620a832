//! Requests as the ledger has them, to be changed where a test cares.

use accounting::{
    AccountKey, Credits, Day, Error, ModelId, Policy, PriceVersion, ProviderName, RequestId, Usage, UserId,
};
use jiff::Timestamp;
use storage::ledger::{Outcome, RequestRecord, Settlement, WayIn};

/// A user's request of a day: to the model `m` at OpenAI, of 10 input tokens.
///
/// # Errors
/// If that can't be a user's id.
pub fn record(user: &str, day: Day) -> Result<RequestRecord, Error> {
    Ok(RequestRecord {
        user: UserId::new(user)?,
        sponsored: None,
        day,
        provider: ProviderName::new("openai")?,
        model: ModelId::new("m")?,
        price_version: Some(PriceVersion(1)),
        policy: Policy::OneCredit,
        way_in: WayIn::Gateway,
        task: None,
        chat_id: None,
        message_id: None,
        workspace_model: None,
        instance: None,
        started_at: 1_795_000_000_000_000,
        input_tokens: 10,
    })
}

/// The end of a request that was answered in full, with 20 output tokens.
pub fn settlement(
    id: RequestId,
    record: RequestRecord,
    accounts: Vec<AccountKey>,
    charge: Credits,
    ended_at: Timestamp,
) -> Settlement {
    Settlement {
        id,
        record,
        accounts,
        answered_model: None,
        price_version: None,
        usage: Usage::tokens(10, 20),
        charge,
        estimated: None,
        outcome: Outcome::Complete,
        provider_request_id: None,
        first_byte_at: None,
        ended_at,
    }
}
