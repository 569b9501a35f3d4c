//! Every byte that a `sparse` store keeps at rest.
//!
//! This crate turns untrusted bytes into typed values and back; it performs no I/O, holds no
//! `unsafe` code and never panics on input. `SPEC.md` beside it is normative.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod cbor;
mod closed;
pub mod commit;
pub mod cursor;
pub mod dtype;
pub mod error;
pub mod ids;
pub mod layout;
pub mod limits;
pub mod manifest;
pub mod object;
pub mod pack;
pub mod record;
pub mod reference;
pub mod store_file;
pub mod tree;
pub mod verified;

pub use error::FormatError;
