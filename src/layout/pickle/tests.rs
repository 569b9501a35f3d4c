//! Pickles as PyTorch writes them, and pickles that nobody should execute.
//!
//! May use: what its parent may. Tests only.

use proptest::prelude::*;

use super::*;

/// A pickle in the making: each part is a run of opcodes.
fn text(text: &str) -> Vec<u8> {
    [
        b"X",
        &(text.len() as u32).to_le_bytes()[..],
        text.as_bytes(),
    ]
    .concat()
}

fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

fn int(int: u64) -> Vec<u8> {
    [&[0x8a, 8][..], &int.to_le_bytes()].concat()
}

fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &items.concat()[..], b"t"].concat()
}

fn ints(list: &[u64]) -> Vec<u8> {
    tuple(&list.iter().map(|&i| int(i)).collect::<Vec<_>>())
}

fn call(function: Vec<u8>, arguments: &[Vec<u8>]) -> Vec<u8> {
    [function, tuple(arguments), b"R".to_vec()].concat()
}

fn storage(kind: &str, key: &str, count: u64) -> Vec<u8> {
    let id = [
        text("storage"),
        global("torch", kind),
        text(key),
        text("cpu"),
        int(count),
    ];
    [tuple(&id), b"Q".to_vec()].concat()
}

fn tensor(
    kind: &str,
    key: &str,
    count: u64,
    first: u64,
    shape: &[u64],
    strides: &[u64],
) -> Vec<u8> {
    let hooks = [global("collections", "OrderedDict"), b")R".to_vec()].concat();
    let arguments = [
        storage(kind, key, count),
        int(first),
        ints(shape),
        ints(strides),
        vec![0x89],
        hooks,
    ];
    call(global("torch._utils", "_rebuild_tensor_v2"), &arguments)
}

/// A dictionary of named values.
fn dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items: Vec<_> = items
        .iter()
        .map(|(k, v)| [text(k), v.clone()].concat())
        .collect();
    [b"}(", &items.concat()[..], b"u"].concat()
}

fn whole(value: &[u8]) -> Vec<u8> {
    [&[0x80, 2][..], value, b"."].concat()
}

fn names(pickle: &[u8]) -> Option<Vec<String>> {
    Some(read(pickle)?.into_iter().map(|t| t.name).collect())
}

fn small() -> Vec<u8> {
    tensor("FloatStorage", "0", 6, 0, &[2, 3], &[3, 1])
}

#[test]
fn a_state_dict_gives_names_shapes_and_storages() {
    let pickle = whole(&dict(&[
        ("a.weight", small()),
        ("b", tensor("HalfStorage", "1", 9, 4, &[5], &[1])),
    ]));
    let found = read(&pickle).expect("names");
    assert_eq!(found.len(), 2);
    assert_eq!(
        (found[0].name.as_str(), found[0].dtype),
        ("a.weight", DType::F32)
    );
    assert_eq!(
        (&found[0].shape[..], &found[0].strides[..]),
        (&[2, 3][..], &[3, 1][..])
    );
    assert_eq!(found[1].first, 4);
    assert_eq!(found[1].storage.key(&pickle), Some("1"));
    assert_eq!(found[1].storage.count, 9);
}

#[test]
fn nested_containers_objects_and_parameters_give_paths() {
    let parameter = call(
        global("torch._utils", "_rebuild_parameter"),
        &[small(), vec![0x88]],
    );
    let state = dict(&[
        ("_parameters", dict(&[("weight", parameter)])),
        ("training", vec![0x88]),
    ]);
    let module = [
        global("my.code", "Model"),
        b")\x81".to_vec(),
        state,
        b"b".to_vec(),
    ]
    .concat();
    let list = [b"](".to_vec(), small(), small(), b"e".to_vec()].concat();
    let pickle = whole(&dict(&[
        ("model", module),
        ("list", list),
        ("args", call(global("argparse", "Namespace"), &[])),
    ]));
    assert_eq!(
        names(&pickle).expect("names"),
        ["model.weight", "list.0", "list.1"]
    );
}

