//! Keeps records on this machine: packs, indexes, references, transactions, gc.
//!
//! May use: tiers 0 to 2. Knows no tensors, and never looks inside a record's payload.
//! Holds: what was acknowledged is durable; readers take no lock; no file is changed in place.

pub mod advance;
pub mod check;
mod files;
pub mod gc;
pub mod gc_plan;
pub mod heal;
pub mod host;
pub mod index;
pub mod leases;
mod lost;
mod merge;
mod merged;
pub mod ops;
pub mod pack_read;
pub mod pack_write;
pub mod paths;
pub mod read;
pub mod refs;
mod reserve;
mod salvage;
pub mod staged;
mod strays;
pub mod txn;

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use store_format::FormatError;
use store_format::ids::OperationId;
use store_format::reference::{Operation, ReferenceTable};
use store_format::store_file::StoreFile;

use crate::disk::Disk;
use crate::disk::real::RealDisk;
use crate::error::{Error, IoContext, Result};
use crate::store::advance::Published;
use crate::store::host::Host;
use crate::store::index::{Source, View};
use crate::store::leases::Condemned;
use crate::store::pack_read::PackFiles;
use crate::store::read::Reader;
use crate::store::refs::{Created, Head};
use crate::store::staged::PackSizes;
use crate::store::txn::Txn;

const FORMAT_BYTES_MAX: u64 = 1 << 16;
/// Tables are cleaned each time the newest number is a multiple of this.
const TABLES_BETWEEN_CLEANING: u64 = 64;

/// A store. Clones are the same store; they may be used from any thread.
#[derive(Clone)]
pub struct Store(Arc<Shared>);

/// What all users of an open store share.
pub struct Shared {
    disk: Arc<dyn Disk>,
    host: Host,
    file: StoreFile,
    packs: Arc<PackFiles>,
    view: RwLock<Arc<View>>,
}

impl Store {
    /// Makes a new store in a directory that is made with it.
    ///
    /// # Errors
    /// `Conflict` where a store is there already; a failure of the disk.
    pub fn create(dir: &Path, host: Host) -> Result<Self> {
        let disk = RealDisk::create(dir).at("make the directory", dir)?;
        Self::create_on(Arc::new(disk), host)
    }

    /// Opens the store of a directory. Nothing is repaired or waited for.
    ///
    /// # Errors
    /// `NotFound` where there is none; `Unsupported` where it is of a newer version.
    pub fn open(dir: &Path, host: Host) -> Result<Self> {
        let disk = RealDisk::open(dir).at("open", dir)?;
        Self::open_on(Arc::new(disk), host)
    }

    /// As [`Store::create`], on any disk.
    ///
    /// # Errors
    /// As [`Store::create`].
    pub fn create_on(disk: Arc<dyn Disk>, host: Host) -> Result<Self> {
        let taken = || Error::conflict("there is a store here already");
        if disk
            .file_bytes(paths::FORMAT)
            .at("look at", paths::FORMAT)?
            .is_some()
        {
            return Err(taken());
        }
        for dir in paths::DIRS {
            files::ensure_dir(&*disk, dir)?;
        }
        // Before anything in them, so that no crash keeps a table and loses its operation.
        disk.sync_dir("").at("synchronise", "the store")?;
        let dir = format!("{}/{}", paths::TMP, files::unique(&host)?);
        files::ensure_dir(&*disk, &dir)?;
        first_table(&*disk, &host, &dir)?;
        // Last: a directory without it is no store, whatever else a crash has left there.
        let file = StoreFile::new(files::random(&host)?);
        let temp = format!("{dir}/format");
        files::write(&*disk, &temp, file.encode().as_bytes()).at("write", &temp)?;
        let new = files::name_once(&*disk, &temp, paths::FORMAT)?;
        files::discard_dir(&*disk, &dir);
        if !new {
            return Err(taken());
        }
        disk.sync_dir("").at("synchronise", "the store")?;
        Self::open_on(disk, host)
    }

