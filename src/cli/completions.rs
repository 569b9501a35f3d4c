//! `sparse completions`.
//!
//! May use: `error`. The only door of clap_complete, but for the names of shells in `args`.

use crate::error::Result;

use super::Context;
use super::args::{CompletionsArgs, command};

pub(super) fn run(context: &Context, args: &CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "sparse", &mut script);
    context.out.write(&script)
}
