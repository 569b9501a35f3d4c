//! Whether a symbolic link stays inside of the directory that is committed or checked out.
//!
//! May use: nothing of this crate. Pure: by names alone, the same for who makes a version and for
//! who writes its files, so that what was committed can be checked out.

use std::collections::BTreeSet;

/// What stands at a path, as far as it matters here.
#[derive(Clone, Copy)]
pub(super) enum Entry<'a> {
    /// A link, and where it leads.
    Link(&'a str),
    /// A directory without entries.
    Directory,
    /// Anything else.
    Other,
}

/// The first link that leads out of the directory that these entries lie in.
pub(super) fn leading_out<'a>(
    entries: impl Iterator<Item = (&'a str, Entry<'a>)> + Clone,
) -> Option<&'a str> {
    let mut directories = None;
    let mut known = |path: &str| {
        let all = directories.get_or_insert_with(|| directories_of(entries.clone()));
        all.contains(path)
    };
    entries.clone().find_map(|(path, entry)| match entry {
        Entry::Link(to) if !stays(path, to, &mut known) => Some(path),
        Entry::Link(_) | Entry::Directory | Entry::Other => None,
    })
}

fn stays(path: &str, to: &str, is_directory: &mut dyn FnMut(&str) -> bool) -> bool {
    let (above, _) = path.rsplit_once('/').unwrap_or_default();
    let mut at: Vec<&str> = above.split('/').filter(|name| !name.is_empty()).collect();
    let mut named = false;
    for component in to.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                // What is above a link is above what it leads to, which may be anywhere.
                let is_known = !named || is_directory(&at.join("/"));
                if at.pop().is_none() || !is_known {
                    return false;
                }
            }
            name => {
                at.push(name);
                named = true;
            }
        }
    }
    !to.starts_with('/')
}

/// Every directory that there is.
fn directories_of<'a>(entries: impl Iterator<Item = (&'a str, Entry<'a>)>) -> BTreeSet<&'a str> {
    let mut directories = BTreeSet::new();
    for (mut path, entry) in entries {
        if matches!(entry, Entry::Directory) {
            directories.insert(path);
        }
        while let Some((above, _)) = path.rsplit_once('/') {
            if !directories.insert(above) {
                break;
            }
            path = above;
        }
    }
    directories
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_stays_where_every_step_up_starts_from_a_directory() {
        let of = |path, to| {
            let entries = [
                (path, Entry::Link(to)),
                ("dir/file", Entry::Other),
                ("empty", Entry::Directory),
            ];
            leading_out(entries.into_iter())
        };
        for to in [
            "dir/file",
            "./dir/../dir/file",
            "empty/../dir",
            "dir",
            "nowhere",
        ] {
            assert_eq!(of("link", to), None, "{to}");
        }
        assert_eq!(of("dir/link", "../empty"), None);
        for to in [
            "..",
            "../model/file",
            "/etc",
            "dir/../..",
            "link/../dir",
            "dir/file/../x",
        ] {
            assert_eq!(of("link", to), Some("link"), "{to}");
        }
    }
}
