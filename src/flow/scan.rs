//! What lies under a path: the files, links and empty directories that a commit would hold.
//!
//! May use: `error`, `progress`, `store_format`. Reads names and stats only, never contents.
//!
//! Decided here: `.git`, `.sparse`, what an interrupted checkout left and what a `.sparseignore`
//! names are left out, and directories that hold nothing else; a link to something inside the
//! scanned directory stays a link, a link to a file elsewhere (as in a Hugging Face cache) is
//! taken as that file; devices, pipes, sockets, dangling links, links to directories elsewhere and
//! names that are not UTF-8 or not allowed in a tree are refused.

use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use store_format::limits;
use store_format::tree::check_name;

use crate::error::{Error, IoContext, Kind, Result};
use crate::flow::ignored::Rules;
use crate::flow::output::is_unfinished;
use crate::progress::{Note, Progress};

/// One thing under the scanned path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// Relative to the scanned directory, `/` between components.
    pub path: String,
    /// What it is.
    pub what: What,
}

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A regular file.
    File {
        /// Where its bytes are read from: a followed link's target, else the path itself.
        source: PathBuf,
        /// Its state when it was scanned.
        stat: Stat,
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A symbolic link that stays one.
    Symlink(String),
    /// A directory without entries.
    EmptyDirectory,
}

impl What {
    /// Bytes of a file; nothing for what is no file.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        match self {
            Self::File { stat, .. } => stat.bytes,
            Self::Symlink(_) | Self::EmptyDirectory => 0,
        }
    }
}

/// What tells that a file has not been touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The device.
    pub device: u64,
    /// The inode.
    pub inode: u64,
    /// The length.
    pub bytes: u64,
    /// The time of the last change of content, in nanoseconds since 1970.
    pub modified_ns: i128,
    /// The time of the last change of anything, in nanoseconds since 1970.
    pub changed_ns: i128,
}

impl Stat {
    /// The state of a file.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Everything under `path`, ascending by path as trees have it. A path to a file is a
/// directory with that one file.
///
/// # Errors
/// [`Kind::NotFound`] for a path that is not there, [`Kind::Usage`] for things that cannot be
/// stored, and failures of the disk.
pub fn scan(path: &Path, progress: &dyn Progress) -> Result<Vec<Scanned>> {
    let metadata = std::fs::metadata(path).at("read", path)?;
    let mut scan = Scan {
        root: path.canonicalize().at("read", path)?,
        found: vec![],
        rules: Rules::default(),
        progress,
    };
    if metadata.is_dir() {
        scan.directory(path, "", 0)?;
    } else {
        let name = path
            .file_name()
            .or_else(|| scan.root.file_name())
            .unwrap_or_default();
        let name = text_of(name, path)?.to_owned();
        scan.entry(path, name, &metadata, 0)?;
    }
    warn_of_collisions(&scan.found, progress);
    Ok(scan.found)
}

struct Scan<'p> {
    root: PathBuf,
    found: Vec<Scanned>,
    rules: Rules,
    progress: &'p dyn Progress,
}

impl Scan<'_> {
    fn directory(&mut self, directory: &Path, relative: &str, depth: usize) -> Result<()> {
        self.progress.check()?;
        if depth > limits::TREE_DEPTH_MAX {
            return Err(refused(
                directory,
                "directories lie too deep within each other",
            ));
        }
        self.rules.enter(directory)?;
        let mut names = Vec::new();
        let mut left_out = false;
        for entry in std::fs::read_dir(directory).at("list", directory)? {
            let entry = entry.at("list", directory)?;
            let name = entry.file_name();
            let bytes = name.as_bytes();
            if bytes == b".git" || bytes == b".sparse" || is_unfinished(bytes) {
                continue;
            }
            let is_dir = entry.file_type().at("read", entry.path())?.is_dir();
            if self.rules.leave_out(&entry.path(), is_dir) {
                left_out = true;
                continue;
            }
            names.push(text_of(&name, &entry.path())?.to_owned());
        }
        if names.is_empty() && !left_out && !relative.is_empty() {
            self.found.push(Scanned {
                path: relative.into(),
                what: What::EmptyDirectory,
            });
        }
        names.sort_unstable();
        for name in names {
            let path = directory.join(&name);
            let relative = if relative.is_empty() {
                name
            } else {
                format!("{relative}/{name}")
            };
            let metadata = std::fs::symlink_metadata(&path).at("read", &path)?;
            self.entry(&path, relative, &metadata, depth)?;
        }
        self.rules.leave();
        Ok(())
    }

    fn entry(
        &mut self,
        path: &Path,
        relative: String,
        stat: &Metadata,
        depth: usize,
    ) -> Result<()> {
        let kind = stat.file_type();
        let what = if kind.is_dir() {
            return self.directory(path, &relative, depth + 1);
        } else if kind.is_symlink() {
            self.symlink(path)?
        } else if kind.is_file() {
            file(path.to_owned(), stat)
        } else {
            let name = [
                (kind.is_fifo(), "a pipe"),
                (kind.is_socket(), "a socket"),
                (kind.is_block_device() || kind.is_char_device(), "a device"),
            ];
            let name = name
                .iter()
                .find(|(is, _)| *is)
                .map_or("of an unknown kind", |(_, n)| n);
            return Err(refused(path, &format!("it is {name}")));
        };
        self.found.push(Scanned {
            path: relative,
            what,
        });
        Ok(())
    }

    fn symlink(&self, path: &Path) -> Result<What> {
        let target = std::fs::read_link(path).at("read the link", path)?;
        let Ok(resolved) = path.canonicalize() else {
            return Err(refused(path, "the link leads nowhere"));
        };
        if resolved.starts_with(&self.root) && target.is_relative() {
            let target = text_of(target.as_os_str(), path)?;
            if target.len() > limits::SYMLINK_BYTES_MAX {
                return Err(refused(path, "the link's target is too long"));
            }
            return Ok(What::Symlink(target.to_owned()));
        }
        let metadata = std::fs::metadata(&resolved).at("read", &resolved)?;
        if !metadata.is_file() {
            return Err(refused(
                path,
                "the link leads to a directory outside of what is stored",
            ));
        }
        Ok(file(resolved, &metadata))
    }
}

