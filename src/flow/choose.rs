//! How each tensor of a file is best predicted: what may have made it is tried on a few strips,
//! and the cheapest stays.
//!
//! May use: tiers 0 to 4. Appends nothing. Holds: the same file over the same relatives gives the
//! same choices on any number of threads; a wrong choice costs bytes, never correctness.

mod blocks;
mod gathers;
mod low_rank;
mod trials;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use store_format::ids::ChunkId;
use store_format::layout::Tensor;

use crate::bytes::{FileBytes, ReadAt};
use crate::codec::Level;
use crate::error::Result;
use crate::flow::approach::{Approach, BaseTensor, ByRecipe, shape_of};
use crate::flow::code::Writer;
use crate::flow::relatives::Relatives;
use crate::layout::{self, Parsed, cut};
use crate::par::Budget;
use crate::plan::trial;
use crate::predict::adapter::Adapter;
use crate::predict::linear::Linear;
use crate::predict::quantise::Quantise;
use crate::predict::{Recipe, Shape, Step, float};

use blocks::Blocks;
use trials::Target;

/// Tensors that are looked at together.
const IN_FLIGHT: Budget = Budget {
    bytes_max: 192 << 20,
    count_max: 64,
};

/// What looking at a tensor takes besides the chunks that the rebuilder keeps.
const BYTES_EACH: usize = 32 << 20;

/// A tensor of fewer elements follows the others of its file.
const SMALL_ELEMENTS: u64 = 1 << 16;

/// Tensors that are looked at before the others.
const PROBES: usize = 4;

/// Versions that an adapter is tried on.
const ADAPTED_MAX: usize = 2;

/// Parents that a sum is looked for among.
const PARENTS_MAX: usize = 6;

/// A recipe is taken for this part of what the plain difference costs, or less: it asks more of
/// the reader.
const WORTH: f64 = 0.85;

/// Chooses for every tensor of a file, in the order of the file's tensors: `choices` has their
/// namesakes in the base, and those that are `known` stay.
///
/// # Errors
/// Failures of the disk; a wish to stop.
pub fn choose(
    writer: &Writer<'_>,
    file: &FileBytes,
    parsed: &Parsed,
    relatives: &Relatives,
    mut choices: Vec<Approach>,
    known: &BTreeSet<usize>,
) -> Result<Vec<Approach>> {
    let chooser = Chooser {
        writer,
        file,
        relatives,
        blocks: Blocks::of(&parsed.tensors),
    };
    let shares = shares_chunk(parsed);
    let elements = |index: &usize| shape_of(&parsed.tensors[*index]).elements();
    let unknown = (0..choices.len()).filter(|index| !known.contains(index));
    let (large, small): (Vec<_>, Vec<_>) = unknown
        .into_iter()
        .partition(|index| elements(index) >= SMALL_ELEMENTS);
    let (probes, others) = probes(large);
    let mut looks = Looks::everything();
    for indices in [probes, others, small] {
        let jobs: Vec<_> = indices
            .iter()
            .map(|index| Ok((BYTES_EACH, (*index, choices[*index].clone()))))
            .collect();
        let mut found = Vec::new();
        writer.pool.ordered(
            jobs.into_iter(),
            IN_FLIGHT,
            |(index, base)| {
                let tensor = &parsed.tensors[index];
                let choice = chooser.choose(tensor, shares[index], base, &looks)?;
                Ok((index, choice))
            },
            |choice| {
                found.push(choice);
                writer.progress.check()
            },
        )?;
        looks.learn(&found, &choices);
        for (index, choice) in found {
            choices[index] = choice.approach;
        }
    }
    Ok(choices)
}

/// For each tensor whether it shares its chunk with others. Such a chunk is predicted as a whole:
/// from the same elements of its bases, by a rule that looks at each element alone, or as scales.
/// Nothing else is worth a look, however many such tensors there are.
fn shares_chunk(parsed: &Parsed) -> Vec<bool> {
    let mut shares = vec![false; parsed.tensors.len()];
    for stretch in layout::stretches(parsed) {
        if let cut::Stretch::Span(span) = stretch
            && let cut::View::Group {
                first_tensor,
                count,
            } = span.view
        {
            shares[first_tensor..first_tensor + count].fill(true);
        }
    }
    shares
}

