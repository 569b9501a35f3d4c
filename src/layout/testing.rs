//! What the tests of all layouts share: the laws, and sources that misbehave.
//!
//! May use: `bytes`, `error`, `store_format`. Tests only.

use std::sync::atomic::{AtomicU64, Ordering};

use store_format::layout::Layout;
use store_format::limits::{CHUNK_BYTES_MAX, CHUNK_ELEMENTS};

use super::{Parsed, Piece, Span, View, cut, parse};
use crate::bytes::ReadAt;
use crate::error::{Error, Result};

/// Parses and cuts, and asserts every law of this module on the way.
pub(crate) fn lawful(name: &str, bytes: &[u8]) -> Parsed {
    let parsed = parse(name, bytes).expect("a slice can always be read");
    assert!(parsed.tiles(bytes.len() as u64), "{:?}", parsed.regions);
    let ordered = |w: &[store_format::layout::Tensor]| w[0].start <= w[1].start;
    assert!(parsed.tensors.windows(2).all(ordered));
    for tensor in &parsed.tensors {
        let elements = tensor
            .shape
            .iter()
            .try_fold(1_u64, |n, &d| n.checked_mul(d));
        assert_eq!(
            elements.and_then(|n| tensor.dtype.bytes_of(n)),
            Some(tensor.bytes)
        );
    }
    let mut position = 0;
    for Piece { span, bytes: read } in spans(&parsed, bytes) {
        assert_eq!(span.start, position);
        assert!(span.bytes > 0 && span.bytes <= CHUNK_BYTES_MAX);
        position += span.bytes;
        if let Some(read) = read {
            let range = span.start as usize..position as usize;
            assert_eq!(&read, &bytes[range]);
        }
        lawful_view(&parsed, &span);
    }
    assert_eq!(position, bytes.len() as u64);
    parsed
}

fn lawful_view(parsed: &Parsed, span: &Span) {
    match span.view {
        View::Bytes => {}
        View::Elements {
            tensor,
            first_element,
        } => {
            let tensor = &parsed.tensors[tensor];
            let before = tensor.dtype.bytes_of(first_element).expect("whole blocks");
            assert_eq!(tensor.start + before, span.start);
            assert!(span.start + span.bytes <= tensor.start + tensor.bytes);
            let (elements, bytes) = tensor.dtype.block();
            assert_eq!(span.bytes % bytes, 0);
            assert!(span.bytes / bytes * elements <= CHUNK_ELEMENTS);
        }
        View::Group {
            first_tensor,
            count,
        } => {
            let group = &parsed.tensors[first_tensor..first_tensor + count];
            assert_eq!(group[0].start, span.start);
            assert_eq!(group.iter().map(|t| t.bytes).sum::<u64>(), span.bytes);
            let held = || group.iter().filter(|t| t.bytes > 0);
            assert!(held().count() >= 2);
            assert!(held().all(|t| t.dtype == group[0].dtype));
        }
    }
}

/// All pieces of a file.
pub(crate) fn spans(parsed: &Parsed, bytes: &[u8]) -> Vec<Piece> {
    cut(parsed, bytes)
        .map(|piece| piece.expect("a slice can always be read"))
        .collect()
}

/// Asserts that a file is opaque, for a reason that contains `note`.
pub(crate) fn refused(name: &str, bytes: &[u8], note: &str) {
    let parsed = lawful(name, bytes);
    assert_eq!(parsed.layout, Layout::Opaque, "{note}: {parsed:?}");
    let found = parsed.note.expect("a note");
    assert!(found.contains(note), "'{found}' does not say '{note}'");
}

/// A file of any length that holds zeros after its first bytes, and counts what is read.
pub(crate) struct Huge {
    pub(crate) head: Vec<u8>,
    pub(crate) bytes: u64,
    pub(crate) read: AtomicU64,
}

impl Huge {
    pub(crate) fn new(head: Vec<u8>, bytes: u64) -> Self {
        let read = AtomicU64::new(0);
        Self { head, bytes, read }
    }
}

impl ReadAt for Huge {
    fn len(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, start: u64, buffer: &mut [u8]) -> Result<()> {
        let end = start.checked_add(buffer.len() as u64);
        assert!(end.is_some_and(|end| end <= self.bytes), "within the file");
        self.read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        buffer.fill(0);
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        if let Some(part) = self.head.get(start..) {
            let bytes = part.len().min(buffer.len());
            buffer[..bytes].copy_from_slice(&part[..bytes]);
        }
        Ok(())
    }
}

/// A source that says it has bytes and then fails.
pub(crate) struct Broken(pub(crate) u64);

impl ReadAt for Broken {
    fn len(&self) -> u64 {
        self.0
    }

    fn read_at(&self, _: u64, _: &mut [u8]) -> Result<()> {
        Err(Error::corrupt("the source is broken"))
    }
}

/// Bytes without structure, the same each time.
pub(crate) fn noise(bytes: usize, mut seed: u64) -> Vec<u8> {
    (0..bytes)
        .map(|_| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 32) as u8
        })
        .collect()
}

/// A zip file whose entries stand in it as they are, each at a multiple of 64 bytes.
pub(crate) fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut table) = (Vec::new(), Vec::new());
    for (name, bytes) in entries {
        let header = file.len() as u32;
        let length = bytes.len() as u32;
        let fixed = file.len() + 30 + name.len();
        let padding = fixed.next_multiple_of(64) - fixed;
        let numbers = [0, 0, length, length].map(u32::to_le_bytes).concat();
        let lengths = [name.len() as u16, padding as u16].map(u16::to_le_bytes);
        file.extend(b"PK\x03\x04\0\0\0\0\0\0");
        file.extend(&numbers);
        file.extend(lengths.concat());
        file.extend(name.as_bytes());
        file.resize(file.len() + padding, 0);
        file.extend(*bytes);
        table.extend(b"PK\x01\x02\0\0\0\0\0\0\0\0");
        table.extend(&numbers);
        table.extend(lengths[0]);
        table.extend([0; 12]);
        table.extend(header.to_le_bytes());
        table.extend(name.as_bytes());
    }
    let count = (entries.len() as u16).to_le_bytes();
    let start = (file.len() as u32).to_le_bytes();
    let length = (table.len() as u32).to_le_bytes();
    file.extend(table);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend([count, count].concat());
    file.extend([length, start].concat());
    file.extend([0, 0]);
    file
}
