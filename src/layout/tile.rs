//! Regions from a list of tensors: what every layout with tensors has in common.
//!
//! May use: `store_format`. Must never read.

use store_format::layout::{Layout, Tensor};

use super::{Parsed, Read, Region, RegionKind, odd};

/// Adds a region, unless it is empty.
pub(super) fn push(regions: &mut Vec<Region>, kind: RegionKind, start: u64, bytes: u64) {
    if bytes > 0 {
        regions.push(Region { kind, start, bytes });
    }
}

/// Sorts tensors by where they lie and fills what is between them with gaps. The header is
/// `header_bytes` long; tensors that overlap it, each other or the end of the file are refused.
pub(super) fn tile(
    layout: Layout,
    header_bytes: u64,
    mut tensors: Vec<Tensor>,
    file_bytes: u64,
) -> Read<Parsed> {
    // Stable, and empty tensors before the one that starts where they do.
    tensors.sort_by_key(|tensor| (tensor.start, tensor.bytes));
    let mut regions = Vec::new();
    push(&mut regions, RegionKind::Header, 0, header_bytes);
    let mut position = header_bytes;
    for (index, tensor) in tensors.iter().enumerate() {
        let end = tensor.start.checked_add(tensor.bytes);
        let Some(end) = end.filter(|&end| end <= file_bytes && tensor.start >= header_bytes) else {
            return odd(format!("tensor '{}' lies outside the data", tensor.name));
        };
        if tensor.bytes == 0 {
            continue;
        }
        let Some(gap) = tensor.start.checked_sub(position) else {
            return odd(format!("tensor '{}' overlaps another one", tensor.name));
        };
        push(&mut regions, RegionKind::Gap, position, gap);
        push(
            &mut regions,
            RegionKind::Tensor(index),
            tensor.start,
            tensor.bytes,
        );
        position = end;
    }
    let Some(rest) = file_bytes.checked_sub(position) else {
        return odd("the header ends beyond the file");
    };
    push(&mut regions, RegionKind::Gap, position, rest);
    Ok(Parsed {
        layout,
        regions,
        tensors,
        note: None,
    })
}
