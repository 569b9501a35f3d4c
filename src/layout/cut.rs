//! Regions to spans: the pieces of a file that become chunks.
//!
//! May use: `bytes`, `error`, `store_format`. Must never look at the values of a tensor: its
//! borders follow from its shape alone, so that they are the same in its cast and quantised copies.

use store_format::dtype::DType;
use store_format::layout::Tensor;
use store_format::limits::CHUNK_ELEMENTS;

use super::{Parsed, RegionKind};
use crate::bytes::ReadAt;
use crate::error::Result;

/// The shortest piece of raw bytes, but for the last one of a region.
pub const CUT_BYTES_MIN: usize = 16 << 10;

/// What pieces of raw bytes tend to measure.
pub const CUT_BYTES_AVG: usize = 64 << 10;

/// The longest piece of raw bytes; headers and gaps up to this length stay whole.
pub const CUT_BYTES_MAX: usize = 256 << 10;

/// Raw bytes read at a time. Several cuts fit, so that little is moved to the front again.
const WINDOW_BYTES: usize = 1 << 20;

/// A tensor of fewer elements shares its chunk with its neighbours.
const SMALL_ELEMENTS: u64 = 1 << 16;

/// A piece of a file that becomes one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first byte in the file.
    pub start: u64,
    /// How many bytes; never 0, at most `limits::CHUNK_BYTES_MAX`.
    pub bytes: u64,
    /// What the bytes are.
    pub view: View,
}

/// What the bytes of a span are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// A header, a gap or raw bytes: no elements.
    Bytes,
    /// A run of elements of one tensor.
    Elements {
        /// Index in [`Parsed::tensors`].
        tensor: usize,
        /// Counted from the tensor's start.
        first_element: u64,
    },
    /// Several whole small tensors of one element type without a gap between them. Tensors
    /// without bytes may stand among them; those may be of any type.
    Group {
        /// Index of the first in [`Parsed::tensors`].
        first_tensor: usize,
        /// How many follow each other in [`Parsed::tensors`].
        count: usize,
    },
}

/// What is known of a run of bytes before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stretch {
    /// One span.
    Span(Span),
    /// To be cut by its content.
    Raw {
        /// The first byte in the file.
        start: u64,
        /// How many bytes; never 0.
        bytes: u64,
    },
}

/// The stretches of a file in order: all that can be said about its spans without reading it.
pub fn stretches(parsed: &Parsed) -> impl Iterator<Item = Stretch> {
    Stretches {
        parsed,
        region: 0,
        inside: 0,
    }
}

struct Stretches<'a> {
    parsed: &'a Parsed,
    /// The next region, and how many of its bytes are already behind.
    region: usize,
    inside: u64,
}

impl Iterator for Stretches<'_> {
    type Item = Stretch;

    fn next(&mut self) -> Option<Stretch> {
        let region = *self.parsed.regions.get(self.region)?;
        let RegionKind::Tensor(index) = region.kind else {
            self.region += 1;
            let (start, bytes) = (region.start, region.bytes);
            let whole = region.kind != RegionKind::Raw && bytes <= CUT_BYTES_MAX as u64;
            return Some(if whole || bytes <= CUT_BYTES_MIN as u64 {
                Stretch::Span(Span {
                    start,
                    bytes,
                    view: View::Bytes,
                })
            } else {
                Stretch::Raw { start, bytes }
            });
        };
        let tensor = self.parsed.tensors.get(index)?;
        let span = if self.inside == 0
            && let Some((span, regions)) = self.group(index, tensor)
        {
            self.region += regions;
            span
        } else {
            self.part(index, tensor)
        };
        Some(Stretch::Span(span))
    }
}

