//! Arguments of the verbs that reach other stores.
//!
//! May use: nothing of this crate.

use std::str::FromStr;

use clap::Subcommand;

/// What a forced push still insists on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lease {
    /// The remote's references are where they were last seen.
    Seen,
    /// This reference is at this commit.
    Expected(String, String),
}

impl FromStr for Lease {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text.is_empty() => Ok(Self::Seen),
            Some((name, commit)) if !name.is_empty() && !commit.is_empty() => {
                Ok(Self::Expected(name.into(), commit.into()))
            }
            _ => Err("expected REF:COMMIT".into()),
        }
    }
}

/// `sparse push`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse push origin main v1.0
  $ sparse push /mnt/backup/models --dry-run
  $ sparse push origin tuned --force-with-lease")]
pub struct PushArgs {
    /// The name of a remote, or a path or address
    #[arg(value_name = "REMOTE")]
    pub remote: String,
    /// Branches and tags; the branch that is checked out if not given
    #[arg(value_name = "REF")]
    pub refs: Vec<String>,
    /// Move references even if commits are lost by it
    #[arg(long, conflicts_with = "force_with_lease")]
    pub force: bool,
    /// The same, if the remote is as expected
    #[arg(
        long,
        value_name = "REF:COMMIT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = ""
    )]
    pub force_with_lease: Option<Lease>,
    /// Change nothing, say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// `sparse fetch`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse fetch
  $ sparse fetch origin main
  $ sparse fetch --heal ../mirror")]
pub struct FetchArgs {
    /// The name of a remote, or a path or address
    #[arg(value_name = "REMOTE")]
    pub remote: Option<String>,
    /// Branches and tags; all if not given
    #[arg(value_name = "REF")]
    pub refs: Vec<String>,
    /// Look at every version that is here, and take again what is missing of it
    #[arg(long)]
    pub heal: bool,
    /// Change nothing, say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// `sparse pull`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse pull
  $ sparse pull origin main")]
pub struct PullArgs {
    /// The name of a remote, or a path or address
    #[arg(value_name = "REMOTE")]
    pub remote: Option<String>,
    /// The branch; the one that is checked out if not given
    #[arg(value_name = "BRANCH")]
    pub branch: Option<String>,
    /// Overwrite files that differ
    #[arg(long)]
    pub force: bool,
}

/// `sparse remote`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse remote add origin /mnt/share/llama
  $ sparse remote list
  $ sparse remote remove origin")]
#[command(subcommand_value_name = "VERB", subcommand_help_heading = "Verbs")]
pub struct RemoteArgs {
    /// What to do; lists them if not given
    #[command(subcommand)]
    pub verb: Option<RemoteVerb>,
}

/// What to do with the names of remotes.
#[derive(Subcommand, Debug)]
pub enum RemoteVerb {
    /// Give an address a name
    Add {
        /// The name
        #[arg(value_name = "NAME")]
        name: String,
        /// A path or address of a store
        #[arg(value_name = "ADDRESS")]
        address: String,
    },
    /// List names and addresses
    List,
    /// Forget a name
    Remove {
        /// The name
        #[arg(value_name = "NAME")]
        name: String,
    },
}
