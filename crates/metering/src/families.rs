//! What is known of families of models: how their tokens are counted where a provider does not tell, and what a request to
//! them takes at most, for the policy `strict`. Data, each line with its source.
//!
//! A model's family is the first whose beginning its name has, without a vendor before it (`anthropic/claude-…`).

use providers::{Media, TextSize, ToolForm};

use crate::pictures::Pictures;

/// What our vocabularies are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vocabulary {
    /// OpenAI's `cl100k_base`.
    Cl100k,
    /// OpenAI's `o200k_base`.
    O200k,
}

/// How the tools of a request count, where its provider does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tools {
    pub form: ToolForm,
    /// So many hundredths of a token are one that is counted in that form.
    hundredths: u64,
    /// What the provider says of tools beside them, in tokens.
    preamble: u64,
    /// The same at most, whatever the request makes of them.
    preamble_most: u64,
}

/// A family of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Family {
    /// How the names of its models begin.
    begins: &'static [&'static str],
    pub vocabulary: Vocabulary,
    /// So many hundredths of a token of its own are one of the vocabulary, on average: for charges that are estimated.
    counted: u64,
    /// Whether its vendor publishes that its models have that vocabulary (OpenAI, tiktoken, `model.py`).
    pub published: bool,
    pub tools: Tools,
    /// What a picture takes by its size, where that is published.
    pictures: Option<Pictures>,
    /// Tokens of an ordinary picture.
    image: u64,
    /// Tokens of the dearest picture.
    image_most: u64,
    /// So many bytes of sound are at most one token, where a second takes at least 1000 bytes.
    audio_bytes: u64,
    /// The longest answer, in tokens, where the price table says nothing.
    pub output: u64,
}

/// Tokens that a provider adds around any request.
const OVERHEAD: u64 = 64;
/// What a template writes around each message at most, in tokens: marks, a role, a channel. ChatML has 5, Harmony 7.
const AROUND_MESSAGE: u64 = 16;
/// The same around a call of a tool, its result, and the description of a tool: words, and its name once more, which has up
/// to 64 letters.
const AROUND_CALL: u64 = 96;
/// The same between two texts.
const BETWEEN_TEXTS: u64 = 2;
/// A vocabulary that is published counts the texts. So many hundredths more are for texts that are cut, and for how tools are
/// written.
const MARGIN: u64 = 105;

/// Tools as they are sent: what nobody has published or measured otherwise.
const AS_SENT: Tools = Tools { form: ToolForm::Json, hundredths: 100, preamble: 0, preamble_most: 500 };

/// OpenAI: counted exactly but for how tools are rendered (8 % of a small request; see the test below). Pictures: guide "Images and vision" (an ordinary one of four
/// tiles 85 + 4 × 170; the dearest 1536 patches × 2.46, as the nano models count them). Sound: guide "Audio", ten tokens a
/// second. Answers: page of each model.
const OPENAI: Family = Family {
    begins: &[],
    vocabulary: Vocabulary::O200k,
    counted: 100,
    published: true,
    tools: Tools { form: ToolForm::TypeScript, preamble: 6, ..AS_SENT },
    pictures: Some(Pictures::Tiles { base: 85, tile: 170 }),
    image: 765,
    image_most: 3_800,
    audio_bytes: 100,
    output: 16_384,
};

/// Anthropic publishes no vocabulary. Its glossary: a token is about 3.5 English characters; OpenAI's: about 4. Pictures: guide
/// "Vision", width × height / 750 with at most 1.15 megapixels, and up to 4,784 tokens for the newest. Tools: "Tool use",
/// pricing: 346 tokens of instructions for most models, where the model chooses; recordings with a tool that must be called have
/// up to 600. Answers: "Models overview", and the page of each model.
const ANTHROPIC: Family = Family {
    counted: 115,
    published: false,
    tools: Tools { preamble: 346, preamble_most: 1_000, ..AS_SENT },
    pictures: Some(Pictures::Area { edge: 1_568, most: 1_600 }),
    image: 1_600,
    image_most: 5_000,
    output: 64_000,
    ..OPENAI
};

