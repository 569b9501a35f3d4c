//! Borders of tensors, groups and raw bytes.
//!
//! May use: what its parent may. Tests only.

use std::sync::atomic::Ordering;

use proptest::prelude::*;
use store_format::layout::Layout;

use super::*;
use crate::layout::testing::{Broken, Huge, lawful, noise, spans};
use crate::layout::{parse, tile};

/// A file of tensors one after the other, behind a header of 8 bytes.
fn tensors(list: &[(DType, &[u64])]) -> (Parsed, u64) {
    let mut end = 8;
    let table = list
        .iter()
        .enumerate()
        .map(|(i, (dtype, shape))| {
            let bytes = dtype.bytes_of(shape.iter().product()).expect("fits");
            let start = end;
            end += bytes;
            Tensor {
                name: i.to_string(),
                dtype: *dtype,
                shape: shape.to_vec(),
                start,
                bytes,
            }
        })
        .collect();
    match tile::tile(Layout::Safetensors, 8, table, Vec::new(), end) {
        Ok(parsed) => (parsed, end),
        Err(_) => panic!("tiles"),
    }
}

/// Bytes of the spans of one tensor.
fn lengths(dtype: DType, shape: &[u64]) -> Vec<u64> {
    let (parsed, _) = tensors(&[(dtype, shape)]);
    stretches(&parsed)
        .skip(1)
        .map(|stretch| match stretch {
            Stretch::Span(span) => span.bytes,
            Stretch::Raw { .. } => panic!("a tensor is never raw"),
        })
        .collect()
}

#[test]
fn tensors_are_cut_at_whole_rows() {
    // 349 rows of 3,000 elements are the most that fit in 2^20.
    assert_eq!(
        lengths(DType::Bf16, &[700, 3000]),
        [2_094_000, 2_094_000, 12_000]
    );
    assert_eq!(
        lengths(DType::F32, &[700, 3000]),
        [4_188_000, 4_188_000, 24_000]
    );
    assert_eq!(lengths(DType::U8, &[1 << 10, 1 << 10]), [1 << 20]);
}

#[test]
fn a_long_row_is_cut_inside() {
    assert_eq!(
        lengths(DType::U8, &[2, (1 << 20) + 8]),
        [1 << 20, 1 << 20, 16]
    );
    assert_eq!(lengths(DType::U8, &[(2 << 20) + 1]), [1 << 20, 1 << 20, 1]);
}

#[test]
fn blocks_are_never_cut() {
    // 4,096 rows of 256 elements are 2^20, so the borders are those of the plain tensor.
    assert_eq!(lengths(DType::Q4K, &[5000, 256]), [4096 * 144, 904 * 144]);
    assert_eq!(
        lengths(DType::Q8_0, &[700, 3008]),
        [348 * 94 * 34, 348 * 94 * 34, 4 * 94 * 34]
    );
    // Rows of three half bytes: two rows together end on a byte.
    assert_eq!(lengths(DType::F4, &[400_000, 3]), [524_286, 75_714]);
    assert_eq!(lengths(DType::F6E2M3, &[1 << 20, 2]), [786_432, 786_432]);
}

#[test]
fn casts_and_quantised_copies_are_cut_at_the_same_elements() {
    for shape in [
        &[5000_u64, 4096][..],
        &[3, 700, 1024],
        &[1 << 22],
        &[49_152, 576],
    ] {
        let firsts = |dtype| {
            let (parsed, _) = tensors(&[(dtype, shape)]);
            stretches(&parsed)
                .filter_map(|stretch| match stretch {
                    Stretch::Span(Span {
                        view: View::Elements { first_element, .. },
                        ..
                    }) => Some(first_element),
                    _ => None,
                })
                .collect::<Vec<_>>()
        };
        for dtype in [DType::Bf16, DType::F8E4M3, DType::Q8_0, DType::Q4_0] {
            assert_eq!(firsts(dtype), firsts(DType::F32), "{shape:?}");
        }
    }
}

#[test]
fn small_neighbours_of_one_type_share_a_chunk() {
    let small: &[u64] = &[1000];
    let large: &[u64] = &[1 << 16];
    let (f32, f16) = (DType::F32, DType::F16);
    let (parsed, _) = tensors(&[
        (f32, small),
        (f32, &[0]),
        (f32, small),
        (f16, small),
        (f16, large),
        (f16, small),
        (f16, small),
    ]);
    let views: Vec<_> = stretches(&parsed)
        .filter_map(|stretch| match stretch {
            Stretch::Span(span) => Some(span.view),
            Stretch::Raw { .. } => None,
        })
        .collect();
    let group = |first_tensor, count| View::Group {
        first_tensor,
        count,
    };
    let whole = |tensor| View::Elements {
        tensor,
        first_element: 0,
    };
    let expected = [View::Bytes, group(0, 3), whole(3), whole(4), group(5, 2)];
    assert_eq!(views, expected);
}

