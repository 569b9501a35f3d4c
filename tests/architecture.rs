//! The rules of the tree, read from the sources: tiers, doors, heads, sizes, leftovers.
//!
//! Each rule is a function over one file's text, tried on planted faults below.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules by tier; a module uses tiers below its own, never a neighbour.
const TIERS: &[(&str, u8)] = &[
    ("error", 1),
    ("bytes", 2),
    ("disk", 2),
    ("par", 2),
    ("progress", 2),
    ("vectors", 2),
    ("layout", 3),
    ("codec", 3),
    ("predict", 3),
    ("plan", 4),
    ("store", 4),
    ("remote", 4),
    ("cache", 4),
    ("flow", 5),
    ("ops", 7),
    ("cli", 8),
];

/// Crates and the only places that may name them.
const DOORS: &[(&str, &[&str])] = &[
    ("sled", &["cache/"]),
    ("zstd", &["codec/frame.rs"]),
    ("clap", &["cli/"]),
    ("clap_complete", &["cli/"]),
    ("indicatif", &["cli/"]),
    ("toml_edit", &["cli/"]),
    ("anstream", &["cli/"]),
    ("jiff", &["cli/"]),
    ("rayon", &["par.rs"]),
    ("fastcdc", &["layout/"]),
    ("memmap2", &["disk/", "store/mapped.rs"]),
    ("jsonschema", &["flow/schema.rs"]),
    ("getrandom", &["store/host.rs"]),
    ("wildmatch", &["flow/partial.rs"]),
    ("nalgebra", &["predict/low_rank/subspace.rs"]),
];

/// Lines of a file before its tests.
const LINES_MAX: usize = 600;
/// Lines of a file with its tests.
const LINES_IN_ALL_MAX: usize = 700;
/// Bytes of any file of the tree.
const BYTES_MAX: u64 = 100_000;

/// Folders of what is made, not kept; `.gitignore` names them too.
const MADE: &[&str] = &["target", "corpus", "artifacts", "__pycache__"];

struct Source {
    /// Relative to `src`.
    path: String,
    text: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.into(),
            text: text.into(),
        }
    }

    /// The top module that the file belongs to.
    fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    fn is_test(&self) -> bool {
        self.path.contains("tests") || self.path.ends_with("testing.rs")
    }

    /// The lines before the tests, without comments.
    fn code(&self) -> impl Iterator<Item = &str> {
        let lines = self.text.lines();
        lines
            .take_while(|line| !line.starts_with("#[cfg(test)]\nmod") && *line != "mod tests {")
            .filter(|line| !line.trim_start().starts_with("//"))
            .map(|line| line.split(" // ").next().unwrap_or(line))
    }
}

fn tier(module: &str) -> Option<u8> {
    TIERS
        .iter()
        .find(|(name, _)| *name == module)
        .map(|(_, tier)| *tier)
}

/// Every top module that a file names, in a `use` or in a path; groups are opened.
fn modules_named(source: &Source) -> Vec<String> {
    let text: String = source.code().collect::<Vec<_>>().join("\n");
    let mut named = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let before = text[..at].chars().next_back().unwrap_or(' ');
        if before.is_alphanumeric() || before == '_' || before == '$' {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            named.extend(first_words(group));
        } else {
            named.push(word(rest).to_owned());
        }
    }
    named
}

/// The first word of each part of a group, nested groups passed over.
fn first_words(group: &str) -> Vec<String> {
    let (mut depth, mut words, mut fresh) = (0, Vec::new(), true);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            letter if fresh && depth == 0 && letter.is_alphabetic() => {
                words.push(word(&group[at..]).to_owned());
                fresh = false;
            }
            _ => {}
        }
    }
    words
}

fn word(text: &str) -> &str {
    let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
    &text[..end.unwrap_or(text.len())]
}

fn wrong_direction(source: &Source) -> Vec<String> {
    let Some(own) = tier(source.module()) else {
        let known = ["lib", "main"].contains(&source.module());
        return if known {
            vec![]
        } else {
            vec![format!("{}: no tier is known", source.path)]
        };
    };
    let named = modules_named(source)
        .into_iter()
        .filter(|module| *module != source.module());
    named
        .filter(|module| tier(module).is_none_or(|tier| tier >= own))
        .map(|module| format!("{} uses {module}", source.path))
        .collect()
}

fn outside_a_door(source: &Source) -> Vec<String> {
    if source.is_test() {
        return vec![];
    }
    let text: String = source.code().collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (name, doors) in DOORS {
        let path = format!("{name}::");
        let named = text.match_indices(&path).any(|(at, _)| {
            let before = text[..at].chars().next_back().unwrap_or(' ');
            !before.is_alphanumeric() && !['_', ':'].contains(&before)
        });
        if named && !doors.iter().any(|door| source.path.starts_with(door)) {
            found.push(format!("{} names {name}", source.path));
        }
    }
    for (what, door) in [
        ("SystemTime", "store/host.rs"),
        ("std::env", "cli/"),
        ("println!", "cli/"),
        ("std::fs::write", "-"),
        ("std::fs::rename", "-"),
        ("File::create", "cache/"),
    ] {
        if text.contains(what) && !source.path.starts_with(door) && !source.path.starts_with("cli/")
        {
            found.push(format!("{} uses {what}", source.path));
        }
    }
    found
}

