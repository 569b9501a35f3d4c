//! `sparse svd`, `sparse adapter` and `sparse checkout --merge`.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::Sandbox;

const ROWS: usize = 320;
const COLS: usize = 256;

/// A safetensors file of F32 tensors.
fn model(tensors: &[(&str, [usize; 2], Vec<f32>)]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape, values) in tensors {
        let start = data.len();
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]});
        header.insert((*name).to_owned(), entry);
    }
    let header = Value::from(header).to_string();
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        &data,
    ]
    .concat()
}

/// The values of a tensor of a file that [`model`] made.
fn tensor(path: &Path, name: &str) -> Vec<f32> {
    let file = fs::read(path).expect("a file");
    let parsed = safetensors::SafeTensors::deserialize(&file).expect("safetensors");
    let data = parsed.tensor(name).expect("the tensor").data().to_vec();
    let values = data.as_chunks().0.iter();
    values.map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// Small whole numbers, so that sums of their products are exact.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 60) as f32 - 7.5
    };
    (0..count).map(|_| next()).collect()
}

/// `left` (rows by rank) times `right` (rank by columns).
fn product(left: &[f32], right: &[f32], rank: usize) -> Vec<f32> {
    let cols = right.len() / rank;
    let cell = |row: usize, col: usize| -> f32 {
        (0..rank)
            .map(|k| left[row * rank + k] * right[k * cols + col])
            .sum()
    };
    let rows = left.len() / rank;
    (0..rows * cols)
        .map(|at| cell(at / cols, at % cols))
        .collect()
}

fn sum(a: &[f32], b: &[f32], factor: f32) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b * factor).collect()
}

/// A store with a base, and one that differs by a change of rank 2 on `tuned`.
fn base_and_tuned() -> Sandbox {
    let sandbox = Sandbox::new().with_store();
    let base = numbers(1, ROWS * COLS);
    let change = product(&numbers(2, ROWS * 2), &numbers(3, 2 * COLS), 2);
    let tuned = sum(&base, &change, 1.0 / 64.0);
    let norm = ("norm.weight", [1, COLS], numbers(4, COLS));
    for (folder, weights) in [("base", base), ("tuned", tuned)] {
        let dir = sandbox.path().join(folder);
        fs::create_dir(&dir).expect("a folder");
        fs::write(dir.join("config.json"), "{}").expect("a file");
        let weights = ("model.q_proj.weight", [ROWS, COLS], weights);
        fs::write(
            dir.join("model.safetensors"),
            model(&[weights, norm.clone()]),
        )
        .expect("a file");
    }
    sandbox.at_work(&["commit", "../base", "-b", "base", "-m", "base"]);
    sandbox.at_work(&[
        "commit", "../tuned", "-b", "tuned", "--base", "base", "-m", "tuned",
    ]);
    sandbox
}

#[test]
fn svd_keeps_the_strongest_components_and_is_stored_as_their_factors() {
    let sandbox = base_and_tuned();
    let words = ["svd", "base", "tuned", "--rank", "2", "-b", "small"];
    let made = &sandbox.json(&words)[0];
    assert_eq!(made["schema"], "sparse.svd/1");
    assert_eq!((&made["rank"], &made["num_layers"]), (&json!(2), &json!(1)));
    assert_eq!(made["delta_type"], "svd_delta");
    assert_eq!(made["factor_bytes"], 2 * 2 * (ROWS + COLS));
    assert!(
        made["relative_error"].as_f64().expect("a number") < 1e-3,
        "{made}"
    );
    let shown = &sandbox.json(&["show", "small"])[0];
    assert_eq!(shown["attributes"]["svd"]["lossy"], true);
    assert_eq!(shown["attributes"]["svd"]["rank"], 2);
    assert_eq!(shown["origins"][0]["kind"], "svd");
    sandbox.at_work(&["checkout", "small", "../out"]);
    let out = sandbox.path().join("out");
    let (got, want) = (
        out.join("model.safetensors"),
        sandbox.path().join("tuned/model.safetensors"),
    );
    let pairs = tensor(&got, "model.q_proj.weight")
        .into_iter()
        .zip(tensor(&want, "model.q_proj.weight"));
    assert!(pairs.clone().all(|(got, want)| (got - want).abs() < 1e-2));
    assert!(
        pairs.clone().any(|(got, want)| got != want),
        "factors are rounded"
    );
    assert_eq!(tensor(&got, "norm.weight"), tensor(&want, "norm.weight"));
    assert_eq!(fs::read(out.join("config.json")).expect("a file"), b"{}");
    let why = sandbox.at_work(&["stats", "--why"]);
    assert!(why.contains("adapter"), "the hint was taken: {why}");
    // The factors, a record, a manifest, two trees and a commit: no trace of the tensor itself.
    let new_bytes = made["new_bytes"].as_u64().expect("a number");
    assert!(new_bytes < (ROWS * COLS) as u64, "{new_bytes}");
    assert_eq!(sandbox.json(&words)[0]["unchanged"], true, "the same again");
    sandbox.at_work(&["fsck", "--read-data"]);
}

