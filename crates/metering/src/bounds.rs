//! What the input of a request may cost at most, for the policy `strict`. Facts about models, with their sources.

use providers::Media;

use crate::MeterError;

/// Where neither the request nor the price table says how long an answer may be.
pub(crate) const UNKNOWN_MODEL_OUTPUT: u64 = 16_384;

/// Tokens that a provider adds around any request (roles, tool preambles).
const OVERHEAD: u64 = 64;

/// Families that our vocabularies count exactly, except for how tools are rendered.
const KNOWN: [&str; 7] = ["gpt-", "chatgpt-", "o1", "o3", "o4", "text-embedding-", "codex-"];
/// Counted tokens are multiplied by this many hundredths: 5 % for tool rendering in families that we count exactly,
/// double elsewhere (measured ratios of other vocabularies to OpenAI's stay below 1.6 on text in any script).
const FACTOR_KNOWN: u64 = 105;
const FACTOR_OTHER: u64 = 200;

/// The dearest picture of gpt-4o-mini: 2833 + 8 tiles × 5667 (OpenAI, "Images and vision"); no provider publishes more.
const IMAGE_DEAREST: u64 = 48_169;
/// The dearest picture of OpenAI's other models: 1536 patches × 1.72 (o4-mini), rounded up.
const IMAGE_OPENAI: u64 = 3_000;
/// Audio takes about ten tokens a second; no codec of theirs needs less than 1000 bytes for a second.
const AUDIO_BYTES_PER_TOKEN: u64 = 100;

/// At most so many tokens come in with this text and these media.
///
/// # Errors
/// [`MeterError::BadRequest`] for what can't be bounded.
pub(crate) fn input_bound(model: &str, counted: u64, media: &[Media]) -> Result<u64, MeterError> {
    let known = KNOWN.iter().any(|family| model.starts_with(family));
    let factor = if known { FACTOR_KNOWN } else { FACTOR_OTHER };
    let image = if known && !model.starts_with("gpt-4o-mini") { IMAGE_OPENAI } else { IMAGE_DEAREST };
    let mut bound = counted.saturating_mul(factor).div_ceil(100) + OVERHEAD;
    for one in media {
        bound += match one {
            Media::Image { .. } => image,
            Media::Audio { bytes } => bytes.div_ceil(AUDIO_BYTES_PER_TOKEN),
            Media::File { .. } => {
                return Err(MeterError::BadRequest {
                    message: "files can't be bounded beforehand, which the strict admission policy needs; \
                              send their text instead"
                        .into(),
                    param: Some("messages".into()),
                });
            }
        };
    }
    Ok(bound)
}

/// A stream is cut above this many counted tokens, if it was admitted for `bound`: our count may differ from the
/// provider's own by a little, and a provider that honours the limit ends by itself.
pub(crate) const fn cut_above(bound: u64) -> u64 {
    bound + bound / 4 + 16
}
