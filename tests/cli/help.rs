//! `sparse help`, `version`, `completions`, and what goes wrong before a verb runs.

use std::process::Stdio;

use crate::Sandbox;

const OVERVIEW: &str = "\
A git-like, content-addressed store for machine-learning models and datasets

Usage: sparse [OPTIONS] <VERB>

start
  init        Make a store
  clone       Copy a store

work
  commit      Keep a file or folder as a new version
  status      Say what differs from the last commit
  log         List commits, newest first
  show        Tell everything about a commit, tag or file
  ls          List the files of a version
  cat         Print a file of a version
  diff        Compare two versions
  branch      List, make or delete branches
  tag         List, make or delete tags
  checkout    Write a version into a folder
  attach      Add typed facts to a commit
  undo        Take back the last change of branches and tags

derive
  svd         Cut a fine-tune's change to its strongest components
  adapter     Keep adapters with their base

share
  push        Send commits to another store
  fetch       Get commits from another store
  pull        Get commits and bring the branch forward
  remote      Name other stores

care
  stats       Tell what the store holds and saves
  fsck        Check that the store is whole
  repair      Restore hurt records from other copies
  gc          Delete what nothing needs any more
  repack      Store records anew, smaller
  config      Read and change settings
  completions Print a completion script for a shell
  version     Print the version
  help        Explain a verb or a topic

Options
";

#[test]
fn the_overview_has_the_verbs_in_groups_and_fits_a_screen() {
    let sandbox = Sandbox::new();
    let text = sandbox.ok(&["-h"]);
    assert!(text.starts_with(OVERVIEW), "{text}");
    assert!(text.lines().count() <= 50, "{text}");
    assert!(!text.contains('\u{1b}'), "no colour where no terminal is");
    let long = sandbox.ok(&["help"]);
    assert!(long.starts_with(OVERVIEW), "{long}");
    assert!(long.contains("--repo <DIR>"), "{long}");
}

#[test]
fn a_verb_is_explained_with_examples() {
    let sandbox = Sandbox::new();
    let text = sandbox.ok(&["help", "gc"]);
    assert_eq!(text, sandbox.ok(&["gc", "--help"]));
    assert!(text.contains("Usage: sparse gc [OPTIONS]"), "{text}");
    assert!(
        text.contains(
            "Examples:\n  $ sparse gc --dry-run  # say only what would be deleted\n  $ sparse gc \
             --grace 2h\n"
        ),
        "{text}"
    );
    assert!(
        sandbox
            .ok(&["help", "remote", "add"])
            .contains("<NAME> <ADDRESS>")
    );
}

#[test]
fn the_exit_codes_are_a_topic() {
    let sandbox = Sandbox::new();
    let text = sandbox.ok(&["help", "exit-codes"]);
    assert!(text.starts_with("  0  done\n  1  failed"), "{text}");
    let json = sandbox.ok(&["help", "exit-codes", "--json"]);
    assert!(
        json.starts_with(
            "{\"schema\":\"sparse.exit-codes/1\",\"codes\":[{\"code\":0,\"meaning\":\"done\"}"
        ),
        "{json}"
    );
    assert_eq!(
        sandbox.fails(&["help", "comit"]),
        (
            3,
            "error: there is no topic 'comit'\nhint: did you mean 'commit', 'completions'?\n"
                .into()
        )
    );
}

#[test]
fn the_version_tells_the_format_too() {
    let sandbox = Sandbox::new();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        sandbox.ok(&["version"]),
        format!("sparse {version} (store format 1)\n")
    );
    assert_eq!(sandbox.ok(&["version", "-q"]), format!("{version}\n"));
    assert_eq!(
        sandbox.ok(&["--json", "version"]),
        format!("{{\"schema\":\"sparse.version/1\",\"version\":\"{version}\",\"format\":1}}\n")
    );
    assert_eq!(sandbox.ok(&["-V"]), format!("sparse {version}\n"));
}

#[test]
fn every_shell_gets_its_script() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = sandbox.ok(&["completions", shell]);
        assert!(script.contains("checkout"), "{shell}");
    }
    let output = sandbox.command(&["completions", "bash"]).output().unwrap();
    let mut bash = std::process::Command::new("bash");
    let checked = bash
        .args(["-n", "/dev/stdin"])
        .stdin(Stdio::piped())
        .spawn()
        .and_then(|mut bash| {
            std::io::Write::write_all(&mut bash.stdin.take().unwrap(), &output.stdout)?;
            bash.wait()
        });
    assert!(checked.unwrap().success());
}

#[test]
fn wrong_usage_is_exit_code_2_and_offers_what_was_meant() {
    let sandbox = Sandbox::new();
    let (code, err) = sandbox.fails(&["comit"]);
    assert_eq!(code, 2);
    assert!(err.contains("'commit'"), "{err}");
    let (code, err) = sandbox.fails(&["version", "--jsn"]);
    assert_eq!(code, 2);
    assert!(err.contains("'--json'"), "{err}");
    assert_eq!(
        sandbox.fails(&["add", "-A", "."]),
        (
            2,
            "error: there is no 'add' and no index\nhint: 'sparse commit -m MESSAGE' takes the \
             whole work tree\n"
                .into()
        )
    );
}

#[test]
fn a_folder_that_is_not_there_is_exit_code_3() {
    let sandbox = Sandbox::new();
    let (code, err) = sandbox.fails(&["-C", "nowhere", "version"]);
    assert_eq!(code, 3);
    assert!(
        err.starts_with("error: cannot change to 'nowhere'\n  caused by: "),
        "{err}"
    );
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let sandbox = Sandbox::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = sandbox
        .command(&["completions", "bash"])
        .stdout(writer)
        .output()
        .unwrap();
    let seen = sandbox.seen(&output);
    assert_eq!((seen.code, seen.err.as_str()), (0, ""));
}

#[test]
fn a_full_disk_is_an_error() {
    let sandbox = Sandbox::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let output = sandbox
        .command(&["completions", "bash"])
        .stdout(full.unwrap())
        .output()
        .unwrap();
    let seen = sandbox.seen(&output);
    assert_eq!(seen.code, 8);
    assert!(
        seen.err
            .starts_with("error: cannot write 'standard output'\n")
    );
}

#[test]
fn colour_comes_on_demand_and_never_on_its_own() {
    let sandbox = Sandbox::new();
    let coloured = |words: &[&str], variables: &[(&str, &str)]| {
        let mut command = sandbox.command(words);
        let output = command.envs(variables.iter().copied()).output().unwrap();
        let seen = sandbox.seen(&output);
        seen.out.contains('\u{1b}') || seen.err.contains('\u{1b}')
    };
    let list = ["config", "list"];
    assert!(!coloured(&list, &[]));
    assert!(coloured(&list, &[("CLICOLOR_FORCE", "1")]));
    assert!(coloured(&["config", "list", "--color", "always"], &[]));
    assert!(coloured(&["-h", "--color=always"], &[]));
    assert!(coloured(&["help", "--color=always"], &[]));
    assert!(coloured(&["comit", "--color=always"], &[]));
    let never = ["config", "list", "--color=never"];
    assert!(!coloured(&never, &[("CLICOLOR_FORCE", "1")]));
    let forced = ["--color=always", "config", "get", "user.name"];
    assert!(
        coloured(&forced, &[("NO_COLOR", "1")]),
        "a flag goes before a variable"
    );
}
