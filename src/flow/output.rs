//! Files that leave the store: written beside their target, then renamed over it.
//!
//! May use: `error`, `bytes`. Every step opens one component of a path below an open directory and
//! follows no link, so nothing is ever written outside of the target, whatever stands there.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};

use crate::bytes::FileBytes;
use crate::error::{Error, IoContext, Kind, Result};

/// How unfinished files begin; digits of a hash follow.
const UNFINISHED: &str = ".sparse-tmp-";

/// The digits of an unfinished file's name.
const UNFINISHED_DIGITS: usize = 16;

/// Bytes of a file after which the disk begins to write.
const WRITE_OUT_BYTES: u64 = 8 << 20;

/// The name under which a file is written until it is whole: one for each target, so that an
/// interrupted checkout leaves no more than it did.
fn unfinished(name: &str) -> String {
    let hash = blake3::hash(name.as_bytes()).to_hex();
    format!("{UNFINISHED}{:.UNFINISHED_DIGITS$}", hash)
}

/// Whether a name is that of an unfinished file, which is removed when it is met again. What a
/// person may have named so is not.
#[must_use]
pub fn is_unfinished(name: &[u8]) -> bool {
    let digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    name.strip_prefix(UNFINISHED.as_bytes())
        .is_some_and(|rest| rest.len() == UNFINISHED_DIGITS && rest.iter().all(digit))
}

/// An open directory below the target of a checkout.
pub struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

/// What stands at a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Nothing,
    /// A regular file of this length, and whether its owner may execute it.
    File(u64, bool),
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Anything else.
    Other,
}

impl Directory {
    /// Opens the target, making it where it is not there. The target itself may be reached
    /// through links: the person named it.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn target(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path).at("make the directory", path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::open(path, flags, Mode::empty())
            .map_err(io::Error::from)
            .at("open", path)?;
        Ok(Self {
            fd,
            path: path.to_owned(),
        })
    }

    /// The same directory once more.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn again(&self) -> Result<Self> {
        let fd = self.fd.try_clone().at("open", &self.path)?;
        Ok(Self {
            fd,
            path: self.path.clone(),
        })
    }

    /// Opens a directory in this one, making it where it is not there.
    ///
    /// # Errors
    /// `Conflict` where a link or a file stands there.
    pub fn child(&self, name: &str) -> Result<Self> {
        let path = self.path.join(name);
        match fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(Error::io("make the directory", &path, &error.into())),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path }),
            Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => Err(Error::conflict(
                format!("'{}' is not a directory", path.display()),
            )
            .hint("move it away, or check out elsewhere")),
            Err(error) => Err(Error::io("open", &path, &error.into())),
        }
    }

    /// What stands at a name.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn look(&self, name: &str) -> Result<Standing> {
        let stat = match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(rustix::io::Errno::NOENT) => return Ok(Standing::Nothing),
            Err(error) => return Err(Error::io("look at", &self.path.join(name), &error.into())),
        };
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let bytes = u64::try_from(stat.st_size).unwrap_or(0);
                Standing::File(bytes, stat.st_mode & 0o100 != 0)
            }
            FileType::Directory => Standing::Directory,
            FileType::Symlink => Standing::Symlink,
            _ => Standing::Other,
        })
    }

    /// The names in the directory, in no order; what is not UTF-8 is made so and fits no path.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn names(&self) -> Result<Vec<String>> {
        let entries = fs::Dir::read_from(&self.fd).map_err(io::Error::from);
        let mut names = Vec::new();
        for entry in entries.at("list", &self.path)? {
            let entry = entry.map_err(io::Error::from).at("list", &self.path)?;
            let name = entry.file_name().to_string_lossy();
            if name != "." && name != ".." {
                names.push(name.into_owned());
            }
        }
        Ok(names)
    }

    /// Opens a file for reading, following no link.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn open(&self, name: &str) -> Result<FileBytes> {
        let path = self.path.join(name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(&self.fd, name, flags, Mode::empty()).map_err(io::Error::from);
        FileBytes::from_file(File::from(fd.at("open", &path)?), path)
    }

    /// Begins a file that will stand at a name.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn begin(&self, name: &str, executable: bool) -> Result<Unfinished<'_>> {
        let temporary = unfinished(name);
        let path = self.path.join(name);
        let _ = fs::unlinkat(&self.fd, &temporary, AtFlags::empty());
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(if executable { 0o777 } else { 0o666 });
        let fd = fs::openat(&self.fd, &temporary, flags, mode).map_err(io::Error::from);
        let file = File::from(fd.at("write", &path)?);
        Ok(Unfinished {
            directory: self,
            temporary,
            name: name.to_owned(),
            file,
            path,
            written_bytes: 0,
            begun_bytes: 0,
            kept: false,
        })
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn symlink(&self, name: &str, target: &str) -> Result<()> {
        fs::symlinkat(target, &self.fd, name)
            .map_err(io::Error::from)
            .at("make the link", self.path.join(name))
    }

    /// Reads a symbolic link.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn read_link(&self, name: &str) -> Result<String> {
        let target = fs::readlinkat(&self.fd, name, Vec::new()).map_err(io::Error::from);
        Ok(target
            .at("read the link", self.path.join(name))?
            .to_string_lossy()
            .into_owned())
    }

    /// Removes a file or a link.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn remove(&self, name: &str) -> Result<()> {
        fs::unlinkat(&self.fd, name, AtFlags::empty())
            .map_err(io::Error::from)
            .at("remove", self.path.join(name))
    }

    /// Removes a directory if it is empty.
    pub fn remove_if_empty(&self, name: &str) {
        let _ = fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR);
    }

    /// Sets whether the owner may execute a file.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn set_executable(&self, name: &str, executable: bool) -> Result<()> {
        let file = self.open(name)?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata()?.permissions());
        // As a umask would: whoever may read may execute.
        let mode = if executable {
            mode | (mode & 0o444) >> 2
        } else {
            mode & !0o111
        };
        file.set_mode(mode)
    }
}

