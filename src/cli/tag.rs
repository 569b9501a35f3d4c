//! `sparse tag`.
//!
//! May use: everything below.

use serde::Serialize;
use store_format::reference::TAGS;

use crate::error::Result;

use super::Context;
use super::args::TagArgs;
use super::branch::{self, Named};
use super::out::{Page, Report};
use super::session::Session;

#[derive(Serialize)]
struct Tags {
    tags: Vec<Named>,
}

impl Report for Tags {
    const SCHEMA: &'static str = "sparse.tags/1";

    fn human(&self, page: &mut Page) {
        branch::lines(&self.tags, page);
    }

    fn quiet(&self, page: &mut Page) {
        self.tags.iter().for_each(|named| page.name(&named.name));
    }
}

pub(super) fn run(context: &Context, args: &TagArgs) -> Result<()> {
    match &args.name {
        Some(name) if args.delete => branch::delete(context, "tag", TAGS, name),
        Some(name) => branch::make(context, "tag", TAGS, name, args.rev.as_deref()),
        None => {
            let tags = branch::all(&Session::open(context)?, TAGS, None)?;
            context.out.print(&Tags { tags })
        }
    }
}
