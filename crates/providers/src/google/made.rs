//! Pictures and sounds that a model made, as a chat can show them: data URLs in the text, each in one piece, because readers
//! (Open WebUI among them) look for the whole of one.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::conversation::from_base64;

/// The rate of samples where the type names none ("Speech generation").
const USUAL_RATE: u32 = 24_000;

/// What a picture begins with.
pub(super) const PICTURE: &str = "![image](data:";

/// What a chat shows of it: a picture in Markdown, a sound as a player. `None` if it is neither, or no base64.
pub(super) fn shown(media_type: &str, base64: &str) -> Option<String> {
    let base64 = standard(base64)?;
    let kind = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if !kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/.+-".contains(&byte)) {
        return None;
    }
    match kind.split_once('/')? {
        ("image", _) => Some(format!("{PICTURE}{kind};base64,{base64})")),
        ("audio", "l16" | "pcm") => {
            let wave = STANDARD.encode(wave(rate(media_type), &from_base64(&base64)?)?);
            Some(player("audio/wav", &wave))
        }
        ("audio", _) => Some(player(&kind, &base64)),
        _ => None,
    }
}

/// As Open WebUI 0.12 has it: the address is what stands between the tags, and they stand on lines of their own.
fn player(kind: &str, base64: &str) -> String {
    format!("<audio>\ndata:{kind};base64,{base64}\n</audio>")
}

/// Base64 in the alphabet of data URLs; `None` if it is none.
fn standard(base64: &str) -> Option<Cow<'_, str>> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
    match base64 {
        "" => None,
        _ if base64.bytes().all(plain) => Some(Cow::Borrowed(base64)),
        _ if base64.bytes().all(|byte| plain(byte) || b"-_".contains(&byte)) => {
            Some(Cow::Owned(base64.replace('-', "+").replace('_', "/")))
        }
        _ => None,
    }
}

fn rate(media_type: &str) -> u32 {
    let named = media_type.split(';').find_map(|part| part.trim().strip_prefix("rate=")?.parse().ok());
    named.unwrap_or(USUAL_RATE)
}

/// Bare samples of 16 bits, one channel, as a WAVE file, which browsers can play.
fn wave(rate: u32, samples: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(samples.len()).ok()?;
    let mut file = Vec::with_capacity(44 + samples.len());
    file.extend(b"RIFF");
    file.extend(length.checked_add(36)?.to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16_u32.to_le_bytes());
    // PCM, one channel.
    file.extend([1, 0, 1, 0]);
    file.extend(rate.to_le_bytes());
    file.extend(rate.checked_mul(2)?.to_le_bytes());
    // Bytes of a sample, and its bits.
    file.extend([2, 0, 16, 0]);
    file.extend(b"data");
    file.extend(length.to_le_bytes());
    file.extend(samples);
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_and_sounds() {
        for (kind, base64, expected) in [
            ("image/png", "iVBO+/==", Some("![image](data:image/png;base64,iVBO+/==)")),
            ("image/JPEG; q=1", "_-8=", Some("![image](data:image/jpeg;base64,/+8=)")),
            ("audio/mpeg", "AAAA", Some("<audio>\ndata:audio/mpeg;base64,AAAA\n</audio>")),
            ("image/png", "AA)<script>", None),
            ("image/png)", "AAAA", None),
            ("image/png", "", None),
            ("video/mp4", "AAAA", None),
            ("text", "AAAA", None),
        ] {
            assert_eq!(shown(kind, base64).as_deref(), expected, "{kind} {base64}");
        }
    }

    #[test]
    fn bare_samples_become_a_file() {
        let shown = shown("audio/L16;codec=pcm;rate=16000", "AAECAw==").unwrap();
        let base64 = shown.strip_prefix("<audio>\ndata:audio/wav;base64,").unwrap();
        let file = from_base64(base64.strip_suffix("\n</audio>").unwrap()).unwrap();
        assert_eq!((&file[..4], &file[8..16], file.len()), (&b"RIFF"[..], &b"WAVEfmt "[..], 48));
        assert_eq!(file[24..32], [0x80, 0x3e, 0, 0, 0, 0x7d, 0, 0]);
        assert_eq!(file[40..], [4, 0, 0, 0, 0, 1, 2, 3]);
    }
}
