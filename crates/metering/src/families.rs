//! What is known of families of models: how their tokens are counted where a provider does not tell, and what a request to
//! them takes at most, for the policy `strict`. Data, each line with its source.
//!
//! A model's family is the first whose beginning its name has; a vendor before a slash (`anthropic/claude-…`) does not count.

use providers::Media;

/// What our vocabularies are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vocabulary {
    /// OpenAI's `cl100k_base`.
    Cl100k,
    /// OpenAI's `o200k_base`.
    O200k,
}

/// A family of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Family {
    /// How the names of its models begin.
    begins: &'static [&'static str],
    pub vocabulary: Vocabulary,
    /// So many hundredths of a token of its own are one of the vocabulary, on average: for charges that are estimated.
    counted: u64,
    /// The same at most, in any text, with what its provider adds for tools: for the policy `strict`.
    most: u64,
    /// Tokens of an ordinary picture.
    image: u64,
    /// Tokens of the dearest picture.
    image_most: u64,
    /// So many bytes of sound are at most one token; a second takes at least 1000 bytes in every format that is taken.
    audio_bytes: u64,
    /// The longest answer, in tokens, where the price table says nothing.
    pub output: u64,
}

/// Tokens that a provider adds around any request (roles, tool preambles).
const OVERHEAD: u64 = 64;

/// OpenAI: counted exactly but for how tools are rendered (5 %). Pictures: guide "Images and vision" (an ordinary one of four
/// tiles 85 + 4 × 170; the dearest 1536 patches × 1.72). Sound: guide "Audio", ten tokens a second. Answers: page of each model.
const OPENAI: Family = Family {
    begins: &[],
    vocabulary: Vocabulary::O200k,
    counted: 100,
    most: 105,
    image: 765,
    image_most: 3_000,
    audio_bytes: 100,
    output: 16_384,
};

/// Anthropic publishes no vocabulary. Its glossary: a token is about 3.5 English characters; OpenAI's: about 4. Pictures: guide
/// "Vision", width × height / 750 with at most 1.15 megapixels, and up to 4,784 tokens for the newest. Answers: "Models overview".
const ANTHROPIC: Family =
    Family { counted: 115, most: 200, image: 1_600, image_most: 5_000, output: 64_000, ..OPENAI };

/// Google: guide "Understand and count tokens": about 4 characters a token, 258 tokens a tile of 768 pixels (at most 16 tiles),
/// 32 tokens a second of sound. Answers: "Gemini models".
const GOOGLE: Family = Family {
    counted: 100,
    most: 200,
    image: 258,
    image_most: 4_200,
    audio_bytes: 31,
    output: 65_536,
    ..OPENAI
};

/// Mistral publishes its vocabulary, but no ratio to others. Pictures: guide "Vision" (patches of 16 pixels, at most
/// 1024 × 1024, a mark for each row).
const MISTRAL: Family =
    Family { counted: 115, most: 200, image: 1_300, image_most: 4_200, output: 32_768, ..OPENAI };

/// All others. Measured ratios of other vocabularies to OpenAI's stay below 1.6 on text in any script; the dearest picture
/// of any provider is gpt-4o-mini's: 2833 + 8 × 5667.
const OTHER: Family =
    Family { begins: &[""], counted: 110, most: 200, image_most: 48_169, audio_bytes: 31, ..OPENAI };