#[test]
fn svd_finds_ranks_by_energy_and_by_budget() {
    let sandbox = base_and_tuned();
    let rank = |words: &[&str]| {
        let words = [&["svd", "base", "tuned", "-b", "small"], words].concat();
        sandbox.json(&words)[0]["rank"].as_u64().expect("a number")
    };
    assert_eq!(rank(&["--energy", "0.9999"]), 2);
    assert_eq!(rank(&["--energy", "0.1"]), 1);
    assert_eq!(rank(&["--budget", "2kB"]), 1);
    assert_eq!(rank(&["--budget", "100"]), 0);
    sandbox.at_work(&["checkout", "small", "../out"]);
    let names = ["out/model.safetensors", "base/model.safetensors"];
    let [out, base] = names.map(|name| tensor(&sandbox.path().join(name), "model.q_proj.weight"));
    assert_eq!(out, base, "no component is the base");
}

#[test]
fn svd_says_what_was_kept_and_refuses_what_has_no_change() {
    let sandbox = base_and_tuned();
    let printed = sandbox.at_work(&["svd", "base", "tuned", "-b", "small", "-v"]);
    assert!(
        printed.contains("  ranks   16 in 1 tensors; factors take 18.4 kB\n"),
        "{printed}"
    );
    assert!(printed.contains("of the change is left out"), "{printed}");
    assert!(printed.contains("model.q_proj.weight"), "{printed}");
    sandbox.write("a", "no model");
    sandbox.at_work(&["commit", "-m", "text", "-b", "text"]);
    let (code, err) = sandbox.refused(&["svd", "text", "tuned", "-b", "x"]);
    assert_eq!(code, 2);
    assert!(
        err.starts_with("error: no tensor of the two versions can be compared\n"),
        "{err}"
    );
    assert_eq!(
        sandbox.refused(&["svd", "nowhere", "tuned", "-b", "x"]).0,
        3
    );
}

/// A PEFT folder for the model's only layer.
fn adapter(sandbox: &Sandbox, config: &Value, layer: &str, inputs: usize) -> (Vec<f32>, Vec<f32>) {
    let dir = sandbox.path().join("lora");
    let _ = fs::create_dir(&dir);
    let (a, b) = (numbers(5, 4 * inputs), numbers(6, ROWS * 4));
    let name = |half: &str| format!("base_model.model.{layer}.{half}.weight");
    let (name_a, name_b) = (name("lora_A"), name("lora_B"));
    let file = model(&[
        (&name_a, [4, inputs], a.clone()),
        (&name_b, [ROWS, 4], b.clone()),
    ]);
    fs::write(dir.join("adapter_model.safetensors"), file).expect("a file");
    fs::write(dir.join("adapter_config.json"), config.to_string()).expect("a file");
    (a, b)
}

