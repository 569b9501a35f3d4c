//! What the chunks of one tensor say together: the statistics that become its model.
//!
//! May use: tiers 0 to 4. Holds: the model does not depend on the number of threads, for
//! statistics are merged in the order of the chunks.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use store_format::ids::ChunkId;
use store_format::verified::Verified;

use crate::codec::residual::{Model, Statistics, TensorShape};
use crate::error::{Error, Kind, Result};

/// What the chunks of one tensor say together.
pub struct Survey {
    /// The tensor.
    pub shape: TensorShape,
    state: Mutex<SurveyState>,
    changed: Condvar,
}

#[derive(Default)]
struct SurveyState {
    /// The chunks that were seen, by slot.
    seen: Vec<Option<Seen>>,
    /// Merged in the order of slots, so that the model does not depend on threads.
    merged: Option<Box<Statistics>>,
    merged_slots: usize,
    /// Those that came before their turn.
    early: BTreeMap<usize, Option<Box<Statistics>>>,
    /// How many slots there are, once that is known.
    slots: Option<usize>,
    failed: bool,
    model: Option<Option<Arc<SharedModel>>>,
}

/// A chunk that was looked at.
pub enum Seen {
    /// Its bytes are to be read again.
    Named(ChunkId),
    /// Its bytes wait here.
    Kept(Verified),
}

impl Seen {
    /// The chunk's id.
    #[must_use]
    pub const fn id(&self) -> ChunkId {
        match self {
            Self::Named(id) => *id,
            Self::Kept(plain) => plain.id(),
        }
    }
}

/// A model and the side chunk that holds it.
pub struct SharedModel {
    /// The model.
    pub model: Model,
    /// Names its bytes.
    pub side: ChunkId,
    /// Its bytes; none for the built-in model.
    pub bytes: Vec<u8>,
}

impl Survey {
    /// Of a tensor; nothing was seen yet.
    #[must_use]
    pub fn new(shape: TensorShape) -> Self {
        Self {
            shape,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, SurveyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many chunks there are.
    pub fn close(&self, slots: usize) {
        self.lock().slots = Some(slots);
        self.changed.notify_all();
    }

    /// A chunk could not be looked at.
    pub fn fail(&self) {
        self.lock().failed = true;
        self.changed.notify_all();
    }

    /// Notes a chunk; one that the store holds has no statistics.
    pub fn arrive(&self, slot: usize, seen: Seen, statistics: Option<Box<Statistics>>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.seen.len() <= slot {
            state.seen.resize_with(slot + 1, || None);
        }
        state.seen[slot] = Some(seen);
        state.early.insert(slot, statistics);
        while let Some(next) = state.early.remove(&state.merged_slots) {
            state.merged_slots += 1;
            match (&mut state.merged, next) {
                (Some(merged), Some(next)) => merged.merge(&next),
                (merged @ None, next) => *merged = next,
                (Some(_), None) => {}
            }
        }
        self.changed.notify_all();
    }

    /// What a slot's chunk was, which is asked for once, and the model of all. Waits for surveys
    /// that still run: they were handed out before, so they end whatever this thread does.
    ///
    /// # Errors
    /// `Interrupted` where a survey failed; its own failure is reported by itself.
    pub fn outcome(&self, slot: usize) -> Result<(Seen, Option<Arc<SharedModel>>)> {
        let mut state = self.lock();
        while state.slots.is_none_or(|slots| state.merged_slots < slots) && !state.failed {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let failed = state.failed;
        let seen = state.seen.get_mut(slot).and_then(Option::take);
        let Some(seen) = seen.filter(|_| !failed) else {
            return Err(Error::new(
                Kind::Interrupted,
                "a survey of the same tensor failed",
            ));
        };
        if state.model.is_none() {
            let model = state.merged.take().map(|statistics| {
                let model = statistics.finish();
                let bytes = model.to_bytes();
                Arc::new(SharedModel {
                    model,
                    side: ChunkId::of(&bytes),
                    bytes,
                })
            });
            state.model = Some(model);
        }
        Ok((seen, state.model.clone().flatten()))
    }
}
