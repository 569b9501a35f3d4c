//! Which packs are dead, and which are so nearly dead that rewriting them pays.
//!
//! May use: `error`, `store::{gc, index, leases, read}`. Decides from indexes alone; deletes
//! nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use store_format::ids::{PackId, RecordId};

use crate::error::Result;
use crate::store::gc::GcPolicy;
use crate::store::index::{Origin, Place};
use crate::store::leases::Condemned;
use crate::store::read::{Reader, Wholeness};

/// A record that is alive, and the copy of it that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// What it holds.
    pub id: RecordId,
    /// The copy.
    pub place: Place,
}

/// What a collection would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcPlan {
    /// Packs in which nothing is kept.
    pub dead: Vec<PackId>,
    /// Their bytes.
    pub dead_bytes: u64,
    /// Packs to rewrite, the emptiest first, with what is kept of each.
    pub rewrite: Vec<(PackId, Vec<Live>)>,
    /// Bytes of those packs.
    pub rewrite_bytes: u64,
    /// Packs that stay as they are.
    pub kept: usize,
}

impl GcPlan {
    /// Bytes that records take in a pack.
    #[must_use]
    pub fn live_bytes(&self, live: &[Live]) -> u64 {
        live.iter().map(|record| record_bytes(&record.place)).sum()
    }
}

/// Plans from what is alive; packs that somebody is about to publish stay.
pub(super) fn plan(
    reader: &Reader,
    live: &HashSet<RecordId>,
    policy: &GcPolicy,
    leased: &Condemned,
) -> Result<GcPlan> {
    let mut by_pack = keep(reader, live, policy);
    let mut plan = GcPlan::default();
    let mut sparse = Vec::new();
    for pack in reader.view.packs() {
        if leased.contains(&pack) || reader.barred.contains(&pack) {
            plan.kept += 1;
            continue;
        }
        let pack_bytes = reader.view.pack_bytes(&pack).unwrap_or(0);
        let kept = by_pack.remove(&pack).unwrap_or_default();
        let live_bytes = plan.live_bytes(&kept);
        if kept.is_empty() {
            plan.dead.push(pack);
            plan.dead_bytes += pack_bytes;
        } else if live_bytes * 100 < total_bytes(reader, &pack)? * policy.live_percent_min {
            plan.rewrite_bytes += pack_bytes;
            sparse.push((live_bytes, pack, kept));
        } else {
            plan.kept += 1;
        }
    }
    sparse.sort_unstable_by_key(|(bytes, pack, _)| (*bytes, *pack));
    plan.rewrite = sparse
        .into_iter()
        .map(|(_, pack, kept)| (pack, kept))
        .collect();
    Ok(plan)
}

/// Chooses one copy of each record that is alive or that a kept copy needs.
pub(super) fn keep(
    reader: &Reader,
    live: &HashSet<RecordId>,
    policy: &GcPolicy,
) -> HashMap<PackId, Vec<Live>> {
    let mut barred = (*reader.barred).clone();
    barred.extend(policy.unwanted.iter().copied());
    let wanted = Reader {
        barred: Arc::new(barred),
        ..reader.clone()
    };
    let mut in_wanted = Wholeness::default();
    let mut in_all = Wholeness::default();
    let mut by_pack: HashMap<PackId, Vec<Live>> = HashMap::new();
    let mut seen = live.clone();
    let mut next: Vec<_> = live.iter().copied().collect();
    next.sort_unstable();
    while let Some(id) = next.pop() {
        let chosen = first_whole(&wanted, &mut in_wanted, &id)
            .or_else(|| first_whole(reader, &mut in_all, &id));
        // What cannot be rebuilt is kept in every copy: it may be healed.
        let kept = chosen.map_or_else(|| reader.places(&id), |place| vec![place]);
        for place in kept {
            let needs = place.needs.iter().map(|need| RecordId::from(*need));
            next.extend(needs.filter(|need| seen.insert(*need)));
            if let Origin::Pack(pack) = place.origin {
                by_pack.entry(pack).or_default().push(Live { id, place });
            }
        }
    }
    by_pack
}

fn first_whole(reader: &Reader, wholeness: &mut Wholeness, id: &RecordId) -> Option<Place> {
    let mut places = reader.places(id).into_iter();
    places.find(|place| wholeness.holds(reader, place))
}

fn total_bytes(reader: &Reader, pack: &PackId) -> Result<u64> {
    let records = reader.view.records(pack)?;
    Ok(records.iter().map(|(_, place)| record_bytes(place)).sum())
}

fn record_bytes(place: &Place) -> u64 {
    u64::from(place.entry.header_bytes) + place.entry.stored_bytes
}
