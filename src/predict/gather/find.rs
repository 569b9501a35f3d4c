//! Finds where the rows or columns of a tensor stand in tensors that are known.
//!
//! May use: `store_format`. Must never decide alone: what it finds is tried before it is kept.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

use super::{Run, Runs};

/// The hash by which rows are found again. Not stored: it may change.
#[must_use]
pub fn row_hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// The rows of several sources by hash. 24 bytes or so a row.
#[derive(Default)]
pub struct RowIndex {
    sources: Vec<Vec<u64>>,
    places: HashMap<u64, (u8, u64)>,
}

impl RowIndex {
    /// An index of no rows.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins the next source; its rows follow by [`RowIndex::add_row`].
    pub fn add_source(&mut self) {
        self.sources.push(Vec::new());
    }

    /// Adds the next row of the newest source. Sources beyond the 255th are not indexed.
    pub fn add_row(&mut self, row: &[u8]) {
        self.add(row_hash(row));
    }

    fn add(&mut self, hash: u64) {
        let Ok(source) = u8::try_from(self.sources.len().wrapping_sub(1)) else {
            return;
        };
        if let Some(rows) = self.sources.last_mut() {
            self.places
                .entry(hash)
                .or_insert((source, rows.len() as u64));
            rows.push(hash);
        }
    }

    /// Whether a row stands in a source: the quick test, on a few rows of the target.
    #[must_use]
    pub fn has_row(&self, row: &[u8]) -> bool {
        self.places.contains_key(&row_hash(row))
    }

    /// Where each row of a target comes from, by the [`row_hash`] of each; rows that nobody has are zero. `None` if fewer
    /// than half are found. A row that follows its predecessor's source goes on there.
    #[must_use]
    pub fn find(&self, rows: impl Iterator<Item = u64>) -> Option<Runs> {
        let (mut runs, mut found, mut all) = (Vec::new(), 0u64, 0u64);
        let mut next = (0u8, 0u64);
        for hash in rows {
            all += 1;
            let goes_on = self
                .sources
                .get(usize::from(next.0))
                .and_then(|rows| rows.get(usize::try_from(next.1).ok()?))
                == Some(&hash);
            let place = if goes_on {
                Some(&next)
            } else {
                self.places.get(&hash)
            };
            if let Some(&(source, at)) = place {
                found += 1;
                next = (source, at + 1);
                runs.push(Run::of(source, at, 1));
            } else {
                runs.push(Run {
                    source: None,
                    start: 0,
                    count: 1,
                });
            }
        }
        if all == 0 || found * 2 < all {
            return None;
        }
        Runs::new(runs).ok()
    }
}

/// Where each column of a target comes from, judged by the same few rows of both, of elements
/// `width` bytes long. `None` unless all are found.
#[must_use]
pub fn columns(source: &[&[u8]], target: &[&[u8]], width: usize) -> Option<Runs> {
    let column = |rows: &[&[u8]], at: usize| -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        for row in rows {
            hasher.write(row.get(at * width..(at + 1) * width)?);
        }
        Some(hasher.finish())
    };
    let count = |rows: &[&[u8]]| rows.first().map(|row| row.len() / width);
    let mut index = RowIndex::new();
    index.add_source();
    for at in 0..count(source)? {
        index.add(column(source, at)?);
    }
    let wanted: Option<Vec<_>> = (0..count(target)?).map(|at| column(target, at)).collect();
    let runs = index.find(wanted?.into_iter())?;
    runs.runs
        .iter()
        .all(|run| run.source.is_some())
        .then_some(runs)
}

#[cfg(test)]
mod tests {
    use super::super::super::{Recipe, Shape, Step};
    use super::super::{Gather, Rows};
    use super::*;
    use store_format::dtype::DType;

    const fn shape(rows: u64, cols: u64) -> Shape {
        Shape {
            dtype: DType::U16,
            rows,
            cols,
        }
    }

    /// Element (r, c) of tensor `t` is 1000 t + 10 r + c.
    fn tensor(t: u16, rows: u16, cols: u16) -> Vec<u8> {
        (0..rows)
            .flat_map(|r| (0..cols).flat_map(move |c| (1000 * t + 10 * r + c).to_le_bytes()))
            .collect()
    }

