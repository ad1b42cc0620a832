//! Names of people, groups and allowances, and which of them is meant.
//!
//! One rule for all, on both databases: a name that is written just so goes before those that differ in case alone. Without
//! case means as Unicode compares (canonical caseless matching, The Unicode Standard, section 3.13): `ÉMILE` is `émile`,
//! whether its accent is a part of the letter or a sign of its own. Databases don't agree on that, so they are not asked.

use icu_casemap::CaseMapper;
use unicode_normalization::UnicodeNormalization as _;

/// A name without case; two names that are equal so are the same but for that.
pub fn folded(name: &str) -> String {
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    let apart: String = name.nfd().collect();
    CaseMapper::new().fold_string(&apart).nfd().collect()
}

/// Whether two names are the same but for their case.
pub fn is_same(one: &str, other: &str) -> bool {
    one == other || folded(one) == folded(other)
}

/// Those that a name means: those that are called just so, or else those that differ in case alone.
pub fn meant<'a, T>(which: &str, all: impl IntoIterator<Item = (T, &'a str)>) -> Vec<T> {
    let (mut just_so, mut alike, wanted) = (Vec::new(), Vec::new(), folded(which));
    for (what, name) in all {
        if name == which {
            just_so.push(what);
        } else if folded(name) == wanted {
            alike.push(what);
        }
    }
    if just_so.is_empty() { alike } else { just_so }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_but_for_their_case() {
        let same = [
            ("Émile Zola", "ÉMILE ZOLA"),
            ("E\u{301}mile", "émile"),
            ("Łukasz", "łukasz"),
            ("Øystein", "ØYSTEIN"),
            ("Иван", "ИВАН"),
            ("Γιώργος", "ΓΙΏΡΓΟΣ"),
            ("Özlem", "özlem"),
            ("Straße", "STRASSE"),
            ("İpek", "i\u{307}PEK"),
            ("Ärzte", "A\u{308}RZTE"),
        ];
        for (one, other) in same {
            assert!(is_same(one, other) && is_same(other, one), "{one} {other}");
        }
        for (one, other) in [("Emile", "Émile"), ("Ann", "Anna"), ("", "a"), ("Ipek", "Işpek")] {
            assert!(!is_same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn whoever_is_called_just_so_goes_before_others() {
        let all = [(1, "JOSÉ PÉREZ"), (2, "josé pérez"), (3, "ann"), (4, "ann")];
        for (which, expected) in [
            ("JOSÉ PÉREZ", &[1][..]),
            ("josé pérez", &[2]),
            ("José Pérez", &[1, 2]),
            ("Ann", &[3, 4]),
            ("ann", &[3, 4]),
            ("bob", &[]),
        ] {
            assert_eq!(meant(which, all), expected, "{which}");
        }
    }
}
