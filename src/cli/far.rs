//! The other store of a transfer: by the name of a remote, or by its address.
//!
//! May use: everything below. The one place that decides what carries an address.

use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::store::Store;
use crate::store::host::Host;

use super::Context;
use super::place::Place;
use super::settings::Key;

/// Another store.
pub struct Far {
    /// The name under which its branches stand here: its own as a remote, else one made of its
    /// address that nothing else has.
    pub name: String,
    /// Whether it has a name as a remote.
    pub named: bool,
    /// What was typed.
    pub shown: String,
    /// The store.
    pub store: Store,
}

/// The store that a name or an address means; without either the usual remote.
///
/// # Errors
/// Where there is none, or it cannot be reached.
pub fn open(context: &Context, stated: Option<&str>) -> Result<Far> {
    context.online()?;
    let shown = match stated {
        Some(stated) => stated.to_owned(),
        None => usual(context)?,
    };
    if let Some(address) = context.config.remote(&shown) {
        let place = context.place()?;
        let folder = place.work_tree.as_ref().unwrap_or(&place.store);
        return Ok(Far {
            store: store_at(&address, folder)?,
            name: shown.clone(),
            named: true,
            shown,
        });
    }
    let store = store_at(&shown, Path::new("")).map_err(|error| {
        let names = context.config.remotes();
        let is_word = !shown.contains(['/', '.', ':']);
        match (error.kind(), is_word && !names.is_empty()) {
            (Kind::NotFound, true) => {
                let names = names.iter().map(|(name, _)| name.as_str());
                super::errors::no_such("remote", &shown, names)
            }
            _ => error,
        }
    })?;
    let address = address_of(&shown)?;
    let same = context.config.remotes().into_iter();
    let same = same
        .into_iter()
        .find(|(_, setting)| address_of(&setting.value).is_ok_and(|known| known == address));
    Ok(match same {
        Some((name, _)) => Far {
            name,
            named: true,
            shown,
            store,
        },
        None => Far {
            name: name_for(&address),
            named: false,
            shown,
            store,
        },
    })
}

/// The remote that is meant when none is named.
fn usual(context: &Context) -> Result<String> {
    if let Some(set) = context.config.get(Key::CoreRemote)? {
        return Ok(set);
    }
    let remotes = context.config.remotes();
    if remotes.iter().any(|(name, _)| name == "origin") {
        return Ok("origin".into());
    }
    match remotes.as_slice() {
        [(only, _)] => Ok(only.clone()),
        [] => Err(Error::usage("this store has no remote")
            .hint("name one: sparse remote add origin ADDRESS")),
        _ => Err(Error::usage("this store has several remotes").hint(format!(
            "say which: {}",
            remotes
                .iter()
                .map(|(name, _)| name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        ))),
    }
}

/// Opens the store at an address; a relative path starts in `folder`.
///
/// # Errors
/// `NotFound` where there is none, `Unreachable` for what this version cannot reach.
pub fn store_at(address: &str, folder: &Path) -> Result<Store> {
    let path = folder.join(path_of(address)?);
    let place = Place::find(Some(&path)).map_err(|error| match error.kind() {
        Kind::NotFound => Error::not_found(format!("there is no store in '{}'", path.display()))
            .hint(format!("make one: sparse init --bare {}", path.display())),
        _ => error,
    })?;
    Store::open(&place.store, Host::system())
}

/// The path of an address on this machine.
fn path_of(address: &str) -> Result<PathBuf> {
    if let Some(path) = address.strip_prefix("file://") {
        return Ok(path.into());
    }
    match address.split_once("://") {
        Some((scheme, _)) => Err(Error::new(
            Kind::Unreachable,
            format!("this version cannot reach '{scheme}://' addresses yet"),
        )
        .hint("a path to a store works")),
        None => Ok(address.into()),
    }
}

/// An address that is the same from everywhere.
///
/// # Errors
/// For what this version cannot reach.
pub fn address_of(address: &str) -> Result<String> {
    let path = path_of(address)?;
    let path = path.canonicalize().unwrap_or(path);
    Ok(path.to_string_lossy().into_owned())
}

/// A name for the branches of a store that has none: its folder's, with a hash of the address so
/// that no two are mixed up.
fn name_for(address: &str) -> String {
    let hash = blake3::hash(address.as_bytes()).to_hex();
    let folder: String = last_part(address)
        .chars()
        .map(|letter| match letter {
            letter if letter.is_ascii_alphanumeric() || letter == '_' => letter,
            _ => '-',
        })
        .take(40)
        .collect();
    let folder = folder.trim_matches('-');
    let folder = if folder.is_empty() { "store" } else { folder };
    format!("{folder}-{}", &hash[..8])
}

/// The folder's name at the end of an address.
#[must_use]
pub fn last_part(address: &str) -> &str {
    let mut parts = address.trim_end_matches('/').rsplit('/');
    let last = parts.next().unwrap_or_default();
    match last {
        super::place::STORE_FOLDER => parts.next().unwrap_or_default(),
        _ => last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_without_a_name_gets_one_that_nothing_else_has() {
        let (one, other) = (name_for("/a/team"), name_for("/b/team"));
        assert!(one.starts_with("team-") && other.starts_with("team-"));
        assert_ne!(one, other);
        assert!(name_for("/").starts_with("store-"));
        assert!(name_for("/x/..weird name").starts_with("weird-name-"));
        for name in [one, other, name_for("/"), name_for("/x/\u{e9}.lock")] {
            let full = format!("remotes/{name}/main");
            assert!(
                store_format::reference::check_reference(&full).is_ok(),
                "{full}"
            );
        }
    }

    #[test]
    fn an_address_ends_in_its_folder() {
        assert_eq!(last_part("/srv/models/"), "models");
        assert_eq!(last_part("../team/.sparse"), "team");
        assert_eq!(last_part("x"), "x");
    }
}
