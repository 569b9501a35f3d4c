//! Small cases of every predictor and of residual coding, as files that the second reader
//! (`tests/second_reader`) must come to the same bits from. `SPARSE_WRITE_GOLDEN` writes them;
//! they never change once a version of the format was released.
//!
//! May use: the library's public face.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use sparse_store::codec::residual::{Model, Prediction, Statistics, TensorShape};
use sparse_store::codec::{self, residual};
use sparse_store::flow::predicted::{self, Place};
use sparse_store::predict::adapter::{Adapter, Form, Order};
use sparse_store::predict::blockwise::{self, Blockwise, Rule, Search, Table};
use sparse_store::predict::gather::{Gather, Rows, Run, Runs};
use sparse_store::predict::linear::Linear;
use sparse_store::predict::low_rank::LowRank;
use sparse_store::predict::quantise::{Meeting, Quantise, Rounding, Scale};
use sparse_store::predict::{Recipe, Shape, Step};
use store_format::dtype::DType;
use store_format::ids::ChunkId;
use store_format::record::{Predictor, RecordHeader};

/// Marsaglia's xorshift.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 33) % end.max(1)
    }

    /// Elements like those of weights, among them zeros, infinities, NaN and any bits at all.
    fn elements(&mut self, dtype: DType, count: u64) -> Vec<u8> {
        let (block, width) = dtype.block();
        if block > 1 {
            let bytes = count / block * width;
            return (0..bytes).map(|_| self.next() as u8).collect();
        }
        let width = width as usize;
        let mut out = Vec::new();
        for _ in 0..count {
            let unit = (self.below(1 << 24) as f32 / f32::from(1u16 << 12) - 2048.0) / 4096.0;
            let value = match self.below(40) {
                0 => self.next(),
                1 => 0,
                _ => match dtype {
                    DType::F32 => unit.to_bits().into(),
                    DType::Bf16 => (unit.to_bits() >> 16).into(),
                    DType::F16 => {
                        u64::from(unit.to_bits() >> 31 << 15) | (0x3000 + self.below(0x800))
                    }
                    DType::F64 => f64::from(unit).to_bits(),
                    _ => self.next(),
                },
            };
            out.extend_from_slice(&value.to_le_bytes()[..width]);
        }
        out
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(out, "{byte:02x}").expect("a text takes all");
    }
    if out.is_empty() { "-".into() } else { out }
}

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("store-format/testdata")
}

/// The recorded cases of a file; where golden files are written, the given ones first.
fn recorded(name: &str, written: &str) -> String {
    let folder = testdata().join("vectors");
    if std::env::var_os("SPARSE_WRITE_GOLDEN").is_some() {
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(name), written).expect("a file");
    }
    fs::read_to_string(folder.join(name)).expect("the vectors are there")
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.trim_matches('-').as_bytes();
    let pairs = digits.chunks_exact(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16))
        .collect::<Result<_, _>>()
        .expect("hexadecimal")
}

const FLOATS: [DType; 6] = [
    DType::F32,
    DType::Bf16,
    DType::F16,
    DType::F64,
    DType::F8E4M3,
    DType::F8E5M2,
];

fn shape(dtype: DType, rows: u64, cols: u64) -> Shape {
    Shape { dtype, rows, cols }
}

/// The case of a recipe for some range, as a line of the file.
fn case(random: &mut Random, recipe: &Recipe, out: &mut String) {
    let target = recipe.target;
    let (block, bytes) = target.dtype.block();
    let blocks = target.elements() / block;
    let first = random.below(blocks);
    let count = 1 + random.below(blocks - first);
    let sources: Vec<Vec<u8>> = recipe
        .sources
        .iter()
        .map(|source| random.elements(source.dtype, source.elements()))
        .collect();
    let ranges = recipe
        .sources(first * block, count * block)
        .expect("a range of the tensor");
    let parts: Vec<&[u8]> = ranges
        .iter()
        .map(|range| &sources[range.source][range.start as usize..][..range.bytes as usize])
        .collect();
    let mut plain = vec![0; (count * bytes) as usize];
    recipe
        .predict(first * block, &parts, &mut plain)
        .expect("a prediction");
    let mut patterns = Vec::new();
    if recipe.has_patterns() && !matches!(recipe.step, Step::Same) {
        let mut found = vec![0_u32; count as usize];
        recipe
            .patterns(first, &parts, &mut found)
            .expect("patterns");
        patterns = found
            .iter()
            .flat_map(|pattern| pattern.to_le_bytes())
            .collect();
    }
    let fields = [&recipe.to_bytes(), &plain, &parts.concat(), &patterns].map(|bytes| hex(bytes));
    writeln!(out, "{} {}", first * block, fields.join(" ")).expect("a text takes all");
}

