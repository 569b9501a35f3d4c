//! `sparse fetch`.

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
    let packs = sandbox.path().join("team/packs");
    for shard in std::fs::read_dir(packs).unwrap() {
        for file in std::fs::read_dir(shard.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|end| end == "pack") {
                let mut bytes = std::fs::read(&path).unwrap();
                for at in (64..bytes.len() / 2).step_by(16) {
                    bytes[at] ^= 4;
                }
                std::fs::remove_file(&path).unwrap();
                std::fs::write(&path, bytes).unwrap();
            }
        }
    }
}
