//! What is changed in right records of predictors, so that each must be refused.

use super::*;

pub const EVERY: Changes = &[
    ("in a side chunk that is itself", |d| d.at = At::Itself),
    ("in a side chunk beyond the last", |d| d.at = At::NoNumber),
    ("without parameters", |d| d.parameters = Vec::clear),
    ("without its place", |d| d.parameters = |p| p.truncate(1)),
    ("cut short", |d| d.bytes = |b| b.truncate(b.len() - 1)),
    ("of its number alone", |d| d.bytes = |b| b.truncate(1)),
    ("of nothing", |d| d.bytes = Vec::clear),
    ("with a byte too many", |d| d.bytes = |b| b.push(0)),
    ("with a byte too many in a side chunk", |d| {
        d.at = At::Side;
        d.bytes = |b| b.push(0);
    }),
    ("beside a side chunk", |d| {
        d.at = At::Side;
        d.parameters = |p| p.push(0);
    }),
    ("of an unknown step", |d| d.step = 7),
    ("of an unknown dtype", |d| d.target[0] = 99),
    ("with an unknown flag", |d| {
        d.bytes = |b| b.iter_mut().skip(1).for_each(|byte| *byte |= 128);
    }),
    ("without sources", |d| d.shapes.clear()),
    ("of 65 sources", |d| d.shapes = vec![d.shapes[0]; 65]),
    ("with a source that nobody needs", |d| {
        d.shapes.push(d.shapes[0]);
    }),
    ("with an element 2^64 - 1", |d| d.first = u64::MAX),
    ("with an element behind the last", |d| d.first = 64),
    ("with an element too far", |d| {
        d.first = d.target[1] * d.target[2] - 1
    }),
    ("with a number of eleven bytes", |d| {
        d.parameters = |p| drop(p.splice(..1, [0xff; 11]));
    }),
    ("with a number longer than needed", |d| {
        d.parameters = |p| drop(p.splice(..1, [0x80, 0]));
    }),
    ("of 2^64 rows", |d| d.target[1] = u64::MAX),
    ("of 2^64 columns", |d| d.target[2] = u64::MAX),
    ("of 2^32 by 2^32 elements", |d| {
        d.target[1..].fill(1 << 32);
    }),
    ("with a source of 2^40 by 2^40 elements", |d| {
        d.shapes[0][1..].fill(1 << 40);
    }),
    ("of no rows", |d| d.target[1] = 0),
    ("of no columns", |d| d.target[2] = 0),
    ("of another predictor", |d| {
        d.predictor = match d.predictor {
            Predictor::Cast => Predictor::Linear,
            _ => Predictor::Cast,
        };
    }),
    ("with too few source bytes", |d| {
        d.sources.pop();
    }),
    ("with too many source bytes", |d| d.sources.push(0)),
    ("with a second view", |d| d.views = |view| vec![view; 2]),
    ("with a view that is empty", |d| {
        d.views = |_| vec![View::default()]
    }),
    ("with 256 MiB of zeros as sources", |d| {
        d.views = |_| {
            let parts = vec![Part::zeros(64 << 20); 4];
            vec![View { parts }]
        };
    }),
    ("with 256 views of zeros", |d| {
        d.views = |_| {
            let parts = vec![Part::zeros(1 << 20)];
            vec![View { parts }; 256]
        };
    }),
    ("with no block's bytes", |d| d.plain.push(0)),
    ("of other bytes", |d| d.plain[0] ^= 1),
];

pub const LOW_RANK: Changes = &[
    ("of rank 0", |d| d.rest[0] = 0),
    ("of rank 0 without factors", |d| {
        d.rest.truncate(5);
        d.rest[0] = 0;
    }),
    ("of rank 3 with factors of rank 2", |d| d.rest[0] = 3),
    ("of rank 65", |d| {
        d.rest[0] = 65;
        d.rest.truncate(5);
        d.rest.resize(5 + 65 * 7, 1);
    }),
    ("of rank 255 and 2^50 rows", |d| {
        d.rest[0] = 255;
        d.target = [BF16, 1 << 50, 1];
        d.shapes[0] = d.target;
    }),
    ("of step 0", |d| d.rest[1..5].fill(0)),
    ("of step -1", |d| {
        d.rest.splice(1..5, floats(&[-1.0])).for_each(drop)
    }),
    ("of an infinite step", |d| {
        d.rest.splice(1..5, floats(&[f32::INFINITY])).for_each(drop);
    }),
    ("of a step that is no number", |d| {
        d.rest.splice(1..5, floats(&[f32::NAN])).for_each(drop);
    }),
    ("with an entry of 64", |d| d.rest[5] = 64),
    ("with an entry of -128", |d| d.rest[18] = 128),
    ("with a factor too short", |d| d.rest.truncate(17)),
    ("with a factor too long", |d| d.rest.extend([1, 1])),
    ("of whole numbers", |d| d.target[0] = 4),
    ("on packed elements", |d| d.shapes[0] = [F4, 3, 4]),
    ("on two sources", |d| d.shapes.push([BF16, 3, 4])),
    ("as patterns that are noise", |d| {
        d.coding = Coding::Residual;
        d.coding_parameters = vec![10, 0, 0, 0];
        d.coded = vec![0x77; 40];
    }),
    ("as patterns of another dtype", |d| {
        d.coding = Coding::Residual;
        d.coding_parameters = vec![11, 0, 0, 0];
        d.coded = vec![0; 9];
    }),
];

