//! `sparse undo`.

use crate::Sandbox;

#[test]
fn the_newest_operation_is_taken_back_and_then_done_again() {
    let sandbox = Sandbox::new().with_store();
    sandbox.write("a", "1");
    let first = sandbox.commit("first", 1);
    sandbox.write("a", "2");
    let second = sandbox.commit("second", 2);
    let (a, b) = (&first[..12], &second[..12]);
    assert_eq!(
        sandbox.at_work(&["undo", "-n"]),
        format!(
            "would undo 'commit' of 2024-05-06T07:08:02Z by Ada Lovelace <ada@example.org>\n  \
             heads/main  {b} → {a}\n"
        )
    );
    assert_eq!(sandbox.at_work(&["log", "-q", "-1"]), format!("{second}\n"));
    sandbox.at_work(&["undo"]);
    assert_eq!(sandbox.at_work(&["log", "-q", "-1"]), format!("{first}\n"));
    // Files are not touched.
    assert_eq!(sandbox.read("a"), "2");
    assert_eq!(
        sandbox.at_work(&["undo"]),
        format!(
            "undid 'undo' of 2024-05-06T07:08:09Z by Ada Lovelace <ada@example.org>\n  \
             heads/main  {a} → {b}\n"
        )
    );
    assert_eq!(sandbox.at_work(&["log", "-q", "-1"]), format!("{second}\n"));
}

#[test]
fn a_deleted_branch_comes_back() {
    let sandbox = Sandbox::new().with_store();
    sandbox.write("a", "1");
    sandbox.commit("first", 1);
    sandbox.at_work(&["branch", "tuned"]);
    sandbox.at_work(&["branch", "-d", "tuned"]);
    sandbox.at_work(&["undo"]);
    assert_eq!(sandbox.at_work(&["branch", "-q"]), "main\ntuned\n");
}

#[test]
fn the_first_commit_is_undone_to_nothing() {
    let sandbox = Sandbox::new().with_store();
    assert_eq!(
        sandbox.refused(&["undo"]),
        (3, "error: there is nothing to undo\n".into())
    );
    sandbox.write("a", "1");
    let first = sandbox.commit("first", 1);
    sandbox.at_work(&["undo"]);
    assert_eq!(sandbox.at_work(&["branch"]), "");
    assert_eq!(sandbox.refused(&["log"]).0, 3);
    let status = sandbox.at_work(&["status", "-q"]);
    assert_eq!(status, "a\n");
    assert_eq!(sandbox.commit("first", 1), first);
}
