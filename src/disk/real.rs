//! The store's directory on a disk of this machine.
//!
//! May use: `disk`, `disk::mapped`. The only code that writes files of a store. Must
//! never follow a symbolic link at the end of a path, nor write to a file that has a name in use.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{self, AtFlags, FallocateFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::disk::mapped::Mapped;
use crate::disk::{Disk, Draft, Opened};

const DRAFT_MODE: u32 = 0o600;
const PUBLISHED_MODE: u32 = 0o444;
const DIR_MODE: u32 = 0o755;

/// A directory, held open, so that renaming it from outside moves the store with it.
pub struct RealDisk {
    root: OwnedFd,
}

impl RealDisk {
    /// Opens a directory that exists.
    ///
    /// # Errors
    /// `NotFound`; `NotADirectory`; whatever the system refuses.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            root: fs::open(dir, flags, Mode::empty())?,
        })
    }

    /// Makes the directory durably, with the parents it lacks, and opens it.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn create(dir: &Path) -> io::Result<Self> {
        make_durably(dir)?;
        Self::open(dir)
    }

    fn open_dir(&self, dir: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(fs::openat(&self.root, at(dir), flags, Mode::empty())?)
    }

    fn open_file(&self, path: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(fs::openat(&self.root, path, flags, Mode::empty())?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is not a file",
            ));
        }
        Ok(file)
    }
}

impl Disk for RealDisk {
    fn create(&self, path: &str) -> io::Result<Box<dyn Draft>> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(&self.root, path, flags, Mode::from_raw_mode(DRAFT_MODE))?;
        Ok(Box::new(RealDraft {
            file: File::from(file),
            written_bytes: 0,
            reserved_bytes: 0,
        }))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn Opened>> {
        let file = self.open_file(path)?;
        let bytes = file.metadata()?.len();
        Ok(Arc::new(RealOpened { file, bytes }))
    }

    fn map(&self, path: &str) -> io::Result<Mapped> {
        Mapped::of_file(&self.open_file(path)?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let flags = RenameFlags::NOREPLACE;
        match fs::renameat_with(&self.root, from, &self.root, to, flags) {
            // Some network and overlay file systems know no rename that does not replace.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                self.link(from, to)?;
                self.remove(from)
            }
            answer => Ok(answer?),
        }
    }

    fn replace(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(fs::renameat(&self.root, from, &self.root, to)?)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        match fs::linkat(&self.root, from, &self.root, to, AtFlags::empty()) {
            // exFAT and some FUSE systems know no second name; a rename that does not replace
            // creates the name just as atomically, and nobody needs the first one afterwards.
            Err(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(fs::renameat_with(
                &self.root,
                from,
                &self.root,
                to,
                RenameFlags::NOREPLACE,
            )?),
            answer => Ok(answer?),
        }
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        Ok(fs::unlinkat(&self.root, path, AtFlags::empty())?)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        // Opened anew for each listing: a network mount refreshes its names on open only.
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(self.open_dir(dir)?)? {
            let entry = entry?;
            // A name that is not text is none of ours.
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            // `.nfs*` are files that somebody still reads after their removal.
            if name != "." && name != ".." && !name.starts_with(".nfs") {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        Ok(fs::mkdirat(&self.root, dir, Mode::from_raw_mode(DIR_MODE))?)
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        Ok(fs::unlinkat(&self.root, dir, AtFlags::REMOVEDIR)?)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        Ok(fs::fsync(self.open_dir(dir)?)?)
    }

    fn file_bytes(&self, path: &str) -> io::Result<Option<u64>> {
        match fs::statat(&self.root, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                Ok(u64::try_from(stat.st_size).ok())
            }
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = fs::fstatvfs(&self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

struct RealDraft {
    file: File,
    written_bytes: u64,
    reserved_bytes: u64,
}

impl Draft for RealDraft {
    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        // A failure may have reserved a part.
        self.reserved_bytes = self.reserved_bytes.max(bytes);
        match fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, bytes) {
            Err(Errno::NOSPC) => Err(Errno::NOSPC.into()),
            // A system that cannot reserve: the writes will tell.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.written_bytes += bytes.len() as u64;
        Ok(())
    }

    fn sync(self: Box<Self>) -> io::Result<()> {
        if self.reserved_bytes > self.written_bytes {
            self.file.set_len(self.written_bytes)?; // gives back the room that was not needed
        }
        fs::fchmod(&self.file, Mode::from_raw_mode(PUBLISHED_MODE))?;
        self.file.sync_all()
    }
}

struct RealOpened {
    file: File,
    bytes: u64,
}

impl Opened for RealOpened {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, start: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, start)
    }
}

/// The system's word for a directory of the store.
fn at(dir: &str) -> &str {
    if dir.is_empty() { "." } else { dir }
}

fn make_durably(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_durably(parent)?;
    match fs::mkdir(dir, Mode::from_raw_mode(DIR_MODE)) {
        Ok(()) | Err(Errno::EXIST) => File::open(parent)?.sync_all(),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn disk() -> (tempfile::TempDir, RealDisk) {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::create(&dir.path().join("a/b")).unwrap();
        (dir, disk)
    }

    fn write(disk: &RealDisk, path: &str, bytes: &[u8]) {
        let mut draft = disk.create(path).unwrap();
        draft.reserve(1 << 16).unwrap();
        draft.append(bytes).unwrap();
        draft.sync().unwrap();
    }

    #[test]
    fn a_written_file_is_read_only_and_has_its_own_length() {
        let (dir, disk) = disk();
        write(&disk, "x", b"hello");
        let meta = std::fs::metadata(dir.path().join("a/b/x")).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, PUBLISHED_MODE);
        assert_eq!(meta.len(), 5);
        let mut back = [0; 4];
        disk.open("x").unwrap().read_at(1, &mut back).unwrap();
        assert_eq!(&back, b"ello");
        let past = disk.open("x").unwrap().read_at(2, &mut back).unwrap_err();
        assert_eq!(past.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(&*disk.map("x").unwrap(), b"hello");
    }

    #[test]
    fn no_name_is_taken_twice() {
        let (_dir, disk) = disk();
        write(&disk, "x", b"1");
        write(&disk, "y", b"2");
        for error in [
            disk.create("x").err().unwrap(),
            disk.rename("y", "x").unwrap_err(),
            disk.link("y", "x").unwrap_err(),
        ] {
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        }
        disk.rename("y", "z").unwrap();
        disk.replace("z", "x").unwrap();
        assert_eq!(&*disk.map("x").unwrap(), b"2");
        assert_eq!(disk.list("").unwrap(), ["x"]);
    }

    #[test]
    fn links_are_not_followed() {
        let (dir, disk) = disk();
        symlink("/etc/hostname", dir.path().join("a/b/l")).unwrap();
        assert!(disk.open("l").is_err());
        assert!(disk.create("l").is_err());
        assert_eq!(disk.file_bytes("l").unwrap(), None);
        symlink("/etc", dir.path().join("a/b/d")).unwrap();
        assert!(disk.list("d").is_err());
    }

    #[test]
    fn directories_come_and_go() {
        let (_dir, disk) = disk();
        disk.make_dir("d").unwrap();
        let again = disk.make_dir("d").unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        write(&disk, "d/x", b"");
        disk.sync_dir("d").unwrap();
        disk.sync_dir("").unwrap();
        assert!(disk.remove_dir("d").is_err());
        disk.remove("d/x").unwrap();
        disk.remove_dir("d").unwrap();
        let gone = disk.list("d").unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        assert!(disk.free_bytes().unwrap() > 0);
    }
}
