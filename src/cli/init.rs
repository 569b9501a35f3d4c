//! `sparse init`.
//!
//! May use: everything below.

use std::path::PathBuf;

use serde::Serialize;

use crate::error::Result;
use crate::flow::worktree::Head;
use crate::store::Store;
use crate::store::host::Host;

use super::Context;
use super::args::InitArgs;
use super::out::{Page, Report};
use super::place::STORE_FOLDER;
use super::text::escaped;

#[derive(Serialize)]
struct Made {
    store: PathBuf,
    bare: bool,
}

impl Report for Made {
    const SCHEMA: &'static str = "sparse.init/1";

    fn human(&self, page: &mut Page) {
        let store = self.store.to_string_lossy();
        page.line(format_args!("made an empty store in {}", escaped(&store)));
    }

    fn quiet(&self, page: &mut Page) {
        page.line(escaped(&self.store.to_string_lossy()));
    }
}

pub(super) fn run(context: &Context, args: &InitArgs) -> Result<()> {
    let folder = args.dir.clone().or_else(|| context.globals.repo.clone());
    let folder = folder.unwrap_or_else(|| ".".into());
    let store = if args.bare {
        folder
    } else {
        folder.join(STORE_FOLDER)
    };
    let made = Store::create(&store, Host::system())?;
    if !args.bare {
        Head::unborn("main").write(&made)?;
    }
    context.out.print(&Made {
        store,
        bare: args.bare,
    })
}
