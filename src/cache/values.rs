//! What is cached, and how a value is written so that a wrong one is recognised.
//!
//! May use: nothing of this crate. Stored bytes are untrusted: [`decode`] refuses whatever was not
//! written by [`encode`] for the same tree and key.

use super::stamp::SCHEMA;

/// The longest value that is kept.
pub(super) const VALUE_BYTES_MAX: usize = 1024;

/// One kind of value each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tree {
    /// Path in a work tree → its last seen stat and object.
    Files,
    /// SHA-256 of a file → the object.
    Sha256,
    /// Tensor → shape and similarity sketch.
    Sketch,
    /// Tensor → statistics of its values.
    Stats,
    /// Remote and key → absent since.
    Negative,
}

impl Tree {
    /// All trees, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::Files,
        Self::Sha256,
        Self::Sketch,
        Self::Stats,
        Self::Negative,
    ];

    /// The name of the tree in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Sha256 => "sha256",
            Self::Sketch => "sketch",
            Self::Stats => "stats",
            Self::Negative => "negative",
        }
    }
}

/// Something that can be cached.
pub trait Value: Sized {
    /// Where it is kept.
    const TREE: Tree;
    /// What it is found by.
    type Key;
    /// The bytes of a key.
    fn key(key: &Self::Key) -> Vec<u8>;
    /// Appends the value's bytes.
    fn write(&self, out: &mut Vec<u8>);
    /// Reads what [`Value::write`] wrote; `None` if it cannot have been.
    fn read(bytes: &mut Bytes<'_>) -> Option<Self>;
}

/// `schema (2) | checksum (4) | value`.
pub(super) fn encode<V: Value>(key: &[u8], value: &V) -> Option<Vec<u8>> {
    let mut out = SCHEMA.to_le_bytes().to_vec();
    out.extend([0; 4]);
    value.write(&mut out);
    let sum = checksum(V::TREE, key, &out[6..]);
    out[2..6].copy_from_slice(&sum);
    (out.len() <= VALUE_BYTES_MAX).then_some(out)
}

pub(super) fn decode<V: Value>(key: &[u8], stored: &[u8]) -> Option<V> {
    let mut bytes = Bytes(stored);
    let (schema, sum) = (bytes.take::<2>()?, bytes.take::<4>()?);
    if u16::from_le_bytes(schema) != SCHEMA || sum != checksum(V::TREE, key, bytes.0) {
        return None;
    }
    let value = V::read(&mut bytes)?;
    bytes.0.is_empty().then_some(value)
}

/// Covers the tree and the key as well, so that a value cannot stand in a wrong place.
fn checksum(tree: Tree, key: &[u8], value: &[u8]) -> [u8; 4] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[tree as u8]);
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    let mut sum = [0; 4];
    hasher.finalize_xof().fill(&mut sum);
    sum
}

/// What is left to read of a value.
#[derive(Debug)]
pub struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*front)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_le_bytes)
    }

    fn f64(&mut self) -> Option<f64> {
        self.take().map(f64::from_le_bytes)
    }
}

/// A path in a work tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileKey {
    /// Which work tree of the store.
    pub root: [u8; 16],
    /// BLAKE3 of the path below the root.
    pub path: [u8; 32],
}

impl FileKey {
    /// The key of the path below a root, as bytes with `/` between the names.
    #[must_use]
    pub fn of(root: [u8; 16], path: &[u8]) -> Self {
        Self {
            root,
            path: *blake3::hash(path).as_bytes(),
        }
    }
}

/// What the system tells of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Device of the file system.
    pub device: u64,
    /// Number of the file on it.
    pub inode: u64,
    /// Size in bytes.
    pub size: u64,
    /// Last change of the content, in nanoseconds of Unix time.
    pub mtime_ns: i64,
    /// Last change of content, name or mode, likewise; a program cannot set it back.
    pub ctime_ns: i64,
}

/// A file as it was when its content was last read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileState {
    /// Its stat, taken before reading.
    pub stat: Stat,
    /// The object that it held.
    pub object: [u8; 32],
    /// When the reading began, in nanoseconds of Unix time.
    pub observed_ns: i64,
}

impl FileState {
    /// A change within this time after the one before may leave the same times behind: clocks of
    /// file systems tick in up to 2 s (FAT), those of mounts may differ a little.
    const TICK_NS: i64 = 2_000_000_000;

    /// The object, if a file with this stat must still hold it: nothing of the stat has changed,
    /// and the file was already older than a tick when it was read.
    #[must_use]
    pub fn object_for(&self, now: &Stat) -> Option<[u8; 32]> {
        let changed_ns = self.stat.mtime_ns.max(self.stat.ctime_ns);
        let old = self.observed_ns.checked_sub(changed_ns)? > Self::TICK_NS;
        (old && self.stat == *now).then_some(self.object)
    }
}

