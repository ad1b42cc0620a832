//! What both benchmarks share: measuring, and showing.
#![expect(clippy::float_arithmetic, reason = "ratios and rates of measurements, no money")]
#![expect(clippy::cast_precision_loss, reason = "rates are shown with three digits")]

use std::time::Duration;

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

/// Latencies of one run, and how long the run took.
#[derive(Debug, Default)]
pub struct Measured {
    /// One for each operation.
    pub latencies: Vec<Duration>,
    /// The run's length.
    pub took: Duration,
}

impl Measured {
    /// Operations in a second; `each`: how many one latency stands for.
    pub fn rate(&self, each: usize) -> f64 {
        (self.latencies.len() * each) as f64 / self.took.as_secs_f64()
    }

    /// The latency that so many hundredths do not exceed, in milliseconds.
    pub fn percentile(&mut self, hundredths: usize) -> f64 {
        self.latencies.sort_unstable();
        let at = (self.latencies.len().saturating_sub(1)) * hundredths / 100;
        self.latencies.get(at).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
    }
}

/// A table in Markdown; every column but the first holds numbers.
pub fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(head.to_vec());
    for index in 1..head.len() {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A number with three digits that count.
pub fn short(number: f64) -> String {
    match number {
        n if n >= 10_000.0 => format!("{:.1}k", n / 1000.0),
        n if n >= 100.0 => format!("{n:.0}"),
        n if n >= 1.0 => format!("{n:.2}"),
        n => format!("{n:.3}"),
    }
}

/// The machine, in a line.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let field = |name: &str| {
        let line = cpu.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory: u64 =
        read("/proc/meminfo").split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or_default();
    let processor = field("model name").unwrap_or_else(|| "unknown processor".into());
    format!(
        "{cores} cores of {processor}, {} GiB, {}",
        memory / 1024 / 1024,
        read("/proc/sys/kernel/osrelease").trim()
    )
}

/// Whether a part of a benchmark is to run: all do, unless arguments name some.
pub fn wanted(part: &str) -> bool {
    let mut chosen = std::env::args().skip(1).peekable();
    chosen.peek().is_none() || chosen.any(|name| name == part)
}