    /// As [`Store::open`], on any disk.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_on(disk: Arc<dyn Disk>, host: Host) -> Result<Self> {
        let bytes = files::read(&*disk, paths::FORMAT, FORMAT_BYTES_MAX)?
            .ok_or_else(|| Error::not_found("there is no store here"))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::corrupt("'format' is damaged").because("it is not text"))?;
        let file = StoreFile::decode(&text).map_err(|error| {
            let newer = matches!(
                error,
                FormatError::Unsupported { .. } | FormatError::UnknownFeature { .. }
            );
            let what = if newer {
                "of a newer version"
            } else {
                "damaged"
            };
            Error::from(error).while_doing(format!("'format' is {what}"))
        })?;
        let packs = Arc::new(PackFiles::new(Arc::clone(&disk)));
        let source = Source {
            disk: Arc::clone(&disk),
            packs: Arc::clone(&packs),
        };
        let view = RwLock::new(Arc::new(View::load(&source, None)?));
        Ok(Self(Arc::new(Shared {
            disk,
            host,
            file,
            packs,
            view,
        })))
    }

    /// What the store says of itself.
    #[must_use]
    pub fn file(&self) -> &StoreFile {
        &self.0.file
    }

    /// The directory, for what else lies in it.
    #[must_use]
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.0.disk
    }

    /// The machine that the store was opened with.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.0.host
    }

    /// The references now.
    ///
    /// # Errors
    /// `Corrupt` where no table is valid; a failure of the disk.
    pub fn head(&self) -> Result<Head> {
        refs::head(&*self.0.disk)
    }

    /// An operation of the chain.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt`; a failure of the disk.
    pub fn operation(&self, id: &OperationId) -> Result<Operation> {
        ops::read(&*self.0.disk, id)
    }

    /// Reads records; what is published later is found as well.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn reader(&self) -> Result<Reader> {
        Ok(Reader {
            shared: Arc::clone(&self.0),
            view: self.0.refresh()?,
            barred: Arc::new(Condemned::new()),
            staged: None,
        })
    }

    /// Begins a transaction. What is appended is visible to its own reader only.
    ///
    /// # Errors
    /// `Unsupported` where only a newer version may write; a failure of the disk.
    pub fn begin(&self) -> Result<Txn> {
        self.begin_sized(PackSizes::default())
    }

    /// As [`Store::begin`], with packs of other sizes.
    ///
    /// # Errors
    /// As [`Store::begin`].
    pub fn begin_sized(&self, sizes: PackSizes) -> Result<Txn> {
        self.0.file.check_writer().map_err(|newer| {
            Error::from(newer).while_doing("this version can read the store, but not write to it")
        })?;
        Txn::begin(&self.0, sizes)
    }
}

impl Shared {
    /// Looks at the directory again.
    fn refresh(&self) -> Result<Arc<View>> {
        let before = Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner));
        let source = Source {
            disk: Arc::clone(&self.disk),
            packs: Arc::clone(&self.packs),
        };
        let view = Arc::new(View::load(&source, Some(&before))?);
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&view);
        Ok(view)
    }

    /// Work that may be left undone: index files that were lost, tables that are old.
    fn after_publish(&self, published: &Published, temp_dir: &str) {
        let view = Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner));
        for (number, (pack, bytes)) in view.rebuilt().enumerate() {
            let temp = format!("{temp_dir}/i{number}");
            if files::write(&*self.disk, &temp, bytes).is_ok() {
                let _ = self.disk.replace(&temp, &paths::index(&pack));
            }
        }
        reserve::keep_reserve(self);
        let _ = merge::merge(self, temp_dir, merge::SINGLE_PACKS_MAX, merge::RECORDS_MAX);
        if published.number.is_multiple_of(TABLES_BETWEEN_CLEANING) {
            let now = i64::try_from((self.host.now_ms)() / 1000).unwrap_or(0);
            let _ = refs::clean(&*self.disk, refs::Keep::default(), now);
        }
    }
}

/// The first operation and table of a new store, unless a creation that stopped left them.
fn first_table(disk: &dyn Disk, host: &Host, dir: &str) -> Result<()> {
    let operation = Operation {
        verb: "init".to_owned(),
        author: String::new(),
        time: i64::try_from((host.now_ms)() / 1000).unwrap_or(0),
        parent: None,
        changes: Vec::new(),
        collection: None,
        undoes: None,
    };
    let operation = ops::write(disk, &format!("{dir}/o"), &operation)?;
    let table = ReferenceTable {
        number: 0,
        parent: None,
        operation,
        write_id: files::random(host)?,
        gc_epoch: 0,
        references: Vec::new(),
    };
    match refs::create(disk, &format!("{dir}/t"), &table)? {
        (_, Created::Ours) => Ok(()),
        (_, Created::Taken) => disk.sync_dir(paths::REFS).at("synchronise", paths::REFS),
        (_, Created::Gone(error)) => Err(error).at("create", paths::table(0)),
    }
}

#[cfg(test)]
mod tests;
