//! An open store with what every verb needs of it.
//!
//! May use: everything below. Must never change anything by being opened.

use store_format::ids::CommitId;

use crate::error::Result;
use crate::flow::commit::Signature;
use crate::flow::read::Rebuilder;
use crate::flow::revision;
use crate::flow::worktree::Head;
use crate::par::Pool;
use crate::store::Store;
use crate::store::host::Host;
use crate::store::refs;

use super::Context;
use super::place::Place;

/// An open store.
pub struct Session {
    /// Where it is.
    pub place: Place,
    /// The store.
    pub store: Store,
    /// Reads it.
    pub rebuilder: Rebuilder,
    /// The references when it was opened.
    pub head: refs::Head,
    /// What the work tree follows; nothing for a bare store.
    pub work: Option<Head>,
}

impl Session {
    /// Opens the store that the verb is about.
    ///
    /// # Errors
    /// Where there is none, or it cannot be opened.
    pub fn open(context: &Context) -> Result<Self> {
        let place = context.place()?;
        let store = Store::open(&place.store, Host::system())?;
        let head = store.head()?;
        if let Some(number) = head.damaged {
            let text = format!(
                "reference table {number} is damaged; this store can only be read until \
                 'sparse repair' has made it again"
            );
            crate::progress::Progress::note(
                &context.progress,
                crate::progress::Note::Warning,
                &text,
            );
        }
        let work = match place.work_tree {
            Some(_) => Some(Head::read(&store)?.unwrap_or(Head::unborn("main"))),
            None => None,
        };
        let rebuilder = Rebuilder::new(store.reader()?);
        Ok(Self {
            place,
            store,
            rebuilder,
            head,
            work,
        })
    }

    /// What `HEAD` stands for.
    #[must_use]
    pub fn head_commit(&self) -> Option<CommitId> {
        self.work
            .as_ref()
            .and_then(|head| head.resolve(&self.head.table))
    }

    /// The commit that a text names.
    ///
    /// # Errors
    /// Where it names none, or more than one.
    pub fn resolve(&self, text: &str) -> Result<CommitId> {
        revision::resolve(&self.rebuilder, &self.head.table, self.head_commit(), text)
    }
}

/// The threads of a verb.
///
/// # Errors
/// If the system gives none.
pub fn pool(context: &Context) -> Result<Pool> {
    Pool::new(context.threads()?)
}

/// Who does this, and when.
///
/// # Errors
/// If a variable or setting makes no sense.
pub fn signature(context: &Context) -> Result<Signature> {
    let super::env::Signature {
        author,
        time,
        offset_minutes,
    } = context.signature()?;
    Ok(Signature {
        author,
        time,
        offset_minutes,
    })
}
