//! The price of models that have none of their own: a price of the model `*` at the provider `*`, so that it has versions, and
//! the ledger names the one that was charged. It is set by two settings, and changes with them.

use accounting::{Credits, ModelId, Price, ProviderName, Rate};

use super::{ANY, NewPrice};
use crate::Error;

const MILLION: u64 = 1_000_000;

/// The default price of those settings.
pub(crate) fn of_settings(input: &str, output: &str) -> Result<NewPrice, Error> {
    let rate = |text: &str| Ok::<_, Error>(Rate::new(text.parse::<Credits>()?, MILLION));
    Ok(NewPrice {
        provider: ProviderName::new(ANY)?,
        model: ModelId::new(ANY)?,
        name: "Models without a price".into(),
        price: Price::new(rate(input)?, rate(output)?),
        max_output_tokens: None,
        context_tokens: None,
    })
}

/// Writes the default price in the transaction that has changed its settings, once both are set; evaluates to whether they
/// are. `select` finds a setting by its key.
macro_rules! default_price {
    ($transaction:expr, $database:expr, $select:expr) => {{
        let mut values: Vec<String> = Vec::new();
        for key in [$crate::settings::DEFAULT_INPUT, $crate::settings::DEFAULT_OUTPUT] {
            let value: Option<Option<String>> = sqlx::query_scalar(sqlx::AssertSqlSafe($select.clone()))
                .bind(key)
                .fetch_optional(&mut *$transaction)
                .await?;
            values.extend(value.flatten());
        }
        if let [input, output] = values.as_slice() {
            let new = $crate::admin::prices::of_settings(input, output)?;
            let now = accounting::Clock::now(&$crate::SystemClock);
            let (kept, _) = $crate::admin::prices::kept_versions!(
                $transaction,
                $database,
                new.model.as_str(),
                Some(&new.provider)
            );
            let from = $crate::admin::prices::not_before(&kept, now, now);
            let held = $crate::admin::prices::holding(&kept, from);
            if held.is_none_or(|held| held.priced.price != new.price) {
                let source = $crate::admin::prices::Source::Administrator.as_str();
                $crate::admin::prices::insert!(
                    $transaction,
                    $database,
                    &new,
                    source,
                    None,
                    from,
                    true,
                    false
                );
            }
        }
        values.len() == 2
    }};
}
pub(crate) use default_price;
