//! Gather: rows and columns of known tensors in another order: pruned, permuted, fused, split,
//! transposed.
//!
//! May use: `store_format`. Must never allocate by a count that the parameters' bytes do not back.

pub mod find;
mod runs;

pub use runs::{Run, Runs};

use store_format::FormatError;
use store_format::limits::CHUNK_BYTES_MAX;

use super::wire::{Reader, put_number, unknown};
use super::{ELEMENTS_MAX, SOURCES_MAX, Shape, SourceRange, invalid};

/// Columns of a transposed tensor that one range may touch, each a range of the source.
const COLUMNS_MAX: u64 = 1 << 20;

/// Where each row of the base comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    /// From the same row of source 0.
    Same,
    /// Rows seen as (outer, a, b) become (outer, b, a): the rotary halves of q and k to pairs
    /// and back.
    Swap {
        /// The middle dimension of the source.
        a: u64,
        /// The inner dimension of the source.
        b: u64,
    },
    /// As listed.
    Listed(Runs),
    /// From the column with the row's index.
    Transposed,
}

/// Rows, then columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gather {
    /// How many sources the rows come from, the recipe's first ones.
    pub sources: u8,
    /// The rows.
    pub rows: Rows,
    /// The columns of those rows, all if `None`.
    pub cols: Option<Runs>,
}

/// A byte range of a source, or zeros, in the order of the target.
struct Piece {
    source: Option<usize>,
    start: u64,
    bytes: u64,
}

impl Gather {
    /// Rows of several sources as listed.
    #[must_use]
    pub fn listed(sources: u8, runs: Runs) -> Self {
        Self {
            sources,
            rows: Rows::Listed(runs),
            cols: None,
        }
    }

    /// Columns of one source as listed.
    #[must_use]
    pub fn columns(runs: Runs) -> Self {
        Self {
            sources: 1,
            rows: Rows::Same,
            cols: Some(runs),
        }
    }

    /// The transpose of one source.
    #[must_use]
    pub fn transposed() -> Self {
        Self {
            sources: 1,
            rows: Rows::Transposed,
            cols: None,
        }
    }

    /// Rows of each head in two halves become pairs, as the GGUF files of Llama models have q
    /// and k. `None` if the rows do not divide.
    #[must_use]
    pub fn rotary_pairs(rows: u64, heads: u64) -> Option<Self> {
        let half = rows.checked_div(heads.checked_mul(2)?)?;
        (half > 0 && half * heads * 2 == rows).then_some(Self {
            sources: 1,
            rows: Rows::Swap { a: 2, b: half },
            cols: None,
        })
    }

    pub(super) fn source_count(&self) -> usize {
        usize::from(self.sources)
    }

