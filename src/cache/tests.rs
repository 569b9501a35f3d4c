//! The ten rules, each with a test of its name, and the values.
//!
//! May use: its parent.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;

use super::database::{Paths, guarded, settings};
use super::values::{decode, encode};
use super::*;

const STORE: [u8; 16] = [7; 16];

fn id(number: u64) -> [u8; 32] {
    *blake3::hash(&number.to_le_bytes()).as_bytes()
}

/// A cache in a fresh folder that was filled with `count` values and closed.
fn filled(count: u64) -> TempDir {
    let dir = TempDir::new().unwrap();
    let cache = Cache::open(dir.path(), STORE);
    for number in 0..count {
        cache.put(&id(number), &KnownFile(id(number + 1)));
    }
    drop(cache);
    dir
}

/// How many of the first `count` values are found; a wrong one fails.
fn found(cache: &Cache, count: u64) -> u64 {
    (0..count)
        .filter(|&number| match cache.get::<KnownFile>(&id(number)) {
            Some(value) => {
                assert_eq!(value, KnownFile(id(number + 1)));
                true
            }
            None => false,
        })
        .count() as u64
}

fn found_again(dir: &TempDir, count: u64) -> u64 {
    found(&Cache::open(dir.path(), STORE), count)
}

#[test]
fn what_was_put_is_found_again_after_a_clean_close() {
    let dir = filled(1000);
    for _ in 0..3 {
        assert_eq!(found_again(&dir, 1000), 1000);
    }
}

#[test]
fn a_removed_value_is_a_miss() {
    let dir = filled(3);
    let cache = Cache::open(dir.path(), STORE);
    cache.remove::<KnownFile>(&id(1));
    assert_eq!(found(&cache, 3), 2);
}

#[test]
fn rule_01_every_miss_is_a_right_answer() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "not a folder").unwrap();
    for impossible in [file.as_path(), &file.join("below"), Path::new("/proc/none")] {
        let cache = Cache::open(impossible, STORE);
        cache.put(&id(0), &KnownFile(id(1)));
        cache.remove::<KnownFile>(&id(0));
        cache.each::<KnownFile>(|_, _| panic!("there is nothing to visit"));
        assert_eq!(cache.get::<KnownFile>(&id(0)), None);
    }
}

#[test]
fn rule_01_no_type_of_the_database_leaves_the_module() {
    // `database.rs` is private to the module; the other files must not name the crate in code.
    for text in [include_str!("mod.rs"), include_str!("values.rs")] {
        for line in text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
        {
            assert!(!line.contains("sled::"), "{line}");
        }
    }
}

#[test]
fn rule_02_only_a_stamped_database_is_opened() {
    type Harm = fn(&Paths);
    let harms: [Harm; 5] = [
        |paths| fs::remove_file(paths.stamp()).unwrap(),
        |paths| fs::write(paths.stamp(), "schema 0").unwrap(),
        |paths| fs::write(paths.stamp(), [0xff, 0xfe]).unwrap(),
        |paths| {
            let mut bytes = fs::read(paths.file()).unwrap();
            bytes.pop();
            fs::write(paths.file(), bytes).unwrap();
        },
        |paths| {
            let mut bytes = fs::read(paths.file()).unwrap();
            bytes[100] ^= 1;
            fs::write(paths.file(), bytes).unwrap();
        },
    ];
    for harm in harms {
        let dir = filled(10);
        harm(&Paths::new(dir.path()));
        assert_eq!(found_again(&dir, 10), 0);
    }
    let dir = filled(10);
    let other_store = Cache::open(dir.path(), [8; 16]);
    assert_eq!(found(&other_store, 10), 0);
}

#[test]
fn rule_02_the_stamp_is_gone_while_the_database_is_open() {
    let dir = filled(10);
    let cache = Cache::open(dir.path(), STORE);
    assert_eq!(found(&cache, 10), 10);
    assert!(!Paths::new(dir.path()).stamp().exists());
    drop(cache);
    assert!(Paths::new(dir.path()).stamp().exists());
}

