//! A remote in a directory of this machine or of a mounted disk, laid out as a store.
//!
//! May use: `error`, `bytes`, `disk`, `remote`. What it puts is durable with its name before it
//! is acknowledged, as the store's own files are.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use crate::bytes::ReadAt;
use crate::disk::real::RealDisk;
use crate::disk::{Disk, Fill, parent};
use crate::error::{Error, IoContext, Kind, Result};
use crate::remote::{Created, Got, LIST_MAX, Listed, Remote, Span, check_path, check_prefix};

/// Where unfinished files lie; the store's gc removes what is left there.
const TMP: &str = "tmp";
/// Bytes that are copied at once.
const PIECE_BYTES: u64 = 1 << 20;
/// A collection of the store may take an unfinished file for a dead writer's.
const TRIES: usize = 3;

/// A directory.
pub struct DirectoryRemote {
    disk: Arc<dyn Disk>,
    fill: Fill,
}

impl DirectoryRemote {
    /// Takes a directory that exists.
    ///
    /// # Errors
    /// `NotFound`; whatever the system refuses.
    pub fn open(dir: &Path, fill: Fill) -> Result<Self> {
        let disk = RealDisk::open(dir).at("open", dir)?;
        Ok(Self::on(Arc::new(disk), fill))
    }

    /// As [`DirectoryRemote::open`], on any disk.
    #[must_use]
    pub fn on(disk: Arc<dyn Disk>, fill: Fill) -> Self {
        Self { disk, fill }
    }

    /// Writes a body durably under a name of its own and gives it its final one.
    fn put_as(
        &self,
        path: &str,
        body: &dyn ReadAt,
        name: impl Fn(&str) -> std::io::Result<()>,
    ) -> Result<Created> {
        check_path(path)?;
        if path.split('/').next() == Some(TMP) {
            return Err(Error::usage(format!("'{path}' is for unfinished files")));
        }
        let mut swept = Error::not_found(TMP);
        for _ in 0..TRIES {
            match self.put_once(path, body, &name) {
                Err(error) if error.kind() == Kind::NotFound => swept = error,
                answer => return answer,
            }
        }
        Err(swept)
    }

    fn put_once(
        &self,
        path: &str,
        body: &dyn ReadAt,
        name: &impl Fn(&str) -> std::io::Result<()>,
    ) -> Result<Created> {
        let mut random = [0; 16];
        (self.fill)(&mut random).at("draw random bytes from", "the system")?;
        let temp = format!("{TMP}/{:032x}", u128::from_le_bytes(random));
        self.ensure_dirs(&temp)?;
        self.write(&temp, body)?;
        self.ensure_dirs(path)?;
        let created = match name(&temp) {
            Ok(()) => Created::New,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Created::Taken,
            Err(error) => {
                let _ = self.disk.remove(&temp);
                return Err(error).at("name", path);
            }
        };
        let _ = self.disk.remove(&temp);
        // Also where the name was taken: whoever made it may not have come so far.
        self.sync_dirs(path)?;
        Ok(created)
    }

    fn write(&self, temp: &str, body: &dyn ReadAt) -> Result<()> {
        let mut draft = self.disk.create(temp).at("create", temp)?;
        draft.reserve(body.len()).at("reserve room for", temp)?;
        let mut start = 0;
        while start < body.len() {
            let bytes = PIECE_BYTES.min(body.len() - start);
            let piece = body.read_vec(start, usize::try_from(bytes).unwrap_or(usize::MAX))?;
            draft.append(&piece).at("write to", temp)?;
            start += bytes;
        }
        draft.sync().at("synchronise", temp)
    }

    fn ensure_dirs(&self, path: &str) -> Result<()> {
        for (at, _) in path.match_indices('/') {
            let dir = path.get(..at).unwrap_or_default();
            match self.disk.make_dir(dir) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                answer => answer.at("make the directory", dir)?,
            }
        }
        Ok(())
    }

    /// Makes a name durable, and those of the directories above it.
    fn sync_dirs(&self, path: &str) -> Result<()> {
        let mut dir = path;
        while !dir.is_empty() {
            dir = parent(dir);
            self.disk.sync_dir(dir).at("synchronise", dir)?;
        }
        Ok(())
    }

    /// Adds the files of a directory that come after `after`, ascending, until there are enough.
    fn walk(&self, dir: &str, after: &str, found: &mut Vec<Listed>) -> Result<()> {
        let names = match self.disk.list(dir) {
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Ok(());
            }
            answer => answer.at("list", dir)?,
        };
        let mut children = Vec::new();
        for name in names {
            let path = if dir.is_empty() {
                name
            } else {
                format!("{dir}/{name}")
            };
            if check_path(&path).is_err() || path == TMP {
                continue;
            }
            // Directories stand where their files do: "a/x" comes after "a-b".
            match self.disk.file_bytes(&path).at("look at", &path)? {
                Some(bytes) => children.push((path, Some(bytes))),
                None => children.push((format!("{path}/"), None)),
            }
        }
        children.sort_unstable();
        for (path, bytes) in children {
            if found.len() >= LIST_MAX {
                break;
            }
            match bytes {
                Some(bytes) if path.as_str() > after => found.push(Listed { path, bytes }),
                Some(_) => {}
                // All of it comes before, unless `after` lies within.
                None if path.as_str() < after && !after.starts_with(&path) => {}
                None => self.walk(path.trim_end_matches('/'), after, found)?,
            }
        }
        Ok(())
    }
}

impl Remote for DirectoryRemote {
    fn get(&self, path: &str, span: Span) -> Result<Got> {
        check_path(path)?;
        let file = match self.disk.open(path) {
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                return Err(Error::not_found(format!("'{path}' is not there")));
            }
            answer => answer.at("open", path)?,
        };
        let total = file.bytes();
        let (start, bytes) = span.within(total)?;
        let mut part = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
        file.read_at(start, &mut part).at("read", path)?;
        Ok(Got { bytes: part, total })
    }

    fn put_new(&self, path: &str, body: &dyn ReadAt) -> Result<Created> {
        self.put_as(path, body, |temp| self.disk.rename(temp, path))
    }

    fn put(&self, path: &str, body: &dyn ReadAt) -> Result<()> {
        self.put_as(path, body, |temp| self.disk.replace(temp, path))
            .map(|_| ())
    }

    fn list(&self, prefix: &str, after: &str) -> Result<Vec<Listed>> {
        check_prefix(prefix)?;
        let mut found = Vec::new();
        self.walk(prefix.trim_end_matches('/'), after, &mut found)?;
        Ok(found)
    }

    fn delete(&self, path: &str) -> Result<()> {
        check_path(path)?;
        match self.disk.remove(path) {
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Ok(());
            }
            answer => answer.at("remove", path)?,
        }
        let dir = parent(path);
        self.disk.sync_dir(dir).at("synchronise", dir)
    }
}
