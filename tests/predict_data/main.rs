//! Predictors on real models: how many bytes differ from what the tools wrote.
//!
//! Runs only where `SPARSE_DATA` names the folder of the test models; else every test passes
//! without looking. Prints its counts (`--nocapture`).

mod files;
mod low_rank;

use std::collections::BTreeMap;
use std::time::Instant;

use sparse_store::predict::adapter::{Adapter, Form};
use sparse_store::predict::gather::find::{RowIndex, columns, row_hash};
use sparse_store::predict::gather::{Gather, Run, Runs};
use sparse_store::predict::linear::Linear;
use sparse_store::predict::quantise::{Meeting, Quantise, Rounding, Scale};
use sparse_store::predict::{Recipe, Step, float};
use store_format::dtype::DType;

use self::files::{Tensor, gguf, safetensors};

/// Predicts the target chunk by chunk; counts the bytes that differ.
fn misses(recipe: &Recipe, sources: &[&Tensor], target: &Tensor) -> usize {
    let recipe = Recipe::parse(&recipe.to_bytes()).unwrap();
    let (per_block, block) = target.shape.dtype.block();
    let rows = ((1 << 20) / target.shape.cols).max(1);
    let chunk = (rows * target.shape.cols / per_block * block) as usize;
    let mut missed = 0;
    for (i, bytes) in target.bytes.chunks(chunk).enumerate() {
        let first = i as u64 * rows * target.shape.cols;
        let ranges = recipe
            .sources(first, bytes.len() as u64 / block * per_block)
            .unwrap();
        let parts: Vec<&[u8]> = ranges
            .iter()
            .map(|r| &sources[r.source].bytes[r.start as usize..][..r.bytes as usize])
            .collect();
        missed += recipe.misses(first, &parts, bytes).unwrap();
    }
    missed
}

struct Tally {
    what: String,
    missed: usize,
    bytes: usize,
    seconds: f64,
}

impl Tally {
    fn new(what: &str) -> Self {
        Self {
            what: what.into(),
            missed: 0,
            bytes: 0,
            seconds: 0.0,
        }
    }

    fn add(&mut self, recipe: Recipe, sources: &[&Tensor], target: &Tensor) {
        let start = Instant::now();
        self.missed += misses(&recipe, sources, target);
        self.seconds += start.elapsed().as_secs_f64();
        self.bytes += target.bytes.len();
    }

    fn tell(&self) {
        let seconds = self.seconds;
        println!(
            "{}: {} of {} bytes differ, {seconds:.2} s",
            self.what, self.missed, self.bytes
        );
    }
}

/// The name in the model of a tensor in a GGUF file.
fn plain_name(name: &str) -> String {
    let mut out = name
        .replace("blk.", "model.layers.")
        .replace("token_embd", "model.embed_tokens");
    out = out
        .replace("output_norm", "model.norm")
        .replace("attn_norm", "input_layernorm");
    out = out
        .replace("ffn_norm", "post_attention_layernorm")
        .replace("attn_output", "self_attn.o_proj");
    for part in ["q", "k", "v"] {
        out = out.replace(&format!("attn_{part}."), &format!("self_attn.{part}_proj."));
    }
    for part in ["gate", "up", "down"] {
        out = out.replace(&format!("ffn_{part}."), &format!("mlp.{part}_proj."));
    }
    out
}

#[test]
fn gguf_files_follow_from_the_model_they_were_made_of() {
    let Some(base) = safetensors("llama-small/base/model.safetensors") else {
        return;
    };
    for kind in ["f16", "q8_0", "q4_0", "q4_k_m"] {
        let Some(file) = gguf(&format!("llama-small/gguf-{kind}/model.gguf")) else {
            continue;
        };
        let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
        for (name, target) in &file {
            let Some(source) = base.get(&plain_name(name)) else {
                println!("no source for {name}");
                continue;
            };
            let view = match () {
                () if name.contains("attn_q.") => Gather::rotary_pairs(target.shape.rows, 16),
                () if name.contains("attn_k.") => Gather::rotary_pairs(target.shape.rows, 4),
                () => None,
            };
            let dtype = target.shape.dtype;
            let step = if dtype == source.shape.dtype {
                Step::Same
            } else if float::is_computable(dtype) {
                Step::Cast
            } else {
                Step::Quantise(Quantise::Ggml)
            };
            let recipe = Recipe::new(target.shape, vec![source.shape], view, step).unwrap();
            let tally = tallies
                .entry(dtype.name())
                .or_insert_with(|| Tally::new(dtype.name()));
            tally.add(recipe, &[source], target);
        }
        for tally in tallies.values() {
            print!("gguf-{kind} ");
            tally.tell();
            let exact = ["F16", "F32", "Q8_0", "Q4_0"].contains(&tally.what.as_str());
            assert!(!exact || tally.missed == 0);
        }
    }
}

