//! The side information of differences: flags, scales, contexts and tables as bytes.
//!
//! May use: `store_format` and the files beside it. A reader checks every field.

use store_format::FormatError;

use super::alphabet::{Alphabet, HOT_MAX};
use super::bits::Fields;
use super::difference::{BITS, CONTEXTS, Difference, ZERO};
use super::number::Number;
use super::rans;
use super::scale::{COLUMNS, GLOBAL_MAX, ROWS, Scales};
use super::table::{TABLES_MAX, Tables};

const HOT: u8 = 4;
const FRACTION: u8 = 8;
const ZEROS: u8 = 16;

impl Difference {
    /// Appends what a tensor's chunks share.
    pub fn write(&self, out: &mut Vec<u8>) {
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        out.push(
            self.scales.flags()
                | flag(!self.alphabet.hot.is_empty(), HOT)
                | flag(self.fraction, FRACTION)
                | flag(self.zeros, ZEROS),
        );
        out.extend_from_slice(&self.scales.global.to_le_bytes());
        if !self.alphabet.hot.is_empty() {
            out.push(self.alphabet.hot.len() as u8);
            for hot in &self.alphabet.hot {
                out.extend_from_slice(&hot.to_le_bytes());
            }
        }
        self.scales.write(out);
        let mut map = [0u8; 16];
        for i in 1..ZERO {
            if self.map[i] != self.map[i - 1] {
                map[i / 8] |= 1 << (i % 8);
            }
        }
        out.extend_from_slice(&map);
        self.tables.write(out);
    }

    /// Reads what [`Difference::write`] wrote.
    pub fn read(
        fields: &mut Fields,
        number: Number,
        rows: u64,
        row_len: u64,
    ) -> Result<Self, FormatError> {
        let flags = fields.byte()?;
        if flags & !(ROWS | COLUMNS | HOT | FRACTION | ZEROS) != 0 {
            return Err(FormatError::Unknown {
                field: "flags of side information",
                value: u64::from(flags),
            });
        }
        let global = fields.i16()?;
        if global.unsigned_abs() > GLOBAL_MAX.unsigned_abs() {
            return Err(FormatError::Invalid {
                rule: "a global scale is at most 8000 quarter octaves",
            });
        }
        let hot = if flags & HOT == 0 {
            Vec::new()
        } else {
            read_hot(fields, number)?
        };
        let mut scales = Scales::read(fields, flags, rows, row_len)?;
        scales.global = global;
        let zeros = flags & ZEROS != 0;
        let (map, count) = read_map(fields.take(16)?, zeros)?;
        let alphabet = Alphabet::new(number, hot);
        let tables = Tables::read(fields, BITS, alphabet.len(), count)?;
        Ok(Self {
            alphabet,
            scales,
            fraction: flags & FRACTION != 0,
            zeros,
            map,
            tables,
            lanes: rans::LANES,
        })
    }
}

/// The table of each context from the bits that say where the number grows.
fn read_map(bits: &[u8], zeros: bool) -> Result<([u8; CONTEXTS], usize), FormatError> {
    let mut map = [0u8; CONTEXTS];
    let mut table = 0u8;
    for (i, slot) in map[..ZERO].iter_mut().enumerate() {
        table += (bits[i / 8] >> (i % 8)) & 1;
        *slot = table;
    }
    table += u8::from(zeros);
    map[ZERO] = table;
    let count = usize::from(table) + 1;
    if bits[0] & 1 != 0 || count > TABLES_MAX {
        return Err(FormatError::Invalid {
            rule: "the first context has table 0, and there are at most 40 tables",
        });
    }
    Ok((map, count))
}

fn read_hot(fields: &mut Fields, number: Number) -> Result<Vec<i32>, FormatError> {
    let count = usize::from(fields.byte()?);
    if count == 0 || count > HOT_MAX || number.bytes == 1 {
        return Err(FormatError::Invalid {
            rule: "a list of hot differences has 1 to 32 of them and no 8-bit elements",
        });
    }
    (0..count)
        .map(|_| Ok(fields.number(4)? as u32 as i32))
        .collect()
}