    pub(super) fn held_bytes(&self) -> usize {
        let rows = match &self.rows {
            Rows::Listed(runs) => runs.held_bytes(),
            Rows::Same | Rows::Swap { .. } | Rows::Transposed => 0,
        };
        rows + self.cols.as_ref().map_or(0, Runs::held_bytes)
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.push(self.sources);
        match &self.rows {
            Rows::Same => out.push(0),
            Rows::Swap { a, b } => {
                out.push(1);
                put_number(out, *a);
                put_number(out, *b);
            }
            Rows::Listed(runs) => {
                out.push(2);
                runs.put(out);
            }
            Rows::Transposed => out.push(3),
        }
        out.push(u8::from(self.cols.is_some()));
        if let Some(runs) = &self.cols {
            runs.put(out);
        }
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, FormatError> {
        let sources = reader.byte()?;
        let rows = match reader.byte()? {
            0 => Rows::Same,
            1 => Rows::Swap {
                a: reader.number_up_to("rows", ELEMENTS_MAX)?,
                b: reader.number_up_to("rows", ELEMENTS_MAX)?,
            },
            2 => Rows::Listed(Runs::read(reader)?),
            3 => Rows::Transposed,
            value => return unknown("rows of a view", value),
        };
        let cols = match reader.byte()? {
            0 => None,
            1 => Some(Runs::read(reader)?),
            value => return unknown("columns of a view", value),
        };
        Ok(Self {
            sources,
            rows,
            cols,
        })
    }

    /// Whether the view brings `sources` into the shape of `base`.
    pub(super) fn check(&self, sources: &[Shape], base: &Shape) -> Result<(), FormatError> {
        let listed = matches!(self.rows, Rows::Listed(_));
        let count_fits =
            self.sources == 1 || (listed && (1..=SOURCES_MAX).contains(&self.source_count()));
        if !count_fits || sources.len() != self.source_count() {
            return invalid("a view of listed rows has 1 to 64 sources, every other one");
        }
        let alike = |shape: &Shape| shape.dtype == base.dtype && shape.cols == sources[0].cols;
        if !sources.iter().all(alike) {
            return invalid("the sources of a view have one type and one row length");
        }
        let source = sources[0];
        if self.rows == Rows::Same && self.cols.is_none() {
            return invalid("a view that changes nothing is left out");
        }
        let by_element = self.cols.is_some() || self.rows == Rows::Transposed;
        if by_element && base.dtype.block().0 != 1 {
            return invalid("a view of single columns has elements of whole bytes");
        }
        // One row is held while its columns are chosen.
        let row_bytes = base.dtype.bytes_of(base.cols).unwrap_or(u64::MAX);
        if self.cols.is_some() && row_bytes > CHUNK_BYTES_MAX {
            return invalid("a row with chosen columns has at most 64 MiB");
        }
        let rows_fit = match &self.rows {
            Rows::Same => base.rows == source.rows,
            Rows::Swap { a, b } => {
                let inner = a.checked_mul(*b).filter(|&inner| inner > 0);
                base.rows == source.rows
                    && inner.is_some_and(|inner| base.rows.is_multiple_of(inner))
            }
            Rows::Listed(runs) => {
                let rows = |at: u8| sources.get(usize::from(at)).map(|shape| shape.rows);
                runs.len() == base.rows && runs.lie_in(rows)
            }
            Rows::Transposed => {
                base.rows == source.cols && base.cols == source.rows && self.cols.is_none()
            }
        };
        let cols_fit = match (&self.cols, &self.rows) {
            (Some(runs), _) => {
                let one = |at: u8| (at == 0).then_some(source.cols);
                runs.len() == base.cols
                    && runs.lie_in(one)
                    && runs.runs.iter().all(|run| run.source.is_some())
            }
            (None, Rows::Transposed) => true,
            (None, _) => base.cols == source.cols,
        };
        if rows_fit && cols_fit {
            Ok(())
        } else {
            invalid("a view has the rows and columns of its target")
        }
    }

    /// The whole source rows, or parts of them, that make up `[first, first + count)`.
    fn pieces(
        &self,
        sources: &[Shape],
        base: &Shape,
        first: u64,
        count: u64,
    ) -> Result<Vec<Piece>, FormatError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let cols = base.cols;
        let (row, last) = (first / cols, (first + count - 1) / cols);
        let piece = |source: usize, first: u64, count: u64| {
            let (start, bytes) = sources[source].span(first, count)?;
            Ok(Piece {
                source: Some(source),
                start,
                bytes,
            })
        };
        let wide = sources[0].cols;
        match &self.rows {
            Rows::Same => Ok(vec![piece(0, row * wide, (last + 1 - row) * wide)?]),
            Rows::Swap { a, b } => {
                let inner = a * b;
                let (from, until) = (row / inner * inner, (last + 1).next_multiple_of(inner));
                Ok(vec![piece(0, from * wide, (until - from) * wide)?])
            }
            Rows::Listed(runs) if self.cols.is_some() => runs
                .pieces(row, last + 1 - row)
                .map(|run| match run.source {
                    Some(source) => piece(usize::from(source), run.start * wide, run.count * wide),
                    None => Ok(Piece {
                        source: None,
                        start: 0,
                        bytes: run.count,
                    }),
                })
                .collect(),
            Rows::Listed(runs) => listed_elements(runs, sources, base, first, count),
            Rows::Transposed if last + 1 - row == wide => {
                Ok(vec![piece(0, 0, sources[0].elements())?])
            }
            Rows::Transposed => {
                let cols = if row == last {
                    first % cols..(first + count - 1) % cols + 1
                } else {
                    0..cols
                };
                // Two elements may touch every column: not a thing to list before it is counted.
                let touched = cols.end - cols.start;
                if touched > COLUMNS_MAX {
                    return Err(FormatError::TooLarge {
                        field: "transposed columns of a range",
                        value: touched,
                        max: COLUMNS_MAX,
                    });
                }
                cols.map(|col| piece(0, col * wide + row, last + 1 - row))
                    .collect()
            }
        }
    }

