//! `HEAD`: which branch a work tree follows, and which version its files were taken from.
//!
//! May use: tiers 0 to 4. A work tree has its own `HEAD`; a bare store has none.

use store_format::ids::CommitId;
use store_format::reference::{BRANCHES, ReferenceTable};

use crate::error::{Error, IoContext, Result};
use crate::store::Store;

/// The file's name in the store's directory.
const HEAD: &str = "HEAD";

/// Longest `HEAD` that is read.
const HEAD_BYTES_MAX: u64 = 4096;

/// What a work tree follows and holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The branch, without `heads/`; nothing where a commit was checked out by itself.
    pub branch: Option<String>,
    /// The version that the files were taken from or committed as.
    pub commit: Option<CommitId>,
}

impl Head {
    /// The state of a new work tree.
    #[must_use]
    pub fn unborn(branch: &str) -> Self {
        Self {
            branch: Some(branch.into()),
            commit: None,
        }
    }

    /// What revision `HEAD` stands for: what the branch points to, or the commit where there is
    /// no branch. A branch whose first commit was undone stands for nothing.
    #[must_use]
    pub fn resolve(&self, table: &ReferenceTable) -> Option<CommitId> {
        match &self.branch {
            Some(branch) => table.get(&format!("{BRANCHES}{branch}")),
            None => self.commit,
        }
    }

    /// Reads the file; nothing for a bare store.
    ///
    /// # Errors
    /// `Corrupt` where it says nothing that can be understood; failures of the disk.
    pub fn read(store: &Store) -> Result<Option<Self>> {
        let disk = store.disk();
        let file = match disk.open(HEAD) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).at("open", HEAD),
        };
        let damaged = || Error::corrupt("'HEAD' is damaged").hint("sparse checkout BRANCH --force");
        let bytes = usize::try_from(file.bytes().min(HEAD_BYTES_MAX)).unwrap_or(0);
        let mut text = vec![0; bytes];
        file.read_at(0, &mut text).at("read", HEAD)?;
        let text = String::from_utf8(text).map_err(|_| damaged())?;
        let mut head = Self {
            branch: None,
            commit: None,
        };
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("branch", name)) => head.branch = Some(name.into()),
                Some(("commit", id)) => head.commit = Some(id.parse().map_err(|_| damaged())?),
                _ => return Err(damaged()),
            }
        }
        Ok(Some(head))
    }

    /// Replaces the file. It is not data of record: after a crash the old or the new one stands.
    ///
    /// # Errors
    /// Failures of the disk.
    pub fn write(&self, store: &Store) -> Result<()> {
        let branch = self
            .branch
            .iter()
            .map(|branch| format!("branch {branch}\n"));
        let commit = self
            .commit
            .iter()
            .map(|commit| format!("commit {commit}\n"));
        let text: String = branch.chain(commit).collect();
        let disk = store.disk();
        let temporary = format!("tmp/HEAD-{}", store.host().process);
        let _ = disk.remove(&temporary);
        let mut draft = disk.create(&temporary).at("write", HEAD)?;
        draft.append(text.as_bytes()).at("write", HEAD)?;
        draft.sync().at("write", HEAD)?;
        disk.replace(&temporary, HEAD).at("write", HEAD)?;
        disk.sync_dir("").at("synchronise", HEAD)
    }
}