fn recipe(target: Shape, sources: Vec<Shape>, view: Option<Gather>, step: Step) -> Recipe {
    Recipe::new(target, sources, view, step).expect("shapes that fit")
}

fn runs(list: &[(u8, u64, u64)]) -> Runs {
    let run = |&(source, start, count): &(u8, u64, u64)| Run {
        source: (source != 255).then_some(source),
        start,
        count,
    };
    Runs::new(list.iter().map(run)).expect("runs")
}

fn views() -> Vec<(Shape, Vec<Shape>, Gather)> {
    let bf16 = |rows, cols| shape(DType::Bf16, rows, cols);
    let listed = runs(&[(1, 3, 2), (0, 5, 1), (255, 0, 2), (0, 0, 3)]);
    let cols = || Some(runs(&[(0, 4, 2), (0, 0, 1)]));
    vec![
        (
            bf16(8, 5),
            vec![bf16(9, 5), bf16(6, 5)],
            Gather::listed(2, listed.clone()),
        ),
        (
            bf16(8, 3),
            vec![bf16(9, 6), bf16(6, 6)],
            Gather {
                sources: 2,
                rows: Rows::Listed(listed),
                cols: cols(),
            },
        ),
        (
            bf16(7, 3),
            vec![bf16(7, 6)],
            Gather {
                sources: 1,
                rows: Rows::Same,
                cols: cols(),
            },
        ),
        (
            bf16(12, 5),
            vec![bf16(12, 5)],
            Gather {
                sources: 1,
                rows: Rows::Swap { a: 2, b: 3 },
                cols: None,
            },
        ),
        (
            bf16(12, 3),
            vec![bf16(12, 6)],
            Gather {
                sources: 1,
                rows: Rows::Swap { a: 3, b: 2 },
                cols: cols(),
            },
        ),
        (bf16(7, 9), vec![bf16(9, 7)], Gather::transposed()),
        (
            shape(DType::Q8_0, 4, 64),
            vec![shape(DType::Q8_0, 6, 64)],
            Gather::listed(1, runs(&[(0, 4, 2), (0, 1, 2)])),
        ),
    ]
}

#[test]
fn predictors_predict_the_same_bits_as_ever() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut out = String::new();
    for (target, sources, view) in views() {
        for _ in 0..2 {
            case(
                &mut random,
                &recipe(target, sources.clone(), Some(view.clone()), Step::Same),
                &mut out,
            );
        }
        if target.dtype == DType::Bf16 {
            let target = Shape {
                dtype: DType::F32,
                ..target
            };
            case(
                &mut random,
                &recipe(target, sources, Some(view), Step::Cast),
                &mut out,
            );
        }
    }
    for from in FLOATS {
        for to in FLOATS.into_iter().filter(|to| *to != from) {
            case(
                &mut random,
                &recipe(shape(to, 7, 9), vec![shape(from, 9, 7)], None, Step::Cast),
                &mut out,
            );
        }
    }
    computed(&mut random, &mut out);
    quantised(&mut random, &mut out);
    assert!(
        recorded("predictors.txt", &out) == out,
        "predictions changed"
    );
}

