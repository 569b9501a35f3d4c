//! What can be made again and is only kept because it is quicker to look up.
//!
//! May use: `error`'s tier and below. The only door of sled; no type of it leaves this module.
//! Holds: a miss is always a right answer. No call fails, none blocks on another process, and
//! deleting the folder at any moment changes no result. Must never hold data of record.
//!
//! sled never returned a wrong value in our measurements, but it panics on a cut file, iterates
//! for ever over a damaged page, and grows to several times its content. Hence the rules here,
//! each with a test of its name in `tests.rs`.

mod database;
mod stamp;
mod values;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use database::Database;

pub use database::{CAPACITY_BYTES_MAX, in_guarded_call};
pub use values::{
    Absence, AbsentKey, FileKey, FileState, KnownFile, Sketch, Stat, TensorStats, Tree, Value,
};

/// The cache of one store. Opened by the first call that needs it, closed when dropped.
pub struct Cache {
    dir: PathBuf,
    store: [u8; 16],
    state: Mutex<State>,
}

enum State {
    /// Nobody has asked for anything.
    Unopened,
    Open(Arc<Database>),
    /// Busy, damaged or not writable: every look-up misses until the process ends.
    Dead,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl Cache {
    /// The cache in the folder `dir` (`.sparse/cache`) of the store with this id. Touches nothing
    /// yet and never fails.
    #[must_use]
    pub fn open(dir: &Path, store_id: [u8; 16]) -> Self {
        Self {
            dir: dir.into(),
            store: store_id,
            state: Mutex::new(State::Unopened),
        }
    }

    /// What was put for this key, if it is still there and whole.
    #[must_use]
    pub fn get<V: Value>(&self, key: &V::Key) -> Option<V> {
        let key = V::key(key);
        let database = self.database()?;
        let found = self.living(&database, database.get(V::TREE, &key))??;
        values::decode(&key, &found)
    }

    /// Keeps a value, or not.
    pub fn put<V: Value>(&self, key: &V::Key, value: &V) {
        let key = V::key(key);
        let Some(bytes) = values::encode(&key, value) else {
            return;
        };
        if let Some(database) = self.database() {
            let _ = self.living(&database, database.put(V::TREE, &key, &bytes));
        }
    }

    /// Forgets a value.
    pub fn remove<V: Value>(&self, key: &V::Key) {
        let key = V::key(key);
        if let Some(database) = self.database() {
            let _ = self.living(&database, database.remove(V::TREE, &key));
        }
    }

    /// Calls `visit` with every key and whole value of a kind until it answers `false`; some may
    /// be missing, all of them even.
    pub fn each<V: Value>(&self, mut visit: impl FnMut(&[u8], V) -> bool) {
        let Some(database) = self.database() else {
            return;
        };
        let walk = database.each(V::TREE, |key, bytes| {
            values::decode(key, bytes).is_none_or(|value| visit(key, value))
        });
        let _ = self.living(&database, walk);
    }

    /// The object that a file with this stat holds, if it was seen before and cannot have changed
    /// since; see [`FileState::object_for`].
    #[must_use]
    pub fn known_file(&self, key: &FileKey, stat: &Stat) -> Option<[u8; 32]> {
        self.get::<FileState>(key)?.object_for(stat)
    }

    /// Whether nothing was opened so far, which is how commands that do not need the cache leave
    /// it: each opening costs reads and writes.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        matches!(*self.lock(), State::Unopened)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic elsewhere leaves one of three plain states: none of them is half-made.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn database(&self) -> Option<Arc<Database>> {
        let mut state = self.lock();
        if let State::Unopened = *state {
            *state = match Database::open(&self.dir, self.store) {
                Some(database) => State::Open(Arc::new(database)),
                None => State::Dead,
            };
        }
        match &*state {
            State::Open(database) => Some(Arc::clone(database)),
            State::Unopened | State::Dead => None,
        }
    }

    /// The outcome of a call; after a failed one the cache is dead for this process, and the lack
    /// of a stamp makes the next one start empty.
    fn living<T>(&self, database: &Database, outcome: Option<T>) -> Option<T> {
        if outcome.is_none() {
            database.spoil();
            *self.lock() = State::Dead;
        }
        outcome
    }
}
