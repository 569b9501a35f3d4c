//! What stands in the way in the target of a checkout, or in a folder that is committed.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use crate::Sandbox;
use crate::forge::{Forge, GOOD, file_entry, tree_entry};

fn good(sandbox: &Sandbox) {
    let mut forge = Forge::new(sandbox);
    let good = forge.good();
    let entry = |name: &[u8]| file_entry(name, good, GOOD.len() as u64);
    let inner = forge.tree(&[entry(b"canary")]);
    let tree = forge.tree(&[entry(b"a"), tree_entry(b"d", inner)]);
    forge.publish(sandbox, tree);
}

#[test]
fn a_checkout_follows_no_link_that_stands_in_its_target() {
    type Trap = fn(&Sandbox);
    let traps: [(&str, Trap); 6] = [
        ("a folder's name is a link out", |s| {
            symlink("../outside", s.path("out/d")).expect("a link");
        }),
        ("a folder's name is an absolute link", |s| {
            symlink(s.path("outside"), s.path("out/d")).expect("a link");
        }),
        ("a file's name is a link out", |s| {
            symlink("../canary", s.path("out/a")).expect("a link");
        }),
        ("a file's name is a hard link", |s| {
            fs::hard_link(s.path("canary"), s.path("out/a")).expect("a link");
        }),
        ("a file's name is a link to itself", |s| {
            symlink("a", s.path("out/a")).expect("a link");
        }),
        ("a folder's name is a chain of links", |s| {
            symlink("../outside", s.path("out/x")).expect("a link");
            symlink("x", s.path("out/y")).expect("a link");
            symlink("y", s.path("out/d")).expect("a link");
        }),
    ];
    for (name, trap) in traps {
        for force in [false, true] {
            let sandbox = Sandbox::new();
            good(&sandbox);
            fs::create_dir(sandbox.path("out")).expect("a folder");
            trap(&sandbox);
            let before = sandbox.outside();
            let mut words = vec!["-C", "evil", "checkout", "main", "../out"];
            words.extend(force.then_some("--force"));
            let seen = sandbox.run(name, &words);
            assert_eq!(sandbox.outside(), before, "{name}: {}", seen.err);
            if seen.code == Some(0) {
                assert!(!sandbox.path("out/d").is_symlink(), "{name}");
                assert_eq!(
                    fs::read(sandbox.path("out/a")).expect("a file"),
                    GOOD,
                    "{name}"
                );
            } else {
                assert_eq!(seen.code, Some(5), "{name}: {}", seen.err);
            }
        }
    }
}

#[test]
fn what_no_version_can_hold_is_refused_or_left_out_by_a_commit() {
    let long = "x".repeat(255);
    let names: [&[u8]; 8] = [
        b"no\xfftext",
        b"line\nbreak",
        b"escape\x1b[2J",
        b"~home",
        b"c:drive",
        b"back\\slash",
        b".GIT",
        long.as_bytes(),
    ];
    for name in names {
        let sandbox = Sandbox::new();
        let what = String::from_utf8_lossy(name).into_owned();
        let seen = sandbox.run(&what, &["init", "-q", "evil"]);
        assert_eq!(seen.code, Some(0), "{}", seen.err);
        let path = sandbox.path("evil").join(std::ffi::OsStr::from_bytes(name));
        fs::write(path, GOOD).expect("a file");
        fs::write(sandbox.path("evil/good"), GOOD).expect("a file");
        let seen = sandbox.run(&what, &["-C", "evil", "-q", "commit", "-m", "x"]);
        if seen.code == Some(0) {
            let seen = sandbox.run(&what, &["-C", "evil", "checkout", "main", "../out"]);
            assert_eq!(seen.code, Some(0), "{what}: {}", seen.err);
            assert_eq!(fs::read(sandbox.path("out/good")).expect("a file"), GOOD);
        } else {
            assert!(
                matches!(seen.code, Some(2 | 8)),
                "{what}: {:?} {}",
                seen.code,
                seen.err
            );
        }
    }
}

#[test]
fn pipes_and_loops_in_a_work_tree_do_not_stop_a_commit_for_ever() {
    let sandbox = Sandbox::new();
    let seen = sandbox.run("a new store", &["init", "-q", "evil"]);
    assert_eq!(seen.code, Some(0), "{}", seen.err);
    fs::write(sandbox.path("evil/good"), GOOD).expect("a file");
    symlink(".", sandbox.path("evil/loop")).expect("a link");
    let seen = sandbox.run("a loop", &["-C", "evil", "-q", "commit", "-m", "x"]);
    assert_eq!(seen.code, Some(0), "{}", seen.err);
    rustix_fifo(&sandbox.path("evil/pipe"));
    let seen = sandbox.run("a pipe", &["-C", "evil", "-q", "commit", "-m", "x"]);
    assert!(matches!(seen.code, Some(2)), "{:?} {}", seen.code, seen.err);
}

fn rustix_fifo(path: &std::path::Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.expect("mkfifo is there").success());
}