/// Codes of 4 bits and the scales of their blocks; the last block is cut short.
#[test]
fn predictions_of_blocks_are_those_of_the_vectors() {
    let mut random = Random(0xd1b5_4a32_d192_ed03);
    let (random, out) = (&mut random, &mut String::new());
    let base = |dtype| shape(dtype, 3, 111);
    let mut rules = Vec::new();
    for table in [Table::Nf4, Table::Fp4, Table::Nf4Means, Table::Fp4Means] {
        for meeting in [
            blockwise::Meeting::Divide,
            blockwise::Meeting::Reciprocal,
            blockwise::Meeting::BoundedReciprocal,
        ] {
            rules.push(Rule::Codes { table, meeting });
        }
    }
    for rule in rules {
        for (from, block) in [(DType::Bf16, 64), (DType::F32, 32), (DType::F16, 4096)] {
            let step = Step::Blockwise(Blockwise::new(rule, block).expect("a length"));
            let target = shape(DType::U8, 167, 1);
            case(random, &recipe(target, vec![base(from)], None, step), out);
        }
    }
    for (from, block) in [(DType::Bf16, 64), (DType::F32, 32), (DType::F16, 32)] {
        let step = Step::Blockwise(Blockwise::new(Rule::Largest, block).expect("a length"));
        let target = shape(DType::F32, 1, 333_u64.div_ceil(block));
        case(random, &recipe(target, vec![base(from)], None, step), out);
    }
    for (search, offset) in [
        (Search::Nearest, 0.0),
        (Search::Nearest, 0.45),
        (Search::Stepped, 0.45),
        (Search::Stepped, -1.5),
    ] {
        let rule = Rule::LargestCodes { search, offset };
        let step = Step::Blockwise(Blockwise::new(rule, 32).expect("a length"));
        let target = shape(DType::U8, 1, 11);
        let recipe = recipe(target, vec![base(DType::Bf16)], None, step);
        case(random, &recipe, out);
    }
    // More than 256 blocks, of elements of one byte to be short.
    for search in [Search::Nearest, Search::Stepped] {
        let rule = Rule::LargestCodes {
            search,
            offset: 0.45,
        };
        let step = Step::Blockwise(Blockwise::new(rule, 32).expect("a length"));
        let (base, target) = (shape(DType::F8E4M3, 9, 920), shape(DType::U8, 1, 259));
        case(random, &recipe(target, vec![base], None, step), out);
    }
    assert!(
        recorded("blockwise.txt", out) == *out,
        "predictions changed"
    );
}

/// The golden records are made by hand; this is the program's word on them.
#[test]
fn golden_records_of_every_predictor_come_to_their_ids() {
    let numbers: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0]
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    for predictor in [
        Predictor::LowRank,
        Predictor::Adapter,
        Predictor::Gather,
        Predictor::Cast,
        Predictor::Linear,
        Predictor::Quantise,
        Predictor::Blockwise,
    ] {
        let name = format!("v1/record-{}.bin", predictor.name());
        let record = fs::read(testdata().join(&name)).expect("a golden file");
        let header = RecordHeader::decode(&record).expect("a header of nothing coded");
        let recipe = &header.recipe;
        let (first, place) = predicted::parse_parameters(&recipe.predictor_parameters)
            .expect("parameters of the predictor");
        let Place::Inline(bytes) = place else {
            panic!("{name}: the recipe is not inline");
        };
        let tensor = Recipe::parse(bytes).expect("a recipe");
        assert_eq!(tensor.to_bytes(), bytes, "{name}");
        assert_eq!(predicted::predictor_of(&tensor), predictor);
        let mut sources = Vec::new();
        for part in recipe.sources.iter().flat_map(|view| &view.parts) {
            assert_eq!(part.chunk, ChunkId::of(&numbers), "{name}");
            sources.extend(&numbers[part.start as usize..][..part.bytes as usize]);
        }
        let bytes = header.plain_bytes;
        let prediction = predicted::predict(&tensor, first, &sources, bytes, recipe.coding)
            .expect("a prediction");
        let plain = codec::decode(
            recipe,
            &[],
            prediction.as_prediction(),
            None,
            bytes as usize,
        );
        let id = ChunkId::of(&plain.expect("the plain bytes"));
        assert_eq!(header.id, id.into(), "{name}");
    }
}

/// The steps that do arithmetic.
fn computed(random: &mut Random, out: &mut String) {
    for to in FLOATS {
        let three = vec![
            shape(DType::Bf16, 7, 9),
            shape(DType::F32, 9, 7),
            shape(to, 1, 63),
        ];
        let coefficients = vec![1.0 / 3.0, -0.25, 1.1];
        case(
            random,
            &recipe(
                shape(to, 7, 9),
                three,
                None,
                Step::Linear(Linear { coefficients }),
            ),
            out,
        );
    }
    for (order, change) in [
        (Order::Plain, DType::F32),
        (Order::Fused, DType::F32),
        (Order::Fused, DType::Bf16),
        (Order::Plain, DType::F16),
    ] {
        for form in [Form::ByOutput, Form::ByInput, Form::Decomposed] {
            let (inputs, outputs) = match form {
                Form::ByInput => (7, 9),
                Form::ByOutput | Form::Decomposed => (9, 7),
            };
            let mut factors = vec![shape(DType::F32, 3, inputs), shape(DType::Bf16, outputs, 3)];
            if form == Form::Decomposed {
                if change != DType::F32 {
                    continue; // The rounding of a change has its cases above.
                }
                factors.push(shape(DType::F16, 1, outputs));
            }
            let step = Step::Adapter(Adapter {
                scale: 0.7,
                order,
                change,
                form,
            });
            for to in [DType::Bf16, DType::F32, DType::F16] {
                let sources = [vec![shape(to, 7, 9)], factors.clone()].concat();
                case(
                    random,
                    &recipe(shape(to, 7, 9), sources, None, step.clone()),
                    out,
                );
            }
        }
    }
    let mut factors = |count: u64| {
        (0..count)
            .map(|_| random.below(127) as i8 - 63)
            .collect::<Vec<_>>()
    };
    let low = LowRank::new(2, 1e-4, factors(14), factors(18)).expect("factors");
    for to in FLOATS {
        let step = Step::LowRank(low.clone());
        case(
            random,
            &recipe(shape(to, 7, 9), vec![shape(DType::Bf16, 7, 9)], None, step),
            out,
        );
    }
}

