//! Settings: from variables, the store, the user, the machine, or built in.
//!
//! May use: `error`. The only door of TOML. A store may come from a
//! stranger: settings that make a program run are never read from it.

use std::fmt;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use toml_edit::{DocumentMut, Item, Table};

use crate::error::{Error, IoContext, Result};

use super::env::{Environment, names};
use super::errors;

/// The settings of the whole machine.
const MACHINE_FILE: &str = "/etc/sparse/config.toml";

/// Every setting, but for the addresses of remotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The author's name.
    UserName,
    /// The author's mail address.
    UserEmail,
    /// How much work commits spend.
    CommitLevel,
    /// How many threads work.
    CoreThreads,
    /// The remote that is meant when none is named.
    CoreRemote,
    /// When to colour.
    CoreColor,
    /// The program that shows long output.
    CorePager,
    /// Where the cache that several stores share lies.
    CoreCacheDir,
}

impl Key {
    /// All of them, in the order of their list.
    pub const ALL: [Self; 8] = [
        Self::CommitLevel,
        Self::CoreCacheDir,
        Self::CoreColor,
        Self::CorePager,
        Self::CoreRemote,
        Self::CoreThreads,
        Self::UserEmail,
        Self::UserName,
    ];

    /// Its name: table and key.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UserName => "user.name",
            Self::UserEmail => "user.email",
            Self::CommitLevel => "commit.level",
            Self::CoreThreads => "core.threads",
            Self::CoreRemote => "core.remote",
            Self::CoreColor => "core.color",
            Self::CorePager => "core.pager",
            Self::CoreCacheDir => "core.cache_dir",
        }
    }

    /// The variables that go before every file; the first one that is set counts.
    const fn variables(self) -> &'static [&'static str] {
        match self {
            Self::CoreThreads => &[names::THREADS],
            Self::CoreRemote => &["SPARSE_REMOTE"],
            Self::CoreCacheDir => &["SPARSE_CACHE_DIR"],
            Self::CorePager => &["SPARSE_PAGER"],
            Self::UserName | Self::UserEmail | Self::CommitLevel | Self::CoreColor => &[],
        }
    }

    /// What holds when nobody says anything.
    const fn default(self) -> Option<&'static str> {
        match self {
            Self::CommitLevel => Some("default"),
            Self::CoreColor => Some("auto"),
            Self::CorePager => Some("less -FRX"),
            Self::UserName
            | Self::UserEmail
            | Self::CoreThreads
            | Self::CoreRemote
            | Self::CoreCacheDir => None,
        }
    }

    /// Whether it may come with a store: not if it names programs to run or places to write to.
    const fn may_come_with_a_store(self) -> bool {
        !matches!(self, Self::CorePager | Self::CoreCacheDir)
    }

    /// Whether the value can be used.
    fn allows(self, value: &str) -> bool {
        match self {
            Self::CommitLevel => ["fast", "default", "max"].contains(&value),
            Self::CoreColor => ["auto", "always", "never"].contains(&value),
            Self::CoreThreads => value.parse::<usize>().is_ok_and(|count| count > 0),
            Self::UserName | Self::UserEmail => {
                !value.contains(['<', '>']) && !value.contains(char::is_control)
            }
            Self::CoreRemote | Self::CorePager | Self::CoreCacheDir => true,
        }
    }

    /// The setting of this name.
    ///
    /// # Errors
    /// If there is none; the hint names those that are alike.
    pub fn of(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|key| key.name() == name);
        found.ok_or_else(|| errors::no_such("setting", name, Self::ALL.map(Self::name)))
    }
}

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A variable.
    Variable(String),
    /// A file.
    File(PathBuf),
    /// Built in.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => f.write_str(name),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A setting as it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// All settings, the strongest first.
#[derive(Debug, Default)]
pub struct Config {
    environment: Environment,
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    path: PathBuf,
    document: DocumentMut,
    /// It is the store's.
    stranger: bool,
}

/// The file of settings of a store.
#[must_use]
pub fn store_file(store: &Path) -> PathBuf {
    store.join("config.toml")
}