impl Stretches<'_> {
    /// The next part of a tensor.
    fn part(&mut self, index: usize, tensor: &Tensor) -> Span {
        let (block_elements, block_bytes) = tensor.dtype.block();
        let left = tensor.bytes.saturating_sub(self.inside);
        let step_blocks = step(tensor) / block_elements;
        let bytes = step_blocks.saturating_mul(block_bytes).min(left);
        let span = Span {
            start: tensor.start.saturating_add(self.inside),
            bytes,
            view: View::Elements {
                tensor: index,
                first_element: (self.inside / block_bytes).saturating_mul(block_elements),
            },
        };
        self.inside = self.inside.saturating_add(bytes);
        if bytes == left {
            self.region += 1;
            self.inside = 0;
        }
        span
    }

    /// The small tensors that share one chunk from here on, with the number of their regions;
    /// `None` if there are not two.
    fn group(&self, first_tensor: usize, first: &Tensor) -> Option<(Span, usize)> {
        let mut elements = 0_u64;
        let (mut regions, mut last, mut end) = (0, first_tensor, first.start);
        for region in self.parsed.regions.get(self.region..)? {
            let RegionKind::Tensor(index) = region.kind else {
                break;
            };
            let tensor = self.parsed.tensors.get(index)?;
            let more = elements_of(tensor);
            elements = elements.saturating_add(more);
            if tensor.dtype != first.dtype || more >= SMALL_ELEMENTS || elements > CHUNK_ELEMENTS {
                break;
            }
            (regions, last, end) = (regions + 1, index, end.saturating_add(tensor.bytes));
        }
        let span = Span {
            start: first.start,
            bytes: end.checked_sub(first.start)?,
            view: View::Group {
                first_tensor,
                count: last.checked_sub(first_tensor)?.checked_add(1)?,
            },
        };
        (regions >= 2).then_some((span, regions))
    }
}

/// Bytes of the first chunk of a tensor that has its chunks to itself.
#[must_use]
pub fn first_bytes(tensor: &Tensor) -> u64 {
    let (block_elements, block_bytes) = tensor.dtype.block();
    let bytes = (step(tensor) / block_elements).saturating_mul(block_bytes);
    bytes.min(tensor.bytes)
}

/// Elements of a tensor, from its bytes.
fn elements_of(tensor: &Tensor) -> u64 {
    let (elements, bytes) = tensor.dtype.block();
    (tensor.bytes / bytes).saturating_mul(elements)
}

/// Elements from one border of a tensor to the next: whole rows and whole blocks, or only whole
/// blocks where a row is too long.
fn step(tensor: &Tensor) -> u64 {
    let row = tensor.shape.last().copied().unwrap_or(1).max(1);
    let unit = whole_blocks(row, tensor.dtype);
    match unit {
        Some(unit) if unit <= CHUNK_ELEMENTS => CHUNK_ELEMENTS / unit * unit,
        // A power of two, and so are the elements of every block.
        _ => CHUNK_ELEMENTS,
    }
}

/// The fewest rows that end on a block border, in elements.
fn whole_blocks(row: u64, dtype: DType) -> Option<u64> {
    let block = dtype.block().0;
    // Blocks have 2^k elements, so the greatest common divisor is a power of two as well.
    let common = 1_u64 << row.trailing_zeros().min(block.trailing_zeros());
    row.checked_mul(block / common)
}

/// Where raw bytes are cut: content decides, so that an insertion moves the cuts near it only.
#[derive(Clone, Copy, Debug)]
pub struct Cutter {
    masks: (u64, u64),
}

impl Default for Cutter {
    fn default() -> Self {
        Self::new()
    }
}

impl Cutter {
    /// FastCDC (version of 2020) with the project's lengths and normalisation level 1.
    #[must_use]
    pub fn new() -> Self {
        use fastcdc::v2020::{Normalization, select_masks};
        Self {
            masks: select_masks(CUT_BYTES_AVG, Normalization::Level1),
        }
    }

