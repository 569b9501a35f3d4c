//! Arguments of the verbs that people start with.
//!
//! May use: nothing of this crate.

use std::path::PathBuf;

/// `sparse init`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse init  # here, in .sparse
  $ sparse init models  # in models/.sparse
  $ sparse init --bare /srv/models  # without a work tree, to push to")]
pub struct InitArgs {
    /// Where; made if it is missing
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Without a work tree: DIR itself is the store
    #[arg(long)]
    pub bare: bool,
}

/// `sparse clone`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse clone /srv/models
  $ sparse clone file:///mnt/share/llama work
  $ sparse clone --bare ../team mirror")]
pub struct CloneArgs {
    /// A path or address of a store
    #[arg(value_name = "SRC")]
    pub source: String,
    /// Where to; the last part of SRC if not given
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Without a work tree: DIR itself is the store
    #[arg(long)]
    pub bare: bool,
}
