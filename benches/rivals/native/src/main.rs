//! Compiled measurements for the benches: one subject a run, one line of JSON as answer.

mod chunks;
mod fm_delta;
mod generate;
mod index;
mod measure;
mod ours;
mod plain;

use std::path::Path;

const USAGE: &str = "sparse-store-rivals ours LEVEL DIR REPEAT | fm-delta DIR REPEAT | memcpy \
                     | chunks put STORE NAME DIR | chunks get STORE NAME DIR | generate MIB SEED PATH | generate-tuned MIB SEED PATH | index make ENTRIES STORE | index look-up ENTRIES STORE";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<usize>().expect("a number");
    let count = |text: &str| number(text) as u64;
    match words[..] {
        ["ours", level, dir, repeat] => ours::run(level, Path::new(dir), number(repeat)),
        ["fm-delta", dir, repeat] => fm_delta::run(Path::new(dir), number(repeat)),
        ["generate", mib, seed, path] => {
            generate::run(count(mib), count(seed), false, path.as_ref())
        }
        ["generate-tuned", mib, seed, path] => {
            generate::run(count(mib), count(seed), true, path.as_ref());
        }
        ["memcpy"] => measure::memcpy(),
        ["chunks", "put", store, name, dir] => chunks::put(store.as_ref(), name, dir.as_ref()),
        ["chunks", "get", store, name, dir] => chunks::get(store.as_ref(), name, dir.as_ref()),
        ["index", "make", entries, store] => index::make(count(entries), store.as_ref()),
        ["index", "look-up", entries, store] => index::look_up(count(entries), store.as_ref()),
        _ => {
            eprintln!("{USAGE}");
            std::process::exit(2);
        }
    }
}