impl Config {
    /// Reads the files that there are: of the store, if there is one, of the user, of the machine.
    ///
    /// # Errors
    /// If a file is there but cannot be read or is no TOML.
    pub fn load(environment: &Environment, store: Option<&Path>) -> Result<Self> {
        let mut layers = Vec::new();
        let files = [
            store.map(|store| (store_file(store), true)),
            environment.user_config().map(|path| (path, false)),
            Some((MACHINE_FILE.into(), false)),
        ];
        for (path, stranger) in files.into_iter().flatten() {
            if let Some(document) = read(&path)? {
                layers.push(Layer {
                    path,
                    document,
                    stranger,
                });
            }
        }
        Ok(Self {
            environment: environment.clone(),
            layers,
        })
    }

    /// A setting, checked.
    ///
    /// # Errors
    /// If the value makes no sense; the error says where it stands.
    pub fn setting(&self, key: Key) -> Result<Option<Setting>> {
        let Some(setting) = self.find(key) else {
            return Ok(None);
        };
        if key.allows(&setting.value) {
            return Ok(Some(setting));
        }
        Err(wrong_value(key, &setting.value).because(format!("it stands in {}", setting.origin)))
    }

    /// The value of a setting, checked.
    ///
    /// # Errors
    /// As [`Config::setting`].
    pub fn get(&self, key: Key) -> Result<Option<String>> {
        Ok(self.setting(key)?.map(|setting| setting.value))
    }

    fn find(&self, key: Key) -> Option<Setting> {
        let found = |value: &str, origin| Setting {
            name: key.name().into(),
            value: value.into(),
            origin,
        };
        for variable in key.variables() {
            if let Some(value) = self.environment.get(variable) {
                return Some(found(value, Origin::Variable((*variable).into())));
            }
        }
        for layer in &self.layers {
            if layer.stranger && !key.may_come_with_a_store() {
                continue;
            }
            if let Some(value) = text_at(&layer.document, key.name()) {
                return Some(found(&value, Origin::File(layer.path.clone())));
            }
        }
        // The pager of the whole system comes after what was set for this program.
        if let (Key::CorePager, Some(value)) = (key, self.environment.get("PAGER")) {
            return Some(found(value, Origin::Variable("PAGER".into())));
        }
        key.default().map(|value| found(value, Origin::Default))
    }

    /// Everything that holds, by name: settings, then remotes.
    ///
    /// # Errors
    /// As [`Config::setting`].
    pub fn list(&self) -> Result<Vec<Setting>> {
        let mut all = Vec::new();
        for key in Key::ALL {
            all.extend(self.setting(key)?);
        }
        all.extend(self.remotes().into_iter().map(|(_, setting)| setting));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// The named remotes (`remote.NAME.url`), each with its name.
    #[must_use]
    pub fn remotes(&self) -> Vec<(String, Setting)> {
        let mut all: Vec<(String, Setting)> = Vec::new();
        for layer in &self.layers {
            let remotes = layer.document.get("remote").and_then(Item::as_table_like);
            for (remote, item) in remotes.into_iter().flat_map(|table| table.iter()) {
                let known = all.iter().any(|(known, _)| known == remote);
                if let (Some(url), false) = (item.get("url").and_then(Item::as_str), known) {
                    let setting = Setting {
                        name: format!("remote.{remote}.url"),
                        value: url.into(),
                        origin: Origin::File(layer.path.clone()),
                    };
                    all.push((remote.into(), setting));
                }
            }
        }
        all
    }

    /// The address of a named remote.
    #[must_use]
    pub fn remote(&self, name: &str) -> Option<String> {
        let mut remotes = self.remotes().into_iter();
        let found = remotes.find(|(known, _)| known == name);
        found.map(|(_, setting)| setting.value)
    }
}

/// Writes a setting into a file; the rest of the file stays as it is, comments too.
///
/// # Errors
/// If the value makes no sense there, or the file cannot be read or written.
pub fn set(file: &Path, of_store: bool, key: Key, value: &str) -> Result<()> {
    if !key.allows(value) {
        return Err(wrong_value(key, value));
    }
    if of_store && !key.may_come_with_a_store() {
        return Err(Error::usage(format!(
            "'{}' is not read from a store, which may come from a stranger",
            key.name()
        ))
        .hint(format!("sparse config set --user {} …", key.name())));
    }
    let item = match value.parse::<i64>() {
        Ok(number) if key == Key::CoreThreads => toml_edit::value(number),
        _ => toml_edit::value(value),
    };
    let path: Vec<&str> = key.name().split('.').collect();
    change(file, &path, Some(item))
}

/// Gives a remote an address in a file, or takes its name away.
///
/// # Errors
/// If the name makes no sense, or the file cannot be read or written.
pub fn set_remote(file: &Path, name: &str, address: Option<&str>) -> Result<()> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if name.is_empty() || name.starts_with(['-', '.']) || !name.chars().all(fits) {
        return Err(Error::usage(format!("'{name}' cannot name a remote"))
            .hint("letters, digits, '-', '_' and '.' can"));
    }
    match address {
        Some(address) => change(
            file,
            &["remote", name, "url"],
            Some(toml_edit::value(address)),
        ),
        None => change(file, &["remote", name], None),
    }
}

