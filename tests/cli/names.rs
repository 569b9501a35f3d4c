//! `sparse branch` and `sparse tag`.

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
