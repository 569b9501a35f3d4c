//! Operations on models: each makes a version from others, or puts one together.
//!
//! May use: tiers 0 to 5. Must never print, read the clock or the environment.

pub mod adapter;
pub mod merge;
pub mod spectrum;
pub mod svd;
