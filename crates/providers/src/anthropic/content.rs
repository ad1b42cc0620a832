//! Pieces of messages as Anthropic's content blocks ("Vision", "PDF support", "Citations: plain text documents").

use serde_json::{Map, Value, json};

use crate::BadRequest;
use crate::conversation::{Content, Part, Source, bad, from_base64};

/// The kinds of pictures ("Vision", "Supported formats").
const IMAGES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];
/// The largest picture, in bytes of its base64 ("Vision", "General limits": 10 MB through the API).
const LARGEST_IMAGE: usize = 10 * 1024 * 1024;

/// Whether a text counts as content: others are refused by the API.
pub(super) fn says_something(text: &str) -> bool {
    !text.trim().is_empty()
}

/// A text block.
pub(super) fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

/// The blocks of a message's parts. `at`: where in the request they are.
///
/// # Errors
/// Names what Anthropic can't take.
pub(super) fn blocks(parts: &[Part<'_>], at: &str) -> Result<Vec<Value>, BadRequest> {
    let mut blocks: Vec<Value> = Vec::with_capacity(parts.len());
    for part in parts {
        if let Some(block) = block(&part.what, at)? {
            blocks.push(block);
        }
        // The mark of a part that is left out means all before it.
        if let (Some(mark), Some(Value::Object(last))) = (part.cache_control, blocks.last_mut()) {
            last.insert("cache_control".into(), mark.clone());
        }
    }
    Ok(blocks)
}

/// Only texts, for where nothing else may stand. `who`: whose message it is.
///
/// # Errors
/// If there is anything else.
pub(super) fn texts(parts: &[Part<'_>], at: &str, who: &str) -> Result<Vec<Value>, BadRequest> {
    if parts.iter().any(|part| !matches!(part.what, Content::Text(_))) {
        return Err(bad(format!("{at}.content"), format!("a message of the {who} can only have text here")));
    }
    blocks(parts, at)
}

fn block(what: &Content<'_>, at: &str) -> Result<Option<Value>, BadRequest> {
    let block = match what {
        Content::Text(words) if says_something(words) => text(words),
        Content::Text(_) => return Ok(None),
        Content::Image { source, .. } => image(source, at)?,
        Content::Audio { .. } => {
            return Err(bad(format!("{at}.content"), "this model can't hear: leave the audio out"));
        }
        Content::File { source, name } | Content::Document { source, name } => file(source, *name, at)?,
    };
    Ok(Some(block))
}

fn image(source: &Source<'_>, at: &str) -> Result<Value, BadRequest> {
    let source = match source {
        Source::Url(url) => url_source(url, at)?,
        Source::Id(_) => return Err(not_stored(at)),
        Source::Data { media_type, base64 } => {
            let media_type = media_type.to_ascii_lowercase();
            let media_type = if media_type == "image/jpg" { "image/jpeg" } else { &media_type };
            if !IMAGES.contains(&media_type) {
                let message =
                    format!("pictures of the type {media_type} can't be read: use JPEG, PNG, GIF or WebP");
                return Err(bad(format!("{at}.content"), message));
            }
            if base64.len() > LARGEST_IMAGE {
                return Err(bad(format!("{at}.content"), "a picture is larger than 10 MB: make it smaller"));
            }
            json!({"type": "base64", "media_type": media_type, "data": base64})
        }
    };
    Ok(json!({"type": "image", "source": source}))
}

fn file(source: &Source<'_>, name: Option<&str>, at: &str) -> Result<Value, BadRequest> {
    let source = match source {
        Source::Url(url) => url_source(url, at)?,
        Source::Id(_) => return Err(not_stored(at)),
        Source::Data { media_type, base64 } => {
            let media_type = media_type.to_ascii_lowercase();
            let is_text = media_type.starts_with("text/")
                || matches!(media_type.as_str(), "application/json" | "application/xml");
            match media_type.as_str() {
                "application/pdf" => {
                    json!({"type": "base64", "media_type": "application/pdf", "data": base64})
                }
                _ if media_type.starts_with("image/") => return image(source, at),
                _ if is_text => {
                    let text = from_base64(base64).and_then(|bytes| String::from_utf8(bytes).ok());
                    let text =
                        text.ok_or_else(|| bad(format!("{at}.content"), "a text file must be UTF-8"))?;
                    json!({"type": "text", "media_type": "text/plain", "data": text})
                }
                _ => {
                    let message = format!("files of the type {media_type} can't be read: use PDF or text");
                    return Err(bad(format!("{at}.content"), message));
                }
            }
        }
    };
    let mut block = Map::new();
    block.insert("type".into(), "document".into());
    block.insert("source".into(), source);
    if let Some(name) = name.filter(|name| says_something(name)) {
        block.insert("title".into(), name.into());
    }
    Ok(block.into())
}

/// Anthropic fetches it; we never do.
fn url_source(url: &str, at: &str) -> Result<Value, BadRequest> {
    if url.starts_with("https://") || url.starts_with("http://") {
        return Ok(json!({"type": "url", "url": url}));
    }
    Err(bad(format!("{at}.content"), "the address of a picture or a file must begin with https://"))
}

/// Files stored with the provider belong to all who use our key.
fn not_stored(at: &str) -> BadRequest {
    bad(format!("{at}.content"), "stored files can't be used here: send the file itself in the request")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(what: Content<'_>) -> Part<'_> {
        Part { what, cache_control: None }
    }

    fn data<'a>(media_type: &'a str, base64: &'a str) -> Source<'a> {
        Source::Data { media_type, base64: base64.into() }
    }

    #[test]
    fn pictures_and_files() {
        let file = |source, name| part(Content::File { source, name });
        let image = |source| part(Content::Image { source, detail: None });
        let parts = [
            image(data("image/JPG", "AAAA")),
            image(Source::Url("https://example.org/a.png")),
            file(data("application/pdf", "BBBB"), Some("a.pdf")),
            file(Source::Url("https://example.org/b.pdf"), None),
            file(data("text/markdown", "IyBow6k="), None),
            file(data("image/png", "CCCC"), None),
        ];
        let expected = [
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "AAAA"}}),
            json!({"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}),
            json!({"type": "document", "title": "a.pdf",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "BBBB"}}),
            json!({"type": "document", "source": {"type": "url", "url": "https://example.org/b.pdf"}}),
            json!({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "# hé"}}),
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "CCCC"}}),
        ];
        assert_eq!(blocks(&parts, "messages.0").unwrap(), expected);
    }

    #[test]
    fn what_can_not_be_read_is_named() {
        let large = "A".repeat(LARGEST_IMAGE + 1);
        for what in [
            Content::Image { source: data("image/tiff", "AAAA"), detail: None },
            Content::Image { source: data("image/png", &large), detail: None },
            Content::Image { source: Source::Id("f"), detail: None },
            Content::Image { source: Source::Url("ftp://example.org/a.png"), detail: None },
            Content::Audio { base64: "AAAA", format: "wav" },
            Content::File { source: Source::Id("f"), name: None },
            Content::File { source: data("application/zip", "AAAA"), name: None },
            Content::File { source: data("text/plain", "/w=="), name: None },
        ] {
            let error = blocks(&[part(what)], "messages.3").unwrap_err();
            assert_eq!(error.param.as_deref(), Some("messages.3.content"), "{error}");
        }
    }

    #[test]
    fn empty_texts_leave_their_mark_behind() {
        let mark = json!({"type": "ephemeral", "ttl": "1h"});
        let parts =
            [part(Content::Text("a")), Part { what: Content::Text(" \n"), cache_control: Some(&mark) }];
        assert_eq!(
            blocks(&parts, "messages.0").unwrap(),
            [json!({"type": "text", "text": "a", "cache_control": mark})]
        );
    }
}
