//! Which tensor of a base a tensor is compared with, and which bytes of the base stand where.
//!
//! May use: `store_format`. A wrong pair costs bytes, never correctness. Must be deterministic:
//! the same two lists give the same pairs in every run.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::OnceLock;

use store_format::layout::Tensor;
use store_format::manifest::Manifest;
use store_format::record::{Part, View};

/// A tensor and the path of the file that holds it.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// The file, relative to the root of its version.
    pub file: &'a str,
    /// The tensor.
    pub tensor: &'a Tensor,
}

/// The tensors of a base, indexed once for all files that are compared with them.
#[derive(Debug)]
pub struct Bases<'a> {
    all: Vec<Named<'a>>,
    /// Where those of a file stand among all.
    by_file: HashMap<&'a str, Range<usize>>,
    by_name: HashMap<&'a str, Vec<usize>>,
    /// Made for the first target without a namesake: most files have none.
    others: OnceLock<Others<'a>>,
}

/// What finds a base of another name.
#[derive(Debug, Default)]
struct Others<'a> {
    by_shape: HashMap<Shape<'a>, Vec<usize>>,
    by_end: HashMap<(Shape<'a>, &'a str), Vec<usize>>,
}

impl<'a> Bases<'a> {
    /// Takes tensors, those of a file one after the other.
    #[must_use]
    pub fn new(all: Vec<Named<'a>>) -> Self {
        let (mut by_file, mut by_name) = (HashMap::new(), HashMap::<_, Vec<_>>::new());
        for (index, base) in all.iter().enumerate() {
            let of_file: &mut Range<usize> = by_file.entry(base.file).or_insert(index..index);
            of_file.end = index + 1;
            by_name.entry(&*base.tensor.name).or_default().push(index);
        }
        Self {
            all,
            by_file,
            by_name,
            others: OnceLock::new(),
        }
    }

