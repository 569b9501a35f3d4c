//! `sparse commit` that stops before its end.

use std::path::Path;

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