fn wrong_value(key: Key, value: &str) -> Error {
    let error = Error::usage(format!("'{}' cannot be '{value}'", key.name()));
    match key {
        Key::CommitLevel => error.hint("one of: fast, default, max"),
        Key::CoreColor => error.hint("one of: auto, always, never"),
        Key::CoreThreads => error.hint("a number from 1 on"),
        Key::UserName | Key::UserEmail => error.hint("one line without angle brackets"),
        Key::CoreRemote | Key::CorePager | Key::CoreCacheDir => error,
    }
}

fn read(path: &Path) -> Result<Option<DocumentMut>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(source)
            if matches!(
                source.kind(),
                ErrorKind::NotFound | ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(source) => return Err(Error::io("read", path, &source)),
    };
    text.parse()
        .map(Some)
        .map_err(|source: toml_edit::TomlError| {
            let line = source.span().map_or(1, |span| {
                let before = text.get(..span.start).unwrap_or_default();
                1 + before.matches('\n').count()
            });
            Error::usage(format!("cannot understand '{}'", path.display()))
                .because(format!("line {line}: {}", source.message()))
        })
}

/// A text, number or truth value at `table.key`.
fn text_at(document: &DocumentMut, name: &str) -> Option<String> {
    let mut item = document.as_item();
    for part in name.split('.') {
        item = item.get(part)?;
    }
    let text = item.as_str().map(Into::into);
    let number = item.as_integer().map(|number| number.to_string());
    text.or(number)
        .or_else(|| item.as_bool().map(|truth| truth.to_string()))
}

/// Sets or removes what stands at a path of keys, and writes the file in one step.
fn change(file: &Path, path: &[&str], item: Option<Item>) -> Result<()> {
    let mut document = read(file)?.unwrap_or_default();
    let (last, tables) = path.split_last().unwrap_or((&"", &[]));
    let mut table: &mut dyn toml_edit::TableLike = document.as_table_mut();
    for name in tables {
        let mut fresh = Table::new();
        fresh.set_implicit(tables.len() > 1);
        let inner = table.entry(name).or_insert(Item::Table(fresh));
        table = inner
            .as_table_like_mut()
            .ok_or_else(|| Error::usage(format!("'{name}' in '{}' is no table", file.display())))?;
    }
    match item {
        Some(item) => {
            table.insert(last, item);
        }
        None => {
            table.remove(last);
        }
    }
    replace(file, &document.to_string())
}

/// The new file is whole and on disk before it takes the place of the old one.
fn replace(file: &Path, text: &str) -> Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).at("make", folder)?;
    }
    let beside = file.with_extension(format!("toml.{}", std::process::id()));
    let written = fs::File::create_new(&beside).and_then(|mut new| {
        new.write_all(text.as_bytes())?;
        new.sync_all()?;
        fs::rename(&beside, file)
    });
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written.at("write", file)
}

#[cfg(test)]
mod tests;
