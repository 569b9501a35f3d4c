//! `sparse version`.
//!
//! May use: `error`, `store_format`.

use serde::Serialize;
use store_format::store_file::FORMAT_VERSION;

use crate::error::Result;

use super::Context;
use super::args::VersionArgs;
use super::out::{Page, Report};

#[derive(Serialize)]
struct Version {
    version: &'static str,
    format: u32,
}

impl Report for Version {
    const SCHEMA: &'static str = "sparse.version/1";

    fn human(&self, page: &mut Page) {
        page.line(format_args!(
            "sparse {} (store format {})",
            self.version, self.format
        ));
    }

    fn quiet(&self, page: &mut Page) {
        page.line(self.version);
    }
}

pub(super) fn run(context: &Context, _: &VersionArgs) -> Result<()> {
    context.out.print(&Version {
        version: env!("CARGO_PKG_VERSION"),
        format: FORMAT_VERSION,
    })
}