fn quantised(random: &mut Random, out: &mut String) {
    for rounding in [Rounding::HalfEven, Rounding::HalfAway] {
        for meeting in [Meeting::Divide, Meeting::Reciprocal] {
            for scale in [
                Scale::OfRow,
                Scale::Whole(0.01),
                Scale::ByRow,
                Scale::ByColumn,
            ] {
                let mut sources = vec![shape(DType::F32, 7, 9)];
                match scale {
                    Scale::OfRow | Scale::Whole(_) => {}
                    Scale::ByRow => sources.push(shape(DType::F32, 7, 1)),
                    Scale::ByColumn => sources.push(shape(DType::F32, 1, 9)),
                }
                let step = Step::Quantise(Quantise::Int8 {
                    rounding,
                    meeting,
                    scale,
                });
                case(
                    random,
                    &recipe(shape(DType::I8, 7, 9), sources, None, step),
                    out,
                );
            }
        }
    }
    for to in [
        DType::Q4_0,
        DType::Q4_1,
        DType::Q5_0,
        DType::Q5_1,
        DType::Q8_0,
        DType::Q2K,
        DType::Q3K,
        DType::Q4K,
        DType::Q5K,
        DType::Q6K,
    ] {
        for from in [DType::F32, DType::Bf16, DType::F16] {
            let sides = |dtype| shape(dtype, 2, 256);
            case(
                random,
                &recipe(
                    sides(to),
                    vec![sides(from)],
                    None,
                    Step::Quantise(Quantise::Ggml),
                ),
                out,
            );
        }
    }
}

const CODED: [DType; 12] = [
    DType::Bf16,
    DType::F16,
    DType::F32,
    DType::F64,
    DType::F8E4M3,
    DType::F8E5M2,
    DType::F8E4M3Fnuz,
    DType::F8E5M2Fnuz,
    DType::Bool,
    DType::I16,
    DType::U32,
    DType::I64,
];

/// The base with small steps, some signs turned, some elements anywhere.
fn moved(random: &mut Random, dtype: DType, base: &[u8]) -> Vec<u8> {
    let width = dtype.block().1 as usize;
    let mut out = Vec::new();
    for element in base.chunks_exact(width) {
        let mut eight = [0; 8];
        eight[..width].copy_from_slice(element);
        let value = u64::from_le_bytes(eight);
        let value = match random.below(50) {
            0 => random.next(),
            1 => value ^ (1 << (8 * width - 1)),
            2..12 => value,
            12..20 => value.wrapping_add(200),
            _ => value.wrapping_add(random.below(7)).wrapping_sub(3),
        };
        out.extend_from_slice(&value.to_le_bytes()[..width]);
    }
    out
}

