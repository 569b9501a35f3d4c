//! The verbs, each one function that reads from top to bottom; joins plan, store and remote.
//!
//! May use: tiers 0 to 4. Must never print, read the clock or the environment.

pub mod attribute;
pub mod checkout;
pub mod closure;
pub mod code;
pub mod commit;
pub mod output;
pub mod partial;
pub mod read;
pub mod revision;
pub mod scan;
pub mod survey;
pub mod tree;
pub mod worktree;
pub mod write;
