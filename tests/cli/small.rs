//! `sparse commit` of models with small tensors, which share their chunks.

use serde_json::{Value, json};

use crate::{Sandbox, noise};

/// More than a record could name one by one.
const MANY: usize = 25_000;

/// A safetensors file of F32 tensors of one shape; their bytes follow each other in this order.
fn model(names: impl Iterator<Item = usize>, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let bytes = 4 * shape.iter().product::<usize>();
    let mut header = serde_json::Map::new();
    for (at, name) in names.enumerate() {
        let offsets = [at * bytes, (at + 1) * bytes];
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": offsets});
        header.insert(format!("layer.{name}"), entry);
    }
    let header = Value::from(header).to_string();
    let length = (header.len() as u64).to_le_bytes();
    [&length, header.as_bytes(), data].concat()
}

/// Commits a file over another; what the second commit says of itself.
fn commit_over(sandbox: &Sandbox, base: &[u8], file: &[u8]) -> Value {
    sandbox.write("m.safetensors", base);
    sandbox.commit("base", 1);
    sandbox.write("m.safetensors", file);
    let made = sandbox.json(&["commit", "-m", "next"]).remove(0);
    sandbox.at_work(&["checkout", "main", "../out"]);
    let out = std::fs::read(sandbox.path().join("out/m.safetensors")).expect("a file");
    assert!(out == file);
    sandbox.at_work(&["fsck", "--read-data"]);
    made
}

#[test]
fn many_small_tensors_are_named_in_one_run() {
    let sandbox = Sandbox::new().with_store();
    let before = noise(4 * MANY);
    let mut after = before.clone();
    after.iter_mut().step_by(4000).for_each(|byte| *byte ^= 1);
    let file = |data: &[u8]| model(0..MANY, &[1], data);
    let made = commit_over(&sandbox, &file(&before), &file(&after));
    assert_eq!(made["predicted_bytes"], 4 * MANY, "{made}");
    // Nearly all of it is the list of tensors.
    assert!(made["new_bytes"].as_u64() < Some(200_000), "{made}");
}

#[test]
fn small_tensors_in_another_order_are_stored_without_a_base() {
    let sandbox = Sandbox::new().with_store();
    let data = noise(4 * MANY);
    let base = model(0..MANY, &[1], &data);
    // Prime to their number, so every name is there once and none follows its predecessor.
    let others = model((0..MANY).map(|at| at * 7 % MANY), &[1], &data);
    let made = commit_over(&sandbox, &base, &others);
    assert_eq!(made["predicted_bytes"], 0, "{made}");
}

#[test]
fn small_tensors_keep_their_bases_where_their_chunk_could_not_name_a_recipe() {
    let sandbox = Sandbox::new().with_store();
    let (rows, cols) = (192, 160);
    let values = |seed: usize, count: usize| {
        let bytes = noise(8 * (seed + count)).split_off(8 * seed);
        let value = |bytes: &[u8; 8]| (i32::from(bytes[0]) - 128) as f32 / 256.0;
        bytes.as_chunks().0.iter().map(value).collect::<Vec<f32>>()
    };
    let base = values(0, 2 * rows * cols);
    let (left, right) = (values(1, 2 * rows), values(2, cols));
    let change = left
        .iter()
        .flat_map(|l| right.iter().map(move |r| l * r / 16.0));
    let tuned = base.iter().zip(change).map(|(base, change)| base + change);
    let bytes = |values: &[f32]| -> Vec<u8> {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        bytes.collect()
    };
    let tuned: Vec<f32> = tuned.collect();
    let file = |values: &[f32]| model(0..2, &[rows, cols], &bytes(values));
    let made = commit_over(&sandbox, &file(&base), &file(&tuned));
    assert_eq!(made["predicted_bytes"], 8 * rows * cols, "{made}");
}
