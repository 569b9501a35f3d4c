//! One file to chunks: read, cut, compared with what is known, predicted, coded, checked,
//! appended; and the manifest that puts the file together again.
//!
//! May use: tiers 0 to 4. Memory is bounded by the pool's budget, whatever the file's size.
//! Holds: the same file over the same base gives the same records on any number of threads;
//! every coded chunk was decoded and compared before it is appended.
//!
//! The file is read once, in order. Only a tensor that gets a model of its own is looked at
//! twice: its chunks are *surveyed* as they come, and coded once all of them were seen.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use store_format::dtype::DType;
use store_format::ids::{ChunkId, FileId};
use store_format::limits;
use store_format::manifest::{ChunkReference, Manifest, Region, Role};
use store_format::record::{Kind, Part, Predictor, Recipe, View};
use store_format::verified::Verified;

use crate::bytes::{FileBytes, ReadAt};
use crate::codec::planes::Width;
use crate::codec::residual::{self, Model, Prediction, Statistics, TensorShape};
use crate::codec::{self, Coded, Elements, Level};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::flow::read::Rebuilder;
use crate::layout::{self, Parsed, RegionKind, cut};
use crate::par::{Budget, Pool};
use crate::plan::pair::BaseFile;
use crate::progress::Progress;
use crate::store::txn::Txn;

/// Bytes of jobs in flight; a job states three times its plain bytes: they, their prediction,
/// and what is made of them.
const IN_FLIGHT: Budget = Budget {
    bytes_max: 160 << 20,
    count_max: 256,
};

/// Bytes of surveyed chunks that wait for their tensor's model, unread: they keep all threads
/// busy while the last survey of a tensor ends.
const WAITING_BYTES: u64 = 64 << 20;

/// What all files of a commit share.
pub struct Writer<'a> {
    /// Where records go.
    pub txn: &'a Txn,
    /// Reads sources.
    pub rebuilder: &'a Rebuilder,
    /// The threads.
    pub pool: &'a Pool,
    /// How hard to try.
    pub level: Level,
    /// Who is told.
    pub progress: &'a dyn Progress,
}

/// What a file is compared with: for each of its tensors, by index, where its base lies.
#[derive(Clone, Debug, Default)]
pub struct Bases {
    /// One for each tensor of the file; shorter where the last have none.
    pub tensors: Vec<Option<BaseTensor>>,
}

/// A tensor of a base.
#[derive(Clone, Debug)]
pub struct BaseTensor {
    /// The file that holds it.
    pub file: Arc<BaseFile>,
    /// Its index in that file's manifest.
    pub index: usize,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Chunks that the store held before.
    pub known_chunks: u64,
    /// Chunks that are new.
    pub new_chunks: u64,
    /// Coded bytes of new chunks and their side information.
    pub coded_bytes: u64,
    /// Plain bytes of chunks that were stored against a base.
    pub predicted_bytes: u64,
}

impl Written {
    /// Adds what became of another file.
    pub const fn add(&mut self, other: &Self) {
        self.known_chunks += other.known_chunks;
        self.new_chunks += other.new_chunks;
        self.coded_bytes += other.coded_bytes;
        self.predicted_bytes += other.predicted_bytes;
    }
}

/// Writes the chunks of a file and gives its manifest.
///
/// # Errors
/// `Conflict` where the file changed while it was read; failures of the disk.
pub fn file(
    writer: &Writer<'_>,
    file: &FileBytes,
    parsed: &Parsed,
    bases: &Bases,
) -> Result<(Manifest, Written)> {
    let mut hasher = blake3::Hasher::new();
    let mut chunks = Vec::new();
    let mut written = Written::default();
    let source = Source {
        writer,
        file,
        parsed,
        bases,
    };
    writer.pool.ordered(
        Jobs {
            source: &source,
            pieces: cut::cut(parsed, file).enumerate(),
            hasher: &mut hasher,
            open: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
        },
        IN_FLIGHT,
        |job| source.run(job),
        |done| {
            if let Some(done) = done {
                let at = done.index;
                if chunks.len() <= at {
                    chunks.resize(at + 1, None);
                }
                chunks[at] = Some(done.chunk);
                append(writer, done, &mut written)?;
            }
            writer.progress.check()
        },
    )?;
    let region = |region: &layout::Region| {
        let role = match region.kind {
            RegionKind::Header => Role::Header,
            RegionKind::Tensor(_) => Role::Tensor,
            RegionKind::Gap => Role::Gap,
            RegionKind::Raw => Role::Raw,
        };
        Region {
            role,
            bytes: region.bytes,
        }
    };
    let manifest = Manifest {
        bytes: file.len(),
        file: FileId::from_bytes(*hasher.finalize().as_bytes()),
        layout: parsed.layout,
        regions: parsed.regions.iter().map(region).collect(),
        tensors: parsed.tensors.clone(),
        chunks: chunks.into_iter().flatten().collect(),
        note: parsed.note.clone(),
    };
    Ok((manifest, written))
}

