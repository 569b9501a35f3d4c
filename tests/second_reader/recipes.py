"""Recipes and their views: which bytes a prediction needs, and what becomes of them
(SPEC.md, 7.4 and 7.5)."""

import struct
from dataclasses import dataclass, field

from floats import WIDTH
from limits import Cursor, must
from objects import DTYPES

ELEMENTS_MAX = 1 << 50
SAME, CAST, LINEAR, ADAPTER, QUANTISE, LOW_RANK, BLOCKWISE = range(7)
NO_SOURCE = 255


@dataclass
class Shape:
    dtype: int
    rows: int
    cols: int

    def bytes_of(self, elements):
        _, of, per = DTYPES[self.dtype]
        must(elements % of == 0, "a range lies on borders of blocks")
        return elements // of * per


@dataclass
class View:
    sources: int
    kind: int
    swap: tuple = ()
    rows: list = field(default_factory=list)  # runs: (source, start, count)
    cols: list = None


@dataclass
class Recipe:
    step: int
    target: Shape
    sources: list
    view: View
    parameters: Cursor
    read: dict = field(default_factory=dict)


def shape(read):
    dtype, rows, cols = read.number(1), read.varint(), read.varint()
    must(dtype in DTYPES, "a dtype is known")
    must(max(rows, cols, rows * cols) <= ELEMENTS_MAX, "a tensor has at most 2^50 elements")
    must(cols % DTYPES[dtype][1] == 0, "a row has whole blocks")
    return Shape(dtype, rows, cols)


def runs(read, sources, lengths, total):
    """Runs of rows or columns, together `total` long."""
    out, source, expected, covered = [], 0, 0, 0
    many = read.varint()
    must(many <= 1 << 20, "a list has at most 2^20 runs")
    for _ in range(many):
        head = read.varint()
        zigzag = head >> 1
        start = (zigzag >> 1 ^ -(zigzag & 1)) + expected
        before = source
        if head & 1:
            source = read.number(1)
            must(source != before, "a run moves to another source")
            must(source < sources or source == NO_SOURCE, "a run has a source")
        if source == NO_SOURCE:
            must(zigzag == 0, "a run without source starts at 0")
            start = 0
        count = read.varint() + 1
        continues = out and out[-1][0] == source and (source == NO_SOURCE or start == expected)
        must(not continues, "a run does not continue the one before it")
        if source != NO_SOURCE:
            must(0 <= start and start + count <= lengths[source], "a run lies inside its source")
        out.append((source, start, count))
        expected = start + count
        covered += count
        must(covered <= total, "runs have the target's rows")
    must(covered == total, "runs have the target's rows")
    return out


def view(read, target, sources):
    found = View(read.number(1), read.number(1))
    must(1 <= found.sources <= len(sources) and found.kind <= 3, "a view has sources and a kind")
    must(found.sources == 1 or found.kind == 2, "only listed rows have several sources")
    first = sources[0]
    must(
        all((s.dtype, s.cols) == (first.dtype, first.cols) for s in sources[: found.sources]),
        "the sources of a view are alike",
    )
    if found.kind == 1:
        found.swap = (read.varint(), read.varint())
        must(min(found.swap) > 0 and first.rows % (found.swap[0] * found.swap[1]) == 0, "a swap divides the rows")
    if found.kind == 2:
        lengths = [s.rows for s in sources[: found.sources]]
        found.rows = runs(read, found.sources, lengths, target.rows)
    elif found.kind == 3:
        must((first.cols, first.rows) == (target.rows, target.cols), "a transposed tensor has its sides exchanged")
    else:
        must(first.rows == target.rows, "a view has the target's rows")
    flag = read.number(1)
    must(flag <= 1, "a flag is 0 or 1")
    if flag:
        must(found.kind != 3, "a transposed view has all columns")
        found.cols = runs(read, 1, [first.cols], target.cols)
        must(all(run[0] == 0 for run in found.cols), "columns have a source")
    elif found.kind != 3:
        must(first.cols == target.cols, "a view has the target's columns")
    if flag or found.kind == 3:
        must(DTYPES[first.dtype][1] == 1, "only whole elements are picked")
    must(found.kind != 0 or flag, "a view does something")
    return found


def parse(data):
    read = Cursor(data, "recipe")
    step = read.number(1)
    must(step <= 6, "a step is known")
    target = shape(read)
    count = read.number(1)
    must(1 <= count <= 64, "a recipe has sources")
    sources = [shape(read) for _ in range(count)]
    flag = read.number(1)
    must(flag <= 1, "a flag is 0 or 1")
    found = view(read, target, sources) if flag else None
    if step == BLOCKWISE:
        must(found is None, "blocks are those of one source")
    elif found is None:
        first = sources[0]
        must(first.rows * first.cols == target.rows * target.cols, "a base has the target's elements")
    recipe = Recipe(step, target, sources, found, read)
    if step in (CAST, LINEAR, ADAPTER, LOW_RANK):
        must(target.dtype in WIDTH, "the target is computable")
    if step != SAME:
        must(base_dtype(recipe) in WIDTH, "the base is computable")
    return recipe


def base_dtype(recipe):
    return recipe.sources[0].dtype