pub const ADAPTER: Changes = &[
    ("of rank 0", |d| {
        d.shapes[1] = [F32, 0, 3];
        d.shapes[2] = [F32, 2, 0];
        d.sources.truncate(24);
    }),
    ("of rank 4097", |d| {
        d.shapes[1] = [F32, 4097, 3];
        d.shapes[2] = [F32, 2, 4097];
        d.sources.resize(24 + 4 * 4097 * 5, 0);
    }),
    ("of rank 4096 with few factors", |d| {
        d.shapes[1] = [F32, 4096, 3];
        d.shapes[2] = [F32, 2, 4096];
    }),
    ("of two ranks", |d| d.shapes[1][1] = 3),
    ("with a factor for other inputs", |d| d.shapes[1][2] = 4),
    ("with a factor for other outputs", |d| d.shapes[2][1] = 3),
    ("with its factors exchanged", |d| d.shapes.swap(1, 2)),
    ("with one factor", |d| {
        d.shapes.pop();
    }),
    ("with three factors", |d| d.shapes.push([F32, 2, 2])),
    ("with a factor of whole numbers", |d| d.shapes[1][0] = 5),
    ("with a factor of 2^48 bytes", |d| {
        d.target = [F32, 2, 1 << 36];
        d.shapes = vec![d.target, [F32, 4096, 1 << 36], [F32, 2, 4096]];
    }),
    ("with factors of 2^28 bytes and more in zeros", |d| {
        d.target = [14, 2, 1 << 16];
        d.shapes = vec![d.target, [14, 4096, 1 << 16], [14, 2, 4096]];
        d.plain = vec![0; 1];
        d.views = |_| {
            let parts = vec![Part::zeros(64 << 20); 4];
            vec![View { parts }]
        };
    }),
    ("of 2^33 products", |d| {
        d.target = [14, 1024, 2048];
        d.shapes = vec![d.target, [14, 4096, 2048], [14, 1024, 4096]];
        d.plain = vec![0; 1 << 21];
        d.views = |_| {
            let parts = vec![Part::zeros((2 << 20) + (8 << 20) + (4 << 20))];
            vec![View { parts }]
        };
    }),
    ("of an infinite scale", |d| {
        d.rest.splice(..4, floats(&[f32::INFINITY])).for_each(drop);
    }),
    ("of a scale that is no number", |d| {
        d.rest.splice(..4, floats(&[f32::NAN])).for_each(drop);
    }),
    ("in an unknown order", |d| d.rest[4] = 2),
    ("with a change of whole numbers", |d| d.rest[5] = 1),
    ("with a change of no dtype", |d| d.rest[5] = 255),
    ("of an unknown form", |d| d.rest[6] = 3),
    ("decomposed without magnitudes", |d| d.rest[6] = 2),
];

pub const DECOMPOSED: Changes = &[
    ("without magnitudes", |d| {
        d.shapes.pop();
    }),
    ("with a magnitude for each input", |d| d.shapes[3][2] = 3),
    ("with magnitudes of whole numbers", |d| d.shapes[3][0] = 5),
    ("with magnitudes and of form 0", |d| d.rest[6] = 0),
    ("with rows of 2^20 + 1 elements", |d| {
        d.target = [14, 1, (1 << 20) + 1];
        d.shapes = vec![d.target, d.target, [14, 1, 1], [14, 1, 1]];
        d.plain = vec![0; 1];
        d.views = |_| {
            let parts = vec![Part::zeros((2 << 20) + 4)];
            vec![View { parts }]
        };
    }),
];

