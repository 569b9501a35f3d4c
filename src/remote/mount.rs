//! A remote as the directory of a store, so that the store's own code runs on it: the same
//! tables, leases and checks whatever carries the files.
//!
//! May use: `error`, `bytes`, `disk`, `remote`. Unfinished files are held in memory and are
//! nobody else's; a name is given by one of the five verbs. Every doubt whether a file was put
//! is answered by reading back.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::bytes::ReadAt;
use crate::disk::mapped::Mapped;
use crate::disk::{Disk, Draft, Opened};
use crate::error::{Error, Kind, Result};
use crate::remote::{Created, Listed, Remote, Span, get_exact, get_whole, list_all, put_own};

/// Files below this are unfinished: a store has them here, on this machine.
const TMP: &str = "tmp/";
/// The longest index file that is taken.
const INDEX_BYTES_MAX: u64 = 4 << 30;
/// Bytes that are read ahead at first; twice as many each time that reading goes on behind them.
const AHEAD_BYTES_MIN: u64 = 64 << 10;
const AHEAD_BYTES_MAX: u64 = 8 << 20;
/// Files up to this are compared whole when it is doubtful whose they are.
const COMPARED_BYTES_MAX: u64 = 1 << 20;
/// How often a call is made that fails for lack of a connection.
const TRIES: usize = 4;

type Unfinished = Arc<Mutex<Vec<u8>>>;

/// A remote, used as a disk.
pub struct RemoteDisk {
    remote: Arc<dyn Remote>,
    unfinished: Mutex<HashMap<String, Unfinished>>,
    /// The packs as they were listed last: a view lists them all, then each shard.
    packs: Mutex<Vec<Listed>>,
}

impl RemoteDisk {
    /// Uses a remote.
    #[must_use]
    pub fn new(remote: Arc<dyn Remote>) -> Self {
        Self {
            remote,
            unfinished: Mutex::default(),
            packs: Mutex::default(),
        }
    }

