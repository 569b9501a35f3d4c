//! Moves files between stores by five verbs, whatever carries them.
//!
//! May use: `error`, `bytes`, `disk`. Knows no tensors, no records and no local store. A remote
//! has the layout of a store; references move by numbered tables that are created if absent.
//! Holds: an answer that may be wrong is never believed: what counts is what is read back.

pub mod conformance;
pub mod directory;
#[doc(hidden)]
pub mod faulty;
pub mod memory;
pub mod mount;

use crate::bytes::ReadAt;
use crate::error::{Error, Kind, Result};

/// Names that one answer of [`Remote::list`] holds at most.
pub const LIST_MAX: usize = 1000;

/// Which bytes of a file are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// All of it; refused if it is longer than this.
    Whole(u64),
    /// From a first byte, so many; fewer only where the file ends.
    Part {
        /// The first byte.
        start: u64,
        /// How many.
        bytes: u64,
    },
    /// So many at the end; all of a file that is shorter.
    Last(u64),
}

impl Span {
    /// The first byte and how many, in a file of `total` bytes.
    ///
    /// # Errors
    /// `Corrupt` for a part that starts beyond the end, or a file that is too long to take whole.
    pub fn within(self, total: u64) -> Result<(u64, u64)> {
        match self {
            Self::Whole(max) if total > max => Err(Error::corrupt(format!(
                "a file of {total} bytes is longer than the {max} it may have"
            ))),
            Self::Whole(_) => Ok((0, total)),
            Self::Part { start, .. } if start > total => Err(Error::corrupt(format!(
                "a file of {total} bytes has no byte {start}"
            ))),
            Self::Part { start, bytes } => Ok((start, bytes.min(total - start))),
            Self::Last(bytes) => Ok((total.saturating_sub(bytes), bytes.min(total))),
        }
    }
}

/// Bytes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    /// The bytes that were asked for.
    pub bytes: Vec<u8>,
    /// The length of the whole file.
    pub total: u64,
}

/// A file that was listed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its path.
    pub path: String,
    /// Its length.
    pub bytes: u64,
}

/// How a creation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The file is new.
    New,
    /// There was one. It may be the own one of an earlier try: read it back.
    Taken,
}

/// Somewhere a store lies. Paths are those of [`check_path`].
///
/// What was put or deleted is seen by the next call of everybody. An error says nothing about
/// whether the work was done.
pub trait Remote: Send + Sync {
    /// Reads a file or part of it.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` as in [`Span::within`]; `Unreachable`, `Forbidden`, `Io`.
    fn get(&self, path: &str, span: Span) -> Result<Got>;

    /// Creates a file unless there is one: whole, durable, and won by one of several at most.
    ///
    /// # Errors
    /// `Unreachable`, `Forbidden`, `Full`, `Io`.
    fn put_new(&self, path: &str, body: &dyn ReadAt) -> Result<Created>;

    /// Creates a file or replaces it whole; durable.
    ///
    /// # Errors
    /// As [`Remote::put_new`].
    fn put(&self, path: &str, body: &dyn ReadAt) -> Result<()>;

    /// The files whose paths start with `prefix`, which is empty or ends with `/`, and come
    /// after `after`: ascending, [`LIST_MAX`] at most. None means that there are no more.
    ///
    /// # Errors
    /// `Unreachable`, `Forbidden`, `Io`.
    fn list(&self, prefix: &str, after: &str) -> Result<Vec<Listed>>;

    /// Removes a file; one that is not there is no error.
    ///
    /// # Errors
    /// `Unreachable`, `Forbidden`, `Io`.
    fn delete(&self, path: &str) -> Result<()>;
}

/// Checks a path: components of letters, digits, `.`, `_` and `-`, with `/` between them.
///
/// # Errors
/// `Usage` naming the path.
pub fn check_path(path: &str) -> Result<()> {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    let component = |name: &str| {
        (1..=255).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(allowed)
    };
    if path.len() <= 1024 && path.split('/').all(component) {
        Ok(())
    } else {
        Err(Error::usage(format!("'{path}' is no path within a store")))
    }
}

/// Checks a prefix of [`Remote::list`].
///
/// # Errors
/// `Usage` naming the prefix.
pub fn check_prefix(prefix: &str) -> Result<()> {
    match prefix.strip_suffix('/') {
        Some(path) => check_path(path),
        None if prefix.is_empty() => Ok(()),
        None => Err(Error::usage(format!(
            "the prefix '{prefix}' ends within a name"
        ))),
    }
}

/// Reads exactly these bytes.
///
/// # Errors
/// `Unreachable` where fewer came than the file has; else as [`Remote::get`].
pub fn get_exact(remote: &dyn Remote, path: &str, start: u64, bytes: u64) -> Result<Vec<u8>> {
    let got = remote.get(path, Span::Part { start, bytes })?;
    if got.bytes.len() as u64 == bytes {
        return Ok(got.bytes);
    }
    if got.total.saturating_sub(start) < bytes {
        return Err(Error::corrupt(format!(
            "'{path}' ends at byte {}",
            got.total
        )));
    }
    Err(cut(path))
}

/// Reads a small file whole; nothing if there is none.
///
/// # Errors
/// `Unreachable` where only part of it came; else as [`Remote::get`].
pub fn get_whole(remote: &dyn Remote, path: &str, bytes_max: u64) -> Result<Option<Vec<u8>>> {
    match remote.get(path, Span::Whole(bytes_max)) {
        Ok(got) if got.bytes.len() as u64 == got.total => Ok(Some(got.bytes)),
        Ok(_) => Err(cut(path)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn cut(path: &str) -> Error {
    Error::new(
        Kind::Unreachable,
        format!("only part of '{path}' was delivered"),
    )
    .hint("try again")
}

/// Creates a small file whose bytes nobody else can have, and finds out for sure: every doubt is
/// answered by reading back. `Taken` means that somebody else's file is there.
///
/// # Errors
/// A failure after which the file is not there, or not known to be.
pub fn put_own(remote: &dyn Remote, path: &str, bytes: &[u8]) -> Result<Created> {
    let answer = remote.put_new(path, &bytes);
    if matches!(answer, Ok(Created::New)) {
        return Ok(Created::New);
    }
    match (get_whole(remote, path, bytes.len() as u64), answer) {
        (Ok(Some(found)), _) if found == bytes => Ok(Created::New),
        (Ok(Some(_)), _) => Ok(Created::Taken),
        // Longer than ours: somebody else's.
        (Err(error), _) if error.kind() == Kind::Corrupt => Ok(Created::Taken),
        (Ok(None), Ok(_)) => Ok(Created::Taken), // gone again: look at the newest and try anew
        (Ok(None), Err(failure)) => Err(failure),
        (Err(error), _) => {
            Err(error.hint("the change may have been made; look at the remote before trying again"))
        }
    }
}

/// Every file under a prefix, page after page.
///
/// # Errors
/// As [`Remote::list`].
pub fn list_all(remote: &dyn Remote, prefix: &str) -> Result<Vec<Listed>> {
    let mut all: Vec<Listed> = Vec::new();
    loop {
        let after = all.last().map_or("", |file| &file.path);
        let page = remote.list(prefix, after)?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

#[cfg(test)]
mod tests;