    /// Predicts every range of the target and compares it with the same range of the whole.
    fn check_ranges(recipe: &Recipe, sources: &[Vec<u8>], whole: &[u16]) {
        let parsed = Recipe::parse(&recipe.to_bytes()).unwrap();
        assert_eq!(&parsed, recipe);
        for first in 0..=whole.len() {
            for end in first..=whole.len() {
                let ranges = recipe.sources(first as u64, (end - first) as u64).unwrap();
                let parts: Vec<&[u8]> = ranges
                    .iter()
                    .map(|r| &sources[r.source][r.start as usize..][..r.bytes as usize])
                    .collect();
                let mut out = vec![0; (end - first) * 2];
                recipe.predict(first as u64, &parts, &mut out).unwrap();
                let got: Vec<u16> = out
                    .as_chunks()
                    .0
                    .iter()
                    .map(|&b| u16::from_le_bytes(b))
                    .collect();
                assert_eq!(got, whole[first..end], "{first}..{end}");
            }
        }
    }

    #[test]
    fn listed_rows_come_from_several_sources_in_any_range() {
        let runs = [
            Run::of(1, 2, 1),
            Run::of(0, 1, 1),
            Run::of(0, 2, 1),
            Run {
                source: None,
                start: 0,
                count: 1,
            },
            Run::of(0, 0, 1),
        ];
        let view = Gather::listed(2, Runs::new(runs).unwrap());
        let recipe = Recipe::new(
            shape(5, 3),
            vec![shape(3, 3), shape(4, 3)],
            Some(view),
            Step::Same,
        )
        .unwrap();
        let whole = [1020, 1021, 1022, 10, 11, 12, 20, 21, 22, 0, 0, 0, 0, 1, 2];
        check_ranges(&recipe, &[tensor(0, 3, 3), tensor(1, 4, 3)], &whole);
    }

    #[test]
    fn chosen_columns_come_in_any_range() {
        let view = Gather::columns(Runs::from_indices([3, 0, 1]).unwrap());
        let recipe = Recipe::new(shape(3, 3), vec![shape(3, 4)], Some(view), Step::Same).unwrap();
        check_ranges(
            &recipe,
            &[tensor(0, 3, 4)],
            &[3, 0, 1, 13, 10, 11, 23, 20, 21],
        );
        let rows = Rows::Listed(
            Runs::new([
                Run::of(0, 2, 1),
                Run {
                    source: None,
                    start: 0,
                    count: 1,
                },
                Run::of(0, 0, 1),
            ])
            .unwrap(),
        );
        let view = Gather {
            sources: 1,
            rows,
            cols: Some(Runs::from_indices([1, 3]).unwrap()),
        };
        let recipe = Recipe::new(shape(3, 2), vec![shape(3, 4)], Some(view), Step::Same).unwrap();
        check_ranges(&recipe, &[tensor(0, 3, 4)], &[21, 23, 0, 0, 1, 3]);
    }

    #[test]
    fn a_transpose_comes_in_any_range() {
        let recipe = Recipe::new(
            shape(2, 3),
            vec![shape(3, 2)],
            Some(Gather::transposed()),
            Step::Same,
        )
        .unwrap();
        check_ranges(&recipe, &[tensor(0, 3, 2)], &[0, 10, 20, 1, 11, 21]);
        let recipe = Recipe::new(
            shape(1, 3),
            vec![shape(3, 1)],
            Some(Gather::transposed()),
            Step::Same,
        )
        .unwrap();
        check_ranges(&recipe, &[tensor(0, 3, 1)], &[0, 10, 20]);
    }

    #[test]
    fn rotary_halves_become_pairs_and_come_back() {
        // Two heads of four rows: halves (0, 1 | 2, 3) become pairs 0, 2, 1, 3.
        let view = Gather::rotary_pairs(8, 2).unwrap();
        let recipe = Recipe::new(shape(8, 1), vec![shape(8, 1)], Some(view), Step::Same).unwrap();
        let pairs = [0, 20, 10, 30, 40, 60, 50, 70];
        check_ranges(&recipe, &[tensor(0, 8, 1)], &pairs);
        let back = Gather {
            sources: 1,
            rows: Rows::Swap { a: 2, b: 2 },
            cols: None,
        };
        let recipe = Recipe::new(shape(8, 1), vec![shape(8, 1)], Some(back), Step::Same).unwrap();
        let bytes: Vec<u8> = pairs.iter().flat_map(|v| v.to_le_bytes()).collect();
        check_ranges(&recipe, &[bytes], &[0, 10, 20, 30, 40, 50, 60, 70]);
        assert_eq!(Gather::rotary_pairs(10, 4), None);
        assert_eq!(Gather::rotary_pairs(8, u64::MAX), None);
    }

