//! Numbers in the usage of servers that nobody here knows: they may stand for something that is charged.
//!
//! Noted where a report is read, which is where nobody knows of which provider it is; whoever reads an answer of a provider takes
//! them at once and names it. Each is told once in the log, and kept for whoever writes them down.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use accounting::ProviderName;

/// So many of one report are noted.
const MOST_AT_A_TIME: usize = 16;
/// So many are kept in all; servers choose their names.
const MOST: usize = 256;
/// The most characters of a name.
const LONGEST: usize = 128;

/// A number that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnknownNumber {
    /// Whose usage has it.
    pub provider: ProviderName,
    /// Its name, behind that of the object that it stands in.
    pub field: String,
}

thread_local! {
    /// What the report that is being read has.
    static FOUND: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

#[derive(Debug)]
struct Known {
    all: BTreeSet<UnknownNumber>,
    /// Those that nobody has taken yet.
    fresh: Vec<UnknownNumber>,
}

static KNOWN: Mutex<Known> = Mutex::new(Known { all: BTreeSet::new(), fresh: Vec::new() });

/// Notes one of the report that is being read.
pub(crate) fn found(holder: &str, name: &str) {
    FOUND.with_borrow_mut(|found| {
        if found.len() < MOST_AT_A_TIME {
            let field = if holder.is_empty() { name.to_owned() } else { format!("{holder}.{name}") };
            found.push(
                field.chars().take(LONGEST).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect(),
            );
        }
    });
}

/// What was read is of that provider.
pub(crate) fn read_of(provider: &ProviderName) {
    let found =
        FOUND.with_borrow_mut(|found| if found.is_empty() { Vec::new() } else { std::mem::take(found) });
    if found.is_empty() {
        return;
    }
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    for field in found {
        let number = UnknownNumber { provider: provider.clone(), field };
        if known.all.len() < MOST && !known.all.contains(&number) {
            tracing::warn!(
                %provider, field = number.field,
                "a server reports a number in its usage that this program does not know: it is not charged"
            );
            known.fresh.push(number.clone());
            known.all.insert(number);
        }
    }
}

/// What was read is of no provider: whoever wrote it can correct it.
pub(crate) fn read_of_nobody() {
    FOUND.with_borrow_mut(Vec::clear);
}

/// Those that came since they were taken last.
pub fn take_unknown_numbers() -> Vec<UnknownNumber> {
    std::mem::take(&mut KNOWN.lock().unwrap_or_else(PoisonError::into_inner).fresh)
}

/// They could not be written down: they are taken again.
pub fn keep_unknown_numbers(numbers: Vec<UnknownNumber>) {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner).fresh.extend(numbers);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once_for_each_provider_and_not_without_end() {
        let provider = |name: &str| ProviderName::new(name).unwrap();
        for name in ["a", "a", "b"] {
            found("details", "strange\u{202e}");
            read_of(&provider(name));
        }
        let taken = take_unknown_numbers();
        let expected = ["a", "b"]
            .map(|name| UnknownNumber { provider: provider(name), field: "details.strange?".into() });
        assert_eq!(taken, expected);
        assert_eq!(take_unknown_numbers(), []);
        keep_unknown_numbers(taken);
        assert_eq!(take_unknown_numbers(), expected);
        for number in 0..2 * MOST {
            found("", &number.to_string());
            read_of(&provider("a"));
        }
        assert_eq!(take_unknown_numbers().len(), MOST - 2);
        // Nothing is left over for the next one who reads.
        (0..2 * MOST_AT_A_TIME).for_each(|number| found("", &number.to_string()));
        FOUND.with_borrow(|found| assert_eq!(found.len(), MOST_AT_A_TIME));
    }
}
