//! How long a sound can be that has so many bytes.
//!
//! The rule it protects: what the bytes are counts, not what the request calls them. Servers look at the bytes too.

use super::{Media, decoded_length};
use crate::conversation::from_base64;

/// Bytes of a second: the least of MP3 (ISO 11172-3 and its extension to low rates: 8 kbit/s).
const LEAST: u64 = 1_000;
/// Formats of a WAVE file whose samples have a fixed size: PCM, floats, A-law and µ-law (RFC 2361). Others are whatever a
/// codec makes of them.
const PLAIN: [u16; 4] = [1, 3, 6, 7];

/// A sound.
pub(super) fn medium(base64: &str) -> Media {
    Media::Audio { bytes: decoded_length(base64), timed: is_timed(base64) }
}

/// Whether a second of it takes at least 1000 bytes: so does every MP3, and a WAVE file by what its head says. Formats
/// that pack silence into next to nothing don't.
fn is_timed(base64: &str) -> bool {
    let Some(head) = bytes_at(base64, 0, 36) else { return false };
    match &head[..4] {
        b"RIFF" => rate(&head).is_some_and(|rate| rate >= LEAST),
        [b'I', b'D', b'3', _] => {
            // Seven bits a byte, behind which the sound begins (ID3v2, "ID3v2 header").
            let size = head[6..10].iter().fold(0, |size, byte| size << 7 | usize::from(byte & 0x7F));
            bytes_at(base64, 10 + size, 4).is_some_and(|frame| is_frame(&frame))
        }
        frame => is_frame(frame),
    }
}

/// So many bytes of what base64 text stands for, from that one on.
fn bytes_at(base64: &str, at: usize, length: usize) -> Option<Vec<u8>> {
    let first = at / 3 * 4;
    let letters = (at % 3 + length).div_ceil(3) * 4;
    let bytes = from_base64(base64.get(first..first.checked_add(letters)?)?)?;
    bytes.get(at % 3..at % 3 + length).map(<[u8]>::to_vec)
}

/// Whether a frame of MP3 begins like that: layer III, at a rate that the standard names.
fn is_frame(head: &[u8]) -> bool {
    let [0xFF, second, third, _] = head else { return false };
    let (version, layer, rate, samples) = (second >> 3 & 3, second >> 1 & 3, third >> 4, third >> 2 & 3);
    second >> 5 == 7 && version != 1 && layer == 1 && (1..15).contains(&rate) && samples != 3
}

/// The bytes of a second of a WAVE file (Microsoft, "WAVEFORMATEX"): what it says, or what its samples make, whichever is less.
fn rate(head: &[u8]) -> Option<u64> {
    if head.get(8..16) != Some(b"WAVEfmt ") {
        return None;
    }
    let number = |at: usize| {
        let bytes: [u8; 4] = head.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes))
    };
    let format = number(20)?;
    if !PLAIN.iter().any(|plain| u32::from(*plain) == format & 0xffff) {
        return None;
    }
    let (samples, bytes, block) = (number(24)?, number(28)?, number(32)? & 0xffff);
    Some(u64::from(bytes).min(u64::from(samples) * u64::from(block)))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn wave(format: u16, samples: u32, bytes: u32, block: u16) -> Vec<u8> {
        let mut file = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0".to_vec();
        file.extend(format.to_le_bytes());
        file.extend(b"\x01\0");
        file.extend(samples.to_le_bytes());
        file.extend(bytes.to_le_bytes());
        file.extend(block.to_le_bytes());
        file.extend(b"\x10\0data\0\0\0\0");
        file
    }

    fn padded(head: &[u8]) -> Vec<u8> {
        let mut file = head.to_vec();
        file.resize(head.len() + 40, 0);
        file
    }

    #[test]
    fn only_what_takes_room_for_each_second_is_timed() {
        let frame = b"\xFF\xFB\x90\x64";
        let mut tagged = b"ID3\x04\0\0\0\0\x01\x03".to_vec();
        tagged.resize(10 + 131, 7);
        let mut other = padded(&tagged);
        tagged.extend(frame);
        other.extend(b"OggS");
        for (name, file, expected) in [
            ("16 bits", wave(1, 16_000, 32_000, 2), true),
            ("8 bits", wave(1, 8_000, 8_000, 1), true),
            ("µ-law", wave(7, 8_000, 8_000, 1), true),
            // An hour of it would have 3600 bytes.
            ("slow", wave(1, 1, 1, 1), false),
            ("slow samples", wave(1, 1, 32_000, 1), false),
            ("slow bytes", wave(1, 16_000, 1, 2), false),
            ("Opus in a WAVE file", wave(0x704F, 48_000, 32_000, 2), false),
            ("extensible", wave(0xFFFE, 48_000, 32_000, 2), false),
            ("MP3", padded(frame), true),
            ("MP3 of 8 kbit/s", padded(b"\xFF\xF3\x14\xC4"), true),
            ("MP3 behind a tag", padded(&tagged), true),
            ("something else behind a tag", other, false),
            ("a free rate", padded(b"\xFF\xFB\x00\x64"), false),
            ("layer II", padded(b"\xFF\xFD\x90\x64"), false),
            ("AAC", padded(b"\xFF\xF1\x50\x80"), false),
            ("Ogg", padded(b"OggS"), false),
            ("FLAC", padded(b"fLaC"), false),
            ("MP4", padded(b"\0\0\0\x20ftypM4A "), false),
            ("nothing", vec![], false),
        ] {
            let Media::Audio { timed, .. } = medium(&STANDARD.encode(&file)) else { panic!() };
            assert_eq!(timed, expected, "{name}");
        }
        assert!(!is_timed(&"é".repeat(40)));
    }
}
