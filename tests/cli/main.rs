//! What people and scripts see: the real program in a folder of its own, with a clean environment.

mod clone;
mod config;
mod fetch;
mod help;
mod pull;
mod push;
mod remote;
mod sharing;

use std::path::Path;
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

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sparse"));
        command
            .args(words)
            .current_dir(self.path())
            .env_clear()
            .env("HOME", self.path().join("home"))
            .env("TZ", "UTC")
            .stdin(Stdio::null());
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
}
