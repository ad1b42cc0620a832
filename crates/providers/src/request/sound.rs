//! How long a sound can be that has so many bytes.

use super::{Media, decoded_length};
use crate::conversation::from_base64;

/// The head of a WAVE file with its format, in base64 (Microsoft, "WAVEFORMATEX"): 36 bytes.
const HEAD: usize = 48;
/// Bytes of a second: the least of MP3 (ISO 11172-3 and its extension to low rates: 8 kbit/s).
const LEAST: u64 = 1_000;

/// A sound of that format.
pub(super) fn medium(base64: &str, format: &str) -> Media {
    Media::Audio { bytes: decoded_length(base64), timed: timed(base64, format) }
}

/// Whether a second of it takes at least 1000 bytes: so does every MP3, and a WAVE file by what its head says. Formats
/// that pack silence into next to nothing don't.
fn timed(base64: &str, format: &str) -> bool {
    match format.to_ascii_lowercase().as_str() {
        "mp3" | "mpeg" => true,
        "wav" => rate(base64).is_some_and(|rate| rate >= LEAST),
        _ => false,
    }
}

/// The bytes of a second of a WAVE file: what it says, or what its samples make, whichever is less.
fn rate(base64: &str) -> Option<u64> {
    let head = from_base64(base64.get(..HEAD)?)?;
    let is = |at: usize, mark: &[u8]| head.get(at..at + mark.len()) == Some(mark);
    if !is(0, b"RIFF") || !is(8, b"WAVEfmt ") {
        return None;
    }
    let number = |at: usize| {
        let bytes: [u8; 4] = head.get(at..at + 4)?.try_into().ok()?;
        Some(u64::from(u32::from_le_bytes(bytes)))
    };
    let (samples, bytes) = (number(24)?, number(28)?);
    let block = number(32)? & 0xffff;
    Some(bytes.min(samples.checked_mul(block)?))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn wave(samples: u32, bytes: u32, block: u16) -> String {
        let mut file = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
        file.extend(samples.to_le_bytes());
        file.extend(bytes.to_le_bytes());
        file.extend(block.to_le_bytes());
        file.extend(b"\x10\0data\0\0\0\0");
        STANDARD.encode(file)
    }

    #[test]
    fn only_what_takes_room_for_each_second_is_timed() {
        for (base64, format, expected) in [
            (wave(16_000, 32_000, 2), "wav", true),
            (wave(8_000, 8_000, 1), "WAV", true),
            // An hour of it would have 3600 bytes.
            (wave(1, 1, 1), "wav", false),
            (wave(1, 32_000, 1), "wav", false),
            (wave(16_000, 1, 2), "wav", false),
            ("AAAAAAAA".into(), "wav", false),
            ("é".repeat(40), "wav", false),
            ("AAAAAAAA".into(), "mp3", true),
            ("AAAAAAAA".into(), "ogg", false),
            ("AAAAAAAA".into(), "flac", false),
        ] {
            let Media::Audio { timed, .. } = medium(&base64, format) else { panic!() };
            assert_eq!(timed, expected, "{format} {base64}");
        }
    }
}