    #[test]
    fn rows_of_a_pruned_tensor_are_found() {
        let source = tensor(0, 9, 4);
        let mut index = RowIndex::new();
        index.add_source();
        source.chunks(8).for_each(|row| index.add_row(row));
        let kept = [0u64, 1, 2, 5, 8];
        let target: Vec<u8> = kept
            .iter()
            .flat_map(|&r| source[r as usize * 8..][..8].to_vec())
            .collect();
        assert!(index.has_row(&target[..8]));
        assert_eq!(
            index.find(target.chunks(8).map(row_hash)),
            Runs::from_indices(kept).ok()
        );
        let strange = tensor(7, 5, 4);
        assert!(!index.has_row(&strange[..8]));
        assert_eq!(index.find(strange.chunks(8).map(row_hash)), None);
    }

    #[test]
    fn columns_of_a_pruned_tensor_are_found() {
        let source = tensor(0, 4, 6);
        let rows: Vec<&[u8]> = source.chunks(12).collect();
        let kept = [1u64, 2, 5];
        let target: Vec<Vec<u8>> = rows
            .iter()
            .map(|row| {
                kept.iter()
                    .flat_map(|&c| row[c as usize * 2..][..2].to_vec())
                    .collect()
            })
            .collect();
        let target: Vec<&[u8]> = target.iter().map(Vec::as_slice).collect();
        assert_eq!(columns(&rows, &target, 2), Runs::from_indices(kept).ok());
        assert_eq!(columns(&rows, &[&[9u8; 6][..]; 4], 2), None);
    }

    #[test]
    fn views_that_do_not_fit_are_refused() {
        let listed = |runs: Vec<Run>| Gather::listed(1, Runs::new(runs).unwrap());
        for (target, source, view) in [
            (shape(2, 3), shape(2, 3), listed(vec![Run::of(0, 1, 2)])),
            (shape(2, 3), shape(9, 3), listed(vec![Run::of(0, 1, 1)])),
            (shape(2, 3), shape(9, 3), listed(vec![Run::of(1, 1, 2)])),
            (shape(2, 3), shape(9, 4), listed(vec![Run::of(0, 1, 2)])),
            (shape(2, 3), shape(2, 3), Gather::transposed()),
            (
                shape(4, 1),
                shape(4, 1),
                Gather {
                    sources: 1,
                    rows: Rows::Swap { a: 3, b: 1 },
                    cols: None,
                },
            ),
            (
                shape(4, 1),
                shape(4, 1),
                Gather {
                    sources: 1,
                    rows: Rows::Swap { a: 0, b: 1 },
                    cols: None,
                },
            ),
            (
                shape(4, 1),
                shape(4, 1),
                Gather {
                    sources: 1,
                    rows: Rows::Swap {
                        a: 1 << 40,
                        b: 1 << 40,
                    },
                    cols: None,
                },
            ),
            (
                shape(4, 1),
                shape(4, 2),
                Gather {
                    sources: 2,
                    rows: Rows::Same,
                    cols: None,
                },
            ),
            (
                shape(4, 1),
                shape(4, 1),
                Gather {
                    sources: 1,
                    rows: Rows::Same,
                    cols: None,
                },
            ),
        ] {
            assert!(Recipe::new(target, vec![source], Some(view), Step::Same).is_err());
        }
        assert!(Runs::new([Run::of(0, u64::MAX, 2)]).is_err());
        assert!(Runs::new([Run::of(0, 0, 0)]).is_err());
        assert!(Runs::new([Run::of(0, 0, 1 << 50), Run::of(1, 0, 1 << 50)]).is_err());
    }

    #[test]
    fn a_list_has_one_encoding() {
        let recipe = |runs: Vec<Run>, rows| {
            let view = Gather::listed(1, Runs::new(runs).unwrap());
            Recipe::new(shape(rows, 1), vec![shape(9, 1)], Some(view), Step::Same).unwrap()
        };
        let whole = recipe(vec![Run::of(0, 3, 2)], 2);
        let joined = recipe(vec![Run::of(0, 3, 1), Run::of(0, 4, 1)], 2);
        assert_eq!(whole.to_bytes(), joined.to_bytes());
        // The same list in two runs that follow each other.
        let bytes = whole.to_bytes();
        let tail = [1, 12, 1, 0];
        assert_eq!(bytes[bytes.len() - 4..], tail);
        let mut split = bytes[..bytes.len() - 4].to_vec();
        split.extend([2, 12, 0, 0, 0, 0]);
        assert!(Recipe::parse(&split).is_err());
    }
}
