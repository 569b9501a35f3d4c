//! What the store asks of the machine besides its disk: time, chance, its own name, a pause.
//!
//! May use: `disk`. The only place that reads the clock; order in the store comes
//! from numbered tables, never from time.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::disk::Fill;

/// The machine, as the store sees it. Tests hand in their own.
#[derive(Clone)]
pub struct Host {
    /// Milliseconds since 1970; for leases and for what people read.
    pub now_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Fills a buffer with bytes that nobody can guess.
    pub fill: Fill,
    /// Waits.
    pub pause: Arc<dyn Fn(Duration) + Send + Sync>,
    /// Whether a process of this machine runs.
    pub runs: Arc<dyn Fn(u32) -> bool + Send + Sync>,
    /// The name of the machine.
    pub name: String,
    /// The number of this process.
    pub process: u32,
}

impl Host {
    /// The real machine.
    #[must_use]
    pub fn system() -> Self {
        let uname = rustix::system::uname();
        Self {
            now_ms: Arc::new(|| {
                let since = SystemTime::now().duration_since(UNIX_EPOCH);
                since.map_or(0, |time| {
                    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
                })
            }),
            fill: Arc::new(|buffer| getrandom::fill(buffer).map_err(io::Error::other)),
            pause: Arc::new(std::thread::sleep),
            runs: Arc::new(|process| {
                i32::try_from(process)
                    .ok()
                    .and_then(rustix::process::Pid::from_raw)
                    // A process of somebody else answers "not permitted": it runs.
                    .is_some_and(|pid| {
                        rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH)
                    })
            }),
            name: uname.nodename().to_string_lossy().into_owned(),
            process: std::process::id(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_runs_and_an_impossible_one_does_not() {
        let host = Host::system();
        assert!((host.runs)(host.process));
        assert!(!(host.runs)(u32::MAX));
        assert!(!(host.runs)(0));
    }

    #[test]
    fn chance_differs_between_calls() {
        let host = Host::system();
        let (mut one, mut two) = ([0; 16], [0; 16]);
        (host.fill)(&mut one).unwrap();
        (host.fill)(&mut two).unwrap();
        assert_ne!(one, two);
    }
}
