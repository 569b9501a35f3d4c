//! Where the store is: stated, or found upwards from the working folder.
//!
//! May use: `error`. Looks at names only; must never open what it finds.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Error, IoContext, Result};

/// The name of a store's folder inside of its work tree.
pub const STORE_FOLDER: &str = ".sparse";

/// A store, and the work tree around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The store's folder.
    pub store: PathBuf,
    /// The folder whose files it keeps; a bare store has none.
    pub work_tree: Option<PathBuf>,
}

impl Place {
    /// The store at `stated`, else the one of the working folder or a folder above it.
    ///
    /// # Errors
    /// If there is none, or what may be one may not be looked into.
    pub fn find(stated: Option<&Path>) -> Result<Self> {
        let folder = match stated {
            Some(stated) => stated.to_path_buf(),
            None => ".".into(),
        };
        let folder = std::path::absolute(&folder).at("find", &folder)?;
        let found = match stated {
            Some(_) => Self::at(&folder)?,
            None => {
                let mut found = folder.ancestors().map(Self::at);
                found.find_map(Result::transpose).transpose()?
            }
        };
        found.ok_or_else(|| {
            let place = folder.display();
            match stated {
                Some(_) => Error::not_found(format!("there is no store in '{place}'")),
                None => {
                    Error::not_found(format!("there is no store in '{place}' or a folder above"))
                }
            }
            .hint("make one: sparse init")
        })
    }

    /// The store in exactly this folder: in its `.sparse`, or the folder itself.
    fn at(folder: &Path) -> Result<Option<Self>> {
        let inner = folder.join(STORE_FOLDER);
        if is_store(&inner)? {
            return Ok(Some(Self {
                store: inner,
                work_tree: Some(folder.into()),
            }));
        }
        Ok(is_store(folder)?.then(|| Self {
            store: folder.into(),
            work_tree: match folder.file_name() {
                Some(name) if name == STORE_FOLDER => folder.parent().map(Into::into),
                _ => None,
            },
        }))
    }
}

/// Whether a path leads into a folder, or would once it is made, or to the folder itself.
#[must_use]
pub fn lies_in(path: &Path, folder: &Path) -> bool {
    let (Ok(path), Ok(folder)) = (std::path::absolute(path), folder.canonicalize()) else {
        return false;
    };
    let standing = path.ancestors().find_map(|path| path.canonicalize().ok());
    standing.is_some_and(|path| path.starts_with(&folder))
}

/// Whether a folder is a store, unless it is there and may not be looked into.
fn is_store(folder: &Path) -> Result<bool> {
    match std::fs::metadata(folder.join("format")) {
        Ok(format) => Ok(format.is_file() && folder.join("refs").is_dir()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied && folder.is_dir() => {
            Err(error).at("look into", folder)
        }
        Err(_) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn make_store(folder: &Path) {
        fs::create_dir_all(folder.join("refs")).unwrap();
        fs::write(folder.join("format"), "").unwrap();
    }

    #[test]
    fn a_store_is_found_by_its_folder_and_by_its_work_tree() {
        let dir = tempfile::TempDir::new().unwrap();
        let store = dir.path().join(STORE_FOLDER);
        make_store(&store);
        let expected = Place {
            store: store.clone(),
            work_tree: Some(dir.path().into()),
        };
        assert_eq!(Place::find(Some(dir.path())).unwrap(), expected);
        assert_eq!(Place::find(Some(&store)).unwrap(), expected);
    }

    #[test]
    fn a_bare_store_has_no_work_tree() {
        let dir = tempfile::TempDir::new().unwrap();
        make_store(dir.path());
        assert_eq!(Place::find(Some(dir.path())).unwrap().work_tree, None);
    }

    #[test]
    fn what_leads_into_a_folder_lies_in_it() {
        let dir = tempfile::TempDir::new().unwrap();
        let folder = dir.path().join("folder");
        fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink(&folder, dir.path().join("link")).unwrap();
        for path in ["folder", "folder/not/there", "link/x", "folder/../folder"] {
            assert!(lies_in(&dir.path().join(path), &folder), "{path}");
        }
        for path in ["", "folder2", "folder/.."] {
            assert!(!lies_in(&dir.path().join(path), &folder), "{path}");
        }
    }

    #[test]
    fn a_stated_place_is_not_searched_upwards() {
        let dir = tempfile::TempDir::new().unwrap();
        make_store(&dir.path().join(STORE_FOLDER));
        let below = dir.path().join("below");
        fs::create_dir(&below).unwrap();
        let error = Place::find(Some(&below)).unwrap_err();
        assert_eq!(error.kind().exit_code(), 3);
        assert_eq!(error.hint_text(), Some("make one: sparse init"));
    }
}
