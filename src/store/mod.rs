//! Keeps records on this machine: packs, indexes, references, transactions, gc.
//!
//! May use: tiers 0 to 2. Knows no tensors, and never looks inside a record's payload.

pub mod disk;
pub mod disk_real;
#[doc(hidden)]
pub mod disk_sim;
pub mod host;
pub mod mapped;
