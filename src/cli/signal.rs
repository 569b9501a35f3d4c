//! Ctrl-C and SIGTERM: the first is a wish to stop in good order, the second stops at once.
//!
//! May use: `error`. The only door of signal-hook. A closed pipe needs no signal: Rust ignores
//! SIGPIPE, and `out` tells the failed write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{Error, Kind, Result};

/// Which signal came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// From a supervisor.
    Terminate,
}

impl Signal {
    /// The exit code that shells expect: 128 and the signal's number.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// The signals that came so far.
#[derive(Debug)]
pub struct Signals {
    interrupt: Arc<AtomicBool>,
    terminate: Arc<AtomicBool>,
}

impl Signals {
    /// Nothing came and nothing will.
    #[must_use]
    pub fn none() -> Self {
        Self {
            interrupt: Arc::default(),
            terminate: Arc::default(),
        }
    }

    /// Listens from now on.
    ///
    /// # Errors
    /// If the system refuses to.
    pub fn listen() -> Result<Self> {
        let signals = Self::none();
        for (signal, code, seen) in [
            (SIGINT, 130, &signals.interrupt),
            (SIGTERM, 143, &signals.terminate),
        ] {
            // In this order: the second of a kind finds the flag of the first.
            flag::register_conditional_shutdown(signal, code, Arc::clone(seen))
                .and_then(|_| flag::register(signal, Arc::clone(seen)))
                .map_err(|source| {
                    Error::new(Kind::Io, "cannot listen to signals").because(source)
                })?;
        }
        Ok(signals)
    }

    /// The signal that came, if one did.
    #[must_use]
    pub fn received(&self) -> Option<Signal> {
        if self.interrupt.load(Ordering::Relaxed) {
            Some(Signal::Interrupt)
        } else if self.terminate.load(Ordering::Relaxed) {
            Some(Signal::Terminate)
        } else {
            None
        }
    }

    #[cfg(test)]
    pub(super) fn pretend_interrupt(&self) {
        self.interrupt.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_the_codes_of_shells() {
        let signals = Signals::none();
        assert_eq!(signals.received(), None);
        signals.terminate.store(true, Ordering::Relaxed);
        assert_eq!(signals.received().map(Signal::exit_code), Some(143));
        signals.pretend_interrupt();
        assert_eq!(signals.received().map(Signal::exit_code), Some(130));
    }

    #[test]
    fn the_first_signal_only_raises_a_flag() {
        let signals = Signals::listen().unwrap();
        signal_hook::low_level::raise(SIGTERM).unwrap();
        assert_eq!(signals.received(), Some(Signal::Terminate));
    }
}
