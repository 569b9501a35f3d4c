//! A store's directory in memory that fails, fills up and loses power on request: a test double.
//!
//! May use: `disk`, `disk::mapped`, `disk::sim::*`. It promises no more than a disk must: content lasts
//! from the synchronisation of the file, names from that of their directory, in no order else.

mod chance;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::state::{DirNode, FileNode, Node, NodeId, Nodes, ROOT, after};
use crate::disk::mapped::Mapped;
use crate::disk::{Disk, Draft, Opened, parent};

pub use self::chance::Chance;
pub use self::state::Crash;

/// Which call fails, and how.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The number of the call, counted from one after [`SimDisk::set_fault`].
    pub call: u64,
    /// What the call answers. `StorageFull` strikes only calls that need room.
    pub error: ErrorKind,
    /// Whether all later calls fail as well.
    pub lasting: bool,
    /// Whether the call does its work before it answers with the error.
    pub done: bool,
}

#[derive(Default)]
struct Inner {
    nodes: Nodes,
    next: NodeId,
    calls: u64,
    fault: Option<Fault>,
    capacity_bytes: Option<u64>,
    /// Loses the answers of some links.
    lost_answers: Option<(Chance, u64)>,
    /// The state after each change, if they are recorded.
    history: Option<Vec<Nodes>>,
    log: Vec<String>,
}

/// Called before each call with its words; may wait for its turn.
pub type Gate = Arc<dyn Fn(&str) + Send + Sync>;

/// The double. Clones share the directory.
#[derive(Clone)]
pub struct SimDisk {
    inner: Arc<Mutex<Inner>>,
    gate: Option<Gate>,
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::of(BTreeMap::from([(ROOT, Node::Dir(DirNode::default()))]))
    }
}

impl SimDisk {
    fn of(nodes: Nodes) -> Self {
        let next = nodes.keys().next_back().map_or(1, |last| last + 1);
        Self {
            inner: Arc::new(Mutex::new(Inner {
                nodes,
                next,
                ..Inner::default()
            })),
            gate: None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same directory, whose calls first pass the gate.
    #[must_use]
    pub fn with_gate(&self, gate: Gate) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            gate: Some(gate),
        }
    }

    /// Counts calls anew and lets one fail, or none.
    pub fn set_fault(&self, fault: Option<Fault>) {
        let mut inner = self.lock();
        inner.calls = 0;
        inner.fault = fault;
    }