    fn unfinished(&self) -> MutexGuard<'_, HashMap<String, Unfinished>> {
        lock(&self.unfinished)
    }

    fn body(&self, path: &str) -> io::Result<Unfinished> {
        let found = self.unfinished().get(path).cloned();
        found.ok_or_else(|| io::Error::new(ErrorKind::NotFound, "no unfinished file"))
    }

    /// Puts a finished body under a name that must be free.
    fn put_new(&self, from: &str, to: &str) -> io::Result<()> {
        let body = self.body(from)?;
        let body = lock(&body);
        match again(|| self.put_sure(to, &body)).map_err(io_error)? {
            Created::New => Ok(()),
            Created::Taken => Err(ErrorKind::AlreadyExists.into()),
        }
    }

    /// A name that holds the very same bytes is ours: each body is named by its bytes or holds
    /// something random.
    fn put_sure(&self, to: &str, body: &[u8]) -> Result<Created> {
        if body.len() as u64 <= COMPARED_BYTES_MAX {
            return put_own(&*self.remote, to, body);
        }
        match self.remote.put_new(to, &body)? {
            Created::New => Ok(Created::New),
            Created::Taken => {
                // A pack's trailer checks its table, and its name the rest.
                let end = self.remote.get(to, Span::Last(COMPARED_BYTES_MAX))?;
                let same = end.total == body.len() as u64 && body.ends_with(&end.bytes);
                Ok(if same { Created::New } else { Created::Taken })
            }
        }
    }

    fn children(&self, dir: &str) -> Result<Vec<String>> {
        let prefix = format!("{dir}/");
        let names = |files: &[Listed]| {
            let below = files.iter().filter_map(|file| {
                let rest = file.path.strip_prefix(&prefix)?;
                rest.split('/').next().map(str::to_owned)
            });
            below.collect::<BTreeSet<_>>().into_iter().collect()
        };
        if dir.starts_with("packs/") {
            return Ok(names(&lock(&self.packs)));
        }
        let files = again(|| list_all(&*self.remote, &prefix))?;
        let found = names(&files);
        if dir == "packs" {
            *lock(&self.packs) = files;
        }
        Ok(found)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does again what a bad line broke; only for what may be done twice.
fn again<T>(work: impl Fn() -> Result<T>) -> Result<T> {
    let mut tries = 1;
    loop {
        match work() {
            Err(error) if error.kind() == Kind::Unreachable && tries < TRIES => tries += 1,
            answer => return answer,
        }
    }
}

/// The failure as a disk reports it; its kind is found again by [`Error::io`].
fn io_error(error: Error) -> io::Error {
    let kind = match error.kind() {
        Kind::NotFound => ErrorKind::NotFound,
        Kind::Forbidden => ErrorKind::PermissionDenied,
        Kind::Full => ErrorKind::StorageFull,
        Kind::Corrupt => ErrorKind::InvalidData,
        Kind::Usage
        | Kind::Conflict
        | Kind::Unreachable
        | Kind::Unsupported
        | Kind::Io
        | Kind::Interrupted => ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

impl Disk for RemoteDisk {
    fn create(&self, path: &str) -> io::Result<Box<dyn Draft>> {
        if !path.starts_with(TMP) {
            return Err(ErrorKind::Unsupported.into());
        }
        let mut unfinished = self.unfinished();
        if unfinished.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let bytes = Unfinished::default();
        unfinished.insert(path.to_owned(), Arc::clone(&bytes));
        Ok(Box::new(MemoryDraft(bytes)))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn Opened>> {
        if path.starts_with(TMP) {
            let body = self.body(path)?;
            let bytes = lock(&body).len() as u64;
            return Ok(Arc::new(OpenDraft { body, bytes }));
        }
        let first = Span::Part {
            start: 0,
            bytes: AHEAD_BYTES_MIN,
        };
        let got = again(|| self.remote.get(path, first)).map_err(io_error)?;
        Ok(Arc::new(OpenRemote {
            remote: Arc::clone(&self.remote),
            path: path.to_owned(),
            total: got.total,
            ahead: Mutex::new(Ahead {
                start: 0,
                bytes: got.bytes,
                next_bytes: AHEAD_BYTES_MIN,
            }),
        }))
    }

    fn map(&self, path: &str) -> io::Result<Mapped> {
        if path.starts_with(TMP) {
            return Ok(Mapped::of_bytes(lock(&*self.body(path)?).clone()));
        }
        let bytes = again(|| get_whole(&*self.remote, path, INDEX_BYTES_MAX)).map_err(io_error)?;
        bytes
            .map(Mapped::of_bytes)
            .ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.put_new(from, to)?;
        self.unfinished().remove(from);
        Ok(())
    }

    fn replace(&self, from: &str, to: &str) -> io::Result<()> {
        let body = self.body(from)?;
        again(|| self.remote.put(to, &lock(&body).as_slice())).map_err(io_error)?;
        self.unfinished().remove(from);
        Ok(())
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.put_new(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        if path.starts_with(TMP) {
            let removed = self.unfinished().remove(path);
            return removed.map_or_else(|| Err(ErrorKind::NotFound.into()), |_| Ok(()));
        }
        again(|| self.remote.delete(path)).map_err(io_error)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let prefix = format!("{dir}/");
        if prefix.starts_with(TMP) {
            let unfinished = self.unfinished();
            let names = unfinished
                .keys()
                .filter_map(|path| path.strip_prefix(&prefix));
            let mut names: Vec<_> = names.map(str::to_owned).collect();
            names.sort_unstable();
            return Ok(names);
        }
        self.children(dir).map_err(io_error)
    }

    fn make_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &str) -> io::Result<()> {
        Ok(()) // what a verb has put is durable with its name
    }

    fn file_bytes(&self, path: &str) -> io::Result<Option<u64>> {
        if path.starts_with(TMP) {
            let body = self.unfinished().get(path).cloned();
            return Ok(body.map(|body| lock(&body).len() as u64));
        }
        match again(|| self.remote.get(path, Span::Part { start: 0, bytes: 1 })) {
            Ok(got) => Ok(Some(got.total)),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(io_error(error)),
        }
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

struct MemoryDraft(Unfinished);

impl Draft for MemoryDraft {
    fn reserve(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(())
    }

    fn sync(self: Box<Self>) -> io::Result<()> {
        Ok(()) // durable is what was put
    }
}

struct OpenDraft {
    body: Unfinished,
    bytes: u64,
}

impl Opened for OpenDraft {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, start: u64, buffer: &mut [u8]) -> io::Result<()> {
        let body = lock(&self.body);
        body.as_slice().read_at(start, buffer).map_err(io_error)
    }
}

/// A file of the remote, read ahead where it is read on.
struct OpenRemote {
    remote: Arc<dyn Remote>,
    path: String,
    total: u64,
    ahead: Mutex<Ahead>,
}

struct Ahead {
    start: u64,
    bytes: Vec<u8>,
    next_bytes: u64,
}

impl Ahead {
    fn part(&self, start: u64, bytes: usize) -> Option<&[u8]> {
        let from = usize::try_from(start.checked_sub(self.start)?).ok()?;
        self.bytes.get(from..from.checked_add(bytes)?)
    }
}

impl Opened for OpenRemote {
    fn bytes(&self) -> u64 {
        self.total
    }

    fn read_at(&self, start: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = start.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.total) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let mut ahead = lock(&self.ahead);
        if ahead.part(start, buffer.len()).is_none() {
            let read_on = start >= ahead.start
                && start <= ahead.start + ahead.bytes.len() as u64 + AHEAD_BYTES_MIN;
            ahead.next_bytes = if read_on {
                (2 * ahead.next_bytes).min(AHEAD_BYTES_MAX)
            } else {
                AHEAD_BYTES_MIN
            };
            let wanted = ahead.next_bytes.max(buffer.len() as u64);
            let wanted = wanted.min(self.total - start);
            let got = again(|| get_exact(&*self.remote, &self.path, start, wanted));
            ahead.bytes = got.map_err(io_error)?;
            ahead.start = start;
        }
        let part = ahead.part(start, buffer.len());
        buffer.copy_from_slice(part.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}
