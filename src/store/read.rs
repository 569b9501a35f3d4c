//! The reading side of a store, and of a transaction with what it has not published yet.
//!
//! May use: `error`, `store::{index, leases, pack_read, staged}`. Never decodes a record: that
//! needs predictors and codings, which stand above.

use std::collections::HashMap;
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

    /// Whether a record can be rebuilt from what is here.
    #[must_use]
    pub fn is_whole(&self, id: &RecordId) -> bool {
        Wholeness::default().depth(self, id).is_some()
    }
}

/// At which depths records can be rebuilt from what is here, to ask about many.
///
/// A copy can be rebuilt where all that it needs can be rebuilt at a lesser depth, which is how
/// readers go: so every walk ends. A copy of depth 0 needs at most side chunks, and those must
/// need nothing.
#[derive(Default)]
pub struct Wholeness {
    known: HashMap<RecordId, Known>,
}

/// What is known of the copies of a record that are at most so deep.
#[derive(Clone, Copy)]
struct Known {
    looked_at: u8,
    /// The copy of the least depth that can be rebuilt.
    least: Option<Effort>,
}

/// What it takes to rebuild a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// The depth of its copy.
    pub depth: u8,
    /// Plain bytes that are decoded, those of its sources and of theirs counted as often as they
    /// are named.
    pub bytes: u64,
}

impl Wholeness {
    /// The least depth of a copy of a record that can be rebuilt; nothing where there is none.
    /// What is appended or published between two questions may be missed, never the other way
    /// round.
    pub fn depth(&mut self, reader: &Reader, id: &RecordId) -> Option<u8> {
        self.effort(reader, id).map(|effort| effort.depth)
    }

    /// What it takes to rebuild a record from its copy of the least depth.
    pub fn effort(&mut self, reader: &Reader, id: &RecordId) -> Option<Effort> {
        self.effort_without(reader, id, &|_, _| false)
    }

    /// As [`Wholeness::effort`], where some copies are known to be bad. What is found bad later is
    /// not asked about again.
    pub fn effort_without(
        &mut self,
        reader: &Reader,
        id: &RecordId,
        is_bad: IsBad,
    ) -> Option<Effort> {
        self.within(reader, id, limits::DEPTH_MAX, is_bad)
    }

    /// Whether this copy of a record can be rebuilt.
    pub fn holds(&mut self, reader: &Reader, place: &Place) -> bool {
        self.of_copy(reader, place, &|_, _| false).is_some()
    }

    fn of_copy(&mut self, reader: &Reader, place: &Place, is_bad: IsBad) -> Option<Effort> {
        let depth = place.entry.depth;
        let mut bytes = place.entry.plain_bytes;
        for need in &place.needs {
            let need = RecordId::from(*need);
            match depth.checked_sub(1) {
                Some(below) => {
                    let effort = self.within(reader, &need, below, is_bad)?;
                    bytes = bytes.saturating_add(effort.bytes);
                }
                None => {
                    let mut copies = reader.places(&need).into_iter();
                    copies.find(|copy| copy.needs.is_empty() && !is_bad(&need, copy))?;
                }
            }
        }
        Some(Effort { depth, bytes })
    }

    /// As [`Wholeness::effort_without`], of copies that are at most so deep.
    fn within(
        &mut self,
        reader: &Reader,
        id: &RecordId,
        most: u8,
        is_bad: IsBad,
    ) -> Option<Effort> {
        let known = self.known.get(id).copied();
        match known {
            Some(known) if known.least.is_some() || known.looked_at >= most => {
                return known.least.filter(|least| least.depth <= most);
            }
            Some(_) | None => {}
        }
        let fresh = |depth: u8| known.is_none_or(|known| depth > known.looked_at);
        let mut places = reader.places(id);
        places.retain(|place| place.entry.depth <= most && fresh(place.entry.depth));
        places.sort_by_key(|place| place.entry.depth); // what is staged stands first
        places.retain(|place| !is_bad(id, place));
        let least = places
            .iter()
            .find_map(|place| self.of_copy(reader, place, is_bad));
        let looked_at = most;
        self.known.insert(*id, Known { looked_at, least });
        least
    }
}

/// Whether a copy of a record is of no use.
pub type IsBad<'a> = &'a dyn Fn(&RecordId, &Place) -> bool;
