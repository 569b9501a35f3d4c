//! `sparse push`.

use crate::sharing::{commit, two_stores, without_sizes, write};

#[test]
fn a_branch_is_pushed_and_then_up_to_date() {
    let sandbox = two_stores();
    let id = sandbox.ok(&["-C", "a", "push", "../team", "-q"]);
    let short = &id[..12];
    assert_eq!(
        sandbox.ok(&["-C", "a", "push", "../team"]),
        format!("pushed to ../team\n  main  {short} up to date\n0 B logical, 0 B sent\n")
    );
    write(&sandbox, "a/x.txt", "two\n");
    let new = commit(&sandbox, "a");
    let dry = sandbox.ok(&["-C", "a", "push", "../team", "main", "-n"]);
    assert_eq!(
        without_sizes(&dry),
        format!("would push to ../team\n  main  {short} → {new}\nSIZES\n")
    );
    let pushed = sandbox.ok(&["-C", "a", "push", "../team", "main"]);
    assert!(
        pushed.contains(&format!("main  {short} → {new}\n")),
        "{pushed}"
    );
    assert!(pushed.contains("\n4 B logical, "), "{pushed}");
}

#[test]
fn a_push_says_the_same_as_json() {
    let sandbox = two_stores();
    let json = sandbox.ok(&["-C", "a", "push", "../team", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["schema"], "sparse.push/1");
    assert_eq!(value["remote"], "../team");
    assert_eq!(value["refs"][0]["name"], "heads/main");
    assert!(value["refs"][0]["old"].is_null());
    assert_eq!(value["refs"][0]["forced"], false);
    assert_eq!(value["logical_bytes"], 4);
    assert!(value["sent_bytes"].as_u64().unwrap() > 0);
    assert_eq!(value["dry_run"], false);
}

#[test]
fn where_there_is_no_store_the_way_to_one_is_told() {
    let sandbox = two_stores();
    let (code, error) = sandbox.fails(&["-C", "a", "push", "../nowhere"]);
    assert_eq!(code, 3);
    assert_eq!(
        error,
        "error: there is no store in '../nowhere'\n\
         hint: make one: sparse init --bare ../nowhere\n"
    );
    assert_eq!(sandbox.fails(&["-C", "a", "push", "s3://bucket/x"]).0, 7);
    assert_eq!(sandbox.fails(&["-C", "a", "push", "../team", "other"]).0, 3);
    assert_eq!(
        sandbox
            .fails(&["-C", "a", "push", "../team", "--offline"])
            .0,
        7
    );
}

#[test]
fn commits_of_others_are_not_lost_without_a_word() {
    let sandbox = two_stores();
    sandbox.ok(&["-C", "a", "push", "../team"]);
    sandbox.ok(&["init", "b"]);
    write(&sandbox, "b/y.txt", "other\n");
    commit(&sandbox, "b");
    sandbox.ok(&["-C", "b", "remote", "add", "team", "../team"]);
    assert_eq!(
        sandbox.fails(&["-C", "b", "push", "team"]),
        (
            5,
            "error: 'main' has commits over there that are not here\n\
             hint: sparse pull first, then push again\n"
                .into()
        )
    );
    let lease = ["-C", "b", "push", "team", "--force-with-lease"];
    assert_eq!(sandbox.fails(&lease).0, 5);
    sandbox.ok(&["-C", "b", "fetch", "team"]);
    let forced = sandbox.ok(&lease);
    assert!(forced.contains(" forced\n"), "{forced}");
}

#[test]
fn a_push_that_was_killed_is_repeated_and_sends_what_is_missing() {
    let sandbox = two_stores();
    std::fs::write(sandbox.path().join("a/big.bin"), crate::noise(150 << 20)).unwrap();
    commit(&sandbox, "a");
    let mut child = sandbox
        .command(&["-C", "a", "push", "../team", "-q"])
        .spawn()
        .unwrap();
    // Killed as soon as the first full pack has its name.
    let team = sandbox.path().join("team");
    while crate::named_packs(&team) == 0 && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    let finished = child.wait().unwrap().success();
    let json = sandbox.ok(&["-C", "a", "push", "../team", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    let sent = value["sent_bytes"].as_u64().unwrap();
    if !finished {
        assert!(sent < 100 << 20, "what was there was sent again: {sent}");
    }
    sandbox.ok(&["clone", "team", "b", "-q"]);
    let read = |path: &str| std::fs::read(sandbox.path().join(path)).unwrap();
    assert!(read("a/big.bin") == read("b/big.bin"));
}

#[test]
fn two_processes_push_at_the_same_time() {
    let sandbox = two_stores();
    sandbox.ok(&["init", "b"]);
    write(&sandbox, "b/y.txt", "other\n");
    for round in 0..3 {
        write(&sandbox, "a/x.txt", &format!("a {round}\n"));
        write(&sandbox, "b/y.txt", &format!("b {round}\n"));
        commit(&sandbox, "a");
        sandbox.ok(&["-C", "b", "commit", "-b", "other", "-m", "m", "-q", "."]);
        let children = [("a", "main"), ("b", "other")].map(|(tree, branch)| {
            let words = ["-C", tree, "push", "../team", branch, "-q"];
            sandbox.command(&words).spawn().unwrap()
        });
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
    }
    let seen = sandbox.ok(&["-C", "b", "fetch", "../team", "-n", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(value["refs"].as_array().unwrap().len(), 2);
}
