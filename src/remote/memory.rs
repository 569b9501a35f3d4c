//! A remote in memory: for tests, and the shortest statement of what a remote does.
//!
//! May use: `error`, `bytes`, `remote`.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::bytes::ReadAt;
use crate::error::{Error, Result};
use crate::remote::{Created, Got, LIST_MAX, Listed, Remote, Span, check_path, check_prefix};

type Files = BTreeMap<String, Arc<Vec<u8>>>;

/// Files in memory. Clones share them.
#[derive(Clone, Default)]
pub struct MemoryRemote(Arc<Mutex<Files>>);

impl MemoryRemote {
    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take(body: &dyn ReadAt) -> Result<Arc<Vec<u8>>> {
    let bytes = usize::try_from(body.len()).unwrap_or(usize::MAX);
    Ok(Arc::new(body.read_vec(0, bytes)?))
}

impl Remote for MemoryRemote {
    fn get(&self, path: &str, span: Span) -> Result<Got> {
        check_path(path)?;
        let file = self.files().get(path).cloned();
        let file = file.ok_or_else(|| Error::not_found(format!("'{path}' is not there")))?;
        let total = file.len() as u64;
        let (start, bytes) = span.within(total)?;
        let bytes = file.read_vec(start, usize::try_from(bytes).unwrap_or(usize::MAX))?;
        Ok(Got { bytes, total })
    }

    fn put_new(&self, path: &str, body: &dyn ReadAt) -> Result<Created> {
        check_path(path)?;
        let body = take(body)?;
        let mut files = self.files();
        if files.contains_key(path) {
            return Ok(Created::Taken);
        }
        files.insert(path.to_owned(), body);
        Ok(Created::New)
    }

    fn put(&self, path: &str, body: &dyn ReadAt) -> Result<()> {
        check_path(path)?;
        let body = take(body)?;
        self.files().insert(path.to_owned(), body);
        Ok(())
    }

    fn list(&self, prefix: &str, after: &str) -> Result<Vec<Listed>> {
        check_prefix(prefix)?;
        let files = self.files();
        let from = if after < prefix {
            Bound::Included(prefix)
        } else {
            Bound::Excluded(after)
        };
        let found = files.range::<str, _>((from, Bound::Unbounded));
        let found = found.take_while(|(path, _)| path.starts_with(prefix));
        let listed = found.map(|(path, body)| Listed {
            path: path.clone(),
            bytes: body.len() as u64,
        });
        Ok(listed.take(LIST_MAX).collect())
    }

    fn delete(&self, path: &str) -> Result<()> {
        check_path(path)?;
        self.files().remove(path);
        Ok(())
    }
}
