//! The real program, killed at any instant of any verb that writes.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sparse_store::store::Store;
use sparse_store::store::host::Host;
use store_format::ids::CommitId;

use crate::{Chance, check, every_kind, history, model, pool, scale};

pub(crate) fn sparse(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sparse"));
    command
        .args(words)
        .current_dir(dir)
        .env_clear()
        .env("HOME", dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The commit that was acknowledged, if one was.
pub(crate) fn acknowledged(child: Child) -> (Option<i32>, Option<CommitId>, String) {
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout);
    let id = text.strip_suffix('\n').and_then(|id| id.parse().ok());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), id, error)
}

#[test]
fn a_killed_program_loses_nothing_that_it_acknowledged() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let work = dir.join("work");
    fs::create_dir(&work).expect("a folder");
    every_kind(&work, 3, 1.0);
    assert!(
        sparse(dir, &["init", "work"])
            .status()
            .expect("it runs")
            .success()
    );
    let pool = pool();
    let mut chance = Chance(23);
    let mut commits = Vec::new();
    let mut kills = 0;
    let verbs: [&[&str]; 5] = [
        &["-q", "commit", "-m", "step"],
        &["-q", "checkout", "main", "../out", "--force"],
        &["-q", "commit", "-m", "step"],
        &["-q", "gc", "--grace", "0s"],
        &["-q", "repack"],
    ];
    let rounds = 60 * scale();
    for round in 0..rounds {
        let verb = verbs[usize::try_from(round % 5).expect("small")];
        if verb.contains(&"commit") {
            fs::write(work.join("model.safetensors"), model(round + 1, 1.0)).expect("a file");
        }
        let mut child = sparse(&work, verb).spawn().expect("it runs");
        // Any instant will do; which ones come differs between machines and runs.
        std::thread::sleep(Duration::from_micros(chance.of(60_000)));
        let _ = child.kill();
        let (code, id, _) = acknowledged(child);
        kills += u64::from(code.is_none());
        if verb.contains(&"commit") {
            commits.extend(id);
        }
        let store = Store::open(&work.join(".sparse"), Host::system()).expect("it opens");
        let report = check(&store, &pool).expect("a report");
        assert!(!report.is_hurt(), "round {round}: {:?}", report.findings);
        let history = history(&store);
        assert!(
            commits.iter().all(|commit| history.contains(commit)),
            "round {round}"
        );
    }
    assert!(kills > rounds / 4, "only {kills} of {rounds} were in time");
    // A run that nobody kills does all that is left to do.
    fs::write(work.join("model.safetensors"), model(999, 1.0)).expect("a file");
    for verb in verbs {
        let (code, _, error) = acknowledged(sparse(&work, verb).spawn().expect("it runs"));
        assert_eq!((code, error.as_str()), (Some(0), ""), "{verb:?}");
    }
    let verb = &["-q", "checkout", "main", "../out", "--force"];
    assert!(sparse(&work, verb).status().expect("it runs").success());
    let out = fs::read(dir.join("out/model.safetensors")).expect("a file");
    assert_eq!(out, model(999, 1.0));
    let left = |name: &str| {
        fs::read_dir(work.join(".sparse").join(name))
            .expect("a folder")
            .count()
    };
    assert_eq!((left("tmp"), left("leases")), (0, 0));
}
