//! `sparse status`.

use std::os::unix::fs::{PermissionsExt, symlink};

use crate::Sandbox;

fn changed() -> Sandbox {
    let sandbox = Sandbox::new().with_store();
    for name in ["gone", "kept", "longer", "run", "turned"] {
        sandbox.write(name, "same length");
    }
    symlink("kept", sandbox.work("link")).unwrap();
    std::fs::create_dir(sandbox.work("empty")).unwrap();
    sandbox.commit("first", 1);
    sandbox
}

#[test]
fn nothing_differs_after_a_commit() {
    let sandbox = changed();
    let printed = sandbox.at_work(&["status"]);
    assert!(printed.starts_with("on main at "), "{printed}");
    assert!(
        printed.ends_with("nothing differs in 5 files\n"),
        "{printed}"
    );
    assert_eq!(sandbox.at_work(&["status", "-q"]), "");
}

#[test]
fn every_kind_of_change_is_named() {
    let sandbox = changed();
    std::fs::remove_file(sandbox.work("gone")).unwrap();
    std::fs::remove_dir(sandbox.work("empty")).unwrap();
    sandbox.write("longer", "another length");
    sandbox.write("new/file\nwith two lines", "");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(sandbox.work("run"), mode).unwrap();
    std::fs::remove_file(sandbox.work("turned")).unwrap();
    symlink("kept", sandbox.work("turned")).unwrap();
    std::fs::remove_file(sandbox.work("link")).unwrap();
    symlink("run", sandbox.work("link")).unwrap();
    let printed = sandbox.at_work(&["status"]);
    let lines: Vec<&str> = printed.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "  deleted  empty",
            "  deleted  gone",
            "  changed  link",
            "  changed  longer",
            "  new      new/file\\nwith two lines",
            "  mode     run",
            "  kind     turned",
        ]
    );
    assert_eq!(
        sandbox.at_work(&["status", "-z"]),
        "deleted empty\0deleted gone\0changed link\0changed longer\0\
         new new/file\nwith two lines\0mode run\0kind turned\0"
    );
    let document = &sandbox.json(&["status"])[0];
    assert_eq!(document["schema"], "sparse.status/1");
    assert_eq!(document["branch"], "main");
    assert_eq!(document["files"], 4);
    assert_eq!(
        document["changes"][0],
        serde_json::json!({"path": "empty", "change": "deleted"})
    );
}

#[test]
fn the_same_length_and_time_do_not_hide_a_change() {
    let sandbox = changed();
    let before = std::fs::metadata(sandbox.work("kept")).unwrap();
    sandbox.at_work(&["status"]);
    sandbox.write("kept", "other bytes");
    let file = std::fs::File::options()
        .write(true)
        .open(sandbox.work("kept"))
        .unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    assert_eq!(sandbox.at_work(&["status", "-q"]), "kept\n");
}

#[test]
fn a_damaged_cache_changes_nothing() {
    let sandbox = changed();
    sandbox.at_work(&["status"]);
    let cache = sandbox.work(".sparse/cache");
    for entry in std::fs::read_dir(&cache).into_iter().flatten().flatten() {
        if entry.path().is_file() {
            std::fs::write(entry.path(), "damage").unwrap();
        }
    }
    assert_eq!(sandbox.at_work(&["status", "-q"]), "");
    std::fs::remove_dir_all(&cache).unwrap();
    assert_eq!(sandbox.at_work(&["status", "-q"]), "");
}

#[test]
fn a_work_tree_follows_the_first_branch_that_it_was_committed_to() {
    let sandbox = Sandbox::new().with_store();
    sandbox.write("a", "1");
    sandbox.at_work(&["commit", ".", "-b", "first", "-m", "x"]);
    let printed = sandbox.at_work(&["status"]);
    assert!(printed.starts_with("on first at "), "{printed}");
    // A branch with commits is left only by a checkout.
    sandbox.write("a", "2");
    sandbox.at_work(&["commit", "-b", "other", "-m", "y"]);
    let printed = sandbox.at_work(&["status"]);
    assert!(printed.starts_with("on first at "), "{printed}");
    assert!(printed.contains("changed  a"), "{printed}");
    // The files of a folder elsewhere are not in the work tree.
    let sandbox = Sandbox::new().with_store();
    std::fs::write(sandbox.path().join("model"), "1").unwrap();
    sandbox.at_work(&["commit", "../model", "-b", "first", "-m", "x"]);
    let printed = sandbox.at_work(&["status"]);
    assert!(
        printed.starts_with("on main without a commit yet"),
        "{printed}"
    );
}

#[test]
fn only_what_a_checkout_left_is_passed_over() {
    let sandbox = Sandbox::new().with_store();
    sandbox.write(".sparse-tmp-notes", "mine");
    sandbox.write(".sparse-tmp-0123456789abcdef", "half of a file");
    assert_eq!(sandbox.at_work(&["status", "-q"]), ".sparse-tmp-notes\n");
    sandbox.commit("first", 1);
    assert_eq!(sandbox.at_work(&["ls", "-q"]), ".sparse-tmp-notes\n");
}

#[test]
fn a_bare_store_has_no_status() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["init", "--bare", "store"]);
    assert_eq!(sandbox.fails(&["--repo", "store", "status"]).0, 2);
}
