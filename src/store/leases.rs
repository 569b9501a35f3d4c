//! Leases of running writers and the lists of packs that gc is about to delete.
//!
//! May use: `error`, `disk`, `store::{files, host, paths}`. Leases save work and keep unfinished
//! files from gc; no promise rests on them. The lists are what writers must not depend on.

use std::collections::BTreeSet;
use std::str::FromStr;

use store_format::ids::PackId;

use crate::disk::Disk;
use crate::error::{Error, IoContext, Kind, Result};
use crate::store::files;
use crate::store::host::Host;
use crate::store::paths;

/// Packs that nobody may come to depend on.
pub type Condemned = BTreeSet<PackId>;

/// A writer of another machine counts as alive for so long after its last sign of life.
const SILENCE_MS_MAX: u64 = 24 * 3600 * 1000;
/// A sign of life is given this often.
pub const BEAT_MS: u64 = 60 * 1000;

const WRITE_TRIES: usize = 8;
const FILE_BYTES_MAX: u64 = 64 << 20;
const LEASE_TITLE: &str = "sparse lease 1";
const CONDEMNED_TITLE: &str = "sparse condemned 1";

/// What a running writer says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The machine.
    pub host: String,
    /// The process.
    pub process: u32,
    /// The last sign of life, in milliseconds since 1970.
    pub beat_ms: u64,
    /// Packs that it has named but not published yet.
    pub packs: Vec<PackId>,
}

impl Lease {
    /// A lease of this process.
    #[must_use]
    pub fn new(host: &Host) -> Self {
        Self {
            host: host.name.replace('\n', " "),
            process: host.process,
            beat_ms: (host.now_ms)(),
            packs: Vec::new(),
        }
    }

    fn encode(&self) -> String {
        let mut text = format!(
            "{LEASE_TITLE}\nhost {}\nprocess {}\nbeat {}\n",
            self.host, self.process, self.beat_ms
        );
        put_packs(&mut text, &self.packs);
        text
    }

    fn decode(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != LEASE_TITLE {
            return None;
        }
        Some(Self {
            host: lines.next()?.strip_prefix("host ")?.to_owned(),
            process: field(lines.next()?, "process ")?,
            beat_ms: field(lines.next()?, "beat ")?,
            packs: take_packs(lines)?,
        })
    }

    /// Whether its writer may still be at work.
    #[must_use]
    pub fn is_alive(&self, host: &Host) -> bool {
        if self.host == host.name.replace('\n', " ") {
            return (host.runs)(self.process);
        }
        (host.now_ms)().saturating_sub(self.beat_ms) < SILENCE_MS_MAX
    }
}

/// Writes a lease, or a newer one over it.
///
/// # Errors
/// A failure of the disk.
pub fn write(disk: &dyn Disk, writer: &str, lease: &Lease) -> Result<()> {
    let mut swept = write_once(disk, writer, lease);
    for _ in 1..WRITE_TRIES {
        match swept {
            // A collection took the unfinished file for a dead writer's.
            Err(error) if error.kind() == Kind::NotFound => {
                swept = write_once(disk, writer, lease);
            }
            answer => return answer,
        }
    }
    swept
}

fn write_once(disk: &dyn Disk, writer: &str, lease: &Lease) -> Result<()> {
    let temp = format!("{}/{writer}.lease", paths::TMP);
    files::remove(disk, &temp)?;
    files::write(disk, &temp, lease.encode().as_bytes()).at("write", &temp)?;
    let path = format!("{}/{writer}", paths::LEASES);
    disk.replace(&temp, &path).at("name", &path)
}

/// The leases, by the names of their writers. What cannot be read is nobody's.
///
/// # Errors
/// A failure of the disk.
pub fn list(disk: &dyn Disk) -> Result<Vec<(String, Option<Lease>)>> {
    let mut leases = Vec::new();
    for writer in files::list(disk, paths::LEASES)? {
        let path = format!("{}/{writer}", paths::LEASES);
        let Some(bytes) = files::read(disk, &path, FILE_BYTES_MAX)? else {
            continue; // ended since
        };
        let lease = std::str::from_utf8(&bytes).ok().and_then(Lease::decode);
        leases.push((writer, lease));
    }
    Ok(leases)
}

/// Packs that running writers have named and not published yet.
///
/// # Errors
/// A failure of the disk.
pub fn leased(disk: &dyn Disk, host: &Host) -> Result<Condemned> {
    let alive = list(disk)?.into_iter().filter_map(|(_, lease)| lease);
    let alive = alive.filter(|lease| lease.is_alive(host));
    Ok(alive.flat_map(|lease| lease.packs).collect())
}

