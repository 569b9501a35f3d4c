//! What vector code is handed, laid out for it: maps of contexts, symbols, and rules.
//!
//! May use: `alphabet`, `number`, `table`. Must hold nothing that a block's coded bytes decide.

use super::alphabet::{Alphabet, Class, Symbol};
use super::number::Number;
use super::table::Tables;

/// How contexts of 16-bit elements lead to tables.
#[derive(Clone, Debug)]
pub(super) struct Map16 {
    /// Bits of the mantissa.
    pub mantissa: i32,
    /// The distance at context 0.
    pub low: i16,
    /// The table of each distance.
    pub map: [u8; 32],
    /// The table of predictions of zero, where they have one.
    pub zero: Option<u8>,
}

/// How contexts of 16-bit elements whose prediction has a fraction lead to tables.
#[derive(Clone, Debug)]
pub(super) struct MapFine {
    /// Bits of the mantissa.
    pub mantissa: i32,
    /// The distance at context 0.
    pub low: i16,
    /// The table of each context.
    pub map: [u8; 128],
    /// The table of predictions of zero, where they have one.
    pub zero: Option<u8>,
}

/// How contexts of 32-bit elements lead to tables.
#[derive(Clone, Debug)]
pub(super) struct Map32 {
    /// The distance at context 0.
    pub low: i32,
    /// Whether the top two bits of the mantissa are part of the context.
    pub mantissa: bool,
    /// The table of each context.
    pub map: [u8; 128],
    /// The table of predictions of zero, where they have one.
    pub zero: Option<u8>,
}

/// What symbols stand for, laid out for vectors.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// Differences of the first 15 symbols.
    pub small: [i8; 16],
    /// Of each symbol: the start in the low 16 bits, the number of raw bits in the next 8, then
    /// the flags below.
    pub wide: [u32; 256],
    /// The whole start of each symbol.
    pub starts: [u32; 256],
    /// The differences of symbols that have no raw bits.
    #[cfg_attr(
        target_arch = "aarch64",
        expect(dead_code, reason = "for wider vectors alone")
    )]
    pub hot: [i32; 256],
    /// The start of the range of each rank up to 31 is `low + 64 * high`, with `low` zero beyond
    /// 15; `mask` has the first eight of its raw bits. For 16-bit types.
    #[cfg_attr(
        target_arch = "aarch64",
        expect(dead_code, reason = "for wider vectors alone")
    )]
    pub low: [u8; 16],
    #[cfg_attr(
        target_arch = "aarch64",
        expect(dead_code, reason = "for wider vectors alone")
    )]
    pub high: [[u8; 16]; 2],
    #[cfg_attr(
        target_arch = "aarch64",
        expect(dead_code, reason = "for wider vectors alone")
    )]
    pub mask: [[u8; 16]; 2],
    /// Of the first 128 symbols the number of raw bits, and the start shifted down by so many.
    #[cfg_attr(
        target_arch = "aarch64",
        expect(dead_code, reason = "for wider vectors alone")
    )]
    pub count: [u8; 128],
    #[cfg_attr(
        target_arch = "aarch64",
        expect(dead_code, reason = "for wider vectors alone")
    )]
    pub factor: [u8; 128],
}

/// The difference is negative.
pub(super) const NEGATIVE: u32 = 1 << 24;
/// The sign is the other one.
pub(super) const FLIP: u32 = 2 << 24;
/// The element follows raw.
pub(super) const ESCAPE: u32 = 4 << 24;

impl Places {
    pub fn new(alphabet: &Alphabet) -> Self {
        let mut small = [0i8; 16];
        let mut wide = [ESCAPE; 256];
        let mut starts = [0u32; 256];
        let mut hot = [0i32; 256];
        for (number, symbol) in alphabet.symbols().iter().enumerate() {
            let flags = match symbol.class {
                Class::Move { negative: false } => 0,
                Class::Move { negative: true } => NEGATIVE,
                Class::Flip => FLIP,
                Class::Escape => ESCAPE,
            };
            starts[number] = symbol.start as u32;
            wide[number] = (symbol.start as u32 & 0xFFFF) | symbol.raw << 16 | flags;
            if symbol.raw == 0 {
                let size = symbol.start as i32;
                hot[number] = if flags == NEGATIVE { -size } else { size };
            }
            if number < 15 {
                small[number] = hot[number] as i8;
            }
        }
        let by_rank = |rank: usize, value: &dyn Fn(Symbol) -> i64| {
            let symbol = alphabet.symbols().get((2 * rank).saturating_sub(1));
            symbol.map_or(0, |&symbol| value(symbol) as u8)
        };
        let low = |symbol: Symbol| symbol.start % 64;
        let high = |symbol: Symbol| symbol.start / 64;
        let mask = |symbol: Symbol| (1 << symbol.raw.min(8)) - 1;
        Self {
            small,
            wide,
            starts,
            hot,
            low: std::array::from_fn(|rank| by_rank(rank, &low)),
            high: [0, 16].map(|first| std::array::from_fn(|i| by_rank(first + i, &high))),
            mask: [0, 16].map(|first| std::array::from_fn(|i| by_rank(first + i, &mask))),
            count: std::array::from_fn(|symbol| (wide[symbol] >> 16) as u8),
            factor: std::array::from_fn(|symbol| {
                let symbol = alphabet.symbols().get(symbol);
                symbol.map_or(0, |symbol| (symbol.start >> symbol.raw) as u8)
            }),
        }
    }
}

/// Raw bytes that must be left for a step that puts elements together.
pub(super) const RAW_BYTES: usize = 64;

/// What putting elements together needs.
pub(super) struct Join<'a> {
    pub number: Number,
    /// Ranges of a difference beside zero.
    pub moves: u32,
    pub places: &'a Places,
    /// Whether predictions of zero have symbols of their own.
    pub zeros: bool,
    pub raw: &'a [u8],
}

/// What taking heads apart and putting them together needs.
pub(super) struct Heads<'a> {
    /// Raw bits beside the sign.
    pub low: u32,
    /// The place that symbol 1 stands for.
    pub lowest: i16,
    pub tables: &'a Tables,
}

/// What taking elements apart needs.
pub(super) struct Split<'a> {
    pub number: Number,
    /// Ranges of a difference beside zero.
    pub moves: u32,
    #[cfg_attr(
        target_arch = "aarch64",
        expect(dead_code, reason = "for wider vectors alone")
    )]
    pub alphabet: u32,
    /// Whether predictions of zero have symbols of their own.
    pub zeros: bool,
    /// Hot differences, and the symbol of the first.
    pub hot: &'a [i32],
    pub first_hot: u32,
    pub tables: &'a Tables,
}
