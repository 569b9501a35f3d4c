//! Reads what the tests look at of files of models, and no more.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sparse_store::predict::Shape;
use store_format::dtype::DType;

pub(crate) struct Tensor {
    pub(crate) shape: Shape,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) type Model = BTreeMap<String, Tensor>;

fn data(path: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("SPARSE_DATA")?).join(path);
    path.exists().then_some(path)
}

/// Just enough of safetensors for files that Python wrote.
pub(crate) fn safetensors(path: &str) -> Option<Model> {
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
pub(crate) fn gguf(path: &str) -> Option<Model> {
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
