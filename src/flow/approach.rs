//! How a tensor is predicted: by the same elements of a tensor, or by a recipe over several.
//!
//! May use: tiers 0 to 4. Reads nothing. Holds: the views that it makes are those that a reader
//! of the record will ask for.

use std::sync::Arc;

use store_format::FormatError;
use store_format::dtype::DType;
use store_format::ids::ChunkId;
use store_format::layout::Tensor;
use store_format::limits;
use store_format::record::{Part, Predictor, View};

use crate::error::Result;
use crate::flow::predicted::{self, INLINE_BYTES_MAX, Place};
use crate::plan::pair::{self, BaseFile, Named};
use crate::predict::blockwise::{Blockwise, Rule};
use crate::predict::{self, Recipe, Shape, Step};

/// Parts of one view: a longer list costs more than the prediction is worth.
pub const PARTS_MAX: usize = 4096;

/// A tensor of a version that is known.
#[derive(Clone, Debug)]
pub struct BaseTensor {
    /// The file that holds it.
    pub file: Arc<BaseFile>,
    /// Its index in that file's manifest.
    pub index: usize,
}

impl BaseTensor {
    /// What its manifest says of it.
    #[must_use]
    pub fn tensor(&self) -> &Tensor {
        &self.file.manifest().tensors[self.index]
    }

    /// Whether it is the same place in the same file.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.index == other.index && Arc::ptr_eq(&self.file, &other.file)
    }

    /// It as rows of its last dimension.
    #[must_use]
    pub fn shape(&self) -> Shape {
        shape_of(self.tensor())
    }

    /// Appends the parts that hold `bytes` bytes after `skipped` of the tensor.
    pub fn parts(&self, skipped: u64, bytes: u64, view: &mut View) {
        let tensor = self.tensor();
        let end = tensor.start + tensor.bytes;
        self.file
            .parts(tensor.start.saturating_add(skipped), bytes, end, view);
    }
}

/// A tensor as rows of its last dimension.
#[must_use]
pub fn shape_of(tensor: &Tensor) -> Shape {
    Shape {
        dtype: tensor.dtype,
        rows: tensor.shape.iter().rev().skip(1).product(),
        cols: tensor.shape.last().copied().unwrap_or(1),
    }
}

/// How a tensor is predicted.
#[derive(Clone, Debug, Default)]
pub enum Approach {
    /// Not at all.
    #[default]
    None,
    /// By the same elements of this tensor.
    Base(BaseTensor),
    /// By a recipe.
    Recipe(Arc<ByRecipe>),
}

/// A recipe and the tensors that it is over.
#[derive(Debug)]
pub struct ByRecipe {
    /// What it does.
    pub recipe: Recipe,
    /// The tensors, one for each of the recipe's sources.
    pub sources: Vec<BaseTensor>,
    bytes: Vec<u8>,
    side: Option<ChunkId>,
}

impl ByRecipe {
    /// Takes a recipe over these tensors.
    #[must_use]
    pub fn new(recipe: Recipe, sources: Vec<BaseTensor>) -> Self {
        let bytes = recipe.to_bytes();
        let side = (bytes.len() > INLINE_BYTES_MAX).then(|| ChunkId::of(&bytes));
        Self {
            recipe,
            sources,
            bytes,
            side,
        }
    }

    /// The bytes of the sources for the elements from `first` on that are `bytes` bytes of the
    /// target; nothing where that is more than a record may name.
    ///
    /// # Errors
    /// A range outside the tensor.
    pub fn view(&self, first: u64, bytes: u64) -> Result<Option<View>> {
        let count = predicted::elements(&self.recipe, bytes)?;
        let ranges = match self.recipe.sources(first, count) {
            Err(FormatError::TooLarge { .. }) => return Ok(None),
            ranges => ranges?,
        };
        let total: u64 = ranges.iter().map(|range| range.bytes).sum();
        let mut view = View::default();
        for range in ranges {
            self.sources[range.source].parts(range.start, range.bytes, &mut view);
        }
        let fits = view.parts.len() <= PARTS_MAX && total <= limits::SOURCE_BYTES_MAX;
        Ok(fits.then_some(view))
    }