def base_sources(recipe):
    """How many of the sources make the base."""
    return recipe.view.sources if recipe.view else 1


class Pieces:
    """The bytes of the ranges that a recipe asks for, one after the other."""

    def __init__(self, data):
        self.read = Cursor(data, "source bytes")

    def elements(self, source_shape, first, count):
        """The next range: elements of a source."""
        must(0 <= first and first + count <= source_shape.rows * source_shape.cols, "a range lies inside its tensor")
        source_shape.bytes_of(first)
        return self.read.take(source_shape.bytes_of(count))


def base(recipe, pieces, first, count):
    """The base's elements [first, first + count), as bytes of the sources' type."""
    found, target = recipe.view, recipe.target
    source = recipe.sources[0]
    if found is None:
        return pieces.elements(source, first, count)
    row, end = first // target.cols, (first + count - 1) // target.cols + 1
    if found.kind == 3:
        return transposed(recipe, pieces, first, count, row, end)
    if found.kind == 2 and found.cols is None:
        return listed(recipe, pieces, first, count)
    if found.kind == 0:
        rows = pieces.elements(source, row * source.cols, (end - row) * source.cols)
    elif found.kind == 1:
        rows = swapped(found, source, pieces, row, end)
    else:
        rows = bytearray()
        cols = source.cols
        runs = [(number, start * cols, many * cols) for number, start, many in overlaps(found.rows, row, end)]
        rows = joined(recipe, pieces, runs)
    if found.cols is not None:
        rows = columns(found, source, rows)
    start = source_bytes(source, first - row * target.cols)
    return bytes(rows[start : start + source_bytes(source, count)])


def source_bytes(source, elements):
    return source.bytes_of(elements)


def overlaps(all_runs, begin, end):
    """The parts of runs that make rows [begin, end): (source, start, count)."""
    at = 0
    for number, start, many in all_runs:
        low, high = max(at, begin), min(at + many, end)
        if low < high:
            yield number, start + low - at, high - low
        at += many


def listed(recipe, pieces, first, count):
    """Exactly the range's elements, run by run."""
    cols, runs, at = recipe.target.cols, [], 0
    for number, start, many in recipe.view.rows:
        low, high = max(at * cols, first), min((at + many) * cols, first + count)
        if low < high:
            runs.append((number, start * cols + low - at * cols, high - low))
        at += many
    return joined(recipe, pieces, runs)


def joined(recipe, pieces, runs):
    """Runs of elements, from ranges in which runs that follow each other closely are joined."""
    ranges = []  # [source, first, end, elements of runs, runs]
    for number, start, many in runs:
        if number == NO_SOURCE:
            continue
        last = ranges[-1] if ranges else None
        close = last and last[0] == number and start >= last[2] and start + many - last[1] <= 2 * (last[3] + many)
        if close:
            last[2], last[3], last[4] = start + many, last[3] + many, last[4] + [(start, many)]
        else:
            ranges.append([number, start, start + many, many, [(start, many)]])
    found = []
    for number, first, end, _, inside in ranges:
        source = recipe.sources[number]
        data = pieces.elements(source, first, end - first)
        for start, many in inside:
            at = source.bytes_of(start - first)
            found.append(data[at : at + source.bytes_of(many)])
    out, source = bytearray(), recipe.sources[0]
    found = iter(found)
    for number, _, many in runs:
        out += bytes(source.bytes_of(many)) if number == NO_SOURCE else next(found)
    return bytes(out)


def swapped(found, source, pieces, row, end):
    a, b = found.swap
    group = a * b
    begin, stop = row // group * group, -(-end // group) * group
    data = pieces.elements(source, begin * source.cols, (stop - begin) * source.cols)
    length = source.bytes_of(source.cols)
    out = bytearray()
    for t in range(row, end):
        w = t % group
        at = (t - w + (w % a) * b + w // a - begin) * length
        out += data[at : at + length]
    return out


def columns(found, source, rows):
    element = DTYPES[source.dtype][2]
    out = bytearray()
    for at in range(0, len(rows), source.cols * element):
        for _, start, many in found.cols:
            out += rows[at + start * element : at + (start + many) * element]
    return out


def transposed(recipe, pieces, first, count, row, end):
    target, source = recipe.target, recipe.sources[0]
    element = DTYPES[source.dtype][2]
    if (row, end) == (0, target.rows):
        data = pieces.elements(source, 0, source.rows * source.cols)
        at = lambda i, j: (j * source.cols + i) * element
    else:
        left, right = (0, target.cols) if end - row > 1 else (first % target.cols, (first + count - 1) % target.cols + 1)
        must(right - left <= 1 << 20, "a range touches at most 2^20 transposed columns")
        data = b"".join(pieces.elements(source, j * source.cols + row, end - row) for j in range(left, right))
        at = lambda i, j: ((j - left) * (end - row) + i - row) * element
    out = bytearray()
    for e in range(first, first + count):
        where = at(e // target.cols, e % target.cols)
        out += data[where : where + element]
    return bytes(out)


def float32(read):
    value = struct.unpack("<f", read.take(4))[0]
    must(value - value == 0, "a parameter is finite")
    return value


def float64(read):
    value = struct.unpack("<d", read.take(8))[0]
    must(value - value == 0, "a parameter is finite")
    return value
