//! What the transcripts of `push`, `fetch`, `pull` and `clone` start from.

use crate::Sandbox;

/// A sandbox with the work tree `a`, which has one commit, and the bare store `team`.
pub(crate) fn two_stores() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.ok(&["init", "a"]);
    sandbox.ok(&["init", "--bare", "team"]);
    write(&sandbox, "a/x.txt", "one\n");
    commit(&sandbox, "a");
    sandbox
}

pub(crate) fn write(sandbox: &Sandbox, path: &str, text: &str) {
    std::fs::write(sandbox.path().join(path), text).expect("a file");
}

pub(crate) fn read(sandbox: &Sandbox, path: &str) -> String {
    std::fs::read_to_string(sandbox.path().join(path)).expect("a file")
}

/// Commits a work tree; gives the first digits of the commit.
pub(crate) fn commit(sandbox: &Sandbox, tree: &str) -> String {
    let id = sandbox.ok(&["-C", tree, "commit", "-m", "m", "-q"]);
    id[..12].to_owned()
}

/// The text with numbers that differ from run to run taken out.
pub(crate) fn without_sizes(text: &str) -> String {
    let last = text.trim_end().lines().last().unwrap_or_default();
    let words: Vec<&str> = last.split(' ').collect();
    let [_, "B", ..] = words.as_slice() else {
        return text.to_owned();
    };
    text.replace(last, "SIZES")
}
