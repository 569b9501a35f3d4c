//! The fuzz targets' entry points on mutated seeds: a bounded part of what a fuzzer does, the
//! same on every machine and with the stable compiler. Nothing panics, and memory stays in
//! proportion to what was given. `SPARSE_MUTATIONS` asks for more rounds.

#[path = "../store-format/tests/counting/mod.rs"]
mod counting;
mod entries;
#[path = "../store-format/tests/mutate/mod.rs"]
mod mutate;

use counting::measured;
use entries::Arguments;
use mutate::{Random, mutate};
use sparse_store::codec::planes::Width;
use sparse_store::codec::residual::Prediction;
use sparse_store::codec::{self, Coded, Level};
use sparse_store::predict::Recipe;
use store_format::dtype::DType;

/// Mutates seeds so often, and sends each result through the door.
fn rounds(seeds: &[Vec<u8>], usual: usize, door: impl Fn(&[u8]) -> bool, bound: usize) {
    let rounds = std::env::var("SPARSE_MUTATIONS").map_or(usual, |n| n.parse().expect("a number"));
    for (number, seed) in seeds.iter().enumerate() {
        assert!(door(seed), "seed {number} is good");
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut good = 0;
    for _ in 0..rounds {
        let mut bytes = seeds[random.below(seeds.len())].clone();
        for _ in 0..=random.below(3) {
            mutate(&mut bytes, seeds, &mut random);
        }
        let (is_good, most) = measured(|| door(&bytes));
        good += usize::from(is_good);
        assert!(
            most <= bound + 40 * bytes.len(),
            "{most} bytes for {}",
            bytes.len()
        );
    }
    // Some mutations hit what does not matter, most are refused: both ways were walked.
    assert!(good > 0 && good < rounds, "{good} of {rounds} were good");
}

fn safetensors() -> Vec<u8> {
    let header = concat!(
        r#"{"__metadata__":{"format":"pt"},"#,
        r#""a.weight":{"dtype":"F32","shape":[4,8],"data_offsets":[0,128]},"#,
        r#""b":{"dtype":"BF16","shape":[16],"data_offsets":[128,160]}}"#
    );
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.resize(file.len() + 160, 3);
    file
}

fn gguf() -> Vec<u8> {
    let mut file = b"GGUF".to_vec();
    file.extend(3_u32.to_le_bytes());
    file.extend([1_u64, 2].map(u64::to_le_bytes).concat());
    let text = |file: &mut Vec<u8>, text: &str| {
        file.extend((text.len() as u64).to_le_bytes());
        file.extend(text.as_bytes());
    };
    text(&mut file, "general.architecture");
    file.extend(8_u32.to_le_bytes());
    text(&mut file, "llama");
    text(&mut file, "numbers");
    file.extend([9_u32, 4].map(u32::to_le_bytes).concat());
    file.extend(3_u64.to_le_bytes());
    file.extend([1_u32, 2, 3].map(u32::to_le_bytes).concat());
    text(&mut file, "blk.0.attn_q.weight");
    file.extend(2_u32.to_le_bytes());
    file.extend([32_u64, 2].map(u64::to_le_bytes).concat());
    file.extend(0_u32.to_le_bytes());
    file.extend(0_u64.to_le_bytes());
    file.resize(file.len().next_multiple_of(32) + 256, 1);
    file
}

/// A checkpoint of one tensor, as PyTorch writes it.
fn torch_zip() -> Vec<u8> {
    let pickle = [
        &b"\x80\x02ccollections\nOrderedDict\n)R"[..],
        b"X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n(",
        b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x06tQ",
        b"K\0K\x02K\x03\x86K\x03K\x01\x86\x89ccollections\nOrderedDict\n)RtRs.",
    ]
    .concat();
    let entries: [(&str, &[u8]); 3] = [
        ("x/data.pkl", &pickle),
        ("x/data/0", &[5; 24]),
        ("x/version", b"3\n"),
    ];
    let (mut file, mut table) = (Vec::new(), Vec::new());
    for (name, bytes) in entries {
        let start = u32::try_from(file.len()).expect("small");
        let length = u32::try_from(bytes.len()).expect("small");
        let fixed = file.len() + 30 + name.len();
        let padding = fixed.next_multiple_of(64) - fixed;
        let numbers = [0, 0, length, length].map(u32::to_le_bytes).concat();
        let lengths = [name.len() as u16, padding as u16].map(u16::to_le_bytes);
        file.extend(b"PK\x03\x04\0\0\0\0\0\0");
        file.extend(&numbers);
        file.extend(lengths.concat());
        file.extend(name.as_bytes());
        file.resize(file.len() + padding, 0);
        file.extend(bytes);
        table.extend(b"PK\x01\x02\0\0\0\0\0\0\0\0");
        table.extend(&numbers);
        table.extend(lengths[0]);
        table.extend([0; 12]);
        table.extend(start.to_le_bytes());
        table.extend(name.as_bytes());
    }
    let start = u32::try_from(file.len()).expect("small").to_le_bytes();
    let length = u32::try_from(table.len()).expect("small").to_le_bytes();
    file.extend(table);
    file.extend(b"PK\x05\x06\0\0\0\0\x03\0\x03\0");
    file.extend([length, start].concat());
    file.extend([0, 0]);
    file
}

#[test]
fn mutated_files_have_a_layout_and_do_no_harm() {
    let seeds = [safetensors(), gguf(), torch_zip()];
    rounds(&seeds, 30_000, entries::layout, 1 << 20);
}

#[test]
fn mutated_records_of_any_coding_do_no_harm() {
    let mut random = Random(77);
    let base: Vec<u8> = (0..600).map(|_| random.below(40) as u8).collect();
    let plain: Vec<u8> = base
        .iter()
        .map(|byte| byte + random.below(2) as u8)
        .collect();
    let mut coded = vec![(Coded::stored(&plain), Vec::new())];
    for width in [None, Some(Width::W1), Some(Width::W2), Some(Width::W4)] {
        coded.push((
            codec::encode_plain(&plain, width, Level::Default),
            Vec::new(),
        ));
        let width = width.unwrap_or(Width::W1);
        let difference = codec::encode_difference(&plain, &base, width, Level::Default);
        coded.push((difference, base.clone()));
    }
    for dtype in [DType::F32, DType::Bf16, DType::F16] {
        let built_in =
            codec::encode_built_in(&plain, Prediction::Same(&base), dtype).expect("a coding");
        coded.push((built_in, base.clone()));
    }
    let seeds: Vec<_> = coded
        .into_iter()
        .map(|(coded, predicted)| {
            let arguments = Arguments::default()
                .byte(coded.coding.number())
                .part(&coded.parameters)
                .part(&[])
                .part(&predicted)
                .number(plain.len());
            arguments.rest(&coded.bytes).0
        })
        .collect();
    rounds(&seeds, 60_000, entries::coding, 1 << 20);
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.trim_matches('-').as_bytes().chunks_exact(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16))
        .collect::<Result<_, _>>()
        .expect("hexadecimal")
}