    /// Length of the piece at the front of `window`; `last` says that nothing follows the window.
    /// `None` if the window must be longer to tell, which [`CUT_BYTES_MAX`] bytes never need.
    #[must_use]
    pub fn next_cut(&self, window: &[u8], last: bool) -> Option<usize> {
        if window.is_empty() || (window.len() < CUT_BYTES_MAX && !last) {
            return None;
        }
        let (small, large) = self.masks;
        let (_, bytes) = fastcdc::v2020::cut(
            window,
            CUT_BYTES_MIN,
            CUT_BYTES_AVG,
            CUT_BYTES_MAX,
            small,
            large,
            small << 1,
            large << 1,
        );
        Some(bytes)
    }
}

/// A span, with its bytes where they had to be read to find its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it lies and what it is.
    pub span: Span,
    /// The bytes of a piece of a raw stretch; the caller reads those of all other spans itself,
    /// when and in which thread it likes. So no byte of a file needs to be read twice.
    pub bytes: Option<Vec<u8>>,
}

/// The spans of a file in order. Reads only what is cut by content, about a mebibyte at a time;
/// ends after the first failure.
pub fn cut<'a, F: ReadAt + ?Sized>(parsed: &'a Parsed, file: &'a F) -> Pieces<'a, F> {
    Pieces {
        stretches: Stretches {
            parsed,
            region: 0,
            inside: 0,
        },
        file,
        cutter: Cutter::new(),
        raw: Window::default(),
    }
}

/// See [`cut`].
pub struct Pieces<'a, F: ?Sized> {
    stretches: Stretches<'a>,
    file: &'a F,
    cutter: Cutter,
    raw: Window,
}

impl<F: ReadAt + ?Sized> Iterator for Pieces<'_, F> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        if self.raw.is_done() {
            match self.stretches.next()? {
                Stretch::Span(span) => return Some(Ok(Piece { span, bytes: None })),
                Stretch::Raw { start, bytes } => self.raw.open(start, bytes),
            }
        }
        let piece = self.raw.next(self.file, self.cutter);
        if piece.is_err() {
            self.raw = Window::default();
            self.stretches.region = usize::MAX;
        }
        Some(piece)
    }
}

/// The part of a raw stretch that is in memory.
#[derive(Default)]
struct Window {
    buffer: Vec<u8>,
    /// Bytes of the buffer that are already cut off.
    behind: usize,
    /// Where the first byte that is not cut off yet stands in the file.
    start: u64,
    /// Bytes of the stretch that are not in the buffer yet.
    unread: u64,
}

impl Window {
    fn open(&mut self, start: u64, bytes: u64) {
        self.buffer.clear();
        (self.behind, self.start, self.unread) = (0, start, bytes);
    }

    fn is_done(&self) -> bool {
        self.unread == 0 && self.behind == self.buffer.len()
    }

    /// Moves what is left to the front and reads on, if another cut may need it.
    fn fill(&mut self, file: &(impl ReadAt + ?Sized)) -> Result<()> {
        let left = self.buffer.len() - self.behind;
        if left >= CUT_BYTES_MAX || self.unread == 0 {
            return Ok(());
        }
        self.buffer.copy_within(self.behind.., 0);
        self.behind = 0;
        let more = usize::try_from(self.unread)
            .unwrap_or(usize::MAX)
            .min(WINDOW_BYTES - left);
        self.buffer.resize(left + more, 0);
        let (_, fresh) = self.buffer.split_at_mut(left);
        file.read_at(self.start + left as u64, fresh)?;
        self.unread -= more as u64;
        Ok(())
    }

    fn next(&mut self, file: &(impl ReadAt + ?Sized), cutter: Cutter) -> Result<Piece> {
        self.fill(file)?;
        let window = self.buffer.get(self.behind..).unwrap_or_default();
        // After `fill` the window is long enough or the last one, so there is always a cut.
        let bytes = cutter
            .next_cut(window, self.unread == 0)
            .unwrap_or(window.len());
        let piece = Piece {
            span: Span {
                start: self.start,
                bytes: bytes as u64,
                view: View::Bytes,
            },
            bytes: Some(window.get(..bytes).unwrap_or_default().to_vec()),
        };
        self.behind += bytes;
        self.start += bytes as u64;
        Ok(piece)
    }
}

#[cfg(test)]
mod tests;
