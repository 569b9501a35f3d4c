//! A record to its plain bytes: the only code that turns what is stored into what was meant.
//!
//! May use: tiers 0 to 4. Must never return bytes that do not hash to the id asked for.
//! Holds: every copy of a chunk is tried, the one of least depth first, before a chunk is called
//! damaged; memory is bounded by the cache and the chunks in work.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use store_format::commit::{Attachment, Commit};
use store_format::ids::{AttachmentId, ChunkId, CommitId, ManifestId, RecordId, TreeId};
use store_format::limits;
use store_format::manifest::Manifest;
use store_format::object::Object;
use store_format::record::{Coding, Kind, Predictor, Recipe, View};
use store_format::tree::Tree;
use store_format::verified::Verified;

use crate::codec::residual::{Model, Prediction};
use crate::codec::{self, Elements};
use crate::error::{Error, Result};
use crate::flow::predicted::{self, Place, Predicted};
use crate::flow::viewed::{Pieces, Viewed};
use crate::predict;
use crate::store::pack_read::StoredRecord;
use crate::store::read::Reader;

/// Decoded sources that are kept: a few tensors, so that a chunk which several predictions need
/// is decoded once.
const SOURCE_BYTES_KEPT: u64 = 96 << 20;

/// Models and recipes that are kept: those of the tensors in work, and of their sources.
const MODELS_KEPT: usize = 64;

/// Bytes of recipes that are kept; factors of large tensors make them long.
const RECIPE_BYTES_KEPT: usize = 32 << 20;

/// Rebuilds chunks and objects from a store's records; safe to use from many threads.
pub struct Rebuilder {
    reader: Reader,
    sources: Mutex<Kept>,
    models: Mutex<HashMap<ChunkId, Arc<Model>>>,
    recipes: Mutex<Recipes>,
}

/// Recipes of tensors, by the side chunk that holds them.
#[derive(Default)]
struct Recipes {
    entries: HashMap<ChunkId, Arc<predict::Recipe>>,
    bytes: usize,
}

impl Rebuilder {
    /// Rebuilds what a reader finds.
    #[must_use]
    pub fn new(reader: Reader) -> Self {
        Self {
            reader,
            sources: Mutex::default(),
            models: Mutex::default(),
            recipes: Mutex::default(),
        }
    }

    /// The records underneath.
    #[must_use]
    pub const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The plain bytes of a chunk.
    ///
    /// # Errors
    /// `NotFound` where no copy is here, `Corrupt` where no copy can be rebuilt.
    pub fn chunk(&self, id: &ChunkId) -> Result<Verified> {
        self.rebuild(id, &Bound::new())
    }

    /// The plain bytes of a chunk that others will need too.
    ///
    /// # Errors
    /// As [`Rebuilder::chunk`].
    pub fn source(&self, id: &ChunkId) -> Result<Arc<Verified>> {
        self.kept_source(id, &Bound::new())
    }

    /// The bytes of a view, read from its chunks.
    ///
    /// # Errors
    /// As [`Rebuilder::chunk`]; `Corrupt` where a part lies outside its chunk.
    pub fn view(&self, view: &View) -> Result<Viewed> {
        self.pieces(view).map(Pieces::joined)
    }

    /// The bytes of a view as they lie in its chunks.
    ///
    /// # Errors
    /// As [`Rebuilder::view`].
    pub fn pieces(&self, view: &View) -> Result<Pieces> {
        self.read_views(std::slice::from_ref(view), &Bound::new())
    }

    /// An object, checked against its id.
    ///
    /// # Errors
    /// `NotFound` where no copy is here, `Corrupt` where no copy is whole.
    pub fn object<T>(&self, id: &T::Id) -> Result<T>
    where
        T: Object,
        T::Id: Into<RecordId>,
    {
        let key = (*id).into();
        self.first_whole(&key, T::WHAT, |record| {
            let plain = decode_plain(record)?;
            Ok(T::from_bytes_as(id, &plain)?)
        })
    }

