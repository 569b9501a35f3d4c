//! Bytes of an index file: mapped from a local disk, or held in memory.
//!
//! May use: nothing of this crate. The only mapping of a file in the program: index files are
//! never changed in place or cut, and each use of their content is checked against a record.
#![allow(unsafe_code)] // mapping a file has no safe form

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::sync::Arc;

/// The bytes of an index file.
#[derive(Clone)]
pub struct Mapped(Kept);

#[derive(Clone)]
enum Kept {
    File(Arc<memmap2::Mmap>),
    Memory(Arc<Vec<u8>>),
}

impl Mapped {
    /// Maps a whole file that nobody changes in place.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn of_file(file: &File) -> io::Result<Self> {
        if file.metadata()?.len() == 0 {
            return Ok(Self::of_bytes(Vec::new())); // an empty mapping is refused by the system
        }
        // SAFETY: index files are created once under a fresh name, made read-only, and only ever
        // unlinked, which keeps the mapping. Whoever cuts one by hand gets a signal, not wrong
        // data; content that was altered is met as untrusted bytes by the decoders.
        let map = unsafe { memmap2::Mmap::map(file) }?;
        Ok(Self(Kept::File(Arc::new(map))))
    }

    /// Gives back the memory of pages that were read, which come again when they are read again:
    /// for what was read once from end to end.
    pub fn let_go(&self) {
        if let Kept::File(map) = &self.0 {
            // SAFETY: the mapping is read-only, so no page holds anything but the file's bytes.
            let advised = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
            // A system that does not follow keeps the pages: no harm.
            drop(advised);
        }
    }

    /// Holds bytes in memory: for stores that cannot be mapped, and for tests.
    #[must_use]
    pub fn of_bytes(bytes: Vec<u8>) -> Self {
        Self(Kept::Memory(Arc::new(bytes)))
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Kept::File(map) => map,
            Kept::Memory(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_mapped_file_shows_its_bytes_even_when_empty() {
        for content in [&b""[..], b"abc"] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(content).unwrap();
            assert_eq!(&*Mapped::of_file(&file).unwrap(), content);
        }
    }
}
