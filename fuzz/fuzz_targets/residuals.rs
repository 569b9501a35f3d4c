//! Bytes are refused or decode to as many bytes as were asked for; nothing panics.
#![no_main]

#[path = "../../tests/entries/mod.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    entries::residual(bytes);
});
