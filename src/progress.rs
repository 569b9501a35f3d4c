//! How long work tells how far it is, and hears that it shall stop.
//!
//! May use: `error`. Library code never prints: it is handed a [`Progress`] and calls it.

use crate::error::{Error, Kind, Result};

/// Something that a person should read while or after the work; never a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// What could be done next.
    Hint,
    /// What is not as it should be but does not stop the work.
    Warning,
}

/// Who is told how far the work is. Called from several threads at once; each call is cheap, so
/// it may be made for every chunk.
pub trait Progress: Sync {
    /// A stretch of work begins: `what` is a verb in the form "writing"; `logical_total` is the
    /// plain size of all of it, where it is known. A stretch that is still open ends.
    fn begin(&self, what: &str, logical_total: Option<u64>);

    /// So much more is done: plain bytes, and the bytes that they took on disk or on the wire
    /// (the two stand side by side, for the saving is the product).
    fn advance(&self, logical: u64, stored: u64);

    /// A line for people, above the line of progress.
    fn note(&self, note: Note, text: &str);

    /// The stretch is over.
    fn end(&self);

    /// From now on the thread that calls this does `what`: for those who ask where the time went.
    /// Steps come again as often as they like.
    fn step(&self, _what: &'static str) {}

    /// Whether the caller asked to stop.
    fn stopped(&self) -> bool;

    /// Fails if the caller asked to stop; to be asked between two chunks.
    ///
    /// # Errors
    /// [`Kind::Interrupted`].
    fn check(&self) -> Result<()> {
        if self.stopped() {
            return Err(Error::new(Kind::Interrupted, "stopped"));
        }
        Ok(())
    }
}

/// Nobody looks and nobody stops.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, _: u64, _: u64) {}
    fn note(&self, _: Note, _: &str) {}
    fn end(&self) {}
    fn stopped(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stopped;

    impl Progress for Stopped {
        fn begin(&self, _: &str, _: Option<u64>) {}
        fn advance(&self, _: u64, _: u64) {}
        fn note(&self, _: Note, _: &str) {}
        fn end(&self) {}
        fn stopped(&self) -> bool {
            true
        }
    }

    #[test]
    fn a_wish_to_stop_is_an_error_of_its_own_kind() {
        assert_eq!(Stopped.check().unwrap_err().kind(), Kind::Interrupted);
        assert!(Silent.check().is_ok());
    }
}