    /// For each target the index of its base, if one fits.
    ///
    /// In falling order of trust: the same name and shape; the same name and row length (rows
    /// were added or removed at the end); the same shape and the longest common end of the names
    /// (a prefix was added); the same shape and the same place among the tensors of that shape
    /// that are left on both sides (layers were renumbered). A base may serve several targets.
    #[must_use]
    pub fn pair(&self, targets: &[Named<'_>]) -> Vec<Option<usize>> {
        let namesakes = targets.iter().map(|target| self.namesake(target));
        let mut pairs: Vec<_> = namesakes.collect();
        if pairs.iter().all(Option::is_some) {
            return pairs;
        }
        let others = self.others.get_or_init(|| Others::of(&self.all));
        let mut used = pairs.iter().flatten().copied().collect();
        others.pair_by_end(targets, &mut pairs, &mut used);
        others.pair_by_place(targets, &mut pairs, &used);
        pairs
    }

    fn namesake(&self, target: &Named<'_>) -> Option<usize> {
        let all = self.by_name.get(&*target.tensor.name)?.as_slice();
        let closest = |bases: &[usize]| {
            let bases = bases.iter().copied();
            let fits = bases.filter(|base| comparable(target, &self.all[*base]));
            fits.max_by_key(|base| closeness(target, &self.all[*base]))
        };
        // Every file may have a tensor of this name. Nothing is closer than one of the same shape
        // in the same file, so the others are looked at only where that is not there.
        let own = self.by_file.get(target.file).map_or(&[][..], |own| {
            let place = |end: usize| all.partition_point(|base| *base < end);
            &all[place(own.start)..place(own.end)]
        });
        let is_same = |base: &usize| self.all[*base].tensor.shape == target.tensor.shape;
        closest(own).filter(is_same).or_else(|| closest(all))
    }
}

impl<'a> Others<'a> {
    fn of(bases: &[Named<'a>]) -> Self {
        let mut others = Self::default();
        for (index, base) in bases.iter().enumerate() {
            let shape = shape(base.tensor);
            others.by_shape.entry(shape).or_default().push(index);
            // Looked up by their ends, not compared with each other: files may have many tensors.
            for end in ends(&base.tensor.name) {
                others.by_end.entry((shape, end)).or_default().push(index);
            }
        }
        others
    }

    fn pair_by_end(
        &self,
        targets: &[Named<'_>],
        pairs: &mut [Option<usize>],
        used: &mut HashSet<usize>,
    ) {
        // How many at the front of each list are used.
        let mut behind: HashMap<_, usize> = HashMap::new();
        let open = targets.iter().zip(pairs);
        for (target, pair) in open.filter(|(_, pair)| pair.is_none()) {
            *pair = ends(&target.tensor.name).find_map(|end| {
                let key = (shape(target.tensor), end);
                let bases = self.by_end.get(&key)?;
                let at = behind.entry(key).or_default();
                *at += bases[*at..]
                    .iter()
                    .take_while(|base| used.contains(base))
                    .count();
                bases.get(*at).copied()
            });
            used.extend(*pair);
        }
    }

    fn pair_by_place(
        &self,
        targets: &[Named<'_>],
        pairs: &mut [Option<usize>],
        used: &HashSet<usize>,
    ) {
        let mut open: BTreeMap<Shape<'_>, Vec<usize>> = BTreeMap::new();
        for (index, target) in targets.iter().enumerate() {
            if pairs[index].is_none() {
                open.entry(shape(target.tensor)).or_default().push(index);
            }
        }
        for (shape, targets) in open {
            let bases = self.by_shape.get(&shape).into_iter().flatten().copied();
            let free = bases.filter(|base| !used.contains(base));
            // One more than are wanted tells that there are too many.
            let free: Vec<_> = free.take(targets.len() + 1).collect();
            if free.len() == targets.len() {
                for (target, base) in targets.into_iter().zip(free) {
                    pairs[target] = Some(base);
                }
            }
        }
    }
}

type Shape<'a> = (u8, &'a [u64]);

fn shape(tensor: &Tensor) -> Shape<'_> {
    (tensor.dtype.number(), &tensor.shape)
}

/// Whether elements of the one stand where elements of the other do.
fn comparable(target: &Named<'_>, base: &Named<'_>) -> bool {
    let (target, base) = (target.tensor, base.tensor);
    target.dtype == base.dtype && target.shape.get(1..) == base.shape.get(1..) && base.bytes > 0
}

fn closeness(target: &Named<'_>, base: &Named<'_>) -> (bool, u8) {
    let place = if target.file == base.file {
        2
    } else {
        u8::from(folder(target.file) == folder(base.file))
    };
    (target.tensor.shape == base.tensor.shape, place)
}

fn folder(file: &str) -> &str {
    file.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// More components than this are not compared.
const ENDS_MAX: usize = 32;

/// The ends of a name at its dots, the longest first: `a.b.c`, `b.c`, `c`.
fn ends(name: &str) -> impl Iterator<Item = &str> {
    let dots: Vec<_> = name.rmatch_indices('.').take(ENDS_MAX - 1).collect();
    let is_short = dots.len() < ENDS_MAX - 1;
    let starts = dots.into_iter().rev().map(|(at, _)| at + 1);
    let whole = is_short.then_some(0);
    whole.into_iter().chain(starts).map(|start| &name[start..])
}

/// A file of a base, prepared for finding the chunks under a range of its bytes.
#[derive(Clone, Debug)]
pub struct BaseFile {
    manifest: Manifest,
    ends: Vec<u64>,
}

impl BaseFile {
    /// Takes a manifest.
    #[must_use]
    pub fn new(manifest: Manifest) -> Self {
        let mut end = 0;
        let ends = manifest.chunks.iter().map(|chunk| {
            end += chunk.bytes;
            end
        });
        Self {
            ends: ends.collect(),
            manifest,
        }
    }

    /// Its manifest.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Appends the parts of chunks that hold `bytes` bytes from `start`; what lies beyond `end`
    /// reads as zeros.
    pub fn parts(&self, start: u64, bytes: u64, end: u64, view: &mut View) {
        let stop = (start + bytes).min(end).max(start);
        let mut at = start;
        let mut index = self.ends.partition_point(|end| *end <= at);
        while at < stop
            && let (Some(chunk), Some(chunk_end)) =
                (self.manifest.chunks.get(index), self.ends.get(index))
        {
            let taken = stop.min(*chunk_end) - at;
            let start = at - (chunk_end - chunk.bytes);
            view.push(Part {
                chunk: chunk.id,
                start,
                bytes: taken,
            });
            at += taken;
            index += 1;
        }
        if at < start + bytes {
            view.push(Part::zeros(start + bytes - at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store_format::dtype::DType;
    use store_format::ids::{ChunkId, FileId};
    use store_format::layout::Layout;
    use store_format::limits::CHUNK_BYTES_MAX;
    use store_format::manifest::{ChunkReference, Region, Role};

    fn tensor(name: &str, shape: &[u64]) -> Tensor {
        let bytes = 2 * shape.iter().product::<u64>();
        Tensor {
            name: name.into(),
            dtype: DType::Bf16,
            shape: shape.into(),
            start: 0,
            bytes,
        }
    }

    fn pairs(targets: &[(&str, &[u64])], bases: &[(&str, &[u64])]) -> Vec<Option<usize>> {
        let make = |list: &[(&str, &[u64])]| -> Vec<Tensor> {
            list.iter()
                .map(|(name, shape)| tensor(name, shape))
                .collect()
        };
        let (targets, bases) = (make(targets), make(bases));
        let named = |tensors: &'static [Tensor]| -> Vec<Named<'static>> {
            tensors
                .iter()
                .map(|tensor| Named {
                    file: "model.safetensors",
                    tensor,
                })
                .collect()
        };
        Bases::new(named(bases.leak())).pair(&named(targets.leak()))
    }

    #[test]
    fn names_win_over_places() {
        let bases: &[(&str, &[u64])] = &[("a", &[4, 4]), ("b", &[4, 4])];
        assert_eq!(
            pairs(&[("b", &[4, 4]), ("a", &[4, 4])], bases),
            [Some(1), Some(0)]
        );
    }

    #[test]
    fn a_table_with_more_rows_keeps_its_base_and_other_columns_do_not() {
        let bases: &[(&str, &[u64])] = &[("embed", &[100, 8])];
        assert_eq!(pairs(&[("embed", &[132, 8])], bases), [Some(0)]);
        assert_eq!(pairs(&[("embed", &[100, 9])], bases), [None]);
    }

    #[test]
    fn a_prefix_and_a_renumbered_layer_are_seen_through() {
        let bases: &[(&str, &[u64])] = &[("l.0.q.weight", &[4, 4]), ("l.0.k.weight", &[4, 4])];
        let prefixed: &[(&str, &[u64])] =
            &[("m.l.0.k.weight", &[4, 4]), ("m.l.0.q.weight", &[4, 4])];
        assert_eq!(pairs(prefixed, bases), [Some(1), Some(0)]);
        let renamed: &[(&str, &[u64])] = &[("x", &[4, 4]), ("y", &[4, 4])];
        assert_eq!(pairs(renamed, bases), [Some(0), Some(1)]);
        assert_eq!(pairs(&[("x", &[4, 4])], bases), [None]);
    }

    #[test]
    fn one_index_serves_many_files_and_each_finds_its_own() {
        let weights: Vec<_> = (0..3).map(|rows| tensor("w", &[4 + rows / 2, 4])).collect();
        let paths = ["x/0", "x/1", "y/0"];
        let bases = paths.iter().zip(&weights);
        let bases = Bases::new(bases.map(|(file, tensor)| Named { file, tensor }).collect());
        let pairs = |file, tensors: &[Tensor]| {
            let targets = tensors.iter().map(|tensor| Named { file, tensor });
            bases.pair(&targets.collect::<Vec<_>>())
        };
        assert!(pairs("x/0", &[]).is_empty());
        for (number, path) in paths.into_iter().enumerate() {
            assert_eq!(pairs(path, &weights[number..=number]), [Some(number)]);
        }
        // Rows were added to it, in a file whose namesake is another one's.
        assert_eq!(pairs("x/1", &weights[2..]), [Some(2)]);
        assert_eq!(pairs("z", &[tensor("w", &[9, 4])]), [Some(2)]);
        assert_eq!(pairs("x/0", &[tensor("w", &[9, 4])]), [Some(0)]);
        assert!(bases.others.get().is_none());
        // A base may serve files one after the other, but each but once.
        for _ in 0..2 {
            let renamed = [tensor("a.w", &[4, 4]), tensor("b.w", &[4, 4])];
            assert_eq!(pairs("z", &renamed), [Some(0), Some(1)]);
        }
        assert!(bases.others.get().is_some());
    }

    #[test]
    fn a_range_of_a_base_falls_into_its_chunks_and_zeros_beyond() {
        let chunk = |name: &[u8], bytes| ChunkReference {
            id: ChunkId::of(name),
            bytes,
        };
        let file = BaseFile::new(Manifest {
            bytes: 30,
            file: FileId::of(b""),
            layout: Layout::Opaque,
            regions: vec![Region {
                role: Role::Raw,
                bytes: 30,
            }],
            tensors: vec![],
            chunks: vec![chunk(b"a", 10), chunk(b"b", 20)],
            note: None,
        });
        let mut view = View::default();
        file.parts(8, 12, 18, &mut view);
        let part = |name: &[u8], start, bytes| Part {
            chunk: ChunkId::of(name),
            start,
            bytes,
        };
        assert_eq!(
            view.parts,
            [part(b"a", 8, 2), part(b"b", 0, 8), Part::zeros(2)]
        );
    }

    #[test]
    fn ranges_that_follow_each_other_are_one_part() {
        let part = |name: &[u8], start, bytes| Part {
            chunk: ChunkId::of(name),
            start,
            bytes,
        };
        let mut view = View::default();
        for pushed in [
            part(b"a", 8, 2),
            part(b"a", 10, 5),
            part(b"a", 16, 1),
            part(b"b", 17, 1),
            Part::zeros(3),
            Part::zeros(4),
        ] {
            view.push(pushed);
        }
        let joined = [
            part(b"a", 8, 7),
            part(b"a", 16, 1),
            part(b"b", 17, 1),
            Part::zeros(7),
        ];
        assert_eq!(view.parts, joined);
        // A part of a record is never longer than a chunk may be.
        view.push(Part::zeros(CHUNK_BYTES_MAX - 7));
        view.push(Part::zeros(1));
        let [.., last, next] = view.parts.as_slice() else {
            panic!("two parts");
        };
        assert_eq!((last.bytes, next.bytes), (CHUNK_BYTES_MAX, 1));
    }
}
