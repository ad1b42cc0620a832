//! The database: connections, migrations, the catalogue (prices, groups, settings, users) and the ledger.
//!
//! SQL exists once for SQLite and PostgreSQL (`$1` placeholders, types that both have), except for the ledger's writers.
//! The original's tables keep their names and formats; ours stand beside them. Open WebUI's tables are only read.

pub mod admin;
mod catalogue;
mod database;
mod error;
mod file;
mod groups;
mod ids;
pub mod ledger;
mod locked;
pub mod migrate;
pub mod names;
pub mod nearest;
mod open_webui_groups;
pub mod original;
mod pooled;
mod price_json;
mod reading;
pub mod refusals;
pub mod reports;
pub mod rollup;
mod settings;
mod sponsored;
mod time;
pub mod unknown_usage;
mod url;

pub use crate::catalogue::{Catalogue, KnownUser, PricedModel, Snapshot};
pub use crate::database::{Database, Pool};
pub use crate::error::Error;
pub use crate::groups::{Limits, Membership};
pub use crate::ids::new_id;
pub use crate::locked::holders;
pub use crate::open_webui_groups::{OpenWebUiGroup, members as open_webui_groups};
pub use crate::pooled::{PgConnections, PgTransaction, Pooling};
pub use crate::settings::{KNOWN as KNOWN_SETTINGS, KnownSetting, Settings, Unpriced};
pub use crate::sponsored::{CoveredModel, Member, MemberKind, SponsoredAllowance, WorkspaceModel, handle};
pub use crate::time::SystemClock;
pub use crate::url::{DatabaseUrl, Kind};
