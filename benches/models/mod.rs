//! Tensors of real models, for the benches.

use std::collections::HashMap;
use std::path::Path;

use sparse_store::codec::residual::{Prediction, TensorShape};
use store_format::dtype::DType;

/// A tensor of a file.
pub struct Tensor {
    pub shape: TensorShape,
    pub bytes: Vec<u8>,
}

/// Tensors of a safetensors file by name.
pub fn read(path: &Path) -> HashMap<String, Tensor> {
    let file = std::fs::read(path).expect("the file can be read");
    let header_len = u64::from_le_bytes(file[..8].try_into().expect("8 bytes")) as usize;
    let header = std::str::from_utf8(&file[8..8 + header_len]).expect("a header is UTF-8");
    let mut tensors = HashMap::new();
    for part in header.split("\"dtype\":").skip(1) {
        // The name is the last quoted word before this field.
        let before = &header[..part.as_ptr() as usize - header.as_ptr() as usize - 8];
        let name_end = before.trim_end_matches([' ', '{', ':']).len() - 1;
        let name_start = before[..name_end].rfind('"').expect("a name") + 1;
        let field = |name: &str| {
            let at = part.find(name).expect("a field") + name.len();
            let list = &part[at..][part[at..].find('[').expect("a list") + 1..];
            list[..list.find(']').expect("its end")]
                .split(',')
                .filter_map(|n| n.trim().parse::<u64>().ok())
                .collect::<Vec<_>>()
        };
        let dtype = part.trim_start().trim_start_matches('"');
        let dtype = DType::from_name(&dtype[..dtype.find('"').expect("a type")]).expect("known");
        let dims = field("\"shape\":");
        let range = field("\"data_offsets\":");
        let cols = dims.last().copied().unwrap_or(1);
        let rows = dims.iter().rev().skip(1).product();
        let start = 8 + header_len;
        tensors.insert(
            before[name_start..name_end].to_owned(),
            Tensor {
                shape: TensorShape { dtype, rows, cols },
                bytes: file[start + range[0] as usize..start + range[1] as usize].to_vec(),
            },
        );
    }
    tensors
}

/// Elements of a chunk: whole rows, at most 2^20.
fn chunk_len(shape: TensorShape) -> usize {
    let most = 1u64 << 20;
    (if shape.cols == 0 || shape.cols > most {
        most
    } else {
        most / shape.cols * shape.cols
    }) as usize
}

/// The chunks of a tensor: first element, bytes, and what the base says of them.
pub fn chunks<'a>(
    tensor: &'a Tensor,
    base: Option<&'a Tensor>,
) -> impl Iterator<Item = (u64, &'a [u8], Prediction<'a>)> {
    let width = tensor.shape.dtype.block().1 as usize;
    let step = chunk_len(tensor.shape) * width;
    tensor.bytes.chunks(step).enumerate().map(move |(n, part)| {
        let at = n * step;
        let prediction = base.map_or(Prediction::None, |base| {
            Prediction::Same(&base.bytes[at..at + part.len()])
        });
        ((at / width) as u64, part, prediction)
    })
}
