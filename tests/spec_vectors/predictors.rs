//! Cases of every predictor: ranges of small tensors, and what they are predicted to be.

use std::fmt::Write;

use sparse_store::predict::adapter::{Adapter, Form, Order};
use sparse_store::predict::blockwise::{self, Blockwise, Rule, Search, Table};
use sparse_store::predict::gather::{Gather, Rows, Run, Runs};
use sparse_store::predict::linear::Linear;
use sparse_store::predict::low_rank::LowRank;
use sparse_store::predict::quantise::{Meeting, Quantise, Rounding, Scale};
use sparse_store::predict::{Recipe, Shape, Step};
use store_format::dtype::DType;

use crate::{FLOATS, Random, hex, recorded};

fn shape(dtype: DType, rows: u64, cols: u64) -> Shape {
    Shape { dtype, rows, cols }
}

/// The case of a recipe for some range, as a line of the file.
fn case(random: &mut Random, recipe: &Recipe, out: &mut String) {
    let target = recipe.target;
    let blocks = target.elements() / target.dtype.block().0;
    let first = random.below(blocks);
    let count = 1 + random.below(blocks - first);
    let sources: Vec<Vec<u8>> = recipe
        .sources
        .iter()
        .map(|source| random.elements(source.dtype, source.elements()))
        .collect();
    write_case(recipe, first, count, &sources, out);
}

/// `count` blocks from block `first` on, of whole sources.
fn write_case(recipe: &Recipe, first: u64, count: u64, sources: &[Vec<u8>], out: &mut String) {
    let (block, bytes) = recipe.target.dtype.block();
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

/// Blocks of values that no scale fits, or only one whose inverse is infinite.
#[test]
fn predictions_of_odd_values_are_those_of_the_vectors() {
    let out = &mut String::new();
    for to in [DType::Q8_0, DType::Q4_0, DType::Q4K, DType::Q6K] {
        let sides = |dtype| shape(dtype, 2, 256);
        let small = (0..256_i16).map(|i| f32::from(i % 17 - 8) * 1e-38);
        let odd = (0..256_i16).map(|i| match i % 64 {
            0 => f32::NAN,
            40 if i > 128 => f32::INFINITY,
            41 if i > 192 => f32::NEG_INFINITY,
            _ => f32::from(i % 23 - 11) / 8.0,
        });
        let bytes = small.chain(odd).flat_map(f32::to_le_bytes).collect();
        let recipe = recipe(
            sides(to),
            vec![sides(DType::F32)],
            None,
            Step::Quantise(Quantise::Ggml),
        );
        write_case(&recipe, 0, 512 / to.block().0, &[bytes], out);
    }
    assert!(
        recorded("odd-values.txt", out) == *out,
        "predictions changed"
    );
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
