//! Bytes that can be read at any position: files, slices, stored files.
//!
//! May use: `error`. Must never write.

use crate::error::{Error, IoContext, Result};

/// A source of bytes of known length, readable at any position from several threads at once.
pub trait ReadAt: Sync {
    /// The length in bytes.
    fn len(&self) -> u64;

    /// Fills `buffer` from `start`; fails if the source ends before the buffer is full.
    ///
    /// # Errors
    /// A failure of the source, or an end before `buffer` is full.
    fn read_at(&self, start: u64, buffer: &mut [u8]) -> Result<()>;

    /// Whether there is no byte at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads `bytes` bytes from `start` into a fresh vector. The caller bounds `bytes`.
    ///
    /// # Errors
    /// As [`ReadAt::read_at`].
    fn read_vec(&self, start: u64, bytes: usize) -> Result<Vec<u8>> {
        let mut buffer = vec![0; bytes];
        self.read_at(start, &mut buffer)?;
        Ok(buffer)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_at(&self, start: u64, buffer: &mut [u8]) -> Result<()> {
        (**self).read_at(start, buffer)
    }
}

impl ReadAt for [u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read_at(&self, start: u64, buffer: &mut [u8]) -> Result<()> {
        let part = usize::try_from(start)
            .ok()
            .and_then(|from| self.get(from..from.checked_add(buffer.len())?))
            .ok_or_else(|| Error::corrupt("the bytes end before the part that was asked for"))?;
        buffer.copy_from_slice(part);
        Ok(())
    }
}

/// A file on disk, read by position.
#[derive(Debug)]
pub struct FileBytes {
    file: std::fs::File,
    path: std::path::PathBuf,
    bytes: u64,
}

impl FileBytes {
    /// Opens a file; its length is what it is now.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn open(path: &std::path::Path) -> Result<Self> {
        let file = std::fs::File::open(path).at("open", path)?;
        Self::from_file(file, path.to_owned())
    }

    /// Takes an open file; `path` is what errors call it.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn from_file(file: std::fs::File, path: std::path::PathBuf) -> Result<Self> {
        let bytes = file.metadata().at("read", &path)?.len();
        Ok(Self { file, path, bytes })
    }

    /// Sets the permission bits of the open file.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn set_mode(&self, mode: u32) -> Result<()> {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        self.file
            .set_permissions(permissions)
            .at("change", &self.path)
    }

    /// Its state now, by the open file rather than by name.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn metadata(&self) -> Result<std::fs::Metadata> {
        self.file.metadata().at("read", &self.path)
    }
}

impl ReadAt for FileBytes {
    fn len(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, start: u64, buffer: &mut [u8]) -> Result<()> {
        use std::os::unix::fs::FileExt;
        self.file
            .read_exact_at(buffer, start)
            .at("read", &self.path)
    }
}