/// Appends what a job made, unless an equal chunk came before it.
fn append(writer: &Writer<'_>, done: Done, written: &mut Written) -> Result<()> {
    let bytes = done.chunk.bytes;
    let Some(record) = done.record else {
        written.known_chunks += 1;
        writer.progress.advance(bytes, 0);
        return Ok(());
    };
    if writer.txn.contains(&done.chunk.id.into()) {
        writer.progress.advance(bytes, 0);
        return Ok(());
    }
    let mut coded = 0;
    for record in record.side.into_iter().chain([record.chunk]) {
        if !writer.txn.contains(&record.id.into()) {
            let Record {
                id,
                recipe,
                plain_bytes,
                bytes,
            } = record;
            writer
                .txn
                .append(Kind::Chunk, id.into(), recipe, plain_bytes, &bytes)?;
            coded += bytes.len() as u64;
        }
    }
    written.new_chunks += 1;
    written.coded_bytes += coded;
    written.predicted_bytes += if record.predicted { bytes } else { 0 };
    writer.progress.advance(bytes, coded);
    Ok(())
}

/// A piece of work on one span.
enum Job {
    /// Looks at a chunk of a tensor for the tensor's model.
    Survey {
        survey: Arc<Survey>,
        slot: usize,
        span: cut::Span,
        plain: Vec<u8>,
    },
    /// Codes a chunk of a surveyed tensor; reads it again.
    Modelled {
        survey: Arc<Survey>,
        slot: usize,
        index: usize,
        span: cut::Span,
    },
    /// Codes any other chunk.
    Plain {
        index: usize,
        span: cut::Span,
        plain: Vec<u8>,
    },
}

/// A chunk whose place in the file is known, and its record if it is new.
struct Done {
    index: usize,
    chunk: ChunkReference,
    record: Option<NewChunk>,
}

struct NewChunk {
    chunk: Record,
    side: Option<Record>,
    predicted: bool,
}

struct Record {
    id: ChunkId,
    recipe: Recipe,
    plain_bytes: u64,
    bytes: Vec<u8>,
}

/// The jobs of a file in the order of its bytes, each survey before what depends on it.
struct Jobs<'a, 'f> {
    source: &'a Source<'f>,
    pieces: std::iter::Enumerate<cut::Pieces<'a, FileBytes>>,
    hasher: &'a mut blake3::Hasher,
    /// The tensor whose chunks are being surveyed, and how many there were.
    open: Option<(usize, Arc<Survey>, usize)>,
    /// Surveyed chunks that wait for their model.
    waiting: VecDeque<(Arc<Survey>, usize, usize, cut::Span)>,
    waiting_bytes: u64,
}

impl Iterator for Jobs<'_, '_> {
    type Item = Result<(usize, Job)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.waiting_bytes > WAITING_BYTES
            && let Some(job) = self.modelled()
        {
            return Some(Ok(job));
        }
        match self.pieces.next() {
            Some((index, piece)) => Some(piece.and_then(|piece| self.read(index, piece))),
            None => {
                self.close();
                self.modelled().map(Ok)
            }
        }
    }
}

