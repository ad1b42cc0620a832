//! Pictures, sounds and files as parts of Google's ("Image understanding", "Audio understanding", "Document understanding",
//! "File input methods"): which kinds it takes, and how large they may be.

use std::borrow::Cow;

use super::made;
use super::wire::{Blob, Data};
use crate::BadRequest;
use crate::conversation::{Content, Source, bad};

/// A request with all that lies in it ends here, in bytes.
pub(super) const LARGEST_REQUEST: usize = 100_000_000;
/// A PDF ends here, in bytes.
const LARGEST_PDF: usize = 50_000_000;
/// One request takes no more pictures.
pub(super) const MOST_IMAGES: usize = 3_600;

const IMAGES: [&str; 5] = ["image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"];
const VIDEOS: [&str; 9] = [
    "video/mp4",
    "video/mpeg",
    "video/mov",
    "video/avi",
    "video/x-flv",
    "video/mpg",
    "video/webm",
    "video/wmv",
    "video/3gpp",
];
/// OpenAI's names of the formats of sounds, and Google's types.
const AUDIO: [(&str, &str); 8] = [
    ("wav", "audio/wav"),
    ("mp3", "audio/mp3"),
    ("mpeg", "audio/mp3"),
    ("aiff", "audio/aiff"),
    ("aac", "audio/aac"),
    ("ogg", "audio/ogg"),
    ("opus", "audio/ogg"),
    ("flac", "audio/flac"),
];
/// Text that does not say so in its type.
const TEXTS: [&str; 7] = [
    "application/json",
    "application/xml",
    "application/javascript",
    "application/x-javascript",
    "application/x-python",
    "application/yaml",
    "application/x-yaml",
];

/// One part that is not text.
///
/// # Errors
/// Says what Google can't take.
pub(super) fn part<'a>(content: &Content<'a>, at: &str) -> Result<Data<'a>, BadRequest> {
    match content {
        Content::Text(text) => Ok(Data::Text(text)),
        Content::Image { source, .. } => match source {
            Source::Data { media_type, base64 } => match image(media_type) {
                Some(known) => Ok(inline(Cow::Borrowed(known), base64)),
                None => Err(bad(
                    at,
                    format!(
                        "Google takes no pictures of the type {media_type}; send PNG, JPEG, WEBP, HEIC or HEIF"
                    ),
                )),
            },
            Source::Url(_) | Source::Id(_) => Err(bad(
                at,
                "a picture for one of Google's models must be in the request itself, as a data URL",
            )),
        },
        Content::Audio { base64, format } => {
            let format = format.to_ascii_lowercase();
            let known = AUDIO.iter().find(|(name, _)| *name == format);
            let (_, media_type) =
                known.ok_or_else(|| bad(at, format!("Google takes no sounds of the format {format}")))?;
            Ok(inline(Cow::Borrowed(*media_type), &Cow::Borrowed(base64)))
        }
        Content::File { source, .. } | Content::Document { source, .. } => match source {
            Source::Data { media_type, base64 } => file(media_type, base64, at),
            // Google would fetch an address, and keeps all files under one key: neither what is there nor whose it is can be
            // known here.
            Source::Url(_) | Source::Id(_) => {
                Err(bad(at, "a file for one of Google's models must be in the request itself, as a data URL"))
            }
        },
    }
}

/// What the model said before: pictures that were handed out in its text (see [`super::made`]) become pictures again, which
/// cost a thousandth of their base64.
pub(super) fn said(mut text: &str) -> Vec<Data<'_>> {
    let mut parts = Vec::new();
    let mut from = 0;
    while let Some(start) = text[from..].find(made::PICTURE).map(|at| from + at) {
        from = start + made::PICTURE.len();
        let Some((url, rest)) = text[from..].split_once(')') else { break };
        let Some((kind, base64)) = url.split_once(";base64,") else { continue };
        let Some(known) = image(kind) else { continue };
        let before = text[..start].trim_end();
        if !before.is_empty() {
            parts.push(Data::Text(before));
        }
        parts.push(inline(Cow::Borrowed(known), &Cow::Borrowed(base64)));
        (text, from) = (rest.trim_start(), 0);
    }
    if !text.is_empty() {
        parts.push(Data::Text(text));
    }
    parts
}

fn inline<'a>(mime_type: Cow<'a, str>, data: &Cow<'a, str>) -> Data<'a> {
    Data::Inline(Blob { mime_type, data: data.clone() })
}

fn image(media_type: &str) -> Option<&'static str> {
    let media_type = media_type.to_ascii_lowercase();
    // The name that it never had, and that many write.
    let media_type = if media_type == "image/jpg" { "image/jpeg" } else { &media_type };
    IMAGES.into_iter().find(|known| *known == media_type)
}

