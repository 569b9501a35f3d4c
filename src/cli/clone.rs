//! `sparse clone`.
//!
//! May use: everything below.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use crate::error::{Error, IoContext, Kind, Result};
use crate::flow::clone::{self, Request};
use crate::store::Store;
use crate::store::host::Host;

use super::args::CloneArgs;
use super::fetch::{amounts, shown};
use super::out::{Page, Report, Tint};
use super::place::STORE_FOLDER;
use super::push::Ref;
use super::session::{pool, signature};
use super::text::escaped;
use super::{Context, far, settings};

/// The name of the store that a clone was made from.
const REMOTE: &str = "origin";

#[derive(Serialize)]
struct Cloned {
    source: String,
    store: PathBuf,
    bare: bool,
    branch: Option<String>,
    commit: Option<String>,
    refs: Vec<Ref>,
    logical_bytes: u64,
    received_bytes: u64,
    seconds: f64,
}

impl Report for Cloned {
    const SCHEMA: &'static str = "sparse.clone/1";

    fn human(&self, page: &mut Page) {
        page.line(format_args!(
            "cloned {} into {}",
            Tint::Name.on(escaped(&self.source)),
            escaped(&self.store.to_string_lossy())
        ));
        self.refs.iter().for_each(|moved| moved.line(page));
        match (&self.branch, &self.commit) {
            (Some(branch), Some(commit)) => page.line(format_args!(
                "  checked out {} of {}",
                Tint::Id.on(&commit[..12]),
                Tint::Name.on(escaped(branch))
            )),
            _ if self.bare => {}
            _ => page.line("  nothing was checked out: name a version: sparse checkout REV"),
        }
        page.line(amounts(self.logical_bytes, self.received_bytes, false));
    }

    fn quiet(&self, page: &mut Page) {
        page.line(escaped(&self.store.to_string_lossy()));
    }
}

pub(super) fn run(context: &Context, args: &CloneArgs) -> Result<()> {
    let started = Instant::now();
    context.online()?;
    let far = far::store_at(&args.source, Path::new(""))?;
    let folder = folder(args)?;
    let store = if args.bare {
        folder.clone()
    } else {
        folder.join(STORE_FOLDER)
    };
    check_free(&folder, &store, args)?;
    let near = Store::create(&store, Host::system())?;
    let address = far::address_of(&args.source)?;
    settings::set_remote(&settings::store_file(&store), REMOTE, Some(&address))?;
    let request = Request {
        remote: REMOTE,
        work_tree: (!args.bare).then_some(&*folder),
        signature: signature(context)?,
    };
    let cloned = clone::clone(&near, &far, &pool(context)?, &request, &context.progress);
    let report = cloned.map_err(|error| unfinished(error, &folder, args.bare))?;
    let refs = report.fetched.refs.iter();
    context.out.print(&Cloned {
        source: args.source.clone(),
        store,
        bare: args.bare,
        branch: report.branch,
        commit: report.commit.map(|id| id.to_string()),
        refs: refs
            .map(|moved| Ref::new(shown(&moved.here), moved))
            .collect(),
        logical_bytes: report.fetched.logical_bytes,
        received_bytes: report.fetched.received_bytes,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Where to: as stated, else the last part of the source.
fn folder(args: &CloneArgs) -> Result<PathBuf> {
    if let Some(dir) = &args.dir {
        return Ok(dir.clone());
    }
    let address = far::address_of(&args.source)?;
    match far::last_part(&address) {
        "" => Err(
            Error::usage("the source does not say what to call the copy")
                .hint("sparse clone SRC DIR"),
        ),
        name => Ok(name.into()),
    }
}

fn check_free(folder: &Path, store: &Path, args: &CloneArgs) -> Result<()> {
    let shown = folder.display();
    if store.join("format").exists() {
        return Err(
            Error::conflict(format!("there is a store in '{shown}' already")).hint(format!(
                "to complete a clone that was cut short: {}",
                completion(folder, args.bare)
            )),
        );
    }
    let taken = match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(error).at("look into", folder),
    };
    if taken {
        return Err(Error::conflict(format!("'{shown}' is not empty"))
            .hint("name another folder: sparse clone SRC DIR"));
    }
    if let Some(parent) = folder
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        std::fs::create_dir_all(parent).at("make the directory", parent)?;
    }
    if !args.bare {
        std::fs::create_dir_all(folder).at("make the directory", folder)?;
    }
    Ok(())
}

fn completion(folder: &Path, bare: bool) -> String {
    let verb = if bare { "fetch" } else { "pull" };
    format!("sparse -C {} {verb}", folder.display())
}

/// What came is kept, and the person is told how to go on.
fn unfinished(error: Error, folder: &Path, bare: bool) -> Error {
    let hint = format!(
        "what came is kept; go on with: {}",
        completion(folder, bare)
    );
    match error.kind() {
        Kind::Corrupt => error,
        _ => error.hint(hint),
    }
}