    /// Checks that a record from elsewhere holds what its id says. What it is predicted from is
    /// read from here.
    ///
    /// # Errors
    /// `Corrupt` where it does not; `NotFound` where its sources are not here.
    pub fn check(&self, record: &StoredRecord) -> Result<()> {
        let id = *record.header.id.as_bytes();
        let checked = match record.header.kind {
            Kind::Chunk => self
                .decode(&ChunkId::from_bytes(id), record, &Bound::new())
                .map(|_| ()),
            Kind::Manifest => check_object::<Manifest>(&ManifestId::from_bytes(id), record),
            Kind::Tree => check_object::<Tree>(&TreeId::from_bytes(id), record),
            Kind::Commit => check_object::<Commit>(&CommitId::from_bytes(id), record),
            Kind::Attachment => check_object::<Attachment>(&AttachmentId::from_bytes(id), record),
        };
        checked.map_err(|error| {
            let what = format!("a record is not what its id {:.12} says", record.header.id);
            error.while_doing(what)
        })
    }

    fn rebuild(&self, id: &ChunkId, bound: &Bound) -> Result<Verified> {
        self.first_whole(&(*id).into(), "chunk", |record| {
            self.decode(id, record, bound)
        })
    }

    fn decode(&self, id: &ChunkId, record: &StoredRecord, bound: &Bound) -> Result<Verified> {
        let recipe = &record.header.recipe;
        bound.take(record.header.plain_bytes)?;
        let predicted = self.predict(recipe, record.header.plain_bytes, bound)?;
        let model = self.model(recipe)?;
        let plain = codec::decode(
            recipe,
            &record.coded,
            predicted.as_prediction(),
            model.as_deref(),
            plain_bytes(record)?,
        )?;
        Ok(Verified::check(id, plain)?)
    }

    /// Tries the copies of a record until one can be used.
    fn first_whole<T>(
        &self,
        id: &RecordId,
        what: &str,
        try_copy: impl Fn(&StoredRecord) -> Result<T>,
    ) -> Result<T> {
        let mut first_failure = None;
        for place in self.reader.places(id) {
            match self
                .reader
                .read(id, &place)
                .and_then(|record| try_copy(&record))
            {
                Ok(value) => return Ok(value),
                Err(error) => {
                    first_failure.get_or_insert(error);
                }
            }
        }
        // A collection may have moved the record since this reader looked.
        match self.reader.record(id) {
            Ok(Some(record)) => try_copy(&record).map_err(|error| damaged(id, what, error)),
            Ok(None) => match first_failure {
                Some(error) => Err(damaged(id, what, error)),
                None => Err(Error::not_found(format!("{what} {id:.12} is missing"))
                    .hint("run 'sparse fsck' to see what is hurt")),
            },
            Err(error) => Err(damaged(id, what, error)),
        }
    }

    /// The prediction of a record's plain bytes.
    ///
    /// # Errors
    /// As [`Rebuilder::chunk`]; a recipe that makes no sense.
    pub fn predicted(&self, recipe: &Recipe, plain_bytes: u64) -> Result<Predicted> {
        self.predict(recipe, plain_bytes, &Bound::new())
    }

    fn predict(&self, recipe: &Recipe, plain_bytes: u64, bound: &Bound) -> Result<Predicted> {
        // Depth falls with every step, so a chain ends whatever the records say.
        if recipe.depth > bound.depth {
            return Err(Error::corrupt(
                "a source is not less deep than what it predicts",
            ));
        }
        match recipe.predictor {
            Predictor::None => Ok(Predicted::None),
            Predictor::Base => {
                let [view] = recipe.sources.as_slice() else {
                    return Err(Error::corrupt("predictor 'base' has one source"));
                };
                if view.bytes() != Some(plain_bytes) {
                    return Err(Error::corrupt("a base is as long as what it predicts"));
                }
                let base = self.read_views(&recipe.sources, &bound.below(recipe.depth))?;
                Ok(Predicted::Bytes(base.joined()))
            }
            Predictor::LowRank
            | Predictor::Adapter
            | Predictor::Gather
            | Predictor::Cast
            | Predictor::Linear
            | Predictor::Quantise
            | Predictor::Blockwise => {
                let (first, tensor) = self.tensor_recipe(recipe)?;
                if recipe.coding == Coding::Residual {
                    let coded = Elements::from_parameters(&recipe.coding_parameters)?
                        .shape
                        .dtype;
                    if coded != tensor.target.dtype {
                        return Err(Error::corrupt("a recipe's target is of the coding's type"));
                    }
                }
                let sources = self.read_views(&recipe.sources, &bound.below(recipe.depth))?;
                predicted::predict(&tensor, first, &sources, plain_bytes, recipe.coding)
            }
            Predictor::Rows => {
                let feature = u64::from(recipe.predictor.number());
                Err(store_format::FormatError::Unsupported { feature }.into())
            }
        }
    }

