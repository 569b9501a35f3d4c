//! Decides; touches no disk. What it is given are values, what it answers are values.
//!
//! May use: `error`, `layout`, `codec`, `predict`, `store_format`. Not: `store`, `remote`, `flow`.

pub mod pair;
pub mod trial;
