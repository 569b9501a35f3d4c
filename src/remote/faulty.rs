//! A remote that loses answers, fails and delivers less than was asked for: a test double.
//!
//! May use: `error`, `bytes`, `remote`.

use std::sync::Mutex;

use crate::bytes::ReadAt;
use crate::error::{Error, Kind, Result};
use crate::remote::{Created, Got, Listed, Remote, Span};

/// What a call meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: it goes through.
    Fine,
    /// It fails before anything is done.
    Failed,
    /// It does its work, and the answer is lost.
    Lost,
    /// A read delivers fewer bytes than it says; a write as `Lost`.
    Short,
}

/// Chooses what each call meets, by its number from one.
pub type Choose = Box<dyn FnMut(u64) -> Fault + Send>;

/// A remote behind a bad line.
pub struct FaultyRemote<R> {
    inner: R,
    choose: Mutex<(u64, Choose)>,
}

impl<R: Remote> FaultyRemote<R> {
    /// Puts a bad line before a remote.
    pub fn new(inner: R, choose: Choose) -> Self {
        Self {
            inner,
            choose: Mutex::new((0, choose)),
        }
    }

    fn call<T>(&self, work: impl FnOnce(&R) -> Result<T>) -> Result<(T, bool)> {
        let fault = {
            let mut choose = self
                .choose
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            choose.0 += 1;
            let number = choose.0;
            (choose.1)(number)
        };
        let broken = || Error::new(Kind::Unreachable, "the line broke");
        match fault {
            Fault::Fine => work(&self.inner).map(|done| (done, false)),
            Fault::Failed => Err(broken()),
            Fault::Lost => work(&self.inner).and(Err(broken())),
            Fault::Short => work(&self.inner).map(|done| (done, true)),
        }
    }

    fn write<T>(&self, work: impl FnOnce(&R) -> Result<T>) -> Result<T> {
        match self.call(work)? {
            (done, false) => Ok(done),
            (_, true) => Err(Error::new(Kind::Unreachable, "the line broke")),
        }
    }
}

impl<R: Remote> Remote for FaultyRemote<R> {
    fn get(&self, path: &str, span: Span) -> Result<Got> {
        let (mut got, short) = self.call(|inner| inner.get(path, span))?;
        if short {
            got.bytes.truncate(got.bytes.len() / 2);
        }
        Ok(got)
    }

    fn put_new(&self, path: &str, body: &dyn ReadAt) -> Result<Created> {
        self.write(|inner| inner.put_new(path, body))
    }

    fn put(&self, path: &str, body: &dyn ReadAt) -> Result<()> {
        self.write(|inner| inner.put(path, body))
    }

    fn list(&self, prefix: &str, after: &str) -> Result<Vec<Listed>> {
        self.write(|inner| inner.list(prefix, after))
    }

    fn delete(&self, path: &str) -> Result<()> {
        self.write(|inner| inner.delete(path))
    }
}
