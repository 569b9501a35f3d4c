//! sled behind a wall: locked, capped, stamped, and every call guarded against panics.
//!
//! May use: nothing of this crate but its neighbours in `cache`. Every call gives `None` if sled
//! failed or panicked; the caller then lets go of it. Must never call `len()`, which does not end
//! on a damaged page, nor go on with an iteration after an error.

use std::cell::Cell;
use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::stamp;
use super::values::Tree;

/// The database starts empty once it is larger than this: it holds several times what was put.
pub const CAPACITY_BYTES_MAX: u64 = 256 << 20;

/// What sled may keep in memory.
const MEMORY_BYTES_MAX: u64 = 32 << 20;

/// Measured: a database takes up to 3.8 times the bytes put into it.
const AMPLIFICATION: u64 = 4;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside a guarded call, where a panic is an ordinary miss. A program's
/// panic hook asks this, so as not to report it as a bug.
#[must_use]
pub fn in_guarded_call() -> bool {
    GUARDED.get()
}

/// Runs `call`; an error and a panic are both `None`.
pub(super) fn guarded<T, E>(call: impl FnOnce() -> Result<T, E>) -> Option<T> {
    let before = GUARDED.replace(true);
    // After a panic nothing that `call` touched is used again: the caller drops the database.
    let outcome = catch_unwind(AssertUnwindSafe(call));
    GUARDED.set(before);
    outcome.ok()?.ok()
}

/// Where the parts lie.
pub(super) struct Paths {
    folder: PathBuf,
    database: PathBuf,
    stamp: PathBuf,
    lock: PathBuf,
}

impl Paths {
    pub(super) fn new(dir: &Path) -> Self {
        let name = format!("sled-0.34-v{}", stamp::SCHEMA);
        Self {
            database: dir.join(&name),
            stamp: dir.join(format!("{name}.stamp")),
            // One lock for all schemas, so that a newer program may clear away an older one's.
            lock: dir.join("lock"),
            folder: dir.into(),
        }
    }

    /// The file that holds nearly everything.
    pub(super) fn file(&self) -> PathBuf {
        self.database.join("db")
    }

    #[cfg(test)]
    pub(super) fn stamp(&self) -> &Path {
        &self.stamp
    }

    #[cfg(test)]
    pub(super) fn database(&self) -> &Path {
        &self.database
    }

    /// Deletes the database, and those of other schemas. Answers whether it is gone.
    fn clear(&self) -> bool {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("sled-") {
                let path = entry.path();
                // A link or a file where a folder is expected is removed as what it is.
                let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
            }
        }
        fs::symlink_metadata(&self.database).is_err() && fs::symlink_metadata(&self.stamp).is_err()
    }

    /// The size of everything in the database's folder; it is flat but for one level.
    fn bytes(&self) -> u64 {
        fn sum(dir: &Path, levels: u8) -> u64 {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            entries
                .map(|entry| match entry.metadata() {
                    Ok(metadata) if metadata.is_dir() && levels > 0 => {
                        sum(&entry.path(), levels - 1)
                    }
                    Ok(metadata) => metadata.len(),
                    Err(_) => 0,
                })
                .sum()
        }
        sum(&self.database, 1)
    }
}

/// An open database, held by this process alone.
pub(super) struct Database {
    paths: Paths,
    store: [u8; 16],
    /// `None` only while being dropped.
    handle: Option<Handle>,
    /// Bytes that may still be put before the cap could be passed.
    room: AtomicU64,
    /// A call failed: no stamp at the end, so that the next opening starts empty.
    spoilt: AtomicBool,
    /// Released after everything else, when the file is closed.
    _lock: File,
}

struct Handle {
    trees: [sled::Tree; Tree::ALL.len()],
    database: sled::Db,
}

/// How sled is run: nothing in the background, little memory, and no wish to be durable.
pub(super) fn settings(path: &Path) -> sled::Config {
    sled::Config::default()
        .path(path)
        .cache_capacity(MEMORY_BYTES_MAX)
        .flush_every_ms(None)
}

