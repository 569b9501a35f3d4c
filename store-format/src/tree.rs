//! Trees: directories, and which names may stand in them.

use alloc::string::String;
use alloc::vec::Vec;

use minicbor::decode::Error as DecodeError;
use minicbor::encode::{Error as EncodeError, Write};
use minicbor::{Decode, Decoder, Encode, Encoder};

use crate::FormatError;
use crate::ids::{AttachmentId, ManifestId, TreeId};
use crate::limits;
use crate::object::within;

/// What a name in a tree stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A file.
    File {
        /// How it is put together.
        manifest: ManifestId,
        /// Its length.
        bytes: u64,
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A directory.
    Tree(TreeId),
    /// A symbolic link; its target as text.
    Symlink(String),
    /// An attachment, in the trees of the reference `notes`.
    Attachment(AttachmentId),
}

/// A name and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// One component of a path.
    pub name: String,
    /// What it stands for.
    pub node: Node,
}

/// A directory: its entries, ascending by the bytes of their names.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Tree {
    /// The entries.
    #[n(0)]
    pub entries: Vec<Entry>,
}

const FILE: u8 = 0;
const EXECUTABLE: u8 = 1;
const TREE: u8 = 2;
const SYMLINK: u8 = 3;
const ATTACHMENT: u8 = 4;

impl<C> Encode<C> for Entry {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, c: &mut C) -> Result<(), EncodeError<W::Error>> {
        match &self.node {
            Node::File {
                manifest,
                bytes,
                executable,
            } => {
                let kind = if *executable { EXECUTABLE } else { FILE };
                e.array(4)?
                    .str(&self.name)?
                    .u8(kind)?
                    .encode_with(manifest, c)?
                    .u64(*bytes)?
                    .ok()
            }
            Node::Tree(tree) => e
                .array(3)?
                .str(&self.name)?
                .u8(TREE)?
                .encode_with(tree, c)?
                .ok(),
            Node::Symlink(target) => e.array(3)?.str(&self.name)?.u8(SYMLINK)?.str(target)?.ok(),
            Node::Attachment(id) => e
                .array(3)?
                .str(&self.name)?
                .u8(ATTACHMENT)?
                .encode_with(id, c)?
                .ok(),
        }
    }
}

impl<'b, C> Decode<'b, C> for Entry {
    fn decode(d: &mut Decoder<'b>, c: &mut C) -> Result<Self, DecodeError> {
        // The length is held by the rule that an object encodes to its own bytes again.
        d.array()?;
        let name = d.str()?.into();
        let node = match d.u8()? {
            kind @ (FILE | EXECUTABLE) => Node::File {
                manifest: d.decode_with(c)?,
                bytes: d.u64()?,
                executable: kind == EXECUTABLE,
            },
            TREE => Node::Tree(d.decode_with(c)?),
            SYMLINK => Node::Symlink(d.str()?.into()),
            ATTACHMENT => Node::Attachment(d.decode_with(c)?),
            _ => return Err(DecodeError::message("unknown kind of tree entry")),
        };
        Ok(Self { name, node })
    }
}

impl Tree {
    pub(crate) fn check_rules(&self) -> Result<(), FormatError> {
        if !self
            .entries
            .is_sorted_by(|a, b| a.name.as_bytes() < b.name.as_bytes())
        {
            return Err(FormatError::Invalid {
                rule: "names of a tree ascend",
            });
        }
        for entry in &self.entries {
            check_name(&entry.name)?;
            if let Node::Symlink(target) = &entry.node {
                within(
                    "a symlink's target",
                    target.len(),
                    limits::SYMLINK_BYTES_MAX,
                )?;
                if target.is_empty() || target.contains('\0') {
                    return Err(FormatError::Invalid {
                        rule: "a symlink has a target",
                    });
                }
            }
        }
        Ok(())
    }

    /// The entry of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Entry> {
        let found = self
            .entries
            .binary_search_by(|e| e.name.as_bytes().cmp(name.as_bytes()));
        self.entries.get(found.ok()?)
    }
}

/// Checks one component of a path. What is refused could leave the target directory, name the
/// store itself, or cannot be told apart from such a name on some file system.
///
/// # Errors
/// [`FormatError`] naming the rule.
pub fn check_name(name: &str) -> Result<(), FormatError> {
    within("a name", name.len(), limits::NAME_BYTES_MAX)?;
    let rule = if name.is_empty() {
        "a name is not empty"
    } else if name == "." || name == ".." {
        "a name is not '.' or '..'"
    } else if name.contains(['/', '\\', '\0']) {
        "a name holds no '/', '\\' or NUL"
    } else if name.starts_with('~') {
        "a name does not start with '~'"
    } else if has_drive(name) {
        "a name does not start with a drive letter"
    } else if is_reserved(name) {
        "'.sparse' and '.git' are not stored, in any spelling"
    } else {
        return Ok(());
    };
    Err(FormatError::Invalid { rule })
}

fn has_drive(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic()) && chars.next() == Some(':')
}

/// Whether some file system would take this name for a store's own folder: upper case, Unicode
/// code points that it ignores or folds, NTFS short names, trailing dots and spaces, streams.
fn is_reserved(name: &str) -> bool {
    let kept = |c: &char| !matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let folded: String = name
        .chars()
        .filter(kept)
        // Beside the capitals only the long s folds to a letter of a name below.
        .map(|c| {
            if c == '\u{17f}' {
                's'
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect();
    let stem = folded
        .split(':')
        .next()
        .unwrap_or_default()
        .trim_end_matches(['.', ' ']);
    [".sparse", ".git", "git~1", "sparse~1"].contains(&stem)
}