static FAMILIES: [Family; 20] = [
    Family { begins: &["gpt-4o-mini"], image_most: 48_169, ..OPENAI },
    Family { begins: &["gpt-4o", "chatgpt-4o"], ..OPENAI },
    Family { begins: &["gpt-4.1"], output: 32_768, ..OPENAI },
    Family { begins: &["gpt-4.5"], ..OPENAI },
    Family { begins: &["gpt-4", "gpt-3.5"], vocabulary: Vocabulary::Cl100k, output: 4_096, ..OPENAI },
    Family { begins: &["text-embedding-"], vocabulary: Vocabulary::Cl100k, output: 0, ..OPENAI },
    Family { begins: &["gpt-5", "codex-"], output: 128_000, ..OPENAI },
    Family { begins: &["o1", "o3", "o4"], output: 100_000, ..OPENAI },
    Family { begins: &["gpt-", "chatgpt-"], ..OPENAI },
    Family { begins: &["claude-3-opus", "claude-3-sonnet", "claude-3-haiku"], output: 4_096, ..ANTHROPIC },
    Family { begins: &["claude-3-5"], output: 8_192, ..ANTHROPIC },
    // "What's new in Claude Opus 4.7": its vocabulary needs up to 1.35 times as many tokens.
    Family {
        begins: &["claude-opus-4-7", "claude-opus-4-8"],
        counted: 155,
        most: 270,
        output: 128_000,
        ..ANTHROPIC
    },
    Family { begins: &["claude-opus-4-6", "claude-sonnet-4-6"], output: 128_000, ..ANTHROPIC },
    Family { begins: &["claude-opus-4"], output: 32_000, ..ANTHROPIC },
    Family { begins: &["claude-2", "claude-3", "claude-haiku-4", "claude-sonnet-4"], ..ANTHROPIC },
    // Newer ones, of which nothing is known here: as the newest that is.
    Family { begins: &["claude-"], counted: 155, most: 270, ..ANTHROPIC },
    Family { begins: &["gemini-1", "gemini-2.0"], output: 8_192, ..GOOGLE },
    Family { begins: &["gemini-", "gemma-", "learnlm-"], ..GOOGLE },
    Family {
        begins: &[
            "mistral-",
            "ministral-",
            "magistral-",
            "pixtral-",
            "codestral-",
            "devstral-",
            "open-m",
            "voxtral-",
        ],
        ..MISTRAL
    },
    OTHER,
];

/// The family of a model.
pub(crate) fn of(model: &str) -> &'static Family {
    let name = model.rsplit('/').next().unwrap_or(model);
    FAMILIES.iter().find(|family| family.begins.iter().any(|start| name.starts_with(start))).unwrap_or(&OTHER)
}

impl Family {
    /// Tokens of its own, from tokens of the vocabulary.
    pub(crate) const fn counted(&self, tokens: u64) -> u64 {
        tokens.saturating_mul(self.counted).div_ceil(100)
    }

    /// At most so many tokens come in with so many tokens of text, counted by the vocabulary, and these media; `None` if
    /// that can't be bounded.
    pub(crate) fn input_bound(&self, text: u64, media: &[Media]) -> Option<u64> {
        let mut bound = text.saturating_mul(self.most).div_ceil(100) + OVERHEAD;
        for one in media {
            bound += match one {
                Media::Image { .. } => self.image_most,
                Media::Audio { bytes } => bytes.div_ceil(self.audio_bytes),
                Media::File { .. } => return None,
            };
        }
        Some(bound)
    }

    /// The usual cost of a picture, a sound or a file in tokens, for answers without usage. OpenAI's pictures of low detail
    /// take 85; sound is taken to have 16 kB a second.
    pub(crate) fn media(&self, media: &Media) -> u64 {
        match media {
            Media::Image { low_detail: true, .. } => self.image.min(85),
            Media::Image { .. } => self.image,
            Media::Audio { bytes } => bytes.div_ceil(16 * self.audio_bytes),
            Media::File { bytes } => crate::count::by_length(bytes.unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_find_their_family() {
        for (model, vocabulary, counted, output) in [
            ("gpt-4o-2024-08-06", Vocabulary::O200k, 100, 16_384),
            ("gpt-4-turbo", Vocabulary::Cl100k, 100, 4_096),
            ("gpt-4.1-mini", Vocabulary::O200k, 100, 32_768),
            ("gpt-5-nano", Vocabulary::O200k, 100, 128_000),
            ("anthropic/claude-3-5-haiku-latest", Vocabulary::O200k, 115, 8_192),
            ("claude-sonnet-4-5", Vocabulary::O200k, 115, 64_000),
            ("claude-something-new", Vocabulary::O200k, 155, 64_000),
            ("gemini-2.5-flash", Vocabulary::O200k, 100, 65_536),
            ("mistral-large-latest", Vocabulary::O200k, 115, 32_768),
            ("llama3.2:3b", Vocabulary::O200k, 110, 16_384),
        ] {
            let family = of(model);
            assert_eq!(
                (family.vocabulary, family.counted(100), family.output),
                (vocabulary, counted, output),
                "{model}"
            );
        }
    }

    #[test]
    fn a_bound_is_never_below_what_is_counted() {
        for family in &FAMILIES {
            assert!(family.most >= family.counted && family.image_most >= family.image, "{family:?}");
            assert!(family.input_bound(1000, &[]) > Some(family.counted(1000)));
            assert_eq!(family.input_bound(1, &[Media::File { bytes: Some(1) }]), None);
        }
    }
}
