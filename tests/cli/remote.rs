//! `sparse remote`.

use crate::Sandbox;

#[test]
fn remotes_are_named_listed_and_forgotten() {
    let sandbox = Sandbox::new().with_store_folder();
    let run = |words: &[&str]| sandbox.ok(&[&["-C", "work", "remote"], words].concat());
    assert_eq!(run(&[]), "");
    assert_eq!(run(&["add", "origin", "https://example.org/lab/llama"]), "");
    assert_eq!(run(&["add", "backup", "/mnt/models"]), "");
    assert_eq!(
        run(&["list"]),
        "backup  /mnt/models\norigin  https://example.org/lab/llama\n"
    );
    assert_eq!(run(&["-q"]), "backup\norigin\n");
    assert_eq!(run(&["remove", "origin"]), "");
    assert_eq!(
        run(&["list", "--json"]),
        "{\"schema\":\"sparse.remotes/1\",\"remotes\":[{\"name\":\"backup\",\
         \"address\":\"/mnt/models\"}]}\n"
    );
    assert_eq!(
        sandbox.ok(&["-C", "work", "config", "get", "remote.backup.url"]),
        "/mnt/models\n"
    );
    let changed = |removed: bool| {
        format!(
            "{{\"schema\":\"sparse.remote/1\",\"name\":\"x\",\"address\":\"/x\",\
             \"removed\":{removed}}}\n"
        )
    };
    assert_eq!(run(&["add", "x", "/x", "--json"]), changed(false));
    assert_eq!(run(&["remove", "x", "--json"]), changed(true));
}

#[test]
fn a_taken_and_an_unknown_name_are_refused() {
    let sandbox = Sandbox::new().with_store_folder();
    sandbox.ok(&["-C", "work", "remote", "add", "origin", "/a"]);
    assert_eq!(
        sandbox.fails(&["-C", "work", "remote", "add", "origin", "/b"]),
        (
            5,
            "error: the name 'origin' is taken by '/a'\nhint: sparse remote remove origin\n".into()
        )
    );
    assert_eq!(
        sandbox.fails(&["-C", "work", "remote", "remove", "orgin"]),
        (
            3,
            "error: there is no remote 'orgin'\nhint: did you mean 'origin'?\n".into()
        )
    );
    assert_eq!(
        sandbox
            .fails(&["-C", "work", "remote", "add", "../x", "/b"])
            .0,
        2
    );
    assert_eq!(sandbox.fails(&["remote", "list"]).0, 3);
}

#[test]
fn a_name_of_the_user_is_not_removed_from_a_store() {
    let sandbox = Sandbox::new().with_store_folder();
    let folder = sandbox.path().join("home/.config/sparse");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.toml"), "remote.hub.url = '/hub'\n").unwrap();
    assert_eq!(sandbox.ok(&["-C", "work", "remote"]), "hub  /hub\n");
    assert_eq!(
        sandbox.fails(&["-C", "work", "remote", "remove", "hub"]),
        (
            2,
            "error: 'hub' is not named by this store but in \
             $DIR/home/.config/sparse/config.toml\n"
                .into()
        )
    );
}
