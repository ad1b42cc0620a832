//! Large buffers in memory of their own.
//!
//! The rule it protects: what a large body took is given back to the system the moment it is dropped. An allocator keeps it
//! for a while, and takes fresh memory for the next one meanwhile: many large bodies after each other would take as much as
//! all of them together.

use std::io;

use bytes::{Bytes, BytesMut};
use memmap2::MmapMut;

/// Bodies of more bytes are large.
pub const LARGE: usize = 256 * 1024;

/// A buffer of a fixed capacity. Memory is taken as it is filled.
#[derive(Debug)]
pub struct LargeBuffer {
    memory: MmapMut,
    length: usize,
}

impl AsRef<[u8]> for LargeBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.length]
    }
}

impl LargeBuffer {
    /// An empty one.
    ///
    /// # Errors
    /// If the system has no more memory.
    pub fn new(capacity: usize) -> io::Result<Self> {
        Ok(Self { memory: MmapMut::map_anon(capacity.max(1))?, length: 0 })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// If they are more than fit.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = self.length.saturating_add(bytes.len());
        let place = self.memory.get_mut(self.length..end).ok_or(io::ErrorKind::FileTooLarge)?;
        place.copy_from_slice(bytes);
        self.length = end;
        Ok(())
    }

    /// What is in it, to be shared.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

/// A body as it comes: in ordinary memory, and once it is large in memory of its own.
#[derive(Debug)]
pub struct Gathering {
    so_far: SoFar,
    most: usize,
}

#[derive(Debug)]
enum SoFar {
    Small(BytesMut),
    Large(LargeBuffer),
}

impl Gathering {
    /// Room for a body of that length, if it says its length, which may grow to `most`.
    ///
    /// # Errors
    /// If the system has no more memory.
    pub fn new(length: usize, most: usize) -> io::Result<Self> {
        let so_far = if length > LARGE {
            SoFar::Large(LargeBuffer::new(length)?)
        } else {
            SoFar::Small(BytesMut::with_capacity(length))
        };
        Ok(Self { so_far, most })
    }

    /// How much has come.
    pub fn len(&self) -> usize {
        match &self.so_far {
            SoFar::Small(bytes) => bytes.len(),
            SoFar::Large(buffer) => buffer.length,
        }
    }

    /// Whether nothing has come.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// If they are more than fit, or the system has no more memory.
    pub fn push(&mut self, more: &[u8]) -> io::Result<()> {
        match &mut self.so_far {
            SoFar::Small(bytes) if bytes.len() + more.len() <= LARGE => bytes.extend_from_slice(more),
            SoFar::Small(bytes) => {
                let mut buffer = LargeBuffer::new(self.most)?;
                buffer.push(bytes)?;
                buffer.push(more)?;
                self.so_far = SoFar::Large(buffer);
            }
            SoFar::Large(buffer) => buffer.push(more)?,
        }
        Ok(())
    }

    /// All of it, to be shared.
    pub fn freeze(self) -> Bytes {
        match self.so_far {
            SoFar::Small(bytes) => bytes.freeze(),
            SoFar::Large(buffer) => buffer.freeze(),
        }
    }
}

impl io::Write for LargeBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_fits() {
        let mut buffer = LargeBuffer::new(10).unwrap();
        buffer.push(b"12345").unwrap();
        assert!(buffer.push(b"678901").is_err());
        buffer.push(b"67890").unwrap();
        assert_eq!(buffer.freeze(), Bytes::from_static(b"1234567890"));
        assert_eq!(LargeBuffer::new(0).unwrap().freeze(), Bytes::new());
    }

    #[test]
    fn bodies_come_whole_whatever_they_say_of_their_length() {
        for (said, length) in [(0, 0), (0, 5), (5, 5), (0, LARGE + 1), (LARGE + 1, LARGE + 1)] {
            let mut body = Gathering::new(said, LARGE + 1).unwrap();
            let sent = vec![b'x'; length];
            for piece in sent.chunks(100_000) {
                body.push(piece).unwrap();
            }
            assert_eq!(body.is_empty(), length == 0);
            assert_eq!(body.freeze(), sent);
        }
        assert!(Gathering::new(0, LARGE).unwrap().push(&[0; LARGE + 1]).is_err());
    }
}
