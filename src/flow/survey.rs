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
    shape: TensorShape,
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

/// A chunk that a survey waits for. Dropped before it arrives, the survey fails: whoever waits for
/// a job that was skipped, or whose thread panicked, would wait for ever.
pub struct Awaited {
    survey: Arc<Survey>,
    slot: usize,
    arrived: bool,
}

impl Awaited {
    /// A slot of a survey.
    #[must_use]
    pub const fn new(survey: Arc<Survey>, slot: usize) -> Self {
        Self {
            survey,
            slot,
            arrived: false,
        }
    }

    /// The tensor.
    #[must_use]
    pub fn shape(&self) -> TensorShape {
        self.survey.shape
    }

    /// Notes the chunk; one that the store holds has no statistics.
    pub fn arrive(mut self, seen: Seen, statistics: Option<Box<Statistics>>) {
        self.survey.arrive(self.slot, seen, statistics);
        self.arrived = true;
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if !self.arrived {
            self.survey.fail();
        }
    }
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
    fn fail(&self) {
        self.lock().failed = true;
        self.changed.notify_all();
    }

    fn arrive(&self, slot: usize, seen: Seen, statistics: Option<Box<Statistics>>) {
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
    /// that still run: they were handed out before, so they end whatever this thread does, if
    /// only by the drop of their [`Awaited`].
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

#[cfg(test)]
mod tests {
    use store_format::dtype::DType;

    use super::*;
    use crate::par::{Budget, Pool, Threads};

    fn survey() -> Arc<Survey> {
        Arc::new(Survey::new(TensorShape {
            dtype: DType::Bf16,
            rows: 4,
            cols: 4,
        }))
    }

    fn seen(bytes: &[u8]) -> Seen {
        Seen::Named(ChunkId::of(bytes))
    }

    #[test]
    fn what_arrived_is_given_once_all_are_there() {
        let survey = survey();
        let chunks = [0, 1].map(|slot| Awaited::new(Arc::clone(&survey), slot));
        survey.close(2);
        for (chunk, bytes) in chunks.into_iter().zip([b"a", b"b"]).rev() {
            chunk.arrive(seen(bytes), None);
        }
        let (seen, model) = survey.outcome(1).unwrap();
        assert!(seen.id() == ChunkId::of(b"b") && model.is_none());
    }

    #[test]
    fn a_job_that_is_dropped_ends_who_waits_for_it() {
        let survey = survey();
        let [first, second] = [0, 1].map(|slot| Awaited::new(Arc::clone(&survey), slot));
        survey.close(2);
        first.arrive(seen(b"a"), None);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| survey.outcome(0).err().map(|error| error.kind()));
            drop(second);
            assert_eq!(waits.join().unwrap(), Some(Kind::Interrupted));
        });
    }

    #[test]
    fn a_survey_that_is_skipped_or_panics_ends_a_commit_on_any_threads() {
        enum Job {
            Bad,
            Survey(Awaited),
            Waits,
        }
        let wide = Budget {
            bytes_max: 8,
            count_max: 8,
        };
        for panics in [false, true] {
            for threads in 1..=3 {
                let survey = survey();
                let chunk = Awaited::new(Arc::clone(&survey), 0);
                survey.close(1);
                let jobs = [Job::Bad, Job::Survey(chunk), Job::Waits];
                let run = || {
                    Pool::new(Threads::new(threads))?.ordered(
                        jobs.into_iter().map(|job| Ok((1, job))),
                        wide,
                        |job| match job {
                            Job::Bad if panics => panic!("planted"),
                            Job::Bad => Err(Error::usage("planted")),
                            Job::Survey(_chunk) => Ok(()),
                            Job::Waits => survey.outcome(0).map(|_| ()),
                        },
                        Ok,
                    )
                };
                let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
                match ended {
                    Ok(ended) => assert_eq!(ended.unwrap_err().to_string(), "planted"),
                    Err(_) => assert!(panics),
                }
            }
        }
    }
}