    /// Whether an element follows from those at its own place alone, by rules that are the same
    /// for tensors of any shape.
    const fn is_elementwise(&self) -> bool {
        matches!(self.recipe.step, Step::Cast | Step::Linear(_)) && self.recipe.view.is_none()
    }

    /// The rule and the type of the source, where the elements are the scales of blocks.
    fn scales(&self) -> Option<(Blockwise, DType)> {
        match self.recipe.step {
            Step::Blockwise(rule) if !matches!(rule.rule(), Rule::Codes { .. }) => {
                Some((rule, self.recipe.sources[0].dtype))
            }
            _ => None,
        }
    }
}

/// The tensors of a base's files, indexed once for all files that are compared with them.
#[derive(Debug)]
pub struct Bases<'a> {
    places: Vec<(&'a Arc<BaseFile>, usize)>,
    index: pair::Bases<'a>,
}

impl<'a> Bases<'a> {
    /// Of these files.
    #[must_use]
    pub fn of(files: &'a [(String, Arc<BaseFile>)]) -> Self {
        let (mut places, mut named) = (Vec::new(), Vec::new());
        for (path, file) in files {
            for (index, tensor) in file.manifest().tensors.iter().enumerate() {
                places.push((file, index));
                named.push(Named { file: path, tensor });
            }
        }
        let index = pair::Bases::new(named);
        Self { places, index }
    }

    /// For each tensor of a file its namesake, as far as one fits.
    #[must_use]
    pub fn by_name(&self, path: &str, tensors: &[Tensor]) -> Vec<Approach> {
        let targets: Vec<_> = tensors
            .iter()
            .map(|tensor| Named { file: path, tensor })
            .collect();
        let pairs = self.index.pair(&targets).into_iter();
        let found = pairs.map(|base| {
            let (file, index) = *self.places.get(base?)?;
            Some(Approach::Base(BaseTensor {
                file: Arc::clone(file),
                index,
            }))
        });
        found.map(Option::unwrap_or_default).collect()
    }
}

/// A prediction of one chunk that can be written into its record.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The predictor.
    pub predictor: Predictor,
    /// The bytes that it takes.
    pub view: View,
    /// For predictors with a recipe: it, and the element that the chunk begins with.
    pub recipe: Option<(Arc<ByRecipe>, u64)>,
}

impl Planned {
    /// By the same elements.
    #[must_use]
    pub const fn base(view: View) -> Self {
        Self {
            predictor: Predictor::Base,
            view,
            recipe: None,
        }
    }

    /// By a recipe, for the elements from `first` on that are `bytes` bytes; nothing where a
    /// record cannot name all that it takes.
    ///
    /// # Errors
    /// A range outside the tensor.
    pub fn by_recipe(recipe: &Arc<ByRecipe>, first: u64, bytes: u64) -> Result<Option<Self>> {
        Ok(recipe.view(first, bytes)?.map(|view| Self {
            predictor: predicted::predictor_of(&recipe.recipe),
            view,
            recipe: Some((Arc::clone(recipe), first)),
        }))
    }

    /// The parameters in the record, where the recipe's side chunk is number `side`.
    #[must_use]
    pub fn parameters(&self, side: usize) -> Vec<u8> {
        let Some((recipe, first)) = &self.recipe else {
            return Vec::new();
        };
        let place = match recipe.side {
            Some(_) => Place::Side(side),
            None => Place::Inline(&recipe.bytes),
        };
        predicted::parameters(*first, place)
    }

    /// The recipe's side chunk, where it has one: its id and bytes.
    #[must_use]
    pub fn side(&self) -> Option<(ChunkId, &[u8])> {
        let (recipe, _) = self.recipe.as_ref()?;
        recipe.side.map(|side| (side, recipe.bytes.as_slice()))
    }
}

