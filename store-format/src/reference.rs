//! Reference tables and operation records: the state of a store, and the chain of its changes.

use alloc::string::String;
use alloc::vec::Vec;

use minicbor::decode::Error as DecodeError;
use minicbor::encode::{Error as EncodeError, Write};
use minicbor::{Decode, Decoder, Encode, Encoder};

use crate::FormatError;
use crate::closed::closed;
use crate::cursor::{Reader, u64_of};
use crate::ids::{CommitId, OperationId, PackId, TableId};
use crate::limits;
use crate::object::{Object, within};

/// The first bytes of a reference table's file.
pub const TABLE_MAGIC: [u8; 8] = *b"SPARSERF";
/// The first bytes of an operation record's file.
pub const OPERATION_MAGIC: [u8; 8] = *b"SPARSEOP";
/// The version of such files that this crate writes.
pub const FILE_VERSION: u32 = 1;
/// Bytes around the object in such a file.
pub const FILE_FRAME_BYTES: usize = 48;
/// What a branch's full name starts with.
pub const BRANCHES: &str = "heads/";
/// What a tag's full name starts with.
pub const TAGS: &str = "tags/";
/// What a remote's branch starts with: `remotes/NAME/BRANCH`.
pub const REMOTES: &str = "remotes/";
/// The full name of the reference that attachments hang on.
pub const NOTES: &str = "notes";

/// A name that points to a commit.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Reference {
    /// Its full name, `heads/main` say.
    #[n(0)]
    pub name: String,
    /// What it points to.
    #[n(1)]
    pub commit: CommitId,
}

/// All references at one moment. Tables are numbered and created if absent; the newest valid
/// one is the state of the store.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ReferenceTable {
    /// Its number, which its file name repeats.
    #[n(0)]
    pub number: u64,
    /// The table before it; absent in the first.
    #[n(1)]
    pub parent: Option<TableId>,
    /// The operation that made it.
    #[n(2)]
    pub operation: OperationId,
    /// Random bytes by which a writer knows its own table again.
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub write_id: [u8; 16],
    /// How many collections deleted packs before this table.
    #[n(4)]
    pub gc_epoch: u64,
    /// The references, ascending by name.
    #[n(5)]
    pub references: Vec<Reference>,
}

impl ReferenceTable {
    pub(crate) fn check_rules(&self) -> Result<(), FormatError> {
        if !self.references.is_sorted_by(|a, b| a.name < b.name) {
            return Err(FormatError::Invalid {
                rule: "names of a reference table ascend",
            });
        }
        if self.number > limits::TABLE_NUMBER_MAX {
            return Err(FormatError::TooLarge {
                field: "number of a reference table",
                value: self.number,
                max: limits::TABLE_NUMBER_MAX,
            });
        }
        if self.parent.is_none() != (self.number == 0) {
            return Err(FormatError::Invalid {
                rule: "every table but the first has a parent",
            });
        }
        self.references
            .iter()
            .try_for_each(|reference| check_reference(&reference.name))
    }

    /// What a name points to.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<CommitId> {
        let found = self
            .references
            .binary_search_by(|r| r.name.as_str().cmp(name))
            .ok()?;
        self.references.get(found).map(|reference| reference.commit)
    }
}

/// One reference that an operation moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The reference's full name.
    pub name: String,
    /// What it pointed to; absent where the operation made it.
    pub old: Option<CommitId>,
    /// What it points to; absent where the operation removed it.
    pub new: Option<CommitId>,
}

// By hand: a derived array would leave out what is absent at its end.
impl<C> Encode<C> for Change {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, c: &mut C) -> Result<(), EncodeError<W::Error>> {
        e.array(3)?.str(&self.name)?;
        self.old.encode(e, c)?;
        self.new.encode(e, c)
    }
}

impl<'b, C> Decode<'b, C> for Change {
    fn decode(d: &mut Decoder<'b>, c: &mut C) -> Result<Self, DecodeError> {
        // The length is held by the rule that an object encodes to its own bytes again.
        d.array()?;
        Ok(Self {
            name: d.str()?.into(),
            old: d.decode_with(c)?,
            new: d.decode_with(c)?,
        })
    }
}

/// What a collection deleted.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Collection {
    /// The epoch that begins with it.
    #[n(0)]
    pub epoch: u64,
    /// The packs that are deleted once the table stands.
    #[n(1)]
    pub packs: Vec<PackId>,
}

/// One change of the store: who did what, and which references moved.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Operation {
    /// The verb, as typed.
    #[n(0)]
    pub verb: String,
    /// Who.
    #[n(1)]
    pub author: String,
    /// When, in seconds since 1970 (UTC); never used to decide.
    #[n(2)]
    pub time: i64,
    /// The operation before it; absent in the first.
    #[n(3)]
    pub parent: Option<OperationId>,
    /// The references that moved, ascending by name.
    #[n(4)]
    pub changes: Vec<Change>,
    /// Packs that a collection deleted.
    #[n(5)]
    pub collection: Option<Collection>,
    /// The operation that this one takes back.
    #[n(6)]
    pub undoes: Option<OperationId>,
}