#[test]
fn rule_03_errors_and_panics_are_misses() {
    assert_eq!(guarded(|| Ok::<_, ()>(1)), Some(1));
    assert_eq!(guarded(|| Err::<(), _>("no")), None);
    let panicked = guarded(|| -> Result<(), ()> {
        assert!(in_guarded_call());
        std::panic::resume_unwind(Box::new("a page is hurt"))
    });
    assert_eq!(panicked, None);
    assert!(!in_guarded_call());
}

#[test]
fn rule_03_after_a_failure_the_cache_is_dead_and_begins_anew() {
    let dir = filled(10);
    let cache = Cache::open(dir.path(), STORE);
    let database = cache.database().unwrap();
    assert_eq!(cache.living::<()>(&database, None), None);
    drop(database);
    assert_eq!(found(&cache, 10), 0);
    cache.put(&id(0), &KnownFile(id(1)));
    assert_eq!(found(&cache, 10), 0);
    drop(cache);
    assert_eq!(found_again(&dir, 10), 0);
    // The third one is whole again.
    let cache = Cache::open(dir.path(), STORE);
    cache.put(&id(0), &KnownFile(id(1)));
    drop(cache);
    assert_eq!(found_again(&dir, 10), 1);
}

#[test]
fn rule_04_the_database_is_never_asked_for_its_length() {
    for text in [include_str!("mod.rs"), include_str!("database.rs")] {
        for line in text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
        {
            for forbidden in [
                "tree.len()",
                "database.len()",
                "trees.len()",
                ".size_on_disk(",
            ] {
                assert!(!line.contains(forbidden), "{line}");
            }
        }
    }
}

#[test]
fn rule_04_a_walk_ends_at_the_wish_of_the_visitor_and_at_the_end() {
    let dir = filled(10);
    let cache = Cache::open(dir.path(), STORE);
    let (mut all, mut some) = (0, 0);
    cache.each::<KnownFile>(|_, _| {
        all += 1;
        true
    });
    cache.each::<KnownFile>(|_, _| {
        some += 1;
        some < 4
    });
    cache.each::<Sketch>(|_, _| panic!("another tree"));
    assert_eq!((all, some), (10, 4));
}

#[test]
fn rule_05_a_second_one_runs_without_a_cache() {
    let dir = filled(10);
    let first = Cache::open(dir.path(), STORE);
    assert_eq!(found(&first, 10), 10);
    let second = Cache::open(dir.path(), STORE);
    second.put(&id(100), &KnownFile(id(101)));
    assert_eq!(found(&second, 101), 0);
    drop(second);
    assert_eq!(found(&first, 10), 10, "the first one is not disturbed");
    drop(first);
    assert_eq!(found_again(&dir, 101), 10);
}

#[test]
fn rule_06_a_database_beyond_the_cap_begins_anew() {
    let dir = filled(10);
    let paths = Paths::new(dir.path());
    // A hole: it takes no space, but counts.
    let beside = fs::File::create(paths.database().join("snap.big")).unwrap();
    beside.set_len(CAPACITY_BYTES_MAX + 1).unwrap();
    assert_eq!(found_again(&dir, 10), 0);
    assert!(!paths.database().join("snap.big").exists());
}

#[test]
fn rule_06_no_more_is_put_than_the_cap_allows() {
    let dir = filled(0);
    let database = super::database::Database::open(dir.path(), STORE).unwrap();
    database.limit_room(100);
    assert_eq!(database.put(Tree::Files, &[1; 32], &[2; 60]), Some(()));
    assert_eq!(database.put(Tree::Files, &[3; 32], &[4; 60]), Some(()));
    assert_eq!(database.get(Tree::Files, &[1; 32]), Some(Some(vec![2; 60])));
    assert_eq!(database.get(Tree::Files, &[3; 32]), Some(None));
}

