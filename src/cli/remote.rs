//! `sparse remote`.
//!
//! May use: `error`. Names and addresses are settings of the store; nothing is reached here.

use serde::Serialize;

use crate::error::{Error, Result};

use super::args::{RemoteArgs, RemoteVerb};
use super::out::{Page, Report, Tint};
use super::settings::{self, Origin};
use super::text::escaped;
use super::{Context, errors};

#[derive(Serialize)]
struct Remotes {
    remotes: Vec<Remote>,
}

#[derive(Serialize)]
struct Remote {
    name: String,
    address: String,
}

impl Report for Remotes {
    const SCHEMA: &'static str = "sparse.remotes/1";

    fn human(&self, page: &mut Page) {
        for Remote { name, address } in &self.remotes {
            page.line(format_args!(
                "{}  {}",
                Tint::Name.on(escaped(name)),
                escaped(address)
            ));
        }
    }

    fn quiet(&self, page: &mut Page) {
        for remote in &self.remotes {
            page.line(escaped(&remote.name));
        }
    }
}

/// A name that was given or taken away: silence for people, who typed it.
#[derive(Serialize)]
struct Changed {
    name: String,
    address: String,
    removed: bool,
}

impl Report for Changed {
    const SCHEMA: &'static str = "sparse.remote/1";

    fn human(&self, _: &mut Page) {}

    fn quiet(&self, _: &mut Page) {}
}

pub(super) fn run(context: &Context, args: &RemoteArgs) -> Result<()> {
    let file = settings::store_file(&context.place()?.store);
    match &args.verb {
        None | Some(RemoteVerb::List) => context.out.print(&Remotes {
            remotes: named(context),
        }),
        Some(RemoteVerb::Add { name, address }) => {
            if let Some(known) = context.config.remote(name) {
                return Err(
                    Error::conflict(format!("the name '{name}' is taken by '{known}'"))
                        .hint(format!("sparse remote remove {name}")),
                );
            }
            settings::set_remote(&file, name, Some(address))?;
            context.out.print(&Changed {
                name: name.clone(),
                address: address.clone(),
                removed: false,
            })
        }
        Some(RemoteVerb::Remove { name }) => {
            let remotes = context.config.remotes();
            let Some((_, setting)) = remotes.iter().find(|(known, _)| known == name) else {
                let names = remotes.iter().map(|(known, _)| known.as_str());
                return Err(errors::no_such("remote", name, names));
            };
            if setting.origin != Origin::File(file.clone()) {
                return Err(Error::usage(format!(
                    "'{name}' is not named by this store but in {}",
                    setting.origin
                )));
            }
            settings::set_remote(&file, name, None)?;
            context.out.print(&Changed {
                name: name.clone(),
                address: setting.value.clone(),
                removed: true,
            })
        }
    }
}

fn named(context: &Context) -> Vec<Remote> {
    let mut remotes: Vec<Remote> = context
        .config
        .remotes()
        .into_iter()
        .map(|(name, setting)| Remote {
            name,
            address: setting.value,
        })
        .collect();
    remotes.sort_by(|a, b| a.name.cmp(&b.name));
    remotes
}
