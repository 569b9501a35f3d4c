//! The real program, killed at any instant of any verb that writes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use sparse_store::store::Store;
use sparse_store::store::advance::{Deed, Outcome};
use sparse_store::store::host::Host;
use store_format::ids::{ChunkId, CommitId};
use store_format::record::{Coding, Kind, Recipe};
use store_format::reference::Change;

use crate::{Chance, check, every_kind, history, model, pool, scale, scratch};

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

/// How often a process was asked whether it has ended, which is the clock here: it runs as fast
/// as the machine does, and nothing sleeps.
fn wait_so_often(child: &mut Child, polls: u64) -> (u64, Option<ExitStatus>) {
    for poll in 0..polls {
        if let Some(status) = child.try_wait().expect("it can be waited for") {
            return (poll, Some(status));
        }
        std::thread::yield_now();
    }
    (polls, None)
}

/// A work tree whose store gets every kind of change.
struct Sandbox {
    dir: tempfile::TempDir,
    pool: sparse_store::par::Pool,
    /// Each verb's length in polls, from the last time that it ran to its end.
    lengths: BTreeMap<&'static str, u64>,
    commits: Vec<CommitId>,
    /// What `checkout` may have written: whatever `main` has ever pointed to.
    models: Vec<Vec<u8>>,
    kills: BTreeMap<&'static str, u64>,
}

const COMMIT: &[&str] = &["-q", "commit", "-m", "step"];
const CHECKOUT: &[&str] = &["-q", "checkout", "main", "../out", "--force"];
const GC: &[&str] = &["-q", "gc", "--grace", "0s"];
const REPACK: &[&str] = &["-q", "repack"];

fn name(verb: &'static [&'static str]) -> &'static str {
    verb[1]
}

impl Sandbox {
    fn new() -> Self {
        let dir = scratch();
        let sandbox = Self {
            dir,
            pool: pool(),
            lengths: BTreeMap::new(),
            commits: Vec::new(),
            models: Vec::new(),
            kills: BTreeMap::new(),
        };
        fs::create_dir(sandbox.work()).expect("a folder");
        every_kind(&sandbox.work(), 3, 1.0);
        let status = sparse(sandbox.dir.path(), &["init", "-q", "work"]).status();
        assert!(status.expect("it runs").success());
        sandbox
    }

    fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    fn change(&mut self, seed: u64) {
        let model = model(seed, 1.0);
        fs::write(self.work().join("model.safetensors"), &model).expect("a file");
        self.models.push(model);
    }

    /// A pack that no reference leads to, as writers leave it whose branch was moved meanwhile.
    fn leave_rubbish(&self, seed: u64) {
        let store = Store::open(&self.work().join(".sparse"), Host::system()).expect("it opens");
        let plain = Chance(seed).bytes(400);
        let txn = store.begin().expect("a writer");
        let recipe = Recipe::plain(Coding::Stored, Vec::new());
        txn.append(Kind::Chunk, ChunkId::of(&plain).into(), recipe, 400, &plain)
            .expect("it is appended");
        let deed = Deed {
            changes: vec![Change {
                name: "heads/main".into(),
                old: None,
                new: None,
            }],
            ..Deed::default()
        };
        let outcome = txn.publish(&deed, None).expect("an answer");
        assert!(matches!(outcome, Outcome::Moved { .. }));
    }

    /// Runs a verb to its end, which must be a good one.
    fn whole(&mut self, verb: &'static [&'static str]) {
        let mut child = sparse(&self.work(), verb).spawn().expect("it runs");
        let (polls, _) = wait_so_often(&mut child, u64::MAX);
        self.lengths.insert(name(verb), polls);
        let (code, id, error) = acknowledged(child);
        assert_eq!((code, error.as_str()), (Some(0), ""), "{verb:?}");
        if verb == COMMIT {
            self.commits.extend(id);
        }
    }

    /// Runs a verb and kills it at some instant; whether that was before its end.
    fn killed(&mut self, verb: &'static [&'static str], chance: &mut Chance) -> bool {
        let length = self.lengths[name(verb)];
        let mut child = sparse(&self.work(), verb).spawn().expect("it runs");
        let (polls, status) = wait_so_often(&mut child, chance.of(length.max(1)));
        if status.is_some() {
            // It was faster than the last time.
            self.lengths.insert(name(verb), polls);
        }
        let _ = child.kill();
        let (code, id, error) = acknowledged(child);
        assert!(code.is_none_or(|code| code == 0), "{verb:?}: {error}");
        if verb == COMMIT {
            self.commits.extend(id);
        }
        let was_killed = code.is_none();
        *self.kills.entry(name(verb)).or_default() += u64::from(was_killed);
        was_killed
    }

    /// All that was acknowledged is there and whole, and no file that was checked out is torn.
    fn look(&self, place: &str) {
        let store = Store::open(&self.work().join(".sparse"), Host::system()).expect("it opens");
        let report = check(&store, &self.pool).expect("a report");
        assert!(!report.is_hurt(), "{place}: {:?}", report.findings);
        let history = history(&store);
        let missing = self.commits.iter().find(|id| !history.contains(id));
        assert_eq!(missing, None, "{place}");
        let out = fs::read(self.dir.path().join("out/model.safetensors"));
        let is_known = out.map_or(true, |out| self.models.contains(&out));
        assert!(is_known, "{place}: half a file was checked out");
    }

    /// A run that nobody kills does all that is left to do, and leaves no rubbish.
    fn end(&mut self) {
        self.change(999);
        for verb in [COMMIT, CHECKOUT, REPACK, GC, CHECKOUT] {
            self.whole(verb);
        }
        self.look("at the end");
        let out = fs::read(self.dir.path().join("out/model.safetensors"));
        assert_eq!(out.expect("a file"), model(999, 1.0));
        for name in ["tmp", "leases", "condemned"] {
            let left = fs::read_dir(self.work().join(".sparse").join(name));
            assert_eq!(left.expect("a folder").count(), 0, "{name}");
        }
    }
}

/// Kills that hit are counted; a program that had ended before is not.
const KILLS: u64 = 300;
/// After so many kills the next store is begun, so that checking all of it stays cheap.
const KILLS_A_STORE: u64 = 30;

#[test]
fn a_killed_program_loses_nothing_that_it_acknowledged() {
    let mut chance = Chance(23);
    let mut by_verb: BTreeMap<&str, u64> = BTreeMap::new();
    let mut rounds = 0;
    while by_verb.values().sum::<u64>() < KILLS * scale() {
        let mut sandbox = Sandbox::new();
        sandbox.change(1);
        for verb in [COMMIT, CHECKOUT, GC, REPACK] {
            sandbox.whole(verb);
        }
        while sandbox.kills.values().sum::<u64>() < KILLS_A_STORE {
            rounds += 1;
            sandbox.change(rounds + 1);
            sandbox.leave_rubbish(rounds);
            let verb = [COMMIT, GC, CHECKOUT, REPACK][usize::try_from(rounds % 4).expect("small")];
            sandbox.killed(verb, &mut chance);
            sandbox.look(&format!("round {rounds}, {verb:?}"));
            assert!(rounds < 4 * KILLS * scale(), "too few kills are in time");
        }
        sandbox.end();
        for (verb, kills) in sandbox.kills {
            *by_verb.entry(verb).or_default() += kills;
        }
    }
    assert!(
        by_verb.values().all(|kills| *kills > KILLS / 8),
        "{by_verb:?}"
    );
}
