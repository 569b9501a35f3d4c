//! Every maximum of the format, with its reason. Writers assert them, readers refuse beyond them.

/// Elements of one tensor chunk. Counted in elements, so that the borders of a tensor, of its
/// cast copy and of its quantised copy line up.
pub const CHUNK_ELEMENTS: u64 = 1 << 20;

/// Plain bytes of one chunk: bounds what a reader allocates for one record.
pub const CHUNK_BYTES_MAX: u64 = 64 << 20;

/// Steps from a record to the deepest source of its prediction. Stored and checked, so that
/// cycles cannot exist.
pub const DEPTH_MAX: u8 = 8;
