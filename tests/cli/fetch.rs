//! `sparse fetch`.

use std::fs;
use std::path::PathBuf;

use crate::Sandbox;
use crate::sharing::{commit, two_stores, without_sizes, write};

#[test]
fn branches_stand_under_the_name_of_the_remote() {
    let sandbox = two_stores();
    let id = sandbox.ok(&["-C", "a", "push", "../team", "-q"]);
    let short = &id[..12];
    sandbox.ok(&["init", "b"]);
    sandbox.ok(&["-C", "b", "remote", "add", "team", "../team"]);
    let dry = sandbox.ok(&["-C", "b", "fetch", "-n"]);
    assert_eq!(
        without_sizes(&dry),
        format!("would fetch from team\n  team/main  {short} new\nSIZES\n")
    );
    sandbox.ok(&["-C", "b", "fetch"]);
    assert_eq!(
        sandbox.ok(&["-C", "b", "fetch", "team", "main"]),
        format!("fetched from team\n  team/main  {short} up to date\n0 B logical, 0 B received\n")
    );
    sandbox.ok(&["-C", "b", "checkout", "team/main", "out", "-q"]);
}

#[test]
fn a_name_that_is_not_there_is_an_error_with_those_that_are() {
    let sandbox = two_stores();
    sandbox.ok(&["-C", "a", "push", "../team"]);
    sandbox.ok(&["init", "b"]);
    assert_eq!(
        sandbox.fails(&["-C", "b", "fetch", "../team", "mian"]),
        (
            3,
            "error: there is no branch or tag 'mian' over there\nhint: there are: main\n".into()
        )
    );
    let (code, error) = sandbox.fails(&["-C", "b", "fetch"]);
    assert_eq!(code, 2);
    assert!(error.contains("this store has no remote"), "{error}");
}

#[test]
fn a_damaged_pack_over_there_is_refused() {
    let sandbox = two_stores();
    write(&sandbox, "a/x.txt", &"words and more words\n".repeat(5000));
    commit(&sandbox, "a");
    sandbox.ok(&["-C", "a", "push", "../team"]);
    damage_packs(&sandbox);
    sandbox.ok(&["init", "b"]);
    let (code, error) = sandbox.fails(&["-C", "b", "fetch", "../team"]);
    assert_eq!(code, 6, "{error}");
    let (code, _) = sandbox.fails(&["-C", "b", "checkout", "main"]);
    assert_eq!(code, 3);
}

/// Turns bits all over each pack.
fn damage_packs(sandbox: &Sandbox) {
    for path in packs_of(sandbox, "team/packs") {
        let mut bytes = fs::read(&path).unwrap();
        for at in (64..bytes.len() / 2).step_by(16) {
            bytes[at] ^= 4;
        }
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    }
}

/// The packs below a folder.
fn packs_of(sandbox: &Sandbox, packs: &str) -> Vec<PathBuf> {
    let shards = fs::read_dir(sandbox.path().join(packs)).unwrap();
    let files = shards.flat_map(|shard| fs::read_dir(shard.unwrap().path()).unwrap());
    files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "pack"))
        .collect()
}

#[test]
fn a_name_of_a_branch_and_of_a_tag_is_not_guessed() {
    let sandbox = two_stores();
    sandbox.ok(&["-C", "a", "tag", "main", "main"]);
    let both = "error: 'main' is the name of a branch and of a tag\nhint: say which: heads/main or \
                tags/main\n";
    let push = |name| ["-C", "a", "push", "../team", name];
    assert_eq!(sandbox.fails(&push("main")), (2, both.into()));
    sandbox.ok(&push("heads/main"));
    sandbox.ok(&push("tags/main"));
    sandbox.ok(&["init", "b"]);
    let fetch = |name| ["-C", "b", "fetch", "../team", name];
    assert_eq!(sandbox.fails(&fetch("main")), (2, both.into()));
    sandbox.ok(&fetch("heads/main"));
}

#[test]
fn what_is_missing_here_comes_again() {
    let sandbox = two_stores();
    let numbers = (0..5000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_string());
    write(&sandbox, "a/x.txt", &numbers.collect::<String>());
    commit(&sandbox, "a");
    sandbox.ok(&["-C", "a", "push", "../team"]);
    sandbox.ok(&["init", "b"]);
    sandbox.ok(&["-C", "b", "remote", "add", "team", "../team"]);
    sandbox.ok(&["-C", "b", "fetch"]);
    let mut packs = packs_of(&sandbox, "b/.sparse/packs");
    packs.sort_by_key(|pack| fs::metadata(pack).expect("a pack").len());
    // All of them: then not even the commits are here, and no reference moves.
    packs
        .iter()
        .for_each(|pack| fs::remove_file(pack).expect("it goes"));
    sandbox.ok(&["-C", "b", "fetch"]);
    sandbox.ok(&["-C", "b", "fsck", "--read-data"]);
    // The chunks alone: a fetch believes the commits that it sees, unless it is told to look.
    let packs = packs_of(&sandbox, "b/.sparse/packs");
    let largest = packs
        .iter()
        .max_by_key(|pack| fs::metadata(pack).expect("a pack").len());
    fs::remove_file(largest.expect("a pack")).expect("it goes");
    assert_eq!(sandbox.run(&["-C", "b", "fsck"]).code, 6);
    assert!(sandbox.ok(&["-C", "b", "fetch"]).contains(" 0 B received"));
    let healed = sandbox.ok(&["-C", "b", "fetch", "--heal"]);
    assert!(!healed.contains(" 0 B received"), "{healed}");
    sandbox.ok(&["-C", "b", "fsck", "--read-data"]);
}
