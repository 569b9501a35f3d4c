//! Every byte that a `sparse` store keeps at rest.
//!
//! This crate turns untrusted bytes into typed values and back; it performs no I/O, holds no
//! `unsafe` code and never panics on input. `SPEC.md` beside it is normative.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod dtype;
pub mod error;
pub mod layout;
pub mod limits;

pub use error::FormatError;