    /// Limits the bytes of all files together.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity_bytes = bytes;
    }

    /// Does every `one_in`-th link by chance, and answers that it failed.
    pub fn lose_answers(&self, seed: u64, one_in: u64) {
        self.lock().lost_answers = Some((Chance(seed), one_in));
    }

    /// Calls since the last [`SimDisk::set_fault`].
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Bytes of all files together.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// From now on the state after each change is kept for [`SimDisk::crashes`].
    pub fn record(&self) {
        let mut inner = self.lock();
        inner.history = Some(vec![inner.nodes.clone()]);
        inner.log = vec!["start".to_owned()];
    }

    /// How many states were recorded: the prefix of changes that lies behind.
    #[must_use]
    pub fn recorded(&self) -> usize {
        self.lock().history.as_ref().map_or(0, Vec::len)
    }

    /// The words of the change that led to a recorded state.
    #[must_use]
    pub fn change(&self, prefix: usize) -> String {
        self.lock().log.get(prefix).cloned().unwrap_or_default()
    }

    /// What the disk may hold when the power goes after each recorded change: the number of the
    /// last change before it, what happened, and the disk.
    #[must_use]
    pub fn crashes(&self, torn: u64) -> Vec<(usize, Crash, Self)> {
        let history = self.lock().history.clone().unwrap_or_default();
        let mut states = Vec::new();
        for (prefix, nodes) in history.iter().enumerate() {
            let torn = (0..torn).map(|k| Crash::Torn {
                seed: (prefix as u64) << 20 | k,
                granule: if k % 2 == 0 { 512 } else { 4096 },
            });
            let plain = [
                Crash::Lost,
                Crash::Kept,
                Crash::NamesOnly,
                Crash::ContentOnly,
            ];
            for crash in plain.into_iter().chain(torn) {
                states.push((prefix, crash, Self::of(after(nodes, crash))));
            }
        }
        states
    }

    /// The disk after a power loss now.
    #[must_use]
    pub fn crashed(&self, crash: Crash) -> Self {
        Self::of(after(&self.lock().nodes, crash))
    }

    /// A copy that shares nothing with this disk.
    #[must_use]
    pub fn copy(&self) -> Self {
        self.crashed(Crash::Kept)
    }

    /// The names of all files.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        let inner = self.lock();
        let mut found = Vec::new();
        let mut dirs = vec![(ROOT, String::new())];
        while let Some((dir, path)) = dirs.pop() {
            let Some(Node::Dir(node)) = inner.nodes.get(&dir) else {
                continue;
            };
            for (name, id) in &node.names {
                let path = join(&path, name);
                match inner.nodes.get(id) {
                    Some(Node::Dir(_)) => dirs.push((*id, path)),
                    _ => found.push(path),
                }
            }
        }
        found.sort_unstable();
        found
    }

    /// The content of a file.
    #[must_use]
    pub fn content(&self, path: &str) -> Option<Vec<u8>> {
        let inner = self.lock();
        inner.file(path).ok().map(|file| file.content.to_vec())
    }

    /// Changes a file's content behind the store's back, durably. The file must exist.
    pub fn damage(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = self.lock();
        if let Ok(file) = inner.file_mut(path) {
            change(Arc::make_mut(&mut file.content));
            file.durable_bytes = file.content.len();
        }
    }

    fn call<T>(
        &self,
        words: &str,
        needs_room: bool,
        work: impl FnOnce(&mut Inner) -> io::Result<T>,
    ) -> io::Result<T> {
        if let Some(gate) = &self.gate {
            gate(words);
        }
        let mut inner = self.lock();
        inner.calls += 1;
        let strikes = inner.fault.filter(|fault| {
            let hit = inner.calls == fault.call || (fault.lasting && inner.calls > fault.call);
            hit && (needs_room || fault.error != ErrorKind::StorageFull)
        });
        let answer = match strikes {
            Some(fault) if !fault.done => return Err(fault.error.into()),
            _ => work(&mut inner),
        };
        if let Some(history) = &mut inner.history.take() {
            history.push(inner.nodes.clone());
            inner.history = Some(std::mem::take(history));
            inner.log.push(words.to_owned());
        }
        match strikes {
            Some(fault) => Err(fault.error.into()),
            None => answer,
        }
    }

    /// A call that changes nothing: not recorded.
    fn look<T>(
        &self,
        words: &str,
        work: impl FnOnce(&mut Inner) -> io::Result<T>,
    ) -> io::Result<T> {
        let history = self.lock().history.take();
        let answer = self.call(words, false, work);
        self.lock().history = history;
        answer
    }
}

impl Inner {
    fn used_bytes(&self) -> u64 {
        let mut held = BTreeSet::new();
        for node in self.nodes.values() {
            if let Node::Dir(dir) = node {
                held.extend(dir.names.values());
            }
        }
        held.iter()
            .filter_map(|id| match self.nodes.get(id) {
                Some(Node::File(file)) => Some(file.content.len() as u64),
                _ => None,
            })
            .sum()
    }

