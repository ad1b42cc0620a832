//! Why a value can't be made or computed. Each is an error of the one item concerned.

/// What is wrong with a value or a sum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A sum left the range of 64-bit microcredits.
    #[error("the amount is too large: credits end at 9223372036854.775807")]
    Overflow,
    /// Text that is no amount of credits.
    #[error("`{0}` is no amount of credits: write a decimal number with at most six places, such as 12.5")]
    NotCredits(String),
    /// A price that can't be computed with.
    #[error("this price can't be used: {0}")]
    BadPrice(String),
    /// A usage that contradicts itself, such as more cached than input tokens.
    #[error("this usage can't be right: {0}")]
    BadUsage(String),
    /// A time zone that the IANA database does not have.
    #[error("`{0}` is no IANA time zone: write one such as Europe/Berlin or UTC")]
    NotAZone(String),
    /// A value that does not have the form it must have.
    #[error("`{0}` is no {1}")]
    Malformed(String, &'static str),
    /// A text that an administrator wrote and that can't be kept.
    #[error("{what} has at most {longest} characters, and none of them is a line end or invisible")]
    BadText {
        /// Which text, as the start of a sentence.
        what: &'static str,
        /// The most characters that it may have.
        longest: usize,
    },
}
