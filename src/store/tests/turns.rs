//! Threads that take turns: one seed gives one interleaving of their calls.
//!
//! May use: the double of the disk.

use std::sync::{Arc, Condvar, Mutex};

use crate::disk::sim::{Chance, Gate};

/// Lets one of several threads run at a time, chosen anew at each call. Now and then one stalls
/// for long, as a slow network or a sleeping machine makes it.
pub struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    chance: Chance,
    current: usize,
    step: u64,
    /// Until which step each thread stalls; nothing once it has ended.
    threads: Vec<Option<u64>>,
    stall_max: u64,
}

impl Turns {
    pub fn new(seed: u64, threads: usize, stall_max: u64) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                chance: Chance(seed),
                current: 0,
                step: 0,
                threads: vec![Some(0); threads],
                stall_max,
            }),
            changed: Condvar::new(),
        })
    }

    /// Waits for the first turn.
    pub fn start(&self, thread: usize) {
        let state = self.state.lock().unwrap();
        let _state = self
            .changed
            .wait_while(state, |s| s.current != thread)
            .unwrap();
    }

    /// Hands the turn on, and waits for the next.
    pub fn pass(&self, thread: usize) {
        let mut state = self.state.lock().unwrap();
        assert_eq!(state.current, thread);
        if state.chance.of(40) == 0 {
            let until = state.step + state.chance.clone().of(state.stall_max);
            state.threads[thread] = Some(until);
        }
        state.choose();
        self.changed.notify_all();
        let _state = self
            .changed
            .wait_while(state, |s| s.current != thread)
            .unwrap();
    }

    /// Leaves for good.
    pub fn end(&self, thread: usize) {
        let mut state = self.state.lock().unwrap();
        state.threads[thread] = None;
        state.choose();
        self.changed.notify_all();
    }

    pub fn gate(self: &Arc<Self>, thread: usize) -> Gate {
        let turns = Arc::clone(self);
        Arc::new(move |_| turns.pass(thread))
    }
}

impl State {
    fn choose(&mut self) {
        self.step += 1;
        let step = self.step;
        let ready: Vec<_> = (0..self.threads.len())
            .filter(|k| self.threads[*k].is_some_and(|until| until <= step))
            .collect();
        let count = ready.len() as u64;
        if count > 0 {
            self.current = ready[usize::try_from(self.chance.of(count)).unwrap()];
        } else {
            let alive = (0..self.threads.len()).filter(|k| self.threads[*k].is_some());
            self.current = alive.min_by_key(|k| self.threads[*k]).unwrap_or(0);
        }
    }
}
