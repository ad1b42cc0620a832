//! What a request under the policy `strict` may take at most.

use providers::{Media, TextSize};

use crate::{MeterError, families};

/// At most so many tokens come in with texts of that size and these media. `counted`: the tokens of the texts, where it is
/// certain which vocabulary the model has.
///
/// # Errors
/// [`MeterError::BadRequest`] for what can't be bounded.
pub(crate) fn input_bound(
    model: &str,
    (size, counted): (TextSize, Option<u64>),
    media: &[Media],
) -> Result<u64, MeterError> {
    families::of(model).input_bound(&size, counted, media).ok_or_else(|| MeterError::BadRequest {
        message: "files, content that is kept at the provider, and sounds other than plain WAVE and MP3 can't be bounded \
                  beforehand, which the strict admission policy needs; send their text instead"
            .into(),
        param: Some("messages".into()),
        details: None,
    })
}

/// A stream is cut above this many counted tokens, if it was admitted for `bound`: our count may differ from the
/// provider's own by a little, and a provider that honours the limit ends by itself.
pub(crate) const fn cut_above(bound: u64) -> u64 {
    bound + bound / 4 + 16
}