#[test]
fn int8_rows_follow_from_the_model_they_were_made_of() {
    let Some(base) = safetensors("llama-small/base/model.safetensors") else {
        return;
    };
    let Some(file) = safetensors("llama-small/int8-perchannel/model.safetensors") else {
        return;
    };
    let mut tally = Tally::new("int8 by row");
    let mut given = Tally::new("int8 by row, scales given");
    for (name, target) in file
        .iter()
        .filter(|(_, target)| target.shape.dtype == DType::I8)
    {
        let source = &base[name];
        let int8 = |scale| {
            Step::Quantise(Quantise::Int8 {
                rounding: Rounding::HalfEven,
                meeting: Meeting::Divide,
                scale,
            })
        };
        let recipe =
            Recipe::new(target.shape, vec![source.shape], None, int8(Scale::OfRow)).unwrap();
        tally.add(recipe, &[source], target);
        let scales = &file[&format!("{name}_scale")];
        if scales.shape.dtype == DType::F32 {
            let sources = vec![source.shape, scales.shape];
            let recipe = Recipe::new(target.shape, sources, None, int8(Scale::ByRow)).unwrap();
            given.add(recipe, &[source, scales], target);
        }
    }
    tally.tell();
    given.tell();
    assert_eq!(tally.missed, 0);
}

#[test]
fn merged_adapters_follow_from_the_adapter() {
    for (group, merged) in [
        ("llama-small", "lora-merged"),
        ("llama-small", "lora2-merged"),
        ("llama-small", "lora3-merged"),
        ("smollm", "lora-merged"),
    ] {
        let Some(base) = safetensors(&format!("{group}/base/model.safetensors")) else {
            continue;
        };
        let adapter = merged.replace("-merged", "");
        let Some(lora) = safetensors(&format!("{group}/{adapter}/adapter_model.safetensors"))
            .or_else(|| safetensors(&format!("{group}/lora/adapter_model.safetensors")))
        else {
            continue;
        };
        let Some(file) = safetensors(&format!("{group}/{merged}/model.safetensors")) else {
            continue;
        };
        for candidate in Adapter::candidates(2.0, DType::Bf16, Form::ByOutput) {
            let mut tally = Tally::new(&format!(
                "{group}/{merged} {:?} {:?}",
                candidate.order, candidate.change
            ));
            for (name, target) in &file {
                let stem = format!("base_model.model.{}", name.trim_end_matches(".weight"));
                let (Some(a), Some(b)) = (
                    lora.get(&format!("{stem}.lora_A.weight")),
                    lora.get(&format!("{stem}.lora_B.weight")),
                ) else {
                    continue;
                };
                let source = &base[name];
                let shapes = vec![source.shape, a.shape, b.shape];
                let recipe =
                    Recipe::new(target.shape, shapes, None, Step::Adapter(candidate)).unwrap();
                tally.add(recipe, &[source, a, b], target);
            }
            tally.tell();
        }
    }
}

fn sample(tensor: &Tensor) -> Vec<f32> {
    let n = tensor.shape.elements() as usize;
    let mut values = vec![0.0; n];
    assert!(float::widen(tensor.shape.dtype, &tensor.bytes, &mut values));
    (0..65_536.min(n))
        .map(|i| values[i * n / 65_536.min(n)])
        .collect()
}

