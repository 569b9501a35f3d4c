//! Regions from a list of tensors: what every layout with tensors has in common.
//!
//! May use: `store_format`. Must never read.

use std::collections::HashSet;

use store_format::layout::{Layout, Tensor};

use super::{Parsed, Read, Region, RegionKind, odd};

/// Adds a region, unless it is empty.
pub(super) fn push(regions: &mut Vec<Region>, kind: RegionKind, start: u64, bytes: u64) {
    if bytes > 0 {
        regions.push(Region { kind, start, bytes });
    }
}

/// Refuses two tensors of one name.
pub(super) fn named_once(tensors: &[Tensor]) -> Read<()> {
    let mut names = HashSet::with_capacity(tensors.len());
    match tensors.iter().find(|tensor| !names.insert(&tensor.name)) {
        Some(tensor) => odd(format!("tensor '{}' is named twice", tensor.name)),
        None => Ok(()),
    }
}

/// A run of bytes that is not to become a gap.
pub(super) struct Part {
    kind: RegionKind,
    start: u64,
    bytes: u64,
}

impl Part {
    /// Bytes to be cut by content.
    pub(super) fn raw(start: u64, bytes: u64) -> Self {
        let kind = RegionKind::Raw;
        Self { kind, start, bytes }
    }
}

/// Sorts tensors and other parts by where they lie and fills what is between them with gaps. The
/// header is `header_bytes` long; what overlaps it, each other or the end of the file is refused.
pub(super) fn tile(
    layout: Layout,
    header_bytes: u64,
    mut tensors: Vec<Tensor>,
    mut parts: Vec<Part>,
    file_bytes: u64,
) -> Read<Parsed> {
    // Stable, and empty tensors before the one that starts where they do.
    tensors.sort_by_key(|tensor| (tensor.start, tensor.bytes));
    parts.extend(tensors.iter().enumerate().map(|(index, tensor)| Part {
        kind: RegionKind::Tensor(index),
        start: tensor.start,
        bytes: tensor.bytes,
    }));
    parts.sort_by_key(|part| part.start);
    let mut regions = Vec::new();
    push(&mut regions, RegionKind::Header, 0, header_bytes);
    let mut position = header_bytes;
    for part in parts {
        let end = part.start.checked_add(part.bytes);
        let Some(end) = end.filter(|&end| end <= file_bytes && part.start >= header_bytes) else {
            return odd(format!("{} lies outside the data", name(&part, &tensors)));
        };
        if part.bytes == 0 {
            continue;
        }
        let Some(gap) = part.start.checked_sub(position) else {
            return odd(format!("{} overlaps another one", name(&part, &tensors)));
        };
        push(&mut regions, RegionKind::Gap, position, gap);
        push(&mut regions, part.kind, part.start, part.bytes);
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

/// What a note calls a part.
fn name(part: &Part, tensors: &[Tensor]) -> String {
    match part.kind {
        RegionKind::Tensor(index) => match tensors.get(index) {
            Some(tensor) => format!("tensor '{}'", tensor.name),
            None => "a tensor".into(),
        },
        RegionKind::Header | RegionKind::Gap | RegionKind::Raw => "a storage".into(),
    }
}
