//! Collection: what is dead is condemned, looked at again, and deleted by a transaction.
//!
//! May use: `error`, `disk`, `store::{advance, gc_plan, leases, read, refs, reserve, strays, txn}`. A deletion and a
//! reference are ordered by one mechanism, the chain of tables: a table is either before the
//! collection's, and then what it needs is marked, or after it, and then its writer has seen the
//! new epoch and looked for what it needs again. Clocks only protect readers.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use store_format::ids::{CommitId, PackId, RecordId};
use store_format::reference::Collection;

use crate::disk::parent;
use crate::error::{Error, IoContext, Kind, Result};
use crate::store::advance::{self, Deed, Outcome, Step};
use crate::store::files;
use crate::store::gc_plan::{self, GcPlan, Live};
use crate::store::index::{Origin, Place};
use crate::store::leases::{self, Condemned, Sentence};
use crate::store::ops;
use crate::store::paths;
use crate::store::read::{Reader, Wholeness};
use crate::store::refs::{self, Head};
use crate::store::reserve::{keep_reserve, with_reserve};
use crate::store::strays::Strays;
use crate::store::txn::Txn;
use crate::store::{Shared, Store};

/// Looks at the packs before one that cannot be read counts as damaged.
const LOOKS_MAX: usize = 4;

/// What a collection keeps and how careful it is with readers.
#[derive(Clone, Debug)]
pub struct GcPolicy {
    /// Milliseconds between condemning and deleting, for readers that know where a record was.
    pub grace_ms: u64,
    /// Operations younger than this keep what they moved from and to, for undo.
    pub keep_seconds: i64,
    /// Operations kept whatever their age, for undo.
    pub keep_operations: u64,
    /// Packs of which less than this share is alive are rewritten, in percent.
    pub live_percent_min: u64,
    /// Further commits that are kept: pins, what a work tree is at.
    pub roots: Vec<CommitId>,
    /// Packs that should go if all that is alive in them has another copy.
    pub unwanted: Vec<PackId>,
}

impl Default for GcPolicy {
    fn default() -> Self {
        Self {
            grace_ms: 24 * 3600 * 1000,
            keep_seconds: 30 * 24 * 3600,
            keep_operations: 100,
            live_percent_min: 70,
            roots: Vec::new(),
            unwanted: Vec::new(),
        }
    }
}

/// A commit whose closure is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Root {
    /// The commit.
    pub commit: CommitId,
    /// Whether everything it reaches must be here. What only undo can reach may have been
    /// collected before, when less was kept.
    pub required: bool,
}

/// Names every object and chunk that commits reach; what predictions need besides is added by
/// the store. Must fail where something that is required cannot be read. May be asked several
/// times; the answers are united.
pub type Mark<'a> = &'a mut dyn FnMut(&Reader, &[Root]) -> Result<HashSet<RecordId>>;

/// What a collection did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Packs that were deleted.
    pub deleted: Vec<PackId>,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Packs whose live records were written anew.
    pub rewritten: Vec<PackId>,
    /// Packs that will be deleted once the grace is over.
    pub waiting: Vec<PackId>,
    /// Files that dead writers left.
    pub abandoned: usize,
}

impl Store {
    /// What a collection would delete and rewrite now.
    ///
    /// # Errors
    /// Whatever `mark` refuses; a failure of the disk.
    pub fn gc_plan(&self, policy: &GcPolicy, mark: Mark<'_>) -> Result<GcPlan> {
        let mut marked = Marked::default();
        let head = refs::head(&*self.0.disk)?;
        let reader = marked.look(&self.0, &head, policy, mark)?;
        gc_plan::plan(
            &reader,
            &marked.live,
            policy,
            &leases::leased(&*self.0.disk, &self.0.host)?,
        )
    }

