//! A transaction: records are appended, nothing is visible, then all is published at once.
//!
//! May use: `error`, `store::{advance, files, index, leases, lost, read, staged}`. Depends on nothing
//! that a collection may have taken: what was found here is looked for again before the end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use store_format::ids::RecordId;
use store_format::limits;
use store_format::record::{Kind as RecordKind, Recipe, RecordHeader, check_of};

use crate::error::{Error, Result};
use crate::store::Shared;
use crate::store::advance::{self, Deed, Outcome, Step};
use crate::store::files;
use crate::store::index::{Origin, Place};
use crate::store::leases::{self, BEAT_MS, Lease};
use crate::store::lost::Lost;
use crate::store::pack_read::StoredRecord;
use crate::store::pack_write::WrittenPack;
use crate::store::paths;
use crate::store::read::{Reader, Wholeness};
use crate::store::refs::{self, Head};
use crate::store::staged::{PackSizes, Staged};

/// Missing records that a refusal names.
const MISSING_MAX: usize = 64;

/// Finds what is missing of everything that a publication will make reachable. Asked only where
/// a collection ran since the transaction began; the reader sees what is left.
pub type Closure<'a> = &'a dyn Fn(&Reader) -> Result<Vec<RecordId>>;

/// Records on their way into the store. Safe to use from several threads.
#[must_use = "publish or drop"]
pub struct Txn {
    shared: Arc<Shared>,
    /// The name of this writer.
    writer: String,
    lease: Mutex<Lease>,
    beat_ms: AtomicU64,
    /// Whether an operation may have been written that no table names yet.
    is_open: AtomicBool,
    head: Head,
    reader: Reader,
    staged: Arc<Staged>,
    /// How many full packs have their names.
    kept_packs: AtomicUsize,
    lost: Lost,
    /// What was found in the store and is depended on, and the least depth at which it can be
    /// rebuilt.
    found: Mutex<HashMap<RecordId, u8>>,
}

impl Txn {
    pub(super) fn begin(shared: &Arc<Shared>, sizes: PackSizes) -> Result<Self> {
        let disk = &shared.disk;
        let writer = files::unique(&shared.host)?;
        let lease = Lease::new(&shared.host);
        leases::write(&**disk, &writer, &lease)?;
        let dir = format!("{}/{writer}", paths::TMP);
        files::ensure_dir(&**disk, &dir)?;
        // In this order: a collection that this table does not know yet raises the epoch.
        let head = refs::head(&**disk)?;
        let barred = Arc::new(leases::condemned(&**disk)?);
        let view = shared.refresh()?;
        let staged = Arc::new(Staged::new(
            Arc::clone(disk),
            shared.host.clone(),
            dir,
            sizes,
        ));
        Ok(Self {
            shared: Arc::clone(shared),
            writer,
            beat_ms: AtomicU64::new(lease.beat_ms),
            lease: Mutex::new(lease),
            is_open: AtomicBool::new(false),
            head,
            reader: Reader {
                shared: Arc::clone(shared),
                view,
                barred,
                staged: Some(Arc::clone(&staged)),
            },
            staged,
            kept_packs: AtomicUsize::new(0),
            lost: Lost::load(&**disk)?,
            found: Mutex::default(),
        })
    }

    /// The references when the transaction began.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// Reads what the store holds and what was appended.
    #[must_use]
    pub const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Whether a record need not be appended: it was, or it can be rebuilt from what the store
    /// holds. The transaction depends on it from now on.
    ///
    /// A chunk or object that becomes reachable by this transaction must be either appended or
    /// asked for here: what is not asked for is not protected from a collection.
    #[must_use]
    pub fn contains(&self, id: &RecordId) -> bool {
        self.staged.place(id).is_some() || self.held(id)
    }

    /// As [`Txn::contains`], without what was appended: the same answer at every moment of the
    /// transaction.
    #[must_use]
    pub fn held(&self, id: &RecordId) -> bool {
        self.held_depth(id).is_some()
    }

    fn held_depth(&self, id: &RecordId) -> Option<u8> {
        if let Some(depth) = self.lock_found().get(id) {
            return Some(*depth);
        }
        let published = Reader {
            staged: None,
            ..self.reader.clone()
        };
        let depth = Wholeness::default().depth(&published, id)?;
        self.lock_found().insert(*id, depth);
        Some(depth)
    }

    /// The least depth at which a record can be rebuilt from what is held and was appended: what
    /// is predicted from it must be stored deeper. The transaction depends on it from now on.
    #[must_use]
    pub fn depth(&self, id: &RecordId) -> Option<u8> {
        let staged = self.staged.place(id).map(|place| place.entry.depth);
        staged.into_iter().chain(self.held_depth(id)).min()
    }

