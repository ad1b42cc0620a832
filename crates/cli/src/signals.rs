//! How the system asks this process to end.

use std::io;

/// Watches for the system's wish that this process ends (SIGTERM; where there is none, nothing comes).
pub(crate) struct Terminated(#[cfg(unix)] tokio::signal::unix::Signal, #[cfg(not(unix))] ());

#[cfg(unix)]
impl Terminated {
    pub(crate) fn watch() -> io::Result<Self> {
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map(Self)
    }

    /// Returns when it is asked.
    pub(crate) async fn asked(&mut self) {
        self.0.recv().await;
    }
}

#[cfg(not(unix))]
impl Terminated {
    pub(crate) fn watch() -> io::Result<Self> {
        Ok(Self(()))
    }

    /// Returns when it is asked.
    pub(crate) async fn asked(&mut self) {
        std::future::pending().await
    }
}
