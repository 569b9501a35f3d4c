//! `sparse cat`.
//!
//! May use: everything below. Chunks are verified before they are printed; whether the whole
//! file is right is known at its end only, and told by the exit code.

use crate::error::{Error, Result};
use crate::flow::{checkout, list};

use super::Context;
use super::args::CatArgs;
use super::session::{Session, pool};

pub(super) fn run(context: &Context, args: &CatArgs) -> Result<()> {
    let Some(path) = args.what.path.as_deref().filter(|path| !path.is_empty()) else {
        return Err(Error::usage("a path is missing").hint("sparse cat REV:PATH"));
    };
    let session = Session::open(context)?;
    let commit = session.resolve(&args.what.rev)?;
    let manifest = list::manifest(&session.rebuilder, &commit, path)?;
    checkout::write_file(
        &session.rebuilder,
        &pool(context)?,
        &manifest,
        |bytes| context.out.write_raw(bytes),
        &context.progress,
    )
    .map_err(|error| error.while_doing(format!("cannot print '{path}'")))
}