#[test]
fn mutated_models_and_residuals_do_no_harm() {
    let cases = include_str!("../store-format/testdata/vectors/residual.txt");
    let seeds: Vec<_> = cases
        .lines()
        .map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            let number = |at: usize| words[at].parse::<usize>().expect("a number");
            let kinds = ["none", "same", "patterns"];
            let kind = kinds.iter().position(|kind| *kind == words[4]);
            let arguments = Arguments::default()
                .byte(u8::try_from(kind.expect("a kind")).expect("small"))
                .byte(u8::try_from(number(0)).expect("a type"))
                .number(number(1))
                .number(number(2))
                .number(number(3))
                .part(&unhex(words[5]))
                .part(&unhex(words[8]))
                .number(unhex(words[7]).len());
            arguments.rest(&unhex(words[6])).0
        })
        .collect();
    assert!(seeds.len() > 40);
    rounds(&seeds, 60_000, entries::residual, 1 << 20);
}

#[test]
fn mutated_predictions_do_no_harm() {
    let cases = concat!(
        include_str!("../store-format/testdata/vectors/predictors.txt"),
        include_str!("../store-format/testdata/vectors/blockwise.txt"),
        include_str!("../store-format/testdata/vectors/odd-values.txt")
    );
    let seeds: Vec<_> = cases
        .lines()
        .map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            let (parameters, plain) = (unhex(words[1]), unhex(words[2]));
            let recipe = Recipe::parse(&parameters).expect("a recorded case");
            let (_, block_bytes) = recipe.target.dtype.block();
            let arguments = Arguments::default()
                .part(&parameters)
                .number(words[0].parse().expect("a number"))
                .number(plain.len() / usize::try_from(block_bytes).expect("small"));
            arguments.rest(&unhex(words[3])).0
        })
        .collect();
    assert!(seeds.len() > 40);
    // A prediction holds its sources and its values.
    rounds(&seeds, 60_000, entries::prediction, 8 << 20);
}
