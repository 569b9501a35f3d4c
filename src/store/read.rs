//! The reading side of a store, and of a transaction with what it has not published yet.
//!
//! May use: `error`, `store::{index, leases, pack_read, staged}`. Never decodes a record: that
//! needs predictors and codings, which stand above.

use std::collections::HashSet;
use std::sync::Arc;

use store_format::ids::RecordId;
use store_format::limits;
use store_format::record::Kind;

use crate::error::{Error, Kind as ErrorKind, Result};
use crate::store::Shared;
use crate::store::index::{Origin, Place, View};
use crate::store::leases::Condemned;
use crate::store::pack_read::StoredRecord;
use crate::store::staged::Staged;

/// Records behind each other, side chunks included: bounds the walk over an index that lies.
const CHAIN_MAX: usize = 2 * limits::DEPTH_MAX as usize;

/// Records by id, from any thread. What is published later is found all the same; what a
/// transaction has appended is found by its own reader only.
#[derive(Clone)]
pub struct Reader {
    pub(super) shared: Arc<Shared>,
    pub(super) view: Arc<View>,
    /// Packs that are passed over.
    pub(super) barred: Arc<Condemned>,
    pub(super) staged: Option<Arc<Staged>>,
}

impl Reader {
    /// The packs that were there when the reader was made, with their indexes.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Whether a copy of a record is here. Says nothing of what the copy needs.
    #[must_use]
    pub fn contains(&self, id: &RecordId) -> bool {
        !self.places(id).is_empty()
    }

    /// Every copy of a record, the one with the smallest depth first, with what each needs.
    #[must_use]
    pub fn places(&self, id: &RecordId) -> Vec<Place> {
        let mut places = self.view.places(id);
        places.retain(|place| match place.origin {
            Origin::Pack(pack) => !self.barred.contains(&pack),
            Origin::Staged(_) => true,
        });
        if let Some(staged) = self.staged.as_ref().and_then(|staged| staged.place(id)) {
            places.insert(0, staged);
        }
        places
    }

    /// Records of a kind whose ids begin with these hex digits, ascending, each once.
    #[must_use]
    pub fn with_prefix(&self, digits: &str, kind: Kind) -> Vec<RecordId> {
        self.view.with_prefix(digits, kind)
    }

    /// Reads one copy of a record.
    ///
    /// # Errors
    /// `Corrupt` where the copy is damaged; `NotFound` where its pack is gone; a failure of the
    /// disk.
    pub fn read(&self, id: &RecordId, place: &Place) -> Result<StoredRecord> {
        match (&place.origin, &self.staged) {
            (Origin::Pack(pack), _) => self.shared.packs.record(pack, id, &place.entry),
            (Origin::Staged(file), Some(staged)) => staged.read(*file, id, &place.entry),
            (Origin::Staged(_), None) => Err(Error::not_found(format!(
                "{id:.12} belongs to a transaction that is over"
            ))),
        }
    }

    /// Reads a record: the first copy that is whole.
    ///
    /// # Errors
    /// `Corrupt` where every copy is damaged; a failure of the disk.
    pub fn record(&self, id: &RecordId) -> Result<Option<StoredRecord>> {
        let mut hurt = None;
        for place in self.places(id) {
            match self.read(id, &place) {
                Ok(record) => return Ok(Some(record)),
                Err(error) => hurt = hurt.or(Some(error)),
            }
        }
        // The record may have been published since, or moved by a collection.
        let fresh = Self {
            view: self.shared.refresh()?,
            ..self.clone()
        };
        let mut places = fresh.places(id);
        if places.is_empty() {
            places = fresh.view.places_searched(id); // a merged index may be hurt
        }
        for place in places {
            match fresh.read(id, &place) {
                Ok(record) => return Ok(Some(record)),
                Err(error) => hurt = hurt.or(Some(error)),
            }
        }
        match hurt {
            Some(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(None),
        }
    }

    /// Whether a record can be rebuilt from what is here: a copy whose sources and side chunks
    /// can be rebuilt in turn.
    #[must_use]
    pub fn is_whole(&self, id: &RecordId) -> bool {
        Wholeness::default().of(self, id)
    }
}

/// Which records were found whole, to ask about many.
#[derive(Default)]
pub struct Wholeness {
    /// Records that can be rebuilt.
    pub whole: HashSet<RecordId>,
    /// Records that are being looked at, or were found not whole meanwhile: that ends cycles.
    /// Forgotten after each question, since only those being looked at made some of them so.
    other: HashSet<RecordId>,
}

impl Wholeness {
    /// Whether a record can be rebuilt. What is appended or published between two questions may
    /// be missed, never the other way round.
    pub fn of(&mut self, reader: &Reader, id: &RecordId) -> bool {
        let whole = self.within(reader, id, CHAIN_MAX);
        self.other.clear();
        whole
    }

    fn within(&mut self, reader: &Reader, id: &RecordId, steps: usize) -> bool {
        if self.whole.contains(id) {
            return true;
        }
        if steps == 0 || !self.other.insert(*id) {
            return false;
        }
        let whole = reader.places(id).iter().any(|place| {
            let mut needs = place.needs.iter();
            needs.all(|need| self.within(reader, &RecordId::from(*need), steps - 1))
        });
        if whole {
            self.other.remove(id);
            self.whole.insert(*id);
        }
        whole
    }
}
