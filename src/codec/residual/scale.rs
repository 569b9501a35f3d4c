//! Row and column scales of a tensor: what change, or what size, is expected of an element.
//!
//! May use: `store_format`, `vectors`, `bits`, `rans`, `table`. Scales are integers, counted in
//! quarter octaves; how an encoder estimates them is free.

use store_format::FormatError;

use super::bits::Fields;
use super::rans;
use super::table::{Tables, normalise};
use crate::vectors::wide;

/// The most rows, and the most columns, that have scales of their own. Bounds a reader's memory.
pub(super) const SCALES_MAX: u64 = 1 << 21;

/// Scales of rows and columns lie at most so many quarter octaves to either side.
pub(super) const SCALE_MAX: i16 = 60;

/// The largest global scale. With it and those of rows and columns no sum leaves 16 bits.
pub(super) const GLOBAL_MAX: i16 = 8000;

/// Flags of side information: there are scales of rows, of columns.
pub(super) const ROWS: u8 = 1;
pub(super) const COLUMNS: u8 = 2;

/// Logarithm of the sum of the frequencies of a table of scales.
const BITS: u32 = 8;

/// The scales of a tensor in quarter octaves.
#[derive(Clone, Debug, Default)]
pub(super) struct Scales {
    pub global: i16,
    /// One a row of the tensor, or none at all.
    pub rows: Vec<i16>,
    /// One an element of a row, or none at all.
    pub columns: Vec<i16>,
    /// Elements of a row.
    pub row_len: u64,
}

impl Scales {
    /// One scale of zero.
    pub const NONE: Self = Self {
        global: 0,
        rows: Vec::new(),
        columns: Vec::new(),
        row_len: 0,
    };

    /// Fills `out` with the scales of the elements from `first` on.
    pub fn fill(&self, first: u64, out: &mut [i16]) {
        if self.rows.is_empty() && self.columns.is_empty() {
            out.fill(self.global);
            return;
        }
        let mut at = 0;
        let mut row = first / self.row_len;
        let mut column = (first % self.row_len) as usize;
        wide(
            #[inline(always)]
            || {
                while at < out.len() {
                    let run = (self.row_len - column as u64).min((out.len() - at) as u64) as usize;
                    let part = &mut out[at..at + run];
                    let base = self.global + self.rows.get(row as usize).copied().unwrap_or(0);
                    match self.columns.get(column..column + run) {
                        Some(columns) => {
                            for (scale, column) in part.iter_mut().zip(columns) {
                                *scale = base + column;
                            }
                        }
                        None => part.fill(base),
                    }
                    at += run;
                    row += 1;
                    column = 0;
                }
            },
        );
    }

    /// Which scales there are.
    pub fn flags(&self) -> u8 {
        let flag = |scales: &[i16], flag| if scales.is_empty() { 0 } else { flag };
        flag(&self.rows, ROWS) | flag(&self.columns, COLUMNS)
    }

    /// Appends the scales of rows and columns.
    pub fn write(&self, out: &mut Vec<u8>) {
        for scales in [&self.rows, &self.columns] {
            if !scales.is_empty() {
                write_scales(scales, out);
            }
        }
    }

    /// Reads what [`Scales::write`] wrote of a tensor of `rows`; `flags` says which there are.
    pub fn read(
        fields: &mut Fields,
        flags: u8,
        rows: u64,
        row_len: u64,
    ) -> Result<Self, FormatError> {
        let mut read = |flag: u8, count: u64| match flags & flag {
            0 => Ok(Vec::new()),
            _ => read_scales(fields, count),
        };
        Ok(Self {
            global: 0,
            rows: read(ROWS, rows)?,
            columns: read(COLUMNS, row_len)?,
            row_len,
        })
    }
}

/// Writes scales: as they are or as differences, whichever is smaller.
fn write_scales(scales: &[i16], out: &mut Vec<u8>) {
    let plain = coded(0, scales.iter().map(|&s| (s + SCALE_MAX) as u8).collect());
    let mut before = 0;
    let differences = coded(
        1,
        scales
            .iter()
            .map(|&s| {
                let change = s - before;
                before = s;
                ((change << 1) ^ (change >> 15)) as u8
            })
            .collect(),
    );
    out.extend_from_slice(if differences.len() < plain.len() {
        &differences
    } else {
        &plain
    });
}

fn coded(kind: u8, symbols: Vec<u8>) -> Vec<u8> {
    let mut counts = [0u32; 256];
    for &symbol in &symbols {
        counts[usize::from(symbol)] += 1;
    }
    if counts.iter().filter(|&&c| c > 0).count() < 2 {
        // A table needs two symbols.
        counts[usize::from(symbols.first() == Some(&0))] += 1;
        if symbols.is_empty() {
            counts[1] += 1;
        }
    }
    let mut frequencies = [0u16; 256];
    normalise(&counts, BITS, &mut frequencies);
    let tables = Tables::new(BITS, 256, &frequencies);
    let mut out = vec![kind];
    tables.write(&mut out);
    let mut stream = Vec::new();
    let slots: Vec<u32> = symbols
        .iter()
        .map(|&s| tables.slots()[usize::from(s)])
        .collect();
    rans::encode(BITS, 1, &slots, &mut stream);
    out.extend_from_slice(&(stream.len() as u32).to_le_bytes());
    out.extend_from_slice(&stream);
    out
}

/// Reads `count` scales.
fn read_scales(fields: &mut Fields, count: u64) -> Result<Vec<i16>, FormatError> {
    if count > SCALES_MAX {
        return Err(FormatError::TooLarge {
            field: "scales of rows or columns",
            value: count,
            max: SCALES_MAX,
        });
    }
    let kind = fields.byte()?;
    if kind > 1 {
        return Err(FormatError::Unknown {
            field: "coding of scales",
            value: u64::from(kind),
        });
    }
    let tables = Tables::read(fields, BITS, 256, 1)?;
    let bytes = fields.number(4)? as usize;
    let stream = fields.take(bytes)?;
    let mut symbols = vec![0u8; count as usize];
    let indexes = vec![0u8; count as usize];
    let mut decoder = rans::Decoder::new(stream, 1)?;
    decoder.decode(&tables, &indexes, &mut symbols);
    if !decoder.is_finished() {
        return Err(FormatError::Invalid {
            rule: "the scales of a tensor end where their coder began",
        });
    }
    let mut before = 0i16;
    let mut scales = Vec::with_capacity(symbols.len());
    for symbol in symbols {
        let symbol = i16::from(symbol);
        let scale = if kind == 0 {
            symbol - SCALE_MAX
        } else {
            before + ((symbol >> 1) ^ -(symbol & 1))
        };
        if scale.abs() > SCALE_MAX {
            return Err(FormatError::Invalid {
                rule: "a scale of a row or a column is at most 60 quarter octaves",
            });
        }
        before = scale;
        scales.push(scale);
    }
    Ok(scales)
}
