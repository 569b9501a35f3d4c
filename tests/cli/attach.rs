//! `sparse attach`.

use crate::Sandbox;

fn one() -> (Sandbox, String) {
    let sandbox = Sandbox::new().with_store();
    sandbox.write("a", "1");
    let id = sandbox.commit("first", 1);
    (sandbox, id)
}

#[test]
fn attachments_do_not_change_the_commit_and_the_newest_wins() {
    let (sandbox, id) = one();
    assert_eq!(
        sandbox.at_work(&["attach", "main", "eval", "accuracy=0.5", "latency_ms=41"]),
        format!("attached eval to {}\n", &id[..12])
    );
    let output = sandbox
        .command(&["-C", "work", "attach", "main", "eval", "accuracy=0.7"])
        .env("SPARSE_DATE", "2024-06-01T00:00:00Z")
        .env("SPARSE_AUTHOR", "Bob <b@example.org>")
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(sandbox.at_work(&["log", "-q"]), format!("{id}\n"));
    let document = &sandbox.json(&["show", "main"])[0];
    assert_eq!(
        document["attributes"],
        serde_json::json!({"eval": {"accuracy": 0.7, "latency_ms": 41}})
    );
    let attachments = document["attachments"].as_array().unwrap();
    assert_eq!(attachments.len(), 2);
    assert_eq!(
        attachments[0]["value"],
        serde_json::json!({"accuracy": 0.5, "latency_ms": 41})
    );
    assert_eq!(attachments[1]["author"], "Bob <b@example.org>");
    assert_eq!(attachments[1]["time"], "2024-06-01T00:00:00Z");
    let printed = sandbox.at_work(&["log"]);
    assert!(printed.contains("\nfacts   eval\n"), "{printed}");
}

#[test]
fn attributes_of_a_commit_lie_below_its_attachments() {
    let sandbox = Sandbox::new().with_store();
    sandbox.write("a", "1");
    sandbox.write("../notes.json", r#"{"b": {"deep": [1, 2]}}"#);
    sandbox.at_work(&[
        "commit",
        "-m",
        "x",
        "--attr",
        "my.own=a=1",
        "--attr",
        "license=spdx=MIT",
    ]);
    sandbox.at_work(&["attach", "main", "my.own", "../notes.json"]);
    assert_eq!(
        sandbox.json(&["show", "main"])[0]["attributes"],
        serde_json::json!({
            "license": {"spdx": "MIT"}, "my.own": {"a": 1, "b": {"deep": [1, 2]}},
        })
    );
}

#[test]
fn what_does_not_fit_its_schema_is_refused_with_its_path() {
    let (sandbox, _) = one();
    let (code, err) = sandbox.refused(&["attach", "main", "eval", "accuracy=high"]);
    assert_eq!(code, 2);
    assert!(
        err.starts_with("error: this is no value for 'eval'\n  caused by: at /accuracy: "),
        "{err}"
    );
    let wrong = ["commit", "-m", "x", "--attr", "prune=type=width"];
    assert_eq!(sandbox.refused(&wrong).0, 2);
    assert_eq!(sandbox.refused(&["attach", "main", "a b", "x=1"]).0, 2);
    assert_eq!(sandbox.refused(&["attach", "nowhere", "eval", "x=1"]).0, 3);
    assert_eq!(
        sandbox.json(&["show", "main"])[0]["attachments"],
        serde_json::json!([])
    );
}

#[test]
fn an_attachment_can_be_undone_and_is_kept_once() {
    let (sandbox, _) = one();
    let id = sandbox.at_work(&["attach", "-q", "main", "eval", "accuracy=1"]);
    // The very same words by the same person at the same time.
    assert_eq!(
        sandbox.at_work(&["attach", "-q", "main", "eval", "accuracy=1"]),
        id
    );
    assert_eq!(
        sandbox.json(&["show", "main"])[0]["attachments"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    sandbox.at_work(&["undo"]);
    assert_eq!(
        sandbox.json(&["show", "main"])[0]["attachments"],
        serde_json::json!([])
    );
}