fn no_head(source: &Source) -> Vec<String> {
    let is_short = source.text.lines().count() < 40;
    let head = source
        .text
        .lines()
        .take_while(|line| line.starts_with("//!"));
    let head: Vec<_> = head.collect();
    let says = head.iter().any(|line| line.contains("May use:"));
    if head.is_empty() || (!says && !is_short && !source.is_test() && source.path != "lib.rs") {
        return vec![format!(
            "{} does not say what it is for and may use",
            source.path
        )];
    }
    vec![]
}

/// The rooms that a file uses and its head does not allow. Whole tiers may be allowed at once.
fn not_in_head(source: &Source) -> Vec<String> {
    let head = source.text.lines();
    let head: Vec<_> = head.take_while(|line| line.starts_with("//!")).collect();
    let head = head.join(" ");
    let Some((_, may)) = head.split_once("May use: ") else {
        return vec![];
    };
    if ["tiers", "everything", "all."]
        .iter()
        .any(|all| may.starts_with(all))
    {
        return vec![];
    }
    let words: Vec<_> = may
        .split(|letter: char| !letter.is_alphanumeric())
        .collect();
    let named = modules_named(source);
    named
        .iter()
        .filter(|module| tier(module).is_some() && *module != source.module())
        .filter(|module| !words.contains(&module.as_str()))
        .map(|module| format!("{}: its head does not allow {module}", source.path))
        .collect()
}

fn too_long(source: &Source) -> Vec<String> {
    let before_tests = source
        .text
        .lines()
        .take_while(|line| *line != "mod tests {");
    let lines = before_tests.count();
    if lines > LINES_MAX && !source.is_test() {
        return vec![format!("{} has {lines} lines", source.path)];
    }
    vec![]
}

fn too_long_in_all(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    if lines > LINES_IN_ALL_MAX {
        return vec![format!("{} has {lines} lines in all", source.path)];
    }
    vec![]
}

fn too_large(path: &Path, bytes: u64) -> Option<String> {
    (bytes > BYTES_MAX).then(|| format!("{} has {bytes} bytes", path.display()))
}

fn unfinished(source: &Source) -> Vec<String> {
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        "unimplemented!(",
        "todo!(",
    ];
    let found = marks.iter().filter(|mark| source.text.contains(**mark));
    found
        .map(|mark| format!("{} holds {mark}", source.path))
        .collect()
}

fn unsafe_outside_kernels(source: &Source) -> Vec<String> {
    let kernels = [
        "avx2", "avx512", "neon", "kernel", "vectors", "lanes", "mapped",
    ];
    let named = kernels.iter().any(|kernel| source.path.contains(kernel));
    let uses = source.code().any(|line| line.contains("unsafe "));
    if uses && !named {
        vec![format!("{} is unsafe", source.path)]
    } else {
        vec![]
    }
}

const RULES: &[fn(&Source) -> Vec<String>] = &[
    wrong_direction,
    outside_a_door,
    no_head,
    not_in_head,
    too_long,
    too_long_in_all,
    unfinished,
    unsafe_outside_kernels,
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether a folder is part of the tree: not what is made, and of what is hidden only `.ci`.
fn is_kept(folder: &str) -> bool {
    !MADE.contains(&folder) && (!folder.starts_with('.') || folder == ".ci")
}

/// Every file below a folder that is part of the tree; links are not followed.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![root.into()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() && is_kept(&entry.file_name().to_string_lossy()) {
                open.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found
}

