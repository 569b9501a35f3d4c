//! Any bytes are a file of some layout, whose regions and spans fill it.
#![no_main]

use sparse_store::layout;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let parsed = layout::parse("fuzz", bytes).expect("a slice can always be read");
    assert!(parsed.tiles(bytes.len() as u64));
    let pieces: Vec<_> = layout::cut(&parsed, bytes)
        .map(|piece| piece.expect("a slice can always be read"))
        .collect();
    let total: u64 = pieces.iter().map(|piece| piece.span.bytes).sum();
    assert_eq!(total, bytes.len() as u64);
});