    /// Whether a chunk need not be appended as side information, which must need nothing itself.
    #[must_use]
    pub fn contains_side(&self, id: &RecordId) -> bool {
        let is_bare = |place: &Place| place.needs.is_empty();
        self.contains(id) && self.reader.places(id).iter().any(is_bare)
    }

    /// How deep a record may be stored: copies of it that are here but hurt or condemned, or were
    /// given up by a repair, may be sources of others, which must stay deeper than it.
    #[must_use]
    pub fn depth_max(&self, id: &RecordId) -> u8 {
        let places = self.reader.view().places(id).into_iter();
        let places = places.chain(self.staged.place(id));
        let depths = places.map(|place| place.entry.depth);
        let least = depths.chain(self.lost.depth(id)).min();
        least.unwrap_or(limits::DEPTH_MAX)
    }

    /// Adds a record. The coded bytes must have been decoded and compared before.
    ///
    /// # Errors
    /// A recipe that breaks a rule; a failure of the disk, after which the transaction is over.
    pub fn append(
        &self,
        kind: RecordKind,
        id: RecordId,
        recipe: Recipe,
        plain_bytes: u64,
        coded: &[u8],
    ) -> Result<()> {
        let header = RecordHeader {
            kind,
            id,
            recipe,
            plain_bytes,
            stored_bytes: coded.len() as u64,
            stored_check: check_of(coded),
        };
        self.beat()?;
        self.staged.append(&header, coded)
    }

    /// Adds a record as another store or pack holds it.
    ///
    /// # Errors
    /// As [`Txn::append`]; `Corrupt` where the coded bytes are not the header's.
    pub fn append_stored(&self, record: &StoredRecord) -> Result<()> {
        let header = &record.header;
        if header.stored_check != check_of(&record.coded)
            || header.stored_bytes != record.coded.len() as u64
        {
            return Err(Error::corrupt(format!(
                "the stored bytes of {:.12} are damaged",
                header.id
            )));
        }
        self.beat()?;
        self.staged.append(header, &record.coded)
    }

