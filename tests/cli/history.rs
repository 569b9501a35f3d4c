//! `sparse log`.

use crate::Sandbox;

/// Three commits on main.
fn three() -> (Sandbox, [String; 3]) {
    let sandbox = Sandbox::new().with_store();
    let ids = [1, 2, 3].map(|number| {
        sandbox.write("a.txt", format!("content {number}\n"));
        sandbox.commit(&format!("the {number}. commit\n\nwith a body"), number)
    });
    (sandbox, ids)
}

#[test]
fn commits_are_listed_newest_first() {
    let (sandbox, [first, second, third]) = three();
    let printed = sandbox.at_work(&["log"]);
    let expected = format!(
        "commit {} (main)\n\
         base    {} (derived, found)\n\
         author  Ada Lovelace <ada@example.org>\n\
         date    2024-05-06 07:08:03 +00:00\n\
         \n\
         \u{20}   the 3. commit\n\
         \n\
         \u{20}   with a body\n\
         \n\
         commit {}\n",
        &third[..12],
        &second[..12],
        &second[..12]
    );
    assert!(printed.starts_with(&expected), "{printed}");
    assert_eq!(
        sandbox.at_work(&["log", "-q"]),
        format!("{third}\n{second}\n{first}\n")
    );
    assert_eq!(
        sandbox.at_work(&["log", "-q", "-2", "main~1"]),
        format!("{second}\n{first}\n")
    );
    assert_eq!(sandbox.at_work(&["log", "-q", "-0"]), "");
}

#[test]
fn json_has_a_document_a_line() {
    let (sandbox, [first, second, _]) = three();
    let documents = sandbox.json(&["log", "main~1"]);
    assert_eq!(documents.len(), 2);
    let newest = &documents[0];
    assert_eq!(newest["schema"], "sparse.log/1");
    assert_eq!(newest["commit"], second.as_str());
    assert_eq!(newest["parents"][0], first.as_str());
    assert_eq!(newest["origins"][0]["base"], first.as_str());
    assert_eq!(newest["origins"][0]["stated"], false);
    assert_eq!(newest["time"], "2024-05-06T07:08:02Z");
    assert_eq!(newest["message"], "the 2. commit\n\nwith a body");
    assert_eq!(documents[1]["origins"], serde_json::json!([]));
}

#[test]
fn a_graph_of_one_line_is_a_column() {
    let (sandbox, [first, ..]) = three();
    sandbox.at_work(&["tag", "v1", "main~2"]);
    let printed = sandbox.at_work(&["log", "--graph"]);
    let rows: Vec<&str> = printed.lines().collect();
    assert!(rows[0].starts_with("*  commit "), "{printed}");
    assert!(rows[1].starts_with("|  base    "), "{printed}");
    assert!(printed.contains(&format!("\n*  commit {} (tag v1)\n", &first[..12])));
    // Nothing leads down from the first commit.
    let last = rows.iter().rposition(|row| row.starts_with('*')).unwrap();
    assert!(rows[last + 1].starts_with("   author"), "{printed}");
}

#[test]
fn an_empty_store_has_no_log() {
    let sandbox = Sandbox::new().with_store();
    let (code, err) = sandbox.refused(&["log"]);
    assert_eq!(code, 3);
    assert!(err.contains("there is no commit here yet"), "{err}");
    let (code, err) = sandbox.refused(&["log", "mian"]);
    assert_eq!(code, 3);
    assert!(
        err.contains("there is no branch, tag or commit 'mian'"),
        "{err}"
    );
}

#[test]
fn before_the_first_commit_on_the_own_branch_the_log_shows_all_branches() {
    let sandbox = Sandbox::new().with_store();
    let ids = ["base", "tuned"].map(|name| {
        let folder = sandbox.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("a"), name).unwrap();
        let folder = format!("../{name}");
        let id = sandbox.at_work(&["-q", "commit", &folder, "-b", name, "-m", name]);
        id.trim().to_owned()
    });
    let printed = sandbox.at_work(&["log", "-q"]);
    let mut listed: Vec<&str> = printed.lines().collect();
    listed.sort_unstable();
    let mut expected = ids.each_ref().map(String::as_str);
    expected.sort_unstable();
    assert_eq!(listed, expected);
    let printed = sandbox.at_work(&["log", "--graph"]);
    assert_eq!(printed.matches("*  commit ").count(), 2, "{printed}");
    assert_eq!(
        sandbox.refused(&["ls"]),
        (
            3,
            "error: no version is checked out here\nhint: name one: base, tuned\n".into()
        )
    );
    // A branch that another one has grown out of is drawn once, below.
    sandbox.at_work(&["branch", "older", "tuned"]);
    std::fs::write(sandbox.path().join("tuned/a"), "more").unwrap();
    sandbox.at_work(&["commit", "../tuned", "-b", "tuned", "-m", "more"]);
    let printed = sandbox.at_work(&["log", "--graph", "-q"]);
    let place = |id: &str| printed.lines().position(|line| line == id);
    let newest = sandbox.at_work(&["log", "-q", "-1", "tuned"]);
    assert_eq!(printed.lines().count(), 3);
    assert!(place(newest.trim()) < place(&ids[1]), "{printed}");
}

#[test]
fn a_commit_says_where_the_time_went_when_asked() {
    let sandbox = Sandbox::new().with_store();
    sandbox.write("a", "1");
    let printed = sandbox.at_work(&["commit", "-m", "first", "-v"]);
    let time = printed.lines().last().expect("a line");
    assert!(time.starts_with("  time    listing files 0."), "{printed}");
    for step in [
        "finding relatives",
        "choosing predictions",
        "coding",
        "publishing",
    ] {
        assert!(time.contains(step), "{printed}");
    }
    sandbox.write("a", "2");
    let steps = &sandbox.json(&["commit", "-m", "second"])[0]["steps"];
    assert!(steps["coding"].is_number(), "{steps}");
    sandbox.write("a", "3");
    assert!(
        !sandbox
            .at_work(&["commit", "-m", "third"])
            .contains("coding")
    );
}