    pub(super) fn ranges(
        &self,
        sources: &[Shape],
        base: &Shape,
        first: u64,
        count: u64,
    ) -> Result<Vec<SourceRange>, FormatError> {
        let pieces = self.pieces(sources, base, first, count)?;
        Ok(self.joined(&pieces))
    }

    /// The pieces as ranges of sources. Listed runs that follow each other in one source are one
    /// range where that is at most twice their bytes: a short list of ranges is worth more than
    /// the bytes that are read for nothing.
    fn joined(&self, pieces: &[Piece]) -> Vec<SourceRange> {
        let joins = matches!(self.rows, Rows::Listed(_));
        let mut ranges: Vec<SourceRange> = Vec::new();
        let mut needed = 0;
        for piece in pieces {
            let Some(source) = piece.source else { continue };
            if joins
                && let Some(last) = ranges.last_mut()
                && last.source == source
                && piece.start >= last.start + last.bytes
                && piece.start + piece.bytes - last.start <= 2 * (needed + piece.bytes)
            {
                needed += piece.bytes;
                last.bytes = piece.start + piece.bytes - last.start;
                continue;
            }
            needed = piece.bytes;
            ranges.push(SourceRange {
                source,
                start: piece.start,
                bytes: piece.bytes,
            });
        }
        ranges
    }

    /// The bytes of each piece that has a source, from the bytes of [`Gather::joined`].
    fn slices<'a>(
        &self,
        pieces: &[Piece],
        parts: &[&'a [u8]],
    ) -> Result<Vec<&'a [u8]>, FormatError> {
        let ranges = self.joined(pieces);
        let mut at = 0;
        let slice = |piece: &Piece| {
            // Pieces stand in their ranges in order, and each in exactly one.
            while let Some(range) = ranges.get(at)
                && (Some(range.source) != piece.source
                    || piece.start < range.start
                    || piece.start + piece.bytes > range.start + range.bytes)
            {
                at += 1;
            }
            let (range, part) = ranges.get(at).zip(parts.get(at))?;
            let start = usize::try_from(piece.start - range.start).ok()?;
            part.get(start..start + usize::try_from(piece.bytes).ok()?)
        };
        let slices = pieces.iter().filter(|piece| piece.source.is_some());
        let slices: Option<Vec<_>> = slices.map(slice).collect();
        slices.ok_or(FormatError::Invalid {
            rule: "a view has a part for each of its pieces",
        })
    }

    /// Brings the bytes of [`Gather::ranges`] into place: `out` becomes the elements from
    /// `first` on.
    pub(super) fn place(
        &self,
        sources: &[Shape],
        base: &Shape,
        first: u64,
        parts: &[&[u8]],
        out: &mut [u8],
    ) -> Result<(), FormatError> {
        let (per_block, block_bytes) = base.dtype.block();
        let count = out.len() as u64 / block_bytes * per_block;
        if count == 0 {
            return Ok(());
        }
        let row = first / base.cols;
        match (&self.rows, &self.cols) {
            (Rows::Listed(_), None) => {
                let pieces = self.pieces(sources, base, first, count)?;
                let mut parts = self.slices(&pieces, parts)?.into_iter();
                let mut rest = out;
                for piece in pieces {
                    let (head, tail) = rest.split_at_mut(piece.bytes as usize);
                    if piece.source.is_none() {
                        head.fill(0);
                    } else if let Some(part) = parts.next() {
                        head.copy_from_slice(part);
                    } else {
                        return invalid("a view has a part for each of its pieces");
                    }
                    rest = tail;
                }
                Ok(())
            }
            (Rows::Transposed, _) => self.place_transposed(sources, base, first, parts, out),
            (rows, cols) => {
                let (_, row_bytes) = sources[0].span(0, sources[0].cols)?;
                let last = (first + count - 1) / base.cols;
                let pieces = self.pieces(sources, base, first, count)?;
                let parts = self.slices(&pieces, parts)?;
                let skipped = base.dtype.bytes_of(first - row * base.cols).unwrap_or(0);
                let (_, wide) = base.span(0, base.cols)?;
                let lines = Lines {
                    cols: cols.as_ref(),
                    width: base.dtype.block().1 as usize,
                    chosen: vec![0; wide as usize],
                    skipped: skipped as usize,
                    out,
                };
                place_rows(rows, row, last, row_bytes as usize, &pieces, &parts, lines)
            }
        }
    }

    fn place_transposed(
        &self,
        sources: &[Shape],
        base: &Shape,
        first: u64,
        parts: &[&[u8]],
        out: &mut [u8],
    ) -> Result<(), FormatError> {
        let width = base.dtype.block().1 as usize;
        let count = (out.len() / width) as u64;
        let (row, last) = (first / base.cols, (first + count - 1) / base.cols);
        let rows = (last + 1 - row) as usize;
        let wide = sources[0].cols as usize;
        let first_col = if row == last && rows != wide {
            first % base.cols
        } else {
            0
        };
        let skipped = first - row * base.cols - first_col;
        let line_bytes = rows * width;
        let lines = parts.iter().flat_map(|part| part.chunks_exact(line_bytes));
        for (at, line) in lines.enumerate() {
            for (r, element) in line.chunks_exact(width).enumerate() {
                let place = (r as u64 * base.cols + at as u64).checked_sub(skipped);
                if let Some(place) = place.filter(|&place| place < count) {
                    let place = place as usize * width;
                    out[place..place + width].copy_from_slice(element);
                }
            }
        }
        Ok(())
    }
}

