//! What the store promises, shown on the double that loses power, and on a real directory.
//!
//! May use: everything of the store.

mod basics;
mod collect;
mod crash;
mod damage;
mod merging;
mod model;
mod repair;
mod support;
mod turns;
