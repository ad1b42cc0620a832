//! What a request costs and who may make it: credits, usage, prices, accounts, periods and the rules of
//! admission. Pure: no IO, no async, no clock; the time is always an argument. Both databases decide with
//! this code, so a rule exists once.

mod account;
mod admission;
mod charge;
mod clock;
mod credits;
mod error;
mod ids;
mod label;
mod period;
mod price;
mod usage;

pub use account::{Account, AccountKey, AccountLimit};
pub use admission::{Bid, Decision, Policy, Quote, Refusal, Worst, admit};
pub use charge::{charge, usage_bought, with_unpriced_pictures};
pub use clock::Clock;
pub use credits::Credits;
pub use error::Error;
pub use ids::{ModelId, OwnerId, PriceVersion, ProviderName, RequestId, SponsoredId, UserId};
pub use label::{Label, check_name, check_text, is_hidden, is_plain};
pub use period::{Day, Period, Zone};
pub use price::{Price, Rate, Tier};
pub use usage::{Measure, Usage};