    /// Makes what was appended durable and gives the bytes of its packs. Nothing can be appended
    /// after it.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn seal(&self) -> Result<u64> {
        Ok(self.staged.finish()?.iter().map(|pack| pack.bytes).sum())
    }

    /// Gives the packs that are full their names before the end, so that a repetition of what
    /// stops here finds them. Their records are found by everybody from now on: only what was
    /// checked may have been appended, each after all that it needs. Costs nothing where no pack
    /// has become full since.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn keep_full_packs(&self) -> Result<()> {
        let full = self.staged.full_packs();
        if self.kept_packs.swap(full, Ordering::Relaxed) == full {
            return Ok(());
        }
        let written = self.staged.written();
        let unnamed = |pack: &WrittenPack| pack.path != paths::pack(&pack.id);
        let (numbers, new): (Vec<_>, Vec<_>) = written
            .iter()
            .filter(|(_, pack)| unnamed(pack))
            .cloned()
            .unzip();
        if new.is_empty() {
            return Ok(());
        }
        let all: Vec<_> = written.into_iter().map(|(_, pack)| pack).collect();
        self.declare(&all)?;
        let names = numbers.into_iter().zip(&new);
        let names: Vec<_> = names
            .map(|(number, pack)| (number, paths::pack(&pack.id)))
            .collect();
        self.staged
            .rename(&names, || advance::name_packs(&*self.shared.disk, &new))
    }

    /// Makes all that was appended durable, then moves references, all or none. Acknowledged
    /// means durable.
    ///
    /// # Errors
    /// A failure of the disk: then nothing was acknowledged, and nothing of the store is hurt.
    pub fn publish(self, deed: &Deed, closure: Option<Closure<'_>>) -> Result<Outcome> {
        self.publish_if(deed, closure, &Self::missing_here)
    }

    /// As [`Txn::publish`], of records whose sources may be lost: what was saved from a damaged
    /// pack waits for them to be stored again.
    ///
    /// # Errors
    /// As [`Txn::publish`].
    pub fn publish_saved(self, deed: &Deed) -> Result<Outcome> {
        self.publish_if(deed, None, &|_| Vec::new())
    }

    /// Whether nothing was appended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.staged.is_empty()
    }

    fn publish_if(
        self,
        deed: &Deed,
        closure: Option<Closure<'_>>,
        missing_here: &dyn Fn(&Self) -> Vec<RecordId>,
    ) -> Result<Outcome> {
        let packs = self.staged.finish()?;
        self.declare(&packs)?;
        let mut unnamed = packs.clone();
        unnamed.retain(|pack| pack.path != paths::pack(&pack.id));
        advance::name_packs(&*self.shared.disk, &unnamed)?;
        let missing = missing_here(&self);
        if !missing.is_empty() {
            return Ok(Outcome::Collected { missing });
        }
        let mut checked_epoch = self.head.table.gc_epoch;
        self.is_open.store(true, Ordering::Relaxed);
        let outcome = advance::advance(&self.shared, &self.dir(), deed, &mut |head| {
            if head.table.gc_epoch != checked_epoch {
                let missing = self.missing_after_gc(&packs, closure)?;
                if !missing.is_empty() {
                    return Ok(Step::Stop(Outcome::Collected { missing }));
                }
                checked_epoch = head.table.gc_epoch;
            }
            Ok(Step::Go(None))
        })?;
        self.is_open.store(false, Ordering::Relaxed);
        if let Outcome::Done(published) = &outcome {
            self.shared.after_publish(published, &self.dir());
        }
        Ok(outcome)
    }

    /// What appended records need and neither the transaction nor the store has.
    fn missing_here(&self) -> Vec<RecordId> {
        let places = self.staged.places();
        let needs = places.iter().flat_map(|place| {
            let below = place.entry.depth.saturating_sub(1);
            let needs = place.needs.iter();
            needs.map(move |need| (RecordId::from(*need), below))
        });
        let is_missing =
            |need: &RecordId, below| self.depth(need).is_none_or(|depth| depth > below);
        let mut missing: Vec<_> = needs
            .filter(|(need, below)| is_missing(need, *below))
            .map(|(need, _)| need)
            .take(MISSING_MAX)
            .collect();
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    /// What is missing of all that this depends on, now that a collection has run.
    fn missing_after_gc(
        &self,
        packs: &[WrittenPack],
        closure: Option<Closure<'_>>,
    ) -> Result<Vec<RecordId>> {
        // The list before the directory: a list that is gone was carried out.
        let barred = leases::condemned(&*self.shared.disk)?;
        let view = self.shared.refresh()?;
        let own = |place: &Place| match place.origin {
            Origin::Staged(file) => packs
                .get(file)
                .is_none_or(|pack| barred.contains(&pack.id) || !view.has_pack(&pack.id)),
            Origin::Pack(_) => false,
        };
        if self.staged.places().iter().any(own) {
            let lost = packs.iter().filter(|pack| !view.has_pack(&pack.id));
            return Ok(lost
                .map(|pack| RecordId::from_bytes(*pack.id.as_bytes()))
                .collect());
        }
        let left = Reader {
            shared: Arc::clone(&self.shared),
            view,
            barred: Arc::new(barred),
            staged: None,
        };
        let found = self.lock_found();
        let mut wholeness = Wholeness::default();
        let gone = found.iter().filter(|(id, depth)| {
            let left = wholeness.depth(&left, id);
            left.is_none_or(|left| left > **depth)
        });
        let missing: Vec<_> = gone.take(MISSING_MAX).map(|(id, _)| *id).collect();
        match closure {
            Some(closure) if missing.is_empty() => closure(&left),
            _ => Ok(missing),
        }
    }

    /// Tells gc which packs are about to be published.
    fn declare(&self, packs: &[WrittenPack]) -> Result<()> {
        if packs.is_empty() {
            return Ok(());
        }
        let mut lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        lease.packs = packs.iter().map(|pack| pack.id).collect();
        lease.beat_ms = (self.shared.host.now_ms)();
        leases::write(&*self.shared.disk, &self.writer, &lease)
    }

    /// A sign of life, now and then.
    fn beat(&self) -> Result<()> {
        let now = (self.shared.host.now_ms)();
        let last = self.beat_ms.load(Ordering::Relaxed);
        let due = now.saturating_sub(last) >= BEAT_MS;
        let order = Ordering::Relaxed;
        if due
            && self
                .beat_ms
                .compare_exchange(last, now, order, order)
                .is_ok()
        {
            let mut lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
            lease.beat_ms = now;
            leases::write(&*self.shared.disk, &self.writer, &lease)?;
        }
        Ok(())
    }

    fn lock_found(&self) -> MutexGuard<'_, HashMap<RecordId, u8>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dir(&self) -> String {
        format!("{}/{}", paths::TMP, self.writer)
    }
}

impl Drop for Txn {
    /// Clears up as far as that works; gc does the rest.
    fn drop(&mut self) {
        let disk = &*self.shared.disk;
        files::discard_dir(disk, &self.dir());
        // Where it failed, the lease is what tells its operation from one whose table was lost.
        if !self.is_open.load(Ordering::Relaxed) {
            let _ = files::remove(disk, &format!("{}/{}", paths::LEASES, self.writer));
        }
    }
}