impl Jobs<'_, '_> {
    fn read(&mut self, index: usize, piece: cut::Piece) -> Result<(usize, Job)> {
        let span = piece.span;
        let plain = piece.bytes.map_or_else(|| self.source.read(&span), Ok)?;
        self.hasher.update(&plain);
        let cut::View::Elements { tensor, .. } = span.view else {
            self.close();
            return Ok((in_flight(&span), Job::Plain { index, span, plain }));
        };
        let Some(shape) = self.source.shape(tensor) else {
            self.close();
            return Ok((in_flight(&span), Job::Plain { index, span, plain }));
        };
        if self.open.as_ref().is_none_or(|(open, ..)| *open != tensor) {
            self.close();
            self.open = Some((tensor, Arc::new(Survey::new(shape)), 0));
        }
        let Some((_, survey, slots)) = &mut self.open else {
            return Ok((in_flight(&span), Job::Plain { index, span, plain }));
        };
        let (survey, slot) = (Arc::clone(survey), *slots);
        *slots += 1;
        self.waiting
            .push_back((Arc::clone(&survey), slot, index, span));
        self.waiting_bytes += span.bytes;
        Ok((
            in_flight(&span),
            Job::Survey {
                survey,
                slot,
                span,
                plain,
            },
        ))
    }

    /// No chunk of the tensor that was surveyed last follows.
    fn close(&mut self) {
        if let Some((_, survey, slots)) = self.open.take() {
            survey.close(slots);
        }
    }

    /// The next chunk whose survey will end without any further job.
    fn modelled(&mut self) -> Option<(usize, Job)> {
        let open = self.open.as_ref().map(|(_, survey, _)| survey);
        let front = self.waiting.front()?;
        if open.is_some_and(|open| Arc::ptr_eq(open, &front.0)) {
            return None;
        }
        let (survey, slot, index, span) = self.waiting.pop_front()?;
        self.waiting_bytes -= span.bytes;
        Some((
            in_flight(&span),
            Job::Modelled {
                survey,
                slot,
                index,
                span,
            },
        ))
    }
}

fn in_flight(span: &cut::Span) -> usize {
    usize::try_from(span.bytes).map_or(usize::MAX, |bytes| bytes.saturating_mul(3))
}

/// What the chunks of one tensor say together.
struct Survey {
    shape: TensorShape,
    state: Mutex<SurveyState>,
    changed: Condvar,
}

#[derive(Default)]
struct SurveyState {
    /// Of the chunks that were seen, by slot.
    ids: Vec<Option<ChunkId>>,
    /// Merged in the order of slots, so that the model does not depend on threads.
    merged: Option<Box<Statistics>>,
    merged_slots: usize,
    /// Those that came before their turn.
    early: BTreeMap<usize, Option<Box<Statistics>>>,
    /// How many slots there are, once that is known.
    slots: Option<usize>,
    failed: bool,
    model: Option<Option<Arc<SharedModel>>>,
}

/// A model and the side chunk that holds it.
struct SharedModel {
    model: Model,
    side: ChunkId,
    bytes: Vec<u8>,
}

