//! Fewer, fuller packs: small ones are joined, second copies and what is dead are left out,
//! chains of predictions are made shorter.
//!
//! May use: tiers 0 to 4. Holds: every record is rebuilt from what was written before the packs
//! that held it go; a record is never deeper than it was.

use std::collections::{BTreeMap, HashSet};

use store_format::ids::{ChunkId, PackId};
use store_format::record::{Kind, Part, Predictor, Recipe, View};

use crate::codec::planes::Width;
use crate::codec::residual::Prediction;
use crate::codec::{self, Coded, Elements, Level};
use crate::error::{Error, Result};
use crate::flow::checkout::IN_FLIGHT;
use crate::flow::collect;
use crate::flow::read::Rebuilder;
use crate::par::Pool;
use crate::progress::Progress;
use crate::store::Store;
use crate::store::advance::Deed;
use crate::store::gc::GcPolicy;
use crate::store::gc_plan::Live;
use crate::store::index::Place;
use crate::store::pack_read::StoredRecord;
use crate::store::read::{Reader, Wholeness};
use crate::store::staged::PackSizes;
use crate::store::txn::Txn;

/// A prediction deeper than this is made again from nearer its root.
const DEPTH_KEPT: u8 = 4;
/// How deep the source of such a prediction may be.
const ROOT_DEPTH: u8 = 1;
/// A pack is left alone while at least this share of it is kept, in percent.
const LIVE_PERCENT_MIN: u64 = 90;
/// Each pack is to be so many times the packs that are smaller than it together.
const GROWTH: u64 = 2;

/// What to do, and who does it.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is kept.
    pub policy: GcPolicy,
    /// Code every chunk anew as hard as this; nothing leaves codings as they are.
    pub level: Option<Level>,
    /// `Name <address>`.
    pub author: String,
    /// Seconds since 1970 (UTC).
    pub time: i64,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Packs before and after.
    pub packs_before: u64,
    /// See above.
    pub packs_after: u64,
    /// Their bytes before.
    pub bytes_before: u64,
    /// And after.
    pub bytes_after: u64,
    /// Records that were written anew.
    pub records: u64,
    /// Those that were coded anew and are smaller now.
    pub recoded: u64,
    /// Those that are less deep now.
    pub rerooted: u64,
}

/// Repacks a store.
///
/// # Errors
/// A damaged record, named; failures of the disk, after which nothing is lost.
pub fn repack(
    store: &Store,
    pool: &Pool,
    request: &Request,
    progress: &dyn Progress,
) -> Result<Report> {
    let deed = Deed {
        verb: "repack".into(),
        author: request.author.clone(),
        time: request.time,
        changes: Vec::new(),
        undoes: None,
    };
    let epoch = store.head()?.table.gc_epoch;
    let done = steps(store, pool, request, &deed, progress);
    done.map_err(|error| collect::overtaken(store, epoch, error))
}

fn steps(
    store: &Store,
    pool: &Pool,
    request: &Request,
    deed: &Deed,
    progress: &dyn Progress,
) -> Result<Report> {
    let mut report = Report::default();
    (report.packs_before, report.bytes_before) = measure(&store.reader()?);
    let kept = store.gc_kept(&request.policy, &mut collect::mark)?;
    let chosen = choose(&store.reader()?, &kept, request.level.is_some())?;
    if !chosen.is_empty() {
        let txn = store.begin()?;
        write_anew(
            &txn,
            pool,
            request.level,
            &kept,
            &chosen,
            &mut report,
            progress,
        )?;
        txn.publish(deed, None)?.done()?;
        store.retire(deed, &request.policy, &mut collect::mark, chosen)?;
    }
    (report.packs_after, report.bytes_after) = measure(&store.reader()?);
    Ok(report)
}

fn measure(reader: &Reader) -> (u64, u64) {
    let view = reader.view();
    let bytes = view.packs().map(|pack| view.pack_bytes(&pack).unwrap_or(0));
    (view.packs().count() as u64, bytes.sum())
}

/// What is kept of each pack.
type Kept = BTreeMap<PackId, Vec<Live>>;

