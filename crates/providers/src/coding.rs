//! What bodies of HTTP are wrapped in: content codings (RFC 9110, "Content Codings"), undone as the bytes come, and a byte
//! order mark, which is left out.
//!
//! The rule it protects: nobody takes more memory by a coding than they would without one. A decoder gives small pieces,
//! and whoever takes them counts them; it reads on only when they are taken.

use std::fmt;
use std::io;

use bytes::{Buf, Bytes};
use compression_codecs::core::util::{PartialBuffer, WriteBuffer};
use compression_codecs::zstd::params::DParameter;
use compression_codecs::{BrotliDecoder, DecodeV2, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

/// A decoded piece is no larger.
const PIECE: usize = 16 * 1024;
/// The most that a Zstandard decoder must remember, as a power of two: 8 MiB (RFC 9659).
const ZSTD_WINDOW: u32 = 23;
/// U+FEFF in UTF-8.
const MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// A coding that is not known here, or several at once. Its name as the headers have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownCoding(pub String);

/// Undoes the coding of one body.
#[derive(Debug)]
pub struct Decoder {
    /// What was put on last.
    outer: Layer,
    /// What was put on before, if there are two.
    inner: Option<Layer>,
}

/// One coding.
struct Layer {
    coding: Coding,
    codec: Option<Box<dyn DecodeV2 + Send>>,
    input: Bytes,
    output: Box<[u8]>,
    /// The last piece filled the buffer: there may be more without more input.
    full: bool,
    /// What one end of the coding has is decoded. Gzip and Zstandard may begin anew behind it.
    ended: bool,
}

impl Decoder {
    /// The codings that are known, as `Accept-Encoding` names them.
    pub const KNOWN: &str = "gzip, deflate, br, zstd";
    /// The most bytes of what it gave that a decoder remembers: those of Brotli (RFC 7932, "Compressed Representation
    /// Overview").
    pub const WINDOW: usize = 16 * 1024 * 1024;

    /// A decoder for the body of a request with those headers; `None` if it is as it is. One coding is enough for a client:
    /// what stands between two would have to be bounded as well.
    ///
    /// # Errors
    /// If its coding is not known, or there are several.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, UnknownCoding> {
        Self::with_layers(headers, 1)
    }

    /// The same for an answer, which a server and a proxy before it may each have coded.
    ///
    /// # Errors
    /// If a coding is not known, or there are more than two.
    pub(crate) fn of_answer(headers: &HeaderMap) -> Result<Option<Self>, UnknownCoding> {
        Self::with_layers(headers, 2)
    }

    fn with_layers(headers: &HeaderMap, most: usize) -> Result<Option<Self>, UnknownCoding> {
        if !headers.contains_key(CONTENT_ENCODING) {
            return Ok(None);
        }
        let values = headers.get_all(CONTENT_ENCODING).iter();
        let values: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        let names = values.join(",");
        let unknown =
            || UnknownCoding(names.chars().filter(|letter| !letter.is_control()).take(100).collect());
        let mut codings = Vec::new();
        for name in names.split(',').map(str::trim) {
            let found = match name.to_ascii_lowercase().as_str() {
                "" | "identity" => continue,
                "gzip" | "x-gzip" => Coding::Gzip,
                "deflate" => Coding::Deflate,
                "br" => Coding::Brotli,
                "zstd" => Coding::Zstd,
                _ => return Err(unknown()),
            };
            codings.push(found);
            if codings.len() > most {
                return Err(unknown());
            }
        }
        // They are named in the order in which they were put on.
        let outer = codings.pop().map(Layer::new);
        Ok(outer.map(|outer| Self { outer, inner: codings.pop().map(Layer::new) }))
    }

    /// Takes bytes that came; all pieces of those before must have been taken.
    pub fn push(&mut self, bytes: Bytes) {
        self.outer.push(bytes);
    }

    /// The next piece of what came; `None` when more must come first.
    ///
    /// # Errors
    /// If what came is not in this coding.
    pub fn next_piece(&mut self) -> io::Result<Option<Bytes>> {
        let Some(inner) = &mut self.inner else { return self.outer.next_piece() };
        loop {
            if let Some(piece) = inner.next_piece()? {
                return Ok(Some(piece));
            }
            match self.outer.next_piece()? {
                Some(piece) => inner.push(piece),
                None => return Ok(None),
            }
        }
    }
}

impl Layer {
    fn new(coding: Coding) -> Self {
        let output = vec![0; PIECE].into_boxed_slice();
        Self { coding, codec: None, input: Bytes::new(), output, full: false, ended: false }
    }

    fn push(&mut self, bytes: Bytes) {
        self.input = bytes;
    }

