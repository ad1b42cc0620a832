//! The prices that come with this program, and those in files.

use anyhow::Context;
use storage::admin::price_list;
use storage::admin::prices::NewPrice;

const BUILT_IN: &str = include_str!("models.json");

/// The prices in a JSON file.
pub(crate) fn read_file(path: &std::path::Path) -> anyhow::Result<Vec<NewPrice>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    price_list::parse(&text).with_context(|| format!("in {}", path.display()))
}

/// The list that comes with this program.
pub(crate) fn built_in() -> anyhow::Result<Vec<NewPrice>> {
    Ok(price_list::parse(BUILT_IN)?)
}

#[cfg(test)]
mod tests {
    use accounting::{Credits, Rate};

    use super::*;

    #[test]
    fn the_built_in_list_can_be_used() {
        let models = built_in().unwrap();
        assert!(models.len() > 10);
        let free = Rate::new(Credits::ZERO, 1_000_000);
        assert!(models.iter().all(|model| model.max_output_tokens.is_some() || model.price.output == free));
    }
}
