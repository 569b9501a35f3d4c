//! The words of the command line: global flags, verbs, groups.
//!
//! May use: nothing of this crate. Holds what was typed, checked in its form only; must never
//! look at a disk.

mod care;
mod derive;
mod share;
mod start;
mod work;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{ArgAction, CommandFactory, Parser, Subcommand, ValueEnum};

pub use care::{
    CompletionsArgs, ConfigArgs, ConfigVerb, FsckArgs, GcArgs, Grace, HelpArgs, RepackArgs,
    RepairArgs, StatsArgs, VersionArgs,
};
pub use derive::{AdapterArgs, AdapterVerb, Bytes, Share, SvdArgs};
pub use share::{FetchArgs, Lease, PullArgs, PushArgs, RemoteArgs, RemoteVerb};
pub use start::{CloneArgs, InitArgs};
pub use work::{
    AttachArgs, Attribute, Base, BranchArgs, CatArgs, CheckoutArgs, CommitArgs, DiffArgs, Level,
    LogArgs, LsArgs, RevPath, ShowArgs, Source, StatusArgs, TagArgs, UndoArgs,
};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// A git-like, content-addressed store for machine-learning models and datasets
#[derive(Parser, Debug)]
#[command(
    name = "sparse",
    bin_name = "sparse",
    version,
    styles = STYLES,
    disable_help_subcommand = true,
    subcommand_value_name = "VERB",
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub struct Cli {
    /// What holds for every verb.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Flags that may stand before or after the verb.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Run as if started in DIR
    #[arg(short = 'C', value_name = "DIR", global = true, hide_short_help = true)]
    pub directory: Option<PathBuf>,
    /// Use the store in DIR instead of looking for one upwards [env: SPARSE_DIR]
    #[arg(long, value_name = "DIR", global = true, hide_short_help = true)]
    pub repo: Option<PathBuf>,
    /// Print ids only, one a line
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more (repeatable)
    #[arg(short, long, action = ArgAction::Count, global = true, conflicts_with = "quiet", hide_short_help = true)]
    pub verbose: u8,
    /// Print JSON with a "schema" field
    #[arg(long, global = true, conflicts_with = "quiet")]
    pub json: bool,
    /// Colour the output
    #[arg(long, value_name = "WHEN", global = true, hide_short_help = true)]
    pub color: Option<ColorWhen>,
    /// Show no progress [env: SPARSE_NO_PROGRESS]
    #[arg(long, global = true, hide_short_help = true)]
    pub no_progress: bool,
    /// Print long output without a pager
    #[arg(long, global = true, hide_short_help = true)]
    pub no_pager: bool,
    /// Work on N threads [env: SPARSE_THREADS] [default: all cores]
    #[arg(
        short = 'j',
        long,
        value_name = "N",
        global = true,
        hide_short_help = true
    )]
    pub threads: Option<NonZeroUsize>,
    /// Reach no remote
    #[arg(long, global = true, hide_short_help = true)]
    pub offline: bool,
    /// Answer every question with yes
    #[arg(short, long, global = true, hide_short_help = true)]
    pub yes: bool,
}

/// When to colour.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColorWhen {
    /// On a terminal only.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Every verb; its first line of help is the list's line.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Make a store
    Init(InitArgs),
    /// Copy a store
    Clone(CloneArgs),
    /// Keep a file or folder as a new version
    Commit(CommitArgs),
    /// Say what differs from the last commit
    Status(StatusArgs),
    /// List commits, newest first
    Log(LogArgs),
    /// Tell everything about a commit, tag or file
    Show(ShowArgs),
    /// List the files of a version
    Ls(LsArgs),
    /// Print a file of a version
    Cat(CatArgs),
    /// Compare two versions
    Diff(DiffArgs),
    /// List, make or delete branches
    Branch(BranchArgs),
    /// List, make or delete tags
    Tag(TagArgs),
    /// Write a version into a folder
    Checkout(CheckoutArgs),
    /// Add typed facts to a commit
    Attach(AttachArgs),
    /// Take back the last change of branches and tags
    Undo(UndoArgs),
    /// Cut a fine-tune's change to its strongest components
    Svd(SvdArgs),
    /// Keep adapters with their base
    Adapter(AdapterArgs),
    /// Send commits to another store
    Push(PushArgs),
    /// Get commits from another store
    Fetch(FetchArgs),
    /// Get commits and bring the branch forward
    Pull(PullArgs),
    /// Name other stores
    Remote(RemoteArgs),
    /// Tell what the store holds and saves
    Stats(StatsArgs),
    /// Check that the store is whole
    #[command(visible_alias = "verify")]
    Fsck(FsckArgs),
    /// Restore hurt records from other copies
    Repair(RepairArgs),
    /// Delete what nothing needs any more
    Gc(GcArgs),
    /// Store records anew, smaller
    Repack(RepackArgs),
    /// Read and change settings
    Config(ConfigArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Print the version
    Version(VersionArgs),
    /// Explain a verb or a topic
    Help(HelpArgs),
    /// There is no index: `commit` takes the whole work tree
    #[command(hide = true, visible_alias = "stage")]
    Add(AddArgs),
}

