//! Bytes are refused or encode to themselves again; nothing panics.
#![no_main]

#[path = "../../store-format/tests/entries/mod.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entries::some(&["format"], bytes));
