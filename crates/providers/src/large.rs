//! Large buffers in memory of their own.
//!
//! The rule it protects: what a large body took is given back to the system the moment it is dropped. An allocator keeps it
//! for a while, and takes fresh memory for the next one meanwhile: many large bodies after each other would take as much as
//! all of them together.

use std::io;

use bytes::Bytes;
use memmap2::MmapMut;

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
}
