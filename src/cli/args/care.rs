//! Arguments of the verbs that look after a store and the program.
//!
//! May use: nothing of this crate.

use std::str::FromStr;
use std::time::Duration;

use clap::Subcommand;
use clap_complete::Shell;

use super::Level;

/// A duration like `90s`, `15m`, `2h`, `14d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace(pub Duration);

impl FromStr for Grace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected a number and s, m, h or d, like 14d".to_string();
        let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
        let unit = match &text[digits.len()..] {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86400,
            _ => return Err(wrong()),
        };
        let count: u64 = digits.parse().map_err(|_| wrong())?;
        let seconds = count.checked_mul(unit).ok_or_else(wrong)?;
        Ok(Self(Duration::from_secs(seconds)))
    }
}

/// `sparse stats`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse stats
  $ sparse stats --why  # where the bytes go, by predictor and coding")]
pub struct StatsArgs {
    /// Say where the bytes go
    #[arg(long)]
    pub why: bool,
}

/// `sparse fsck`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse fsck
  $ sparse fsck --read-data  # decode and check every record")]
pub struct FsckArgs {
    /// Decode every record and check it against its id
    #[arg(long)]
    pub read_data: bool,
}

/// `sparse repair`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse repair
  $ sparse repair --dry-run")]
pub struct RepairArgs {
    /// Change nothing, say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// `sparse gc`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse gc --dry-run  # say only what would be deleted
  $ sparse gc --grace 2h
  $ sparse gc --undo 2d  # what was deleted or undone before cannot come back by undo")]
pub struct GcArgs {
    /// Spare what is younger, for writers that still run
    #[arg(long, value_name = "DUR")]
    pub grace: Option<Grace>,
    /// Keep for undo only what was done in this time [default: 30d, and the last 100 operations]
    #[arg(long, value_name = "DUR")]
    pub undo: Option<Grace>,
    /// Change nothing, say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// `sparse repack`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse repack
  $ sparse repack --level max")]
pub struct RepackArgs {
    /// How much work to spend for size [default: default]
    #[arg(long, value_name = "LEVEL")]
    pub level: Option<Level>,
}

/// `sparse config`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse config list --show-origin
  $ sparse config set --user user.name Ada
  $ sparse config get core.threads")]
#[command(subcommand_value_name = "VERB", subcommand_help_heading = "Verbs")]
pub struct ConfigArgs {
    /// What to do
    #[command(subcommand)]
    pub verb: ConfigVerb,
}

/// What to do with settings.
#[derive(Subcommand, Debug)]
pub enum ConfigVerb {
    /// List all settings
    List {
        /// Say where each comes from
        #[arg(long)]
        show_origin: bool,
    },
    /// Print one setting
    Get {
        /// Its name
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Change one setting
    Set {
        /// Its name
        #[arg(value_name = "KEY")]
        key: String,
        /// Its new value
        #[arg(value_name = "VALUE")]
        value: String,
        /// For all stores of this user instead of this store
        #[arg(long)]
        user: bool,
    },
}

/// `sparse completions`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse completions bash > ~/.local/share/bash-completion/completions/sparse
  $ sparse completions zsh > ~/.zfunc/_sparse
  $ sparse completions fish > ~/.config/fish/completions/sparse.fish")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// `sparse version`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse version
  $ sparse version --json")]
pub struct VersionArgs {}

/// `sparse help`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse help commit
  $ sparse help exit-codes")]
pub struct HelpArgs {
    /// A verb, or exit-codes; the overview if not given
    #[arg(value_name = "TOPIC")]
    pub topic: Vec<String>,
}