/// What people of git type; it only earns a hint.
#[derive(clap::Args, Debug)]
pub struct AddArgs {
    /// Whatever follows.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<String>,
}

/// The verbs by what people are about to do, in the order of the overview.
pub const GROUPS: [(&str, &[&str]); 5] = [
    ("start", &["init", "clone"]),
    (
        "work",
        &[
            "commit", "status", "log", "show", "ls", "cat", "diff", "branch", "tag", "checkout",
            "attach", "undo",
        ],
    ),
    ("derive", &["svd", "adapter"]),
    ("share", &["push", "fetch", "pull", "remote"]),
    (
        "care",
        &[
            "stats",
            "fsck",
            "repair",
            "gc",
            "repack",
            "config",
            "completions",
            "version",
            "help",
        ],
    ),
];

/// The whole command line, with the verbs in groups in its overview.
#[must_use]
pub fn command() -> clap::Command {
    let command = Cli::command();
    let (header, literal) = (STYLES.get_header(), STYLES.get_literal());
    let mut overview = String::new();
    for (group, verbs) in GROUPS {
        overview.push_str(&format!("{header}{group}{header:#}\n"));
        for verb in verbs {
            let about = command
                .find_subcommand(verb)
                .and_then(clap::Command::get_about)
                .map(ToString::to_string)
                .unwrap_or_default();
            overview.push_str(&format!("  {literal}{verb:<12}{literal:#}{about}\n"));
        }
        overview.push('\n');
    }
    command.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{overview}{header}Options\
         {header:#}\n{{options}}\n\n'sparse help VERB' explains a verb with examples; \
         'sparse help exit-codes' the exit codes.\n"
    ))
}