fn file(source: PathBuf, metadata: &Metadata) -> What {
    let executable = metadata.mode() & 0o100 != 0;
    What::File {
        source,
        stat: Stat::of(metadata),
        executable,
    }
}

/// A name as text, if a tree may hold it.
fn text_of<'a>(name: &'a std::ffi::OsStr, path: &Path) -> Result<&'a str> {
    let Some(text) = name.to_str() else {
        let hex: String = name
            .as_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        return Err(refused(
            path,
            &format!("its name is not UTF-8 (bytes {hex})"),
        ));
    };
    // Link targets come here too; only names within a tree have rules.
    if path.file_name() == Some(name) {
        check_name(text).map_err(|rule| refused(path, &rule.to_string()))?;
    }
    Ok(text)
}

fn refused(path: &Path, why: &str) -> Error {
    Error::new(
        Kind::Usage,
        format!("cannot store '{}': {why}", path.display()),
    )
    .hint("move it away, or leave it out by a line in .sparseignore")
}

/// Two names that some file systems take for one are kept; the person is told.
fn warn_of_collisions(found: &[Scanned], progress: &dyn Progress) {
    let mut folded: Vec<_> = found
        .iter()
        .map(|one| (one.path.to_lowercase(), &one.path))
        .collect();
    folded.sort_unstable();
    for pair in folded.windows(2) {
        if let [(a, first), (b, second)] = pair
            && a == b
        {
            let text = format!("'{first}' and '{second}' are one name on some file systems");
            progress.note(Note::Warning, &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn scanned(path: &Path) -> Result<Vec<(String, char)>> {
        let letter = |what: &What| match what {
            What::File {
                executable: false, ..
            } => 'f',
            What::File {
                executable: true, ..
            } => 'x',
            What::Symlink(_) => 'l',
            What::EmptyDirectory => 'd',
        };
        Ok(scan(path, &Silent)?
            .into_iter()
            .map(|one| (one.path, letter(&one.what)))
            .collect())
    }

    #[test]
    fn links_within_stay_links_and_links_out_become_files() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("snapshot");
        fs::create_dir_all(root.join("empty")).unwrap();
        fs::create_dir_all(root.join(".git")).unwrap();
        fs::write(root.join(".git/x"), "").unwrap();
        fs::write(outer.path().join("blob"), "x").unwrap();
        fs::write(root.join("b"), "x").unwrap();
        symlink("b", root.join("a")).unwrap();
        symlink("../blob", root.join("c")).unwrap();
        let expected = [("a", 'l'), ("b", 'f'), ("c", 'f'), ("empty", 'd')];
        assert_eq!(
            scanned(&root).unwrap(),
            expected.map(|(name, kind)| (name.to_owned(), kind))
        );
        assert_eq!(scanned(&root.join("b")).unwrap(), [("b".to_owned(), 'f')]);
    }

    #[test]
    fn what_cannot_be_stored_is_refused_by_name() {
        let refused = |make: &dyn Fn(&Path)| {
            let root = tempfile::tempdir().unwrap();
            make(root.path());
            let error = scanned(root.path()).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{error}");
            error.to_string()
        };
        assert!(refused(&|root| symlink("nowhere", root.join("a")).unwrap()).contains("nowhere"));
        assert!(refused(&|root| symlink("/", root.join("a")).unwrap()).contains("outside"));
        assert!(refused(&|root| fs::write(root.join("a\\b"), "").unwrap()).contains('\\'));
        let name = std::ffi::OsStr::from_bytes(b"\xff");
        assert!(refused(&|root| fs::write(root.join(name), "").unwrap()).contains("ff"));
        let pipe = |root: &Path| {
            let status = std::process::Command::new("mkfifo")
                .arg(root.join("p"))
                .status();
            assert!(status.unwrap().success());
        };
        assert!(refused(&pipe).contains("pipe"));
    }
}
