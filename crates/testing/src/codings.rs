//! Bodies as servers and clients compress them.

use std::io;

use bytes::Bytes;
use compression_codecs::brotli::params::EncoderParams;
use compression_codecs::core::Level;
use compression_codecs::core::util::{PartialBuffer, WriteBuffer};
use compression_codecs::{BrotliEncoder, DeflateEncoder, EncodeV2, GzipEncoder, ZlibEncoder, ZstdEncoder};

/// All of them, as `Content-Encoding` names them, and `raw`: `deflate` without the format around it.
pub const CODINGS: [&str; 5] = ["gzip", "deflate", "raw", "br", "zstd"];

/// Pieces in that coding, each so that it can be read without the next. Behind the last comes the end.
///
/// # Errors
/// If there is no such coding.
pub fn compress(coding: &str, pieces: &[&[u8]]) -> io::Result<Vec<Bytes>> {
    let mut encoder: Box<dyn EncodeV2> = match coding {
        "gzip" => Box::new(GzipEncoder::new(Level::Default.into())),
        "deflate" => Box::new(ZlibEncoder::new(Level::Default.into())),
        "raw" => Box::new(DeflateEncoder::new(Level::Default.into())),
        "br" => Box::new(BrotliEncoder::new(EncoderParams::default())),
        "zstd" => Box::new(ZstdEncoder::new(3)),
        _ => return Err(io::ErrorKind::Unsupported.into()),
    };
    let mut buffer = vec![0; 16 * 1024];
    let mut compressed = Vec::new();
    for piece in pieces {
        let (mut whole, mut input) = (Vec::new(), PartialBuffer::new(*piece));
        while !input.unwritten().is_empty() {
            let mut output = WriteBuffer::new_initialized(&mut buffer);
            encoder.encode(&mut input, &mut output)?;
            whole.extend_from_slice(output.written());
        }
        drain(&mut buffer, &mut whole, |output| encoder.flush(output))?;
        compressed.push(whole);
    }
    let mut end = Vec::new();
    drain(&mut buffer, &mut end, |output| encoder.finish(output))?;
    compressed.push(end);
    Ok(compressed.into_iter().map(Bytes::from).collect())
}

/// The same in one piece.
///
/// # Errors
/// See [`compress`].
pub fn compress_whole(coding: &str, body: &[u8]) -> io::Result<Bytes> {
    compress(coding, &[body]).map(|pieces| pieces.concat().into())
}

fn drain(
    buffer: &mut [u8],
    whole: &mut Vec<u8>,
    mut more: impl FnMut(&mut WriteBuffer<'_>) -> io::Result<bool>,
) -> io::Result<()> {
    loop {
        let mut output = WriteBuffer::new_initialized(buffer);
        let is_done = more(&mut output)?;
        whole.extend_from_slice(output.written());
        if is_done {
            return Ok(());
        }
    }
}