/// The packs to write anew: too small beside the others, with much that is dead or stored twice,
/// or with predictions that are too deep.
fn choose(reader: &Reader, kept: &Kept, all: bool) -> Result<Vec<PackId>> {
    let full = PackSizes::default();
    let view = reader.view();
    let mut chosen = HashSet::new();
    let mut small: BTreeMap<bool, Vec<(u64, PackId)>> = BTreeMap::new();
    for (pack, live) in kept {
        let bytes = view.pack_bytes(pack).unwrap_or(0);
        let live_bytes: u64 = live.iter().map(|live| record_bytes(&live.place)).sum();
        let records = view.records(pack)?;
        let total: u64 = records.iter().map(|(_, place)| record_bytes(place)).sum();
        let is_deep = |live: &Live| live.place.entry.depth > DEPTH_KEPT;
        if all || live_bytes * 100 < total * LIVE_PERCENT_MIN || live.iter().any(is_deep) {
            chosen.insert(*pack);
        }
        let holds_data = live.iter().any(|live| live.place.entry.kind == Kind::Chunk);
        let full = if holds_data {
            full.data_bytes
        } else {
            full.metadata_bytes
        };
        if bytes < full / 2 {
            small.entry(holds_data).or_default().push((bytes, *pack));
        }
    }
    for mut packs in small.into_values() {
        packs.sort_unstable();
        // Up to the last pack that is not twice those before it together, all become one.
        let mut before = 0;
        let mut joined = 0;
        for (at, (bytes, _)) in packs.iter().enumerate() {
            if at > 0 && *bytes < GROWTH * before {
                joined = at + 1;
            }
            before += bytes;
        }
        chosen.extend(packs.iter().take(joined).map(|(_, pack)| *pack));
    }
    let mut chosen: Vec<_> = chosen.into_iter().collect();
    chosen.sort_unstable();
    Ok(chosen)
}

fn record_bytes(place: &Place) -> u64 {
    u64::from(place.entry.header_bytes) + place.entry.stored_bytes
}

/// Appends what is kept of packs.
fn write_anew(
    txn: &Txn,
    pool: &Pool,
    level: Option<Level>,
    kept: &Kept,
    chosen: &[PackId],
    report: &mut Report,
    progress: &dyn Progress,
) -> Result<()> {
    let rebuilder = Rebuilder::new(txn.reader().clone());
    let mut live: Vec<&Live> = chosen.iter().flat_map(|pack| &kept[pack]).collect();
    // Sources first, and what lay together still does.
    live.sort_by_key(|live| {
        let place = &live.place;
        (place.entry.depth, place.origin, place.entry.offset)
    });
    let mut seen = HashSet::new();
    live.retain(|live| seen.insert(live.id));
    let total = live.iter().map(|live| live.place.entry.plain_bytes).sum();
    progress.begin("repacking", Some(total));
    pool.ordered(
        live.into_iter().map(|live| {
            let bytes = usize::try_from(live.place.entry.plain_bytes).unwrap_or(usize::MAX);
            Ok((bytes.saturating_mul(3), live))
        }),
        IN_FLIGHT,
        |live| remade(&rebuilder, live, level),
        |(record, change)| {
            report.records += 1;
            report.recoded += u64::from(change == Change::Recoded);
            report.rerooted += u64::from(change == Change::Rerooted);
            let header = &record.header;
            progress.advance(header.plain_bytes, header.stored_bytes);
            if change == Change::None {
                txn.append_stored(&record)?;
            } else {
                let recipe = header.recipe.clone();
                let plain_bytes = header.plain_bytes;
                txn.append(header.kind, header.id, recipe, plain_bytes, &record.coded)?;
            }
            progress.check()
        },
    )?;
    progress.end();
    Ok(())
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    None,
    Recoded,
    Rerooted,
}

/// A record as it is to be written: as it was, or coded anew and compared.
fn remade(
    rebuilder: &Rebuilder,
    live: &Live,
    level: Option<Level>,
) -> Result<(StoredRecord, Change)> {
    let record = rebuilder.reader().read(&live.id, &live.place);
    let record = record
        .map_err(|error| error.while_doing(format!("cannot write record {:.12} anew", live.id)))?;
    if record.header.kind != Kind::Chunk {
        return Ok((record, Change::None));
    }
    let is_deep = record.header.recipe.depth > DEPTH_KEPT;
    if is_deep && let Some(view) = nearer_root(rebuilder, &record)? {
        return recoded(rebuilder, &record, Some(view), level, true);
    }
    match level {
        Some(_) => {
            let source = record.header.recipe.sources.first().cloned();
            recoded(rebuilder, &record, source, level, false)
        }
        None => Ok((record, Change::None)),
    }
}

