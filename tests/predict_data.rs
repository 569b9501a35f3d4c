//! Predictors on real models: how many bytes differ from what the tools wrote.
//!
//! Runs only where `SPARSE_DATA` names the folder of the test models; else every test passes
//! without looking. Prints its counts (`--nocapture`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use sparse_store::predict::adapter::{Adapter, Form};
use sparse_store::predict::gather::find::{RowIndex, columns, row_hash};
use sparse_store::predict::gather::{Gather, Run, Runs};
use sparse_store::predict::linear::Linear;
use sparse_store::predict::low_rank::fit::{Effort, fit};
use sparse_store::predict::quantise::{Meeting, Quantise, Rounding, Scale};
use sparse_store::predict::{Recipe, Shape, Step, float};
use store_format::dtype::DType;

struct Tensor {
    shape: Shape,
    bytes: Vec<u8>,
}

type Model = BTreeMap<String, Tensor>;

fn data(path: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("SPARSE_DATA")?).join(path);
    path.exists().then_some(path)
}

/// Just enough of safetensors for files that Python wrote.
fn safetensors(path: &str) -> Option<Model> {
    let file = std::fs::read(data(path)?).unwrap();
    let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let text = std::str::from_utf8(&file[8..8 + header]).unwrap();
    let body = &file[8 + header..];
    let mut model = Model::new();
    for part in text
        .split("},")
        .filter(|part| part.contains("data_offsets"))
    {
        let field = |name: &str| {
            let rest = &part[part.find(name).unwrap() + name.len() + 2..];
            rest[..rest.find(']').unwrap_or(rest.len())]
                .trim_start_matches('[')
                .to_string()
        };
        let numbers = |name| -> Vec<u64> {
            field(name)
                .split(',')
                .filter_map(|n| n.trim().parse().ok())
                .collect()
        };
        let name = part.split('"').nth(1).unwrap().to_string();
        let dtype = part
            .split("\"dtype\":\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        let dims = numbers("shape");
        let offsets = numbers("data_offsets");
        let cols = dims.last().copied().unwrap_or(1);
        let rows = dims.iter().rev().skip(1).product();
        let shape = Shape {
            dtype: DType::from_name(dtype).unwrap(),
            rows,
            cols,
        };
        let bytes = body[offsets[0] as usize..offsets[1] as usize].to_vec();
        model.insert(name, Tensor { shape, bytes });
    }
    Some(model)
}

/// Just enough of GGUF version 3.
fn gguf(path: &str) -> Option<Model> {
    struct Cursor<'a>(&'a [u8], usize);
    impl Cursor<'_> {
        fn take(&mut self, n: usize) -> &[u8] {
            self.1 += n;
            &self.0[self.1 - n..self.1]
        }
        fn u32(&mut self) -> u32 {
            u32::from_le_bytes(self.take(4).try_into().unwrap())
        }
        fn u64(&mut self) -> u64 {
            u64::from_le_bytes(self.take(8).try_into().unwrap())
        }
        fn text(&mut self) -> String {
            let n = self.u64() as usize;
            String::from_utf8_lossy(self.take(n)).into_owned()
        }
        fn skip(&mut self, kind: u32) {
            match kind {
                0 | 1 | 7 => self.1 += 1,
                2 | 3 => self.1 += 2,
                4..=6 => self.1 += 4,
                8 => drop(self.text()),
                9 => {
                    let kind = self.u32();
                    for _ in 0..self.u64() {
                        self.skip(kind);
                    }
                }
                _ => self.1 += 8,
            }
        }
    }
    let file = std::fs::read(data(path)?).unwrap();
    let mut at = Cursor(&file, 8);
    let (tensors, pairs) = (at.u64(), at.u64());
    for _ in 0..pairs {
        at.text();
        let kind = at.u32();
        at.skip(kind);
    }
    let mut found = Vec::new();
    for _ in 0..tensors {
        let name = at.text();
        let dims: Vec<u64> = (0..at.u32()).map(|_| at.u64()).collect();
        let dtype = match at.u32() {
            0 => DType::F32,
            1 => DType::F16,
            2 => DType::Q4_0,
            8 => DType::Q8_0,
            12 => DType::Q4K,
            14 => DType::Q6K,
            other => panic!("type {other}"),
        };
        let shape = Shape {
            dtype,
            rows: dims[1..].iter().product(),
            cols: dims[0],
        };
        found.push((name, shape, at.u64() as usize));
    }
    let start = at.1.next_multiple_of(32);
    let mut model = Model::new();
    for (name, shape, offset) in found {
        let bytes = shape.dtype.bytes_of(shape.elements()).unwrap() as usize;
        let bytes = file[start + offset..start + offset + bytes].to_vec();
        model.insert(name, Tensor { shape, bytes });
    }
    Some(model)
}

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