pub const LISTED: Changes = &[
    ("behind its source", |d| {
        d.view = listed(1, 2, &[8, 1, 14, 6])
    }),
    ("past the end of its source", |d| {
        d.view = listed(1, 1, &[12, 3]);
    }),
    ("at row 2^62", |d| {
        d.view = listed(1, 1, &[u64::MAX >> 1 & !3, 3])
    }),
    ("at row 2^64 - 1", |d| {
        d.view = listed(1, 1, &[u64::MAX, 0, 3])
    }),
    ("before row 0", |d| d.view = listed(1, 2, &[8, 1, 18, 1])),
    ("of a run of 2^64 - 1 rows", |d| {
        d.view = listed(1, 1, &[0, u64::MAX])
    }),
    ("of a run of 2^50 rows", |d| {
        d.view = listed(1, 1, &[0, (1 << 50) - 1])
    }),
    ("of more rows than the target", |d| {
        d.view = listed(1, 2, &[8, 1, 14, 2]);
    }),
    ("of fewer rows than the target", |d| {
        d.view = listed(1, 2, &[8, 1, 14, 0]);
    }),
    ("of no runs", |d| d.view = listed(1, 0, &[])),
    ("of 2^64 - 1 runs", |d| {
        d.view = listed(1, u64::MAX, &[8, 1])
    }),
    ("of a million runs in two", |d| {
        d.view = listed(1, 1 << 20, &[8, 1, 14, 1]);
    }),
    ("of 30 million runs", |d| {
        // A byte of 4, again and again, is a gap of one row and a run of five.
        let runs = 30_000_000;
        let list = vec![4; 2 * runs as usize];
        d.view = Some([vec![1, 2], number(runs), list, vec![0]].concat());
        d.target = [U8, 5 * runs, 1];
        d.shapes[0] = [U8, 6 * runs, 1];
        d.at = At::Side;
    }),
    ("of another source than any", |d| {
        d.view = listed(1, 2, &[8, 1, 15, 3, 1]);
    }),
    ("of source 0 of none", |d| {
        d.view.as_mut().expect("a view")[0] = 0
    }),
    ("of two sources where one is", |d| {
        d.view.as_mut().expect("a view")[0] = 2;
    }),
    ("of 65 sources", |d| {
        d.view.as_mut().expect("a view")[0] = 65
    }),
    ("that say twice that they move", |d| {
        d.view = listed(1, 2, &[9, 0, 1, 14, 1]);
    }),
    ("in two runs that are one", |d| {
        d.view = listed(1, 2, &[8, 1, 0, 1])
    }),
    ("in another row length", |d| d.shapes[0][2] = 4),
    ("of another dtype", |d| d.shapes[0][0] = I8),
    ("of unknown rows", |d| d.view = Some(vec![1, 4, 0])),
    ("that sum to 2^64 source bytes", |d| {
        // Row 0 again and again, one column of it.
        let rows = 1 << 14;
        let list = [vec![0, 0], [2, 0].repeat(rows - 1)].concat();
        d.view = Some([vec![1, 2], number(rows as u64), list, vec![1, 1, 0, 0]].concat());
        d.target = [F64, rows as u64, 1];
        d.shapes[0] = [F64, 1, 1 << 47];
        d.plain = vec![0; rows * 8];
    }),
];

pub const TRANSPOSED: Changes = &[
    ("of the same sides", |d| d.shapes[0] = [U8, 3, 4]),
    ("with a choice of columns", |d| {
        d.view = Some(vec![1, 3, 1, 1, 0, 3])
    }),
    ("of two sources", |d| {
        d.view = Some(vec![2, 3, 0]);
        d.shapes.push(d.shapes[0]);
    }),
    ("of packed elements", |d| {
        d.target[0] = F4;
        d.shapes[0] = [F4, 4, 3];
    }),
    ("of 2^40 columns in two bytes", |d| {
        d.target = [U8, 3, 1 << 40];
        d.shapes[0] = [U8, 1 << 40, 3];
        d.first = (1 << 40) - 1;
        d.plain.truncate(2);
    }),
    ("of 2^21 columns in two bytes", |d| {
        d.target = [U8, 3, 1 << 21];
        d.shapes[0] = [U8, 1 << 21, 3];
        d.first = (1 << 21) - 1;
        d.plain.truncate(2);
        d.sources.resize(2 << 21, 0);
        d.plain.fill(0);
    }),
];

