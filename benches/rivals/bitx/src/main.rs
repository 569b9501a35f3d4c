//! BitX of ZipLLM, by its own functions and its own chunks, on one thread.
//!
//!     sparse-store-rivals-bitx DIR REPEAT

#[path = "../../native/src/measure.rs"]
#[expect(dead_code, reason = "the other package copies memory")]
mod measure;

use std::path::Path;

use measure::{best, report};
use zipllm::bitx::bitx_bytes::{bitx_decompress, optimized_bitx_compress};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let dir = Path::new(&arguments[0]);
    let repeat = arguments[1].parse().expect("a number");
    let config = dir.join("zipllm.json");
    let text =
        r#"{"model_dir":"","storage_dir":"","models_to_process":"","base_ft_path":"","threads":0}"#;
    std::fs::write(&config, text).expect("a configuration");
    zipllm::config::set_config(config.to_str().expect("a UTF-8 path"));
    let read = |name| std::fs::read(dir.join(name)).expect("plain bytes");
    let (target, base) = (read("target"), read("base"));
    let (coded, encoding) = best(repeat, || {
        optimized_bitx_compress(&base, &target).expect("it compresses")
    });
    let (out, decoding) = best(repeat, || bitx_decompress(&base, &coded.0, &coded.1));
    assert!(out == target, "decoded bytes differ");
    report(coded.0.len() + coded.1.len(), encoding, decoding);
}
