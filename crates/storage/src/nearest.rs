//! The name that was probably meant, where one that does not exist was given.

use accounting::{ModelId, ProviderName};

use crate::names::folded;
use crate::{Database, Error};

/// Names less alike than this, on a scale of 0 to 1, are different names.
const ALIKE: f64 = 0.8;

/// The known name that is most like the one given, in any case, if any is like it at all.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given = folded(given);
    let likeness = |name: &str| strsim::jaro_winkler(&given, &folded(name));
    let alike = known.into_iter().map(|name| (likeness(name), name)).filter(|(alike, _)| *alike >= ALIKE);
    alike.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, name)| name)
}

/// The longest name, in bytes, that is compared with a list that may be long.
const LONGEST: usize = 64;
/// So many names are proposed at most.
const PROPOSED: usize = 3;

/// The known names of models that are most like the one given, the likeliest first. What stands before the last slash, a
/// provider or an owner, may be missing or another.
pub fn several<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    if given.len() > LONGEST {
        return Vec::new();
    }
    let given = given.to_lowercase();
    let tail =
        |name: &str| name.rsplit_once('/').map_or_else(|| name.to_owned(), |(_, tail)| tail.to_owned());
    let given_tail = tail(&given);
    let likeness = |name: &str| {
        let name = name.to_lowercase();
        strsim::jaro_winkler(&given, &name).max(strsim::jaro_winkler(&given_tail, &tail(&name)))
    };
    let mut alike: Vec<(f64, &str)> =
        known.into_iter().map(|name| (likeness(name), name)).filter(|(alike, _)| *alike >= ALIKE).collect();
    alike.sort_by(|(one, a), (other, b)| other.total_cmp(one).then_with(|| a.cmp(b)));
    alike.into_iter().take(PROPOSED).map(|(_, name)| name).collect()
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

    #[test]
    fn models_are_proposed_whatever_stands_before_their_name() {
        let known = ["gpt-4o", "gpt-4o-mini", "anthropic/claude-sonnet-4-5", "llama3", "gpt-4.1", "gpt-4"];
        for (given, meant) in [
            ("gpt-4o-mni", &["gpt-4o-mini", "gpt-4o", "gpt-4"][..]),
            ("openai/gpt-4o-mini", &["gpt-4o-mini", "gpt-4o", "gpt-4"]),
            ("claude-sonnet-4-5-20250929", &["anthropic/claude-sonnet-4-5"]),
            ("Llama3.2", &["llama3"]),
            ("whisper", &[]),
            ("", &[]),
            ("x", &[]),
        ] {
            assert_eq!(several(given, known), meant, "{given}");
        }
        let long = format!("gpt-4o{}", "-".repeat(LONGEST));
        assert_eq!(several(&long, known), Vec::<&str>::new());
    }
}