fn file<'a>(media_type: &'a str, base64: &Cow<'a, str>, at: &str) -> Result<Data<'a>, BadRequest> {
    let lower = media_type.to_ascii_lowercase();
    if lower == "application/pdf" {
        if base64::decoded_len_estimate(base64.len()) > LARGEST_PDF {
            return Err(bad(at, format!("Google takes PDFs of at most {} MB", LARGEST_PDF / 1_000_000)));
        }
        return Ok(inline(Cow::Borrowed("application/pdf"), base64));
    }
    if TEXTS.contains(&lower.as_str()) {
        return Ok(inline(Cow::Borrowed("text/plain"), base64));
    }
    if lower.starts_with("text/") || VIDEOS.contains(&lower.as_str()) {
        return Ok(inline(Cow::Owned(lower), base64));
    }
    if let Some(known) = image(&lower) {
        return Ok(inline(Cow::Borrowed(known), base64));
    }
    let sound = lower.strip_prefix("audio/").map(|format| format.strip_prefix("x-").unwrap_or(format));
    if let Some((_, known)) = AUDIO.iter().find(|(name, _)| Some(*name) == sound) {
        return Ok(inline(Cow::Borrowed(*known), base64));
    }
    Err(bad(at, format!("Google takes no files of the type {media_type}; send a PDF or text")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn converted(content: &Content<'_>) -> Option<Value> {
        part(content, "here").ok().map(|data| serde_json::to_value(data).unwrap())
    }

    fn data<'a>(media_type: &'a str) -> Source<'a> {
        Source::Data { media_type, base64: Cow::Borrowed("AAAA") }
    }

    #[test]
    fn kinds_that_google_takes() {
        let blob = |mime: &str| Some(json!({"inlineData": {"mimeType": mime, "data": "AAAA"}}));
        let image = |media_type| converted(&Content::Image { source: data(media_type), detail: None });
        assert_eq!(image("image/JPG"), blob("image/jpeg"));
        assert_eq!(image("image/webp"), blob("image/webp"));
        assert_eq!(image("image/gif"), None);
        let audio = |format| converted(&Content::Audio { base64: "AAAA", format });
        assert_eq!(audio("mp3"), blob("audio/mp3"));
        assert_eq!(audio("pcm16"), None);
        let file = |media_type| converted(&Content::File { source: data(media_type), name: None });
        for (given, sent) in [
            ("application/pdf", "application/pdf"),
            ("text/csv", "text/csv"),
            ("application/json", "text/plain"),
            ("image/png", "image/png"),
            ("audio/x-wav", "audio/wav"),
            ("audio/mpeg", "audio/mp3"),
            ("video/mp4", "video/mp4"),
        ] {
            assert_eq!(file(given), blob(sent), "{given}");
        }
        assert_eq!(file("application/zip"), None);
    }

    #[test]
    fn addresses_are_refused_and_so_are_stored_files() {
        let file = |reference| converted(&Content::File { source: Source::Url(reference), name: None });
        let uri = "https://generativelanguage.googleapis.com/v1beta/files/abc-1";
        assert_eq!(file(uri), None);
        assert_eq!(converted(&Content::File { source: Source::Id("files/abc-1"), name: None }), None);
        for other in [
            "https://example.org/a.pdf",
            "gs://bucket/a.pdf",
            "https://www.youtube.com/watch?v=x",
            "files/../models",
            "https://generativelanguage.googleapis.com/v1beta/files/a/b",
            "file-1",
        ] {
            assert_eq!(file(other), None, "{other}");
        }
        for url in ["https://example.org/a.png", uri] {
            assert_eq!(converted(&Content::Image { source: Source::Url(url), detail: None }), None);
        }
    }

    #[test]
    fn pictures_that_were_handed_out_come_back_as_pictures() {
        let json = |text: &str| serde_json::to_value(said(text)).unwrap();
        let picture = made::shown("image/png", "AAAA").unwrap();
        let blob = json!({"inlineData": {"mimeType": "image/png", "data": "AAAA"}});
        let text = |text: &str| json!({"text": text});
        assert_eq!(json("Hello"), json!([text("Hello")]));
        assert_eq!(json(&picture), json!([blob]));
        assert_eq!(
            json(&format!("Here:\n\n{picture}\n\n{picture}\n\nmore")),
            json!([text("Here:"), blob, blob, text("more")])
        );
        for other in
            ["![image](data:image/png;base64,AAAA", "![image](data:x)", "![image](data:a/b;base64,AA)"]
        {
            assert_eq!(json(other), json!([text(other)]));
        }
    }

    #[test]
    fn large_pdfs_are_refused() {
        let base64 = "A".repeat(LARGEST_PDF / 3 * 4 + 8);
        let source = Source::Data { media_type: "application/pdf", base64: base64.into() };
        assert!(part(&Content::File { source, name: None }, "here").is_err());
    }
}
