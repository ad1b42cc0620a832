//! The name that was probably meant, where one that does not exist was given.

use accounting::{ModelId, ProviderName};

use crate::{Database, Error};

/// Names less alike than this, on a scale of 0 to 1, are different names.
const ALIKE: f64 = 0.8;

/// The known name that is most like the one given, in any case, if any is like it at all.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_lowercase();
    let likeness = |name: &str| strsim::jaro_winkler(&given, &name.to_lowercase());
    let alike = known.into_iter().map(|name| (likeness(name), name)).filter(|(alike, _)| *alike >= ALIKE);
    alike.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, name)| name)
}

/// What to say behind "there is no …": the name that was probably meant, and what to do.
pub(crate) fn hint<'a>(given: &str, known: impl IntoIterator<Item = &'a str>, otherwise: &str) -> String {
    match nearest(given, known) {
        Some(name) => format!("; did you mean `{name}`? {otherwise}"),
        None => format!("; {otherwise}"),
    }
}

/// The error for a model without a price (at that provider, if one is named), naming who has a price for it, or else the
/// nearest model that has one.
pub async fn unknown_price(database: &Database, model: &ModelId, provider: Option<&ProviderName>) -> Error {
    let now = accounting::Clock::now(&crate::SystemClock);
    // Without the list, the error says as much as it can.
    let known = crate::admin::prices::list(database, None, now).await.unwrap_or_default();
    let otherwise = "`owui-token-tracking pricing list` shows all, `pricing add` makes one";
    let elsewhere: Vec<&str> =
        known.iter().filter(|priced| priced.model == *model).map(|priced| priced.provider.as_str()).collect();
    if let Some(provider) = provider.filter(|_| !elsewhere.is_empty()) {
        return Error::NotFound {
            what: "price of",
            name: format!("{provider}/{model}"),
            hint: format!("; {model} has one at {}. {otherwise}", elsewhere.join(", ")),
        };
    }
    Error::NotFound {
        what: "price of",
        name: model.to_string(),
        hint: hint(model.as_str(), known.iter().map(|priced| priced.model.as_str()), otherwise),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_understood() {
        let known =
            ["Students", "Staff", "gpt-4o-mini", "gpt-4o", "base_credit_allowance", "ann@example.org"];
        for (given, meant) in [
            ("Studnts", Some("Students")),
            ("staf", Some("Staff")),
            ("gpt4o", Some("gpt-4o")),
            ("GPT-4O-MNI", Some("gpt-4o-mini")),
            ("base_allowance", Some("base_credit_allowance")),
            ("anne@example.org", Some("ann@example.org")),
            ("Professors", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(given, known), meant, "{given}");
        }
        assert_eq!(nearest("Students", []), None);
    }
}