    /// What a collection would keep of each pack that nobody is about to publish or to delete:
    /// one copy of each record that is alive.
    ///
    /// # Errors
    /// As [`Store::gc_plan`].
    pub fn gc_kept(
        &self,
        policy: &GcPolicy,
        mark: Mark<'_>,
    ) -> Result<BTreeMap<PackId, Vec<Live>>> {
        let mut marked = Marked::default();
        let head = refs::head(&*self.0.disk)?;
        let reader = marked.look(&self.0, &head, policy, mark)?;
        let leased = leases::leased(&*self.0.disk, &self.0.host)?;
        let mut kept: BTreeMap<_, _> = gc_plan::keep(&reader, &marked.live, policy)
            .into_iter()
            .collect();
        kept.retain(|pack, _| !leased.contains(pack) && !reader.barred.contains(pack));
        Ok(kept)
    }

    /// Carries out what was condemned long enough ago, then condemns anew what is dead now.
    /// Works on a full disk.
    ///
    /// # Errors
    /// Whatever `mark` refuses; a failure of the disk, after which nothing alive is lost.
    pub fn gc(&self, deed: &Deed, policy: &GcPolicy, mark: Mark<'_>) -> Result<GcReport> {
        self.settle(deed)?;
        let mut report = GcReport {
            abandoned: sweep(&self.0)?,
            ..GcReport::default()
        };
        self.carry_out(deed, policy, mark, &mut report, None)?;
        // What is wholly dead first: it makes room for what must be written.
        let plan = self.gc_plan(policy, mark)?;
        if !plan.dead.is_empty() {
            self.condemn(plan.dead.clone())?;
            self.carry_out(deed, policy, mark, &mut report, None)?;
        }
        let rewritten = match self.rewrite(deed, &plan) {
            Err(error) if error.kind() == Kind::Full => Vec::new(), // for the next time
            answer => answer?,
        };
        if !rewritten.is_empty() {
            self.condemn(rewritten.clone())?;
            report.rewritten = rewritten;
            self.carry_out(deed, policy, mark, &mut report, None)?;
        }
        let waiting = leases::condemned(&*self.0.disk)?;
        report.waiting = waiting.into_iter().collect();
        keep_reserve(&self.0);
        Ok(report)
    }

    /// Deletes packs whose live records were written anew elsewhere, at once, as far as nothing
    /// alive needs them; a reader that knew a place in them looks again. What other collections
    /// condemned is left to them.
    ///
    /// # Errors
    /// As [`Store::gc`].
    pub fn retire(
        &self,
        deed: &Deed,
        policy: &GcPolicy,
        mark: Mark<'_>,
        packs: Vec<PackId>,
    ) -> Result<GcReport> {
        let mut report = GcReport::default();
        let at_once = GcPolicy {
            grace_ms: 0,
            ..policy.clone()
        };
        let list = self.condemn(packs)?;
        self.carry_out(deed, &at_once, mark, &mut report, Some(&list))?;
        Ok(report)
    }

    /// Looks at what follows the newest operation, before the leases go that tell what it is:
    /// what dead writers did not finish is left behind by an operation of its own.
    fn settle(&self, deed: &Deed) -> Result<()> {
        let shared = &self.0;
        let strays = Strays::look(shared)?;
        if !strays.lost.is_empty() {
            return Err(
                Error::corrupt("nothing is collected while a reference table is lost")
                    .hint("run 'sparse repair' to make it again from its operation"),
            );
        }
        let leases = leases::list(&*shared.disk)?;
        let mut leases = leases.iter().map(|(_, lease)| lease.as_ref());
        let is_dead =
            |lease: Option<&leases::Lease>| lease.is_none_or(|lease| !lease.is_alive(&shared.host));
        if strays.unfinished.is_empty() || !leases.any(is_dead) {
            return Ok(()); // or its writer is about to publish it
        }
        let nothing_moves = Deed {
            changes: Vec::new(),
            ..deed.clone()
        };
        let outcome = with_reserve(shared, || {
            advance::publish(shared, &nothing_moves, &mut |_| Ok(Step::Go(None)))
        });
        outcome?.done().map(|_| ())
    }

