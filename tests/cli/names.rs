//! `sparse branch` and `sparse tag`.

use store_format::reference::Change;

use crate::Sandbox;

fn one() -> (Sandbox, String) {
    let sandbox = Sandbox::new().with_store();
    sandbox.write("a", "1");
    let id = sandbox.commit("first\n\nbody", 1);
    (sandbox, id)
}

#[test]
fn branches_are_made_listed_and_deleted() {
    let (sandbox, id) = one();
    let short = &id[..12];
    assert_eq!(
        sandbox.at_work(&["branch", "tuned"]),
        format!("made branch tuned, at {short}\n")
    );
    assert_eq!(
        sandbox.at_work(&["branch"]),
        format!("* main   {short}  first\n  tuned  {short}  first\n")
    );
    assert_eq!(sandbox.at_work(&["branch", "-q"]), "main\ntuned\n");
    assert_eq!(
        sandbox.at_work(&["branch", "--json"]),
        format!(
            "{{\"schema\":\"sparse.branches/1\",\"branches\":[\
             {{\"name\":\"main\",\"commit\":\"{id}\",\"subject\":\"first\",\"checked_out\":true}},\
             {{\"name\":\"tuned\",\"commit\":\"{id}\",\"subject\":\"first\",\"checked_out\":false}}]}}\n"
        )
    );
    assert_eq!(
        sandbox.at_work(&["branch", "-d", "tuned"]),
        format!("deleted branch tuned, it was at {short}\n")
    );
    assert_eq!(sandbox.at_work(&["branch", "-q"]), "main\n");
}

#[test]
fn names_that_cannot_be_are_refused() {
    let (sandbox, id) = one();
    assert_eq!(
        sandbox.refused(&["branch", "main"]),
        (
            5,
            format!(
                "error: there is a branch 'main' already, at {}\nhint: sparse branch -d main\n",
                &id[..12]
            )
        )
    );
    assert_eq!(
        sandbox.refused(&["branch", "-d", "mian"]),
        (
            3,
            "error: there is no branch 'mian'\nhint: did you mean 'main'?\n".into()
        )
    );
    assert_eq!(
        sandbox.refused(&["branch", "-d", "main"]),
        (
            5,
            "error: branch 'main' is checked out\n\
             hint: check out another one first: sparse checkout BRANCH\n"
                .into()
        )
    );
    for wrong in ["a b", "../x", "HEAD"] {
        assert_eq!(sandbox.refused(&["branch", wrong]).0, 2, "{wrong}");
    }
    assert_eq!(sandbox.refused(&["tag", "v1", "nowhere"]).0, 3);
    // An id is no name, however it would be made.
    let expected = format!("error: '{id}' is no name: it would be taken for an id\n");
    for words in [
        &["branch", &id][..],
        &["tag", &id],
        &["commit", "-b", &id, "-m", "x"],
    ] {
        assert_eq!(sandbox.refused(words), (2, expected.clone()));
    }
    for right in ["2024", "20240506", "cab", "cafe-au-lait", "CAFE"] {
        sandbox.at_work(&["branch", right]);
    }
}

/// Makes a name that this program refuses to make, as one may come from another store.
fn make(sandbox: &Sandbox, name: &str, commit: &str) {
    use sparse_store::store::{Store, advance::Deed, host::Host};
    let store = Store::open(&sandbox.work(".sparse"), Host::system()).unwrap();
    let deed = Deed {
        verb: "fetch".into(),
        author: String::new(),
        time: 0,
        changes: vec![Change {
            name: name.into(),
            old: None,
            new: Some(commit.parse().unwrap()),
        }],
        undoes: None,
    };
    let txn = store.begin().unwrap();
    txn.publish(&deed, None).unwrap().done().unwrap();
}

#[test]
fn a_name_never_hides_a_commit_or_another_name() {
    let (sandbox, first) = one();
    sandbox.write("a", "2");
    let second = sandbox.commit("second", 2);
    // An id in full is that commit, whatever is named so.
    make(&sandbox, &format!("tags/{first}"), &second);
    make(&sandbox, &format!("heads/{first}"), &second);
    assert_eq!(
        sandbox.at_work(&["log", "-q", &first]),
        format!("{first}\n")
    );
    sandbox.at_work(&["checkout", &first]);
    assert_eq!(sandbox.read("a"), "1");
    assert!(sandbox.at_work(&["status"]).starts_with("on no branch at "));
    sandbox.at_work(&["checkout", "main"]);
    // The beginning of an id and a name for something else: both are named.
    let digits = &first[..6];
    make(&sandbox, &format!("tags/{digits}"), &second);
    let hint = "hint: give the whole name, or more digits of the id\n";
    assert_eq!(
        sandbox.refused(&["show", digits]),
        (
            2,
            format!(
                "error: '{digits}' could be tags/{digits} or {}\n{hint}",
                &first[..12]
            )
        )
    );
    let of = |revision: &str| sandbox.at_work(&["log", "-q", "-1", revision]);
    assert_eq!(of(&format!("tags/{digits}")), format!("{second}\n"));
    assert_eq!(of(&first[..8]), format!("{first}\n"));
    // A branch and a tag of one name; where they point to the same there is nothing to guess.
    sandbox.at_work(&["branch", "v1", "main"]);
    sandbox.at_work(&["tag", "v1", "main"]);
    assert_eq!(of("v1"), format!("{second}\n"));
    sandbox.at_work(&["tag", "-d", "v1"]);
    sandbox.at_work(&["tag", "v1", "main~1"]);
    assert_eq!(
        sandbox.refused(&["checkout", "v1"]),
        (
            2,
            format!("error: 'v1' could be heads/v1 or tags/v1\n{hint}")
        )
    );
    sandbox.at_work(&["checkout", "heads/v1"]);
    assert!(sandbox.at_work(&["status"]).starts_with("on v1 at "));
}

#[test]
fn tags_name_what_they_were_made_for() {
    let (sandbox, first) = one();
    sandbox.at_work(&["tag", "v1"]);
    sandbox.write("a", "2");
    sandbox.commit("second", 2);
    assert_eq!(
        sandbox.at_work(&["tag"]),
        format!("v1  {}  first\n", &first[..12])
    );
    assert_eq!(sandbox.at_work(&["log", "-q", "v1"]), format!("{first}\n"));
    sandbox.at_work(&["tag", "-d", "v1"]);
    assert_eq!(sandbox.at_work(&["tag"]), "");
}
