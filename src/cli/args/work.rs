//! Arguments of the verbs of daily work.
//!
//! May use: nothing of this crate.

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

use clap::ValueEnum;

/// How much work to spend for size.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Little work.
    Fast,
    /// What pays on most models.
    #[default]
    Default,
    /// The smallest.
    Max,
}

/// What to predict from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// Find it.
    Auto,
    /// Nothing outside of what is committed.
    None,
    /// This version.
    Revision(String),
}

impl FromStr for Base {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "auto" => Self::Auto,
            "none" => Self::None,
            revision => Self::Revision(revision.into()),
        })
    }
}

/// Where facts come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A JSON file.
    File(PathBuf),
    /// One fact.
    Pair(String, String),
}

impl FromStr for Source {
    type Err = String;

    /// A text with `=` is a fact, unless a `/` before it shows that it is a path.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("", _)) => Err("a key is missing before '='".into()),
            Some((key, value)) if !key.contains('/') => Ok(Self::Pair(key.into(), value.into())),
            _ if text.is_empty() => Err("a file or key=value is missing".into()),
            _ => Ok(Self::File(text.into())),
        }
    }
}

/// Facts under a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// `prune`, `eval`, …
    pub namespace: String,
    /// What they are.
    pub source: Source,
}

impl FromStr for Attribute {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((namespace, source)) if !namespace.is_empty() => Ok(Self {
                namespace: namespace.into(),
                source: source.parse()?,
            }),
            _ => Err("expected NAMESPACE=FILE or NAMESPACE=key=value".into()),
        }
    }
}

/// `REV[:PATH]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevPath {
    /// The version.
    pub rev: String,
    /// A path in it.
    pub path: Option<String>,
}

impl FromStr for RevPath {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.split_once(':') {
            Some((rev, path)) => Self {
                rev: rev.into(),
                path: Some(path.into()),
            },
            None => Self {
                rev: text.into(),
                path: None,
            },
        })
    }
}

/// `sparse commit`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse commit -m \"a first version\"  # the work tree
  $ sparse commit ./llama-ft -b tuned --base main -m \"a first version\"
  $ sparse commit --dry-run  # say only what it would cost")]
pub struct CommitArgs {
    /// A file or folder, anywhere, that the version then holds alone; the work tree if not given.
    /// What a `.sparseignore` in it names, as in git, is left out
    #[arg(value_name = "PATH")]
    pub path: Option<PathBuf>,
    /// The branch that moves; the one that is checked out if not given
    #[arg(short, long, value_name = "BRANCH")]
    pub branch: Option<String>,
    /// What this version is
    #[arg(
        short,
        long,
        value_name = "MSG",
        required_unless_present = "dry_run",
        default_value_if("dry_run", "true", "")
    )]
    pub message: Option<String>,
    /// Predict from this version: REV, auto or none
    #[arg(long, value_name = "REV", default_value = "auto")]
    pub base: Base,
    /// How much work to spend for size [default: default]
    #[arg(long, value_name = "LEVEL")]
    pub level: Option<Level>,
    /// Attach facts: NAMESPACE=FILE or NAMESPACE=key=value (repeatable)
    #[arg(long = "attr", value_name = "NAMESPACE=…")]
    pub attributes: Vec<Attribute>,
    /// Change nothing, say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// `sparse status`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse status
  $ sparse status -z  # for scripts: names end in a NUL byte")]
pub struct StatusArgs {
    /// End names with a NUL byte and do not escape them
    #[arg(short = 'z', long = "null")]
    pub nul: bool,
}

/// `sparse log`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse log -5  # the last five
  $ sparse log --graph tuned
  $ sparse log --json  # one JSON document a line")]
pub struct LogArgs {
    /// Where to begin; at what is checked out if not given, or at every branch if that has no
    /// commit
    #[arg(value_name = "REV")]
    pub rev: Option<String>,
    /// Draw who comes from whom
    #[arg(long)]
    pub graph: bool,
    /// At most so many; -5 is short for -n 5
    #[arg(short = 'n', long = "max-count", value_name = "COUNT")]
    pub count: Option<u64>,
}