#[test]
fn a_type_without_a_storage_of_its_own_is_known() {
    let id = [
        text("storage"),
        global("torch.storage", "UntypedStorage"),
        text("7"),
        text("cpu"),
        int(4),
    ];
    let storage = [tuple(&id), b"Q".to_vec()].concat();
    let arguments = |dtype: &str| {
        [
            storage.clone(),
            int(0),
            ints(&[4]),
            ints(&[1]),
            vec![0x89],
            vec![b'N'],
            global("torch", dtype),
        ]
    };
    let function = || global("torch._utils", "_rebuild_tensor_v3");
    let pickle = whole(&call(function(), &arguments("float8_e4m3fn")));
    // A tensor on its own has no name to be called by.
    assert_eq!(names(&pickle), Some(vec![]));
    let pickle = whole(&dict(&[(
        "x",
        call(function(), &arguments("float8_e4m3fn")),
    )]));
    let found = read(&pickle).expect("names");
    assert_eq!(
        (found[0].dtype, found[0].storage.dtype),
        (DType::F8E4M3, None)
    );
    let pickle = whole(&dict(&[("x", call(function(), &arguments("float99")))]));
    assert_eq!(names(&pickle), Some(vec![]));
}

#[test]
fn what_would_run_code_is_only_a_word() {
    let attack = call(global("os", "system"), &[text("touch /tmp/never")]);
    let pickle = whole(&dict(&[("a", attack.clone()), ("b", small())]));
    assert_eq!(names(&pickle).expect("names"), ["b"]);
    let hidden = [
        global("builtins", "eval"),
        tuple(&[text("1")]),
        b"R)R}b".to_vec(),
    ]
    .concat();
    assert_eq!(names(&whole(&hidden)), Some(vec![]));
    let both = [
        text("os"),
        text("system"),
        vec![0x93],
        tuple(&[attack]),
        b"R".to_vec(),
    ]
    .concat();
    assert_eq!(names(&whole(&both)), Some(vec![]));
}

#[test]
fn hostile_pickles_give_no_names() {
    let cases: Vec<Vec<u8>> = vec![
        vec![],
        vec![b'.'],
        vec![0x80],
        vec![0x80, 2],
        // Opcodes that are not on the list: instance, extension, long text, persistent text.
        b"(ios\nsystem\n.".to_vec(),
        b"(os\no.".to_vec(),
        vec![0x82, 1, b'.'],
        b"I1\n.".to_vec(),
        b"P1\n.".to_vec(),
        vec![0x97, b'.'],
        vec![0xff],
        // The stack or the marks are empty.
        b"t.".to_vec(),
        b"}u.".to_vec(),
        b"R.".to_vec(),
        b"NR.".to_vec(),
        b"b.".to_vec(),
        b"Nb.".to_vec(),
        b"Q.".to_vec(),
        b"0.".to_vec(),
        b"1.".to_vec(),
        b"2.".to_vec(),
        b"a.".to_vec(),
        b"Na.".to_vec(),
        b"NNa.".to_vec(),
        b"s.".to_vec(),
        b"\x85.".to_vec(),
        b"N\x87.".to_vec(),
        b"\x81.".to_vec(),
        b"\x93.".to_vec(),
        b"NN\x93.".to_vec(),
        // A mark above the stack.
        b"N(0t.".to_vec(),
        b"N(00t.".to_vec(),
        // A key without a value.
        b"}(Nu.".to_vec(),
        b"(Nd.".to_vec(),
        // The memo has no such thing, or there is nothing to remember.
        b"h\0.".to_vec(),
        b"j\xff\xff\xff\xff.".to_vec(),
        b"q\0.".to_vec(),
        b"\x94.".to_vec(),
        // Lengths beyond the end.
        b"X\xff\xff\xff\xff.".to_vec(),
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.".to_vec(),
        b"\x8c\xff.".to_vec(),
        b"\x8a\xff.".to_vec(),
        b"B\xff\xff\xff\xff.".to_vec(),
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.".to_vec(),
        b"\x95\0.".to_vec(),
        b"G\0.".to_vec(),
        b"cos\n".to_vec(),
        b"cos".to_vec(),
        // Marks and values without end.
        vec![b'('; STACK_MAX + 2],
        vec![b'N'; STACK_MAX + 2],
        [&b"N"[..], &vec![b'2'; STACK_MAX + 2]].concat(),
        // Containers without end: one byte each.
        [&[b'}', b'0'].repeat(CELLS_MAX + 1)[..], b"N."].concat(),
        [&[b')', 0x85, b'0'].repeat(CELLS_MAX)[..], b"N."].concat(),
        [&b"N"[..], &[0x94].repeat(CELLS_MAX + 1)].concat(),
    ];
    for pickle in cases {
        let shown = String::from_utf8_lossy(&pickle[..pickle.len().min(40)]).into_owned();
        assert_eq!(read(&pickle), None, "{shown:?}");
    }
}

