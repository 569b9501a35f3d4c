//! The verbs, each one function that reads from top to bottom; joins plan, store and remote.
//!
//! May use: tiers 0 to 4. Must never print, read the clock or the environment.

pub mod read;
pub mod scan;
pub mod write;