#[test]
fn rule_07_little_memory_and_nothing_in_the_background() {
    let settings = settings(Path::new("nowhere"));
    assert_eq!(settings.cache_capacity, 32 << 20);
    assert_eq!(settings.flush_every_ms, None);
    assert!(!settings.temporary);
}

#[test]
fn rule_08_nothing_is_opened_before_it_is_needed() {
    let dir = TempDir::new().unwrap();
    let cache = Cache::open(&dir.path().join("cache"), STORE);
    assert!(cache.is_untouched());
    drop(cache);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let cache = Cache::open(&dir.path().join("cache"), STORE);
    let _ = cache.get::<KnownFile>(&id(0));
    assert!(!cache.is_untouched());
}

fn file_state() -> FileState {
    FileState {
        stat: Stat {
            device: 1,
            inode: 2,
            size: 3,
            mtime_ns: 4,
            ctime_ns: 5,
        },
        object: [6; 32],
        observed_ns: 3_000_000_000,
    }
}

#[test]
fn rule_09_each_hurt_value_is_refused() {
    let key = FileState::key(&FileKey::of([1; 16], b"a/b"));
    let stored = encode(&key, &file_state()).unwrap();
    assert_eq!(decode::<FileState>(&key, &stored), Some(file_state()));
    for end in 0..stored.len() {
        assert_eq!(decode::<FileState>(&key, &stored[..end]), None);
    }
    for bit in 0..stored.len() * 8 {
        let mut hurt = stored.clone();
        hurt[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(decode::<FileState>(&key, &hurt), None);
    }
    let longer = [&stored[..], &[0]].concat();
    assert_eq!(decode::<FileState>(&key, &longer), None);
}

#[test]
fn rule_09_a_value_in_a_wrong_place_is_refused() {
    let key = KnownFile::key(&id(1));
    let stored = encode(&key, &KnownFile(id(2))).unwrap();
    assert_eq!(decode::<KnownFile>(&KnownFile::key(&id(3)), &stored), None);
    // The same key in another tree, with a value of the same length.
    let stats = TensorStats {
        min: 0.0,
        max: 1.0,
        zeros: 2,
        entropy_bits: 3.0,
    };
    let stored = encode(&key, &stats).unwrap();
    assert_eq!(decode::<KnownFile>(&key, &stored), None);
    assert_eq!(decode::<TensorStats>(&key, &stored), Some(stats));
}

/// What a command would do: look up, else compute and keep. The answer may not depend on luck.
fn command(dir: &Path, from: u64) -> Vec<[u8; 32]> {
    let cache = Cache::open(dir, STORE);
    (from..from + 40)
        .map(|number| {
            cache.get::<KnownFile>(&id(number)).map_or_else(
                || {
                    cache.put(&id(number), &KnownFile(id(number + 1)));
                    id(number + 1)
                },
                |known| known.0,
            )
        })
        .collect()
}

/// Every file below a folder.
fn files_below(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn damage(dir: &Path, which: usize, how: u8, place: usize) {
    let files = files_below(dir);
    let Some(path) = files.get(which % files.len().max(1)) else {
        return;
    };
    let mut bytes = fs::read(path).unwrap();
    let place = place % bytes.len().max(1);
    match how {
        0 => return fs::remove_file(path).unwrap(),
        1 => bytes.truncate(place),
        2 => bytes
            .iter_mut()
            .skip(place)
            .take(1)
            .for_each(|byte| *byte ^= 0x10),
        3 => bytes
            .iter_mut()
            .skip(place)
            .take(4096)
            .for_each(|byte| *byte = 0),
        4 => bytes = vec![0xa5; 3000],
        5 => {
            fs::remove_file(path).unwrap();
            return fs::create_dir(path).unwrap();
        }
        _ => {
            // Its stamp made to fit, so that sled itself meets the damage.
            bytes.truncate(place);
            fs::write(path, bytes).unwrap();
            let paths = Paths::new(dir);
            return super::stamp::write(paths.stamp(), &paths.file(), STORE);
        }
    }
    fs::write(path, bytes).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rule_10_damage_between_commands_changes_no_answer(
        harms in prop::collection::vec((any::<usize>(), 0..7_u8, any::<usize>(), 0..30_u64), 1..8)
    ) {
        let dir = filled(50);
        for (which, how, place, from) in harms {
            damage(dir.path(), which, how, place);
            let expected: Vec<_> = (from..from + 40).map(|number| id(number + 1)).collect();
            prop_assert_eq!(command(dir.path(), from), expected);
        }
    }

    #[test]
    fn values_come_back_as_they_were(
        dtype: u8, shape in prop::collection::vec(any::<u64>(), 0..=Sketch::RANK_MAX), byte: u8,
        min: f64, zeros: u64, since_ns: i64, key: [u8; 32],
    ) {
        let sketch = Sketch { dtype, shape, sketch: [byte; 256] };
        prop_assert_eq!(decode::<Sketch>(&key, &encode(&key, &sketch).unwrap()), Some(sketch));
        let stats = TensorStats { min, max: 1.0, zeros, entropy_bits: 0.5 };
        let again = decode::<TensorStats>(&key, &encode(&key, &stats).unwrap()).unwrap();
        prop_assert_eq!(again.min.to_bits(), min.to_bits());
        prop_assert_eq!(again.zeros, zeros);
        let absence = Absence { since_ns };
        prop_assert_eq!(decode::<Absence>(&key, &encode(&key, &absence).unwrap()), Some(absence));
    }

    #[test]
    fn any_bytes_are_a_value_or_a_miss(stored: Vec<u8>) {
        prop_assert_eq!(decode::<Sketch>(&[1; 32], &stored), None);
    }
}

#[test]
fn a_shape_of_too_many_dimensions_is_not_kept() {
    for rank in [Sketch::RANK_MAX + 1, 300] {
        let sketch = Sketch {
            dtype: 1,
            shape: vec![1; rank],
            sketch: [0; 256],
        };
        let kept = encode(&[0; 32], &sketch).and_then(|stored| decode::<Sketch>(&[0; 32], &stored));
        assert_eq!(kept, None);
    }
}

#[test]
fn a_file_is_known_only_if_its_stat_is_the_same_and_safely_old() {
    let state = file_state();
    assert_eq!(state.object_for(&state.stat), Some([6; 32]));
    let touched = Stat {
        ctime_ns: 6,
        ..state.stat
    };
    assert_eq!(state.object_for(&touched), None);
    let observed_at_once = FileState {
        observed_ns: 1_000_000_000,
        ..state
    };
    assert_eq!(observed_at_once.object_for(&state.stat), None);
    let from_the_future = FileState {
        stat: Stat {
            mtime_ns: i64::MAX,
            ..state.stat
        },
        observed_ns: i64::MIN,
        ..state
    };
    assert_eq!(from_the_future.object_for(&from_the_future.stat), None);

    let dir = TempDir::new().unwrap();
    let cache = Cache::open(dir.path(), STORE);
    let key = FileKey::of([1; 16], b"model.safetensors");
    assert_eq!(cache.known_file(&key, &state.stat), None);
    cache.put(&key, &state);
    assert_eq!(cache.known_file(&key, &state.stat), Some([6; 32]));
    let elsewhere = FileKey::of([2; 16], b"model.safetensors");
    assert_eq!(cache.known_file(&elsewhere, &state.stat), None);
}

#[test]
fn several_threads_share_one_cache() {
    let dir = TempDir::new().unwrap();
    let cache = Cache::open(dir.path(), STORE);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let cache = &cache;
            scope.spawn(move || {
                for number in thread * 100..(thread + 1) * 100 {
                    cache.put(&id(number), &KnownFile(id(number + 1)));
                }
            });
        }
    });
    assert_eq!(found(&cache, 400), 400);
}