/// The prediction of small tensors that share a chunk, where one rule fits them all: their
/// elements are as many as those of their sources, in the same order.
///
/// # Errors
/// None in practice: shapes that add up.
pub fn of_group(group: &[(&Tensor, &Approach)]) -> Result<Option<Planned>> {
    let recipes = group.iter().filter(|(tensor, _)| tensor.bytes > 0);
    let recipes: Option<Vec<&Arc<ByRecipe>>> = recipes
        .map(|(_, approach)| match approach {
            Approach::Recipe(recipe) if recipe.is_elementwise() => Some(recipe),
            Approach::Recipe(_) | Approach::Base(_) | Approach::None => None,
        })
        .collect();
    let Some([first, others @ ..]) = recipes.as_deref() else {
        return Ok(None);
    };
    let types =
        |recipe: &ByRecipe| -> Vec<_> { recipe.recipe.sources.iter().map(|s| s.dtype).collect() };
    let alike = |other: &&Arc<ByRecipe>| {
        other.recipe.step == first.recipe.step && types(other) == types(first)
    };
    if !others.iter().all(alike) {
        return Ok(None);
    }
    let recipes = || std::iter::once(first).chain(others);
    let cols = recipes()
        .map(|recipe| recipe.recipe.target.elements())
        .sum();
    let flat = |dtype| Shape {
        dtype,
        rows: 1,
        cols,
    };
    let sources = types(first).into_iter().map(flat).collect();
    let target = flat(first.recipe.target.dtype);
    let joined = predict::Recipe::new(target, sources, None, first.recipe.step.clone())?;
    let mut view = View::default();
    for source in 0..first.sources.len() {
        for recipe in recipes() {
            let bytes = recipe.sources[source].tensor().bytes;
            recipe.sources[source].parts(0, bytes, &mut view);
        }
    }
    let joined = ByRecipe::new(joined, first.sources.clone());
    Ok((view.parts.len() <= PARTS_MAX).then(|| Planned {
        predictor: predicted::predictor_of(&joined.recipe),
        view,
        recipe: Some((Arc::new(joined), 0)),
    }))
}

/// The prediction of small tensors of which most are scales of blocks by one rule: what their
/// sources hold, one after the other, is blocks too. The others are foreseen as what the rule
/// makes of zeros.
///
/// # Errors
/// None in practice: shapes that add up.
pub fn of_scales(group: &[(&Tensor, &Approach)]) -> Result<Option<Planned>> {
    let recipe = |approach: &Approach| match approach {
        Approach::Recipe(recipe) => recipe.scales().map(|rule| (rule, Arc::clone(recipe))),
        Approach::Base(_) | Approach::None => None,
    };
    let Some((rule, first)) = group.iter().find_map(|(_, approach)| recipe(approach)) else {
        return Ok(None);
    };
    let (blockwise, dtype) = rule;
    let (mut view, mut known, mut elements) = (View::default(), 0, 0);
    for (tensor, approach) in group {
        let of_tensor = shape_of(tensor).elements();
        let needed = of_tensor.saturating_mul(blockwise.block());
        let bytes = dtype.bytes_of(needed).unwrap_or(u64::MAX);
        elements += of_tensor;
        match recipe(approach).filter(|(other, _)| *other == rule) {
            // A last block that is cut short is filled with zeros.
            Some((_, recipe)) => {
                recipe.sources[0].parts(0, bytes, &mut view);
                known += of_tensor;
            }
            None if of_tensor == 0 => {}
            None => view.push(Part::zeros(bytes)),
        }
    }
    let flat = |dtype, cols| Shape {
        dtype,
        rows: 1,
        cols,
    };
    let source = flat(dtype, elements.saturating_mul(blockwise.block()));
    let (target, step) = (
        flat(blockwise.target(), elements),
        Step::Blockwise(blockwise),
    );
    let joined = Recipe::new(target, vec![source], None, step)?;
    // More than a record may name.
    if joined.sources(0, elements).is_err() || view.parts.len() > PARTS_MAX || 2 * known < elements
    {
        return Ok(None);
    }
    let joined = ByRecipe::new(joined, first.sources.clone());
    Ok(Some(Planned {
        predictor: predicted::predictor_of(&joined.recipe),
        view,
        recipe: Some((Arc::new(joined), 0)),
    }))
}
