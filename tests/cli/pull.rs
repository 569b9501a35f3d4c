//! `sparse pull`.

use crate::sharing::{commit, read, two_stores, write};

#[test]
fn a_pull_moves_the_branch_and_the_files_forward() {
    let sandbox = two_stores();
    let old = sandbox.ok(&["-C", "a", "push", "../team", "-q"]);
    sandbox.ok(&["clone", "team", "b", "-q"]);
    write(&sandbox, "a/x.txt", "two\n");
    let new = commit(&sandbox, "a");
    sandbox.ok(&["-C", "a", "push", "../team"]);
    let pulled = sandbox.ok(&["-C", "b", "pull"]);
    assert!(
        pulled.starts_with(&format!(
            "pulled main from origin: {} → {new}\n  1 files written, 0 removed; all verified\n",
            &old[..12]
        )),
        "{pulled}"
    );
    assert_eq!(read(&sandbox, "b/x.txt"), "two\n");
    assert_eq!(
        sandbox.ok(&["-C", "b", "pull"]),
        format!("main is up to date with origin: {new}\n0 B logical, 0 B received\n")
    );
}

#[test]
fn local_changes_are_not_lost() {
    let sandbox = two_stores();
    sandbox.ok(&["-C", "a", "push", "../team"]);
    sandbox.ok(&["clone", "team", "b", "-q"]);
    write(&sandbox, "a/x.txt", "two\n");
    let new = commit(&sandbox, "a");
    sandbox.ok(&["-C", "a", "push", "../team"]);
    write(&sandbox, "b/x.txt", "mine\n");
    let (code, error) = sandbox.fails(&["-C", "b", "pull"]);
    assert_eq!(code, 5, "{error}");
    assert_eq!(read(&sandbox, "b/x.txt"), "mine\n");
    let pulled = sandbox.ok(&["-C", "b", "pull", "--force", "-q"]);
    assert!(pulled.starts_with(&new));
    assert_eq!(read(&sandbox, "b/x.txt"), "two\n");
}

#[test]
fn two_histories_are_not_mixed() {
    let sandbox = two_stores();
    sandbox.ok(&["-C", "a", "push", "../team"]);
    sandbox.ok(&["clone", "team", "b", "-q"]);
    write(&sandbox, "a/x.txt", "two\n");
    let there = commit(&sandbox, "a");
    sandbox.ok(&["-C", "a", "push", "../team"]);
    write(&sandbox, "b/x.txt", "three\n");
    let here = commit(&sandbox, "b");
    let (code, error) = sandbox.fails(&["-C", "b", "pull"]);
    assert_eq!(code, 5);
    assert!(
        error.starts_with("error: 'main' has commits of its own here and over there\n")
            && error.contains(&here)
            && error.contains(&there)
            && error.contains("sparse log origin/main"),
        "{error}"
    );
    assert_eq!(read(&sandbox, "b/x.txt"), "three\n");
}