pub const SWAPPED: Changes = &[
    ("by nothing", |d| d.view = Some(vec![1, 1, 0, 2, 0])),
    ("by what does not divide", |d| {
        d.view = Some(vec![1, 1, 3, 2, 0])
    }),
    ("by 2^32 times 2^32", |d| {
        d.view = Some([vec![1, 1], numbers(&[1 << 32, 1 << 32]), vec![0]].concat());
    }),
    ("by 2^64 - 1", |d| {
        d.view = Some([vec![1, 1], numbers(&[u64::MAX, u64::MAX]), vec![0]].concat());
    }),
    ("in groups of 2^40 rows", |d| {
        d.view = Some([vec![1, 1], numbers(&[1 << 20, 1 << 20]), vec![0]].concat());
        d.target = [U8, 1 << 40, 3];
        d.shapes[0] = d.target;
    }),
    ("of other rows than the target's", |d| {
        d.shapes[0] = [U8, 8, 3]
    }),
];

pub const COLUMNS: Changes = &[
    ("behind the last", |d| d.view = Some(vec![1, 0, 1, 1, 8, 1])),
    ("of no source", |d| {
        d.view = Some(vec![1, 0, 1, 1, 1, 255, 1])
    }),
    ("of another source", |d| {
        d.view = Some(vec![1, 0, 1, 1, 5, 1, 1])
    }),
    ("of none", |d| d.view = Some(vec![1, 0, 1, 0])),
    ("left out", |d| d.view = Some(vec![1, 0, 0])),
    ("with an unknown flag", |d| {
        d.view = Some(vec![1, 0, 2, 1, 4, 1])
    }),
    ("of a row of 2^50 bytes", |d| {
        let run = number((1 << 49) - 1);
        d.view = Some([vec![1, 0, 1, 1, 0], run].concat());
        d.target = [U8, 1, 1 << 49];
        d.shapes[0] = [U8, 1, 1 << 50];
    }),
];

pub const CAST: Changes = &[
    ("to the same dtype", |d| d.target[0] = F32),
    ("to whole numbers", |d| d.target[0] = 4),
    ("from whole numbers", |d| d.shapes[0][0] = 5),
    ("from blocks", |d| {
        d.shapes[0] = [Q8_0, 1, 32];
        d.target = [BF16, 1, 32];
    }),
    ("from fewer elements", |d| d.shapes[0][1] = 1),
    ("from more elements", |d| d.shapes[0][2] = 8),
];

pub const LINEAR: Changes = &[
    ("of more coefficients than sources", |d| {
        d.rest = [vec![3], 0.25_f64.to_le_bytes().repeat(3)].concat();
    }),
    ("of fewer coefficients than sources", |d| {
        d.rest = [vec![1], 0.25_f64.to_le_bytes().to_vec()].concat();
    }),
    ("of no coefficients", |d| d.rest = vec![0]),
    ("of 2^64 - 1 coefficients", |d| d.rest = number(u64::MAX)),
    ("of an infinite coefficient", |d| {
        d.rest[1..9].copy_from_slice(&f64::INFINITY.to_le_bytes());
    }),
    ("of a coefficient that is no number", |d| {
        d.rest[9..].copy_from_slice(&f64::NAN.to_le_bytes());
    }),
    ("of sources of other lengths", |d| d.shapes[1] = [F32, 5, 1]),
    ("of whole numbers", |d| d.shapes[1][0] = 5),
    ("with a view", |d| d.view = listed(1, 1, &[0, 1])),
    ("of 64 sources of 16 MiB", |d| {
        let elements = 1 << 22;
        d.target = [BF16, 1, elements];
        d.shapes = vec![[F32, 1, elements]; 64];
        d.rest = [vec![64], 0.5_f64.to_le_bytes().repeat(64)].concat();
        d.plain = vec![0; 2 * elements as usize];
    }),
];

pub const BLOCKS: Changes = &[
    ("by an unknown rule", |d| d.rest[0] = 2),
    ("by a rule of bytes", |d| d.rest = vec![1, 0, 0, 0]),
    ("of a type without a rule", |d| {
        d.target = [IQ2_XXS, 1, 256];
        d.shapes[0] = [F32, 1, 256];
    }),
    ("of floats", |d| d.target[0] = BF16),
    ("of a row that is no whole block", |d| {
        d.target = [Q8_0, 2, 33];
        d.shapes[0] = [F32, 2, 33];
    }),
    ("of fewer elements than a block", |d| {
        d.target = [Q8_0, 1, 16];
        d.shapes[0] = [F32, 1, 16];
    }),
    ("from whole numbers", |d| d.shapes[0][0] = 5),
    ("with scales", |d| d.shapes.push([F32, 1, 32])),
    ("from an element within a block", |d| {
        d.first = 16;
        d.plain.truncate(34);
        d.sources.truncate(128);
    }),
    ("with half a block", |d| {
        d.plain.truncate(17);
        d.sources.truncate(64);
    }),
];

