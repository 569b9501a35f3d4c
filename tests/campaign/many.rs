//! Many writers of one branch at the same time, beside gc, repack and readers.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use sparse_store::store::Store;
use sparse_store::store::host::Host;
use store_format::ids::CommitId;

use crate::killed::{acknowledged, sparse};
use crate::{check, history, model, pool, scale, scratch};

/// No single command takes so long, unless it waits for something that never comes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a command to its end, which must come.
fn run(dir: &Path, words: &[&str]) -> (Option<i32>, Option<CommitId>, String) {
    let child = sparse(dir, words).spawn().expect("it runs");
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(acknowledged(child)));
    told.recv_timeout(PATIENCE)
        .unwrap_or_else(|_| panic!("{words:?} hangs"))
}

/// Commits from a folder of its own; gives what was acknowledged and how often it was refused.
fn writer(work: &Path, number: usize, commits: u64) -> (Vec<CommitId>, u64) {
    let dir = work.join(format!("../w{number}"));
    fs::create_dir_all(&dir).expect("a folder");
    let source = format!("../w{number}");
    let words = ["-q", "commit", &source, "-b", "main", "-m", "step"];
    let (mut done, mut refused) = (Vec::new(), 0);
    for step in 0..commits {
        let seed = 1 + step + 1000 * number as u64;
        fs::write(dir.join("model.safetensors"), model(seed, 1.0)).expect("a file");
        for _ in 0..20 {
            let (code, id, error) = run(work, &words);
            if code == Some(0) {
                done.extend(id);
                break;
            }
            assert_eq!(code, Some(5), "{error}");
            assert!(error.contains("hint: "), "{error}");
            refused += 1;
        }
    }
    (done, refused)
}

#[test]
fn every_acknowledged_commit_of_many_writers_is_there() {
    let dir = scratch();
    let work = dir.path().join("work");
    fs::create_dir(&work).expect("a folder");
    fs::write(work.join("model.safetensors"), model(1, 1.0)).expect("a file");
    assert_eq!(run(dir.path(), &["init", "work"]).0, Some(0));
    assert_eq!(run(&work, &["-q", "commit", "-m", "first"]).0, Some(0));
    let is_over = AtomicBool::new(false);
    let commits = 50 * scale();
    let (mut done, mut refused) = (Vec::new(), 0);
    std::thread::scope(|scope| {
        let beside = |words: &'static [&'static str], may: &'static [i32]| {
            let (work, is_over) = (&work, &is_over);
            scope.spawn(move || {
                let mut runs = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let (code, _, error) = run(work, words);
                    let code = code.expect("nobody kills it");
                    assert!(may.contains(&code), "{words:?}: {error}");
                    runs += 1;
                }
                runs
            })
        };
        let readers = [
            beside(&["-q", "gc", "--grace", "0s"], &[0, 5]),
            beside(&["-q", "repack"], &[0, 5]),
            beside(&["-q", "checkout", "main", "../out", "--force"], &[0]),
        ];
        let work = &work;
        let writers: Vec<_> = (0..8)
            .map(|number| scope.spawn(move || writer(work, number, commits)))
            .collect();
        for writer in writers {
            let (ids, times) = writer.join().expect("it ends");
            done.extend(ids);
            refused += times;
        }
        is_over.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().expect("it ends") > 0);
        }
    });
    let store = Store::open(&work.join(".sparse"), Host::system()).expect("it opens");
    let history = history(&store);
    assert!(done.iter().all(|commit| history.contains(commit)));
    // Each is tried until it is done; only one that is refused twenty times in a row is not.
    assert!(
        done.len() as u64 >= 8 * commits * 9 / 10,
        "{} done, {refused} refused",
        done.len()
    );

    let report = check(&store, &pool()).expect("a report");
    assert!(!report.is_hurt(), "{:?}", report.findings);
}