/// The arguments as clap takes them: `log -5` means `log -n 5`, as in git.
#[must_use]
pub fn spelled_out(arguments: Vec<std::ffi::OsString>) -> Vec<std::ffi::OsString> {
    let mut log = false;
    let mut plain = true;
    arguments
        .into_iter()
        .flat_map(|argument| {
            let text = argument.to_str().unwrap_or_default();
            log |= text == "log";
            plain &= text != "--";
            match text.strip_prefix('-') {
                Some(count)
                    if log
                        && plain
                        && !count.is_empty()
                        && count.bytes().all(|digit| digit.is_ascii_digit()) =>
                {
                    vec!["-n".into(), count.into()]
                }
                _ => vec![argument],
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ffi::OsString;

    use clap::FromArgMatches;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        let words = line.split(' ').map(OsString::from).collect();
        command()
            .try_get_matches_from(spelled_out(words))
            .and_then(|matches| Cli::from_arg_matches(&matches))
    }

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn every_verb_stands_in_one_group() {
        let command = command();
        let verbs: Vec<&str> = command
            .get_subcommands()
            .filter(|verb| !verb.is_hide_set())
            .map(clap::Command::get_name)
            .collect();
        let grouped: Vec<&str> = GROUPS
            .iter()
            .flat_map(|(_, verbs)| *verbs)
            .copied()
            .collect();
        assert_eq!(grouped.len(), grouped.iter().collect::<BTreeSet<_>>().len());
        assert_eq!(
            grouped.iter().collect::<BTreeSet<_>>(),
            verbs.iter().collect::<BTreeSet<_>>()
        );
    }

    #[test]
    fn every_verb_has_examples_that_parse() {
        for verb in command()
            .get_subcommands()
            .filter(|verb| !verb.is_hide_set())
        {
            let name = verb.get_name();
            let help = verb
                .get_after_long_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            let examples: Vec<&str> = help
                .lines()
                .filter_map(|line| line.strip_prefix("  $ "))
                .collect();
            assert!((2..=3).contains(&examples.len()), "{name}: {examples:?}");
            for example in examples {
                // A comment explains; a quoted word is one word.
                let line = example
                    .split("  ")
                    .next()
                    .unwrap()
                    .split(" > ")
                    .next()
                    .unwrap();
                let line = line.replace("\"a first version\"", "message");
                assert!(line.starts_with("sparse "), "{line}");
                if let Err(error) = parse(&line) {
                    panic!("{line}: {error}");
                }
            }
        }
    }

    #[test]
    fn global_flags_stand_before_or_after_the_verb() {
        for line in ["sparse -q -j 3 log", "sparse log -q -j 3"] {
            let globals = parse(line).unwrap().globals;
            assert!(globals.quiet);
            assert_eq!(globals.threads.map(NonZeroUsize::get), Some(3));
        }
        assert!(parse("sparse log -q --json").is_err());
        assert!(parse("sparse -j 0 log").is_err());
    }

    #[test]
    fn log_takes_a_number_as_git_does() {
        let Verb::Log(log) = parse("sparse log -12 main").unwrap().verb else {
            panic!("another verb")
        };
        assert_eq!((log.count, log.rev.as_deref()), (Some(12), Some("main")));
        assert!(parse("sparse ls -12").is_err());
    }

    #[test]
    fn sources_of_attributes_are_told_apart() {
        let Verb::Commit(commit) = parse(
            "sparse commit -m x --attr eval=acc=0.9 --attr prune=./a=b/p.json --attr a=f.json",
        )
        .unwrap()
        .verb
        else {
            panic!("another verb")
        };
        let expected = [
            ("eval", Source::Pair("acc".into(), "0.9".into())),
            ("prune", Source::File("./a=b/p.json".into())),
            ("a", Source::File("f.json".into())),
        ];
        let found: Vec<_> = commit
            .attributes
            .iter()
            .map(|attribute| (attribute.namespace.as_str(), attribute.source.clone()))
            .collect();
        assert_eq!(found, expected);
        assert!(parse("sparse commit -m x --attr eval").is_err());
    }

    #[test]
    fn a_base_is_a_revision_or_a_word() {
        for (word, expected) in [
            ("auto", Base::Auto),
            ("none", Base::None),
            ("main", Base::Revision("main".into())),
        ] {
            let line = format!("sparse commit -m x --base {word}");
            let Verb::Commit(commit) = parse(&line).unwrap().verb else {
                panic!("another verb")
            };
            assert_eq!(commit.base, expected);
        }
    }

    #[test]
    fn a_lease_may_be_bare_or_name_what_is_expected() {
        for (flag, expected) in [
            ("--force-with-lease", Lease::Seen),
            (
                "--force-with-lease=main:3f2a",
                Lease::Expected("main".into(), "3f2a".into()),
            ),
        ] {
            let Verb::Push(push) = parse(&format!("sparse push origin {flag} main"))
                .unwrap()
                .verb
            else {
                panic!("another verb")
            };
            assert_eq!(push.force_with_lease, Some(expected));
            assert_eq!(push.refs, ["main"]);
        }
    }

    #[test]
    fn a_grace_has_a_unit() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("2h", 7200), ("3d", 259_200)] {
            assert_eq!(text.parse::<Grace>().unwrap().0.as_secs(), seconds);
        }
        for wrong in [
            "",
            "5",
            "d",
            "-1d",
            "1y",
            "99999999999999999999d",
            "1.5h",
            "9é",
        ] {
            assert!(wrong.parse::<Grace>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_and_shares_have_units_and_bounds() {
        for (text, bytes) in [
            ("7", 7),
            ("800kB", 800_000),
            ("2GiB", 2 << 30),
            ("1mb", 1_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)));
        }
        for wrong in ["", "MB", "-1", "1.5GB", "5é", "99999999999GB"] {
            assert!(wrong.parse::<Bytes>().is_err(), "{wrong}");
        }
        assert_eq!("0.95".parse(), Ok(Share(0.95)));
        for wrong in ["0", "1.01", "NaN", "x"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
        assert!(parse("sparse svd a b --rank 3 --energy 0.5 -b c").is_err());
    }

    #[test]
    fn deleting_a_branch_needs_its_name() {
        assert!(parse("sparse branch -d").is_err());
        assert!(parse("sparse branch -d old rev").is_err());
        assert!(parse("sparse branch -d old").is_ok());
    }
}