/// Bits that the differences to a prediction cost in the context of the exponent and the row's
/// scale: what a coder with such contexts comes near to.
fn cost(
    patterns: &[u32],
    target: &[u8],
    cols: usize,
    totals: &mut BTreeMap<(i32, u32), BTreeMap<i32, u64>>,
) -> f64 {
    let mut raw = 0.0;
    for (patterns, target) in patterns.chunks(cols).zip(target.chunks(cols * 2)) {
        let elements: Vec<(u32, u32)> = patterns
            .iter()
            .zip(target.as_chunks::<2>().0)
            .map(|(&p, &t)| (p, u32::from(u16::from_le_bytes(t))))
            .collect();
        let value = |x: u32| f32::from_bits(x);
        let scale: f32 = elements
            .iter()
            .map(|&(p, t)| (value(t << 16) - value(p)).abs())
            .sum::<f32>()
            / cols as f32;
        let row = ((scale.max(1e-30)).log2() * 2.0).round() as i32;
        for (p, t) in elements {
            let x = p & 0x7FFF_FFFF;
            let ip = ((x + 0x8000) >> 16) as i32;
            let fr = ((x + 0x8000) & 0xFFFF) as i32 - 0x8000;
            let c0 = (row - 2 * (x >> 23) as i32 + 254).clamp(-14, 18);
            let c1 = (fr.unsigned_abs() >> 13).min(3);
            let d = (t & 0x7FFF) as i32 - ip;
            let d = if fr < 0 { -d } else { d };
            let flipped = (t >> 15) != (p >> 31);
            let symbol = if flipped {
                raw += 7.0;
                1000 + ((t & 0x7FFF) as i32 >> 7)
            } else if d.abs() < 8 {
                d
            } else {
                let octave = 31 - d.unsigned_abs().leading_zeros() as i32;
                raw += f64::from(octave);
                d.signum() * (100 + octave)
            };
            *totals
                .entry((c0, c1))
                .or_default()
                .entry(symbol)
                .or_default() += 1;
        }
        raw += 5.0;
    }
    raw
}

