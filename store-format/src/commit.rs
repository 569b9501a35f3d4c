//! Commits and attachments: versions, where they come from, and what is said about them.

use alloc::string::String;
use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use crate::FormatError;
use crate::closed::closed;
use crate::ids::{CommitId, TreeId};
use crate::limits;
use crate::object::within;

closed! {
    /// How a version was made from its base.
    Derivation, "derivation";
    /// Made from the base in a way that nobody stated.
    Derived = 0, "derived";
    /// Trained further.
    FineTune = 1, "fine-tune";
    /// A later state of the same training run.
    Checkpoint = 2, "checkpoint";
    /// An adapter to be used with the base.
    Adapter = 3, "adapter";
    /// The base with an adapter merged in.
    MergedAdapter = 4, "merged-adapter";
    /// The base plus a truncated singular value decomposition of a change.
    Svd = 5, "svd";
    /// The base plus a change rounded to eight bits.
    Int8Delta = 6, "int8-delta";
    /// Neurons, heads or layers removed.
    Pruned = 7, "pruned";
    /// Several models combined.
    Merged = 8, "merged";
    /// Stored with fewer bits.
    Quantised = 9, "quantised";
    /// The same weights in another element type or layout.
    Cast = 10, "cast";
    /// Trained as a mixture of recursions.
    Recursive = 11, "mor";
    /// A table made from other tables.
    Dataset = 12, "dataset";
}

/// A base that a version was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Origin {
    /// How.
    #[n(0)]
    pub kind: Derivation,
    /// From what.
    #[n(1)]
    pub base: CommitId,
    /// Whether the relation was stated by a person or a program; else it was found by likeness.
    #[n(2)]
    pub stated: bool,
}

/// Typed JSON under a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Attribute {
    /// What it is about: `prune`, `mor`, `routing`, `eval`, or a name of the user's own.
    #[n(0)]
    pub namespace: String,
    /// A JSON document.
    #[n(1)]
    pub json: String,
}

/// A version.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Commit {
    /// The root directory.
    #[n(0)]
    pub tree: TreeId,
    /// The versions before it on its branch.
    #[n(1)]
    pub parents: Vec<CommitId>,
    /// What it was made from.
    #[n(2)]
    pub origins: Vec<Origin>,
    /// Who made it.
    #[n(3)]
    pub author: String,
    /// When, in seconds since 1970 (UTC).
    #[n(4)]
    pub time: i64,
    /// The author's offset from UTC, in minutes.
    #[n(5)]
    pub offset_minutes: i32,
    /// What it is, in words.
    #[n(6)]
    pub message: String,
    /// Attributes given with the commit, ascending by namespace.
    #[n(7)]
    pub attributes: Vec<Attribute>,
}

impl Commit {
    pub(crate) fn check_rules(&self) -> Result<(), FormatError> {
        within("parents", self.parents.len(), limits::PARENTS_MAX)?;
        within("origins", self.origins.len(), limits::PARENTS_MAX)?;
        if self.offset_minutes.unsigned_abs() > limits::OFFSET_MINUTES_MAX {
            return Err(FormatError::TooLarge {
                field: "a commit's offset from UTC",
                value: self.offset_minutes.unsigned_abs().into(),
                max: limits::OFFSET_MINUTES_MAX.into(),
            });
        }
        within("a message", self.message.len(), limits::MESSAGE_BYTES_MAX)?;
        within("an author", self.author.len(), limits::MESSAGE_BYTES_MAX)?;
        if !self
            .attributes
            .is_sorted_by(|a, b| a.namespace < b.namespace)
        {
            return Err(FormatError::Invalid {
                rule: "namespaces of a commit ascend",
            });
        }
        for attribute in &self.attributes {
            check_namespace(&attribute.namespace)?;
            within(
                "an attribute",
                attribute.json.len(),
                limits::ATTRIBUTE_BYTES_MAX,
            )?;
        }
        Ok(())
    }
}

/// Something said about a commit after it was made; never changes the commit's id.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Attachment {
    /// The commit that it is about.
    #[n(0)]
    pub commit: CommitId,
    /// What it says.
    #[n(1)]
    pub attribute: Attribute,
    /// Who says so.
    #[n(2)]
    pub author: String,
    /// When, in seconds since 1970 (UTC).
    #[n(3)]
    pub time: i64,
}

impl Attachment {
    pub(crate) fn check_rules(&self) -> Result<(), FormatError> {
        check_namespace(&self.attribute.namespace)?;
        within("an author", self.author.len(), limits::MESSAGE_BYTES_MAX)?;
        within(
            "an attribute",
            self.attribute.json.len(),
            limits::ATTRIBUTE_BYTES_MAX,
        )
    }
}

/// Checks the name of a namespace: a letter, then letters, digits, `-`, `_` and `.`.
///
/// # Errors
/// [`FormatError`] naming the rule.
pub fn check_namespace(name: &str) -> Result<(), FormatError> {
    within("a namespace", name.len(), 64)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(allowed) {
        return Ok(());
    }
    Err(FormatError::Invalid {
        rule: "a namespace is a letter, then letters, digits, '-', '_', '.'",
    })
}