    /// The recipe by which a chunk's record predicts its tensor, if it has one.
    ///
    /// # Errors
    /// As [`Rebuilder::chunk`].
    pub fn recipe_of(&self, id: &ChunkId) -> Result<Option<Arc<predict::Recipe>>> {
        self.first_whole(&(*id).into(), "chunk", |record| {
            let recipe = &record.header.recipe;
            if matches!(recipe.predictor, Predictor::None | Predictor::Base) {
                return Ok(None);
            }
            Ok(Some(self.tensor_recipe(recipe)?.1))
        })
    }

    /// The recipe of a record's tensor, and the tensor's element that the record begins with.
    fn tensor_recipe(&self, recipe: &Recipe) -> Result<(u64, Arc<predict::Recipe>)> {
        let (first, place) = predicted::parse_parameters(&recipe.predictor_parameters)?;
        let tensor = match place {
            Place::Inline(bytes) => Arc::new(predict::Recipe::parse(bytes)?),
            Place::Side(number) => {
                let side = recipe.side.get(number);
                let side = side.ok_or_else(|| Error::corrupt("a record names its recipe"))?;
                self.kept_recipe(side)?
            }
        };
        if predicted::predictor_of(&tensor) != recipe.predictor {
            return Err(Error::corrupt("a recipe is of its record's predictor"));
        }
        Ok((first, tensor))
    }

    fn kept_recipe(&self, side: &ChunkId) -> Result<Arc<predict::Recipe>> {
        let recipes = || self.recipes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = recipes().entries.get(side) {
            return Ok(Arc::clone(kept));
        }
        let recipe = Arc::new(predict::Recipe::parse(self.side(side)?.bytes())?);
        let bytes = recipe.held_bytes();
        let mut kept = recipes();
        if kept.entries.len() >= MODELS_KEPT || kept.bytes + bytes > RECIPE_BYTES_KEPT {
            *kept = Recipes::default();
        }
        kept.bytes += bytes;
        kept.entries.insert(*side, Arc::clone(&recipe));
        Ok(recipe)
    }

    /// The model of a modelled coding, read from its side chunk and kept for the tensor's others.
    ///
    /// # Errors
    /// As [`Rebuilder::chunk`]; parameters that make no sense.
    pub fn model(&self, recipe: &Recipe) -> Result<Option<Arc<Model>>> {
        if !recipe.coding.is_modelled() {
            return Ok(None);
        }
        let elements = Elements::from_parameters(&recipe.coding_parameters)?;
        if elements.is_built_in() {
            return Ok(None);
        }
        let shape = elements.shape;
        let Some(side) = recipe.side.first() else {
            return Err(Error::corrupt("a modelled record names its model"));
        };
        let models = || self.models.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = models().get(side).filter(|model| model.shape() == shape) {
            return Ok(Some(Arc::clone(model)));
        }
        let model = Arc::new(Model::parse(shape, self.side(side)?.bytes())?);
        let mut models = models();
        if models.len() >= MODELS_KEPT {
            models.clear();
        }
        models.insert(*side, Arc::clone(&model));
        Ok(Some(model))
    }

    /// Side information, from records that need nothing themselves: two that named each other
    /// would have no end.
    fn side(&self, id: &ChunkId) -> Result<Verified> {
        self.first_whole(&(*id).into(), "chunk", |record| {
            if !record.header.recipe.needs().is_empty() {
                return Err(Error::corrupt("side information needs other chunks"));
            }
            Ok(Verified::check(id, decode_plain(record)?)?)
        })
    }

    fn read_views(&self, views: &[View], bound: &Bound) -> Result<Pieces> {
        let mut pieces = Pieces::default();
        for view in views {
            let total = view.bytes();
            if total.is_none_or(|bytes| bytes > limits::SOURCE_BYTES_MAX) {
                return Err(Error::corrupt("a view is longer than any may be"));
            }
            for part in &view.parts {
                if part.is_zeros() {
                    pieces.add_zeros(size(part.bytes)?);
                    continue;
                }
                let source = self.kept_source(&part.chunk, bound)?;
                let start = size(part.start)?;
                let range = start.checked_add(size(part.bytes)?).map(|end| start..end);
                if !range.is_some_and(|range| pieces.add(source, range)) {
                    return Err(Error::corrupt("a part lies outside its chunk"));
                }
            }
        }
        Ok(pieces)
    }

