//! The verbs, each one function that reads from top to bottom; joins plan, store and remote.
//!
//! May use: tiers 0 to 4. Must never print, read the clock or the environment.

pub mod attribute;
pub mod checkout;
pub mod closure;
pub mod collect;
pub mod commit;
pub mod fsck;
mod fsck_graph;
pub mod output;
pub mod partial;
pub mod read;
pub mod repack;
pub mod repair;
pub mod revision;
pub mod scan;
pub mod stats;
pub mod tree;
pub mod worktree;
pub mod write;