/// "What's new in Claude Opus 4.7": the vocabulary since then needs up to 1.35 times as many tokens.
const ANTHROPIC_NEW: Family =
    Family { counted: 155, pictures: Some(Pictures::Area { edge: 2_576, most: 4_784 }), ..ANTHROPIC };

/// Google: guide "Understand and count tokens": about 4 characters a token, 258 tokens a tile of 768 pixels (at most 16 tiles),
/// 32 tokens a second of sound. Tools: nothing is published; recordings have three quarters of their JSON. Answers: "Gemini
/// models", the page of each model.
const GOOGLE: Family = Family {
    counted: 100,
    published: false,
    tools: Tools { hundredths: 78, ..AS_SENT },
    pictures: Some(Pictures::Crops),
    image: 258,
    image_most: 4_200,
    audio_bytes: 31,
    output: 65_536,
    ..OPENAI
};

/// Mistral publishes its vocabulary, but no ratio to others. Pictures: guide "Vision" (patches of 16 pixels, at most
/// 1024 × 1024, a mark for each row). Sound: guide "Audio", 12.5 tokens a second. Tools: as JSON (mistral-common). Answers have
/// no limit of their own.
const MISTRAL: Family = Family {
    counted: 115,
    published: false,
    tools: AS_SENT,
    pictures: Some(Pictures::Rows),
    image: 1_300,
    image_most: 4_200,
    audio_bytes: 31,
    output: 32_768,
    ..OPENAI
};

/// All others. Measured ratios of other vocabularies to OpenAI's stay below 1.6 on text in any script; the dearest picture
/// of any provider is gpt-4o-mini's: 2833 + 8 × 5667. Tools: not checked.
const OTHER: Family = Family {
    begins: &[""],
    counted: 110,
    published: false,
    tools: AS_SENT,
    pictures: None,
    image_most: 48_169,
    audio_bytes: 31,
    ..OPENAI
};