/// A chunk in the middle of a tensor, as a line of the file.
fn coded(
    random: &mut Random,
    dtype: DType,
    (rows, cols): (u64, u64),
    predicted: Option<bool>,
    out: &mut String,
) {
    let shape = TensorShape { dtype, rows, cols };
    let width = dtype.block().1 as usize;
    let mut base = random.elements(dtype, rows * cols);
    // Rows of their own scale, and runs of zeros.
    for (row, bytes) in base.chunks_exact_mut(cols as usize * width).enumerate() {
        if row % 7 == 6 {
            bytes.fill(0);
        }
    }
    let target = moved(random, dtype, &base);
    let fraction: Vec<u32> = (0..rows * cols)
        .map(|i| {
            let mut four = [0; 8];
            four[..width].copy_from_slice(&base[i as usize * width..][..width]);
            let raw = u64::from_le_bytes(four) as u32;
            let top = 1_u32 << (8 * width.min(4) - 1);
            let below = if width == 4 {
                raw & (top - 1)
            } else {
                (raw & (top - 1)) << 16 | random.below(1 << 16) as u32
            };
            (raw & top) << (31 - (8 * width.min(4) - 1)) | below
        })
        .collect();
    let view = |from: usize, to: usize| match predicted {
        None => Prediction::None,
        Some(false) => Prediction::Same(&base[from * width..to * width]),
        Some(true) => Prediction::Fraction(&fraction[from..to]),
    };
    let count = (rows * cols) as usize;
    let mut statistics =
        Statistics::new(shape, residual::Level::Max, predicted.is_some()).expect("a model");
    statistics.add(0, &target, view(0, count));
    let model = statistics.finish();
    let models = [
        Some(model),
        predicted.and_then(|_| Model::builtin(dtype, true)),
    ];
    for model in models.into_iter().flatten() {
        let first = random.below(rows * cols / 2) as usize;
        let last = first + 1 + random.below((count - first) as u64) as usize;
        let mut bytes = Vec::new();
        let plain = &target[first * width..last * width];
        residual::encode(&model, first as u64, plain, view(first, last), &mut bytes);
        let mut again = vec![0; plain.len()];
        residual::decode(&model, first as u64, &bytes, view(first, last), &mut again)
            .expect("its own bytes");
        assert!(again == plain);
        let prediction = match view(first, last) {
            Prediction::None => ("none", Vec::new()),
            Prediction::Same(base) => ("same", base.to_vec()),
            Prediction::Fraction(patterns) => (
                "patterns",
                patterns.iter().flat_map(|p| p.to_le_bytes()).collect(),
            ),
        };
        let (rows, cols) = if model.is_builtin() {
            (0, 0)
        } else {
            (rows, cols)
        };
        let fields = [&model.to_bytes(), &bytes, plain, &prediction.1].map(hex);
        writeln!(
            out,
            "{} {first} {rows} {cols} {} {}",
            dtype.number(),
            prediction.0,
            fields.join(" ")
        )
        .expect("a text takes all");
    }
}

#[test]
fn residuals_of_any_encoder_decode_to_the_same_bytes_as_ever() {
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut out = String::new();
    for dtype in CODED {
        for predicted in [None, Some(false), Some(true)] {
            let small = dtype.block().1 <= 4
                && residual::is_supported(dtype, true)
                && FLOATS.contains(&dtype);
            if predicted == Some(true) && !small {
                continue;
            }
            for sides in [(8, 20), (3, 5), (60, 2)] {
                coded(&mut random, dtype, sides, predicted, &mut out);
            }
        }
    }
    // An encoder may find shorter forms; what was once written must stay readable.
    let cases = recorded("residual.txt", &out);
    assert!(cases.lines().count() > 40, "the cases are there");
    for (number, line) in cases.lines().enumerate() {
        let words: Vec<&str> = line.split(' ').collect();
        let [
            dtype,
            first,
            rows,
            cols,
            kind,
            side,
            coded,
            plain,
            predicted,
        ] = words[..]
        else {
            panic!("line {number} is whole");
        };
        let count = |text: &str| text.parse::<u64>().expect("a number");
        let dtype = DType::from_number(dtype.parse().expect("a number")).expect("a type");
        let (rows, cols) = (count(rows), count(cols));
        let model = if rows == 0 {
            Model::builtin(dtype, true).expect("a model")
        } else {
            Model::parse(TensorShape { dtype, rows, cols }, &unhex(side)).expect("a model")
        };
        let predicted = unhex(predicted);
        let fours = predicted.as_chunks::<4>().0.iter();
        let patterns: Vec<u32> = fours.map(|four| u32::from_le_bytes(*four)).collect();
        let prediction = match kind {
            "none" => Prediction::None,
            "same" => Prediction::Same(&predicted),
            _ => Prediction::Fraction(&patterns),
        };
        let plain = unhex(plain);
        let mut found = vec![0; plain.len()];
        residual::decode(&model, count(first), &unhex(coded), prediction, &mut found)
            .expect("a recorded case");
        assert!(found == plain, "line {number} decodes to something else");
    }
}