    /// Phase 1: from now on nobody comes to depend on these packs. Gives the list's name.
    fn condemn(&self, packs: Vec<PackId>) -> Result<String> {
        let shared = &self.0;
        let sentence = Sentence {
            time_ms: (shared.host.now_ms)(),
            packs,
        };
        with_reserve(shared, || {
            let name = files::unique(&shared.host)?;
            let temp = format!("{}/{name}", paths::TMP);
            let path = format!("{}/{name}", paths::CONDEMNED);
            let disk = &*shared.disk;
            files::write(disk, &temp, sentence.encode().as_bytes()).at("write", &temp)?;
            files::name_once(disk, &temp, &path)?;
            let synced = disk.sync_dir(paths::CONDEMNED);
            synced.at("synchronise", paths::CONDEMNED)?;
            Ok(name)
        })
    }

    /// Phase 2 for every list whose grace is over, or for one of them: look again, publish the
    /// deletion, delete.
    fn carry_out(
        &self,
        deed: &Deed,
        policy: &GcPolicy,
        mark: Mark<'_>,
        report: &mut GcReport,
        only: Option<&str>,
    ) -> Result<()> {
        let shared = &self.0;
        let now = (shared.host.now_ms)();
        let mut due = leases::sentences(&*shared.disk)?;
        due.retain(|(name, _)| only.is_none_or(|only| name == only));
        due.retain(|(_, list)| now.saturating_sub(list.time_ms) >= policy.grace_ms);
        if due.is_empty() {
            return Ok(());
        }
        let listed: Condemned = due.iter().flat_map(|(_, l)| l.packs.clone()).collect();
        let packs = with_reserve(shared, || {
            publish_deletion(shared, deed, policy, mark, &listed)
        })?;
        for pack in &packs {
            let bytes = shared.disk.file_bytes(&paths::pack(pack));
            report.deleted_bytes += bytes.ok().flatten().unwrap_or(0);
        }
        delete(shared, &packs)?;
        report.deleted.extend(packs);
        for (name, _) in due {
            files::remove(&*shared.disk, &format!("{}/{name}", paths::CONDEMNED))?;
        }
        Ok(())
    }

    /// Writes what is alive in nearly dead packs into new ones, as far as there is room.
    fn rewrite(&self, deed: &Deed, plan: &GcPlan) -> Result<Vec<PackId>> {
        let free = self.0.disk.free_bytes().at("look at", "the disk")?;
        let mut room = free - free / 20;
        let mut packs = Vec::new();
        for (pack, live) in &plan.rewrite {
            if plan.live_bytes(live) <= room {
                room -= plan.live_bytes(live);
                packs.push((*pack, live));
            }
        }
        if packs.is_empty() {
            return Ok(Vec::new());
        }
        let txn = self.begin()?;
        for (pack, live) in &packs {
            copy_live(&txn, *pack, live)?;
        }
        let nothing_moves = Deed {
            changes: Vec::new(),
            ..deed.clone()
        };
        match txn.publish(&nothing_moves, None)? {
            Outcome::Done(_) => Ok(packs.into_iter().map(|(pack, _)| pack).collect()),
            // Another collection took what these records need: leave them for the next time.
            Outcome::Moved { .. } | Outcome::Collected { .. } => Ok(Vec::new()),
        }
    }
}

fn copy_live(txn: &Txn, pack: PackId, live: &[Live]) -> Result<()> {
    for record in live {
        let stored = txn.reader().read(&record.id, &record.place);
        let stored =
            stored.map_err(|error| error.while_doing(format!("cannot rewrite pack {pack:.12}")))?;
        txn.append_stored(&stored)?;
    }
    Ok(())
}

/// What was found alive, growing from table to table.
#[derive(Default)]
struct Marked {
    roots: HashSet<Root>,
    live: HashSet<RecordId>,
}