pub const INT8: Changes = &[
    ("by an unknown rule", |d| d.rest[0] = 255),
    ("of an unknown rounding", |d| d.rest[1] = 2),
    ("with an unknown use of its scale", |d| d.rest[2] = 2),
    ("with an unknown scale", |d| d.rest[3] = 4),
    ("with an infinite scale", |d| {
        d.rest.splice(4.., floats(&[f32::INFINITY])).for_each(drop);
    }),
    ("with a scale that is no number", |d| {
        d.rest.splice(4.., floats(&[f32::NAN])).for_each(drop);
    }),
    ("without the scales that it names", |d| {
        d.rest = vec![1, 0, 0, 2]
    }),
    ("with scales of another length", |d| {
        d.rest = vec![1, 0, 0, 2];
        d.shapes.push([F32, 1, 3]);
        d.sources.extend(floats(&[1.0; 3]));
    }),
    ("with scales of another dtype", |d| {
        d.rest = vec![1, 0, 0, 3];
        d.shapes.push([BF16, 1, 4]);
        d.sources.extend(bf16(4));
    }),
    ("of whole rows of 2^40 elements", |d| {
        d.rest = vec![1, 0, 0, 0];
        d.target = [I8, 1, 1 << 40];
        d.shapes[0] = [F32, 1, 1 << 40];
    }),
    ("of floats", |d| d.target[0] = F32),
    ("from packed elements", |d| d.shapes[0][0] = F4),
];

pub const CODES: Changes = &[
    ("by an unknown rule", |d| d.rest[0] = 3),
    ("by the rule of scales", |d| d.rest = vec![1, 5]),
    ("of blocks of 1", |d| d.rest[1] = 0),
    ("of blocks of 16", |d| d.rest[1] = 4),
    ("of blocks of 8192", |d| d.rest[1] = 13),
    ("of blocks of 2^255", |d| d.rest[1] = 255),
    ("of an unknown table", |d| d.rest[2] = 4),
    ("with an unknown use of its scale", |d| d.rest[3] = 3),
    ("without its table", |d| d.rest.truncate(2)),
    ("of fewer elements", |d| d.target[1] = 32),
    ("of more elements", |d| d.target[1] = 34),
    ("of as many elements", |d| d.target = [U8, 2, 33]),
    ("in signed bytes", |d| d.target[0] = I8),
    ("with a view", |d| d.view = Some(vec![1, 3, 0])),
    ("from packed elements", |d| d.shapes[0] = [F4, 2, 33]),
    ("of 2^49 bytes from a tensor of 2^50", |d| {
        d.target = [U8, 1 << 49, 1];
        d.shapes[0] = [F32, 1 << 25, 1 << 25];
        d.first = (1 << 49) - 1;
    }),
    ("with scales", |d| d.shapes.push([F32, 1, 3])),
];

pub const SCALES: Changes = &[
    ("by the rule of codes", |d| d.rest = vec![0, 5, 0, 1]),
    ("of blocks of 16", |d| d.rest[1] = 4),
    ("of blocks of 8192", |d| d.rest[1] = 13),
    ("of blocks of another length", |d| d.rest[1] = 6),
    ("with a table", |d| d.rest.extend([0, 0])),
    ("in halves", |d| d.target[0] = BF16),
    ("of no elements", |d| d.shapes[0] = [BF16, 0, 33]),
    ("of blocks of 2^26 elements and more", |d| {
        d.rest[1] = 12;
        d.target = [F32, 1, 1 << 20];
        d.shapes[0] = [BF16, 1 << 16, 1 << 16];
        d.plain = vec![0; 4 << 15];
    }),
    ("from whole numbers", |d| d.shapes[0][0] = 5),
];

pub const CODED_SCALES: Changes = &[
    ("by an unknown search", |d| d.rest[2] = 2),
    ("of blocks of 8192", |d| d.rest[1] = 13),
    ("with an infinite offset", |d| {
        d.rest.splice(3.., floats(&[f32::INFINITY])).for_each(drop);
    }),
    ("with an offset that is no number", |d| {
        d.rest.splice(3.., floats(&[f32::NAN])).for_each(drop);
    }),
    ("without an offset", |d| d.rest.truncate(3)),
    ("in floats", |d| d.target[0] = F32),
    ("of more elements", |d| d.target[2] = 4),
];
