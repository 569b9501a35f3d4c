//! The order of settings, and that a file keeps what was not changed.
//!
//! May use: its parent.

use tempfile::TempDir;

use super::*;

/// A user's folder and a store's, each with its file of settings.
fn loaded(user: &str, store: &str, variables: &[(&str, &str)]) -> Result<(TempDir, Config)> {
    let dir = TempDir::new().unwrap();
    let user_file = dir.path().join("home/sparse/config.toml");
    fs::create_dir_all(user_file.parent().unwrap()).unwrap();
    fs::write(&user_file, user).unwrap();
    fs::create_dir(dir.path().join("store")).unwrap();
    fs::write(store_file(&dir.path().join("store")), store).unwrap();
    let home = dir.path().join("home").display().to_string();
    let environment: Environment = variables
        .iter()
        .copied()
        .chain([("XDG_CONFIG_HOME", home.as_str())])
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    let config = Config::load(&environment, Some(&dir.path().join("store")))?;
    Ok((dir, config))
}

fn value(config: &Config, key: Key) -> Option<String> {
    config.get(key).unwrap()
}

#[test]
fn a_variable_goes_before_the_store_before_the_user_before_the_default() {
    let user = "commit.level = 'fast'\ncore.threads = 2\nuser.name = 'Ada'\n";
    let store = "[commit]\nlevel = 'max'\n[core]\nthreads = 3\n";
    let (_dir, config) = loaded(user, store, &[("SPARSE_THREADS", "4")]).unwrap();
    assert_eq!(value(&config, Key::CoreThreads).as_deref(), Some("4"));
    assert_eq!(value(&config, Key::CommitLevel).as_deref(), Some("max"));
    assert_eq!(value(&config, Key::UserName).as_deref(), Some("Ada"));
    assert_eq!(value(&config, Key::CoreColor).as_deref(), Some("auto"));
    assert_eq!(value(&config, Key::UserEmail), None);
}

#[test]
fn a_store_cannot_name_programs_or_places() {
    let store = "core.pager = 'rm -rf'\ncore.cache_dir = '/tmp/theirs'\n";
    let (_dir, config) = loaded("", store, &[]).unwrap();
    assert_eq!(value(&config, Key::CorePager).as_deref(), Some("less -FRX"));
    assert_eq!(value(&config, Key::CoreCacheDir), None);
    let (_dir, config) = loaded("core.pager = 'more'", store, &[("PAGER", "cat")]).unwrap();
    assert_eq!(value(&config, Key::CorePager).as_deref(), Some("more"));
    let (_dir, config) = loaded("", "", &[("PAGER", "cat")]).unwrap();
    assert_eq!(value(&config, Key::CorePager).as_deref(), Some("cat"));
}

#[test]
fn a_wrong_value_says_where_it_stands() {
    for wrong in [
        "core.threads = 0",
        "core.threads = 'many'",
        "core.threads = true",
    ] {
        let (dir, config) = loaded(wrong, "", &[]).unwrap();
        let error = config.get(Key::CoreThreads).unwrap_err();
        assert_eq!(error.kind().exit_code(), 2);
        let file = dir.path().join("home/sparse/config.toml");
        assert_eq!(error.causes(), [format!("it stands in {}", file.display())]);
    }
}

#[test]
fn a_file_that_is_no_toml_says_where() {
    let error = loaded("a = 1\nb = = 2\n", "", &[]).unwrap_err();
    assert!(
        error.causes()[0].starts_with("line 2: "),
        "{:?}",
        error.causes()
    );
}

#[test]
fn odd_shapes_are_no_settings_and_no_panics() {
    for odd in [
        "core = 1",
        "core = []",
        "[core.threads]",
        "remote = 3",
        "[[remote]]",
        "[remote]\na = 1",
    ] {
        let (_dir, config) = loaded(odd, odd, &[]).unwrap();
        assert_eq!(value(&config, Key::CoreThreads), None);
        assert!(config.remotes().is_empty());
    }
}

#[test]
fn setting_keeps_comments_and_other_settings() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("deep/config.toml");
    set(&file, false, Key::UserName, "Ada").unwrap();
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        "[user]\nname = \"Ada\"\n"
    );
    fs::write(&file, "# mine\n[user]\nname = 'Ada' # me\nother = 1\n").unwrap();
    set(&file, false, Key::UserEmail, "a@b").unwrap();
    set(&file, false, Key::CoreThreads, "8").unwrap();
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        "# mine\n[user]\nname = 'Ada' # me\nother = 1\nemail = \"a@b\"\n\n[core]\nthreads = 8\n"
    );
    let left: Vec<_> = fs::read_dir(dir.path().join("deep")).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing unfinished is left");
}

#[test]
fn what_makes_no_sense_is_not_written() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("config.toml");
    set(&file, false, Key::CommitLevel, "best").unwrap_err();
    set(&file, true, Key::CorePager, "more").unwrap_err();
    set(&file, false, Key::UserName, "A\nB").unwrap_err();
    for name in ["", "-x", "a b", "../a", "a\"b"] {
        set_remote(&file, name, Some("/x")).unwrap_err();
    }
    assert!(!file.exists());
    fs::write(&file, "user = 3\n").unwrap();
    set(&file, false, Key::UserName, "Ada").unwrap_err();
    assert_eq!(fs::read_to_string(&file).unwrap(), "user = 3\n");
}

#[test]
fn remotes_have_names() {
    let dir = TempDir::new().unwrap();
    let store = dir.path().join("store");
    let file = store_file(&store);
    set_remote(&file, "origin", Some("https://example.org/lab/llama")).unwrap();
    set_remote(&file, "v1.0", Some("/mnt/backup")).unwrap();
    let load = || Config::load(&Environment::default(), Some(&store)).unwrap();
    assert_eq!(load().remote("v1.0").as_deref(), Some("/mnt/backup"));
    assert_eq!(load().remotes().len(), 2);
    set_remote(&file, "v1.0", None).unwrap();
    assert_eq!(load().remote("v1.0"), None);
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        "[remote.origin]\nurl = \"https://example.org/lab/llama\"\n"
    );
}

#[test]
fn names_that_are_nearly_right_get_a_hint() {
    let error = Key::of("user.nmae").unwrap_err();
    assert!(error.hint_text().unwrap().contains("user.name"));
    for key in Key::ALL {
        assert_eq!(Key::of(key.name()).unwrap(), key);
    }
}