impl Survey {
    fn new(shape: TensorShape) -> Self {
        Self {
            shape,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, SurveyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, slots: usize) {
        self.lock().slots = Some(slots);
        self.changed.notify_all();
    }

    fn fail(&self) {
        self.lock().failed = true;
        self.changed.notify_all();
    }

    /// Notes a chunk; one that the store holds has no statistics.
    fn arrive(&self, slot: usize, id: ChunkId, statistics: Option<Box<Statistics>>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.ids.len() <= slot {
            state.ids.resize(slot + 1, None);
        }
        state.ids[slot] = Some(id);
        state.early.insert(slot, statistics);
        while let Some(next) = state.early.remove(&state.merged_slots) {
            state.merged_slots += 1;
            match (&mut state.merged, next) {
                (Some(merged), Some(next)) => merged.merge(&next),
                (merged @ None, next) => *merged = next,
                (Some(_), None) => {}
            }
        }
        self.changed.notify_all();
    }

    /// The id that a slot's chunk had, and the model of all. Waits for surveys that still run:
    /// they were handed out before, so they end whatever this thread does.
    fn outcome(&self, slot: usize) -> Result<(ChunkId, Option<Arc<SharedModel>>)> {
        let mut state = self.lock();
        while state.slots.is_none_or(|slots| state.merged_slots < slots) && !state.failed {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let Some(id) = state
            .ids
            .get(slot)
            .copied()
            .flatten()
            .filter(|_| !state.failed)
        else {
            return Err(Error::new(
                ErrorKind::Interrupted,
                "a survey of the same tensor failed",
            ));
        };
        if state.model.is_none() {
            let model = state.merged.take().map(|statistics| {
                let model = statistics.finish();
                let bytes = model.to_bytes();
                Arc::new(SharedModel {
                    model,
                    side: ChunkId::of(&bytes),
                    bytes,
                })
            });
            state.model = Some(model);
        }
        Ok((id, state.model.clone().flatten()))
    }
}

/// A file with all that its chunks are compared with.
struct Source<'a> {
    writer: &'a Writer<'a>,
    file: &'a FileBytes,
    parsed: &'a Parsed,
    bases: &'a Bases,
}

impl Source<'_> {
    fn read(&self, span: &cut::Span) -> Result<Vec<u8>> {
        self.file.read_vec(
            span.start,
            usize::try_from(span.bytes).unwrap_or(usize::MAX),
        )
    }

    /// The shape of a tensor that gets a model of its own, as rows of its last dimension.
    fn shape(&self, index: usize) -> Option<TensorShape> {
        let tensor = self.parsed.tensors.get(index)?;
        let cols = tensor.shape.last().copied()?;
        let rows = tensor.shape.iter().rev().skip(1).product();
        residual::is_supported(tensor.dtype, self.base(index).is_some()).then_some(TensorShape {
            dtype: tensor.dtype,
            rows,
            cols,
        })
    }

    fn base(&self, index: usize) -> Option<&BaseTensor> {
        self.bases.tensors.get(index)?.as_ref()
    }

    fn run(&self, job: Job) -> Result<Option<Done>> {
        match job {
            Job::Survey {
                survey,
                slot,
                span,
                plain,
            } => {
                let seen = self.survey(&survey, slot, &span, plain);
                seen.inspect_err(|_| survey.fail()).map(|()| None)
            }
            Job::Modelled {
                survey,
                slot,
                index,
                span,
            } => {
                let (id, model) = survey.outcome(slot)?;
                if self.writer.txn.held(&id.into()) {
                    let chunk = ChunkReference {
                        id,
                        bytes: span.bytes,
                    };
                    return Ok(Some(Done {
                        index,
                        chunk,
                        record: None,
                    }));
                }
                let plain = Verified::of(self.read(&span)?);
                if plain.id() != id {
                    return Err(changed());
                }
                self.code(index, &span, &plain, model.as_deref()).map(Some)
            }
            Job::Plain { index, span, plain } => {
                let plain = Verified::of(plain);
                if self.writer.txn.held(&plain.id().into()) {
                    let chunk = ChunkReference {
                        id: plain.id(),
                        bytes: span.bytes,
                    };
                    return Ok(Some(Done {
                        index,
                        chunk,
                        record: None,
                    }));
                }
                self.code(index, &span, &plain, None).map(Some)
            }
        }
    }

    fn survey(&self, survey: &Survey, slot: usize, span: &cut::Span, plain: Vec<u8>) -> Result<()> {
        let plain = Verified::of(plain);
        if self.writer.txn.held(&plain.id().into()) {
            survey.arrive(slot, plain.id(), None);
            return Ok(());
        }
        let predicted = match self.prediction(span)? {
            Some(view) => Some(self.writer.rebuilder.view(&view)?),
            None => None,
        };
        let statistics = Statistics::new(survey.shape, self.writer.level, predicted.is_some());
        let statistics = statistics.map(|mut statistics| {
            let prediction = predicted
                .as_deref()
                .map_or(Prediction::None, Prediction::Same);
            statistics.add(first_element(span), plain.bytes(), prediction);
            Box::new(statistics)
        });
        survey.arrive(slot, plain.id(), statistics);
        Ok(())
    }