impl Value for FileState {
    const TREE: Tree = Tree::Files;
    type Key = FileKey;

    fn key(key: &FileKey) -> Vec<u8> {
        [&key.root[..], &key.path].concat()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.stat.device.to_le_bytes());
        out.extend(self.stat.inode.to_le_bytes());
        out.extend(self.stat.size.to_le_bytes());
        out.extend(self.stat.mtime_ns.to_le_bytes());
        out.extend(self.stat.ctime_ns.to_le_bytes());
        out.extend(self.object);
        out.extend(self.observed_ns.to_le_bytes());
    }

    fn read(bytes: &mut Bytes<'_>) -> Option<Self> {
        Some(Self {
            stat: Stat {
                device: bytes.u64()?,
                inode: bytes.u64()?,
                size: bytes.u64()?,
                mtime_ns: bytes.i64()?,
                ctime_ns: bytes.i64()?,
            },
            object: bytes.take()?,
            observed_ns: bytes.i64()?,
        })
    }
}

/// The object whose bytes have a certain SHA-256, which is the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownFile(pub [u8; 32]);

impl Value for KnownFile {
    const TREE: Tree = Tree::Sha256;
    type Key = [u8; 32];

    fn key(key: &[u8; 32]) -> Vec<u8> {
        key.to_vec()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.0);
    }

    fn read(bytes: &mut Bytes<'_>) -> Option<Self> {
        bytes.take().map(Self)
    }
}

/// What relatives of a tensor are found by; the key is BLAKE3 of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sketch {
    /// Number of the element type.
    pub dtype: u8,
    /// At most [`Sketch::RANK_MAX`] dimensions; more are not kept.
    pub shape: Vec<u64>,
    /// The similarity sketch.
    pub sketch: [u8; 256],
}

impl Sketch {
    /// The most dimensions that are kept.
    pub const RANK_MAX: usize = 16;
}

impl Value for Sketch {
    const TREE: Tree = Tree::Sketch;
    type Key = [u8; 32];

    fn key(key: &[u8; 32]) -> Vec<u8> {
        key.to_vec()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.dtype);
        // A longer shape is written as one that no reader accepts.
        out.push(u8::try_from(self.shape.len()).unwrap_or(u8::MAX));
        out.extend(self.shape.iter().flat_map(|length| length.to_le_bytes()));
        out.extend(self.sketch);
    }

    fn read(bytes: &mut Bytes<'_>) -> Option<Self> {
        let [dtype, rank] = bytes.take()?;
        if usize::from(rank) > Self::RANK_MAX {
            return None;
        }
        Some(Self {
            dtype,
            shape: (0..rank).map(|_| bytes.u64()).collect::<Option<_>>()?,
            sketch: bytes.take()?,
        })
    }
}

/// What `show` and planners tell of a tensor; the key is BLAKE3 of its bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorStats {
    /// The least value that is a number.
    pub min: f64,
    /// The greatest one.
    pub max: f64,
    /// How many elements are zero.
    pub zeros: u64,
    /// Estimated entropy in bits for one element.
    pub entropy_bits: f64,
}

impl Value for TensorStats {
    const TREE: Tree = Tree::Stats;
    type Key = [u8; 32];

    fn key(key: &[u8; 32]) -> Vec<u8> {
        key.to_vec()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.min.to_le_bytes());
        out.extend(self.max.to_le_bytes());
        out.extend(self.zeros.to_le_bytes());
        out.extend(self.entropy_bits.to_le_bytes());
    }

    fn read(bytes: &mut Bytes<'_>) -> Option<Self> {
        Some(Self {
            min: bytes.f64()?,
            max: bytes.f64()?,
            zeros: bytes.u64()?,
            entropy_bits: bytes.f64()?,
        })
    }
}

/// Something that a remote was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbsentKey {
    /// The remote's store.
    pub remote: [u8; 16],
    /// Its gc epoch: an answer holds for one only.
    pub epoch: u64,
    /// The id.
    pub id: [u8; 32],
}

/// The remote did not have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absence {
    /// When it said so, in nanoseconds of Unix time.
    pub since_ns: i64,
}

impl Value for Absence {
    const TREE: Tree = Tree::Negative;
    type Key = AbsentKey;

    fn key(key: &AbsentKey) -> Vec<u8> {
        [&key.remote[..], &key.epoch.to_le_bytes(), &key.id].concat()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.since_ns.to_le_bytes());
    }

    fn read(bytes: &mut Bytes<'_>) -> Option<Self> {
        bytes.i64().map(|since_ns| Self { since_ns })
    }
}