/// A few large tensors from all over the file that tell what it is worth to look for in the
/// others, and those.
fn probes(large: Vec<usize>) -> (Vec<usize>, Vec<usize>) {
    let count = large.len();
    let is_probe = |at: usize| (0..PROBES).any(|n| at == (2 * n + 1) * count / (2 * PROBES));
    let (probes, others): (Vec<_>, Vec<_>) = large
        .into_iter()
        .enumerate()
        .partition(|(at, _)| is_probe(*at));
    let indices = |list: Vec<(usize, usize)>| list.into_iter().map(|(_, index)| index).collect();
    (indices(probes), indices(others))
}

/// What is looked for in a tensor besides what its own name and base say.
struct Looks {
    /// Other versions of the tensor.
    other_bases: bool,
    /// Weighted sums of versions.
    sums: bool,
    /// The sum that most tensors are: the places of its parents among all, and their weights.
    usual: BTreeMap<Vec<usize>, (usize, Linear)>,
}

impl Looks {
    const fn everything() -> Self {
        Self {
            other_bases: true,
            sums: true,
            usual: BTreeMap::new(),
        }
    }

    /// Learns from the first tensors what need not be looked for in the others: a file is made
    /// as a whole.
    fn learn(&mut self, found: &[(usize, Choice)], bases: &[Approach]) {
        let told: Vec<_> = found.iter().filter(|(_, choice)| choice.tells).collect();
        for (_, choice) in &told {
            if let (Some(parents), Approach::Recipe(recipe)) = (&choice.parents, &choice.approach)
                && let Step::Linear(linear) = &recipe.recipe.step
            {
                let usual = self.usual.entry(parents.clone());
                usual.or_insert((0, linear.clone())).0 += 1;
            }
        }
        if told.is_empty() {
            return;
        }
        self.sums &= told.iter().any(|(_, choice)| choice.parents.is_some());
        self.other_bases &= told.iter().any(|(index, choice)| {
            let same =
                |base: &BaseTensor| matches!(&bases[*index], Approach::Base(own) if own.is(base));
            matches!(&choice.approach, Approach::Base(base) if !same(base))
                || matches!(&choice.approach, Approach::Recipe(recipe)
                    if matches!(recipe.recipe.step, Step::LowRank(_)) && !same(&recipe.sources[0]))
        });
    }

    fn usual(&self) -> Option<(&[usize], &Linear)> {
        let most = self.usual.iter().max_by_key(|(_, (count, _))| *count);
        most.map(|(parents, (_, linear))| (parents.as_slice(), linear))
    }
}

/// What was found for a tensor.
struct Choice {
    approach: Approach,
    /// For a sum: the places of its parents among all.
    parents: Option<Vec<usize>>,
    /// Whether the tensor says something about how its file was made.
    tells: bool,
}

/// What choosing needs to know.
struct Chooser<'a> {
    writer: &'a Writer<'a>,
    file: &'a FileBytes,
    relatives: &'a Relatives,
    blocks: Blocks<'a>,
}

/// The cheapest so far.
struct Best {
    cost: f64,
    approach: Approach,
}

impl Best {
    /// Takes an approach that costs enough less: a recipe instead of a recipe whatever it saves.
    fn offer(&mut self, cost: f64, approach: impl FnOnce() -> Approach) {
        let worth = match self.approach {
            Approach::None | Approach::Base(_) => WORTH,
            Approach::Recipe(_) => 1.0,
        };
        if cost < self.cost * worth {
            self.cost = cost;
            self.approach = approach();
        }
    }

    fn is_exact(&self) -> bool {
        self.cost <= 0.0
    }
}

