//! The verbs, each one function that reads from top to bottom; joins plan, store and remote.
//!
//! May use: tiers 0 to 4. Must never print, read the clock or the environment.

pub mod ancestry;
pub mod approach;
pub mod attribute;
pub mod checkout;
pub mod choose;
pub mod clone;
pub mod closure;
pub mod code;
pub mod collect;
pub mod commit;
pub mod diff;
pub mod fetch;
pub mod fsck;
mod fsck_graph;
pub mod hint;
pub mod history;
pub mod ignored;
mod links;
pub mod list;
pub mod made;
pub mod naming;
pub mod notes;
pub mod output;
pub mod partial;
pub mod peft;
pub mod predicted;
pub mod pull;
pub mod push;
pub mod read;
pub mod relatives;
pub mod repack;
pub mod repair;
pub mod revision;
pub mod scan;
pub mod schema;
pub mod stats;
pub mod status;
pub mod survey;
pub mod transfer;
pub mod tree;
pub mod undo;
pub mod unite;
pub mod viewed;
pub mod worktree;
pub mod write;
