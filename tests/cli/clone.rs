//! `sparse clone`.

use crate::sharing::{commit, read, two_stores, write};

#[test]
fn a_clone_is_checked_out_and_knows_where_it_comes_from() {
    let sandbox = two_stores();
    let id = sandbox.ok(&["-C", "a", "push", "../team", "-q"]);
    let short = &id[..12];
    let cloned = sandbox.ok(&["clone", "team", "b"]);
    assert!(
        cloned.starts_with(&format!(
            "cloned team into b/.sparse\n  origin/main  {short} new\n  \
             checked out {short} of main\n4 B logical, "
        )),
        "{cloned}"
    );
    assert_eq!(read(&sandbox, "b/x.txt"), "one\n");
    assert_eq!(
        sandbox.ok(&["-C", "b", "config", "get", "remote.origin.url"]),
        "$DIR/team\n"
    );
}

#[test]
fn the_branch_of_the_source_is_checked_out() {
    let sandbox = two_stores();
    write(&sandbox, "a/x.txt", "tuned\n");
    sandbox.ok(&["-C", "a", "commit", "-m", "m", "-b", "tuned", "."]);
    sandbox.ok(&["-C", "a", "checkout", "tuned", "--force"]);
    sandbox.ok(&["clone", "a", "b"]);
    assert_eq!(read(&sandbox, "b/x.txt"), "tuned\n");
    sandbox.ok(&["clone", "--bare", "a", "mirror"]);
    let pushed = sandbox.ok(&["--repo", "mirror", "push", "team"]);
    assert!(
        pushed.contains("  main  ") && pushed.contains("  tuned  "),
        "{pushed}"
    );
}

#[test]
fn what_is_there_is_not_overwritten() {
    let sandbox = two_stores();
    sandbox.ok(&["-C", "a", "push", "../team"]);
    assert_eq!(
        sandbox.fails(&["clone", "team", "a"]),
        (
            5,
            "error: there is a store in 'a' already\n\
             hint: to complete a clone that was cut short: sparse -C a pull\n"
                .into()
        )
    );
    std::fs::create_dir(sandbox.path().join("full")).unwrap();
    write(&sandbox, "full/file", "");
    assert_eq!(sandbox.fails(&["clone", "team", "full"]).0, 5);
    assert_eq!(sandbox.fails(&["clone", "nowhere", "b"]).0, 3);
    assert!(!sandbox.path().join("b").exists());
}

#[test]
fn an_empty_store_can_be_cloned_and_filled() {
    let sandbox = two_stores();
    let cloned = sandbox.ok(&["clone", "team", "b"]);
    assert!(cloned.contains("nothing was checked out"), "{cloned}");
    write(&sandbox, "b/x.txt", "first\n");
    commit(&sandbox, "b");
    sandbox.ok(&["-C", "b", "push", "origin"]);
    sandbox.ok(&["clone", "team", "c", "-q"]);
    assert_eq!(read(&sandbox, "c/x.txt"), "first\n");
}

#[test]
fn a_clone_that_was_cut_short_is_completed_by_a_pull() {
    let sandbox = two_stores();
    sandbox.ok(&["-C", "a", "push", "../team"]);
    // As a killed clone leaves it: a store, the remote, nothing fetched.
    sandbox.ok(&["init", "b"]);
    sandbox.ok(&["-C", "b", "remote", "add", "origin", "../team"]);
    sandbox.ok(&["-C", "b", "fetch"]);
    sandbox.ok(&["-C", "b", "pull"]);
    assert_eq!(read(&sandbox, "b/x.txt"), "one\n");
}
