//! `sparse commit` of tensors that lost rows or columns.

use serde_json::json;

use crate::{Sandbox, noise};

/// A safetensors file of one U8 tensor.
fn model(shape: [usize; 2], data: &[u8]) -> Vec<u8> {
    let entry = json!({"dtype": "U8", "shape": shape, "data_offsets": [0, data.len()]});
    let header = json!({ "w": entry }).to_string();
    let length = (header.len() as u64).to_le_bytes();
    [&length, header.as_bytes(), data].concat()
}

/// Commits a tensor that lost every 100th of its columns; how many bytes were predicted.
fn lose_columns(rows: usize, cols: usize) -> u64 {
    let sandbox = Sandbox::new().with_store();
    let data = noise(rows * cols);
    let kept = data.iter().enumerate();
    let kept = kept.filter(|(at, _)| at % cols % 100 != 7);
    let kept: Vec<u8> = kept.map(|(_, byte)| *byte).collect();
    sandbox.write("m.safetensors", model([rows, cols], &data));
    sandbox.commit("all", 1);
    sandbox.write("m.safetensors", model([rows, kept.len() / rows], &kept));
    let made = &sandbox.json(&["commit", "-m", "fewer"])[0];
    made["predicted_bytes"].as_u64().expect("a number")
}

#[test]
fn columns_are_found_again_unless_they_are_too_many() {
    let (rows, cols) = (128, 1000);
    assert_eq!(
        lose_columns(rows, cols),
        (rows * (cols - cols / 100)) as u64
    );
    assert_eq!(lose_columns(4, (1 << 20) + 100), 0);
}
