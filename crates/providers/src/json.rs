//! Writing JSON without taking more memory than it has bytes.

use std::io;

use bytes::Bytes;
use serde::Serialize;

use crate::large::{LARGE, LargeBuffer};

/// A value as JSON, in a buffer of its size: a large one is measured before it is written, because a buffer that grows by
/// doubling takes up to three times as much.
///
/// # Errors
/// If it can't be written, which no JSON value can cause.
pub fn write(value: &impl Serialize) -> serde_json::Result<Bytes> {
    let mut small = Bounded(Vec::new());
    match serde_json::to_writer(&mut small, value) {
        Err(error) if error.is_io() => {}
        written => return written.map(|()| small.0.into()),
    }
    drop(small);
    let mut length = Length(0);
    serde_json::to_writer(&mut length, value)?;
    let mut whole = LargeBuffer::new(length.0).map_err(serde_json::Error::io)?;
    serde_json::to_writer(&mut whole, value)?;
    Ok(whole.freeze())
}

/// Takes only what is not large.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LARGE {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts what is written.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn large_ones_are_written_in_one_piece() {
        for length in [10, LARGE, 5 * LARGE] {
            let value = json!({"a": "x".repeat(length), "b": vec!["y"; length / 4]});
            let written = write(&value).unwrap();
            assert_eq!(written, value.to_string().into_bytes());
        }
    }
}
