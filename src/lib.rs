//! A git-like, content-addressed store for machine-learning models and datasets.
//!
//! Modules stand on tiers and use only tiers below their own (`tests/architecture.rs`).

pub mod bytes;
pub mod cache;
pub mod cli;
pub mod codec;
pub mod disk;
pub mod error;
pub mod flow;
pub mod layout;
pub mod ops;
pub mod par;
pub mod plan;
pub mod predict;
pub mod progress;
pub mod remote;
pub mod store;
mod vectors;
