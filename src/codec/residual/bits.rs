//! Bits in and out, lowest bit first, and a bounded reader of bytes.
//!
//! May use: `store_format`. A reader of coded bits gives zeros past the end, and says so when
//! asked; a reader of headers refuses.

use store_format::FormatError;

/// Appends bits, lowest first.
#[derive(Default)]
pub(super) struct BitWriter {
    pub bytes: Vec<u8>,
    /// Bits that are no whole byte yet, and how many.
    pub held: u64,
    pub count: u32,
}

impl BitWriter {
    /// Bits that follow whole bytes.
    pub fn after(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            ..Self::default()
        }
    }

    /// Appends the low `count` bits of `value`, whose other bits are ignored; at most 56.
    #[inline]
    pub fn put(&mut self, value: u64, count: u32) {
        self.held |= (value & ((1u64 << count) - 1)) << self.count;
        self.count += count;
        let whole = self.count / 8;
        let kept = self.bytes.len() + whole as usize;
        // Eight bytes at once and back again costs less than a copy of unknown length.
        self.bytes.extend_from_slice(&self.held.to_le_bytes());
        self.bytes.truncate(kept);
        self.held >>= 8 * whole;
        self.count %= 8;
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.held = 0;
        self.count = 0;
    }

    /// Fills the last byte with zeros and gives the bytes.
    pub fn finish(mut self) -> Vec<u8> {
        let rest = self.count.div_ceil(8) as usize;
        self.bytes
            .extend_from_slice(&self.held.to_le_bytes()[..rest]);
        self.bytes
    }
}

/// Reads bits, lowest first; zeros past the end.
#[derive(Clone)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Bits taken so far.
    pub position: usize,
}

impl<'a> BitReader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// All bytes, those already read included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The next `count` bits; `count` is at most 56.
    pub fn take(&mut self, count: u32) -> u64 {
        let at = self.position >> 3;
        let word = match self.bytes.get(at..at + 8) {
            Some(eight) => {
                let mut word = [0; 8];
                word.copy_from_slice(eight);
                u64::from_le_bytes(word)
            }
            None => {
                let tail = self.bytes.get(at..).unwrap_or(&[]);
                let mut word = [0; 8];
                word[..tail.len()].copy_from_slice(tail);
                u64::from_le_bytes(word)
            }
        };
        let value = (word >> (self.position & 7)) & ((1u64 << count) - 1);
        self.position += count as usize;
        value
    }

    /// Whether exactly all bytes were used and the bits left of the last one are zero.
    pub fn is_finished(&self) -> bool {
        if self.position.div_ceil(8) != self.bytes.len() {
            return false;
        }
        let used = self.position & 7;
        used == 0 || self.bytes.last().is_none_or(|last| last >> used == 0)
    }
}

/// Reads header fields; refuses to read past the end.
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    what: &'static str,
}

impl<'a> Fields<'a> {
    pub fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { bytes, what }
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8], FormatError> {
        let (head, tail) = self
            .bytes
            .split_at_checked(count)
            .ok_or(FormatError::Truncated { what: self.what })?;
        self.bytes = tail;
        Ok(head)
    }

    /// An unsigned number of `count` bytes, at most 8.
    pub fn number(&mut self, count: usize) -> Result<u64, FormatError> {
        let mut eight = [0; 8];
        eight[..count].copy_from_slice(self.take(count)?);
        Ok(u64::from_le_bytes(eight))
    }

    pub fn byte(&mut self) -> Result<u8, FormatError> {
        Ok(self.take(1)?[0])
    }

    pub fn i16(&mut self) -> Result<i16, FormatError> {
        let two = self.take(2)?;
        Ok(i16::from_le_bytes([two[0], two[1]]))
    }

    pub fn finish(self) -> Result<(), FormatError> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(FormatError::Trailing { what: self.what })
        }
    }

    /// A reader of the bits that begin here; give what it used to [`Fields::skip_bits`].
    pub fn bits(&self) -> BitReader<'a> {
        BitReader::new(self.bytes)
    }

    /// Steps over the bytes that a bit reader used; the bits left of the last one must be zero,
    /// so that nothing has two encodings.
    pub fn skip_bits(&mut self, bits: &BitReader<'a>) -> Result<(), FormatError> {
        let bytes = self.take(bits.position.div_ceil(8))?;
        let used = bits.position % 8;
        if used != 0 && bytes.last().is_some_and(|last| last >> used != 0) {
            return Err(FormatError::NotCanonical { what: self.what });
        }
        Ok(())
    }
}
