//! Attachments: what is said about commits after they were made.
//!
//! May use: tiers 0 to 4. They hang on the reference `notes`: a tree of two digits of the commit
//! id, the other 62, then the attachments by id. Holds: nothing is ever replaced, the newest of a
//! namespace wins in views only; a look-up reads three trees, whatever their number.

use std::collections::BTreeMap;

use serde_json::Value;
use store_format::commit::{Attachment, Attribute, Commit};
use store_format::ids::{AttachmentId, CommitId, TreeId};
use store_format::record::Kind;
use store_format::reference::{Change, NOTES, ReferenceTable};
use store_format::tree::{Entry, Node, Tree};

use crate::error::{Error, Result};
use crate::flow::commit::Signature;
use crate::flow::read::Rebuilder;
use crate::flow::unite::{self, misplaced};
use crate::flow::{closure, tree};
use crate::store::Store;
use crate::store::advance::{Deed, Outcome};
use crate::store::txn::Txn;

/// How often an attachment is tried again that others or a collection overtook.
const TRIES: usize = 8;

/// An attachment and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Its name.
    pub id: AttachmentId,
    /// What it says, who says so, and when.
    pub attachment: Attachment,
}

/// The attachments of a store at one moment.
pub struct Notes<'r> {
    rebuilder: &'r Rebuilder,
    root: Tree,
}

impl<'r> Notes<'r> {
    /// Opens what the reference `notes` points to, or nothing.
    ///
    /// # Errors
    /// Damaged or missing objects.
    pub fn open(rebuilder: &'r Rebuilder, table: &ReferenceTable) -> Result<Self> {
        let root = match table.get(NOTES) {
            Some(commit) => {
                let tree = rebuilder.object::<Commit>(&commit)?.tree;
                rebuilder.object::<Tree>(&tree)?
            }
            None => Tree::default(),
        };
        Ok(Self { rebuilder, root })
    }

    /// The attachments of a commit, oldest first.
    ///
    /// # Errors
    /// Damaged or missing objects.
    pub fn of(&self, commit: &CommitId) -> Result<Vec<Note>> {
        let (front, back) = digits(commit);
        let Some(shard) = inner(self.rebuilder, &self.root, &front)? else {
            return Ok(Vec::new());
        };
        let Some(named) = inner(self.rebuilder, &shard, &back)? else {
            return Ok(Vec::new());
        };
        let mut notes = Vec::with_capacity(named.entries.len());
        for entry in named.entries {
            let Node::Attachment(id) = entry.node else {
                return Err(misplaced(&entry.name));
            };
            let attachment = self.rebuilder.object::<Attachment>(&id)?;
            if entry.name != id.to_string() || attachment.commit != *commit {
                return Err(misplaced(&entry.name));
            }
            notes.push(Note { id, attachment });
        }
        notes.sort_by_key(|note| (note.attachment.time, note.id));
        Ok(notes)
    }
}

/// The attachments of a commit, oldest first.
///
/// # Errors
/// As [`Notes::of`].
pub fn of(rebuilder: &Rebuilder, table: &ReferenceTable, commit: &CommitId) -> Result<Vec<Note>> {
    Notes::open(rebuilder, table)?.of(commit)
}

fn digits(commit: &CommitId) -> (String, String) {
    let mut front = commit.to_string();
    let back = front.split_off(2);
    (front, back)
}

fn inner(rebuilder: &Rebuilder, tree: &Tree, name: &str) -> Result<Option<Tree>> {
    match tree.get(name).map(|entry| &entry.node) {
        None => Ok(None),
        Some(Node::Tree(id)) => rebuilder.object::<Tree>(id).map(Some),
        Some(_) => Err(misplaced(name)),
    }
}

/// What is known of a commit by namespace: its own attributes, then its attachments from the
/// oldest to the newest. Objects are united key by key, anything else is replaced.
///
/// # Errors
/// `Corrupt` for what is no JSON.
pub fn united(commit: &Commit, notes: &[Note]) -> Result<BTreeMap<String, Value>> {
    let attached = notes.iter().map(|note| &note.attachment.attribute);
    let mut views = BTreeMap::new();
    for attribute in commit.attributes.iter().chain(attached) {
        let value = value(attribute)?;
        match (views.get_mut(&attribute.namespace), value) {
            (Some(Value::Object(all)), Value::Object(more)) => all.extend(more),
            (_, value) => {
                views.insert(attribute.namespace.clone(), value);
            }
        }
    }
    Ok(views)
}

