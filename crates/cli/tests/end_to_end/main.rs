//! The real executable, as processes: crashes, pauses, several gateways on one database, databases that go away.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers included"
)]

mod allowances;
mod commands;
mod contract;
mod crashes;
mod doctor;
mod feel;
#[cfg(unix)]
mod files;
mod init;
mod kills;
#[cfg(target_os = "linux")]
mod memory;
mod network;
mod open_webui;
mod outages;
mod poolers;
mod pricing;
mod process;
mod refused;
mod several;
mod sponsored;
mod takeover;
mod upgrade;
mod usage;
#[cfg(unix)]
mod worker;