fn sources(folder: &str) -> Vec<Source> {
    let root = root().join(folder);
    let mut found = Vec::new();
    for path in files(&root) {
        if path.extension().is_some_and(|extension| extension == "rs") {
            let relative = path.strip_prefix(&root).unwrap().to_string_lossy();
            found.push(Source::new(&relative, &fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

#[test]
fn every_source_keeps_every_rule() {
    let sources = sources("src");
    assert!(sources.len() > 100, "the sources were found");
    let broken: Vec<String> = sources
        .iter()
        .flat_map(|source| RULES.iter().flat_map(|rule| rule(source)))
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn no_source_of_the_format_is_too_long() {
    let sources = sources("store-format/src");
    assert!(sources.len() > 15, "the sources were found");
    let broken: Vec<String> = sources
        .iter()
        .flat_map(|source| [too_long(source), too_long_in_all(source)].concat())
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn no_file_of_the_tree_is_too_large() {
    let files = files(root());
    for path in ["Cargo.lock", ".ci/run", "store-format/SPEC.md"] {
        assert!(files.contains(&root().join(path)), "{path} was found");
    }
    let broken: Vec<String> = files
        .iter()
        .filter_map(|path| too_large(path, fs::metadata(path).unwrap().len()))
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn planted_faults_are_caught() {
    const HEAD: &str = "//! Something.\n//!\n//! May use: all.\n";
    let caught = |path: &str, text: &str| {
        let source = Source::new(path, &format!("{HEAD}{text}"));
        RULES
            .iter()
            .flat_map(|rule| rule(&source))
            .collect::<Vec<_>>()
            .join("; ")
    };
    assert_eq!(caught("codec/x.rs", "use crate::error::Error;\n"), "");
    assert_eq!(
        caught("codec/x.rs", "use crate::flow::commit;\n"),
        "codec/x.rs uses flow"
    );
    assert_eq!(
        caught("codec/x.rs", "use crate::{error, layout as l};\n"),
        "codec/x.rs uses layout"
    );
    let named = Source::new(
        "codec/x.rs",
        "//! May use: `vectors`.\nuse crate::{error, vectors};\n",
    );
    assert_eq!(
        not_in_head(&named),
        ["codec/x.rs: its head does not allow error"]
    );
    assert_eq!(
        caught("plan/x.rs", "fn f() { crate::store::y() }\n"),
        "plan/x.rs uses store"
    );
    assert_eq!(caught("codec/x.rs", "// use crate::flow;\n"), "");
    assert_eq!(
        caught("flow/x.rs", "use sled::Db;\n"),
        "flow/x.rs names sled"
    );
    assert_eq!(caught("flow/x.rs", "fn f() { ::zstd::encode() }\n"), "");
    assert_eq!(
        caught("flow/x.rs", "fn f() { zstd::encode() }\n"),
        "flow/x.rs names zstd"
    );
    assert_eq!(
        caught("flow/x.rs", "use std::time::SystemTime;\n"),
        "flow/x.rs uses SystemTime"
    );
    assert_eq!(caught("nowhere/x.rs", ""), "nowhere/x.rs: no tier is known");
    let long = "fn f() {}\n".repeat(LINES_MAX);
    assert!(caught("codec/x.rs", &long).contains("lines"));
    assert_eq!(caught("codec/tests.rs", &long), "");
    let tests = format!("mod tests {{\n{long}}}\n");
    assert_eq!(caught("codec/x.rs", &tests), "");
    let tests = tests + &"\n".repeat(LINES_IN_ALL_MAX - LINES_MAX);
    assert!(caught("codec/x.rs", &tests).contains("lines in all"));
    assert_eq!(too_large(Path::new("x"), BYTES_MAX), None);
    assert!(too_large(Path::new("x"), BYTES_MAX + 1).is_some());
    assert!(is_kept("src") && is_kept(".ci"));
    assert!(!is_kept("target") && !is_kept(".git"));
    assert!(caught("codec/x.rs", concat!("// TO", "DO\n")).contains("holds"));
    assert!(caught("codec/x.rs", "fn f() { unsafe { g() } }\n").contains("unsafe"));
    assert!(!no_head(&Source::new("codec/x.rs", "fn f() {}\n")).is_empty());
}

#[test]
fn every_verb_has_a_transcript() {
    let root = root();
    let dispatch = fs::read_to_string(root.join("src/cli/mod.rs")).unwrap();
    let verbs = dispatch.lines().filter_map(|line| {
        let (_, call) = line.trim().strip_prefix("Verb::")?.split_once("=> ")?;
        call.strip_suffix("::run(context, args),")
    });
    let verbs: Vec<&str> = verbs.collect();
    assert!(verbs.len() > 10, "the verbs were found: {verbs:?}");
    let mut told = String::new();
    for entry in fs::read_dir(root.join("tests/cli")).unwrap() {
        told += &fs::read_to_string(entry.unwrap().path()).unwrap();
    }
    let is_run = |verb: &str| {
        let elsewhere = format!("\"{verb}\"");
        told.contains(&format!("[\"{verb}\""))
            || told
                .lines()
                .any(|line| line.contains("[\"-C\", ") && line.contains(&elsewhere))
    };
    let untold: Vec<_> = verbs.iter().filter(|verb| !is_run(verb)).collect();
    assert!(untold.is_empty(), "no transcript of {untold:?}");
}

#[test]
fn the_specification_names_every_closed_value() {
    let root = root().join("store-format");
    let spec = fs::read_to_string(root.join("SPEC.md")).unwrap();
    let missing: Vec<&str> = store_format::record::Predictor::ALL
        .iter()
        .map(|value| value.name())
        .chain(
            store_format::record::Coding::ALL
                .iter()
                .map(|value| value.name()),
        )
        .chain(
            store_format::layout::Layout::ALL
                .iter()
                .map(|value| value.name()),
        )
        .chain(
            store_format::dtype::DType::ALL
                .iter()
                .map(|value| value.name()),
        )
        .chain(
            store_format::commit::Derivation::ALL
                .iter()
                .map(|value| value.name()),
        )
        .filter(|name| !spec.contains(name))
        .collect();
    assert!(missing.is_empty(), "SPEC.md does not name {missing:?}");
}
