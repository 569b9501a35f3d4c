//! Progress on standard error: one line for the whole work.
//!
//! May use: `progress`. The only door of indicatif. On a terminal the line is redrawn; elsewhere a
//! plain line comes every half minute; hidden it says nothing but warnings and hints.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::progress::{Note, Progress};

use super::signal::Signals;
use super::{errors, text};

/// How often a plain line comes.
const PLAIN_EVERY: Duration = Duration::from_secs(30);

/// The line of progress.
#[derive(Debug)]
pub struct Bar {
    face: Face,
    /// Hints are for people at work, not for scripts.
    hints: bool,
    stretch: Mutex<Option<Stretch>>,
    steps: Mutex<Steps>,
    signals: Arc<Signals>,
}

#[derive(Debug)]
enum Face {
    Hidden,
    Plain,
    Terminal(ProgressBar),
}

/// A stretch of work, and how far it is.
#[derive(Clone, Debug)]
struct Stretch {
    what: String,
    logical_total: Option<u64>,
    logical: u64,
    stored: u64,
    begun: Instant,
    said: Instant,
}

impl Bar {
    /// Shows progress unless `hidden`; `hints` if somebody reads them.
    #[must_use]
    pub fn new(hidden: bool, hints: bool, signals: Arc<Signals>) -> Self {
        let face = if hidden {
            Face::Hidden
        } else if std::io::stderr().is_terminal() {
            let target = ProgressDrawTarget::stderr_with_hz(10);
            let bar = ProgressBar::with_draw_target(None, target);
            if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
                bar.set_style(style);
            }
            Face::Terminal(bar)
        } else {
            Face::Plain
        };
        Self {
            face,
            hints,
            stretch: Mutex::new(None),
            steps: Mutex::default(),
            signals,
        }
    }

    /// Where the time went since the first step: names and seconds, in the order of their first
    /// time. The last step ends now.
    #[must_use]
    pub fn steps(&self) -> Vec<(&'static str, f64)> {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.go_on(None, Instant::now());
        let seconds = |(what, time): &(&'static str, Duration)| (*what, time.as_secs_f64());
        steps.times.iter().map(seconds).collect()
    }

    fn stretch(&self) -> std::sync::MutexGuard<'_, Option<Stretch>> {
        // Numbers for people: whatever a panicking thread left is good enough.
        self.stretch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Bar {
    fn begin(&self, what: &str, logical_total: Option<u64>) {
        let now = Instant::now();
        *self.stretch() = Some(Stretch {
            what: what.into(),
            logical_total,
            logical: 0,
            stored: 0,
            begun: now,
            said: now,
        });
        if let Face::Terminal(bar) = &self.face {
            bar.reset();
            bar.set_message(what.to_string());
        }
    }

    fn advance(&self, logical: u64, stored: u64) {
        let mut guard = self.stretch();
        let Some(stretch) = guard.as_mut() else {
            return;
        };
        stretch.logical = stretch.logical.saturating_add(logical);
        stretch.stored = stretch.stored.saturating_add(stored);
        let now = Instant::now();
        match &self.face {
            Face::Hidden => {}
            Face::Terminal(bar) => bar.set_message(stretch.line(now)),
            Face::Plain => {
                if stretch.is_due(now) {
                    eprintln!("{}", stretch.line(now));
                }
            }
        }
    }

    fn note(&self, note: Note, text: &str) {
        let heading = match note {
            Note::Hint if !self.hints => return,
            Note::Hint => "hint",
            Note::Warning => "warning",
        };
        match &self.face {
            Face::Terminal(bar) => bar.suspend(|| errors::print_note(heading, text)),
            Face::Hidden | Face::Plain => errors::print_note(heading, text),
        }
    }

    fn end(&self) {
        *self.stretch() = None;
        if let Face::Terminal(bar) = &self.face {
            // Erases the line: the result says what was done.
            bar.finish_and_clear();
        }
    }

    fn step(&self, what: &'static str) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.go_on(Some(what), Instant::now());
    }

    fn stopped(&self) -> bool {
        self.signals.received().is_some()
    }
}

/// How long each step took.
#[derive(Debug, Default)]
struct Steps {
    now: Option<(&'static str, Instant)>,
    times: Vec<(&'static str, Duration)>,
}

impl Steps {
    /// Ends the step that is under way, and begins another.
    fn go_on(&mut self, what: Option<&'static str>, at: Instant) {
        if let Some((what, begun)) = self.now.take() {
            let took = at.saturating_duration_since(begun);
            match self.times.iter_mut().find(|(name, _)| *name == what) {
                Some((_, time)) => *time += took,
                None => self.times.push((what, took)),
            }
        }
        self.now = what.map(|what| (what, at));
    }
}

impl Stretch {
    /// Whether it is time for a plain line; if so the next one is due later.
    fn is_due(&mut self, now: Instant) -> bool {
        let due = now.saturating_duration_since(self.said) >= PLAIN_EVERY;
        if due {
            self.said = now;
        }
        due
    }

    /// `writing: 4.2 GB of 13.5 GB → 130 MB, 32.3×, 812 MB/s, 11 s left`
    fn line(&self, now: Instant) -> String {
        let mut line = format!("{}: {}", self.what, text::size(self.logical));
        if let Some(total) = self.logical_total {
            line.push_str(&format!(" of {}", text::size(total)));
        }
        if self.stored > 0 {
            line.push_str(&format!(" → {}", text::size(self.stored)));
            if let Some(ratio) = text::ratio(self.logical, self.stored) {
                line.push_str(&format!(", {ratio}"));
            }
        }
        let seconds = now.saturating_duration_since(self.begun).as_secs_f64();
        // In the first second a rate says little.
        if seconds >= 1.0 && self.logical > 0 {
            let rate = self.logical as f64 / seconds;
            line.push_str(&format!(", {}/s", text::size(rate as u64)));
            if let Some(total) = self.logical_total {
                let left = total.saturating_sub(self.logical) as f64 / rate;
                line.push_str(&format!(", {} left", text::duration(left.ceil() as u64)));
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(logical: u64, stored: u64, logical_total: Option<u64>) -> Stretch {
        let now = Instant::now();
        Stretch {
            what: "writing".into(),
            logical_total,
            logical,
            stored,
            begun: now,
            said: now,
        }
    }

    #[test]
    fn the_line_tells_plain_and_stored_bytes_rate_and_time_left() {
        let stretch = stretch(4_000_000_000, 100_000_000, Some(10_000_000_000));
        assert_eq!(
            stretch.line(stretch.begun + Duration::from_secs(4)),
            "writing: 4.0 GB of 10.0 GB → 100 MB, 40.0×, 1.0 GB/s, 6 s left"
        );
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        let begun = stretch(0, 0, None);
        assert_eq!(begun.line(begun.begun), "writing: 0 B");
        let read = stretch(2_000_000, 0, None);
        assert_eq!(
            read.line(read.begun + Duration::from_secs(2)),
            "writing: 2.0 MB, 1.0 MB/s"
        );
    }

    #[test]
    fn a_plain_line_comes_each_half_minute() {
        let mut stretch = stretch(1, 1, None);
        let at = |seconds| stretch.begun + Duration::from_secs(seconds);
        let times = [29, 30, 31, 59, 60].map(at);
        let due = times.map(|time| stretch.is_due(time));
        assert_eq!(due, [false, true, false, false, true]);
    }

    #[test]
    fn steps_that_come_again_are_summed() {
        let mut steps = Steps::default();
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        steps.go_on(Some("choosing"), at(0));
        steps.go_on(Some("coding"), at(1));
        steps.go_on(Some("choosing"), at(3));
        steps.go_on(None, at(7));
        steps.go_on(None, at(9));
        let times = steps.times.iter();
        let times: Vec<_> = times.map(|(what, time)| (*what, time.as_secs())).collect();
        assert_eq!(times, [("choosing", 5), ("coding", 2)]);
    }

    #[test]
    fn a_signal_is_a_wish_to_stop() {
        let signals = Arc::new(Signals::none());
        let bar = Bar::new(true, false, Arc::clone(&signals));
        bar.begin("writing", None);
        bar.advance(1, 1);
        assert!(!bar.stopped());
        signals.pretend_interrupt();
        assert!(bar.stopped());
        bar.end();
    }
}
