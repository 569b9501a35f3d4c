//! `sparse checkout` of the work tree.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use crate::Sandbox;

/// Two branches that differ in everything a tree can hold; `main` is checked out.
fn two() -> Sandbox {
    let sandbox = Sandbox::new().with_store();
    sandbox.write("same", "same in both");
    sandbox.write("differs", "one");
    sandbox.write("only/in/one", "x");
    sandbox.write("turns", "a file");
    sandbox.write("run", "#!/bin/sh\n");
    symlink("same", sandbox.work("link")).unwrap();
    std::fs::create_dir(sandbox.work("empty")).unwrap();
    sandbox.commit("one", 1);
    sandbox.at_work(&["branch", "other"]);
    sandbox.at_work(&["checkout", "other"]);
    sandbox.write("differs", "two");
    std::fs::remove_dir_all(sandbox.work("only")).unwrap();
    std::fs::remove_file(sandbox.work("turns")).unwrap();
    sandbox.write("turns/into", "a folder");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(sandbox.work("run"), mode).unwrap();
    std::fs::remove_file(sandbox.work("link")).unwrap();
    symlink("run", sandbox.work("link")).unwrap();
    std::fs::remove_dir(sandbox.work("empty")).unwrap();
    sandbox.commit("two", 2);
    sandbox.at_work(&["checkout", "main"]);
    sandbox
}

fn is_executable(sandbox: &Sandbox, path: &str) -> bool {
    std::fs::metadata(sandbox.work(path)).unwrap().mode() & 0o100 != 0
}

#[test]
fn switching_makes_the_tree_what_the_branch_holds() {
    let sandbox = two();
    for _ in 0..2 {
        assert_eq!(sandbox.at_work(&["status", "-q"]), "");
        assert_eq!(sandbox.read("differs"), "one");
        assert_eq!(sandbox.read("turns"), "a file");
        assert_eq!(sandbox.read("only/in/one"), "x");
        assert!(!is_executable(&sandbox, "run"));
        assert!(sandbox.work("empty").is_dir());
        sandbox.at_work(&["checkout", "other"]);
        assert_eq!(sandbox.at_work(&["status", "-q"]), "");
        assert_eq!(sandbox.read("differs"), "two");
        assert_eq!(sandbox.read("turns/into"), "a folder");
        assert!(!sandbox.work("only").exists());
        assert!(!sandbox.work("empty").exists());
        assert!(is_executable(&sandbox, "run"));
        assert_eq!(
            std::fs::read_link(sandbox.work("link")).unwrap().to_str(),
            Some("run")
        );
        sandbox.at_work(&["checkout", "main"]);
    }
}

#[test]
fn files_that_are_right_are_not_written() {
    let sandbox = two();
    let stat = |path| {
        let stat = std::fs::metadata(sandbox.work(path)).unwrap();
        (stat.ino(), stat.mtime(), stat.mtime_nsec())
    };
    let (same, run) = (stat("same"), stat("run"));
    sandbox.at_work(&["checkout", "other"]);
    assert_eq!((stat("same"), stat("run")), (same, run));
}

#[test]
fn unsaved_changes_are_kept_unless_forced() {
    let sandbox = two();
    sandbox.write("differs", "mine");
    let (code, err) = sandbox.refused(&["checkout", "other"]);
    assert_eq!(
        (code, err.as_str()),
        (
            5,
            "error: 'differs' would be overwritten and holds something else\n\
             hint: commit it, move it away, or give --force\n"
        )
    );
    // Nothing was done by halves.
    assert_eq!(sandbox.read("differs"), "mine");
    assert_eq!(sandbox.read("turns"), "a file");
    assert_eq!(sandbox.at_work(&["status", "-q"]), "differs\n");
    sandbox.at_work(&["checkout", "--force", "other"]);
    assert_eq!(sandbox.read("differs"), "two");
}

#[test]
fn a_changed_file_that_the_other_branch_lacks_is_not_removed() {
    let sandbox = two();
    sandbox.write("only/in/one", "mine");
    assert_eq!(sandbox.refused(&["checkout", "other"]).0, 5);
    assert_eq!(sandbox.read("only/in/one"), "mine");
}