impl Database {
    /// Opens or begins the database of a store; `None` if another process has it or it cannot be.
    pub(super) fn open(dir: &Path, store: [u8; 16]) -> Option<Self> {
        let paths = Paths::new(dir);
        fs::create_dir_all(dir).ok()?;
        let lock = File::create(&paths.lock).ok()?;
        lock.try_lock().ok()?;
        let kept = stamp::matches(&paths.stamp, &paths.file(), store)
            && paths.bytes() <= CAPACITY_BYTES_MAX;
        if !kept && !paths.clear() {
            return None;
        }
        let handle = match Self::start(&paths.database) {
            Some(handle) => handle,
            // The stamp vouches for the main file only; the small ones beside it can be hurt.
            None if kept && paths.clear() => Self::start(&paths.database)?,
            None => return None,
        };
        // From here on the file changes; without a clean close nothing must vouch for it.
        let _ = fs::remove_file(&paths.stamp);
        let used = paths.bytes();
        Some(Self {
            room: AtomicU64::new(CAPACITY_BYTES_MAX.saturating_sub(used) / AMPLIFICATION),
            paths,
            store,
            handle: Some(handle),
            spoilt: AtomicBool::new(false),
            _lock: lock,
        })
    }

    fn start(path: &Path) -> Option<Handle> {
        guarded(|| -> sled::Result<Handle> {
            let database = settings(path).open()?;
            let mut trees = Vec::with_capacity(Tree::ALL.len());
            for tree in Tree::ALL {
                trees.push(database.open_tree(tree.name())?);
            }
            let trees = trees
                .try_into()
                .map_err(|_| sled::Error::Unsupported("trees".into()))?;
            Ok(Handle { trees, database })
        })
    }

    fn tree(&self, tree: Tree) -> Option<&sled::Tree> {
        self.handle.as_ref()?.trees.get(tree as usize)
    }

    /// Never trust it again.
    pub(super) fn spoil(&self) {
        self.spoilt.store(true, Ordering::Relaxed);
    }

    pub(super) fn get(&self, tree: Tree, key: &[u8]) -> Option<Option<Vec<u8>>> {
        let tree = self.tree(tree)?;
        guarded(|| tree.get(key).map(|found| found.map(|value| value.to_vec())))
    }

    pub(super) fn put(&self, tree: Tree, key: &[u8], value: &[u8]) -> Option<()> {
        let tree = self.tree(tree)?;
        let bytes = (key.len() + value.len()) as u64;
        let taken = self
            .room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| {
                room.checked_sub(bytes)
            });
        if taken.is_err() {
            return Some(());
        }
        guarded(|| tree.insert(key, value)).map(|_| ())
    }

    #[cfg(test)]
    pub(super) fn limit_room(&self, bytes: u64) {
        self.room.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, tree: Tree, key: &[u8]) -> Option<()> {
        let tree = self.tree(tree)?;
        guarded(|| tree.remove(key)).map(|_| ())
    }

    /// Walks over a tree until `visit` answers `false`, its end, or the first error.
    pub(super) fn each(
        &self,
        tree: Tree,
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Option<()> {
        let mut entries = self.tree(tree)?.iter();
        // Only sled's own step is guarded: a panic of `visit` is the caller's.
        while let Some((key, value)) = guarded(|| entries.next().transpose())? {
            if !visit(&key, &value) {
                break;
            }
        }
        Some(())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let handle = self.handle.take();
        let closed = guarded(|| -> sled::Result<()> {
            if let Some(handle) = handle {
                handle.database.flush()?;
                drop(handle);
            }
            Ok(())
        });
        let sound = closed.is_some() && !self.spoilt.load(Ordering::Relaxed);
        if sound && !std::thread::panicking() {
            stamp::write(&self.paths.stamp, &self.paths.file(), self.store);
        }
    }
}
