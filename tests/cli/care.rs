//! `sparse stats`, `gc`, `fsck`, `repair`, `repack`: what looks after a store.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Sandbox, Seen};

/// Bytes that look like nothing, by a seed.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

/// Weights of a small model: 32-bit numbers near to each other, by a seed.
pub(crate) fn weights(seed: u64, count: usize) -> Vec<f32> {
    let noise = noise(seed, count * 2);
    let pairs = noise.chunks_exact(2);
    pairs
        .map(|pair| (f32::from(pair[0]) - 127.5) / 4096.0 + f32::from(pair[1]) / 1e6)
        .collect()
}

/// A safetensors file of one tensor.
pub(crate) fn safetensors(name: &str, weights: &[f32]) -> Vec<u8> {
    let data = weights.len() * 4;
    let header = format!(
        "{{\"{name}\":{{\"dtype\":\"F32\",\"shape\":[{},64],\"data_offsets\":[0,{data}]}}}}",
        weights.len() / 64
    );
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend(weights.iter().flat_map(|weight| weight.to_le_bytes()));
    file
}

/// A store in `work` with two versions of a model, the second derived from the first.
fn two_versions() -> Sandbox {
    let sandbox = Sandbox::new();
    let work = sandbox.path().join("work");
    sandbox.ok(&["init", "work"]);
    let base = weights(1, 64 * 512);
    fs::write(work.join("model.safetensors"), safetensors("w", &base)).expect("a file");
    fs::write(work.join("notes.txt"), "what was tried\n".repeat(40)).expect("a file");
    commit(&sandbox, "first");
    let tuned: Vec<f32> = base.iter().map(|weight| weight * 1.001).collect();
    fs::write(work.join("model.safetensors"), safetensors("w", &tuned)).expect("a file");
    commit(&sandbox, "tuned");
    sandbox
}

fn commit(sandbox: &Sandbox, message: &str) -> String {
    sandbox.ok(&["-C", "work", "-q", "commit", "-m", message])
}

fn in_work(sandbox: &Sandbox, words: &[&str]) -> Seen {
    sandbox.run(&[&["-C", "work"], words].concat())
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("JSON")
}

pub(crate) fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Files of the store are read-only.
pub(crate) fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("a file");
    change(&mut bytes);
    fs::remove_file(path).expect("it goes");
    fs::write(path, bytes).expect("it comes");
}

/// The packs that hold chunks, the largest first.
fn data_packs(sandbox: &Sandbox) -> Vec<PathBuf> {
    let mut packs = files(&sandbox.path().join("work/.sparse/packs"), "pack");
    packs.sort_by_key(|pack| std::cmp::Reverse(fs::metadata(pack).expect("a file").len()));
    packs
}

#[test]
fn stats_shows_both_sizes_and_where_the_bytes_went() {
    let sandbox = two_versions();
    let stats = json(&in_work(&sandbox, &["stats", "--json"]).out);
    assert_eq!(stats["schema"], "sparse.stats/1");
    assert_eq!((&stats["commits"], &stats["files"]), (&2.into(), &4.into()));
    let logical = stats["logical_bytes"].as_u64().expect("a number");
    let stored = stats["stored_bytes"].as_u64().expect("a number");
    assert!(logical > 2 * 64 * 512 * 4 && stored < logical, "{stats}");
    assert!(stats["chunks"].as_u64() >= Some(3), "{stats}");
    assert_eq!(stats["packs"], 4);
    let human = in_work(&sandbox, &["stats", "--why"]).out;
    for word in ["bytes", "→", "predictor", "base", "safetensors", "text"] {
        assert!(human.contains(word), "{word}: {human}");
    }
    assert_eq!(
        in_work(&sandbox, &["-q", "stats"]).out,
        format!("{stored}\n")
    );
    // What is attached is neither a version nor a branch.
    in_work(&sandbox, &["attach", "main", "eval", "accuracy=0.5"]);
    let attached = json(&in_work(&sandbox, &["stats", "--json"]).out);
    for what in ["commits", "files", "references", "logical_bytes"] {
        assert_eq!(attached[what], stats[what], "{what}");
    }
}