impl Chooser<'_> {
    /// Chooses for one tensor whose namesake in the base is `base`; `shares` says that its chunk is
    /// not its own ([`shares_chunk`]).
    fn choose(
        &self,
        tensor: &Tensor,
        shares: bool,
        base: Approach,
        looks: &Looks,
    ) -> Result<Choice> {
        let shape = shape_of(tensor);
        let named = self.relatives.named(&tensor.name);
        let weights = self.blocks.weights(tensor, self.relatives);
        let silent = |approach| Choice {
            approach,
            parents: None,
            tells: false,
        };
        if self.is_known(tensor, shape)? {
            return Ok(silent(base));
        }
        let strips = trial::strips(shape, trial::FEW);
        let is_new = named.is_empty() && weights.is_empty() && matches!(base, Approach::None);
        if strips.is_empty() || is_new {
            return Ok(silent(if shares {
                base
            } else {
                self.gathered(tensor, base, None)?
            }));
        }
        let target = Target::read(self.file, tensor, shape, strips)?;
        if let Some((parents, linear)) = looks.usual()
            && let Some(recipe) = sum(shape, named, parents, linear)
            && self.cost(&target, &recipe)? <= 0.0
        {
            return Ok(silent(Approach::Recipe(recipe)));
        }
        let mut best = Best {
            cost: trial::plain_cost(target.bytes.len()),
            approach: Approach::None,
        };
        if let Approach::Base(base) = &base {
            let cost = self.cost_of_base(&target, base)?;
            best.offer(cost, || Approach::Base(base.clone()));
        }
        let tells = !best.is_exact();
        if tells {
            self.blockwise(tensor, &target, &mut best)?;
        }
        self.look(&target, named, shares, looks, &mut best)?;
        let approach = if shares {
            best.approach
        } else {
            self.refined(tensor, &target, best)?
        };
        let parents = match &approach {
            Approach::Recipe(recipe) if matches!(recipe.recipe.step, Step::Linear(_)) => {
                let all = parents(shape, named);
                let place = |source: &BaseTensor| all.iter().position(|one| one.is(source));
                recipe.sources.iter().map(place).collect()
            }
            Approach::Recipe(_) | Approach::Base(_) | Approach::None => None,
        };
        Ok(Choice {
            approach,
            parents,
            tells,
        })
    }

    /// Tries what may have made the tensor, the likeliest first, until nothing is left to save.
    fn look(
        &self,
        target: &Target,
        named: &[BaseTensor],
        shares: bool,
        looks: &Looks,
        best: &mut Best,
    ) -> Result<()> {
        if !best.is_exact() {
            self.other_types(target, named, shares, best)?;
        }
        if !shares && !best.is_exact() {
            self.merged_adapters(target, named, best)?;
        }
        if looks.other_bases && !best.is_exact() {
            self.other_bases(target, named, best)?;
        }
        if looks.sums && !best.is_exact() {
            self.sums(target, named, best)?;
        }
        Ok(())
    }

    /// Rows and columns from elsewhere where nothing else is known, a change of low rank where
    /// only a base is.
    fn refined(&self, tensor: &Tensor, target: &Target, best: Best) -> Result<Approach> {
        if best.is_exact() || matches!(best.approach, Approach::Recipe(_)) {
            return Ok(best.approach);
        }
        if best.cost > trial::plain_cost(target.bytes.len()) / 2.0
            && let found @ Approach::Recipe(_) =
                self.gathered(tensor, Approach::None, Some(target))?
        {
            return Ok(found);
        }
        if let Approach::Base(base) = &best.approach
            && self.writer.level != Level::Fast
            && let Some(recipe) = self.low_rank(target, base, best.cost)?
        {
            return Ok(Approach::Recipe(recipe));
        }
        Ok(best.approach)
    }

    /// Whether the store holds the chunk that a tensor begins with: then it holds most likely all
    /// of them, and nothing needs to be found.
    fn is_known(&self, tensor: &Tensor, shape: Shape) -> Result<bool> {
        if shape.elements() < SMALL_ELEMENTS {
            return Ok(false);
        }
        let bytes = usize::try_from(cut::first_bytes(tensor)).unwrap_or(usize::MAX);
        let first = self.file.read_vec(tensor.start, bytes)?;
        Ok(self.writer.txn.held(&ChunkId::of(&first).into()))
    }

    /// Other versions of the same tensor.
    fn other_bases(&self, target: &Target, named: &[BaseTensor], best: &mut Best) -> Result<()> {
        for base in named.iter().filter(|base| base.shape() == target.shape) {
            if best.is_exact() {
                break;
            }
            if !matches!(&best.approach, Approach::Base(known) if known.is(base)) {
                let cost = self.cost_of_base(target, base)?;
                best.offer(cost, || Approach::Base(base.clone()));
            }
        }
        Ok(())
    }

    /// A base with an adapter merged into it.
    fn merged_adapters(
        &self,
        target: &Target,
        named: &[BaseTensor],
        best: &mut Best,
    ) -> Result<()> {
        for adapter in self.relatives.adapters(&target.name) {
            let bases = named.iter().filter(|base| {
                base.shape().elements() == target.shape.elements()
                    && float::is_computable(base.shape().dtype)
            });
            for base in bases.take(ADAPTED_MAX) {
                let sources = adapter.sources(base);
                for way in Adapter::candidates(adapter.scale, base.shape().dtype, adapter.form) {
                    let step = Step::Adapter(way);
                    self.offer(target, None, step, &sources, best)?;
                    if best.is_exact() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// The same elements in another type: cast or quantised, and in the other order of rotary
    /// halves.
    fn other_types(
        &self,
        target: &Target,
        named: &[BaseTensor],
        shares: bool,
        best: &mut Best,
    ) -> Result<()> {
        let has_elements = |base: &&BaseTensor| {
            let shape = base.shape();
            shape.elements() == target.shape.elements()
                && (shape.dtype != target.shape.dtype || shape.cols == target.shape.cols)
        };
        for base in named.iter().filter(has_elements).take(PARENTS_MAX) {
            let (from, to) = (base.shape().dtype, target.shape.dtype);
            let steps = if from == to {
                vec![Step::Same]
            } else if float::is_computable(from) && float::is_computable(to) {
                vec![Step::Cast]
            } else if !shares && float::is_computable(from) {
                let rules = Quantise::candidates(to).into_iter();
                rules.map(Step::Quantise).collect()
            } else {
                continue;
            };
            let sources = [base.clone()];
            for step in steps {
                if step != Step::Same {
                    self.offer(target, None, step.clone(), &sources, best)?;
                }
                // Far off, so perhaps the rows stand in another order.
                if !shares && best.cost > 0.2 * trial::plain_cost(target.bytes.len()) {
                    for view in gathers::rotary_orders(target.shape) {
                        self.offer(target, Some(view), step.clone(), &sources, best)?;
                    }
                }
                if best.is_exact() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// A weighted sum of several versions.
    fn sums(&self, target: &Target, named: &[BaseTensor], best: &mut Best) -> Result<()> {
        let parents = parents(target.shape, named);
        if parents.len() < 2 || !float::is_computable(target.shape.dtype) {
            return Ok(());
        }
        let values = target.values();
        let mut columns = Vec::with_capacity(parents.len());
        for parent in &parents {
            columns.push(self.values(target, parent)?);
        }
        // Versions of one model lie close to each other, so a sum of all of them fits noise:
        // pairs and triples are tried, the smallest first.
        for used in subsets(parents.len()) {
            let slices: Vec<&[f32]> = used.iter().map(|at| columns[*at].as_slice()).collect();
            let Some(linear) = Linear::find(target.shape.dtype, &values, &slices) else {
                continue;
            };
            let sources: Vec<_> = used.iter().map(|at| parents[*at].clone()).collect();
            self.offer(target, None, Step::Linear(linear), &sources, best)?;
            if best.is_exact() {
                break;
            }
        }
        Ok(())
    }

    fn offer(
        &self,
        target: &Target,
        view: Option<crate::predict::gather::Gather>,
        step: Step,
        sources: &[BaseTensor],
        best: &mut Best,
    ) -> Result<()> {
        let shapes = sources.iter().map(BaseTensor::shape).collect();
        let Ok(recipe) = Recipe::new(target.shape, shapes, view, step) else {
            return Ok(());
        };
        let recipe = Arc::new(ByRecipe::new(recipe, sources.to_vec()));
        let cost = self.cost(target, &recipe)?;
        best.offer(cost, || Approach::Recipe(recipe));
        Ok(())
    }
}

/// The versions of a tensor that it may be a sum of.
fn parents(shape: Shape, named: &[BaseTensor]) -> Vec<BaseTensor> {
    let fits = |base: &&BaseTensor| {
        base.shape().elements() == shape.elements() && float::is_computable(base.shape().dtype)
    };
    named
        .iter()
        .filter(fits)
        .take(PARENTS_MAX)
        .cloned()
        .collect()
}

/// The pairs, then the triples of so many, then all of them.
fn subsets(count: usize) -> impl Iterator<Item = Vec<usize>> {
    let pairs = (0..count).flat_map(move |a| (a + 1..count).map(move |b| vec![a, b]));
    let triples = (0..count).flat_map(move |a| {
        (a + 1..count).flat_map(move |b| (b + 1..count).map(move |c| vec![a, b, c]))
    });
    let all = (count > 3).then(|| (0..count).collect());
    pairs.chain(triples).chain(all)
}

/// The sum of these parents, by their places among all, with these weights.
fn sum(
    shape: Shape,
    named: &[BaseTensor],
    places: &[usize],
    linear: &Linear,
) -> Option<Arc<ByRecipe>> {
    let all = parents(shape, named);
    let parents: Option<Vec<_>> = places.iter().map(|at| all.get(*at).cloned()).collect();
    let parents = parents?;
    let shapes = parents.iter().map(BaseTensor::shape).collect();
    let step = Step::Linear(linear.clone());
    let recipe = Recipe::new(shape, shapes, None, step).ok()?;
    Some(Arc::new(ByRecipe::new(recipe, parents)))
}
