//! The one way in which a store's directory is changed or read, here or on a mounted disk.
//!
//! May use: nothing of this crate. Paths are relative to the
//! store's directory, with `/` between components. Must never retry a failed synchronisation:
//! a system may drop the unsynced pages and report success the second time.

pub mod mapped;
pub mod real;
#[doc(hidden)]
pub mod sim;

use std::io;
use std::sync::Arc;

use crate::disk::mapped::Mapped;

/// A store's directory. Every effect goes through here, so that a double can stand in for it.
///
/// A name is durable only after [`Disk::sync_dir`] of the directory that holds it.
pub trait Disk: Send + Sync {
    /// Creates a file for writing.
    ///
    /// # Errors
    /// `AlreadyExists` if the name is taken; whatever the system refuses.
    fn create(&self, path: &str) -> io::Result<Box<dyn Draft>>;

    /// Opens a file for reading at any position. It stays readable after its name is removed.
    ///
    /// # Errors
    /// `NotFound`; whatever the system refuses.
    fn open(&self, path: &str) -> io::Result<Arc<dyn Opened>>;

    /// Maps an immutable index file.
    ///
    /// # Errors
    /// `NotFound`; whatever the system refuses.
    fn map(&self, path: &str) -> io::Result<Mapped>;

    /// Gives a file another name that must not be taken.
    ///
    /// # Errors
    /// `AlreadyExists` if the new name is taken; whatever the system refuses.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Gives a file another name and drops what had it. Never for data of record.
    ///
    /// # Errors
    /// Whatever the system refuses.
    fn replace(&self, from: &str, to: &str) -> io::Result<()>;

    /// Gives a file a second name that must not be taken.
    ///
    /// # Errors
    /// `AlreadyExists` if the new name is taken; whatever the system refuses.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes the name of a file.
    ///
    /// # Errors
    /// `NotFound`; whatever the system refuses.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// `NotFound`; whatever the system refuses.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Makes a directory in one that exists.
    ///
    /// # Errors
    /// `AlreadyExists`; whatever the system refuses.
    fn make_dir(&self, dir: &str) -> io::Result<()>;

    /// Removes an empty directory.
    ///
    /// # Errors
    /// Whatever the system refuses.
    fn remove_dir(&self, dir: &str) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// Whatever the system refuses; nothing is known about the names then.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// The length of a file, or nothing if the name is not taken by a file.
    ///
    /// # Errors
    /// Whatever the system refuses.
    fn file_bytes(&self, path: &str) -> io::Result<Option<u64>>;

    /// How many bytes may still be written.
    ///
    /// # Errors
    /// Whatever the system refuses.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// A file that is being written. Dropping it leaves an unfinished file for gc.
pub trait Draft: Send {
    /// Asks for room for so many bytes in all, so that a full disk shows early.
    ///
    /// # Errors
    /// `StorageFull`; a system that cannot reserve says nothing.
    fn reserve(&mut self, bytes: u64) -> io::Result<()>;

    /// Adds bytes at the end.
    ///
    /// # Errors
    /// Whatever the system refuses; part of the bytes may be written then.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the content durable and read-only, and closes the file.
    /// It takes the file away because a failed synchronisation must never be tried again.
    ///
    /// # Errors
    /// Whatever the system refuses; the file must be written anew then.
    fn sync(self: Box<Self>) -> io::Result<()>;
}

/// A file that is open for reading.
pub trait Opened: Send + Sync {
    /// The length when it was opened.
    fn bytes(&self) -> u64;

    /// Fills `buffer` from `start`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before; whatever the system refuses.
    fn read_at(&self, start: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// Fills a buffer with bytes that nobody can guess: for names that nobody else has.
pub type Fill = Arc<dyn Fn(&mut [u8]) -> io::Result<()> + Send + Sync>;

/// The directory part of a path; the store's own directory is the empty path.
#[must_use]
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}
