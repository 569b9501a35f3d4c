//! One chunk to its record: predicted from the base, coded in every way that may pay, decoded
//! again and compared.
//!
//! May use: tiers 0 to 4. Appends nothing. Holds: a coded chunk that does not decode to its bytes
//! is an error here, never a record; it is never longer than its plain coding.

use std::collections::BTreeSet;
use std::sync::Arc;

use store_format::dtype::DType;
use store_format::ids::ChunkId;
use store_format::manifest::ChunkReference;
use store_format::record::{Coding, Part, Recipe, View};
use store_format::verified::Verified;

use crate::bytes::{FileBytes, ReadAt};
use crate::codec::planes::Width;
use crate::codec::residual::{self, Prediction, Statistics, TensorShape};
use crate::codec::{self, Coded, Elements, Level};
use crate::error::{Error, Kind, Result};
use crate::flow::approach::{self, Approach, PARTS_MAX, Planned};
use crate::flow::predicted::{self, Predicted};
use crate::flow::read::{DECODED_BYTES_MAX, Rebuilder};
use crate::flow::survey::{Awaited, Seen, SharedModel, Survey};
use crate::layout::{Parsed, cut};
use crate::par::Pool;
use crate::progress::Progress;
use crate::store::read::Wholeness;
use crate::store::txn::Txn;

/// Bytes of a chunk by which plain coding is judged.
const SAMPLE_BYTES: usize = 128 << 10;

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
    /// Whether packs that are full stay where the work stops before its end.
    pub keeps: bool,
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

/// A piece of work on one span.
pub(super) enum Job {
    /// Looks at a chunk of a tensor for the tensor's model; the survey keeps its bytes or not.
    Survey {
        chunk: Awaited,
        span: cut::Span,
        plain: Vec<u8>,
        keep: bool,
    },
    /// Codes a chunk of a surveyed tensor; reads it again where it was not kept.
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
pub(super) struct Done {
    pub(super) index: usize,
    pub(super) chunk: ChunkReference,
    pub(super) record: Option<NewChunk>,
}

/// The records of a chunk that is new.
pub(super) struct NewChunk {
    pub(super) chunk: Record,
    /// Side chunks that it needs.
    pub(super) sides: Vec<Record>,
    pub(super) predicted: bool,
}

/// A record before it is appended.
pub(super) struct Record {
    pub(super) id: ChunkId,
    pub(super) recipe: Recipe,
    pub(super) plain_bytes: u64,
    pub(super) bytes: Vec<u8>,
}

/// A file with all that its chunks are compared with.
pub(super) struct Source<'a> {
    pub(super) writer: &'a Writer<'a>,
    pub(super) file: &'a FileBytes,
    pub(super) parsed: &'a Parsed,
    /// One for each tensor of the file.
    pub(super) approaches: &'a [Approach],
}

