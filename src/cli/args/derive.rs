//! Arguments of the verbs that make a version from others.
//!
//! May use: nothing of this crate.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Subcommand;

use super::Level;

/// A part of a whole: more than 0, at most 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(pub f64);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            Ok(share) if share > 0.0 && share <= 1.0 => Ok(Self(share)),
            _ => Err("expected a number above 0 and up to 1, like 0.95".into()),
        }
    }
}

/// A number of bytes like `800kB`, `50MB`, `2GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected a number of bytes, like 800kB, 50MB or 2GiB".to_string();
        let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let factor = match text[digits.len()..].to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            _ => return Err(wrong()),
        };
        let count: u64 = digits.parse().map_err(|_| wrong())?;
        count.checked_mul(factor).map(Self).ok_or_else(wrong)
    }
}

/// `sparse svd`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse svd llama support-bot --rank 16 -b support-bot-small
  $ sparse svd llama support-bot --energy 0.95 -b small
  $ sparse svd llama support-bot --budget 50MB -b small

What is made on the way lies in TMPDIR and is as large as the model.")]
pub struct SvdArgs {
    /// The version that the other was trained from
    #[arg(value_name = "BASE")]
    pub base: String,
    /// The version whose change is cut
    #[arg(value_name = "REV")]
    pub tuned: String,
    /// Keep so many components of each tensor [default: 16]
    #[arg(long, value_name = "R", group = "keep", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub rank: Option<u16>,
    /// Keep the components that have this share of each tensor's squared change
    #[arg(long, value_name = "SHARE", group = "keep")]
    pub energy: Option<Share>,
    /// Keep the components that save most, in so many bytes of factors
    #[arg(long, value_name = "SIZE", group = "keep")]
    pub budget: Option<Bytes>,
    /// The branch of the new version
    #[arg(short, long, value_name = "BRANCH")]
    pub branch: String,
    /// What this version is
    #[arg(short, long, value_name = "MSG")]
    pub message: Option<String>,
    /// How much work to spend for size [default: default]
    #[arg(long, value_name = "LEVEL")]
    pub level: Option<Level>,
}

/// `sparse adapter`
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  $ sparse adapter add llama ./lora -b support-lora
  $ sparse checkout support-lora merged --merge  # the base with the adapter merged in")]
pub struct AdapterArgs {
    /// What to do
    #[command(subcommand)]
    pub verb: AdapterVerb,
}

/// What to do with adapters.
#[derive(Subcommand, Debug)]
pub enum AdapterVerb {
    /// Keep a PEFT folder as a version that knows its base
    Add {
        /// The version that the adapter was trained on
        #[arg(value_name = "BASE")]
        base: String,
        /// The folder that PEFT's save_pretrained wrote
        #[arg(value_name = "DIR")]
        path: PathBuf,
        /// The branch of the new version
        #[arg(short, long, value_name = "BRANCH")]
        branch: String,
        /// What this version is
        #[arg(short, long, value_name = "MSG")]
        message: Option<String>,
        /// How much work to spend for size [default: default]
        #[arg(long, value_name = "LEVEL")]
        level: Option<Level>,
    },
}
