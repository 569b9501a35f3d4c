//! `sparse commit` of a copy in codes of 4 bits with scales for blocks.

use std::fs;

use serde_json::{Value, json};
use sparse_store::predict::blockwise::{Blockwise, Meeting, Rule, Search, Table};
use sparse_store::predict::{Recipe, Shape, Step};
use store_format::dtype::DType;

use crate::Sandbox;

const SIDE: u64 = 512;
const BLOCK: u64 = 64;
/// What is taken off scales before they are coded themselves.
const OFFSET: f32 = 0.875;

/// A safetensors file.
fn model(tensors: &[(&str, DType, &[u64], &[u8])]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, dtype, shape, bytes) in tensors {
        let start = data.len();
        data.extend_from_slice(bytes);
        let entry = json!({
            "dtype": dtype.name(), "shape": shape, "data_offsets": [start, data.len()],
        });
        header.insert((*name).to_owned(), entry);
    }
    let header = Value::from(header).to_string();
    let length = (header.len() as u64).to_le_bytes();
    [&length, header.as_bytes(), &data].concat()
}

/// Weights in BF16 of about all magnitudes below 1.
fn weights(mut state: u64) -> Vec<u8> {
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let unit = (state >> 40) as f32 / 8_388_608.0 - 1.0;
        ((unit * unit * unit).to_bits() >> 16) as u16
    };
    (0..SIDE * SIDE)
        .flat_map(|_| next().to_le_bytes())
        .collect()
}

fn made(rule: Rule, weights: &[u8]) -> Vec<u8> {
    let blockwise = Blockwise::new(rule, BLOCK).expect("a length");
    let (dtype, rows) = (blockwise.target(), SIDE * SIDE / blockwise.each());
    let of = |dtype, rows, cols| Shape { dtype, rows, cols };
    let step = Step::Blockwise(blockwise);
    let base = of(DType::Bf16, SIDE, SIDE);
    let recipe = Recipe::new(of(dtype, rows, 1), vec![base], None, step).expect("a recipe");
    let mut out = vec![0; dtype.bytes_of(rows).expect("bytes") as usize];
    recipe
        .predict(0, &[weights], &mut out)
        .expect("a prediction");
    out
}

/// Two layers as transformers saves them after loading in 4 bits, scales first.
fn quantised(codes: Rule, scales: Rule, layers: &[Vec<u8>; 2]) -> Vec<u8> {
    let codes = layers.each_ref().map(|layer| made(codes, layer));
    let of_scales = Blockwise::new(scales, BLOCK).expect("a length").target();
    let scales = layers.each_ref().map(|layer| made(scales, layer));
    let map: Vec<u8> = (0..16u8).flat_map(|n| f32::from(n).to_le_bytes()).collect();
    let state = format!("{{\"quant_type\": \"nf4\", \"nested_offset\": {OFFSET}}}");
    let (state, length) = (state.as_bytes(), [state.len() as u64]);
    let blocks = [SIDE * SIDE / BLOCK];
    let packed = [SIDE * SIDE / 2, 1];
    model(&[
        ("a.weight.absmax", of_scales, &blocks, &scales[0]),
        ("a.weight.quant_map", DType::F32, &[16], &map),
        ("b.weight.absmax", of_scales, &blocks, &scales[1]),
        ("b.weight.quant_map", DType::F32, &[16], &map),
        ("a.weight", DType::U8, &packed, &codes[0]),
        (
            "a.weight.quant_state.bitsandbytes__nf4",
            DType::U8,
            &length,
            state,
        ),
        ("b.weight", DType::U8, &packed, &codes[1]),
        (
            "b.weight.quant_state.bitsandbytes__nf4",
            DType::U8,
            &length,
            state,
        ),
    ])
}

#[test]
fn codes_of_four_bits_and_their_scales_follow_from_the_base() {
    let sandbox = Sandbox::new().with_store();
    let layers = [weights(7), weights(8)];
    let sides = [SIDE, SIDE];
    let base = model(&[
        ("a.weight", DType::Bf16, &sides, &layers[0]),
        ("b.weight", DType::Bf16, &sides, &layers[1]),
    ]);
    let work = sandbox.path().join("work");
    fs::write(work.join("model.safetensors"), base).expect("a file");
    sandbox.ok(&["-C", "work", "commit", "-m", "base"]);
    let scales = |search| Rule::LargestCodes {
        search,
        offset: OFFSET,
    };
    let rules = [
        (Table::Nf4, Meeting::Reciprocal, Rule::Largest),
        (Table::Fp4, Meeting::Reciprocal, Rule::Largest),
        (Table::Nf4Means, Meeting::BoundedReciprocal, Rule::Largest),
        (Table::Fp4Means, Meeting::BoundedReciprocal, Rule::Largest),
        (Table::Nf4, Meeting::Reciprocal, scales(Search::Nearest)),
        (Table::Nf4, Meeting::Divide, scales(Search::Stepped)),
    ];
    for (number, (table, meeting, scales)) in rules.into_iter().enumerate() {
        let file = quantised(Rule::Codes { table, meeting }, scales, &layers);
        fs::write(work.join("model.safetensors"), &file).expect("a file");
        let name = format!("four-{number}");
        let said = sandbox.ok(&[
            "-C", "work", "commit", "-b", &name, "--base", "main", "-m", "four", "--json",
        ]);
        let said: Value = serde_json::from_str(&said).expect("JSON");
        let new = said["new_bytes"].as_u64().expect("a number");
        assert!(new < 6000, "{new} of {} bytes", file.len());
        sandbox.ok(&["-C", "work", "checkout", &name, "../out"]);
        let out = sandbox.path().join("out/model.safetensors");
        assert!(
            fs::read(&out).expect("a file") == file,
            "{table:?} {scales:?}"
        );
        fs::remove_dir_all(sandbox.path().join("out")).expect("a folder");
    }
    let why = sandbox.ok(&["-C", "work", "stats", "--why"]);
    assert!(why.contains("blockwise"), "{why}");
}