impl Source<'_> {
    /// The bytes of a span.
    pub(super) fn read(&self, span: &cut::Span) -> Result<Vec<u8>> {
        self.file.read_vec(
            span.start,
            usize::try_from(span.bytes).unwrap_or(usize::MAX),
        )
    }

    /// The shape of a tensor that gets a model of its own, as rows of its last dimension.
    pub(super) fn shape(&self, index: usize) -> Option<TensorShape> {
        let tensor = self.parsed.tensors.get(index)?;
        let cols = tensor.shape.last().copied()?;
        let rows = tensor.shape.iter().rev().skip(1).product();
        residual::is_supported(tensor.dtype, self.is_predicted(index)).then_some(TensorShape {
            dtype: tensor.dtype,
            rows,
            cols,
        })
    }

    fn approach(&self, index: usize) -> &Approach {
        self.approaches.get(index).unwrap_or(&Approach::None)
    }

    fn is_predicted(&self, index: usize) -> bool {
        !matches!(self.approach(index), Approach::None)
    }

    /// Does a job; a survey gives nothing.
    pub(super) fn run(&self, job: Job) -> Result<Option<Done>> {
        match job {
            Job::Survey {
                chunk,
                span,
                plain,
                keep,
            } => self.survey(chunk, &span, plain, keep).map(|()| None),
            Job::Modelled {
                survey,
                slot,
                index,
                span,
            } => {
                let (seen, model) = survey.outcome(slot)?;
                let id = seen.id();
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
                let plain = match seen {
                    Seen::Kept(plain) => plain,
                    Seen::Named(id) => {
                        Verified::check(&id, self.read(&span)?).map_err(|_| changed())?
                    }
                };
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

    fn survey(&self, chunk: Awaited, span: &cut::Span, plain: Vec<u8>, keep: bool) -> Result<()> {
        let plain = Verified::of(plain);
        if self.writer.txn.held(&plain.id().into()) {
            chunk.arrive(Seen::Named(plain.id()), None);
            return Ok(());
        }
        let predicted = match self.prediction(span)? {
            Some(planned) => self.predicted(&planned, Coding::Residual, span.bytes)?,
            None => Predicted::None,
        };
        let statistics = Statistics::new(chunk.shape(), self.writer.level, predicted.is_some());
        let statistics = statistics.map(|mut statistics| {
            let prediction = predicted.as_prediction();
            statistics.add(first_element(span), plain.bytes(), prediction);
            Box::new(statistics)
        });
        let seen = if keep {
            Seen::Kept(plain)
        } else {
            Seen::Named(plain.id())
        };
        chunk.arrive(seen, statistics);
        Ok(())
    }

    /// What a span's elements are expected to be made of.
    fn prediction(&self, span: &cut::Span) -> Result<Option<Planned>> {
        let mut view = View::default();
        match span.view {
            cut::View::Bytes => return Ok(None),
            cut::View::Elements {
                tensor,
                first_element,
            } => match self.approach(tensor) {
                Approach::None => return Ok(None),
                Approach::Recipe(recipe) => {
                    return Planned::by_recipe(recipe, first_element, span.bytes);
                }
                Approach::Base(base) => {
                    let dtype = self.parsed.tensors[tensor].dtype;
                    let skipped = dtype.bytes_of(first_element).unwrap_or(u64::MAX);
                    base.parts(skipped, span.bytes, &mut view);
                }
            },
            cut::View::Group {
                first_tensor,
                count,
            } => {
                let tensors = first_tensor..first_tensor + count;
                let group: Vec<_> = tensors
                    .map(|index| (&self.parsed.tensors[index], self.approach(index)))
                    .collect();
                if let Some(planned) = approach::of_group(&group)? {
                    return Ok(Some(planned));
                }
                if let Some(planned) = approach::of_scales(&group)? {
                    return Ok(Some(planned));
                }
                for (tensor, approach) in group {
                    match approach {
                        _ if tensor.bytes == 0 => {}
                        Approach::Base(base) => base.parts(0, tensor.bytes, &mut view),
                        Approach::None | Approach::Recipe(_) => {
                            view.push(Part::zeros(tensor.bytes));
                        }
                    }
                    if view.parts.len() > PARTS_MAX {
                        return Ok(None);
                    }
                }
            }
        }
        // A tensor that is longer than its base has chunks of which the base knows nothing.
        let known = view.parts.iter().any(|part| !part.is_zeros());
        let is_worth = known && view.parts.len() <= PARTS_MAX;
        Ok(is_worth.then(|| Planned::base(view)))
    }

    /// The prediction; nothing where the base is hurt: a file can be kept all the same, and what
    /// is lost heals by it.
    fn predicted(&self, planned: &Planned, coding: Coding, plain_bytes: u64) -> Result<Predicted> {
        let sources = match self.writer.rebuilder.pieces(&planned.view) {
            Err(error) if matches!(error.kind(), Kind::Corrupt | Kind::NotFound) => {
                return Ok(Predicted::None);
            }
            other => other?,
        };
        match &planned.recipe {
            None => Ok(Predicted::Bytes(sources.joined())),
            Some((recipe, first)) => {
                predicted::predict(&recipe.recipe, *first, &sources, plain_bytes, coding)
            }
        }
    }

    /// One more than the deepest source, if that is within the limit for the chunk and a reader
    /// would take it.
    fn depth(&self, chunk: ChunkId, view: &View) -> Option<u8> {
        let sources = view.parts.iter().filter(|part| !part.is_zeros());
        let mut wholeness = Wholeness::default();
        let (mut deepest, mut bytes) = (0, 0_u64);
        let sources: BTreeSet<ChunkId> = sources.map(|part| part.chunk).collect();
        for source in sources {
            let id = source.into();
            let effort = wholeness.effort(self.writer.txn.reader(), &id)?;
            deepest = deepest.max(self.writer.txn.depth(&id)?);
            bytes = bytes.saturating_add(effort.bytes);
        }
        // Far from what a reader refuses.
        if bytes > DECODED_BYTES_MAX / 4 {
            return None;
        }
        let most = self.writer.txn.depth_max(&chunk.into());
        Some(deepest + 1).filter(|depth| *depth <= most)
    }

    /// Codes a chunk in every way that may pay, and keeps the smallest.
    fn code(
        &self,
        index: usize,
        span: &cut::Span,
        plain: &Verified,
        model: Option<&SharedModel>,
    ) -> Result<Done> {
        let planned = self.prediction(span)?;
        let source = planned.and_then(|planned| {
            let depth = self.depth(plain.id(), &planned.view)?;
            Some((planned, depth))
        });
        let (coded, predicted) = match &source {
            None => (
                self.smallest(span, plain.bytes(), &Predicted::None, model),
                Predicted::None,
            ),
            Some((planned, _)) => self.corrected(span, plain.bytes(), planned, model)?,
        };
        let source = source.filter(|_| predicted.is_some());
        self.record(index, plain, coded, predicted, source, model)
    }

    /// Codes a chunk that is predicted, and gives the prediction that its coding takes if it could
    /// be made.
    fn corrected(
        &self,
        span: &cut::Span,
        plain: &[u8],
        planned: &Planned,
        model: Option<&SharedModel>,
    ) -> Result<(Coded, Predicted)> {
        let predicted = self.predicted(planned, Coding::Residual, span.bytes)?;
        let Predicted::Patterns(patterns) = &predicted else {
            return Ok((self.smallest(span, plain, &predicted, model), predicted));
        };
        // Elements without a fraction tell whether nothing is left to correct, and are all that
        // the plain difference can use.
        let rounded = match self.dtype(span) {
            Some(dtype) => predicted::rounded(dtype, patterns),
            None => None,
        };
        let rounded = match rounded {
            Some(rounded) => Predicted::Bytes(rounded.into()),
            None => self.predicted(planned, Coding::Difference, span.bytes)?,
        };
        let Predicted::Bytes(elements) = &rounded else {
            return Ok((self.smallest(span, plain, &predicted, model), predicted));
        };
        if **elements == *plain {
            return Ok((self.smallest(span, plain, &rounded, model), rounded));
        }
        let coded = self.smallest(span, plain, &predicted, model);
        if !is_nearly(plain, elements) {
            return Ok((coded, predicted));
        }
        // All but met: a few places are named faster than a model is.
        let width = self.width(span).unwrap_or(Width::W1);
        let named = codec::encode_difference(plain, elements, width, self.writer.level);
        let coded = coded.or(named);
        let is_fine = coded.coding == Coding::Residual;
        Ok((coded, if is_fine { predicted } else { rounded }))
    }

    fn smallest(
        &self,
        span: &cut::Span,
        plain: &[u8],
        predicted: &Predicted,
        model: Option<&SharedModel>,
    ) -> Coded {
        let level = self.writer.level;
        let (dtype, width) = (self.dtype(span), self.width(span));
        let prediction = predicted.as_prediction();
        // A model was made for exactly one of both cases.
        let model = model.filter(|_| self.is_based(span) == predicted.is_some());
        let exact = matches!(predicted, Predicted::Bytes(bytes) if **bytes == *plain);
        let corrected = match (predicted, model) {
            (_, Some(shared)) if !exact => {
                let elements = Elements {
                    shape: shared.model.shape(),
                    first: first_element(span),
                };
                Some(codec::encode_modelled(
                    plain,
                    prediction,
                    &shared.model,
                    elements,
                ))
            }
            (Predicted::Bytes(predicted), _) => {
                let width = width.unwrap_or(Width::W1);
                let difference = codec::encode_difference(plain, predicted, width, level);
                let built_in = dtype
                    .filter(|_| !exact)
                    .and_then(|dtype| codec::encode_built_in(plain, prediction, dtype));
                Some(built_in.map_or(difference.clone(), |coded| coded.or(difference)))
            }
            (Predicted::Patterns(_), _) => {
                dtype.and_then(|dtype| codec::encode_built_in(plain, prediction, dtype))
            }
            (Predicted::None, _) => None,
        };
        match corrected {
            Some(corrected) if !shrinks_more(plain, corrected.bytes.len(), width, level) => {
                corrected
            }
            Some(corrected) => corrected.or(codec::encode_plain(plain, width, level)),
            None => codec::encode_plain(plain, width, level),
        }
    }

    /// Whether a span belongs to one tensor that is predicted.
    fn is_based(&self, span: &cut::Span) -> bool {
        matches!(span.view, cut::View::Elements { tensor, .. } if self.is_predicted(tensor))
    }

    /// The record of a coded chunk, after decoding and comparing it.
    fn record(
        &self,
        index: usize,
        plain: &Verified,
        coded: Coded,
        made: Predicted,
        source: Option<(Planned, u8)>,
        model: Option<&SharedModel>,
    ) -> Result<Done> {
        let mut recipe = Recipe::plain(coded.coding, coded.parameters);
        let needs_model = recipe.coding.is_modelled()
            && !Elements::from_parameters(&recipe.coding_parameters)?.is_built_in();
        let model = model.filter(|_| needs_model);
        recipe.side = model.map(|shared| shared.side).into_iter().collect();
        let mut sides = Vec::new();
        if let Some(shared) = model {
            sides.push(side_record(shared.side, &shared.bytes)?);
        }
        let mut predicted = Predicted::None;
        if recipe.coding.corrects()
            && let Some((planned, depth)) = source
        {
            recipe.predictor = planned.predictor;
            recipe.predictor_parameters = planned.parameters(recipe.side.len());
            if let Some((side, bytes)) = planned.side() {
                recipe.side.push(side);
                sides.push(side_record(side, bytes)?);
            }
            // A recipe is followed again, as a reader of this coding will: the check below must
            // not rest on how the prediction was come by here.
            predicted = match planned.recipe {
                None => made,
                Some(_) => self.predicted(&planned, recipe.coding, plain.bytes().len() as u64)?,
            };
            recipe.sources = vec![planned.view];
            recipe.depth = depth;
        }
        let again = codec::decode(
            &recipe,
            &coded.bytes,
            predicted.as_prediction(),
            model.map(|shared| &shared.model),
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
        let chunk = Record {
            id: plain.id(),
            recipe,
            plain_bytes: bytes,
            bytes: coded.bytes,
        };
        let record = Some(NewChunk {
            predicted: predicted.is_some(),
            chunk,
            sides,
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

/// Whether plain coding might make a chunk smaller than `coded` bytes, judged by its middle.
fn shrinks_more(plain: &[u8], coded: usize, width: Option<Width>, level: Level) -> bool {
    // Below this plain bytes hardly ever shrink.
    if coded < plain.len() / 2 {
        return false;
    }
    let middle = plain.len().saturating_sub(SAMPLE_BYTES) / 16 * 8;
    let sample = &plain[middle..plain.len().min(middle + SAMPLE_BYTES)];
    let of_sample = codec::encode_plain(sample, width, level).bytes.len() as u64;
    of_sample * plain.len() as u64 <= coded as u64 * sample.len() as u64
}

/// Whether at most one byte in 256 differs.
fn is_nearly(plain: &[u8], predicted: &[u8]) -> bool {
    let missed = plain.iter().zip(predicted).filter(|(a, b)| a != b);
    missed.count() <= plain.len() / 256
}

fn first_element(span: &cut::Span) -> u64 {
    match span.view {
        cut::View::Elements { first_element, .. } => first_element,
        cut::View::Bytes | cut::View::Group { .. } => 0,
    }
}

/// The record of a side chunk. Its entries are small numbers or text: zstd finds what is in them.
fn side_record(id: ChunkId, bytes: &[u8]) -> Result<Record> {
    let coded = codec::encode_plain(bytes, None, Level::Default);
    let recipe = Recipe::plain(coded.coding, coded.parameters);
    let plain_bytes = bytes.len() as u64;
    let again = codec::decode(&recipe, &coded.bytes, Prediction::None, None, bytes.len())?;
    if again != bytes {
        return Err(Error::corrupt(
            "side information does not decode to its bytes",
        ));
    }
    Ok(Record {
        id,
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
