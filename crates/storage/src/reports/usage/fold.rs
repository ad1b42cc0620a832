//! Summing rows as they come: their texts become numbers, so that no row allocates what was there before.

use std::collections::HashMap;

use crate::Error;
use crate::reading::Row;
use crate::rollup::Sums;

/// The most columns that rows are told apart by.
const MOST: usize = 4;

/// Sums for each combination of values.
pub(super) struct Fold {
    columns: Vec<Texts>,
    sums: HashMap<[u32; MOST], Sums>,
}

/// The values of a column, numbered.
#[derive(Default)]
struct Texts {
    numbers: HashMap<String, u32>,
    /// Rows come in the order of their day or user: most have the same value as the one before.
    last: (String, u32),
}

impl Fold {
    /// For rows that begin with so many texts, before their sums.
    pub(super) fn new(columns: usize) -> Self {
        Self { columns: (0..columns.min(MOST)).map(|_| Texts::default()).collect(), sums: HashMap::new() }
    }

    /// Adds a row.
    pub(super) fn add(&mut self, row: &Row<'_>) -> Result<(), Error> {
        let mut key = [0; MOST];
        for (index, column) in self.columns.iter_mut().enumerate() {
            key[index] = column.number(row.some_text(index)?);
        }
        self.sums.entry(key).or_default().add(&Sums::read(row, self.columns.len())?)
    }

    /// The sums with their values.
    pub(super) fn into_sums(self) -> impl Iterator<Item = (Vec<String>, Sums)> {
        let texts = |column: Texts| {
            let mut texts: Vec<(u32, String)> =
                column.numbers.into_iter().map(|(text, number)| (number, text)).collect();
            texts.sort_unstable();
            texts.into_iter().map(|(_, text)| text).collect::<Vec<String>>()
        };
        let columns: Vec<Vec<String>> = self.columns.into_iter().map(texts).collect();
        self.sums.into_iter().map(move |(key, sums)| {
            let value = |(column, number): (&Vec<String>, &u32)| {
                usize::try_from(*number)
                    .ok()
                    .and_then(|number| column.get(number))
                    .cloned()
                    .unwrap_or_default()
            };
            (columns.iter().zip(&key).map(value).collect(), sums)
        })
    }
}

impl Texts {
    fn number(&mut self, text: &str) -> u32 {
        if self.last.0 == text && !self.numbers.is_empty() {
            return self.last.1;
        }
        let number = match self.numbers.get(text) {
            Some(number) => *number,
            None => {
                let number = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
                self.numbers.insert(text.to_owned(), number);
                number
            }
        };
        self.last.0.clear();
        self.last.0.push_str(text);
        self.last.1 = number;
        number
    }
}