/// More special ones before those that they would be among. Each line: the page "Max output tokens" comes from.
static FAMILIES: [Family; 37] = [
    // OpenAI, "GPT-4o mini"; guide "Images and vision": 2833 + 8 tiles × 5667.
    Family {
        begins: &["gpt-4o-mini"],
        pictures: Some(Pictures::Tiles { base: 2_833, tile: 5_667 }),
        image_most: 48_169,
        ..OPENAI
    },
    // OpenAI, "GPT-4o", snapshot of May 2024, and "GPT-4o Realtime".
    Family { begins: &["gpt-4o-2024-05-13", "gpt-4o-realtime"], output: 4_096, ..OPENAI },
    // OpenAI, "GPT-4o", "ChatGPT-4o".
    Family { begins: &["gpt-4o", "chatgpt-4o"], ..OPENAI },
    // OpenAI, guide "Images and vision": 1.62 tokens a patch, for its nano 2.46.
    Family {
        begins: &["gpt-4.1-mini"],
        output: 32_768,
        pictures: Some(Pictures::Patches { hundredths: 162 }),
        ..OPENAI
    },
    Family {
        begins: &["gpt-4.1-nano"],
        output: 32_768,
        pictures: Some(Pictures::Patches { hundredths: 246 }),
        ..OPENAI
    },
    // OpenAI, "GPT-4.1".
    Family { begins: &["gpt-4.1"], output: 32_768, ..OPENAI },
    // OpenAI, "GPT-4.5 Preview".
    Family { begins: &["gpt-4.5"], ..OPENAI },
    // OpenAI, "GPT-4 Turbo", "GPT-3.5 Turbo"; GPT-4 itself has 8,192 tokens for input and answer together.
    Family {
        begins: &["gpt-4", "gpt-3.5", "gpt-35"],
        vocabulary: Vocabulary::Cl100k,
        output: 4_096,
        ..OPENAI
    },
    // OpenAI, "Vector embeddings".
    Family { begins: &["text-embedding-"], vocabulary: Vocabulary::Cl100k, output: 0, ..OPENAI },
    // OpenAI, "GPT-5 Chat" and its successors.
    Family {
        begins: &["gpt-5-chat", "gpt-5.1-chat", "gpt-5.2-chat", "gpt-5.3-chat"],
        published: false,
        pictures: None,
        image_most: 24_600,
        ..OPENAI
    },
    // OpenAI, "GPT-5.1" and later; guide "Images and vision": at most 10,000 patches, × 2.46 where a model is a nano.
    Family {
        begins: &["gpt-5."],
        published: false,
        output: 128_000,
        pictures: None,
        image_most: 24_600,
        ..OPENAI
    },
    // OpenAI, guide "Images and vision", as those of GPT-4.1.
    Family {
        begins: &["gpt-5-mini"],
        output: 128_000,
        pictures: Some(Pictures::Patches { hundredths: 162 }),
        ..OPENAI
    },
    Family {
        begins: &["gpt-5-nano"],
        output: 128_000,
        pictures: Some(Pictures::Patches { hundredths: 246 }),
        ..OPENAI
    },
    // OpenAI, "GPT-5".
    Family {
        begins: &["gpt-5"],
        output: 128_000,
        pictures: Some(Pictures::Tiles { base: 70, tile: 140 }),
        ..OPENAI
    },
    // OpenAI, "codex-mini-latest".
    Family { begins: &["codex-"], published: false, output: 100_000, ..OPENAI },
    // OpenAI, "o1-mini".
    Family { begins: &["o1-mini"], output: 65_536, ..OPENAI },
    // OpenAI, "o1 Preview".
    Family { begins: &["o1-preview"], output: 32_768, ..OPENAI },
    // OpenAI, "o4-mini"; guide "Images and vision": 1.72 tokens a patch.
    Family {
        begins: &["o4-mini"],
        output: 100_000,
        pictures: Some(Pictures::Patches { hundredths: 172 }),
        ..OPENAI
    },
    // OpenAI, "o1", "o3".
    Family {
        begins: &["o1", "o3", "o4"],
        output: 100_000,
        pictures: Some(Pictures::Tiles { base: 75, tile: 150 }),
        ..OPENAI
    },
    // Newer ones of OpenAI's, of which nothing is known here: as the dearest that is.
    Family { begins: &["gpt-", "chatgpt-"], published: false, pictures: None, image_most: 24_600, ..OPENAI },
    // Anthropic, "Models overview" of the time, now "Model deprecations".
    Family {
        begins: &["claude-instant", "claude-2", "claude-3-opus", "claude-3-sonnet", "claude-3-haiku"],
        output: 4_096,
        ..ANTHROPIC
    },
    // Anthropic, "Claude Sonnet 3.5", "Claude Haiku 3.5".
    Family { begins: &["claude-3-5"], output: 8_192, ..ANTHROPIC },
    // Anthropic, "Claude Sonnet 3.7".
    Family { begins: &["claude-3"], ..ANTHROPIC },
    // Anthropic, "Claude Opus 4.7", "Claude Opus 4.8".
    Family { begins: &["claude-opus-4-7", "claude-opus-4-8"], output: 128_000, ..ANTHROPIC_NEW },
    // Anthropic, "Claude Opus 4.6", "Claude Sonnet 4.6".
    Family { begins: &["claude-opus-4-6", "claude-sonnet-4-6"], output: 128_000, ..ANTHROPIC },
    // Anthropic, "Claude Opus 4.5".
    Family { begins: &["claude-opus-4-5"], ..ANTHROPIC },
    // Anthropic, "Claude Opus 4", "Claude Opus 4.1".
    Family { begins: &["claude-opus-4"], output: 32_000, ..ANTHROPIC },
    // Anthropic, "Claude Haiku 4.5", "Claude Sonnet 4", "Claude Sonnet 4.5".
    Family { begins: &["claude-haiku-4", "claude-sonnet-4"], ..ANTHROPIC },
    // Anthropic, "Models overview": the fifth generation.
    Family {
        begins: &["claude-opus-5", "claude-sonnet-5", "claude-haiku-5", "claude-fable-5", "claude-mythos-"],
        output: 128_000,
        ..ANTHROPIC_NEW
    },
    // Newer ones, of which nothing is known here: as the newest that is, with an answer that all of them give.
    Family { begins: &["claude-"], ..ANTHROPIC_NEW },
    // Google, "Gemini 2.0 Flash", and the retired ones before it.
    Family { begins: &["gemini-1", "gemini-2.0"], output: 8_192, ..GOOGLE },
    // Google, "Gemini 2.5 Flash Image".
    Family { begins: &["gemini-2.5-flash-image"], output: 32_768, ..GOOGLE },
    // Google, "Gemini 2.5 Pro", "Gemini 2.5 Flash", "Gemini 3".
    Family { begins: &["gemini-"], ..GOOGLE },
    // Google, "Gemma models overview", on its Gemini API.
    Family { begins: &["gemma-", "learnlm-"], output: 8_192, ..GOOGLE },
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
    // DeepSeek, "Models & Pricing": the least of its models' answers.
    Family { begins: &["deepseek-"], output: 8_192, ..OTHER },
    OTHER,
];

