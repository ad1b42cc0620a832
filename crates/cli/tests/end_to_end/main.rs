//! The real executable, as processes: crashes, pauses, several gateways on one database, databases that go away.

mod commands;
mod crashes;
mod process;
mod several;
