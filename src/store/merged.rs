//! Merged indexes: which packs may hold an id, for many packs in one mapped file with a filter.
//!
//! May use: `error`. Pure. A merged index only narrows a search: what it answers is looked up
//! in the pack's own index, so a wrong one costs time, and a lost one is made again.
//!
//! ```text
//! header (72) | packs n x 32 | keys m x 8 | pack numbers m x 4 | filter f | check (32)
//! ```
//! A key is the first eight bytes of an id as a number; keys ascend. Numbers are little endian.
//! The filter is a binary fuse filter of eight bits over the keys.

use store_format::FormatError;
use store_format::cursor::{Reader, usize_of};
use store_format::ids::{ID_BYTES, PackId, RecordId};
use xorf::{BinaryFuse8, BinaryFuse8Ref, DmaSerializable, Filter, FilterRef};

const MAGIC: [u8; 8] = *b"SPARSEMX";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 72;
const CHECK_BYTES: usize = 32;
const DESCRIPTOR_BYTES: usize = 20;

/// The number that an id is searched by. Ids are hashes, so keys are spread evenly.
#[must_use]
pub fn key_of(id: &RecordId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *id.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// The bytes of a merged index over packs and, for each record, its key and its pack's place
/// among `packs`. Nothing where no filter can be made.
#[must_use]
pub fn encode(packs: &[PackId], mut records: Vec<(u64, u32)>) -> Option<Vec<u8>> {
    records.sort_unstable();
    records.dedup();
    let mut keys: Vec<u64> = records.iter().map(|(key, _)| *key).collect();
    keys.dedup();
    let filter = BinaryFuse8::try_from(&keys).ok()?;
    drop(keys);
    let mut descriptor = [0; DESCRIPTOR_BYTES];
    filter.dma_copy_descriptor_to(&mut descriptor);
    let fingerprints = filter.dma_fingerprints();
    let lengths = packs.len() * ID_BYTES + records.len() * 12 + fingerprints.len();
    let mut out = Vec::with_capacity(HEADER_BYTES + lengths + CHECK_BYTES);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&u32::try_from(packs.len()).ok()?.to_le_bytes());
    out.extend_from_slice(&(records.len() as u64).to_le_bytes());
    out.extend_from_slice(&(fingerprints.len() as u64).to_le_bytes());
    out.extend_from_slice(&descriptor);
    out.extend_from_slice(&[0; 20]);
    for pack in packs {
        out.extend_from_slice(pack.as_bytes());
    }
    for (key, _) in &records {
        out.extend_from_slice(&key.to_le_bytes());
    }
    for (_, pack) in &records {
        out.extend_from_slice(&pack.to_le_bytes());
    }
    out.extend_from_slice(fingerprints);
    let check = blake3::hash(&out);
    out.extend_from_slice(check.as_bytes());
    Some(out)
}

/// A merged index over bytes that need not be trusted.
#[derive(Clone, Copy)]
pub struct Merged<'a> {
    packs: &'a [[u8; ID_BYTES]],
    keys: &'a [[u8; 8]],
    numbers: &'a [[u8; 4]],
    descriptor: &'a [u8],
    fingerprints: &'a [u8],
}