impl Operation {
    pub(crate) fn check_rules(&self) -> Result<(), FormatError> {
        within("a verb", self.verb.len(), 64)?;
        within("an author", self.author.len(), limits::MESSAGE_BYTES_MAX)?;
        if !self.changes.is_sorted_by(|a, b| a.name < b.name) {
            return Err(FormatError::Invalid {
                rule: "names of an operation ascend",
            });
        }
        self.changes
            .iter()
            .try_for_each(|change| check_reference(&change.name))
    }
}

/// The bytes of a file that holds one object of its own: magic, version, object, check.
///
/// # Errors
/// [`FormatError`] where the object breaks a rule or a limit.
pub fn encode_file<T: Object>(magic: [u8; 8], object: &T) -> Result<(T::Id, Vec<u8>), FormatError> {
    let (id, body) = object.to_bytes()?;
    let mut out = Vec::with_capacity(body.len().saturating_add(FILE_FRAME_BYTES));
    out.extend_from_slice(&magic);
    out.extend_from_slice(&FILE_VERSION.to_le_bytes());
    crate::cursor::put_u32(&mut out, body.len());
    out.extend_from_slice(&body);
    let check = blake3::hash(&out);
    out.extend_from_slice(check.as_bytes());
    Ok((id, out))
}

/// The most bytes of a file that holds one object of this kind.
#[must_use]
pub fn file_bytes_max<T: Object>() -> u64 {
    T::BYTES_MAX.saturating_add(u64_of(FILE_FRAME_BYTES))
}

/// Reads a file that holds one object of its own.
///
/// # Errors
/// [`FormatError`] where the bytes are damaged, of a newer version, or break a rule.
pub fn decode_file<T: Object>(magic: [u8; 8], bytes: &[u8]) -> Result<(T::Id, T), FormatError> {
    let max = file_bytes_max::<T>();
    if u64_of(bytes.len()) > max {
        return Err(FormatError::TooLarge {
            field: T::WHAT,
            value: u64_of(bytes.len()),
            max,
        });
    }
    let (covered, check) = bytes
        .split_last_chunk::<32>()
        .ok_or(FormatError::Truncated { what: T::WHAT })?;
    if blake3::hash(covered).as_bytes() != check {
        return Err(FormatError::Checksum { what: T::WHAT });
    }
    let mut reader = Reader::new(covered, T::WHAT);
    if reader.array()? != magic {
        return Err(FormatError::Invalid {
            rule: "a file starts with the magic of its kind",
        });
    }
    let version = reader.u32()?;
    if version != FILE_VERSION {
        return Err(FormatError::Unsupported {
            feature: version.into(),
        });
    }
    let body = reader.bytes(T::WHAT, u32::MAX)?;
    reader.finish()?;
    Ok((T::id_of(body), T::from_bytes(body)?))
}

closed! {
    /// What a reference is for, told by the start of its full name.
    ReferenceKind, "reference kind";
    /// A branch of this store.
    Branch = 0, "branch";
    /// A tag.
    Tag = 1, "tag";
    /// A branch of a remote, as last seen.
    Remote = 2, "remote";
    /// The attachments.
    Notes = 3, "notes";
}

/// What a reference is for.
#[must_use]
pub fn kind_of(name: &str) -> Option<ReferenceKind> {
    if name == NOTES {
        return Some(ReferenceKind::Notes);
    }
    [
        (BRANCHES, ReferenceKind::Branch),
        (TAGS, ReferenceKind::Tag),
        (REMOTES, ReferenceKind::Remote),
    ]
    .into_iter()
    .find_map(|(prefix, kind)| name.starts_with(prefix).then_some(kind))
}

/// Checks a reference's full name.
///
/// # Errors
/// [`FormatError`] naming the rule.
pub fn check_reference(name: &str) -> Result<(), FormatError> {
    within(
        "a reference's name",
        name.len(),
        limits::REFERENCE_NAME_BYTES_MAX,
    )?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-');
    let rule = if !name.chars().all(allowed) {
        "a reference's name holds letters, digits, '.', '_', '-' and '/' only"
    } else if name.contains("..") || name.contains("//") {
        "a reference's name holds no '..' or '//'"
    } else if name
        .split('/')
        .any(|part| part.is_empty() || part.starts_with(['-', '.']))
    {
        "no part of a reference's name is empty or starts with '-' or '.'"
    } else if name.ends_with(".lock") {
        "a reference's name does not end in '.lock'"
    } else if name
        .strip_prefix(REMOTES)
        .is_some_and(|rest| !rest.contains('/'))
    {
        "a remote's branch names the remote, then the branch"
    } else if kind_of(name).is_none() {
        "a reference is a branch, a tag, a remote's branch or the notes"
    } else {
        return Ok(());
    };
    Err(FormatError::Invalid { rule })
}