#[test]
fn gc_deletes_what_nothing_needs_and_keeps_what_undo_may_want() {
    let sandbox = two_versions();
    let before = data_packs(&sandbox).len();
    let seen = in_work(&sandbox, &["gc", "--grace", "0s"]);
    assert_eq!((seen.code, seen.err.as_str()), (0, ""));
    assert_eq!(data_packs(&sandbox).len(), before, "{}", seen.out);
    // An unfinished file of a writer that is no more.
    let left = sandbox.path().join("work/.sparse/tmp/0123");
    fs::create_dir(&left).expect("a folder");
    fs::write(left.join("p0"), [0; 100]).expect("a file");
    let seen = in_work(&sandbox, &["gc", "--json", "-n"]);
    assert!(left.exists(), "{}", seen.out);
    let collected = json(&in_work(&sandbox, &["gc", "--json"]).out);
    assert_eq!(collected["abandoned_files"], 1);
    assert!(!left.exists());
    assert_eq!(in_work(&sandbox, &["fsck", "--read-data"]).code, 0);
}

#[test]
fn gc_frees_what_only_undo_may_want_where_that_is_said() {
    let sandbox = Sandbox::new().with_store();
    sandbox.write("big", noise(1, 1 << 20));
    sandbox.write("more", noise(2, 2 << 20));
    for (path, branch) in [("more", "main"), ("big", "junk")] {
        sandbox.ok(&["-C", "work", "commit", path, "-b", branch, "-m", "m"]);
    }
    // Then the commits of both lie in one pack, and that of the dead one stays.
    in_work(&sandbox, &["repack"]);
    in_work(&sandbox, &["branch", "-d", "junk"]);
    let kept = in_work(&sandbox, &["gc", "--grace", "0s"]).out;
    let hint = "what undo may want is kept; less of it: sparse gc --undo DUR";
    assert!(kept.contains("freed 0 B") && kept.contains(hint), "{kept}");
    let freed = in_work(&sandbox, &["gc", "--grace", "0s", "--undo", "0s"]).out;
    assert!(!freed.contains("freed 0 B"), "{freed}");
    assert_eq!(in_work(&sandbox, &["fsck", "--read-data"]).code, 0);
    let undone = in_work(&sandbox, &["undo"]);
    assert!(
        undone.err.contains("a collection deleted what it left"),
        "{}",
        undone.err
    );
}

#[test]
fn fsck_says_that_a_whole_store_is_whole() {
    let sandbox = two_versions();
    let seen = in_work(&sandbox, &["fsck", "--read-data"]);
    assert_eq!((seen.code, seen.err.as_str()), (0, ""), "{}", seen.out);
    assert!(seen.out.ends_with("the store is whole\n"), "{}", seen.out);
    let checked = json(&in_work(&sandbox, &["fsck", "--json"]).out);
    assert_eq!(checked["clean"], true);
    assert_eq!(checked["findings"].as_array().map(Vec::len), Some(0));
}

#[test]
fn a_lost_index_is_made_again() {
    let sandbox = two_versions();
    let indexes = files(&sandbox.path().join("work/.sparse/packs"), "idx");
    fs::remove_file(&indexes[0]).expect("it goes");
    rewrite(&indexes[1], |bytes| bytes[100] ^= 1);
    let seen = in_work(&sandbox, &["fsck"]);
    assert_eq!((seen.code, seen.err.as_str()), (0, ""), "{}", seen.out);
    assert!(seen.out.contains("made 2 indexes again"), "{}", seen.out);
    let checked = json(&in_work(&sandbox, &["fsck", "--json"]).out);
    assert_eq!(checked["findings"].as_array().map(Vec::len), Some(0));
}