    fn next_piece(&mut self) -> io::Result<Option<Bytes>> {
        while self.full || !self.input.is_empty() {
            if self.ended {
                match self.coding {
                    Coding::Gzip | Coding::Zstd => self.codec = None,
                    // Nothing may stand behind the end; servers that pad it did so for all clients.
                    Coding::Deflate | Coding::Brotli => {
                        self.input.clear();
                        return Ok(None);
                    }
                }
            }
            let codec = self.codec.get_or_insert_with(|| codec(self.coding, self.input.first().copied()));
            let mut output = WriteBuffer::new_initialized(&mut self.output);
            let read = if self.input.is_empty() {
                codec.flush(&mut output)?;
                0
            } else {
                let mut input = PartialBuffer::new(&self.input[..]);
                self.ended = codec.decode(&mut input, &mut output)?;
                input.written_len()
            };
            let written = output.written_len();
            self.full = written == PIECE && !self.ended;
            if read == 0 && written == 0 && !self.input.is_empty() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.input.advance(read);
            if written > 0 {
                return Ok(Some(Bytes::copy_from_slice(&self.output[..written])));
            }
        }
        Ok(None)
    }
}

/// `first`: the first byte of what is to be decoded.
fn codec(coding: Coding, first: Option<u8>) -> Box<dyn DecodeV2 + Send> {
    match coding {
        Coding::Gzip => Box::new(GzipDecoder::new()),
        // Some servers leave out the format around it (RFC 1950), whose first byte ends in an 8.
        Coding::Deflate if first.is_some_and(|first| first & 0x0F != 8) => Box::new(DeflateDecoder::new()),
        Coding::Deflate => Box::new(ZlibDecoder::new()),
        Coding::Brotli => Box::new(BrotliDecoder::new()),
        Coding::Zstd => Box::new(ZstdDecoder::new_with_params(&[DParameter::window_log_max(ZSTD_WINDOW)])),
    }
}

impl fmt::Display for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.inner {
            Some(inner) => write!(f, "{inner:?}, {:?}", self.outer),
            None => write!(f, "{:?}", self.outer),
        }
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.coding {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
        })
    }
}

/// Leaves out a byte order mark at the beginning of a body, however it is cut.
#[derive(Debug, Default)]
pub struct WithoutMark {
    /// So many bytes of a mark have come, and nothing else.
    seen: usize,
    begun: bool,
}