impl Marked {
    /// Marks what a table and the operations before it keep, and gives the packs to look in:
    /// all but those that are condemned.
    fn look(
        &mut self,
        shared: &Arc<Shared>,
        head: &Head,
        policy: &GcPolicy,
        mark: Mark<'_>,
    ) -> Result<Reader> {
        let roots: BTreeSet<_> = roots(shared, head, policy)?;
        let new: Vec<_> = roots
            .into_iter()
            .filter(|r| !self.roots.contains(r))
            .collect();
        // The list before the directory: a list that is gone was carried out.
        let barred = leases::condemned(&*shared.disk)?;
        let mut tries = 0;
        let all = loop {
            let all = Reader {
                shared: Arc::clone(shared),
                view: Arc::new(shared.refresh()?.checked()),
                barred: Arc::new(Condemned::new()),
                staged: None,
            };
            // A pack that cannot be read may hold what would keep others; one that another
            // collection deleted a moment ago is not there the next time.
            let Some(failure) = all.view.failures().next() else {
                break all;
            };
            tries += 1;
            if tries == LOOKS_MAX {
                return Err(
                    Error::corrupt("nothing is collected while a pack is damaged")
                        .because(failure)
                        .hint("run 'sparse repair'"),
                );
            }
        };
        if !new.is_empty() {
            self.live.extend(mark(&all, &new)?);
            self.roots.extend(new);
        }
        Ok(Reader {
            barred: Arc::new(barred),
            ..all
        })
    }
}

fn roots(shared: &Shared, head: &Head, policy: &GcPolicy) -> Result<BTreeSet<Root>> {
    let required = head.table.references.iter().map(|r| r.commit);
    let mut roots: BTreeSet<_> = required
        .chain(policy.roots.iter().copied())
        .map(|commit| Root {
            commit,
            required: true,
        })
        .collect();
    let now = i64::try_from((shared.host.now_ms)() / 1000).unwrap_or(i64::MAX);
    let mut next = Some(head.table.operation);
    let mut seen = 0;
    while let Some(id) = next {
        let operation = match ops::read(&*shared.disk, &id) {
            Ok(operation) => operation,
            Err(error) if matches!(error.kind(), Kind::Corrupt | Kind::NotFound) => {
                // The tables that are left know what the lost record and those before it did.
                roots.extend(roots_of_tables(shared)?);
                break;
            }
            Err(error) => return Err(error),
        };
        let young = now.saturating_sub(operation.time) < policy.keep_seconds;
        if !young && seen >= policy.keep_operations {
            break;
        }
        for change in operation.changes {
            roots.extend(
                [change.old, change.new]
                    .into_iter()
                    .flatten()
                    .map(|commit| Root {
                        commit,
                        required: false,
                    }),
            );
        }
        seen += 1;
        next = operation.parent;
    }
    Ok(roots)
}

/// What any table that is left points to.
fn roots_of_tables(shared: &Shared) -> Result<Vec<Root>> {
    let mut roots = Vec::new();
    for number in refs::numbers(&*shared.disk)? {
        if let Ok(Some((_, table))) = refs::read(&*shared.disk, number) {
            roots.extend(table.references.iter().map(|reference| Root {
                commit: reference.commit,
                required: false,
            }));
        }
    }
    Ok(roots)
}

/// Publishes the table that begins the next epoch, and gives the packs that may go.
fn publish_deletion(
    shared: &Arc<Shared>,
    deed: &Deed,
    policy: &GcPolicy,
    mark: Mark<'_>,
    listed: &Condemned,
) -> Result<Vec<PackId>> {
    let mut marked = Marked::default();
    let mut packs = Vec::new();
    let deed = Deed {
        changes: Vec::new(),
        ..deed.clone()
    };
    let outcome = advance::publish(shared, &deed, &mut |head| {
        let reader = marked.look(shared, head, policy, mark)?;
        packs = spare(shared, &reader, listed, &marked.live)?;
        if packs.is_empty() {
            return Ok(Step::Stop(Outcome::Collected {
                missing: Vec::new(),
            }));
        }
        Ok(Step::Go(Some(Collection {
            epoch: head.table.gc_epoch + 1,
            packs: packs.clone(),
        })))
    })?;
    if !packs.is_empty() {
        outcome.done()?;
    }
    Ok(packs)
}

