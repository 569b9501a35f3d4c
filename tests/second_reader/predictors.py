"""Predictions from sources (SPEC.md, section 7)."""

import math
import struct

import blockwise
import quantise
import recipes
from floats import BF16, F16, F32, bits_of, divide, f32, narrow, pattern, value_of, widen
from limits import Cursor, must
from objects import DTYPES
from recipes import ADAPTER, BLOCKWISE, CAST, LINEAR, LOW_RANK, QUANTISE, SAME

# The step that the recipe of a predictor has.
STEPS = {2: LOW_RANK, 3: ADAPTER, 4: SAME, 5: CAST, 6: LINEAR, 7: QUANTISE, 9: BLOCKWISE}


class Prediction:
    """Predicted bytes, and patterns where the residual coder gets a fraction."""

    def __init__(self, data, dtype=None, values=None):
        self.data, self.dtype, self.values = data, dtype, values

    def patterns(self):
        return None if self.values is None else [pattern(self.dtype, bits) for bits in self.values]


def predict(record, sources, side):
    """The prediction of a record, or None; `sources` are the bytes of its views."""
    if record.predictor == 0:
        must(not record.predictor_parameters, "no predictor has no parameters")
        return None
    if record.predictor == 1:
        must(not record.predictor_parameters, "predictor base has no parameters")
        must(len(sources) == 1, "predictor base has one source")
        must(len(sources[0]) == record.plain_bytes, "a base is as long as what it predicts")
        return Prediction(sources[0])
    must(record.predictor in STEPS, "the predictor is known")
    read = Cursor(record.predictor_parameters, "predictor parameters")
    first, place = read.varint(), read.number(1)
    if place == 255:
        data = read.take(read.left())
    else:
        must(place < len(side), "the recipe is a side chunk")
        data = side[place]
    read.end()
    recipe = recipes.parse(data)
    must(recipe.step == STEPS[record.predictor], "the predictor is that of its recipe")
    must(recipe.step != SAME or recipe.view, "the same bytes are predictor base")
    return by_recipe(recipe, first, record.plain_bytes, b"".join(sources))


def by_recipe(recipe, first, plain_bytes, data):
    """The prediction of `plain_bytes` bytes from element `first` on."""
    target = recipe.target
    _, of, per = DTYPES[target.dtype]
    must(plain_bytes % per == 0 and first % of == 0, "a range lies on borders of blocks")
    count = plain_bytes // per * of
    must(first + count <= target.rows * target.cols, "a range lies inside its tensor")
    pieces = recipes.Pieces(data)
    if recipe.step == QUANTISE:
        out = Prediction(quantise.predict(recipe, pieces, first, count))
    elif recipe.step == BLOCKWISE:
        out = Prediction(blockwise.predict(recipe, pieces, first, count))
    elif recipe.step == SAME:
        must(recipe.sources[0].dtype == target.dtype, "the same bytes are of one dtype")
        out = Prediction(recipes.base(recipe, pieces, first, count))
    else:
        values = STEP[recipe.step](recipe, pieces, first, count)
        plain = b"".join(narrow(target.dtype, bits) for bits in values)
        out = Prediction(plain, target.dtype, values)
    recipe.parameters.end()
    pieces.read.end()
    return out


def no_more_sources(recipe, count):
    must(len(recipe.sources) == recipes.base_sources(recipe) + count, "a recipe has no other sources")


def widened_base(recipe, pieces, first, count):
    return widen(recipe.sources[0].dtype, recipes.base(recipe, pieces, first, count))


def cast(recipe, pieces, first, count):
    no_more_sources(recipe, 0)
    must(recipe.sources[0].dtype != recipe.target.dtype, "a cast changes the dtype")
    return widened_base(recipe, pieces, first, count)


def linear(recipe, pieces, first, count):
    read = recipe.parameters
    coefficients = [recipes.float64(read) for _ in range(read.varint())]
    must(recipe.view is None, "a sum has no view")
    must(len(coefficients) == len(recipe.sources), "every source has a coefficient")
    sums = None
    for coefficient, source in zip(coefficients, recipe.sources):
        must(source.rows * source.cols == recipe.target.rows * recipe.target.cols, "sources of a sum are as long")
        values = map(value_of, widen(source.dtype, pieces.elements(source, first, count)))
        terms = [coefficient * value for value in values]
        sums = terms if sums is None else [a + b for a, b in zip(sums, terms)]
    return [bits_of(f32(value)) for value in sums]


