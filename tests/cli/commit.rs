//! `sparse commit` that stops before its end.

use std::path::Path;

use crate::sharing::{commit, two_stores, write};
use crate::{Sandbox, named_packs, noise};

#[test]
fn a_commit_that_was_killed_is_repeated_and_stores_what_is_missing() {
    let sandbox = Sandbox::new().with_store();
    sandbox.write("big.bin", noise(150 << 20));
    let mut child = sandbox
        .command(&["-C", "work", "commit", "-m", "big", "-q"])
        .spawn()
        .unwrap();
    // Killed as soon as the first full pack has its name.
    let store = sandbox.work(".sparse");
    while named_packs(&store) == 0 && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    let finished = child.wait().unwrap().success();
    let made = &sandbox.json(&["commit", "-m", "big"])[0];
    if !finished {
        assert!(made["known_chunks"].as_u64().unwrap() > 0, "{made}");
        assert!(made["new_bytes"].as_u64().unwrap() < 100 << 20, "{made}");
    }
    sandbox.at_work(&["checkout", "main", "../out"]);
    let read = |path: &Path| std::fs::read(path).unwrap();
    assert!(read(&sandbox.work("big.bin")) == read(&sandbox.path().join("out/big.bin")));
    sandbox.at_work(&["fsck", "--read-data"]);
}

#[test]
fn a_dry_run_leaves_nothing() {
    let sandbox = Sandbox::new().with_store();
    sandbox.write("big.bin", noise(70 << 20));
    let made = &sandbox.json(&["commit", "-n"])[0];
    assert!(made["new_bytes"].as_u64().unwrap() > 60 << 20, "{made}");
    assert_eq!(named_packs(&sandbox.work(".sparse")), 0);
}

#[test]
fn files_from_before_a_push_do_not_take_it_back() {
    let sandbox = two_stores();
    sandbox.ok(&["clone", "a", "b"]);
    write(&sandbox, "b/x.txt", "theirs\n");
    commit(&sandbox, "b");
    sandbox.ok(&["-C", "b", "push", "../a", "main"]);
    write(&sandbox, "a/y.txt", "ours\n");
    let (code, error) = sandbox.fails(&["-C", "a", "commit", "-m", "y"]);
    let moved = "error: 'main' has moved since the files here were taken from it: 'x.txt' ";
    assert_eq!((code, error.starts_with(moved)), (5, true), "{error}");
    sandbox.ok(&["-C", "a", "checkout", "main"]);
    commit(&sandbox, "a");
    assert_eq!(sandbox.ok(&["-C", "a", "cat", "main:x.txt"]), "theirs\n");
    assert_eq!(sandbox.ok(&["-C", "a", "cat", "main:y.txt"]), "ours\n");
    // What was undone is known: the files hold it.
    sandbox.ok(&["-C", "a", "undo"]);
    write(&sandbox, "a/y.txt", "better\n");
    commit(&sandbox, "a");
}

#[test]
fn a_link_that_no_checkout_would_make_is_refused() {
    let sandbox = Sandbox::new().with_store();
    sandbox.write("b", "b\n");
    let link = sandbox.work("a");
    std::os::unix::fs::symlink("../work/b", &link).unwrap();
    let (code, error) = sandbox.refused(&["commit", "-m", "m"]);
    assert_eq!(code, 2);
    assert!(error.contains("cannot store 'a'"), "{error}");
    std::fs::remove_file(&link).unwrap();
    std::fs::create_dir(sandbox.work("empty")).unwrap();
    std::os::unix::fs::symlink("empty/../b", &link).unwrap();
    sandbox.commit("m", 1);
    sandbox.at_work(&["checkout", "main", "../out"]);
    assert_eq!(std::fs::read(sandbox.path().join("out/a")).unwrap(), b"b\n");
}

#[test]
fn a_part_of_the_work_tree_does_not_become_a_whole_version_unasked() {
    let sandbox = Sandbox::new().with_store();
    sandbox.write("a", "1");
    sandbox.write("b/c", "2");
    std::os::unix::fs::symlink("../elsewhere", sandbox.work("l")).unwrap();
    std::fs::write(sandbox.path().join("elsewhere"), "3").unwrap();
    let id = sandbox.commit("first", 1);
    for part in ["a", "b", "b/../b/c", "l"] {
        let expected = format!(
            "error: 'main' would hold only '{part}'\nhint: the whole work tree: sparse commit -m \
             MESSAGE; as its own branch: -b NAME\n"
        );
        assert_eq!(sandbox.refused(&["commit", part, "-m", "x"]), (2, expected));
    }
    for words in [
        &["commit", ".sparse", "-m", "x"][..],
        &["commit", ".sparse/refs", "-b", "x", "-m", "x"],
    ] {
        let (code, err) = sandbox.refused(words);
        assert_eq!(code, 2);
        assert!(err.contains("lies in the store's own folder"), "{err}");
    }
    assert_eq!(sandbox.refused(&["commit", "nowhere", "-m", "x"]).0, 3);
    assert_eq!(sandbox.at_work(&["log", "-q", "main"]), format!("{id}\n"));
    sandbox.at_work(&["commit", "b", "-b", "part", "-m", "x"]);
    assert_eq!(sandbox.at_work(&["ls", "-q", "part"]), "c\n");
    // By its own name the whole work tree is meant.
    sandbox.write("a", "more");
    sandbox.ok(&["-C", "work/b", "commit", "..", "-m", "second"]);
    assert_eq!(sandbox.run(&["-C", "work", "status"]).err, "");
    assert_eq!(sandbox.at_work(&["status", "-q"]), "");
}
