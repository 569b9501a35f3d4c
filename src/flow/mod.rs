//! The verbs, each one function that reads from top to bottom; joins plan, store and remote.
//!
//! May use: tiers 0 to 4. Must never print, read the clock or the environment.

pub mod attribute;
pub mod checkout;
pub mod clone;
pub mod closure;
pub mod commit;
pub mod fetch;
pub mod history;
pub mod output;
pub mod partial;
pub mod pull;
pub mod push;
pub mod read;
pub mod revision;
pub mod scan;
pub mod transfer;
pub mod tree;
pub mod unite;
pub mod worktree;
pub mod write;