/// The family of a model.
pub(crate) fn of(model: &str) -> &'static Family {
    let name = name(model);
    FAMILIES.iter().find(|family| family.begins.iter().any(|start| name.starts_with(start))).unwrap_or(&OTHER)
}

/// The name of a model as its vendor writes it: without the vendor before a slash (OpenRouter, LiteLLM) or a dot (Amazon
/// Bedrock), in lower case, and with hyphens in the versions of Claude (OpenRouter writes dots).
fn name(model: &str) -> String {
    let name = model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase();
    let vendors = ["anthropic.", "mistral.", "google.", "openai.", "deepseek."];
    let name = vendors.iter().find_map(|vendor| name.split_once(vendor)).map_or(&*name, |(_, name)| name);
    if name.starts_with("claude") { name.replace('.', "-") } else { name.to_owned() }
}

impl Family {
    /// Tokens of its own, from tokens of the vocabulary.
    pub(crate) const fn counted(&self, tokens: u64) -> u64 {
        tokens.saturating_mul(self.counted).div_ceil(100)
    }

    /// Tokens of its own of all tools, from their tokens of the vocabulary in the family's form.
    pub(crate) const fn counted_tools(&self, tokens: u64) -> u64 {
        match tokens {
            0 => 0,
            tokens => {
                self.counted(tokens.saturating_mul(self.tools.hundredths).div_ceil(100)) + self.tools.preamble
            }
        }
    }

    /// At most so many tokens come in with texts of that size and these media; `None` if that can't be bounded. `counted`: the
    /// tokens of the texts, where the vocabulary is known; else each byte may be one.
    pub(crate) fn input_bound(&self, size: &TextSize, counted: Option<u64>, media: &[Media]) -> Option<u64> {
        let text = counted.map_or(size.bytes, |tokens| tokens.saturating_mul(MARGIN).div_ceil(100));
        let preamble = if size.calls > 0 { self.tools.preamble_most } else { 0 };
        let around = size.messages * AROUND_MESSAGE + size.calls * AROUND_CALL + size.texts * BETWEEN_TEXTS;
        let mut bound = text + around + OVERHEAD + preamble;
        for one in media {
            bound += match one {
                Media::Image { .. } => self.image_most,
                Media::Audio { bytes, timed: true } => bytes.div_ceil(self.audio_bytes),
                // A token has at least one byte.
                Media::Hidden { all, .. } => *all,
                Media::Audio { timed: false, .. } | Media::File { .. } => return None,
            };
        }
        Some(bound)
    }