#[test]
fn an_adapter_is_kept_with_its_base_and_merged_on_the_way_out() {
    let sandbox = base_and_tuned();
    let config =
        json!({"peft_type": "LORA", "r": 4, "lora_alpha": 2, "target_modules": ["q_proj"]});
    let (a, b) = adapter(&sandbox, &config, "model.q_proj", COLS);
    // What a trainer leaves in the same folder is kept, and is no part of the adapter.
    let states = model(&[("state.0.exp_avg", [1, 4], numbers(7, 4))]);
    fs::write(sandbox.path().join("lora/optimizer.safetensors"), states).expect("a file");
    let made = &sandbox.json(&["adapter", "add", "base", "../lora", "-b", "lora"])[0];
    assert_eq!(made["schema"], "sparse.adapter/1");
    assert_eq!(
        (&made["delta_type"], &made["num_layers"]),
        (&json!("adapter"), &json!(1))
    );
    assert_eq!(made["changed_params"], 4 * (ROWS + COLS));
    let shown = &sandbox.json(&["show", "lora"])[0];
    assert_eq!(shown["attributes"]["adapter"]["r"], 4);
    assert_eq!(shown["attributes"]["adapter"]["base"], made["base"]);
    sandbox.at_work(&["checkout", "lora", "../as-it-was"]);
    for name in ["adapter_model.safetensors", "adapter_config.json"] {
        let read = |folder: &str| fs::read(sandbox.path().join(folder).join(name)).expect("a file");
        assert_eq!(read("as-it-was"), read("lora"));
    }
    let printed = sandbox.at_work(&["checkout", "lora", "--merge", "../merged"]);
    assert!(printed.contains("2 written"), "{printed}");
    let of = |folder: &str, name: &str| {
        tensor(&sandbox.path().join(folder).join("model.safetensors"), name)
    };
    let want = sum(&of("base", "model.q_proj.weight"), &product(&b, &a, 4), 0.5);
    assert_eq!(of("merged", "model.q_proj.weight"), want);
    assert_eq!(of("merged", "norm.weight"), of("base", "norm.weight"));
    // Committed, the merged model costs its records only.
    let merged = &sandbox.json(&[
        "commit",
        "../merged",
        "-b",
        "merged",
        "--base",
        "base",
        "-m",
        "merged",
    ])[0];
    assert!(
        merged["new_bytes"].as_u64().expect("a number") < 5000,
        "{merged}"
    );
    assert_eq!(
        sandbox
            .refused(&["checkout", "lora", "--merge", "../merged"])
            .0,
        5
    );
    // Refused before anything is written.
    let half = sandbox.path().join("half");
    fs::create_dir(&half).expect("a folder");
    fs::write(half.join("model.safetensors"), "mine").expect("a file");
    let refused = sandbox.refused(&["checkout", "lora", "--merge", "../half"]);
    assert_eq!(refused.0, 5);
    assert!(!half.join("config.json").exists());
    sandbox.at_work(&["checkout", "lora", "--merge", "../merged", "--force"]);
}

#[test]
fn an_adapter_that_does_not_fit_is_refused() {
    let sandbox = base_and_tuned();
    let config = json!({"peft_type": "LORA", "r": 4, "lora_alpha": 2});
    let refused = || sandbox.refused(&["adapter", "add", "base", "../lora", "-b", "lora"]);
    adapter(&sandbox, &config, "model.k_proj", COLS);
    let (code, err) = refused();
    assert_eq!(code, 2);
    assert!(
        err.contains("layer 'base_model.model.model.k_proj' is not in it"),
        "{err}"
    );
    adapter(&sandbox, &config, "model.q_proj", COLS + 1);
    assert!(refused().1.contains("has other rows and columns there"));
    adapter(&sandbox, &json!({"r": 4}), "model.q_proj", COLS);
    assert!(refused().1.contains("names no type of adapter"));
    let bare = sandbox.refused(&["adapter", "add", "base", "../base", "-b", "lora"]);
    assert!(
        bare.1.contains("it has no adapter_config.json"),
        "{}",
        bare.1
    );
    let (code, err) = sandbox.refused(&["checkout", "tuned", "--merge", "../merged"]);
    assert_eq!(code, 2);
    assert!(
        err.contains("is no adapter: there is nothing to merge"),
        "{err}"
    );
    let config = json!({"peft_type": "LORA", "r": 8, "lora_alpha": 2});
    adapter(&sandbox, &config, "model.q_proj", COLS);
    let (code, err) = refused();
    assert_eq!(code, 2);
    assert!(
        err.contains("has rank 4, which adapter_config.json does not state"),
        "{err}"
    );
    let weights = sandbox.path().join("lora/adapter_model.safetensors");
    fs::write(
        &weights,
        model(&[("norm.weight", [1, COLS], numbers(7, COLS))]),
    )
    .expect("a file");
    assert!(refused().1.contains("the adapter's weights have no layer"));
    fs::write(&weights, model(&[])).expect("a file");
    assert!(refused().1.contains("its weights have no tensor"));
    fs::remove_file(&weights).expect("a file");
    let (code, err) = refused();
    assert_eq!(code, 2);
    assert!(err.contains("it has no adapter_model.safetensors"), "{err}");
    // Kept, but merged by other arithmetic than ours.
    let config = json!({"peft_type": "IA3"});
    adapter(&sandbox, &config, "model.q_proj", COLS);
    sandbox.at_work(&["adapter", "add", "base", "../lora", "-b", "other"]);
    let (code, err) = sandbox.refused(&["checkout", "other", "--merge", "../merged"]);
    assert!(err.contains("adapters of type IA3"), "{err}");
    assert_ne!(code, 0);
}

