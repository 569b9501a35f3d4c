//! `sparse config`.

use std::fs;

use crate::Sandbox;

#[test]
fn a_user_sets_and_reads_a_setting() {
    let sandbox = Sandbox::new();
    assert_eq!(
        sandbox.fails(&["config", "get", "user.name"]),
        (3, "error: 'user.name' is not set\n".into())
    );
    assert_eq!(
        sandbox.ok(&["config", "set", "--user", "user.name", "Ada"]),
        ""
    );
    assert_eq!(sandbox.ok(&["config", "get", "user.name"]), "Ada\n");
    assert_eq!(
        sandbox.ok(&["config", "set", "--user", "core.threads", "3", "--json"]),
        "{\"schema\":\"sparse.setting/1\",\"key\":\"core.threads\",\"value\":\"3\",\
         \"origin\":\"$DIR/home/.config/sparse/config.toml\"}\n"
    );
    assert_eq!(
        sandbox.ok(&["config", "get", "user.name", "--json"]),
        "{\"schema\":\"sparse.setting/1\",\"key\":\"user.name\",\"value\":\"Ada\",\
         \"origin\":\"$DIR/home/.config/sparse/config.toml\"}\n"
    );
}

#[test]
fn the_list_says_where_settings_come_from() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["config", "set", "--user", "core.threads", "2"]);
    assert_eq!(
        sandbox.ok(&["config", "list", "--show-origin"]),
        "commit.level = default  (default)\n\
         core.color = auto  (default)\n\
         core.pager = less -FRX  (default)\n\
         core.threads = 2  ($DIR/home/.config/sparse/config.toml)\n"
    );
    assert_eq!(
        sandbox.ok(&["-q", "config", "list"]),
        "commit.level\ncore.color\ncore.pager\ncore.threads\n"
    );
    let output = sandbox
        .command(&["config", "get", "core.threads"])
        .env("SPARSE_THREADS", "7")
        .output()
        .unwrap();
    assert_eq!(sandbox.seen(&output).out, "7\n");
}

#[test]
fn a_store_has_settings_of_its_own() {
    let sandbox = Sandbox::new();
    let (code, err) = sandbox.fails(&["config", "set", "commit.level", "max"]);
    assert_eq!(code, 3);
    assert_eq!(
        err,
        "error: there is no store in '$DIR' or a folder above\nhint: for all stores: --user\n"
    );
    let sandbox = sandbox.with_store_folder();
    sandbox.ok(&["-C", "work", "config", "set", "commit.level", "max"]);
    assert_eq!(
        sandbox.ok(&["-C", "work", "config", "get", "commit.level"]),
        "max\n"
    );
    assert_eq!(
        sandbox.ok(&["--repo", "work", "config", "get", "commit.level"]),
        "max\n"
    );
    assert_eq!(sandbox.ok(&["config", "get", "commit.level"]), "default\n");
    assert_eq!(
        fs::read_to_string(sandbox.path().join("work/.sparse/config.toml")).unwrap(),
        "[commit]\nlevel = \"max\"\n"
    );
}

#[test]
fn what_makes_no_sense_is_refused_with_a_hint() {
    let sandbox = Sandbox::new();
    assert_eq!(
        sandbox.fails(&["config", "set", "--user", "user.nmae", "Ada"]),
        (
            3,
            "error: there is no setting 'user.nmae'\nhint: did you mean 'user.name', \
             'user.email'?\n"
                .into()
        )
    );
    assert_eq!(
        sandbox.fails(&["config", "set", "--user", "commit.level", "best"]),
        (
            2,
            "error: 'commit.level' cannot be 'best'\nhint: one of: fast, default, max\n".into()
        )
    );
}

#[test]
fn a_broken_file_is_named() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path().join("home/.config/sparse");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config.toml"), "[user\nname = 1\n").unwrap();
    let (code, err) = sandbox.fails(&["config", "list"]);
    assert_eq!(code, 2);
    assert!(
        err.starts_with(
            "error: cannot understand '$DIR/home/.config/sparse/config.toml'\n  caused by: line 1: "
        ),
        "{err}"
    );
    // Where settings do not matter, it does no harm.
    sandbox.ok(&["version"]);
}

#[test]
fn every_verb_refuses_a_number_of_threads_that_is_none() {
    let sandbox = Sandbox::new().with_store();
    for wrong in ["0", "-1", "many"] {
        let mut command = sandbox.command(&["-C", "work", "branch"]);
        let seen = sandbox.seen(&command.env("SPARSE_THREADS", wrong).output().unwrap());
        assert_eq!((seen.code, &*seen.out), (2, ""), "{wrong}");
        assert!(seen.err.contains("a number from 1 on"), "{}", seen.err);
    }
}