/// `sparse show`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse show main
  $ sparse show v1.0:model.safetensors  # its tensors and how they are stored")]
pub struct ShowArgs {
    /// What to tell about
    #[arg(value_name = "REV[:PATH]")]
    pub what: RevPath,
}

/// `sparse ls`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse ls main
  $ sparse ls -z v1.0:shards
  $ sparse ls --tensors main:model.safetensors")]
pub struct LsArgs {
    /// The version, and a folder in it; what is checked out if not given
    #[arg(value_name = "REV[:PATH]")]
    pub what: Option<RevPath>,
    /// End names with a NUL byte and do not escape them
    #[arg(short = 'z', long = "null")]
    pub nul: bool,
    /// List the tensors in the files: names, types, shapes
    #[arg(long, conflicts_with = "nul")]
    pub tensors: bool,
}

/// `sparse cat`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse cat main:config.json
  $ sparse cat v1.0:model.safetensors > model.safetensors")]
pub struct CatArgs {
    /// The file
    #[arg(value_name = "REV:PATH")]
    pub what: RevPath,
}

/// `sparse diff`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse diff main  # what is new in the work tree
  $ sparse diff v1.0 v1.1
  $ sparse diff --exit-code v1.0 v1.1  # the exit code is 1 if they differ")]
pub struct DiffArgs {
    /// The older version
    #[arg(value_name = "REV")]
    pub from: String,
    /// The newer version; the work tree if not given
    #[arg(value_name = "REV")]
    pub to: Option<String>,
    /// Exit with 1 if there are differences
    #[arg(long)]
    pub exit_code: bool,
}

/// `sparse branch`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse branch  # list them
  $ sparse branch tuned main
  $ sparse branch -d tuned")]
pub struct BranchArgs {
    /// The branch; without it all are listed
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Where it begins; what is checked out if not given
    #[arg(value_name = "REV", conflicts_with = "delete")]
    pub rev: Option<String>,
    /// Delete the branch
    #[arg(short, long, requires = "name")]
    pub delete: bool,
}

/// `sparse tag`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse tag v1.0
  $ sparse tag v0.9 main
  $ sparse tag -d v0.9")]
pub struct TagArgs {
    /// The tag; without it all are listed
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// What it names; what is checked out if not given
    #[arg(value_name = "REV", conflicts_with = "delete")]
    pub rev: Option<String>,
    /// Delete the tag
    #[arg(short, long, requires = "name")]
    pub delete: bool,
}

/// `sparse checkout`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse checkout tuned  # switch the work tree
  $ sparse checkout v1.0 /tmp/model
  $ sparse checkout main part --tensors model.layers.0.*")]
pub struct CheckoutArgs {
    /// The version
    #[arg(value_name = "REV")]
    pub rev: String,
    /// Where to; without it the work tree is switched
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Only tensors whose names match (repeatable)
    #[arg(long, value_name = "GLOB", requires = "dir")]
    pub tensors: Vec<String>,
    /// Of an adapter: its base with the adapter merged in
    #[arg(long, requires = "dir", conflicts_with = "tensors")]
    pub merge: bool,
    /// Overwrite files that differ
    #[arg(long)]
    pub force: bool,
}

/// `sparse attach`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse attach main eval accuracy=0.913 latency_ms=41
  $ sparse attach tuned prune report.json")]
pub struct AttachArgs {
    /// The commit
    #[arg(value_name = "REV")]
    pub rev: String,
    /// What the facts are about: eval, prune, …
    #[arg(value_name = "NAMESPACE")]
    pub namespace: String,
    /// JSON files or single facts
    #[arg(value_name = "FILE|key=value", required = true)]
    pub sources: Vec<Source>,
}

/// `sparse undo`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse undo
  $ sparse undo --dry-run  # say only what would be taken back")]
pub struct UndoArgs {
    /// Change nothing, say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}
