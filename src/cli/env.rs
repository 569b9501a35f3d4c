//! The world around the program: variables, the clock, who is at the keyboard.
//!
//! May use: `error`. The only reader of `std::env` for settings and of the clock; everything below
//! is told what it needs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::error::{Error, Result};

/// The variables that mean something here.
pub mod names {
    /// The store.
    pub const DIR: &str = "SPARSE_DIR";
    /// Who makes commits: `Name <mail>`.
    pub const AUTHOR: &str = "SPARSE_AUTHOR";
    /// When commits are made: RFC 3339 or seconds since 1970. For imports and for repeatable runs.
    pub const DATE: &str = "SPARSE_DATE";
    /// How many threads work.
    pub const THREADS: &str = "SPARSE_THREADS";
    /// Non-empty: no progress.
    pub const NO_PROGRESS: &str = "SPARSE_NO_PROGRESS";
}

/// A copy of the variables, taken once.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

/// Who does something, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// `Name <mail>`
    pub author: String,
    /// Seconds since 1970 (UTC).
    pub time: i64,
    /// The author's offset from UTC.
    pub offset_minutes: i32,
}

impl Environment {
    /// The variables of this process; those that are not Unicode are left out.
    #[must_use]
    pub fn read() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// A variable that is set and not empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.variables.get(name)?;
        (!value.is_empty()).then_some(value)
    }

    /// The file of settings of this user.
    #[must_use]
    pub fn user_config(&self) -> Option<PathBuf> {
        let folder = self.home_folder("XDG_CONFIG_HOME", ".config")?;
        Some(folder.join("sparse").join("config.toml"))
    }

    /// The folder for what can be made again.
    #[must_use]
    pub fn cache_folder(&self) -> Option<PathBuf> {
        Some(self.home_folder("XDG_CACHE_HOME", ".cache")?.join("sparse"))
    }

    /// As the XDG base directory rules have it: a relative path does not count.
    fn home_folder(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        let stated = self.get(variable).map(PathBuf::from);
        stated
            .filter(|path| path.is_absolute())
            .or_else(|| Some(PathBuf::from(self.get("HOME")?).join(below_home)))
    }

    /// Who and when: stated by a variable, else `name` and `email` of the settings, else the
    /// login on this machine.
    ///
    /// # Errors
    /// If `SPARSE_AUTHOR` or `SPARSE_DATE` cannot be understood.
    pub fn signature(&self, name: Option<&str>, email: Option<&str>) -> Result<Signature> {
        let author = match self.get(names::AUTHOR) {
            Some(stated) => checked_author(stated)?,
            None => {
                let login = self.login();
                let name = name.unwrap_or(&login);
                let email = email.map_or_else(|| format!("{login}@{}", host()), Into::into);
                checked_author(&format!("{name} <{email}>"))?
            }
        };
        let now = match self.get(names::DATE) {
            Some(stated) => parsed_date(stated)?,
            None => now(),
        };
        let offset = TimeZone::system().to_offset(now);
        Ok(Signature {
            author,
            time: now.as_second(),
            offset_minutes: offset.seconds() / 60,
        })
    }

    fn login(&self) -> String {
        ["LOGNAME", "USER"]
            .iter()
            .find_map(|name| self.get(name))
            .unwrap_or("unknown")
            .into()
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self {
            variables: variables.into_iter().collect(),
        }
    }
}

/// The time now, in nanoseconds since 1970; what `cache` compares the times of files with.
#[must_use]
pub fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    })
}

fn now() -> Timestamp {
    // A clock outside of the years 1 to 9999 counts as 1970.
    Timestamp::from_nanosecond(i128::from(now_ns())).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn host() -> String {
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    if host.is_empty() {
        return "localhost".into();
    }
    host
}

/// One line, a name and a mail address in angle brackets.
fn checked_author(text: &str) -> Result<String> {
    let shaped = text
        .strip_suffix('>')
        .and_then(|text| text.split_once(" <"))
        .is_some_and(|(name, mail)| {
            !name.trim().is_empty() && !name.contains(['<', '>']) && !mail.contains(['<', '>'])
        });
    if shaped && !text.contains(|letter: char| letter.is_control()) {
        return Ok(text.into());
    }
    Err(Error::usage(format!("'{text}' is no author"))
        .hint("write it as SPARSE_AUTHOR='Ada Lovelace <ada@example.org>'"))
}

fn parsed_date(text: &str) -> Result<Timestamp> {
    let seconds = text.parse().ok();
    let time = match seconds {
        Some(seconds) => Timestamp::from_second(seconds).ok(),
        None => text.parse().ok(),
    };
    time.ok_or_else(|| {
        Error::usage(format!("SPARSE_DATE is '{text}', which is no time"))
            .hint("write it as 2025-01-31T12:00:00Z or as seconds since 1970")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        let owned = pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        owned.collect()
    }

    #[test]
    fn an_empty_variable_is_none() {
        let environment = environment(&[("SPARSE_DIR", ""), ("HOME", "/home/ada")]);
        assert_eq!(environment.get(names::DIR), None);
        assert_eq!(environment.get("HOME"), Some("/home/ada"));
    }

    #[test]
    fn folders_follow_the_base_directory_rules() {
        let home = ("HOME", "/home/ada");
        for (variables, expected) in [
            (vec![home], Some("/home/ada/.config/sparse/config.toml")),
            (
                vec![home, ("XDG_CONFIG_HOME", "/etc/x")],
                Some("/etc/x/sparse/config.toml"),
            ),
            (
                vec![home, ("XDG_CONFIG_HOME", "relative")],
                Some("/home/ada/.config/sparse/config.toml"),
            ),
            (vec![], None),
        ] {
            let found = environment(&variables).user_config();
            assert_eq!(found, expected.map(PathBuf::from));
        }
        let cache = environment(&[home]).cache_folder();
        assert_eq!(cache, Some("/home/ada/.cache/sparse".into()));
    }

    #[test]
    fn an_author_is_stated_or_set_or_the_login() {
        let author = |variables: &[(&str, &str)], name, email| {
            environment(variables)
                .signature(name, email)
                .unwrap()
                .author
        };
        let stated = ("SPARSE_AUTHOR", "Ada L <a@b>");
        assert_eq!(author(&[stated], Some("Bob"), None), "Ada L <a@b>");
        assert_eq!(author(&[], Some("Bob"), Some("b@c")), "Bob <b@c>");
        assert!(author(&[("USER", "eve")], None, None).starts_with("eve <eve@"));
        assert!(author(&[], None, None).starts_with("unknown <unknown@"));
    }

    #[test]
    fn an_author_cannot_forge_lines() {
        for wrong in [
            "Ada",
            "Ada <a",
            "<a@b>",
            "Ada <a>\nx <b>",
            "A <b> <c>",
            " <a@b>",
        ] {
            let environment = environment(&[("SPARSE_AUTHOR", wrong)]);
            assert!(environment.signature(None, None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_date_may_be_stated() {
        for text in [
            "1700000000",
            "2023-11-14T22:13:20Z",
            "2023-11-14T23:13:20+01:00",
        ] {
            let environment = environment(&[("SPARSE_DATE", text)]);
            assert_eq!(
                environment.signature(None, None).unwrap().time,
                1_700_000_000
            );
        }
        let wrong = environment(&[("SPARSE_DATE", "yesterday")]);
        assert!(wrong.signature(None, None).is_err());
        assert!(now_ns() > 1_700_000_000_000_000_000);
    }
}
