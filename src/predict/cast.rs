//! Cast: the same elements in another float type.
//!
//! May use: `store_format`. Must never round in any other way than [`super::float`].

use store_format::FormatError;
use store_format::dtype::DType;

use super::{BLOCK, Output, float, invalid, widen_at};

pub(super) fn check(from: DType, to: DType) -> Result<(), FormatError> {
    if from == to || !float::is_computable(from) || !float::is_computable(to) {
        return invalid("a cast goes from one float type to another");
    }
    Ok(())
}

/// Every element: widened to binary32 (F64 rounded to it), then rounded to the target.
pub(super) fn fill(
    from: DType,
    to: DType,
    base: &[u8],
    out: &mut Output,
) -> Result<(), FormatError> {
    let mut values = [0.0; BLOCK];
    let count = base.len() / from.block().1 as usize;
    for at in (0..count).step_by(BLOCK) {
        let values = &mut values[..BLOCK.min(count - at)];
        widen_at(from, base, at, values)?;
        out.put(to, at, values)?;
    }
    Ok(())
}
