//! What a request used, by the classes that providers bill apart.

use serde::{Deserialize, Serialize};

use crate::Error;

/// What one request used. Tokens, images and calls, never negative.
///
/// Parts lie inside their whole: `cached_input`, `cache_write`, `cache_write_long` and `input_audio` are disjoint parts
/// of `input`; `reasoning` and `output_audio` are disjoint parts of `output`. [`Usage::checked`] makes sure of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Usage {
    /// All input tokens.
    pub input: u64,
    /// Input tokens read from a cache.
    pub cached_input: u64,
    /// Input tokens written to a cache (kept some minutes).
    pub cache_write: u64,
    /// Input tokens written to a cache that is kept for an hour.
    pub cache_write_long: u64,
    /// Input tokens of audio.
    pub input_audio: u64,
    /// All output tokens.
    pub output: u64,
    /// Output tokens of reasoning.
    pub reasoning: u64,
    /// Output tokens of audio.
    pub output_audio: u64,
    /// Images made.
    pub images: u64,
    /// Calls billed apiece: 1 for an ordinary request.
    pub calls: u64,
    /// Whether what was reported contradicted itself, and was used where it can be right.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub adjusted: bool,
}

/// One class of usage, as prices tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    /// Input tokens of no class below.
    Input,
    /// Input tokens read from a cache.
    CachedInput,
    /// Input tokens written to a cache.
    CacheWrite,
    /// Input tokens written to a cache for an hour.
    CacheWriteLong,
    /// Input tokens of audio.
    InputAudio,
    /// Output tokens of no class below.
    Output,
    /// Output tokens of reasoning.
    Reasoning,
    /// Output tokens of audio.
    OutputAudio,
    /// Images made.
    Images,
    /// Calls.
    Calls,
}

/// More of anything than this in one request is a mistake, not a usage.
const MOST: u64 = 1_000_000_000_000;

impl Usage {
    /// One request with that many plain input and output tokens.
    pub const fn tokens(input: u64, output: u64) -> Self {
        Self {
            input,
            output,
            cached_input: 0,
            cache_write: 0,
            cache_write_long: 0,
            input_audio: 0,
            reasoning: 0,
            output_audio: 0,
            images: 0,
            calls: 1,
            adjusted: false,
        }
    }

    /// This usage, if its parts fit into their wholes and no count is absurd.
    pub fn checked(self) -> Result<Self, Error> {
        if self.plain_input().is_none() {
            return Err(Error::BadUsage(format!(
                "the parts of its {} input tokens add up to more",
                self.input
            )));
        }
        if self.plain_output().is_none() {
            return Err(Error::BadUsage(format!(
                "the parts of its {} output tokens add up to more",
                self.output
            )));
        }
        match [self.input, self.output, self.images, self.calls].iter().find(|count| **count > MOST) {
            Some(count) => Err(Error::BadUsage(format!("{count} is too many for one request"))),
            None => Ok(self),
        }
    }

    /// Each class with its count; the classes are disjoint, none is counted twice.
    pub fn by_measure(&self) -> Result<[(Measure, u64); 10], Error> {
        let checked = self.checked()?;
        Ok([
            (Measure::Input, checked.plain_input().unwrap_or_default()),
            (Measure::CachedInput, self.cached_input),
            (Measure::CacheWrite, self.cache_write),
            (Measure::CacheWriteLong, self.cache_write_long),
            (Measure::InputAudio, self.input_audio),
            (Measure::Output, checked.plain_output().unwrap_or_default()),
            (Measure::Reasoning, self.reasoning),
            (Measure::OutputAudio, self.output_audio),
            (Measure::Images, self.images),
            (Measure::Calls, self.calls),
        ])
    }

    fn plain_input(&self) -> Option<u64> {
        [self.cached_input, self.cache_write, self.cache_write_long, self.input_audio]
            .into_iter()
            .try_fold(self.input, u64::checked_sub)
    }

    fn plain_output(&self) -> Option<u64> {
        [self.reasoning, self.output_audio].into_iter().try_fold(self.output, u64::checked_sub)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_larger_than_their_whole_are_refused() {
        assert!(Usage { cached_input: 11, ..Usage::tokens(10, 0) }.checked().is_err());
        assert!(Usage { cached_input: u64::MAX, cache_write: 2, ..Usage::tokens(10, 0) }.checked().is_err());
        assert!(Usage { reasoning: 2, ..Usage::tokens(10, 1) }.checked().is_err());
        assert!(Usage::tokens(u64::MAX, 0).checked().is_err());
        assert!(
            Usage { cached_input: 4, cache_write: 6, reasoning: 1, ..Usage::tokens(10, 1) }.checked().is_ok()
        );
    }

    #[test]
    fn classes_add_up_to_the_wholes() {
        let usage =
            Usage { cached_input: 3, cache_write: 2, input_audio: 1, reasoning: 5, ..Usage::tokens(10, 8) };
        let counts = usage.by_measure().unwrap();
        let sum = |of: &[Measure]| counts.iter().filter(|(m, _)| of.contains(m)).map(|(_, n)| n).sum::<u64>();
        use Measure::*;
        assert_eq!(sum(&[Input, CachedInput, CacheWrite, CacheWriteLong, InputAudio]), 10);
        assert_eq!(sum(&[Output, Reasoning, OutputAudio]), 8);
    }
}