fn entropy(totals: &BTreeMap<(i32, u32), BTreeMap<i32, u64>>) -> f64 {
    totals
        .values()
        .map(|counts| {
            let all: u64 = counts.values().sum();
            counts
                .values()
                .map(|&n| -(n as f64) * (n as f64 / all as f64).log2())
                .sum::<f64>()
        })
        .sum()
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "a measurement read from top to bottom"
)]
fn low_rank_pays_on_real_changes() {
    for (from, to, most) in [
        ("llama-small/base", "llama-small/full-ft", 32),
        ("llama-small/ckpt-series/1", "llama-small/ckpt-series/2", 32),
        ("llama-small/base", "llama-small/lora-merged", 32),
        ("minilm/base-bf16", "minilm/full-ft-bf16", 32),
        ("minilm/ckpt-a-bf16", "minilm/ckpt-b-bf16", 32),
        ("smollm/base", "smollm/full-ft", 32),
        ("smollm/base", "smollm/lora-merged", 32),
    ] {
        let load = |name: &str| safetensors(&format!("{name}/model.safetensors"));
        let (Some(base), Some(file)) = (load(from), load(to)) else {
            continue;
        };
        let (mut plain_bits, mut low_bits, mut factor_bytes, mut zstd_bytes, mut factor_bits) =
            (0.0, 0.0, 0, 0, 0.0);
        let (mut fit_time, mut fill_time, mut bytes) = (0.0, 0.0, 0);
        let mut ranks: BTreeMap<usize, usize> = BTreeMap::new();
        for (name, target) in &file {
            let source = &base[name];
            let (rows, cols) = (target.shape.rows as usize, target.shape.cols as usize);
            bytes += target.bytes.len();
            let same = Recipe::new(target.shape, vec![source.shape], None, Step::Same).unwrap();
            let mut patterns = vec![0; rows * cols];
            same.patterns(0, &[&source.bytes], &mut patterns).unwrap();
            let mut totals = BTreeMap::new();
            let raw = cost(&patterns, &target.bytes, cols, &mut totals);
            let plain = raw + entropy(&totals);
            plain_bits += plain;
            let start = Instant::now();
            let mut spare = vec![0.0; cols];
            let effort = Effort {
                rank: most,
                ..Effort::DEFAULT
            };
            let found = fit(rows, cols, &effort, None, |row, out| -> Result<(), ()> {
                let span = row * cols * 2..(row + 1) * cols * 2;
                assert!(float::widen(DType::Bf16, &target.bytes[span.clone()], out));
                assert!(float::widen(DType::Bf16, &source.bytes[span], &mut spare));
                for (out, base) in out.iter_mut().zip(&spare) {
                    let change = *out - base;
                    *out = if change.is_finite() { change } else { 0.0 };
                }
                Ok(())
            })
            .unwrap();
            fit_time += start.elapsed().as_secs_f64();
            let Some(found) = found else {
                low_bits += plain;
                continue;
            };
            let mut bits = 0.0;
            for k in 0..found.rank() {
                let a: Vec<i8> = found
                    .a()
                    .iter()
                    .skip(k)
                    .step_by(found.rank())
                    .copied()
                    .collect();
                for part in [&a[..], &found.b()[k * cols..(k + 1) * cols]] {
                    let mut counts: BTreeMap<i8, u64> = BTreeMap::new();
                    part.iter()
                        .for_each(|&x| *counts.entry(x).or_default() += 1);
                    let n = part.len() as f64;
                    bits += 16.0
                        + counts
                            .values()
                            .map(|&c| -(c as f64) * (c as f64 / n).log2())
                            .sum::<f64>();
                }
            }
            let rank = found.rank();
            let recipe =
                Recipe::new(target.shape, vec![source.shape], None, Step::LowRank(found)).unwrap();
            let start = Instant::now();
            recipe.patterns(0, &[&source.bytes], &mut patterns).unwrap();
            fill_time += start.elapsed().as_secs_f64();
            let mut totals = BTreeMap::new();
            let low = cost(&patterns, &target.bytes, cols, &mut totals) + entropy(&totals);
            if low + bits >= plain {
                low_bits += plain;
                *ranks.entry(0).or_default() += 1;
                continue;
            }
            *ranks.entry(rank).or_default() += 1;
            low_bits += low;
            factor_bits += bits;
            let coded = recipe.to_bytes();
            factor_bytes += coded.len();
            zstd_bytes += zstd::bulk::compress(&coded, 19).unwrap().len();
        }
        let share = |bits: f64| bits / 8.0 / bytes as f64;
        println!(
            "{to} on {from}: rank 0 {:.4}, low rank {:.4} + factors {:.4} (as bytes {:.4}, zstd {:.4}); fit {:.2} ns, fill {:.2} ns an element; ranks {ranks:?}",
            share(plain_bits),
            share(low_bits),
            share(factor_bits),
            share(factor_bytes as f64 * 8.0),
            share(zstd_bytes as f64 * 8.0),
            fit_time * 2e9 / bytes as f64,
            fill_time * 2e9 / bytes as f64,
        );
        assert!(low_bits + factor_bits <= plain_bits);
    }
}