/// The value of an attribute.
///
/// # Errors
/// `Corrupt` for what is no JSON.
pub fn value(attribute: &Attribute) -> Result<Value> {
    serde_json::from_str(&attribute.json).map_err(|error| {
        Error::corrupt(format!("attribute '{}' is no JSON", attribute.namespace)).because(error)
    })
}

/// Hangs an attribute on a commit; the commit stays as it is.
///
/// # Errors
/// `Conflict` where others kept moving the notes; failures of the disk.
pub fn attach(
    store: &Store,
    commit: CommitId,
    attribute: &Attribute,
    signature: &Signature,
) -> Result<AttachmentId> {
    let attachment = Attachment {
        commit,
        attribute: attribute.clone(),
        author: signature.author.clone(),
        time: signature.time,
    };
    for _ in 0..TRIES {
        let (id, outcome) = try_attach(store, &attachment, signature)?;
        match outcome {
            Some(Outcome::Moved { .. } | Outcome::Collected { .. }) => {}
            Some(outcome) => return outcome.done().map(|_| id),
            None => return Ok(id),
        }
    }
    Err(Error::conflict("others keep attaching at the same time").hint("try again"))
}

/// Tries once; no outcome where the very same attachment is there already.
fn try_attach(
    store: &Store,
    attachment: &Attachment,
    signature: &Signature,
) -> Result<(AttachmentId, Option<Outcome>)> {
    let txn = store.begin()?;
    let rebuilder = Rebuilder::new(txn.reader().clone());
    let id = tree::put(&txn, Kind::Attachment, attachment)?;
    let old = txn.head().table.get(NOTES);
    let old_tree = old
        .map(|old| rebuilder.object::<Commit>(&old))
        .transpose()?;
    let added = alone(&txn, &attachment.commit, id)?;
    let tree = match &old_tree {
        Some(old) => unite::trees(&txn, &rebuilder, &old.tree, &added)?,
        None => added,
    };
    if old_tree.is_some_and(|old| old.tree == tree) {
        return Ok((id, None));
    }
    let message = format!(
        "attach {} to {:.12}",
        attachment.attribute.namespace, attachment.commit
    );
    let parents = old.into_iter().collect();
    let new = put_commit(&txn, tree, parents, message, signature)?;
    let deed = Deed {
        verb: "attach".to_owned(),
        author: signature.author.clone(),
        time: signature.time,
        changes: vec![Change {
            name: NOTES.to_owned(),
            old,
            new: Some(new),
        }],
        undoes: None,
    };
    let roots = [new];
    let missing = |reader: &_| closure::missing(reader, &roots);
    Ok((id, Some(txn.publish(&deed, Some(&missing))?)))
}

/// The notes that hold one attachment.
fn alone(txn: &Txn, commit: &CommitId, id: AttachmentId) -> Result<TreeId> {
    let (front, back) = digits(commit);
    let mut node = Node::Attachment(id);
    for name in [id.to_string(), back, front] {
        let entries = vec![Entry { name, node }];
        node = Node::Tree(tree::put(txn, Kind::Tree, &Tree { entries })?);
    }
    match node {
        Node::Tree(tree) => Ok(tree),
        _ => Err(Error::corrupt("notes are trees")),
    }
}

fn put_commit(
    txn: &Txn,
    tree: TreeId,
    parents: Vec<CommitId>,
    message: String,
    signature: &Signature,
) -> Result<CommitId> {
    let commit = Commit {
        tree,
        parents,
        origins: Vec::new(),
        author: signature.author.clone(),
        time: signature.time,
        offset_minutes: signature.offset_minutes,
        message,
        attributes: Vec::new(),
    };
    tree::put(txn, Kind::Commit, &commit)
}
