//! `.sparseignore`.

use std::os::unix::fs::symlink;

use crate::Sandbox;

/// A store whose work tree leaves out logs and a folder.
fn ignoring() -> Sandbox {
    let sandbox = Sandbox::new().with_store();
    sandbox.write(".sparseignore", "*.log\n!kept.log\n/runs/\n");
    sandbox.write("model", "weights");
    sandbox.write("a.log", "noise");
    sandbox.write("kept.log", "worth it");
    sandbox.write("runs/1/model", "unfinished");
    sandbox.write("deep/runs/b.log", "noise");
    sandbox.write("deep/runs/c", "not at the top");
    sandbox.write("noise/d.log", "noise");
    sandbox
}

fn listed(sandbox: &Sandbox, revision: &str) -> Vec<String> {
    let printed = sandbox.at_work(&["ls", revision]);
    let names = printed
        .lines()
        .filter_map(|line| line.split_whitespace().last());
    names.map(str::to_owned).collect()
}

#[test]
fn what_a_rule_names_is_neither_stored_nor_called_new() {
    let sandbox = ignoring();
    sandbox.commit("first", 1);
    assert_eq!(
        listed(&sandbox, "main"),
        [".sparseignore", "deep/runs/c", "kept.log", "model"]
    );
    sandbox.write("e.log", "more noise");
    let printed = sandbox.at_work(&["status"]);
    assert!(printed.contains("nothing differs in 4 files"), "{printed}");
    sandbox.write("deep/.sparseignore", "!*.log\n");
    sandbox.commit("the nearest rule decides", 2);
    let names = listed(&sandbox, "main");
    assert!(names.contains(&"deep/runs/b.log".to_owned()), "{names:?}");
    assert!(!names.contains(&"e.log".to_owned()), "{names:?}");
}

#[test]
fn a_folder_that_is_committed_brings_its_own_rules_and_a_file_is_always_taken() {
    let sandbox = ignoring();
    let folder = sandbox.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join(".sparseignore"), "b\n").unwrap();
    std::fs::write(folder.join("a.log"), "").unwrap();
    std::fs::write(folder.join("b"), "").unwrap();
    // What cannot be stored is no hindrance where it is left out.
    symlink("nowhere", folder.join("b.link")).unwrap();
    std::fs::write(folder.join(".sparseignore"), "b\n*.link\n").unwrap();
    sandbox.at_work(&["-q", "commit", "../folder", "-b", "other", "-m", "folder"]);
    assert_eq!(listed(&sandbox, "other"), [".sparseignore", "a.log"]);
    sandbox.at_work(&["-q", "commit", "a.log", "-b", "one", "-m", "a file"]);
    assert_eq!(listed(&sandbox, "one"), ["a.log"]);
}

#[test]
fn a_checkout_writes_what_the_rules_would_leave_out() {
    let sandbox = Sandbox::new().with_store();
    sandbox.write("a.log", "the first");
    sandbox.commit("first", 1);
    sandbox.at_work(&["branch", "old"]);
    sandbox.write(".sparseignore", "*.log\n");
    sandbox.commit("logs are left out from here on", 2);
    assert_eq!(listed(&sandbox, "main"), [".sparseignore"]);
    assert_eq!(sandbox.read("a.log"), "the first");
    // An other file of that name is as safe as any that no version holds.
    sandbox.write("a.log", "mine");
    let (code, _) = sandbox.refused(&["checkout", "old"]);
    assert_eq!((code, sandbox.read("a.log").as_str()), (5, "mine"));
    std::fs::remove_file(sandbox.work("a.log")).unwrap();
    sandbox.at_work(&["-q", "checkout", "old"]);
    assert_eq!(sandbox.read("a.log"), "the first");
}

#[test]
fn a_rule_that_is_not_understood_stops_the_commit() {
    let sandbox = ignoring();
    sandbox.write("deep/.sparseignore", "fine\n{a,b\n");
    let (code, err) = sandbox.refused(&["commit", "-m", "first"]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("line 2 of"), "{err}");
    assert_eq!(sandbox.refused(&["log"]).0, 3);
}

#[test]
fn what_cannot_be_stored_can_be_left_out() {
    let sandbox = Sandbox::new().with_store();
    sandbox.write("a", "1");
    sandbox.write("b:c", "2");
    let (code, err) = sandbox.refused(&["commit", "-m", "first"]);
    assert_eq!(code, 2);
    assert!(err.contains("cannot store '$DIR/work/b:c'"), "{err}");
    assert!(
        err.contains("leave it out by a line in .sparseignore"),
        "{err}"
    );
    sandbox.write(".sparseignore", "b:c\n");
    sandbox.commit("first", 1);
    assert_eq!(listed(&sandbox, "main"), [".sparseignore", "a"]);
}