#[test]
fn merges_follow_from_their_parents() {
    let load = |name: &str| safetensors(&format!("llama-small/{name}/model.safetensors"));
    let (Some(base), Some(tuned), Some(lora)) =
        (load("base"), load("full-ft"), load("lora-merged"))
    else {
        return;
    };
    for merge in ["average", "task-arith", "slerp"] {
        let Some(file) = load(merge) else { continue };
        let mut tally = Tally::new(merge);
        let mut unfound = 0;
        let mut last: Option<Linear> = None;
        // The largest first: their coefficients serve the small ones that tell nothing.
        let mut targets: Vec<_> = file.iter().collect();
        targets.sort_by_key(|(_, target)| std::cmp::Reverse(target.bytes.len()));
        for (name, target) in targets {
            let all = [&base[name], &tuned[name], &lora[name]];
            let parents = if merge == "slerp" {
                &all[1..]
            } else {
                &all[..]
            };
            let samples: Vec<Vec<f32>> = parents.iter().map(|tensor| sample(tensor)).collect();
            let samples: Vec<&[f32]> = samples.iter().map(Vec::as_slice).collect();
            let found = Linear::find(target.shape.dtype, &sample(target), &samples);
            unfound += usize::from(found.is_none());
            let Some(linear) = found.or_else(|| last.clone()) else {
                continue;
            };
            last = Some(linear.clone());
            let shapes = parents.iter().map(|tensor| tensor.shape).collect();
            let recipe = Recipe::new(target.shape, shapes, None, Step::Linear(linear)).unwrap();
            tally.add(recipe, parents, target);
        }
        print!("{unfound} tensors without coefficients; ");
        tally.tell();
    }
}

#[test]
fn pruned_and_resized_models_are_gathered() {
    let load = |name: &str| safetensors(&format!("llama-small/{name}/model.safetensors"));
    let Some(base) = load("base") else { return };
    for kind in ["pruned-glu", "vocab-resized"] {
        let Some(file) = load(kind) else { continue };
        let mut tally = Tally::new(kind);
        let mut sizes = 0;
        for (name, target) in &file {
            let source = &base[name];
            if target.shape == source.shape {
                continue;
            }
            let row = |tensor: &Tensor| tensor.bytes.len() / tensor.shape.rows as usize;
            let view = if target.shape.cols == source.shape.cols {
                let mut index = RowIndex::new();
                index.add_source();
                source
                    .bytes
                    .chunks(row(source))
                    .for_each(|row| index.add_row(row));
                Gather::listed(
                    1,
                    index
                        .find(target.bytes.chunks(row(target)).map(row_hash))
                        .unwrap(),
                )
            } else {
                let rows = |tensor: &'_ Tensor| -> Vec<Vec<u8>> {
                    tensor
                        .bytes
                        .chunks(row(tensor))
                        .step_by(64)
                        .map(<[u8]>::to_vec)
                        .collect()
                };
                let (from, to) = (rows(source), rows(target));
                let slices = |rows: &'_ [Vec<u8>]| -> Vec<Vec<u8>> { rows.to_vec() };
                let (from, to) = (slices(&from), slices(&to));
                let from: Vec<&[u8]> = from.iter().map(Vec::as_slice).collect();
                let to: Vec<&[u8]> = to.iter().map(Vec::as_slice).collect();
                Gather::columns(columns(&from, &to, 2).unwrap())
            };
            let recipe =
                Recipe::new(target.shape, vec![source.shape], Some(view), Step::Same).unwrap();
            sizes += recipe.to_bytes().len();
            tally.add(recipe, &[source], target);
        }
        print!("{sizes} bytes of recipes; ");
        tally.tell();
    }
    // A list of one run says "the first rows": what an embedding with fewer rows needs.
    assert!(Runs::new([Run::of(0, 0, 1)]).is_ok());
}

#[test]
fn casts_are_exact() {
    for (from, to) in [
        ("llama-small/base", "llama-small/f16-cast"),
        ("llama-small/base", "llama-small/f32-cast"),
        ("minilm/base-f32", "minilm/base-bf16"),
        ("minilm/base-f32", "minilm/base-f16"),
        ("minilm/full-ft-f32", "minilm/full-ft-bf16"),
    ] {
        let load = |name: &str| safetensors(&format!("{name}/model.safetensors"));
        let (Some(from_file), Some(to_file)) = (load(from), load(to)) else {
            continue;
        };
        let mut tally = Tally::new(&format!("{from} to {to}"));
        for (name, target) in &to_file {
            let Some(source) = from_file
                .get(name)
                .filter(|s| s.shape.dtype != target.shape.dtype)
            else {
                continue;
            };
            let recipe = Recipe::new(target.shape, vec![source.shape], None, Step::Cast).unwrap();
            tally.add(recipe, &[source], target);
        }
        tally.tell();
        assert_eq!(tally.missed, 0);
    }
}