    fn room(&self, bytes: u64) -> io::Result<()> {
        match self.capacity_bytes {
            Some(max) if self.used_bytes() + bytes > max => Err(ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn find(&self, path: &str) -> io::Result<NodeId> {
        let mut node = ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let Some(Node::Dir(dir)) = self.nodes.get(&node) else {
                return Err(ErrorKind::NotADirectory.into());
            };
            node = *dir
                .names
                .get(name)
                .ok_or_else(|| io::Error::from(ErrorKind::NotFound))?;
        }
        Ok(node)
    }

    fn dir(&mut self, path: &str) -> io::Result<&mut DirNode> {
        let id = self.find(path)?;
        match self.nodes.get_mut(&id) {
            Some(Node::Dir(dir)) => Ok(dir),
            _ => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn file(&self, path: &str) -> io::Result<&FileNode> {
        match self.nodes.get(&self.find(path)?) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(ErrorKind::InvalidData.into()),
        }
    }

    fn file_mut(&mut self, path: &str) -> io::Result<&mut FileNode> {
        let id = self.find(path)?;
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(ErrorKind::InvalidData.into()),
        }
    }

    fn free(&mut self, path: &str) -> io::Result<()> {
        if self.dir(parent(path))?.names.contains_key(last(path)) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        Ok(())
    }

    fn add(&mut self, path: &str, node: Node) -> io::Result<NodeId> {
        self.free(path)?;
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, node);
        self.dir(parent(path))?.set(last(path), Some(id));
        Ok(id)
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &str) -> io::Result<Box<dyn Draft>> {
        let node = self.call(&format!("create {path}"), true, |inner| {
            inner.room(1)?;
            inner.add(path, Node::File(FileNode::default()))
        })?;
        Ok(Box::new(SimDraft {
            disk: self.clone(),
            node,
            path: path.to_owned(),
        }))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn Opened>> {
        let (node, bytes) = self.look(&format!("open {path}"), |inner| {
            let bytes = inner.file(path)?.content.len() as u64;
            Ok((inner.find(path)?, bytes))
        })?;
        Ok(Arc::new(SimOpened {
            disk: self.clone(),
            path: path.to_owned(),
            node,
            bytes,
        }))
    }

    fn map(&self, path: &str) -> io::Result<Mapped> {
        self.look(&format!("map {path}"), |inner| {
            Ok(Mapped::of_bytes(inner.file(path)?.content.to_vec()))
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.call(&format!("rename {from} {to}"), true, |inner| {
            let id = inner.find(from)?;
            inner.free(to)?;
            inner.dir(parent(to))?.set(last(to), Some(id));
            inner.dir(parent(from))?.set(last(from), None);
            Ok(())
        })
    }

    fn replace(&self, from: &str, to: &str) -> io::Result<()> {
        self.call(&format!("replace {from} {to}"), true, |inner| {
            let id = inner.find(from)?;
            inner.dir(parent(to))?.set(last(to), Some(id));
            inner.dir(parent(from))?.set(last(from), None);
            Ok(())
        })
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.call(&format!("link {from} {to}"), true, |inner| {
            let id = inner.find(from)?;
            inner.free(to)?;
            inner.dir(parent(to))?.set(last(to), Some(id));
            if let Some((chance, one_in)) = &mut inner.lost_answers
                && chance.of(*one_in) == 0
            {
                return Err(ErrorKind::TimedOut.into());
            }
            Ok(())
        })
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.call(&format!("remove {path}"), false, |inner| {
            inner.file(path)?;
            inner.dir(parent(path))?.set(last(path), None);
            Ok(())
        })
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.look(&format!("list {dir}"), |inner| {
            Ok(inner.dir(dir)?.names.keys().cloned().collect())
        })
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        self.call(&format!("make_dir {dir}"), true, |inner| {
            inner.room(1)?;
            inner.add(dir, Node::Dir(DirNode::default())).map(|_| ())
        })
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.call(&format!("remove_dir {dir}"), false, |inner| {
            if !inner.dir(dir)?.names.is_empty() {
                return Err(ErrorKind::DirectoryNotEmpty.into());
            }
            inner.dir(parent(dir))?.set(last(dir), None);
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.call(&format!("sync_dir {dir}"), false, |inner| {
            let dir = inner.dir(dir)?;
            dir.durable = dir.names.clone();
            dir.pending.clear();
            Ok(())
        })
    }

    fn file_bytes(&self, path: &str) -> io::Result<Option<u64>> {
        self.look(&format!("file_bytes {path}"), |inner| {
            Ok(inner.file(path).ok().map(|file| file.content.len() as u64))
        })
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.look("free_bytes", |inner| {
            Ok(inner
                .capacity_bytes
                .map_or(1 << 40, |max| max.saturating_sub(inner.used_bytes())))
        })
    }
}

struct SimDraft {
    disk: SimDisk,
    node: NodeId,
    path: String,
}

impl Draft for SimDraft {
    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        let words = format!("reserve {}", self.path);
        self.disk.call(&words, true, |inner| inner.room(bytes))
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let node = self.node;
        let add = |inner: &mut Inner, part: &[u8]| {
            if let Some(Node::File(file)) = inner.nodes.get_mut(&node) {
                Arc::make_mut(&mut file.content).extend_from_slice(part);
            }
        };
        let words = format!("append {} {}", self.path, bytes.len());
        let answer = self.disk.call(&words, true, |inner| {
            inner.room(bytes.len() as u64)?;
            add(inner, bytes);
            Ok(())
        });
        if answer.is_err() {
            // What fails has often written a part.
            let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
            add(&mut self.disk.lock(), half);
        }
        answer
    }

    fn sync(self: Box<Self>) -> io::Result<()> {
        let node = self.node;
        let words = format!("sync {}", self.path);
        self.disk.call(&words, false, |inner| {
            if let Some(Node::File(file)) = inner.nodes.get_mut(&node) {
                file.durable_bytes = file.content.len();
            }
            Ok(())
        })
    }
}

struct SimOpened {
    disk: SimDisk,
    path: String,
    node: NodeId,
    bytes: u64,
}

impl Opened for SimOpened {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, start: u64, buffer: &mut [u8]) -> io::Result<()> {
        let words = format!("read {} {start} {}", self.path, buffer.len());
        self.disk.look(&words, |inner| {
            let Some(Node::File(file)) = inner.nodes.get(&self.node) else {
                return Err(ErrorKind::NotFound.into());
            };
            let part = usize::try_from(start)
                .ok()
                .and_then(|from| file.content.get(from..from.checked_add(buffer.len())?))
                .ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?;
            buffer.copy_from_slice(part);
            Ok(())
        })
    }
}

fn last(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() {
        name.to_owned()
    } else {
        format!("{dir}/{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(disk: &SimDisk, path: &str, bytes: &[u8], synced: bool) {
        let mut draft = disk.create(path).unwrap();
        draft.append(bytes).unwrap();
        if synced {
            draft.sync().unwrap();
        }
    }

    #[test]
    fn only_what_was_synchronised_survives_for_sure() {
        let disk = SimDisk::default();
        disk.make_dir("d").unwrap();
        write(&disk, "d/x", b"content", true);
        write(&disk, "d/y", b"content", false);
        assert_eq!(disk.crashed(Crash::Lost).files(), Vec::<String>::new());
        disk.sync_dir("d").unwrap();
        // The directory's own name is in its parent.
        assert_eq!(disk.crashed(Crash::Lost).files(), Vec::<String>::new());
        disk.sync_dir("").unwrap();
        let left = disk.crashed(Crash::Lost);
        assert_eq!(left.files(), ["d/x", "d/y"]);
        assert_eq!(left.content("d/x").unwrap(), b"content");
        assert_eq!(left.content("d/y").unwrap(), b"");
        assert_eq!(
            disk.crashed(Crash::Kept).content("d/y").unwrap(),
            b"content"
        );
    }

    #[test]
    fn a_name_that_was_not_synchronised_may_come_back() {
        let disk = SimDisk::default();
        write(&disk, "x", b"1", true);
        disk.sync_dir("").unwrap();
        disk.rename("x", "y").unwrap();
        assert_eq!(disk.crashed(Crash::Lost).files(), ["x"]);
        let torn: BTreeSet<_> = (0..64)
            .map(|seed| disk.crashed(Crash::Torn { seed, granule: 512 }).files())
            .collect();
        assert_eq!(torn.len(), 4); // either, both and neither
    }

    #[test]
    fn writes_are_torn_at_granules() {
        let disk = SimDisk::default();
        write(&disk, "x", &[7; 2000], false);
        disk.sync_dir("").unwrap();
        let torn: BTreeSet<_> = (0..200)
            .map(|seed| disk.crashed(Crash::Torn { seed, granule: 512 }))
            .map(|disk| disk.content("x").unwrap())
            .collect();
        assert!(torn.contains(&Vec::new()) && torn.contains(&vec![7; 2000]));
        assert!(
            torn.iter()
                .any(|bytes| bytes.starts_with(&[0; 512]) && bytes.len() > 512)
        );
    }

    #[test]
    fn the_chosen_call_fails_once_or_for_ever() {
        let fault = Fault {
            call: 2,
            error: ErrorKind::Other,
            lasting: false,
            done: false,
        };
        for lasting in [false, true] {
            let disk = SimDisk::default();
            disk.set_fault(Some(Fault { lasting, ..fault }));
            disk.make_dir("a").unwrap();
            assert!(disk.make_dir("b").is_err());
            assert_eq!(disk.make_dir("c").is_err(), lasting);
        }
        let disk = SimDisk::default();
        disk.set_fault(Some(Fault {
            done: true,
            ..fault
        }));
        disk.make_dir("a").unwrap();
        assert!(disk.make_dir("b").is_err());
        assert_eq!(disk.list("").unwrap(), ["a", "b"]);
    }

    #[test]
    fn a_full_disk_still_removes() {
        let disk = SimDisk::default();
        write(&disk, "x", &[0; 100], true);
        disk.set_capacity(Some(150));
        let mut draft = disk.create("y").unwrap();
        let full = draft.append(&[0; 60]).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::StorageFull);
        disk.remove("x").unwrap();
        draft.append(&[0; 60]).unwrap();
    }

    #[test]
    fn every_change_is_a_point_to_crash_at() {
        let disk = SimDisk::default();
        disk.record();
        write(&disk, "x", b"1", true);
        disk.sync_dir("").unwrap();
        let _ = disk.list("").unwrap();
        assert_eq!(disk.recorded(), 5);
        assert_eq!(disk.change(4), "sync_dir ");
        let last = disk.crashes(3).into_iter().filter(|(at, ..)| *at == 4);
        assert!(
            last.map(|(.., disk)| disk.content("x"))
                .all(|x| x == Some(b"1".to_vec()))
        );
    }
}
