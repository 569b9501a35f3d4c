//! Memory that is asked for before it is needed.
//!
//! May use: `kernel`, `rans`. Only speed depends on it.

use super::kernel;
use super::rans::LANES;

/// Memory that is asked for while symbols are decoded, for a coder leaves time for it. A hint: it
/// is not read, so it need not even be there.
#[derive(Clone, Copy)]
pub(super) struct Soon {
    at: *const u8,
    /// Bytes for each group of lanes.
    each: usize,
}

impl Soon {
    /// No memory.
    pub const NONE: Self = Self {
        at: std::ptr::null(),
        each: 0,
    };

    /// The memory of some numbers, while `elements` are decoded.
    pub fn of<T>(numbers: &[T], elements: usize) -> Self {
        Self {
            at: numbers.as_ptr().cast(),
            each: size_of_val(numbers) / elements.div_ceil(LANES).max(1),
        }
    }

    /// Asks for what belongs to one group.
    #[inline(always)]
    pub fn ask(self, group: usize) {
        let at = self.at.wrapping_add(group * self.each);
        if self.each > 0 {
            kernel::prefetch(at);
        }
        if self.each > 64 {
            kernel::prefetch(at.wrapping_add(64));
        }
    }
}
