//! Stores and files that mean harm, one named case each: a clear refusal with a known exit code,
//! nothing written outside of the target, in bounded memory and time.
#![allow(
    clippy::too_many_lines,
    reason = "a table of cases is one thing, however long"
)]
#![allow(clippy::big_endian_bytes, reason = "CBOR is big endian")]

mod files;
mod forge;
mod inputs;
mod objects;
mod outside;
mod recipes;
mod records;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

/// Kilobytes of addresses that a command may take, mapped files and threads' stacks included.
const MEMORY_KIB: u64 = 3 << 20;
/// No command takes so long, unless it would go on for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of a command.
pub(crate) struct Seen {
    pub(crate) code: Option<i32>,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

/// A folder with a store in `evil`, and everything that must stay as it is.
pub(crate) struct Sandbox {
    dir: TempDir,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().expect("a folder");
        for name in ["home", "evil", "outside"] {
            fs::create_dir(dir.path().join(name)).expect("a folder");
        }
        fs::write(dir.path().join("outside/canary"), "untouched").expect("a file");
        fs::write(dir.path().join("canary"), "untouched").expect("a file");
        Self { dir }
    }

    pub(crate) fn path(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join(path)
    }

    /// Runs the program in the folder, with bounded memory and patience. It may refuse in any
    /// way but one: it never panics, and no signal ends it.
    pub(crate) fn run(&self, case: &str, words: &[&str]) -> Seen {
        let child = Command::new("sh")
            .arg("-c")
            .arg(format!("ulimit -v {MEMORY_KIB}; exec \"$0\" \"$@\""))
            .arg(env!("CARGO_BIN_EXE_sparse"))
            .args(words)
            .current_dir(self.dir.path())
            .env_clear()
            .env("HOME", self.path("home"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || tell.send(child.wait_with_output()));
        let output = told.recv_timeout(PATIENCE);
        let output = output.unwrap_or_else(|_| panic!("{case}: {words:?} does not end"));
        let output = output.expect("it ends");
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        let code = output.status.code();
        assert!(
            code.is_some_and(|code| code < 100) && !err.contains("a bug in sparse"),
            "{case}: {words:?} ended with {code:?}: {err}"
        );
        let control = |letter: char| letter.is_control() && letter != '\n';
        assert!(!err.contains(control), "{case}: {err:?}");
        if code != Some(0) {
            assert!(err.contains("error: "), "{case}: {words:?}: {err}");
        }
        Seen {
            code,
            out: output.stdout,
            err,
        }
    }

    /// Everything but the store and the places where commands may write.
    pub(crate) fn outside(&self) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        let free = ["evil", "out", "copy", "home", "bare"];
        collect(self.dir.path(), "", &free, &mut found);
        found
    }
}

fn collect(dir: &Path, prefix: &str, but: &[&str], found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(dir).expect("a folder") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        if but.contains(&name.as_str()) {
            continue;
        }
        let path = format!("{prefix}/{name}");
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            collect(&entry.path(), &path, &[], found);
            found.insert(path, Vec::new());
        } else if kind.is_file() {
            found.insert(path, fs::read(entry.path()).expect("a file"));
        } else {
            found.insert(path, b"something else".to_vec());
        }
    }
}

/// The names of a table's cases differ, and there are as many as were promised.
#[test]
fn there_are_a_hundred_cases_and_more() {
    let mut names: Vec<String> = Vec::new();
    names.extend(objects::cases().into_iter().map(|case| case.name));
    names.extend(records::cases().into_iter().map(|case| case.name));
    names.extend(recipes::cases().into_iter().map(|case| case.name));
    names.extend(files::cases().into_iter().map(|case| case.name));
    names.extend(inputs::cases().into_iter().map(|(name, _)| name));
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "two cases have one name");
    assert!(count >= 150, "{count}");
}
