//! The bytes of views as they lie in the chunks that a reader keeps.
//!
//! May use: `store_format`. Must never copy what lies in one piece.

use std::borrow::Cow;
use std::ops::{Deref, Range};
use std::sync::Arc;

use store_format::verified::Verified;

/// A run of bytes.
#[derive(Clone, Debug)]
enum Piece {
    /// A range inside a chunk.
    Chunk(Arc<Verified>, Range<usize>),
    /// So many zeros.
    Zeros(usize),
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Self::Chunk(_, range) => range.len(),
            Self::Zeros(count) => *count,
        }
    }

    /// Appends a range of the piece.
    fn put(&self, within: Range<usize>, out: &mut Vec<u8>) {
        match self {
            Self::Chunk(chunk, range) => {
                out.extend_from_slice(&chunk.bytes()[range.clone()][within]);
            }
            Self::Zeros(_) => out.resize(out.len() + within.len(), 0),
        }
    }
}

/// Bytes of one or more views, one after the other.
#[derive(Clone, Debug, Default)]
pub struct Pieces(Vec<Piece>);

impl Pieces {
    /// Adds a range of a chunk; `false`, and nothing happens, where the chunk does not have it.
    #[must_use]
    pub fn add(&mut self, chunk: Arc<Verified>, range: Range<usize>) -> bool {
        let is_inside = chunk.bytes().get(range.clone()).is_some();
        if is_inside {
            self.0.push(Piece::Chunk(chunk, range));
        }
        is_inside
    }

    /// Adds zeros.
    pub fn add_zeros(&mut self, count: usize) {
        self.0.push(Piece::Zeros(count));
    }

    /// All bytes in one run.
    #[must_use]
    pub fn joined(mut self) -> Viewed {
        if let [Piece::Chunk(chunk, range)] = self.0.as_mut_slice()
            && *range == (0..chunk.bytes().len())
        {
            return Viewed::Chunk(Arc::clone(chunk));
        }
        let mut bytes = Vec::with_capacity(self.len());
        for piece in &self.0 {
            piece.put(0..piece.len(), &mut bytes);
        }
        bytes.into()
    }

    fn len(&self) -> usize {
        self.0.iter().map(Piece::len).sum()
    }

    /// Parts of so many bytes, one after the other; nothing where they are not all bytes.
    #[must_use]
    pub fn split(&self, lengths: &[u64]) -> Option<Vec<Cow<'_, [u8]>>> {
        let total = lengths
            .iter()
            .try_fold(0, |sum: u64, &n| sum.checked_add(n));
        if total != Some(self.len() as u64) {
            return None;
        }
        let mut left = self.0.iter().map(|piece| (piece, 0..piece.len()));
        let mut next = left.next();
        let mut parts = Vec::with_capacity(lengths.len());
        for &length in lengths {
            let mut wanted = usize::try_from(length).ok()?;
            let mut part = Cow::Borrowed(&[][..]);
            while wanted > 0 {
                let (piece, within) = next.as_mut()?;
                let taken = within.start..within.start + wanted.min(within.len());
                match piece {
                    Piece::Chunk(chunk, range) if part.is_empty() => {
                        part = Cow::Borrowed(&chunk.bytes()[range.clone()][taken.clone()]);
                    }
                    _ => {
                        let bytes = part.to_mut();
                        bytes.reserve_exact(wanted);
                        piece.put(taken.clone(), bytes);
                    }
                }
                wanted -= taken.len();
                within.start = taken.end;
                if within.start == within.end {
                    next = left.next();
                }
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
    fn a_whole_chunk_is_itself() {
        let mut pieces = Pieces::default();
        let whole = chunk(b"abc");
        assert!(pieces.add(Arc::clone(&whole), 0..3));
        assert!(matches!(pieces.joined(), Viewed::Chunk(chunk) if Arc::ptr_eq(&chunk, &whole)));
    }
}