/// What a deep record's source was made from, back to one that is hardly deep. Only where each
/// step is the whole of one chunk of the same length: else the bytes would not line up.
fn nearer_root(rebuilder: &Rebuilder, record: &StoredRecord) -> Result<Option<View>> {
    let bytes = record.header.plain_bytes;
    let mut recipe = record.header.recipe.clone();
    loop {
        let [View { parts }] = recipe.sources.as_slice() else {
            return Ok(None);
        };
        let ([part], Predictor::Base) = (parts.as_slice(), recipe.predictor) else {
            return Ok(None);
        };
        let source = part.chunk;
        let Some(place) = rebuilder.reader().places(&source.into()).into_iter().next() else {
            return Ok(None);
        };
        if part.is_zeros()
            || (part.start, part.bytes) != (0, bytes)
            || place.entry.plain_bytes != bytes
        {
            return Ok(None);
        }
        if place.entry.depth <= ROOT_DEPTH {
            let parts = vec![Part {
                chunk: source,
                start: 0,
                bytes,
            }];
            return Ok(Some(View { parts }));
        }
        recipe = rebuilder
            .reader()
            .read(&source.into(), &place)?
            .header
            .recipe;
    }
}

/// Codes a chunk in every way that is known here, keeps the smallest, and compares it. A deep
/// one is kept shallow even if it grows.
fn recoded(
    rebuilder: &Rebuilder,
    record: &StoredRecord,
    source: Option<View>,
    level: Option<Level>,
    must: bool,
) -> Result<(StoredRecord, Change)> {
    let header = &record.header;
    let id = ChunkId::from_bytes(*header.id.as_bytes());
    let plain = rebuilder.chunk(&id)?;
    let old = &header.recipe;
    let predicted = match &source {
        Some(view) if matches!(old.predictor, Predictor::Base) => Some(rebuilder.view(view)?),
        _ => None,
    };
    let prediction = predicted
        .as_deref()
        .map_or(Prediction::None, Prediction::Same);
    let level = level.unwrap_or(Level::Default);
    let width = width(old);
    let mut best = codec::encode_plain(plain.bytes(), width, level);
    if let Some(predicted) = &predicted {
        let width = width.unwrap_or(Width::W1);
        let difference = codec::encode_difference(plain.bytes(), predicted, width, level);
        best = best.or(difference);
    }
    let model = rebuilder.model(old)?;
    let mut modelled = false;
    if let Some(model) = &model
        && predicted.is_some() == old.coding.corrects()
    {
        let elements = Elements::from_parameters(&old.coding_parameters)?;
        let coded = codec::encode_modelled(plain.bytes(), prediction, model, elements);
        modelled = coded.bytes.len() < best.bytes.len();
        best = best.or(coded);
    }
    if !must && best.bytes.len() >= record.coded.len() {
        return Ok((record.clone(), Change::None));
    }
    let recipe = recipe_of(
        rebuilder.reader(),
        old,
        &best,
        source,
        modelled && best.coding.is_modelled(),
    );
    if recipe.depth > old.depth {
        return Ok((record.clone(), Change::None));
    }
    let again = codec::decode(
        &recipe,
        &best.bytes,
        prediction,
        model.as_deref(),
        plain.bytes().len(),
    )?;
    if again != plain.bytes() {
        return Err(
            Error::corrupt(format!("chunk {id:.12} does not decode to its bytes"))
                .hint("this is a bug or a fault of the machine's memory; nothing was changed"),
        );
    }
    let mut header = header.clone();
    header.recipe = recipe;
    header.stored_bytes = best.bytes.len() as u64;
    let change = if must {
        Change::Rerooted
    } else {
        Change::Recoded
    };
    Ok((
        StoredRecord {
            header,
            coded: best.bytes,
        },
        change,
    ))
}

fn recipe_of(
    reader: &Reader,
    old: &Recipe,
    coded: &Coded,
    source: Option<View>,
    modelled: bool,
) -> Recipe {
    let mut recipe = Recipe::plain(coded.coding, coded.parameters.clone());
    if coded.coding.corrects()
        && let Some(view) = source
    {
        let parts = view.parts.iter().filter(|part| !part.is_zeros());
        let mut wholeness = Wholeness::default();
        let depths = parts.filter_map(|part| wholeness.depth(reader, &part.chunk.into()));
        recipe.depth = 1 + depths.max().unwrap_or(0);
        recipe.predictor = Predictor::Base;
        recipe.predictor_parameters = old.predictor_parameters.clone();
        recipe.sources = vec![view];
    }
    if modelled {
        recipe.side = old.side.clone();
    }
    recipe
}

/// The width of the elements, as far as the old coding says.
fn width(old: &Recipe) -> Option<Width> {
    if old.coding.is_modelled() {
        let elements = Elements::from_parameters(&old.coding_parameters).ok()?;
        let (count, bytes) = elements.shape.dtype.block();
        return Width::new(bytes).filter(|_| count == 1);
    }
    match old.coding_parameters.as_slice() {
        [width] => Width::new(u64::from(*width)),
        _ => None,
    }
}
