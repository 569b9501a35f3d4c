//! Every maximum of the format, with its reason. Writers assert them, readers refuse beyond them.

/// Elements of one tensor chunk. Counted in elements, so that the borders of a tensor, of its
/// cast copy and of its quantised copy line up.
pub const CHUNK_ELEMENTS: u64 = 1 << 20;

/// Plain bytes of one chunk: bounds what a reader allocates for one record.
pub const CHUNK_BYTES_MAX: u64 = 64 << 20;

/// Steps from a record to the deepest source of its prediction. Stored and checked, so that
/// cycles cannot exist.
pub const DEPTH_MAX: u8 = 8;

/// Bytes of one record's header: bounds what is read before its check is known.
pub const RECORD_HEADER_BYTES_MAX: u32 = 1 << 20;

/// Coded bytes of one record: what plain bytes can grow to when nothing helps.
pub const STORED_BYTES_MAX: u64 = CHUNK_BYTES_MAX + (1 << 16);

/// Side chunks that one record may name.
pub const SIDE_MAX: u32 = 16;

/// Sources that one record may name: models in a merge, tensors in a fusion.
pub const SOURCES_MAX: u32 = 256;

/// Plain bytes that all sources of one record have together: bounds what a reader holds to
/// rebuild one record.
pub const SOURCE_BYTES_MAX: u64 = 256 << 20;

/// Bytes of a pack file; writers aim far below.
pub const PACK_BYTES_MAX: u64 = 1 << 30;

/// Records of one pack.
pub const PACK_RECORDS_MAX: u32 = 1 << 22;

/// Bytes of an encoded object (manifest, tree, commit, attachment).
pub const OBJECT_BYTES_MAX: u64 = CHUNK_BYTES_MAX;

/// Items in the CBOR of one object: bounds the memory that a hostile object takes once decoded.
pub const OBJECT_ITEMS_MAX: u32 = 1 << 23;

/// Arrays and maps within each other in the CBOR of an object.
pub const OBJECT_DEPTH_MAX: u8 = 8;

/// Bytes of one name in a tree, as file systems have it.
pub const NAME_BYTES_MAX: usize = 255;

/// Bytes of a symlink's target, as file systems have it.
pub const SYMLINK_BYTES_MAX: usize = 4096;

/// Directories below the root that a path passes through: bounds every walk.
pub const TREE_DEPTH_MAX: usize = 64;

/// Parents of a commit.
pub const PARENTS_MAX: usize = 64;

/// Bytes of a commit's message.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Bytes of one attribute or attachment as JSON.
pub const ATTRIBUTE_BYTES_MAX: usize = 1 << 20;

/// Bytes of a reference's name.
pub const REFERENCE_NAME_BYTES_MAX: usize = 255;

/// The largest number of a reference table: sixteen decimal digits.
pub const TABLE_NUMBER_MAX: u64 = 9_999_999_999_999_999;

/// Minutes that a commit's offset from UTC may have, either way: a day.
pub const OFFSET_MINUTES_MAX: u32 = 24 * 60;

/// Bytes of the `format` file.
pub const STORE_FILE_BYTES_MAX: usize = 4096;

/// Bytes of a reference table; its file has 48 more.
pub const TABLE_BYTES_MAX: u64 = 16 << 20;

/// Bytes of an operation record; its file has 48 more.
pub const OPERATION_BYTES_MAX: u64 = 64 << 20;