#[test]
fn a_damaged_chunk_is_named_with_its_files_and_heals_when_it_is_committed_again() {
    let sandbox = two_versions();
    let tip = json(&in_work(&sandbox, &["commit", "-m", "x", "--json"]).out)["commit"].clone();
    let tip = tip.as_str().expect("an id").to_owned();
    let first = {
        let work = sandbox.path().join("work");
        let tuned = fs::read(work.join("model.safetensors")).expect("a file");
        // The base is in the largest pack; its chunk of weights is hurt.
        rewrite(&data_packs(&sandbox)[0], |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
        });
        tuned
    };
    let seen = in_work(&sandbox, &["fsck"]);
    assert_eq!(seen.code, 6, "{}", seen.out);
    assert!(
        seen.out.contains("lost: model.safetensors in"),
        "{}",
        seen.out
    );
    assert!(seen.out.contains("heads/main"), "{}", seen.out);
    assert_eq!(seen.err, "error: the store is hurt\nhint: sparse repair\n");
    let checked = json(&in_work(&sandbox, &["fsck", "--json", "--read-data"]).out);
    let hurt = checked["hurt"].as_array().expect("a list");
    assert!(
        hurt.iter().any(|one| one["commit"] == tip.as_str()),
        "{checked}"
    );
    assert_eq!(hurt.len(), 2, "both versions need the base: {checked}");
    // Nothing is changed by a dry run.
    assert_eq!(in_work(&sandbox, &["repair", "-n"]).code, 6);
    assert!(!sandbox.path().join("work/.sparse/quarantine").exists());
    let seen = in_work(&sandbox, &["repair"]);
    assert_eq!(seen.code, 6, "{} {}", seen.out, seen.err);
    assert!(seen.out.contains("damaged packs"), "{}", seen.out);
    assert_eq!(
        files(&sandbox.path().join("work/.sparse/quarantine"), "pack").len(),
        1
    );
    let seen = in_work(&sandbox, &["checkout", "main", "../out"]);
    assert!(matches!(seen.code, 3 | 6), "{}", seen.err);
    // The work tree still holds the tuned model: it heals, and the first stays listed.
    let seen = in_work(&sandbox, &["commit", "-m", "again"]);
    assert_eq!(seen.code, 0, "{}", seen.err);
    let seen = in_work(&sandbox, &["checkout", "main", "../out"]);
    assert_eq!(seen.code, 0, "{}", seen.err);
    let out = fs::read(sandbox.path().join("out/model.safetensors")).expect("a file");
    assert_eq!(out, first);
    let checked = json(&in_work(&sandbox, &["fsck", "--json", "--read-data"]).out);
    assert_eq!(
        checked["hurt"].as_array().map(Vec::len),
        Some(1),
        "{checked}"
    );
    // The first version's bytes, committed again on any branch.
    let base = sandbox.path().join("base");
    fs::create_dir(&base).expect("a folder");
    let model = safetensors("w", &weights(1, 64 * 512));
    fs::write(base.join("model.safetensors"), model).expect("a file");
    let words = [
        "-C", "work", "-q", "commit", "../base", "-b", "heal", "-m", "base",
    ];
    sandbox.ok(&words);
    let seen = in_work(&sandbox, &["fsck", "--read-data"]);
    assert_eq!((seen.code, seen.err.as_str()), (0, ""), "{}", seen.out);
}

#[test]
fn a_damaged_newest_table_is_made_again_from_its_operation() {
    let sandbox = two_versions();
    let refs = sandbox.path().join("work/.sparse/refs");
    let newest = refs.join("0000000000000002");
    for cut in [0, 30, 90] {
        let whole = in_work(&sandbox, &["checkout", "main", "../out", "--force", "-q"]).out;
        let mut tables: Vec<_> = fs::read_dir(&refs)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        tables.sort();
        let newest = tables.last().unwrap_or(&newest);
        rewrite(newest, |bytes| bytes.truncate(cut));
        let seen = in_work(&sandbox, &["fsck"]);
        assert_eq!(seen.code, 6, "{}", seen.out);
        assert!(seen.out.contains("hurt: table 'refs/"), "{}", seen.out);
        let seen = in_work(&sandbox, &["repair"]);
        assert_eq!((seen.code, seen.err.as_str()), (0, ""), "{}", seen.out);
        assert!(seen.out.contains("made reference table"), "{}", seen.out);
        assert_eq!(
            in_work(&sandbox, &["checkout", "main", "../out", "--force", "-q"]).out,
            whole
        );
        assert_eq!(in_work(&sandbox, &["fsck"]).code, 0);
    }
}