#[test]
fn a_group_ends_at_the_length_of_a_chunk() {
    let list = vec![(DType::U8, &[50_000_u64][..]); 50];
    let (parsed, _) = tensors(&list);
    let counts: Vec<_> = stretches(&parsed)
        .filter_map(|stretch| match stretch {
            Stretch::Span(Span {
                view: View::Group { count, .. },
                ..
            }) => Some(count),
            _ => None,
        })
        .collect();
    assert_eq!(counts, [20, 20, 10]);
}

#[test]
fn raw_bytes_are_cut_by_content() {
    let bytes = noise(3 << 20, 7);
    let parsed = lawful("x.dat", &bytes);
    let pieces = spans(&parsed, &bytes);
    assert!((20..100).contains(&pieces.len()), "{}", pieces.len());
    for piece in &pieces[..pieces.len() - 1] {
        let bytes = piece.span.bytes as usize;
        assert!((CUT_BYTES_MIN..=CUT_BYTES_MAX).contains(&bytes));
    }
    // Bytes put in near the front leave the later pieces as they were.
    let mut moved = bytes.clone();
    moved.splice(1000..1000, [1, 2, 3]);
    let again = spans(&lawful("x.dat", &moved), &moved);
    let known = |piece: &&Piece| pieces.iter().any(|old| old.bytes == piece.bytes);
    assert!(again.iter().filter(known).count() >= pieces.len() - 2);
}

#[test]
fn the_cutter_finds_the_cuts_of_the_stream() {
    let bytes = noise(1 << 20, 3);
    let cutter = Cutter::new();
    assert_eq!(cutter.next_cut(&bytes[..CUT_BYTES_MAX - 1], false), None);
    assert_eq!(cutter.next_cut(&[], true), None);
    let mut at = 0;
    for piece in spans(&lawful("x", &bytes), &bytes) {
        assert_eq!(piece.span.start, at as u64);
        at += cutter.next_cut(&bytes[at..], true).expect("a cut");
    }
    assert_eq!(at, bytes.len());
}

/// The lengths that other writers must come to, and these by the rule as the format's page has it.
#[test]
fn the_cuts_are_those_of_the_vectors() {
    let vectors = include_str!("../../../store-format/testdata/vectors/cuts.txt");
    for line in vectors.lines() {
        let mut numbers = line
            .split(' ')
            .map(|word| word.parse::<usize>().expect("a number"));
        let mut data = vec![0; numbers.next().expect("a length")];
        let text = b"cut by content";
        let mut output = blake3::Hasher::new().update(text).finalize_xof();
        output.fill(&mut data);
        let (mut rest, mut found) = (&data[..], Vec::new());
        while let Some(bytes) = Cutter::new().next_cut(rest, true) {
            found.push(bytes);
            rest = &rest[bytes..];
        }
        assert_eq!(found, numbers.collect::<Vec<_>>());
    }
}

#[test]
fn a_raw_file_is_read_once_and_little_at_a_time() {
    let bytes = 40 << 20;
    let file = Huge::new(vec![0xff], bytes);
    let parsed = parse("x.bin", &file).expect("readable");
    let window = file.read.swap(0, Ordering::Relaxed);
    assert!(window <= 64 << 10);
    let mut pieces = 0;
    for piece in cut(&parsed, &file) {
        let read = file.read.load(Ordering::Relaxed);
        assert!(read <= piece.expect("readable").span.start + (2 << 20));
        pieces += 1;
    }
    // Zeros have no border: every piece is of the greatest length.
    assert_eq!(pieces, 160);
    assert_eq!(file.read.load(Ordering::Relaxed), bytes);
}

#[test]
fn a_failure_ends_the_pieces() {
    let parsed = Parsed::raw(Layout::Opaque, 1 << 20, None);
    let pieces: Vec<_> = cut(&parsed, &Broken(1 << 20)).collect();
    assert_eq!(pieces.len(), 1);
    assert!(pieces[0].is_err());
}

proptest! {
    #[test]
    fn spans_tile_any_list_of_tensors(
        list in prop::collection::vec(
            (0..DType::ALL.len(), prop::collection::vec(0_u64..40, 0..3), 0_u64..5000), 0..30),
    ) {
        let shapes: Vec<_> = list.into_iter().map(|(dtype, mut shape, last)| {
            let dtype = DType::ALL[dtype];
            shape.push(last * dtype.block().0);
            (dtype, shape)
        }).collect();
        let list: Vec<_> = shapes.iter().map(|(dtype, shape)| (*dtype, shape.as_slice())).collect();
        let (parsed, end) = tensors(&list);
        let mut position = 0;
        for stretch in stretches(&parsed) {
            let Stretch::Span(span) = stretch else { panic!("nothing is raw") };
            prop_assert_eq!(span.start, position);
            prop_assert!(span.bytes > 0);
            position += span.bytes;
        }
        prop_assert_eq!(position, end);
    }

    #[test]
    fn any_bytes_are_tiled(bytes in prop::collection::vec(any::<u8>(), 0..600), name in "[a-z]{0,3}(\\.safetensors|\\.gguf|\\.pt|)") {
        lawful(&name, &bytes);
    }
}