/// The listed packs that may go: everything alive can be rebuilt without them, and where they
/// hold a copy of it, the copy that stays was read and is whole.
fn spare(
    shared: &Arc<Shared>,
    reader: &Reader,
    listed: &Condemned,
    live: &HashSet<RecordId>,
) -> Result<Vec<PackId>> {
    let mut going: Condemned = listed.clone();
    going.retain(|pack| reader.view.has_pack(pack));
    loop {
        let mut barred: Condemned = reader.barred.difference(listed).copied().collect();
        barred.extend(going.iter().copied());
        let staying = Reader {
            barred: Arc::new(barred),
            ..reader.clone()
        };
        let kept = needed_packs(shared, &staying, &going, live);
        if kept.is_empty() {
            return Ok(going.into_iter().collect());
        }
        going.retain(|pack| !kept.contains(pack));
    }
}

/// The packs among `going` without which something alive would be lost.
fn needed_packs(
    shared: &Shared,
    staying: &Reader,
    going: &Condemned,
    live: &HashSet<RecordId>,
) -> Condemned {
    let mut needed = Condemned::new();
    let mut wholeness = Wholeness::default();
    let mut next: Vec<_> = live.iter().map(|id| (*id, false)).collect();
    // What was looked at, and whether as what makes something whole that else is not: then every
    // copy of it counts, for the one that stays may lie too deep.
    let mut seen: HashMap<RecordId, bool> = next.iter().copied().collect();
    while let Some((id, is_wanted)) = next.pop() {
        let copies = staying.view.places(&id);
        let in_going = |place: &Place| match place.origin {
            Origin::Pack(pack) if going.contains(&pack) => Some(pack),
            _ => None,
        };
        let packs: Vec<_> = copies.iter().filter_map(in_going).collect();
        let is_whole = !is_wanted && wholeness.depth(staying, &id).is_some();
        let spared = is_whole && (packs.is_empty() || can_read(shared, staying, &id));
        if !spared {
            needed.extend(packs);
        }
        // What any copy that stays needs is looked at too: it is what makes the copy whole.
        let left = staying.places(&id);
        let behind = if is_whole { &left } else { &copies };
        for need in behind.iter().flat_map(|place| &place.needs) {
            let need = RecordId::from(*need);
            let before = seen.get(&need).copied();
            if before.is_none_or(|before| !is_whole && !before) {
                seen.insert(need, !is_whole);
                next.push((need, !is_whole));
            }
        }
    }
    needed
}

fn can_read(shared: &Shared, staying: &Reader, id: &RecordId) -> bool {
    let places = staying.places(id);
    places.iter().any(|place| match place.origin {
        Origin::Pack(pack) => shared.packs.record(&pack, id, &place.entry).is_ok(),
        Origin::Staged(_) => false,
    })
}

/// Removes packs: the index first, so that nobody finds what is about to go.
fn delete(shared: &Shared, packs: &[PackId]) -> Result<()> {
    let disk = &*shared.disk;
    let mut dirs = BTreeSet::new();
    for pack in packs {
        files::remove(disk, &paths::index(pack))?;
        files::remove(disk, &paths::pack(pack))?;
        shared.packs.forget(pack);
        dirs.insert(parent(&paths::pack(pack)).to_owned());
    }
    // Before the list of the condemned goes: no name may come back without standing there.
    for dir in dirs {
        match disk.sync_dir(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            answer => answer.at("synchronise", &dir)?,
        }
    }
    shared.refresh().map(|_| ())
}

/// Removes what writers left that are no more.
fn sweep(shared: &Shared) -> Result<usize> {
    let disk = &*shared.disk;
    let unfinished = files::list(disk, paths::TMP)?;
    let mut alive = HashSet::new();
    for (writer, lease) in leases::list(disk)? {
        if lease.is_some_and(|lease| lease.is_alive(&shared.host)) {
            alive.insert(writer);
        } else {
            files::discard_dir(disk, &format!("{}/{writer}", paths::TMP));
            files::remove(disk, &format!("{}/{writer}", paths::LEASES))?;
        }
    }
    let mut abandoned = 0;
    for name in unfinished {
        if alive.contains(name.trim_end_matches(".lease")) {
            continue;
        }
        let path = format!("{}/{name}", paths::TMP);
        files::discard_dir(disk, &path);
        let _ = files::remove(disk, &path);
        abandoned += 1;
    }
    Ok(abandoned)
}
