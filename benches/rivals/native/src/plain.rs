//! The plain bytes that `../data.py` laid out: `target`, perhaps `base`, and `shapes`.

use std::path::Path;

use sparse_store::codec::residual::TensorShape;
use store_format::dtype::DType;

pub struct Plain {
    pub target: Vec<u8>,
    pub base: Option<Vec<u8>>,
    /// In the order of the bytes, which they cover without a gap.
    pub tensors: Vec<TensorShape>,
}

impl Plain {
    pub fn read(dir: &Path) -> Self {
        let target = std::fs::read(dir.join("target")).expect("the target's bytes");
        let shapes = std::fs::read_to_string(dir.join("shapes")).expect("the shapes");
        let tensors = shapes.lines().map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            TensorShape {
                dtype: DType::from_name(words[0]).expect("a known type"),
                rows: words[1].parse().expect("rows"),
                cols: words[2].parse().expect("columns"),
            }
        });
        Self {
            tensors: tensors.collect(),
            base: std::fs::read(dir.join("base")).ok(),
            target,
        }
    }

    /// Each tensor with where its bytes start and end.
    pub fn ranges(&self) -> impl Iterator<Item = (TensorShape, std::ops::Range<usize>)> {
        let mut at = 0;
        self.tensors.iter().map(move |&shape| {
            let start = at;
            at += shape.elements().expect("a tensor") as usize * width(shape.dtype);
            (shape, start..at)
        })
    }
}

pub fn width(dtype: DType) -> usize {
    dtype.block().1 as usize
}