/// Whether a writer left its lease that is no more.
///
/// # Errors
/// A failure of the disk.
pub fn any_dead(disk: &dyn Disk, host: &Host) -> Result<bool> {
    let is_alive = |lease: &Option<Lease>| lease.as_ref().is_some_and(|l| l.is_alive(host));
    Ok(list(disk)?.iter().any(|(_, lease)| !is_alive(lease)))
}

/// A list of packs that gc is about to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// The packs.
    pub packs: Vec<PackId>,
}

impl Sentence {
    /// The text of the file.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = format!("{CONDEMNED_TITLE}\ntime {}\n", self.time_ms);
        put_packs(&mut text, &self.packs);
        let check = blake3::hash(text.as_bytes()).to_hex();
        format!("{text}check {check}\n")
    }

    fn decode(text: &str) -> Option<Self> {
        let (body, check) = text.split_at_checked(text.rfind("check ")?)?;
        let expected = format!("check {}\n", blake3::hash(body.as_bytes()).to_hex());
        let mut lines = body.lines();
        if check != expected || lines.next()? != CONDEMNED_TITLE {
            return None;
        }
        Some(Self {
            time_ms: field(lines.next()?, "time ")?,
            packs: take_packs(lines)?,
        })
    }
}

/// The lists that stand now, by name.
///
/// # Errors
/// `Corrupt` for a list that cannot be read: to go on without it would be to depend on packs
/// that may be gone in a moment.
pub fn sentences(disk: &dyn Disk) -> Result<Vec<(String, Sentence)>> {
    let mut sentences = Vec::new();
    for name in files::list(disk, paths::CONDEMNED)? {
        if let Some(sentence) = sentence(disk, &name)? {
            sentences.push((name, sentence));
        }
    }
    Ok(sentences)
}

/// A list by its name; nothing if it was carried out since.
///
/// # Errors
/// As [`sentences`].
pub fn sentence(disk: &dyn Disk, name: &str) -> Result<Option<Sentence>> {
    let path = format!("{}/{name}", paths::CONDEMNED);
    let Some(bytes) = files::read(disk, &path, FILE_BYTES_MAX)? else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes).ok();
    let sentence = text.and_then(Sentence::decode).ok_or_else(|| {
        Error::corrupt(format!("'{path}' is damaged"))
            .hint("make sure that no gc runs, then run 'sparse repair'")
    })?;
    Ok(Some(sentence))
}

/// All packs of all lists.
///
/// # Errors
/// As [`sentences`].
pub fn condemned(disk: &dyn Disk) -> Result<Condemned> {
    let sentences = sentences(disk)?;
    let packs = sentences.into_iter().flat_map(|(_, list)| list.packs);
    Ok(packs.collect())
}

fn put_packs(text: &mut String, packs: &[PackId]) {
    for pack in packs {
        text.push_str(&format!("pack {pack}\n"));
    }
}

fn take_packs<'a>(lines: impl Iterator<Item = &'a str>) -> Option<Vec<PackId>> {
    lines.map(|line| field(line, "pack ")).collect()
}

fn field<T: FromStr>(line: &str, name: &str) -> Option<T> {
    line.strip_prefix(name)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_lead_back_and_damage_is_refused() {
        let lease = Lease {
            host: "a b".into(),
            process: 7,
            beat_ms: 12,
            packs: vec![PackId::of(b"x")],
        };
        assert_eq!(Lease::decode(&lease.encode()), Some(lease));
        let sentence = Sentence {
            time_ms: 4,
            packs: vec![PackId::of(b"x"), PackId::of(b"y")],
        };
        let text = sentence.encode();
        assert_eq!(Sentence::decode(&text), Some(sentence));
        for cut in 0..text.len() {
            assert_eq!(Sentence::decode(&text[..cut]), None);
        }
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let hurt = String::from_utf8(bytes).unwrap();
            assert_eq!(Sentence::decode(&hurt), None, "byte {at}");
        }
    }

    #[test]
    fn a_lease_lives_as_long_as_its_process_or_its_signs() {
        let mut host = Host::system();
        host.now_ms = std::sync::Arc::new(|| SILENCE_MS_MAX + 1000);
        host.runs = std::sync::Arc::new(|process| process == 1);
        let alive = |name: &str, process, beat_ms| {
            let lease = Lease {
                host: name.into(),
                process,
                beat_ms,
                packs: Vec::new(),
            };
            lease.is_alive(&host)
        };
        let own = host.name.clone();
        assert!(alive(&own, 1, 0) && !alive(&own, 2, SILENCE_MS_MAX));
        assert!(alive("elsewhere", 2, 1001) && !alive("elsewhere", 1, 1000));
    }
}
