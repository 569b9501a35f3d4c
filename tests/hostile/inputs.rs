//! Files with hostile headers, given to `commit`: kept bit by bit, never an error.

use std::fs;

use crate::Sandbox;

type Input = (String, Vec<u8>);

fn safetensors(name: &str, header: &str, data: usize) -> Input {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + data, 1);
    (format!("safetensors {name}.safetensors"), file)
}

fn headers() -> Vec<Input> {
    let long = |length: u64| {
        let mut file = length.to_le_bytes().to_vec();
        file.extend(b"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}    ");
        file
    };
    let tensor = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let two = |a: &str, b: &str| {
        let one = |name: &str, offsets: &str| {
            format!(r#""{name}":{{"dtype":"U8","shape":[4],"data_offsets":{offsets}}}"#)
        };
        format!("{{{},{}}}", one("a", a), one("b", b))
    };
    let nested = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let many: Vec<_> = (0..20_000)
        .map(|n| format!(r#""{n}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#))
        .collect();
    let mut inputs = vec![
        ("length of 2^64.safetensors".into(), long(u64::MAX)),
        ("length of 2^63.safetensors".into(), long(1 << 63)),
        (
            "length of a hundred megabytes.safetensors".into(),
            long(99_999_999),
        ),
        ("length of a byte too many.safetensors".into(), long(60)),
        ("length of nothing.safetensors".into(), long(0)),
    ];
    let more = [
        ("beyond its end", tensor("F32", "[4]", "[0,16]"), 8),
        ("before its start", tensor("F32", "[4]", "[-16,0]"), 16),
        ("backwards", tensor("F32", "[4]", "[16,0]"), 16),
        ("of 2^64 bytes", tensor("F32", "[4]", "[0,18446744073709551615]"), 16),
        ("of more bytes than numbers", tensor("F32", "[4]", "[0,99999999999999999999999]"), 16),
        ("of other shape", tensor("F32", "[5]", "[0,16]"), 16),
        ("of a huge shape", tensor("F32", "[4294967296,4294967296,4]", "[0,16]"), 16),
        ("of a negative shape", tensor("F32", "[-4]", "[0,16]"), 16),
        ("of a broken shape", tensor("F32", "[1.5]", "[0,16]"), 16),
        ("of a thousand sides", tensor("F32", &format!("[{}1]", "1,".repeat(999)), "[0,4]"), 4),
        ("of no known type", tensor("F33", "[4]", "[0,16]"), 16),
        ("that overlap", two("[0,4]", "[2,6]"), 6),
        ("that leave a gap", two("[0,4]", "[6,10]"), 10),
        ("that stand the other way", two("[4,8]", "[0,4]"), 8),
        ("of one name", r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}"#.into(), 8),
        ("with bytes behind them", tensor("U8", "[4]", "[0,4]"), 99),
        ("nested without end", nested, 4),
        ("in great number", format!("{{{}}}", many.join(",")), 0),
        ("that are a list", "[1,2,3]".into(), 8),
        ("that are cut", "{\"a\":{\"dtype\":\"F3".into(), 8),
        ("with NUL in a name", tensor("U8", "[4]", "[0,4]").replace("\"a\"", "\"a\\u0000\\u001b\""), 4),
    ];
    inputs.extend(more.map(|(name, header, data)| safetensors(name, &header, data)));
    inputs
}

/// A GGUF file of counts and one key.
fn gguf(name: &str, tensors: u64, keys: u64, rest: &[u8]) -> Input {
    let mut file = b"GGUF".to_vec();
    file.extend(3_u32.to_le_bytes());
    file.extend([tensors, keys].map(u64::to_le_bytes).concat());
    file.extend(rest);
    (format!("gguf {name}.gguf"), file)
}

fn ggufs() -> Vec<Input> {
    let text = |text: &[u8]| [&(text.len() as u64).to_le_bytes()[..], text].concat();
    let key = |kind: u32, value: &[u8]| [&text(b"k")[..], &kind.to_le_bytes(), value].concat();
    let tensor = |sides: &[u64], dtype: u32, offset: u64| {
        let count = u32::try_from(sides.len()).expect("few").to_le_bytes();
        let sides: Vec<u8> = sides.iter().flat_map(|side| side.to_le_bytes()).collect();
        let rest = [&dtype.to_le_bytes()[..], &offset.to_le_bytes()].concat();
        [&text(b"w")[..], &count, &sides, &rest, &[0; 300]].concat()
    };
    let nested = |depth: usize| {
        let mut value = Vec::new();
        for _ in 0..depth {
            value.extend(9_u32.to_le_bytes());
            value.extend(1_u64.to_le_bytes());
        }
        key(9, &value)
    };
    let array =
        |kind: u32, count: u64| key(9, &[&kind.to_le_bytes()[..], &count.to_le_bytes()].concat());
    vec![
        gguf("of 2^64 tensors", u64::MAX, 0, &[0; 64]),
        gguf("of 2^64 keys", 0, u64::MAX, &[0; 64]),
        gguf("of 2^40 tensors", 1 << 40, 0, &tensor(&[4], 0, 0)),
        gguf("with a name of 2^64 bytes", 0, 1, &[0xff; 16]),
        gguf(
            "with a text of 2^63 bytes",
            0,
            1,
            &key(8, &(1_u64 << 63).to_le_bytes()),
        ),
        gguf("with a list of 2^64 numbers", 0, 1, &array(10, u64::MAX)),
        gguf("with a list of 2^61 texts", 0, 1, &array(8, 1 << 61)),
        gguf("with lists without end", 0, 1, &nested(100_000)),
        gguf("with a value of no kind", 0, 1, &key(77, &[0; 32])),
        gguf(
            "with a tensor of 2^63 elements",
            1,
            0,
            &tensor(&[1 << 63, 2], 0, 0),
        ),
        gguf(
            "with a tensor of 2^32 sides",
            1,
            0,
            &[&text(b"w")[..], &[0xff; 400]].concat(),
        ),
        gguf("with a tensor at 2^64", 1, 0, &tensor(&[4], 0, u64::MAX)),
        gguf("with a tensor of no type", 1, 0, &tensor(&[4], 999, 0)),
        gguf("with half a block", 1, 0, &tensor(&[31], 8, 0)),
        (
            "gguf that is cut.gguf".into(),
            b"GGUF\x03\0\0\0\x01".to_vec(),
        ),
        (
            "gguf of the other order.gguf".into(),
            b"GGUF\0\0\0\x03\0\0\0\0\0\0\0\x01".to_vec(),
        ),
    ]
}

/// A zip file of one entry, whose numbers can be chosen.
fn zip(name: &str, inside: &str, bytes: &[u8], change: impl Fn(&mut Vec<u8>, usize)) -> Input {
    let length = u32::try_from(bytes.len()).expect("small").to_le_bytes();
    let numbers = [[0; 4], [0; 4], length, length].concat();
    let names = u16::try_from(inside.len()).expect("short").to_le_bytes();
    let mut file = b"PK\x03\x04\0\0\0\0\0\0".to_vec();
    file.extend([&numbers[..], &names, &[0, 0], inside.as_bytes(), bytes].concat());
    let start = file.len();
    file.extend(b"PK\x01\x02\0\0\0\0\0\0\0\0");
    file.extend([&numbers[..], &names, &[0; 12], &[0; 4], inside.as_bytes()].concat());
    let table = u32::try_from(file.len() - start)
        .expect("small")
        .to_le_bytes();
    let at = u32::try_from(start).expect("small").to_le_bytes();
    file.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    file.extend([&table[..], &at, &[0, 0]].concat());
    change(&mut file, start);
    (format!("zip {name}.pt"), file)
}

fn zips() -> Vec<Input> {
    let none = |_: &mut Vec<u8>, _: usize| {};
    let pickle = |name: &str, pickle: &[u8]| zip(name, "x/data.pkl", pickle, none);
    // Each step doubles what the step before holds.
    let mut doubling = b"\x80\x02]q\0".to_vec();
    for step in 0..200_u8 {
        doubling.extend([b'h', step, b'h', step, 0x86, b'q', step + 1]);
    }
    doubling.push(b'.');
    let marks = [&b"\x80\x02"[..], &vec![b'('; 1 << 20], b"."].concat();
    let tuples = [&b"\x80\x02)"[..], &vec![0x85; 1 << 20], b"."].concat();
    vec![
        zip("with a way out", "../../../outside/canary", b"x", none),
        zip("with an absolute path", "/etc/passwd", b"x", none),
        zip("whose table lies at 2^32", "x/data.pkl", b"x", |file, _| {
            let at = file.len() - 6;
            file[at..at + 4].fill(0xff);
        }),
        zip("whose table is itself", "x/data.pkl", b"x", |file, _| {
            let at = file.len() - 6;
            file[at..at + 4].fill(0);
        }),
        zip("of 65535 entries", "x/data.pkl", b"x", |file, _| {
            let at = file.len() - 14;
            file[at..at + 4].fill(0xff);
        }),
        zip(
            "whose entry is 2^32 long",
            "x/data.pkl",
            b"x",
            |file, start| {
                file[start + 20..start + 28].fill(0xff);
            },
        ),
        zip(
            "whose entry lies behind the end",
            "x/data.pkl",
            b"x",
            |file, start| {
                file[start + 42..start + 46].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
            },
        ),
        zip(
            "whose name is 65535 long",
            "x/data.pkl",
            b"x",
            |file, start| {
                file[start + 28..start + 30].fill(0xff);
            },
        ),
        zip("with a long comment", "x/data.pkl", b"x", |file, _| {
            let at = file.len() - 2;
            file[at..].fill(0xff);
        }),
        pickle(
            "that runs a command",
            b"cos\nsystem\n(X\x0c\0\0\0touch canaryt\x85R.",
        ),
        pickle(
            "that runs any code",
            b"c__builtin__\nexec\n(X\x03\0\0\x001/0tR.",
        ),
        pickle("that doubles", &doubling),
        pickle("of marks", &marks),
        pickle("of tuples in tuples", &tuples),
        pickle(
            "with a text of 2^32 bytes",
            b"\x80\x02X\xff\xff\xff\xffabc.",
        ),
        pickle(
            "with a text of 2^63 bytes",
            b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
        ),
        pickle("that pops from nothing", b"\x80\x02000000ttttRRRbbb."),
        pickle(
            "with a memory far off",
            b"\x80\x02]r\xff\xff\xff\x7fj\xff\xff\xff\x7f.",
        ),
        pickle("without an end", b"\x80\x02]]]]"),
    ]
}

pub(crate) fn cases() -> Vec<Input> {
    let mut cases = headers();
    cases.extend(ggufs());
    cases.extend(zips());
    let deep = [b"[".repeat(1_000_000), b"]".repeat(1_000_000)].concat();
    cases.push(("model.safetensors.index.json".into(), deep));
    let out = br#"{"weight_map":{"a":"../../outside/canary","b":"/etc/passwd"}}"#;
    cases.push(("pytorch_model.bin.index.json".into(), out.to_vec()));
    cases.push((
        "PAR1.parquet".into(),
        [&b"PAR1"[..], &[0xff; 40], b"PAR1"].concat(),
    ));
    cases
}

#[test]
fn files_with_hostile_headers_are_kept_bit_by_bit() {
    let sandbox = Sandbox::new();
    let seen = sandbox.run("a new store", &["init", "-q", "evil"]);
    assert_eq!(seen.code, Some(0), "{}", seen.err);
    let before = sandbox.outside();
    for version in 0..2_u8 {
        // The second version has a base with the same names, and a byte of each differs.
        let mut files = cases();
        for (name, bytes) in &mut files {
            if let Some(last) = bytes.last_mut() {
                *last ^= version;
            }
            fs::write(sandbox.path("evil").join(&*name), &bytes).expect("a file");
        }
        let seen = sandbox.run("all", &["-C", "evil", "-q", "commit", "-m", "x"]);
        assert_eq!(seen.code, Some(0), "{}", seen.err);
        for (name, bytes) in files {
            let what = format!("main:{name}");
            let seen = sandbox.run(&name, &["-C", "evil", "cat", &what]);
            assert!(seen.out == bytes, "{name}");
        }
    }
    let seen = sandbox.run("all", &["-C", "evil", "checkout", "main", "../out"]);
    assert_eq!(seen.code, Some(0), "{}", seen.err);
    for (name, mut bytes) in cases() {
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        let out = fs::read(sandbox.path("out").join(&name)).expect("a file");
        assert!(out == bytes, "{name}");
    }
    for words in [
        &["-C", "evil", "fsck", "--read-data"][..],
        &["-C", "evil", "diff", "main~1", "main"],
        &["-C", "evil", "show", "main"],
        &["-C", "evil", "ls", "main", "--tensors"],
    ] {
        let seen = sandbox.run("all", words);
        assert!(matches!(seen.code, Some(0 | 2)), "{words:?}: {}", seen.err);
    }
    assert_eq!(sandbox.outside(), before);
}