    /// The usual cost of a picture, a sound or a file in tokens, for answers without usage. OpenAI's pictures of low detail
    /// take 85; sound is taken to have 16 kB a second.
    pub(crate) fn media(&self, media: &Media) -> u64 {
        match media {
            Media::Image { low_detail: true, .. } => self.image.min(85),
            Media::Image { size, .. } => {
                let published = self.pictures.zip(*size).map(|(pictures, size)| pictures.tokens(size));
                published.unwrap_or(self.image)
            }
            Media::Audio { bytes, .. } => bytes.div_ceil(16 * self.audio_bytes),
            Media::Hidden { bytes, .. } => crate::count::by_length(*bytes),
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
            // As Azure calls it.
            ("gpt-35-turbo", Vocabulary::Cl100k, 100, 4_096),
            ("gpt-4.1-mini", Vocabulary::O200k, 100, 32_768),
            ("gpt-5-nano", Vocabulary::O200k, 100, 128_000),
            ("anthropic/claude-3-5-haiku-latest", Vocabulary::O200k, 115, 8_192),
            ("claude-sonnet-4-5", Vocabulary::O200k, 115, 64_000),
            // As OpenRouter, Bedrock and Vertex write it.
            ("claude-3.5-sonnet", Vocabulary::O200k, 115, 8_192),
            ("anthropic/claude-3.7-sonnet:thinking", Vocabulary::O200k, 115, 64_000),
            ("anthropic/claude-sonnet-4.5", Vocabulary::O200k, 115, 64_000),
            ("openrouter/anthropic/claude-opus-4.1", Vocabulary::O200k, 115, 32_000),
            ("anthropic/claude-opus-4.5", Vocabulary::O200k, 115, 64_000),
            ("anthropic/claude-opus-4.6", Vocabulary::O200k, 115, 128_000),
            ("anthropic/claude-opus-4.7", Vocabulary::O200k, 155, 128_000),
            ("us.anthropic.claude-3-5-haiku-20241022-v1:0", Vocabulary::O200k, 115, 8_192),
            ("claude-sonnet-4-5@20250929", Vocabulary::O200k, 115, 64_000),
            ("claude-2.1", Vocabulary::O200k, 115, 4_096),
            ("claude-haiku-5-5", Vocabulary::O200k, 155, 128_000),
            ("gpt-4o-2024-05-13", Vocabulary::O200k, 100, 4_096),
            ("openai/gpt-5.1-chat-latest", Vocabulary::O200k, 100, 16_384),
            ("OpenAI/GPT-5.2", Vocabulary::O200k, 100, 128_000),
            ("codex-mini-latest", Vocabulary::O200k, 100, 100_000),
            ("o1-mini", Vocabulary::O200k, 100, 65_536),
            ("gemma-3-27b-it", Vocabulary::O200k, 100, 8_192),
            ("deepseek/deepseek-chat", Vocabulary::O200k, 110, 8_192),
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
        let text = |bytes| TextSize { bytes, texts: 1, messages: 1, calls: 0 };
        for family in &FAMILIES {
            assert!(family.image_most >= family.image, "{family:?}");
            // A token has at least one byte.
            assert!(family.input_bound(&text(2000), None, &[]) > Some(family.counted(1000)), "{family:?}");
            let tools = TextSize { calls: 1, ..text(160) };
            assert!(family.input_bound(&tools, None, &[]) > Some(family.counted_tools(40)));
            for unbounded in [Media::File { bytes: Some(1) }, Media::Audio { bytes: 9, timed: false }] {
                assert_eq!(family.input_bound(&text(1), None, &[unbounded]), None);
            }
            let seen = [
                Media::Image { low_detail: false, size: Some((4096, 4096)) },
                Media::Audio { bytes: 32_000, timed: true },
                Media::Hidden { bytes: 100, all: 100 },
            ];
            let usual: u64 = seen.iter().map(|media| family.media(media)).sum();
            assert!(family.input_bound(&text(0), None, &seen) > Some(usual), "{family:?}");
        }
    }

    #[test]
    fn only_published_vocabularies_count_for_a_bound() {
        for (model, published) in [
            ("gpt-4o", true),
            ("gpt-4.1-mini", true),
            ("gpt-5", true),
            ("o3", true),
            ("gpt-5.2", false),
            ("gpt-6", false),
            ("codex-mini-latest", false),
            ("claude-sonnet-4-5", false),
            ("gemini-2.5-pro", false),
            ("mistral-large-latest", false),
            ("llama3.2:3b", false),
        ] {
            assert_eq!(of(model).published, published, "{model}");
        }
    }
}