#[test]
fn odd_arguments_make_no_tensor() {
    let function = || global("torch._utils", "_rebuild_tensor_v2");
    let one = || storage("FloatStorage", "0", 6);
    let minus = || vec![b'J', 0xff, 0xff, 0xff, 0xff];
    let cases = [
        call(function(), &[]),
        call(function(), &[one()]),
        call(function(), &[one(), int(0), ints(&[1])]),
        call(function(), &[text("x"), int(0), ints(&[1]), ints(&[1])]),
        call(function(), &[one(), minus(), ints(&[1]), ints(&[1])]),
        call(function(), &[one(), int(0), tuple(&[minus()]), ints(&[1])]),
        call(function(), &[one(), int(0), int(1), int(1)]),
        call(
            function(),
            &[one(), int(0), ints(&[1; DIMENSIONS_MAX + 1]), ints(&[1])],
        ),
        call(
            function(),
            &[
                storage("QInt8Storage", "0", 6),
                int(0),
                ints(&[1]),
                ints(&[1]),
            ],
        ),
        call(
            function(),
            &[
                [int(5), b"Q".to_vec()].concat(),
                int(0),
                ints(&[1]),
                ints(&[1]),
            ],
        ),
        call(global("torch._utils", "_rebuild_parameter"), &[vec![b'N']]),
        [function(), b"NR".to_vec()].concat(),
        [function(), b"}b".to_vec()].concat(),
    ];
    for value in cases {
        let found = names(&whole(&dict(&[("x", value)])));
        assert!(found.is_none_or(|names| names.is_empty()));
    }
}

#[test]
fn containers_that_hold_themselves_and_deep_ones_come_to_an_end() {
    // A list in itself, through the memo.
    assert_eq!(names(&whole(b"]q\0h\0a")), Some(vec![]));
    let deep = [vec![b']'; 200_000], vec![b'a'; 199_999]].concat();
    assert_eq!(names(&whole(&deep)), Some(vec![]));
    // A container named twice is entered once; doubling thirty times would never end.
    let doubling: Vec<u8> = [b")".to_vec(), b"2\x86".repeat(30)].concat();
    assert_eq!(names(&whole(&doubling)), Some(vec![]));
}

#[test]
fn keys_that_are_no_words_are_passed_over_and_long_ones_too() {
    let long = "x".repeat(3000);
    let pickle = whole(
        &[
            &b"}("[..],
            b")",
            &small(),
            &text(&long),
            &small(),
            &int(3),
            &small(),
            b"u",
        ]
        .concat(),
    );
    assert_eq!(names(&pickle).expect("names"), ["3"]);
}

#[test]
fn every_truncation_is_read_without_a_panic() {
    let pickle = whole(&dict(&[("a", small()), ("b", small())]));
    for length in 0..pickle.len() {
        assert_eq!(read(&pickle[..length]), None);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read(&bytes);
    }

    #[test]
    fn mutated_pickles_are_read_without_a_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut pickle = whole(&dict(&[("a", small()), ("b", small())]));
        for (at, value) in flips {
            let at = at.index(pickle.len());
            pickle[at] = value;
        }
        read(&pickle);
    }

    #[test]
    fn opcodes_in_any_order_are_read_without_a_panic(
        opcodes in prop::collection::vec(prop::sample::select(&b"N\x88}])(ta\x85\x86\x87seu\x90R\x81bQ012\x94\x91d\x93c\nq\0h\0K\x01U\x01a"[..]), 0..200),
    ) {
        read(&whole(&opcodes));
    }
}

/// Name, storage's type, key and elements, first element, shape and strides of a tensor.
type Item<'a> = (&'a str, &'a str, &'a str, u64, u64, &'a [u64], &'a [u64]);

/// The test data of the zip layout.
pub(in crate::layout) fn state_dict(items: &[Item<'_>]) -> Vec<u8> {
    let items: Vec<_> = items
        .iter()
        .map(|(name, kind, key, count, first, shape, strides)| {
            (*name, tensor(kind, key, *count, *first, shape, strides))
        })
        .collect();
    whole(&dict(&items))
}