impl WithoutMark {
    /// The bytes that came, without what belongs to a mark.
    pub fn pass(&mut self, mut bytes: Bytes) -> Bytes {
        if self.begun {
            return bytes;
        }
        while let (Some(next), Some(byte)) = (MARK.get(self.seen), bytes.first()) {
            if byte != next {
                self.begun = true;
                // It only looked like one.
                return if self.seen == 0 { bytes } else { [&MARK[..self.seen], &bytes].concat().into() };
            }
            bytes.advance(1);
            self.seen += 1;
        }
        self.begun = self.seen == MARK.len();
        bytes
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use testing::codings::{CODINGS, compress, compress_whole};

    use super::*;

    fn decoder(coding: &str) -> Decoder {
        let coding = if coding == "raw" { "deflate" } else { coding };
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_str(coding).unwrap())]);
        Decoder::of(&headers).unwrap().unwrap()
    }

    /// All that there is until more comes.
    fn rest(decoder: &mut Decoder) -> io::Result<Vec<u8>> {
        let mut whole = Vec::new();
        while let Some(piece) = decoder.next_piece()? {
            assert!((1..=PIECE).contains(&piece.len()));
            whole.extend_from_slice(&piece);
        }
        Ok(whole)
    }

    #[test]
    fn each_piece_is_there_as_soon_as_it_came() {
        let random: Vec<u8> =
            (0..40_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let pieces: [&[u8]; 5] = [b"data: {}\n\n", &[b'a'; 3 * PIECE], b"", &random, b"data: [DONE]\n\n"];
        for coding in CODINGS {
            let compressed = compress(coding, &pieces).unwrap();
            let (mut at_once, mut byte_by_byte) = (decoder(coding), decoder(coding));
            for (compressed, piece) in compressed.iter().zip(pieces) {
                at_once.push(compressed.clone());
                assert!(rest(&mut at_once).unwrap() == piece, "{coding}");
                let mut whole = Vec::new();
                for byte in compressed {
                    byte_by_byte.push(Bytes::copy_from_slice(&[*byte]));
                    whole.extend(rest(&mut byte_by_byte).unwrap());
                }
                assert!(whole == piece, "{coding} byte by byte");
            }
        }
    }

    #[test]
    fn answers_may_be_coded_twice() {
        let pieces: [&[u8]; 3] = [b"data: {}\n\n", &[b'a'; 3 * PIECE], b"data: [DONE]\n\n"];
        for inner in CODINGS {
            for outer in CODINGS {
                let once = compress(inner, &pieces).unwrap();
                let once: Vec<&[u8]> = once.iter().map(|piece| &piece[..]).collect();
                let twice = compress(outer, &once).unwrap();
                let names =
                    [inner, outer].map(|name| if name == "raw" { "deflate" } else { name }).join(", ");
                let headers =
                    HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_str(&names).unwrap())]);
                let mut decoder = Decoder::of_answer(&headers).unwrap().unwrap();
                for (compressed, piece) in twice.iter().zip(pieces) {
                    decoder.push(compressed.clone());
                    assert!(rest(&mut decoder).unwrap() == piece, "{names}");
                }
            }
        }
    }

    #[test]
    fn what_is_whole_may_be_followed_by_more() {
        for (coding, more) in [("gzip", "one two"), ("zstd", "one two"), ("deflate", "one "), ("br", "one ")]
        {
            let both = [compress_whole(coding, b"one ").unwrap(), compress_whole(coding, b"two").unwrap()];
            let mut decoder = decoder(coding);
            decoder.push(both.concat().into());
            assert_eq!(rest(&mut decoder).unwrap(), more.as_bytes(), "{coding}");
        }
    }

    #[test]
    fn a_bomb_takes_no_memory() {
        const MANY: usize = 64 * 1024 * 1024;
        for coding in CODINGS {
            let bomb = compress_whole(coding, &vec![0; MANY]).unwrap();
            assert!(bomb.len() < MANY / 500, "{coding}: {}", bomb.len());
            let mut decoder = decoder(coding);
            decoder.push(bomb);
            let mut length = 0;
            while let Some(piece) = decoder.next_piece().unwrap() {
                length += piece.len();
            }
            assert_eq!(length, MANY, "{coding}");
        }
    }

    #[test]
    fn what_is_not_in_the_coding_is_an_error() {
        // Without the format around it, nearly everything can be read as `deflate`.
        for coding in ["gzip", "br", "zstd"] {
            let mut decoder = decoder(coding);
            decoder.push(Bytes::from_static(br#"{"model": "m", "messages": []}"#));
            assert!(rest(&mut decoder).is_err(), "{coding}");
        }
        // A window of 128 MiB, as only archives have it.
        let mut decoder = decoder("zstd");
        decoder.push(Bytes::from_static(&[0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x88, 0x01, 0x00, 0x00]));
        assert!(rest(&mut decoder).is_err());
    }

    #[test]
    fn codings_by_name() {
        let of = |names: &[&'static str]| {
            let names = names.iter().map(|name| (CONTENT_ENCODING, HeaderValue::from_static(name)));
            let mut headers = HeaderMap::new();
            names.for_each(|(name, value)| {
                headers.append(name, value);
            });
            Decoder::of(&headers).map(|decoder| decoder.map(|decoder| decoder.to_string()))
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["identity"]), Ok(None));
        assert_eq!(of(&[""]), Ok(None));
        assert_eq!(of(&["X-GZip"]), Ok(Some("gzip".into())));
        assert_eq!(of(&["identity, br"]), Ok(Some("br".into())));
        assert_eq!(of(&["compress"]), Err(UnknownCoding("compress".into())));
        assert_eq!(of(&["gzip", "zstd"]), Err(UnknownCoding("gzip,zstd".into())));
        let of_answer = |name| {
            let headers = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(name))]);
            Decoder::of_answer(&headers).map(|decoder| decoder.map(|decoder| decoder.to_string()))
        };
        assert_eq!(of_answer("gzip, zstd"), Ok(Some("gzip, zstd".into())));
        assert_eq!(of_answer("gzip, zstd, br"), Err(UnknownCoding("gzip, zstd, br".into())));
    }

    #[test]
    fn marks_of_byte_order() {
        let without = |pieces: &[&'static [u8]]| {
            let mut mark = WithoutMark::default();
            pieces.iter().flat_map(|piece| mark.pass(Bytes::from_static(piece))).collect::<Vec<u8>>()
        };
        assert_eq!(without(&[b"\xEF\xBB\xBF{}\xEF\xBB\xBF"]), b"{}\xEF\xBB\xBF");
        assert_eq!(without(&[b"\xEF", b"", b"\xBB", b"\xBF{", b"}"]), b"{}");
        assert_eq!(without(&[b"\xEF\xBB", b"x", b"\xEF\xBB\xBF"]), b"\xEF\xBBx\xEF\xBB\xBF");
        assert_eq!(without(&[b"{\xEF\xBB\xBF"]), b"{\xEF\xBB\xBF");
        assert_eq!(without(&[b"\xEF\xBB\xBF", b"\xEF\xBB\xBF"]), b"\xEF\xBB\xBF");
    }
}
