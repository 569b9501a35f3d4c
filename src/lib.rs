//! A git-like, content-addressed store for machine-learning models and datasets.
//!
//! Modules stand on tiers and use only tiers below their own (`tests/architecture.rs`).

pub mod bytes;
pub mod error;
pub mod predict;