    /// The bytes of the base that stand where a span's elements do.
    fn prediction(&self, span: &cut::Span) -> Result<Option<View>> {
        let mut view = View::default();
        match span.view {
            cut::View::Bytes => return Ok(None),
            cut::View::Elements {
                tensor,
                first_element,
            } => {
                let Some(base) = self.base(tensor) else {
                    return Ok(None);
                };
                let dtype = self.parsed.tensors[tensor].dtype;
                let skipped = dtype.bytes_of(first_element).unwrap_or(u64::MAX);
                base.parts(skipped, span.bytes, &mut view);
            }
            cut::View::Group {
                first_tensor,
                count,
            } => {
                let tensors = first_tensor..first_tensor + count;
                if tensors.clone().all(|tensor| self.base(tensor).is_none()) {
                    return Ok(None);
                }
                for tensor in tensors {
                    let bytes = self.parsed.tensors[tensor].bytes;
                    match self.base(tensor) {
                        _ if bytes == 0 => {}
                        Some(base) => base.parts(0, bytes, &mut view),
                        None => view.parts.push(Part::zeros(bytes)),
                    }
                }
            }
        }
        // A tensor that is longer than its base has chunks of which the base knows nothing.
        Ok(view
            .parts
            .iter()
            .any(|part| !part.is_zeros())
            .then_some(view))
    }

    /// One more than the deepest source, if that is within the limit.
    fn depth(&self, view: &View) -> Option<u8> {
        let sources = view.parts.iter().filter(|part| !part.is_zeros());
        let depth = |id: &ChunkId| {
            let places = self.writer.txn.reader().places(&(*id).into());
            places.first().map(|place| place.entry.depth)
        };
        let deepest = sources.map(|part| depth(&part.chunk)).max()??;
        Some(deepest + 1).filter(|depth| *depth <= limits::DEPTH_MAX)
    }

    /// Codes a chunk in every way that may pay, and keeps the smallest.
    fn code(
        &self,
        index: usize,
        span: &cut::Span,
        plain: &Verified,
        model: Option<&SharedModel>,
    ) -> Result<Done> {
        let view = self.prediction(span)?;
        let source = view.and_then(|view| self.depth(&view).map(|depth| (view, depth)));
        let predicted = match &source {
            Some((view, _)) => Some(self.writer.rebuilder.view(view)?),
            None => None,
        };
        // A model was made for exactly one of both cases.
        let model = model.filter(|_| self.is_based(span) == predicted.is_some());
        let coded = self.smallest(span, plain.bytes(), predicted.as_deref(), model);
        self.record(index, plain, coded, source, model)
    }

    fn smallest(
        &self,
        span: &cut::Span,
        plain: &[u8],
        predicted: Option<&[u8]>,
        model: Option<&SharedModel>,
    ) -> Coded {
        let level = self.writer.level;
        let (dtype, width) = (self.dtype(span), self.width(span));
        let corrected = match (predicted, model) {
            (predicted, Some(shared)) if predicted != Some(plain) => {
                let elements = Elements {
                    shape: shared.model.shape(),
                    first: first_element(span),
                };
                Some(codec::encode_modelled(
                    plain,
                    predicted,
                    &shared.model,
                    elements,
                ))
            }
            (Some(predicted), _) => {
                let difference = || {
                    let width = width.unwrap_or(Width::W1);
                    codec::encode_difference(plain, predicted, width, level)
                };
                let built_in = dtype
                    .filter(|_| predicted != plain)
                    .and_then(|dtype| codec::encode_built_in(plain, predicted, dtype));
                Some(built_in.map_or_else(difference, |coded| coded.or(difference())))
            }
            (None, _) => None,
        };
        match corrected {
            // Far below what plain bytes ever shrink to: no need to try.
            Some(corrected) if corrected.bytes.len() < plain.len() / 2 => corrected,
            Some(corrected) => corrected.or(codec::encode_plain(plain, width, level)),
            None => codec::encode_plain(plain, width, level),
        }
    }

    /// Whether a span belongs to one tensor that has a base.
    fn is_based(&self, span: &cut::Span) -> bool {
        matches!(span.view, cut::View::Elements { tensor, .. } if self.base(tensor).is_some())
    }

