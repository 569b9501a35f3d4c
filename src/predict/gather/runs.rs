//! Lists of rows or columns as runs, and their bytes.
//!
//! May use: `store_format`. Must never give one list two encodings.

use store_format::FormatError;

use super::super::wire::{Reader, put_number, unzigzag, zigzag};
use super::super::{ELEMENTS_MAX, invalid};

/// Runs of one list: bounds what a list takes in memory, some thirty times its bytes.
pub(super) const RUNS_MAX: usize = 1 << 20;

/// Rows (or columns) that lie together in a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The source, or `None` for rows that are zero because nothing is known of them.
    pub source: Option<u8>,
    /// The first row; 0 without a source.
    pub start: u64,
    /// How many.
    pub count: u64,
}

impl Run {
    /// Rows of a source.
    #[must_use]
    pub const fn of(source: u8, start: u64, count: u64) -> Self {
        Self {
            source: Some(source),
            start,
            count,
        }
    }

    fn follows(&self, before: &Self) -> bool {
        self.source == before.source
            && (self.source.is_none() || self.start == before.start + before.count)
    }
}

/// Runs one after another, with the place where each begins in the target.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Runs {
    pub(super) runs: Vec<Run>,
    /// The first target index of each run, and at the end the number of all.
    places: Vec<u64>,
}

impl Runs {
    /// Joins runs that follow each other, so that equal lists have equal bytes.
    ///
    /// # Errors
    /// [`FormatError`] for an empty run or numbers beyond the limits of a tensor.
    pub fn new(runs: impl IntoIterator<Item = Run>) -> Result<Self, FormatError> {
        let mut joined: Vec<Run> = Vec::new();
        for run in runs {
            let fits = run.count > 0
                && run
                    .start
                    .checked_add(run.count)
                    .is_some_and(|end| end <= ELEMENTS_MAX)
                && (run.source.is_some() || run.start == 0);
            if !fits {
                return invalid("a run has at least one row and lies inside a tensor");
            }
            if let Some(last) = joined.last_mut().filter(|last| run.follows(last)) {
                last.count += run.count;
                continue;
            }
            if joined.len() == RUNS_MAX {
                return invalid("a list has at most 2^20 runs");
            }
            joined.push(run);
        }
        let mut places = Vec::with_capacity(joined.len() + 1);
        let mut at = 0u64;
        for run in &joined {
            places.push(at);
            at = match at.checked_add(run.count) {
                Some(sum) if sum <= ELEMENTS_MAX => sum,
                _ => return invalid("a tensor has at most 2^50 elements"),
            };
        }
        places.push(at);
        Ok(Self {
            runs: joined,
            places,
        })
    }

    /// A list of rows of source 0.
    ///
    /// # Errors
    /// As [`Runs::new`].
    pub fn from_indices(indices: impl IntoIterator<Item = u64>) -> Result<Self, FormatError> {
        Self::new(indices.into_iter().map(|start| Run::of(0, start, 1)))
    }

    /// About how many bytes of memory the list takes.
    pub(super) fn held_bytes(&self) -> usize {
        size_of_val(&*self.runs) + size_of_val(&*self.places)
    }

    /// How many rows there are in all.
    pub(super) fn len(&self) -> u64 {
        self.places.last().copied().unwrap_or(0)
    }

    /// The pieces of the runs that make up the target rows `[first, first + count)`.
    pub(super) fn pieces(&self, first: u64, count: u64) -> impl Iterator<Item = Run> {
        let at = self
            .places
            .partition_point(|&place| place <= first)
            .saturating_sub(1);
        let end = first + count;
        self.runs[at.min(self.runs.len())..]
            .iter()
            .zip(&self.places[at.min(self.places.len())..])
            .take_while(move |&(_, &place)| place < end)
            .filter_map(move |(run, &place)| {
                let from = first.max(place);
                let until = end.min(place + run.count);
                (from < until).then(|| Run {
                    source: run.source,
                    start: if run.source.is_some() {
                        run.start + (from - place)
                    } else {
                        0
                    },
                    count: until - from,
                })
            })
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_number(out, self.runs.len() as u64);
        let mut before = Run::of(0, 0, 0);
        for run in &self.runs {
            let moved = run.source != before.source;
            let expected = if run.source.is_some() {
                before.start + before.count
            } else {
                run.start
            };
            let gap = run.start.cast_signed() - expected.cast_signed();
            put_number(out, zigzag(gap) << 1 | u64::from(moved));
            if moved {
                out.push(run.source.unwrap_or(u8::MAX));
            }
            put_number(out, run.count - 1);
            before = *run;
        }
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, FormatError> {
        // A run takes at least two bytes.
        let max = RUNS_MAX.min(reader.left() / 2);
        let count = reader.number_up_to("runs", max as u64)?;
        let mut runs: Vec<Run> = Vec::with_capacity(count as usize);
        let mut before = Run::of(0, 0, 0);
        for _ in 0..count {
            let head = reader.number_up_to("gap", u64::MAX >> 4)?;
            let source = match head & 1 {
                0 => before.source,
                _ => Some(reader.byte()?).filter(|&source| source != u8::MAX),
            };
            if (head & 1 == 1) == (source == before.source) {
                return Err(FormatError::NotCanonical { what: "a run" });
            }
            let gap = unzigzag(head >> 1);
            let expected = if source.is_some() {
                before.start + before.count
            } else {
                0
            };
            let start = expected.checked_add_signed(gap);
            let Some(start) = start.filter(|&start| start <= ELEMENTS_MAX) else {
                return invalid("a run has at least one row and lies inside a tensor");
            };
            let count = reader.number_up_to("rows of a run", ELEMENTS_MAX - 1)? + 1;
            let run = Run {
                source,
                start,
                count,
            };
            before = run;
            runs.push(run);
        }
        let given = runs.len();
        let runs = Self::new(runs)?;
        if runs.runs.len() != given {
            return Err(FormatError::NotCanonical {
                what: "a list of runs",
            });
        }
        Ok(runs)
    }

    /// Whether every run lies in a source of `rows(source)` rows.
    pub(super) fn lie_in(&self, rows: impl Fn(u8) -> Option<u64>) -> bool {
        self.runs.iter().all(|run| match run.source {
            None => true,
            Some(source) => rows(source).is_some_and(|rows| run.start + run.count <= rows),
        })
    }
}
