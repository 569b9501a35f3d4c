//! The bytes of views as they lie in the chunks that a reader keeps.
//!
//! May use: `store_format`. Must never copy most of a chunk, nor hold one for a few of its bytes:
//! so what is held is at most twice what is asked for.

use std::borrow::Cow;
use std::ops::{Deref, Range};
use std::sync::Arc;

use store_format::verified::Verified;

/// A run of bytes.
#[derive(Clone, Debug)]
enum Piece {
    /// A range inside a chunk, at least half of it.
    Chunk(Arc<Verified>, Range<usize>),
    /// Bytes of smaller ranges, and zeros.
    Bytes(Vec<u8>),
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Chunk(chunk, range) => &chunk.bytes()[range.clone()],
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// Bytes of one or more views, one after the other.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    pieces: Vec<Piece>,
    /// Bytes behind the pieces that are nobody else's.
    own: Vec<u8>,
}

impl Pieces {
    /// Adds a range of a chunk; `false`, and nothing happens, where the chunk does not have it.
    #[must_use]
    pub fn add(&mut self, chunk: Arc<Verified>, range: Range<usize>) -> bool {
        let Some(bytes) = chunk.bytes().get(range.clone()) else {
            return false;
        };
        if bytes.len() < chunk.bytes().len() / 2 {
            self.own.extend_from_slice(bytes);
            return true;
        }
        if !self.own.is_empty() {
            self.pieces
                .push(Piece::Bytes(std::mem::take(&mut self.own)));
        }
        self.pieces.push(Piece::Chunk(chunk, range));
        true
    }

    /// Adds zeros.
    pub fn add_zeros(&mut self, count: usize) {
        self.own.resize(self.own.len() + count, 0);
    }

    fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let pieces = self.pieces.iter().map(|piece| &**piece);
        pieces.chain([self.own.as_slice()])
    }

    /// All bytes in one run.
    #[must_use]
    pub fn joined(self) -> Viewed {
        match self.pieces.as_slice() {
            [] => Viewed::Gathered(self.own),
            [Piece::Chunk(chunk, range)]
                if self.own.is_empty() && *range == (0..chunk.bytes().len()) =>
            {
                Viewed::Chunk(Arc::clone(chunk))
            }
            _ => Viewed::Gathered(self.slices().collect::<Vec<_>>().concat()),
        }
    }

    /// Parts of so many bytes, one after the other; nothing where they are not all bytes.
    #[must_use]
    pub fn split(&self, lengths: &[u64]) -> Option<Vec<Cow<'_, [u8]>>> {
        let total: usize = self.slices().map(<[u8]>::len).sum();
        let wanted = lengths
            .iter()
            .try_fold(0, |sum: u64, &n| sum.checked_add(n));
        if wanted != Some(total as u64) {
            return None;
        }
        let mut slices = self.slices();
        let mut left: &[u8] = &[];
        let mut parts = Vec::with_capacity(lengths.len());
        for &length in lengths {
            let mut wanted = usize::try_from(length).ok()?;
            let mut part = Cow::Borrowed(&[][..]);
            while wanted > 0 {
                if left.is_empty() {
                    left = slices.next()?;
                }
                let (taken, rest) = left.split_at(wanted.min(left.len()));
                if part.is_empty() {
                    part = Cow::Borrowed(taken);
                } else {
                    let bytes = part.to_mut();
                    bytes.reserve_exact(wanted);
                    bytes.extend_from_slice(taken);
                }
                wanted -= taken.len();
                left = rest;
            }
            parts.push(part);
        }
        Some(parts)
    }
}

/// The bytes of a view in one run: a whole chunk as it is kept, or bytes that were put together.
#[derive(Clone, Debug)]
pub enum Viewed {
    /// All bytes of a chunk.
    Chunk(Arc<Verified>),
    /// Bytes of their own.
    Gathered(Vec<u8>),
}

impl From<Vec<u8>> for Viewed {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Gathered(bytes)
    }
}

impl Deref for Viewed {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Chunk(chunk) => chunk.bytes(),
            Self::Gathered(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(bytes: &[u8]) -> Arc<Verified> {
        Arc::new(Verified::of(bytes.to_vec()))
    }

    fn pieces() -> Pieces {
        let mut pieces = Pieces::default();
        assert!(pieces.add(chunk(b"abcdef"), 1..5));
        assert!(pieces.add(chunk(b"empty"), 2..2));
        pieces.add_zeros(3);
        assert!(pieces.add(chunk(b"xyz"), 0..3));
        pieces
    }

    #[test]
    fn parts_are_borrowed_where_they_lie_in_one_piece() {
        let pieces = pieces();
        let parts = pieces.split(&[0, 2, 2, 1, 5]).unwrap();
        let want: [&[u8]; 5] = [b"", b"bc", b"de", b"\0", b"\0\0xyz"];
        assert_eq!(parts, want);
        let is_borrowed = |part: &Cow<[u8]>| matches!(part, Cow::Borrowed(_));
        assert!(parts[..3].iter().all(is_borrowed));
        assert_eq!(&*pieces.joined(), b"bcde\0\0\0xyz");
    }

    #[test]
    fn parts_that_are_not_all_bytes_are_refused() {
        let lengths: [&[u64]; 6] = [
            &[],
            &[9],
            &[4, 3, 4],
            &[10, 1],
            &[u64::MAX],
            &[11, u64::MAX],
        ];
        for lengths in lengths {
            assert_eq!(pieces().split(lengths), None);
        }
        assert!(pieces().split(&[10, 0]).is_some());
        assert!(Pieces::default().split(&[]).is_some());
    }

    #[test]
    fn a_range_that_a_chunk_does_not_have_is_refused() {
        let mut pieces = Pieces::default();
        for range in [0..4, 4..4, 4..5, 0..usize::MAX] {
            assert!(!pieces.add(chunk(b"abc"), range));
        }
        assert!(pieces.joined().is_empty());
    }

    #[test]
    fn a_chunk_is_not_held_for_a_few_of_its_bytes() {
        let large = chunk(&[7; 100]);
        let mut pieces = Pieces::default();
        for at in 0..60 {
            assert!(pieces.add(Arc::clone(&large), at..at + 1));
        }
        assert_eq!(Arc::strong_count(&large), 1);
        let parts = pieces.split(&[20, 40]).unwrap();
        assert!(parts.iter().all(|part| matches!(part, Cow::Borrowed(_))));
        assert_eq!(&*pieces.joined(), [7; 60]);
    }

    #[test]
    fn a_whole_chunk_is_itself() {
        let mut pieces = Pieces::default();
        let whole = chunk(b"abc");
        assert!(pieces.add(Arc::clone(&whole), 0..3));
        assert!(matches!(pieces.joined(), Viewed::Chunk(chunk) if Arc::ptr_eq(&chunk, &whole)));
    }
}