#[test]
fn a_merge_that_changes_nothing_is_refused() {
    use sparse_store::flow::commit::{BaseChoice, Request, Signature, commit};
    use sparse_store::{par, progress::Silent, store};
    let sandbox = base_and_tuned();
    let config = json!({"peft_type": "LORA", "r": 4, "lora_alpha": 2});
    adapter(&sandbox, &config, "model.q_proj", COLS);
    fs::remove_file(sandbox.path().join("lora/adapter_model.safetensors")).expect("a file");
    let host = store::host::Host::system();
    let store = store::Store::open(&sandbox.work(".sparse"), host).expect("a store");
    let pool = par::Pool::new(par::Threads::new(1)).expect("threads");
    let request = Request {
        path: &sandbox.path().join("lora"),
        branch: "bare",
        base: BaseChoice::Revision("base".into()),
        kind: Some(store_format::commit::Derivation::Adapter),
        message: "an adapter without weights",
        signature: Signature::default(),
        attributes: Vec::new(),
        level: sparse_store::codec::Level::Fast,
        factors: None,
        head: None,
        work: None,
        dry_run: false,
    };
    commit(&store, &pool, &request, &Silent).expect("a commit");
    let (code, err) = sandbox.refused(&["checkout", "bare", "--merge", "../merged"]);
    assert_eq!(code, 2);
    assert!(err.contains("changes no tensor of its base"), "{err}");
    assert!(!sandbox.path().join("merged").exists());
}

#[test]
fn a_decomposed_adapter_scales_each_row_to_its_magnitude() {
    let sandbox = base_and_tuned();
    let config = json!({"peft_type": "LORA", "r": 4, "lora_alpha": 2, "use_dora": true});
    let (a, b) = adapter(&sandbox, &config, "model.q_proj", COLS);
    let layer = "base_model.model.model.q_proj";
    let names = ["lora_A.weight", "lora_B.weight", "lora_magnitude_vector"];
    let [name_a, name_b, name_m] = names.map(|name| format!("{layer}.{name}"));
    let file = |magnitudes: usize| {
        model(&[
            (&name_a, [4, COLS], a.clone()),
            (&name_b, [ROWS, 4], b.clone()),
            (&name_m, [1, magnitudes], vec![8.0; magnitudes]),
        ])
    };
    let path = sandbox.path().join("lora/adapter_model.safetensors");
    fs::write(&path, file(COLS)).expect("a file");
    let add = ["adapter", "add", "base", "../lora", "-b", "dora"];
    let (code, err) = sandbox.refused(&add);
    assert_eq!(code, 2);
    assert!(err.contains("another number of magnitudes"), "{err}");
    fs::write(&path, file(ROWS)).expect("a file");
    sandbox.at_work(&add);
    sandbox.at_work(&["checkout", "dora", "--merge", "../merged"]);
    let of = |folder: &str| {
        let path = sandbox.path().join(folder).join("model.safetensors");
        tensor(&path, "model.q_proj.weight")
    };
    let (merged, base) = (of("merged"), of("base"));
    let sums = sum(&base, &product(&b, &a, 4), 0.5);
    let length = |row: &[f32]| row.iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt() as f32;
    for (row, sums) in merged.chunks(COLS).zip(sums.chunks(COLS)) {
        let factor = 8.0 / length(sums);
        let want: Vec<f32> = sums.iter().map(|sum| factor * sum).collect();
        assert_eq!(row, want);
    }
    // Committed, the merged model costs its records only.
    let words = [
        "commit",
        "../merged",
        "-b",
        "merged",
        "--base",
        "base",
        "-m",
        "x",
    ];
    let new = sandbox.json(&words)[0]["new_bytes"].as_u64();
    assert!(new.expect("a number") < 5000, "{new:?}");
}