    fn kept_source(&self, id: &ChunkId, bound: &Bound) -> Result<Arc<Verified>> {
        if let Some(kept) = self.kept().get(id) {
            return Ok(kept);
        }
        let source = Arc::new(self.rebuild(id, bound)?);
        self.kept().put(Arc::clone(&source));
        Ok(source)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Plain bytes that are decoded for one chunk at most, sources and their sources counted as often
/// as they are decoded. Honest versions take a small part of it (eight merges of three on top of
/// each other: 13 GiB where no source is kept); a hostile one could go on for weeks.
pub const DECODED_BYTES_MAX: u64 = 32 << 30;

/// What may still be done to rebuild one chunk.
struct Bound {
    /// The greatest depth of a record.
    depth: u8,
    /// Plain bytes, of all steps together.
    bytes: Rc<Cell<u64>>,
}

impl Bound {
    fn new() -> Self {
        Self {
            depth: limits::DEPTH_MAX,
            bytes: Rc::new(Cell::new(DECODED_BYTES_MAX)),
        }
    }

    /// For the sources of a record of this depth, which is not 0.
    fn below(&self, depth: u8) -> Self {
        Self {
            depth: depth - 1,
            bytes: Rc::clone(&self.bytes),
        }
    }

    fn take(&self, bytes: u64) -> Result<()> {
        let left = self.bytes.get().checked_sub(bytes);
        self.bytes.set(left.ok_or_else(|| {
            Error::corrupt("too much would have to be decoded for one chunk")
                .because("its sources are predicted from too many others")
        })?);
        Ok(())
    }
}

/// The bytes of a record that needs no prediction.
///
/// # Errors
/// `Corrupt` where the record needs one, or its bytes are damaged.
pub fn decode_plain(record: &StoredRecord) -> Result<Vec<u8>> {
    let recipe = &record.header.recipe;
    let bytes = plain_bytes(record)?;
    codec::decode(recipe, &record.coded, Prediction::None, None, bytes)
}

fn check_object<T: Object>(id: &T::Id, record: &StoredRecord) -> Result<()> {
    T::from_bytes_as(id, &decode_plain(record)?)?;
    Ok(())
}

fn plain_bytes(record: &StoredRecord) -> Result<usize> {
    size(record.header.plain_bytes)
}

/// The header's own checks bound these numbers; this is for machines with small addresses.
fn size(bytes: u64) -> Result<usize> {
    usize::try_from(bytes).map_err(|_| Error::corrupt("a size is beyond this machine"))
}

fn damaged(id: &RecordId, what: &str, error: Error) -> Error {
    let error = error.while_doing(format!("{what} {id:.12} cannot be rebuilt"));
    match error.hint_text() {
        Some(_) => error,
        None => {
            error.hint("run 'sparse fsck --read-data' to see what is hurt, then 'sparse repair'")
        }
    }
}

/// Decoded sources up to a number of bytes; the one unused for longest goes first.
#[derive(Default)]
struct Kept {
    entries: HashMap<ChunkId, (Arc<Verified>, u64)>,
    bytes: u64,
    clock: u64,
}

impl Kept {
    fn get(&mut self, id: &ChunkId) -> Option<Arc<Verified>> {
        self.clock += 1;
        let clock = self.clock;
        self.entries.get_mut(id).map(|(source, used)| {
            *used = clock;
            Arc::clone(source)
        })
    }

    fn put(&mut self, source: Arc<Verified>) {
        self.clock += 1;
        let bytes = source.bytes().len() as u64;
        if self
            .entries
            .insert(source.id(), (source, self.clock))
            .is_none()
        {
            self.bytes += bytes;
        }
        while self.bytes > SOURCE_BYTES_KEPT && self.entries.len() > 1 {
            // A scan: there are some dozens of entries, each worth a chunk's decoding.
            let oldest = self.entries.iter().min_by_key(|(_, (_, used))| *used);
            let Some(oldest) = oldest.map(|(id, _)| *id) else {
                return;
            };
            if let Some((source, _)) = self.entries.remove(&oldest) {
                self.bytes -= source.bytes().len() as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind as ErrorKind;

    #[test]
    fn what_is_decoded_for_one_chunk_is_bounded_over_all_its_sources() {
        let whole = Bound::new();
        let below = whole.below(8).below(7);
        assert_eq!(below.depth, 6);
        below.take(DECODED_BYTES_MAX - 1).unwrap();
        assert_eq!(whole.take(2).unwrap_err().kind(), ErrorKind::Corrupt);
        whole.take(1).unwrap();
        assert!(below.take(1).is_err());
    }
}