def plus(base, change):
    """A base, as bits, and a change; a base that is not finite stays."""
    if base & 0x7F800000 == 0x7F800000:
        return base
    return bits_of(f32(value_of(base) + change))


def adapter(recipe, pieces, first, count):
    read, target = recipe.parameters, recipe.target
    scale, order, change_type, form = recipes.float32(read), *read.take(3)
    must(order <= 1 and form <= 2 and change_type in (F32, BF16, F16), "an adapter's parameters are known")
    by_input, decomposed = form == 1, form == 2
    no_more_sources(recipe, 3 if decomposed else 2)
    inputs, outputs = (target.rows, target.cols) if by_input else (target.cols, target.rows)
    a_shape, b_shape, *lengths = recipe.sources[recipes.base_sources(recipe) :]
    if decomposed:
        must(lengths[0].rows * lengths[0].cols == outputs, "a decomposed adapter has a magnitude for each output")
        must(inputs <= 1 << 20, "a row of a decomposed adapter is short")
    rank = a_shape.rows
    must(1 <= rank <= 4096, "an adapter has a rank")
    must((a_shape.cols, b_shape.rows, b_shape.cols) == (inputs, outputs, rank), "an adapter fits its layer")
    low, high = (0, outputs) if by_input else (first // target.cols, (first + count - 1) // target.cols + 1)
    must(rank * (inputs + high - low) <= 1 << 26, "an adapter's factors are few")
    if decomposed:  # Whole rows, of which the range is cut at the end.
        skipped, wanted = first - low * inputs, count
        first, count = low * inputs, (high - low) * inputs
    must(rank * count <= 1 << 32, "an adapter's products are few")
    bases = widened_base(recipe, pieces, first, count)
    a = [value_of(bits) for bits in widen(a_shape.dtype, pieces.elements(a_shape, 0, rank * inputs))]
    b = [value_of(bits) for bits in widen(b_shape.dtype, pieces.elements(b_shape, low * rank, (high - low) * rank))]
    out = []
    for element, base in enumerate(bases, first):
        row, col = divmod(element, target.cols)
        into, outof = (row, col) if by_input else (col, row)
        total = 0.0
        for k in range(rank):
            product = b[(outof - low) * rank + k] * a[k * inputs + into]
            total = f32(total + (product if order else f32(product)))
        change = f32(total * scale)
        if change_type != F32:
            change = value_of(widen(change_type, narrow(change_type, bits_of(change)))[0])
        out.append(plus(base, change))
    if not decomposed:
        return out
    magnitudes = widen(lengths[0].dtype, pieces.elements(lengths[0], low, high - low))
    for row, magnitude in enumerate(magnitudes):
        row *= inputs
        out[row : row + inputs] = scaled_to(value_of(magnitude), out[row : row + inputs])
    return out[skipped : skipped + wanted]


def scaled_to(magnitude, row):
    """A row, as bits, times the quotient of a magnitude and its length."""
    values = [value_of(bits) for bits in row]
    lanes = [0.0] * 8
    for place, value in enumerate(values):
        lanes[place % 8] += value * value
    total = 0.0
    for lane in lanes:
        total += lane
    factor = f32(divide(magnitude, f32(math.sqrt(total))))
    return [bits_of(f32(factor * value)) for value in values]


def low_rank(recipe, pieces, first, count):
    read, target = recipe.parameters, recipe.target
    rank, step = read.number(1), recipes.float32(read)
    must(1 <= rank <= 64 and step > 0, "a low rank has a rank and a step")
    must(rank * (target.rows + target.cols) <= 1 << 26, "a low rank's factors are few")
    no_more_sources(recipe, 0)
    must(len(recipe.sources) == 1, "a low rank has one source")
    factors = []
    for length in (target.rows, target.cols):
        entries = struct.unpack(f"{rank * length}b", read.take(rank * length))
        must(all(-63 <= entry <= 63 for entry in entries), "factors are small")
        factors.append([entries[k * length : (k + 1) * length] for k in range(rank)])
    a, b = factors
    out = []
    for element, base in enumerate(widened_base(recipe, pieces, first, count), first):
        row, col = divmod(element, target.cols)
        dot = sum(a[k][row] * b[k][col] for k in range(rank))
        out.append(plus(base, f32(f32(dot) * step)))
    return out


STEP = {CAST: cast, LINEAR: linear, ADAPTER: adapter, LOW_RANK: low_rank}
