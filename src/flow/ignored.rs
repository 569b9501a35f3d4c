//! What is left out when a directory is scanned: the rules of its `.sparseignore` files.
//!
//! May use: `error`. Reads those files only. Must never be asked by what writes files: a rule
//! keeps a thing from being stored, and nothing else.

use std::io::Read;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::error::{Error, IoContext, Result};

/// The name of a file of rules, written as git's are.
pub const NAME: &str = ".sparseignore";

/// The longest file of rules.
const BYTES_MAX: u64 = 1 << 20;

/// The rules of a directory and of those above it, the root's first.
#[derive(Default)]
pub struct Rules {
    stack: Vec<Option<Gitignore>>,
}

impl Rules {
    /// Takes the rules that lie in a directory, which counts until [`Rules::leave`].
    ///
    /// # Errors
    /// `Usage` for a rule that is none, failures of the disk.
    pub fn enter(&mut self, directory: &Path) -> Result<()> {
        self.stack.push(read(directory)?);
        Ok(())
    }

    /// Forgets the rules of the directory entered last.
    pub fn leave(&mut self) {
        self.stack.pop();
    }

    /// Whether what lies at a path in the directory entered last is left out: the last rule that
    /// speaks of it decides, those of the nearest directory first.
    #[must_use]
    pub fn leave_out(&self, path: &Path, is_dir: bool) -> bool {
        let mut said = self.stack.iter().rev().flatten();
        let decided = said.find_map(|rules| match rules.matched(path, is_dir) {
            Match::None => None,
            Match::Ignore(_) => Some(true),
            Match::Whitelist(_) => Some(false),
        });
        decided.unwrap_or(false)
    }
}

fn read(directory: &Path) -> Result<Option<Gitignore>> {
    let path = directory.join(NAME);
    // A link could lead to rules that no version holds.
    if !std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()) {
        return Ok(None);
    }
    let mut text = Vec::new();
    let file = std::fs::File::open(&path).at("read", &path)?;
    file.take(BYTES_MAX + 1)
        .read_to_end(&mut text)
        .at("read", &path)?;
    if text.len() as u64 > BYTES_MAX {
        return Err(Error::usage(format!(
            "'{}' is longer than 1 MiB",
            path.display()
        )));
    }
    let text = String::from_utf8(text)
        .map_err(|_| Error::usage(format!("'{}' is not UTF-8", path.display())))?;
    let mut rules = GitignoreBuilder::new(directory);
    for (line, number) in text.lines().zip(1..) {
        rules
            .add_line(None, line)
            .map_err(|error| unclear(&path, number, &error))?;
    }
    let rules = rules.build().map_err(|error| unclear(&path, 0, &error))?;
    Ok(Some(rules))
}

/// A rule that is not understood is refused: what it was to keep out would be stored.
fn unclear(path: &Path, line: usize, error: &ignore::Error) -> Error {
    let place = match line {
        0 => format!("'{}'", path.display()),
        line => format!("line {line} of '{}'", path.display()),
    };
    Error::usage(format!("{place} is no rule of what to leave out")).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_rule_decides_and_a_broken_one_is_named() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(
            root.path().join(NAME),
            "# logs\n*.log\n!kept.log\n/top\nd/\n",
        )
        .unwrap();
        std::fs::write(inner.join(NAME), "!a.log\nkept.log\n").unwrap();
        let mut rules = Rules::default();
        rules.enter(root.path()).unwrap();
        let out = |rules: &Rules, path: &Path, name: &str, is_dir| {
            rules.leave_out(&path.join(name), is_dir)
        };
        assert!(out(&rules, root.path(), "a.log", false));
        assert!(!out(&rules, root.path(), "kept.log", false));
        assert!(out(&rules, root.path(), "top", false));
        assert!(out(&rules, root.path(), "d", true));
        assert!(!out(&rules, root.path(), "d", false));
        rules.enter(&inner).unwrap();
        assert!(!out(&rules, &inner, "a.log", false));
        assert!(out(&rules, &inner, "b.log", false));
        assert!(out(&rules, &inner, "kept.log", false));
        assert!(!out(&rules, &inner, "top", false));
        rules.leave();
        assert!(out(&rules, root.path(), "a.log", false));

        std::fs::write(inner.join(NAME), "fine\n{a,b\n").unwrap();
        let error = Rules::default().enter(&inner).unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
        let long = vec![b'a'; usize::try_from(BYTES_MAX).unwrap() + 1];
        std::fs::write(inner.join(NAME), long).unwrap();
        assert!(Rules::default().enter(&inner).is_err());
    }
}