impl<'a> Merged<'a> {
    /// Takes bytes as a merged index; looks at the header only.
    ///
    /// # Errors
    /// [`FormatError`] where the lengths or the filter's numbers do not hold.
    pub fn open(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes, "merged index");
        if reader.array()? != MAGIC {
            return Err(FormatError::Invalid {
                rule: "a merged index starts with its magic",
            });
        }
        let version = reader.u32()?;
        if version != VERSION {
            return Err(FormatError::Unsupported {
                feature: version.into(),
            });
        }
        let packs = usize_of(reader.u32()?.into())?;
        let records = usize_of(reader.u64()?)?;
        let filter_bytes = usize_of(reader.u64()?)?;
        let descriptor = reader.take(DESCRIPTOR_BYTES)?;
        reader.take(20)?;
        let mut part = |count: usize, bytes: usize| reader.take(count.saturating_mul(bytes));
        let packs = part(packs, ID_BYTES)?.as_chunks().0;
        let keys = part(records, 8)?.as_chunks().0;
        let numbers = part(records, 4)?.as_chunks().0;
        let fingerprints = part(filter_bytes, 1)?;
        reader.take(CHECK_BYTES)?;
        reader.finish()?;
        check_filter(descriptor, fingerprints.len())?;
        Ok(Self {
            packs,
            keys,
            numbers,
            descriptor,
            fingerprints,
        })
    }

    /// Takes bytes as a merged index after comparing their check.
    ///
    /// # Errors
    /// As [`Merged::open`], and where the check differs.
    pub fn check(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let what = "a merged index";
        let (covered, check) = bytes
            .split_last_chunk::<CHECK_BYTES>()
            .ok_or(FormatError::Truncated { what })?;
        if blake3::hash(covered).as_bytes() != check {
            return Err(FormatError::Checksum { what });
        }
        Self::open(bytes)
    }

    /// Records in it.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The packs that it covers.
    pub fn packs(&self) -> impl Iterator<Item = PackId> + use<'a> {
        self.packs.iter().copied().map(PackId::from_bytes)
    }

    /// Packs that may hold a record with this key, each once.
    #[must_use]
    pub fn find(&self, key: u64) -> Vec<PackId> {
        let filter = BinaryFuse8Ref::from_dma(self.descriptor, self.fingerprints);
        if !filter.contains(&key) {
            return Vec::new();
        }
        let start = self.first(key);
        let end = self.numbers.len();
        let here = (start..end).take_while(|index| self.key(*index) == Some(key));
        let numbers = here.filter_map(|index| self.numbers.get(index));
        let packs = numbers.filter_map(|number| {
            self.packs
                .get(usize_of(u32::from_le_bytes(*number).into()).ok()?)
        });
        let mut found: Vec<_> = packs.copied().map(PackId::from_bytes).collect();
        found.dedup();
        found
    }

    /// The first place whose key is not smaller. Keys are spread evenly, so the search starts
    /// where the key should be and widens: few pages are touched however long the index is.
    fn first(&self, key: u64) -> usize {
        let count = self.keys.len();
        let guess = (u128::from(key) * count as u128) >> 64;
        let guess = usize::try_from(guess).unwrap_or(0).min(count);
        let below = |index: usize| self.key(index).is_some_and(|found| found < key);
        let (mut low, mut high) = (guess, guess);
        let mut step = 16;
        while low > 0 && !below(low - 1) {
            high = low;
            low = low.saturating_sub(step);
            step *= 2;
        }
        step = 16;
        while high < count && below(high) {
            low = high + 1;
            high = high.saturating_add(step).min(count);
            step *= 2;
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if below(middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn key(&self, index: usize) -> Option<u64> {
        self.keys.get(index).copied().map(u64::from_le_bytes)
    }
}

/// The filter's code takes its numbers as they are: they must not lead outside.
fn check_filter(descriptor: &[u8], filter_bytes: usize) -> Result<(), FormatError> {
    let mut reader = Reader::new(descriptor, "merged index");
    reader.u64()?; // the seed may be anything
    let segment = reader.u32()?;
    let mask = reader.u32()?;
    let span = reader.u32()?;
    let whole = segment.is_power_of_two()
        && mask == segment.wrapping_sub(1)
        && span > 0
        && span.is_multiple_of(segment)
        && u64::from(span) + 2 * u64::from(segment) <= filter_bytes as u64
        && u64::from(span) + 3 * u64::from(segment) <= u64::from(u32::MAX);
    if whole {
        Ok(())
    } else {
        Err(FormatError::Invalid {
            rule: "the filter of a merged index lies within it",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: u64) -> Vec<RecordId> {
        let id = |k: u64| *blake3::hash(&k.to_le_bytes()).as_bytes();
        (0..count).map(|k| RecordId::from_bytes(id(k))).collect()
    }

    fn sample(count: u64) -> (Vec<PackId>, Vec<u8>) {
        let packs: Vec<_> = (0..5_u8).map(|k| PackId::of(&[k])).collect();
        let records = ids(count)
            .iter()
            .zip(0_u32..)
            .map(|(id, k)| (key_of(id), k % 5))
            .collect();
        let bytes = encode(&packs, records).unwrap();
        (packs, bytes)
    }

    #[test]
    fn every_record_is_found_and_few_others_cost_a_search() {
        for count in [0, 1, 2, 3, 17, 1000, 20_000] {
            let (packs, bytes) = sample(count);
            let merged = Merged::check(&bytes).unwrap();
            assert_eq!(merged.packs().collect::<Vec<_>>(), packs);
            for (k, id) in ids(count).iter().enumerate() {
                assert_eq!(merged.find(key_of(id)), [packs[k % 5]]);
            }
            let others = ids(count + 5000);
            let others = &others[usize::try_from(count).unwrap()..];
            assert!(others.iter().all(|id| merged.find(key_of(id)).is_empty()));
        }
    }

    #[test]
    fn records_of_one_key_are_all_found() {
        let packs: Vec<_> = (0..3_u8).map(|k| PackId::of(&[k])).collect();
        let records = vec![(7, 0), (7, 2), (7, 2), (8, 1), (u64::MAX, 1), (0, 0)];
        let bytes = encode(&packs, records).unwrap();
        let merged = Merged::check(&bytes).unwrap();
        assert_eq!(merged.find(7), [packs[0], packs[2]]);
        assert_eq!(merged.find(u64::MAX), [packs[1]]);
        assert_eq!(merged.find(0), [packs[0]]);
        assert!(merged.find(9).is_empty());
    }

    #[test]
    fn damage_is_found_by_the_check_and_survived_without_it() {
        let (_, bytes) = sample(200);
        let wanted: Vec<_> = ids(300).iter().map(key_of).collect();
        for cut in 0..bytes.len() {
            assert!(Merged::check(&bytes[..cut]).is_err());
            assert!(Merged::open(&bytes[..cut]).is_err());
        }
        for bit in 0..bytes.len() * 8 {
            let mut hurt = bytes.clone();
            hurt[bit / 8] ^= 1 << (bit % 8);
            assert!(Merged::check(&hurt).is_err());
            if let Ok(merged) = Merged::open(&hurt)
                && (bit < 72 * 8 || bit % 97 == 0)
            {
                for key in &wanted {
                    let _ = merged.find(*key); // wrong answers are allowed, panics are not
                }
            }
        }
    }

    #[test]
    fn extreme_numbers_are_refused() {
        let (_, bytes) = sample(200);
        for at in (8..52).step_by(4) {
            for value in [0, 1, u32::MAX, u32::MAX - 1, 1 << 31] {
                let mut hurt = bytes.clone();
                hurt[at..at + 4].copy_from_slice(&value.to_le_bytes());
                if let Ok(merged) = Merged::open(&hurt) {
                    let _ = merged.find(3);
                }
            }
        }
    }
}
