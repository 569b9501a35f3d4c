//! What people and scripts see: the real program in a folder of its own, with a clean environment.

mod attach;
mod blocks;
mod care;
mod cat;
mod checkout;
mod clone;
mod commit;
mod config;
mod derive;
mod diff;
mod fetch;
mod gathers;
mod help;
mod history;
mod ignored;
mod names;
mod pull;
mod push;
mod remote;
mod sharing;
mod show;
mod small;
mod status;
mod undo;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A folder with a home, and the program run in it.
pub(crate) struct Sandbox {
    dir: TempDir,
}

/// What came of a run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        std::fs::create_dir(dir.path().join("home")).expect("a home");
        Self { dir }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A store of its own form only: enough for verbs that do not open it.
    pub(crate) fn with_store_folder(self) -> Self {
        let store = self.path().join("work/.sparse");
        std::fs::create_dir_all(store.join("refs")).expect("a folder");
        std::fs::write(store.join("format"), "").expect("a file");
        self
    }

    /// The program with these words; what it prints is for the test alone.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sparse"));
        command
            .args(words)
            .current_dir(self.path())
            .env_clear()
            .env("HOME", self.path().join("home"))
            .env("TZ", "UTC")
            .env("SPARSE_AUTHOR", "Ada Lovelace <ada@example.org>")
            .env("SPARSE_DATE", "2024-05-06T07:08:09Z")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Seen {
        let output = self.command(words).output().expect("the program runs");
        self.seen(&output)
    }

    /// The folder's own path is written as `$DIR`.
    pub(crate) fn seen(&self, output: &Output) -> Seen {
        let text = |bytes: &[u8]| {
            String::from_utf8(bytes.to_vec())
                .expect("text")
                .replace(&self.path().display().to_string(), "$DIR")
        };
        Seen {
            code: output.status.code().expect("an exit code"),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// Runs what must succeed; gives what it printed.
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        let seen = self.run(words);
        assert_eq!(
            (seen.code, seen.err.as_str()),
            (0, ""),
            "{words:?}: {}",
            seen.out
        );
        seen.out
    }

    /// Runs what must fail; gives its exit code and what it complained.
    pub(crate) fn fails(&self, words: &[&str]) -> (i32, String) {
        let seen = self.run(words);
        assert_eq!(seen.out, "", "{words:?}");
        (seen.code, seen.err)
    }

    /// A real store with a work tree in `work`.
    pub(crate) fn with_store(self) -> Self {
        self.ok(&["init", "work"]);
        self
    }

    /// A path in the work tree.
    pub(crate) fn work(&self, path: &str) -> PathBuf {
        self.path().join("work").join(path)
    }

    /// Writes a file of the work tree.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.work(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, content).expect("a file");
    }

    /// What a file of the work tree holds.
    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.work(path)).expect("a file")
    }

    /// Commits the work tree at a second of 2024; gives the id.
    pub(crate) fn commit(&self, message: &str, second: u32) -> String {
        let output = self
            .command(&["-C", "work", "-q", "commit", "-m", message])
            .env("SPARSE_DATE", format!("2024-05-06T07:08:{second:02}Z"))
            .output()
            .expect("the program runs");
        let seen = self.seen(&output);
        assert_eq!((seen.code, seen.err.as_str()), (0, ""), "{message}");
        seen.out.trim().to_owned()
    }

    /// Runs a verb in the work tree that must succeed.
    pub(crate) fn at_work(&self, words: &[&str]) -> String {
        self.ok(&[&["-C", "work"], words].concat())
    }

    /// Runs a verb in the work tree that must fail.
    pub(crate) fn refused(&self, words: &[&str]) -> (i32, String) {
        self.fails(&[&["-C", "work"], words].concat())
    }

    /// The JSON documents that a verb prints, one a line.
    pub(crate) fn json(&self, words: &[&str]) -> Vec<serde_json::Value> {
        let printed = self.at_work(&[words, &["--json"]].concat());
        let documents = printed.lines().map(serde_json::from_str);
        documents.map(|document| document.expect("JSON")).collect()
    }
}

/// How many packs of a store have their names.
pub(crate) fn named_packs(store: &Path) -> usize {
    let shards = std::fs::read_dir(store.join("packs")).into_iter().flatten();
    shards
        .flatten()
        .flat_map(|shard| std::fs::read_dir(shard.path()).into_iter().flatten())
        .flatten()
        .filter(|file| file.path().extension().is_some_and(|end| end == "idx"))
        .count()
}

/// Bytes that do not compress.
pub(crate) fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut out = Vec::with_capacity(bytes);
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out
}

/// A safetensors file of F32 tensors, each with a shape and one value for all elements.
pub(crate) fn safetensors(tensors: &[(&str, &[u64], f32)]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape, value) in tensors {
        let start = data.len();
        let elements: u64 = shape.iter().product();
        (0..elements).for_each(|_| data.extend(value.to_le_bytes()));
        let entry = serde_json::json!({
            "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()],
        });
        header.insert((*name).to_owned(), entry);
    }
    let header = serde_json::Value::from(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    file
}