/// The pieces of listed rows without a choice of columns: contiguous elements.
fn listed_elements(
    runs: &Runs,
    sources: &[Shape],
    base: &Shape,
    first: u64,
    count: u64,
) -> Result<Vec<Piece>, FormatError> {
    let cols = base.cols;
    let (row, last) = (first / cols, (first + count - 1) / cols);
    let mut pieces = Vec::new();
    // Elements between the start of `row` and `first`, taken off the first piece.
    let mut skip = first - row * cols;
    let mut left = count;
    for run in runs.pieces(row, last + 1 - row) {
        let elements = (run.count * cols - skip).min(left);
        let (start, bytes) = match run.source {
            Some(source) => sources[usize::from(source)].span(run.start * cols + skip, elements)?,
            None => (0, base.span(0, elements)?.1),
        };
        pieces.push(Piece {
            source: run.source.map(usize::from),
            start,
            bytes,
        });
        left -= elements;
        skip = 0;
    }
    Ok(pieces)
}

/// Rows of the target that are filled one after the other.
struct Lines<'a> {
    cols: Option<&'a Runs>,
    /// Bytes of an element.
    width: usize,
    /// A row of the target.
    chosen: Vec<u8>,
    /// Bytes of the next row that lie before the range.
    skipped: usize,
    /// What is not filled yet.
    out: &'a mut [u8],
}

impl Lines<'_> {
    /// Fills the next row from a row of a source, or with zeros.
    fn put(&mut self, line: Option<&[u8]>) {
        match (line, self.cols) {
            (None, _) => self.chosen.fill(0),
            (Some(line), None) => self.chosen.copy_from_slice(line),
            (Some(line), Some(runs)) => {
                let mut to = 0;
                for run in &runs.runs {
                    let (from, bytes) = (
                        run.start as usize * self.width,
                        run.count as usize * self.width,
                    );
                    self.chosen[to..to + bytes].copy_from_slice(&line[from..from + bytes]);
                    to += bytes;
                }
            }
        }
        let chosen = &self.chosen[std::mem::take(&mut self.skipped)..];
        let out = std::mem::take(&mut self.out);
        let (head, tail) = out.split_at_mut(chosen.len().min(out.len()));
        head.copy_from_slice(&chosen[..head.len()]);
        self.out = tail;
    }
}

/// Fills the rows `row..=last` of the target from whole rows of sources.
fn place_rows(
    rows: &Rows,
    row: u64,
    last: u64,
    row_bytes: usize,
    pieces: &[Piece],
    parts: &[&[u8]],
    mut lines: Lines,
) -> Result<(), FormatError> {
    if let (Rows::Swap { a, b }, [part]) = (rows, parts) {
        let from = row / (a * b) * (a * b);
        for t in row..=last {
            let (outer, within) = (t / (a * b), t % (a * b));
            let source = outer * a * b + within % a * b + within / a - from;
            lines.put(part.get(source as usize * row_bytes..(source as usize + 1) * row_bytes));
        }
        return Ok(());
    }
    let mut parts = parts.iter();
    for piece in pieces {
        if piece.source.is_none() {
            // For zeros a piece of this kind counts rows.
            (0..piece.bytes).for_each(|_| lines.put(None));
        } else if let Some(part) = parts.next() {
            part.chunks_exact(row_bytes)
                .for_each(|line| lines.put(Some(line)));
        } else {
            return invalid("a view has a part for each of its pieces");
        }
    }
    Ok(())
}