#[test]
fn files_that_no_branch_knows_stay() {
    let sandbox = two();
    sandbox.write("untracked", "u");
    sandbox.write("only/in/untracked", "u");
    sandbox.at_work(&["checkout", "other"]);
    assert_eq!(sandbox.read("untracked"), "u");
    assert_eq!(sandbox.read("only/in/untracked"), "u");
    assert!(!sandbox.work("only/in/one").exists());
}

#[test]
fn an_untracked_file_in_a_folder_that_turns_into_a_file_is_kept() {
    let sandbox = two();
    sandbox.at_work(&["checkout", "other"]);
    sandbox.write("turns/mine", "u");
    assert_eq!(sandbox.refused(&["checkout", "main"]).0, 5);
    assert_eq!(sandbox.read("turns/mine"), "u");
    assert_eq!(sandbox.read("turns/into"), "a folder");
}

#[test]
fn an_interrupted_checkout_can_be_repeated() {
    let sandbox = two();
    // As a checkout that stopped in the middle leaves it: some files done, one unfinished.
    sandbox.write("differs", "two");
    let name = format!(".sparse-tmp-{:.16}", blake3::hash(b"into").to_hex());
    std::fs::remove_file(sandbox.work("turns")).unwrap();
    sandbox.write(&format!("turns/{name}"), "half of");
    sandbox.at_work(&["checkout", "other"]);
    assert_eq!(sandbox.read("turns/into"), "a folder");
    assert_eq!(sandbox.at_work(&["status", "-q"]), "");
}

#[test]
fn a_commit_can_be_checked_out_by_itself() {
    let sandbox = two();
    sandbox.at_work(&["checkout", "other~1"]);
    let printed = sandbox.at_work(&["status"]);
    assert!(printed.starts_with("on no branch at "), "{printed}");
    sandbox.write("differs", "three");
    let (code, err) = sandbox.refused(&["commit", "-m", "x"]);
    assert_eq!(code, 2);
    assert!(err.contains("-b BRANCH"), "{err}");
}

#[test]
fn force_replaces_files_and_links_in_the_way_of_directories() {
    let sandbox = two();
    sandbox.at_work(&["branch", "deep"]);
    sandbox.at_work(&["checkout", "deep"]);
    for path in ["a/1", "a/2", "b/c/1", "l/1"] {
        sandbox.write(path, path);
    }
    sandbox.commit("deep", 3);
    sandbox.at_work(&["checkout", "main"]);
    sandbox.write("a", "mine");
    sandbox.write("b/c", "mine");
    symlink("..", sandbox.work("l")).unwrap();
    let (code, err) = sandbox.refused(&["checkout", "deep"]);
    assert_eq!(code, 5);
    assert!(err.contains("'a' and 2 more would be overwritten"), "{err}");
    assert!(err.contains("--force"), "{err}");
    let removed = &sandbox.json(&["checkout", "--force", "deep"])[0]["removed"];
    assert_eq!(removed, 3);
    for path in ["a/1", "a/2", "b/c/1", "l/1"] {
        assert_eq!(sandbox.read(path), path);
    }
    assert_eq!(sandbox.at_work(&["status", "-q"]), "");
}

#[test]
fn force_replaces_no_directory_that_is_not_empty() {
    let sandbox = two();
    std::fs::remove_file(sandbox.work("differs")).unwrap();
    sandbox.write("differs/mine", "u");
    for words in [
        &["checkout", "other"][..],
        &["checkout", "--force", "other"],
    ] {
        assert_eq!(
            sandbox.refused(words),
            (
                5,
                "error: 'differs' is a directory that is not empty\n\
                 hint: move it away, or check out elsewhere\n"
                    .into()
            )
        );
    }
    assert_eq!(sandbox.read("differs/mine"), "u");
    assert_eq!(sandbox.read("turns"), "a file");
    std::fs::remove_file(sandbox.work("differs/mine")).unwrap();
    sandbox.at_work(&["checkout", "other"]);
    assert_eq!(sandbox.read("differs"), "two");
}
