//! What a picture takes, in tokens, from its size: by the rules that vendors publish.

/// A vendor's rule. Each with its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pictures {
    /// OpenAI, "Images and vision": fitted into a square of 2048 pixels, the shorter side to 768, then tiles of 512.
    Tiles { base: u64, tile: u64 },
    /// OpenAI, "Images and vision", for its smaller models: patches of 32 pixels, at most 1536, each so many hundredths of a
    /// token.
    Patches { hundredths: u64 },
    /// Anthropic, "Vision": width × height / 750, fitted into a square of so many pixels and so many tokens.
    Area { edge: u64, most: u64 },
    /// Google, "Understand and count tokens": 258 up to 384 pixels, else 258 for each tile of 768.
    Crops,
    /// Mistral, "Vision": patches of 16 pixels, fitted into a square of 1024, and a mark for each row.
    Rows,
}

impl Pictures {
    /// The tokens of a picture of that size, in pixels.
    pub(crate) fn tokens(self, (width, height): (u32, u32)) -> u64 {
        let (width, height) = (u64::from(width).max(1), u64::from(height).max(1));
        match self {
            Self::Tiles { base, tile } => {
                let (width, height) = fit((width, height), 2048);
                let (width, height) = scale((width, height), width.min(height).max(768), 768);
                base + tile * width.div_ceil(512) * height.div_ceil(512)
            }
            Self::Patches { hundredths } => {
                let patches = width.div_ceil(32) * height.div_ceil(32);
                (patches.min(1536) * hundredths).div_ceil(100)
            }
            Self::Area { edge, most } => {
                let (width, height) = fit((width, height), edge);
                (width * height).div_ceil(750).min(most)
            }
            Self::Crops if width.max(height) <= 384 => 258,
            Self::Crops => 258 * (width.div_ceil(768) * height.div_ceil(768)).min(16),
            Self::Rows => {
                let (width, height) = fit((width, height), 1024);
                (width.div_ceil(16) + 1) * height.div_ceil(16)
            }
        }
    }
}

/// A size whose longer side is at most `edge`.
fn fit(size: (u64, u64), edge: u64) -> (u64, u64) {
    scale(size, size.0.max(size.1).max(edge), edge)
}

/// A size of which `from` becomes `to`.
fn scale((width, height): (u64, u64), from: u64, to: u64) -> (u64, u64) {
    let scaled = |side: u64| (side * to).div_ceil(from);
    (scaled(width), scaled(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_take_what_their_vendors_say() {
        let gpt_4o = Pictures::Tiles { base: 85, tile: 170 };
        let claude = Pictures::Area { edge: 1568, most: 1_600 };
        for (pictures, size, tokens) in [
            // The examples of OpenAI's guide.
            (gpt_4o, (1024, 1024), 765),
            (gpt_4o, (2048, 4096), 1105),
            (gpt_4o, (512, 512), 255),
            (Pictures::Patches { hundredths: 100 }, (1024, 1024), 1024),
            (Pictures::Patches { hundredths: 162 }, (1800, 2400), 2489),
            // Anthropic's table.
            (claude, (200, 200), 54),
            (claude, (1000, 1000), 1334),
            (claude, (1092, 1092), 1590),
            (claude, (8000, 8000), 1600),
            (Pictures::Crops, (384, 384), 258),
            (Pictures::Crops, (960, 540), 516),
            (Pictures::Rows, (1024, 1024), 4160),
            (Pictures::Rows, (4096, 16), 65),
            (gpt_4o, (0, u32::MAX), 765),
        ] {
            assert_eq!(pictures.tokens(size), tokens, "{pictures:?} {size:?}");
        }
    }
}