#[test]
fn repack_joins_small_packs_shortens_chains_and_keeps_every_bit() {
    let sandbox = Sandbox::new();
    let work = sandbox.path().join("work");
    sandbox.ok(&["init", "work"]);
    let base = weights(7, 64 * 256);
    let mut versions = Vec::new();
    for step in 0..8_u8 {
        let weights: Vec<f32> = base
            .iter()
            .map(|weight| weight * (1.0 + f32::from(step) / 5000.0))
            .collect();
        let file = safetensors("w", &weights);
        fs::write(work.join("model.safetensors"), &file).expect("a file");
        versions.push((commit(&sandbox, "step").trim().to_owned(), file));
    }
    let before = data_packs(&sandbox).len();
    for level in [
        &["repack", "--json"][..],
        &["repack", "--level", "max", "--json"],
    ] {
        let seen = in_work(&sandbox, level);
        assert_eq!((seen.code, seen.err.as_str()), (0, ""), "{}", seen.out);
        let report = json(&seen.out);
        assert!(
            report["packs_after"].as_u64() < Some(before as u64),
            "{report}"
        );
        assert!(report["bytes_after"].as_u64() <= report["bytes_before"].as_u64().map(|b| b * 2));
        let seen = in_work(&sandbox, &["fsck", "--read-data"]);
        assert_eq!((seen.code, seen.err.as_str()), (0, ""), "{}", seen.out);
        for (commit, file) in &versions {
            sandbox.ok(&["-C", "work", "-q", "checkout", commit, "../out", "--force"]);
            let out = fs::read(sandbox.path().join("out/model.safetensors")).expect("a file");
            assert!(out == *file, "{commit}");
        }
    }
    assert_eq!(
        data_packs(&sandbox).len(),
        2,
        "one of chunks, one of objects"
    );
}

#[test]
fn what_may_not_be_read_is_called_neither_lost_nor_missing() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    let sandbox = Sandbox::new().with_store();
    sandbox.write("big.bin", crate::noise(100_000));
    sandbox.commit("first", 1);
    let allow = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    allow(sandbox.path(), 0o755);
    let run = |words: &[&str]| {
        let mut command = sandbox.command(&[&["-C", "work"], words].concat());
        // Nothing is refused to the superuser.
        if std::fs::metadata(sandbox.path()).unwrap().uid() == 0 {
            command.uid(65534).gid(65534);
        }
        let seen = sandbox.seen(&command.output().expect("a program that others may run"));
        (seen.code, seen.err)
    };
    let packs = sandbox.work(".sparse/packs");
    for shard in std::fs::read_dir(packs).unwrap().flatten() {
        for file in std::fs::read_dir(shard.path()).unwrap().flatten() {
            let is_pack = file.path().extension().is_some_and(|end| end == "pack");
            if is_pack {
                allow(&file.path(), 0o000);
            }
        }
    }
    for words in [&["fsck"][..], &["cat", "main:big.bin"], &["repair"]] {
        let (code, err) = run(words);
        assert_eq!(code, 4, "{words:?}: {err}");
        assert!(err.contains("Permission denied"), "{err}");
        assert!(
            !err.contains("sparse repair") && !err.contains("lost"),
            "{err}"
        );
    }
    allow(&sandbox.work(".sparse"), 0o000);
    let (code, err) = run(&["status"]);
    assert_eq!(code, 4);
    assert!(
        err.starts_with("error: cannot look into '$DIR/work/.sparse'\n"),
        "{err}"
    );
    allow(&sandbox.work(".sparse"), 0o755);
}