/// A file that does not stand at its name yet; dropped, it is removed.
pub struct Unfinished<'d> {
    directory: &'d Directory,
    temporary: String,
    name: String,
    file: File,
    path: PathBuf,
    written_bytes: u64,
    /// Up to where the system was told to write to the disk.
    begun_bytes: u64,
    kept: bool,
}

impl Unfinished<'_> {
    /// Adds bytes.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        io::Write::write_all(&mut self.file, bytes).at("write", &self.path)?;
        self.written_bytes += bytes.len() as u64;
        if self.written_bytes - self.begun_bytes >= WRITE_OUT_BYTES {
            self.write_out();
        }
        Ok(())
    }

    /// Lets the disk begin with what was added, so that little is left to wait for at the end.
    fn write_out(&mut self) {
        #[cfg(target_os = "linux")]
        {
            // Linux starts to write dirty pages that it is told nobody needs, and keeps them until
            // they are written. Only speed depends on it.
            let bytes = std::num::NonZeroU64::new(self.written_bytes - self.begun_bytes);
            let _ = fs::fadvise(&self.file, self.begun_bytes, bytes, fs::Advice::DontNeed);
        }
        self.begun_bytes = self.written_bytes;
    }

    /// Makes the file durable and gives it its name, over whatever stands there.
    ///
    /// # Errors
    /// `Conflict` where a directory stands there; whatever the system refuses.
    pub fn finish(mut self) -> Result<()> {
        // Renaming a file that is not durable can leave an empty one after a power loss.
        self.file.sync_data().at("synchronise", &self.path)?;
        match fs::renameat(
            &self.directory.fd,
            &self.temporary,
            &self.directory.fd,
            &self.name,
        ) {
            Ok(()) => {}
            Err(rustix::io::Errno::ISDIR) => {
                return Err(Error::new(
                    Kind::Conflict,
                    format!("a directory stands at '{}'", self.path.display()),
                )
                .hint("move it away, or check out elsewhere"));
            }
            Err(error) => return Err(Error::io("name", &self.path, &error.into())),
        }
        self.kept = true;
        Ok(())
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::unlinkat(&self.directory.fd, &self.temporary, AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_the_way_is_not_followed() {
        let outer = tempfile::tempdir().unwrap();
        let target = outer.path().join("target");
        let directory = Directory::target(&target).unwrap();
        std::os::unix::fs::symlink(outer.path(), target.join("out")).unwrap();
        let error = directory.child("out").err().unwrap();
        assert_eq!(error.kind(), Kind::Conflict);
        std::os::unix::fs::symlink(outer.path().join("victim"), target.join("file")).unwrap();
        let mut file = directory.begin("file", false).unwrap();
        file.append(b"x").unwrap();
        file.finish().unwrap();
        assert!(!outer.path().join("victim").exists());
        assert_eq!(directory.look("file").unwrap(), Standing::File(1, false));
    }

    #[test]
    fn unfinished_files_are_told_from_those_of_a_person() {
        assert!(is_unfinished(unfinished("model.safetensors").as_bytes()));
        for name in [
            ".sparse-tmp-notes",
            ".sparse-tmp-0123456789abcde",
            ".sparse-tmp-0123456789abcdef0",
            ".sparse-tmp-0123456789ABCDEF",
            "x.sparse-tmp-0123456789abcdef",
        ] {
            assert!(!is_unfinished(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_file_that_is_not_finished_leaves_nothing() {
        let target = tempfile::tempdir().unwrap();
        let directory = Directory::target(target.path()).unwrap();
        drop(directory.begin("a", false).unwrap());
        assert_eq!(std::fs::read_dir(target.path()).unwrap().count(), 0);
    }
}