    /// The record of a coded chunk, after decoding and comparing it.
    fn record(
        &self,
        index: usize,
        plain: &Verified,
        coded: Coded,
        source: Option<(View, u8)>,
        model: Option<&SharedModel>,
    ) -> Result<Done> {
        let mut recipe = Recipe::plain(coded.coding, coded.parameters);
        if coded.coding.corrects()
            && let Some((view, depth)) = source
        {
            recipe.predictor = Predictor::Base;
            recipe.sources = vec![view];
            recipe.depth = depth;
        }
        let needs_side = recipe.coding.is_modelled()
            && !Elements::from_parameters(&recipe.coding_parameters)?.is_built_in();
        let side = model.filter(|_| needs_side);
        recipe.side = side.map(|shared| shared.side).into_iter().collect();
        let predicted = match recipe.sources.first() {
            Some(view) => Some(self.writer.rebuilder.view(view)?),
            None => None,
        };
        let again = codec::decode(
            &recipe,
            &coded.bytes,
            predicted.as_deref(),
            side.map(|shared| &shared.model),
            plain.bytes().len(),
        )?;
        if again != plain.bytes() {
            let id = plain.id();
            return Err(
                Error::corrupt(format!("chunk {id:.12} does not decode to its bytes"))
                    .hint("this is a bug or a fault of the machine's memory; nothing was stored"),
            );
        }
        let bytes = plain.bytes().len() as u64;
        let predicted = !recipe.sources.is_empty();
        let chunk = Record {
            id: plain.id(),
            recipe,
            plain_bytes: bytes,
            bytes: coded.bytes,
        };
        let side = side.map(side_record).transpose()?;
        let record = Some(NewChunk {
            chunk,
            side,
            predicted,
        });
        Ok(Done {
            index,
            chunk: ChunkReference {
                id: plain.id(),
                bytes,
            },
            record,
        })
    }

    fn dtype(&self, span: &cut::Span) -> Option<DType> {
        let tensor = match span.view {
            cut::View::Bytes => return None,
            cut::View::Elements { tensor, .. } => tensor,
            // Tensors without bytes may be of any type: the first that has some tells.
            cut::View::Group { first_tensor, .. } => {
                let group = self.parsed.tensors.iter().skip(first_tensor);
                return group
                    .map(|tensor| (tensor.bytes, tensor.dtype))
                    .find(|(b, _)| *b > 0)
                    .map(|(_, d)| d);
            }
        };
        self.parsed.tensors.get(tensor).map(|tensor| tensor.dtype)
    }

    fn width(&self, span: &cut::Span) -> Option<Width> {
        let (elements, bytes) = self.dtype(span)?.block();
        Width::new(bytes).filter(|_| elements == 1)
    }
}

impl BaseTensor {
    /// Appends the parts that hold `bytes` bytes after `skipped` of the tensor.
    fn parts(&self, skipped: u64, bytes: u64, view: &mut View) {
        let tensor = &self.file.manifest().tensors[self.index];
        let end = tensor.start + tensor.bytes;
        self.file
            .parts(tensor.start.saturating_add(skipped), bytes, end, view);
    }
}

fn first_element(span: &cut::Span) -> u64 {
    match span.view {
        cut::View::Elements { first_element, .. } => first_element,
        cut::View::Bytes | cut::View::Group { .. } => 0,
    }
}

fn side_record(shared: &SharedModel) -> Result<Record> {
    let coded = codec::encode_plain(&shared.bytes, None, Level::Default);
    let recipe = Recipe::plain(coded.coding, coded.parameters);
    let plain_bytes = shared.bytes.len() as u64;
    let again = codec::decode(&recipe, &coded.bytes, None, None, shared.bytes.len())?;
    if again != shared.bytes {
        return Err(Error::corrupt(
            "side information does not decode to its bytes",
        ));
    }
    Ok(Record {
        id: shared.side,
        recipe,
        plain_bytes,
        bytes: coded.bytes,
    })
}

/// The failure of a file that is not what it was a moment ago.
#[must_use]
pub fn changed() -> Error {
    Error::conflict("the file changed while it was read")
}
