//! How commands speak of what they took over from openwebui-token-tracking 0.1, and how long it takes.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use storage::Database;
use storage::original::{self, Absorbed, Imported};

/// Fewer rows are entered before anybody wonders.
const WORTH_A_BAR: u64 = 5000;
/// So many models without a price are named.
const MOST_NAMED: usize = 10;

/// The progress of an import, on a terminal.
pub(crate) struct ImportBar(Option<ProgressBar>);

impl ImportBar {
    /// For all rows that are not in the ledger yet.
    pub(crate) async fn new(database: &Database) -> anyhow::Result<Self> {
        let rows = u64::try_from(original::not_imported(database).await?).unwrap_or_default();
        if rows < WORTH_A_BAR {
            return Ok(Self(None));
        }
        // Where the standard error is no terminal, it draws nothing.
        let bar = ProgressBar::with_draw_target(Some(rows), ProgressDrawTarget::stderr());
        let style =
            ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} rows of usage ({eta})")?;
        Ok(Self(Some(bar.with_style(style))))
    }

    pub(crate) fn at(&mut self, rows: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(rows);
        }
    }

    pub(crate) fn finish(self) {
        if let Some(bar) = self.0 {
            bar.finish_and_clear();
        }
    }
}

/// Prices taken over, in words; `None` if there were none.
pub(crate) fn prices(absorbed: &Absorbed) -> Option<String> {
    let Absorbed { adopted, changed, ended, restored } = absorbed;
    let parts = [
        (adopted, "taken over"),
        (changed, "changed as in the original's table"),
        (ended, "ended as in the original's table"),
        (restored, "shown again in the original's table"),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(count, _)| **count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Usage taken over, in words, line by line.
pub(crate) fn usage(imported: &Imported) -> Vec<String> {
    let Imported { rows, charge, unpriced, unusable, .. } = imported;
    let mut lines = Vec::new();
    if *rows > 0 {
        lines.push(format!(
            "{rows} rows of the earlier installation, {charge} credits at the prices of today"
        ));
    }
    for ((provider, model), count) in unpriced.iter().take(MOST_NAMED) {
        lines.push(format!("{count} rows of {provider}/{model}, which has no price: charged nothing"));
    }
    if unpriced.len() > MOST_NAMED {
        lines.push(format!("and of {} more models without a price", unpriced.len() - MOST_NAMED));
    }
    if *unusable > 0 {
        lines.push(format!("{unusable} rows name no user, no model or no date: they are left aside"));
    }
    lines
}
