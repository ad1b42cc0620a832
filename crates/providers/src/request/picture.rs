//! How large a picture is, in pixels: what it says at its head. It is never decoded.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// So many letters of base64 have the head of almost every picture: a JPEG may have other things in front of its size.
const HEAD: usize = 64 * 1024;

/// Width and height of a picture in a data URL, if it is of a known format.
pub(super) fn size_of_url(url: &str) -> Option<(u32, u32)> {
    let (_, base64) = url.strip_prefix("data:")?.split_once(";base64,")?;
    size(base64)
}

/// The same of a picture in base64.
pub(super) fn size(base64: &str) -> Option<(u32, u32)> {
    let letters = base64.as_bytes();
    // Whole groups of four: what is cut off is not the end.
    let head = match letters.len() {
        0..HEAD => letters,
        _ => &letters[..HEAD],
    };
    let size = imagesize::blob_size(&STANDARD.decode(head).ok()?).ok()?;
    Some((u32::try_from(size.width).ok()?, u32::try_from(size.height).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_pictures() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x04\0\0\0\x03\0\x08\x06\0\0\0";
        let gif = b"GIF89a\x20\x03\x58\x02\0\0\0";
        let jpeg = b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0\xff\xc0\0\x11\x08\x02\x58\x03\x20\x03\x01\x22\0";
        let mut long = jpeg.to_vec();
        long.resize(3 * HEAD, 7);
        for (file, size) in [
            (&png[..], Some((1024, 768))),
            (gif, Some((800, 600))),
            (jpeg, Some((800, 600))),
            (&long, Some((800, 600))),
            (b"%PDF-1.7", None),
            (&png[..12], None),
            (b"", None),
        ] {
            let url = format!("data:image/any;base64,{}", STANDARD.encode(file));
            assert_eq!(size_of_url(&url), size, "{file:?}");
        }
        for odd in ["https://example.org/a.png", "data:image/png;base64,é", "data:x", ""] {
            assert_eq!(size_of_url(odd), None, "{odd}");
        }
    }
}
