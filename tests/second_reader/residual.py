"""Codings 5 and 6 (SPEC.md, section 8, "Residual coding").

Plain loops over elements: slow, and as close to the page as can be.
"""

from limits import Cursor, must
from objects import DTYPES

PART = 4096
# dtype: (bytes, bits of mantissa, bias)
FLOATS = {
    10: (2, 7, 127), 9: (2, 10, 15), 11: (4, 23, 127), 12: (8, 52, 1023),
    13: (1, 3, 7), 14: (1, 2, 15), 16: (1, 3, 8), 17: (1, 2, 16),
}
INTEGERS = {0: 1, 1: 1, 2: 1, 15: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 8, 8: 8}
F64 = 12
JUMPS = {10: 24, 9: 16, 11: 12}
ROWS, COLUMNS, HOT, FRACTION, ZEROS = 1, 2, 4, 8, 16


class Bits:
    """A bit string, lowest bit first; past its end it gives zeros."""

    def __init__(self, data):
        self.all, self.size, self.at = int.from_bytes(data, "little"), len(data), 0
        self.data = data

    def take(self, count):
        at, self.at = self.at, self.at + count
        first = at >> 3
        part = int.from_bytes(self.data[first : (at + count + 7) >> 3], "little")
        return part >> (at & 7) & (1 << count) - 1

    def bytes_used(self):
        return (self.at + 7) // 8

    def end_of_byte(self):
        """The bits up to the next byte must be zero and there."""
        must(self.bytes_used() <= self.size, "a bit string is long enough")
        must(self.take(-self.at % 8) == 0, "bits left are zero")


class Table:
    """A table of frequencies over 2^bits slots."""

    def __init__(self, bits, frequencies):
        must(sum(frequencies) == 1 << bits, "frequencies of a table fill it")
        self.bits, self.slots = bits, []
        for symbol, frequency in enumerate(frequencies):
            self.slots += [(symbol, frequency, offset) for offset in range(frequency)]


def tables(read, count, bits, alphabet):
    """A set of tables (R2.2)."""
    low, high = read.number(1), read.number(1)
    must(low <= high < alphabet, "a table's symbols are in its alphabet")
    string = Bits(read.data[read.at :])
    above, out = [0] * alphabet, []
    for _ in range(count):
        left, frequencies, lengths = 0, [0] * alphabet, [0] * alphabet
        for symbol in range(low, high + 1):
            expected = (above[symbol] + left + 1) // 2
            ones = 0
            while ones < 26 and string.take(1):
                ones += 1
            length = expected + (ones // 2 if ones % 2 == 0 else -(ones + 1) // 2)
            must(0 <= length <= bits, "a frequency's length is in range")
            if length:
                frequencies[symbol] = (1 << length - 1) + string.take(length - 1)
            left = lengths[symbol] = length
        above = lengths
        out.append(Table(bits, frequencies))
    string.end_of_byte()
    read.take(string.bytes_used())
    return out


class Coder:
    """A stream of symbols (R2.3)."""

    def __init__(self, data, lanes):
        must(len(data) >= 4 * lanes and (len(data) - 4 * lanes) % 2 == 0, "a stream has states and words")
        self.states = [int.from_bytes(data[4 * i : 4 * i + 4], "little") for i in range(lanes)]
        words = data[4 * lanes :]
        self.words = [words[i] | words[i + 1] << 8 for i in range(0, len(words), 2)]
        self.next, self.lanes, self.count = 0, lanes, 0

    def symbol(self, table):
        lane = self.count % self.lanes
        self.count += 1
        state = self.states[lane]
        found, frequency, offset = table.slots[state & (1 << table.bits) - 1]
        state = frequency * (state >> table.bits) + offset & 0xFFFFFFFF
        if state < 1 << 16:
            word = self.words[self.next] if self.next < len(self.words) else 0
            self.next += 1
            state = (state << 16 | word) & 0xFFFFFFFF
        self.states[lane] = state
        return found

    def end(self):
        must(all(state == 1 << 16 for state in self.states), "a stream ends where it began")
        must(self.next == len(self.words), "a stream uses all its words")


def scales(read, count):
    """Scales of rows or columns (R5)."""
    must(count <= 1 << 21, "only a tensor of fewer rows has scales")
    kind = read.number(1)
    must(kind <= 1, "a kind of scales is known")
    (table,) = tables(read, 1, 8, 256)
    coder = Coder(read.take(read.number(4)), 1)
    out, last = [], 0
    for _ in range(count):
        symbol = coder.symbol(table)
        if kind == 0:
            last = symbol - 60
        else:
            last += symbol // 2 if symbol % 2 == 0 else -(symbol + 1) // 2
        must(-60 <= last <= 60, "a scale is in range")
        out.append(last)
    coder.end()
    return out


def signed(read, count):
    return int.from_bytes(read.take(count), "little", signed=True)


def table_numbers(bitmap, contexts):
    """The table of each context."""
    must(bitmap & 1 == 0, "the first context has the first table")
    out, number = [], 0
    for context in range(contexts):
        number += bitmap >> context & 1
        out.append(number)
    return out


class Model:
    """What is known of a tensor: its shape and its side information (R4)."""

    def __init__(self, dtype, rows, cols, predicted, side):
        self.dtype, self.rows, self.cols, self.predicted = dtype, rows, cols, predicted
        self.G, self.row_scales, self.col_scales, self.flags, self.hot = 0, None, None, 0, []
        self.built_in = side is None
        if dtype in FLOATS:
            self.width, self.mantissa, self.bias = FLOATS[dtype]
            self.top = (1 << 8 * self.width - 1) - 1
            planes = dtype == F64 and predicted
            self.family = "planes" if planes else "difference" if predicted else "magnitude"
        else:
            must(dtype in INTEGERS, "a dtype can be coded so")
            self.width, self.family = INTEGERS[dtype], "planes"
        if self.family == "difference":
            self.alphabet()
        if self.built_in:
            must(self.family == "difference", "the built-in model is for differences")
            return
        read = Cursor(side, "side information")
        must(read.number(1) == 3, "side information is of version 3")
        number = read.number(1)
        must(number & 127 == dtype, "side information is of the tensor's dtype")
        must(dtype in INTEGERS or number >> 7 == predicted, "a model is for a prediction or for none")
        {"difference": self.difference, "magnitude": self.magnitude, "planes": self.planes}[self.family](read)
        read.end()

    def alphabet(self):
        """R6.2: what each symbol means, as (kind, start, k, sign)."""
        m = self.mantissa
        if self.width == 1:
            ranges = [(z, 0) for z in range(1, 61)]
        else:
            ranges = [(z, 0) for z in range(1, 8)]
            for o in range(3, m - 1):
                ranges += [(1 << o, o - 1), (3 << o - 1, o - 1)]
            ranges += [(j << m - 1, m - 1) for j in range(1, JUMPS[self.dtype] + 1)]
        self.ranges = ranges
        self.symbols = [("range", 0, 0, 1)]
        for start, k in ranges:
            self.symbols += [("range", start, k, 1), ("range", start, k, -1)]
        if self.width > 1:
            self.symbols += [("flip", (j - 8) * (1 << m), m, 1) for j in range(20)]
        self.escape = len(self.symbols)
        self.symbols.append(("escape", 0, 8 * self.width, 1))

    def read_scales(self, read):
        if self.flags & ROWS:
            self.row_scales = scales(read, self.rows)
        if self.flags & COLUMNS:
            self.col_scales = scales(read, self.cols)

    def difference(self, read):
        self.flags = read.number(1)
        must(self.flags < 32, "flags are known")
        self.G = signed(read, 2)
        must(abs(self.G) <= 8000, "a global scale is in range")
        if self.flags & HOT:
            must(self.width > 1, "one byte has no hot differences")
            count = read.number(1)
            must(1 <= count <= 32, "hot differences are few")
            self.hot = [signed(read, 4) for _ in range(count)]
            self.symbols += [("hot", d, 0, 1) for d in self.hot]
        self.read_scales(read)
        self.contexts = table_numbers(read.number(16), 128)
        count = self.contexts[-1] + 1
        if self.flags & ZEROS:
            self.contexts.append(count)
            count += 1
        must(count <= 40, "tables are few")
        self.tables = tables(read, count, 10, len(self.symbols))

    def magnitude(self, read):
        self.flags = read.number(1)
        must(self.flags < 4, "flags are known")
        self.lowest = signed(read, 2)
        self.read_scales(read)
        self.contexts = table_numbers(read.number(4), 32)
        must(self.contexts[-1] < 40, "tables are few")
        self.tables = tables(read, self.contexts[-1] + 1, 11, 256)
        self.plane_tables(read, self.width - min(self.width, 2))

    def planes(self, read):
        self.plane_tables(read, self.width)

    def plane_tables(self, read, count):
        self.by_plane = []
        for _ in range(count):
            flag = read.number(1)
            must(flag <= 1, "a flag is 0 or 1")
            self.by_plane.append(tables(read, 1, 12, 256)[0] if flag else None)

    def make_built_in(self, G):
        """R6.6."""
        self.G, self.tables = max(-8000, min(8000, G)), []
        self.contexts = [context // 4 for context in range(128)]
        count = len(self.symbols)
        for c in range(32):
            if self.width == 4:
                mean = (181 << c) >> 1
            else:
                mean = (27 if c % 2 else 19) << c // 2 >> 1
            ratio = (mean << 32) // (mean + 256)
            weights = [0] * count
            for s in range(1 + 2 * len(self.ranges)):
                _, start, k, _ = self.symbols[s]
                weights[s] = (1 << k) * power(ratio, start + (1 << k) // 2) + (1 << 23) // (s + 1)
            total, below, frequencies = sum(weights), 0, []
            for weight in weights:
                frequencies.append((below + weight) * 1023 // total - below * 1023 // total)
                below += weight
            frequencies[self.escape] = 1
            self.tables.append(Table(10, frequencies))

    def scale(self, element):
        """S of an element, in quarter octaves."""
        S = self.G
        if self.row_scales:
            S += self.row_scales[element // self.cols]
        if self.col_scales:
            S += self.col_scales[element % self.cols]
        return S


def power(q, x):
    result = 1 << 32
    while x > 0:
        if x & 1:
            result = result * q >> 32
        q = q * q >> 32
        x //= 2
    return result


class Expected:
    """What the prediction says of each element: sign, magnitude, fraction."""

    def __init__(self, model, data, patterns):
        self.model, self.width = model, model.width
        self.data, self.all_patterns = data, patterns

    def element(self, i):
        """The expected element as a number."""
        if self.all_patterns is not None and self.width <= 4:
            sign, ip, _ = self.parts(i)
            return sign << 8 * self.width - 1 | ip
        if self.data is None:
            return 0
        return int.from_bytes(self.data[i * self.width : (i + 1) * self.width], "little")

    def parts(self, i):
        """R6.1: sign, ip and fr."""
        top = self.model.top
        if self.all_patterns is None:
            raw = int.from_bytes(self.data[i * self.width : (i + 1) * self.width], "little")
            return raw >> 8 * self.width - 1, raw & top, 0
        pattern = self.all_patterns[i]
        sign, X = pattern >> 31, pattern & 0x7FFFFFFF
        if self.width == 4:
            return sign, X, 0
        up = X + (1 << 15)
        return sign, min(up >> 16, top), (up & 65535) - (1 << 15)


def decode(parameters, coded, prediction, side, plain_bytes):
    """The plain bytes of a record of coding 5 or 6."""
    read = Cursor(parameters, "coding parameters")
    dtype, first, rows, cols = read.number(1), read.varint(), read.varint(), read.varint()
    read.end()
    must(dtype in DTYPES, "a dtype is known")
    predicted = prediction is not None
    if rows == 0 and cols == 0:
        model = Model(dtype, 0, 0, predicted, None)
    else:
        must(side, "a model is the first side chunk")
        model = Model(dtype, rows, cols, predicted, side[0])
    must(plain_bytes % model.width == 0, "plain bytes are whole elements")
    count = plain_bytes // model.width
    must(model.built_in or first + count <= rows * cols, "a run lies inside its tensor")
    must(not predicted or prediction.dtype in (None, dtype), "a prediction is of the dtype")
    expected = Expected(model, prediction.data if predicted else None, prediction.patterns() if predicted else None)
    read = Cursor(coded, "coded bytes")
    if model.built_in:
        model.make_built_in(signed(read, 2))
    heads = []
    blocks = 1 if count <= 1 << 17 else 2 * -(-count >> 20)
    length = PART * max(-(-count // (PART * blocks)), 1)
    for _ in range(-(-count // length)):
        heads.append((read.number(1), read.number(3), read.number(3)))
    out, begin = bytearray(), 0
    for mode, a, b in heads:
        n = min(length, count - begin)
        stream, raw = read.take(a), read.take(b)
        must(mode <= 4 and (mode == 0 or a == 0), "a mode of a block is known")
        elements = MODES[mode](model, expected, first, begin, n, stream, raw)
        out += b"".join(element.to_bytes(model.width, "little") for element in elements)
        begin += n
    read.end()
    return bytes(out)


def coded_block(model, expected, first, begin, n, stream, raw):
    return FAMILIES[model.family](model, expected, first, begin, n, stream, raw)


def equal(model, expected, first, begin, n, stream, raw):
    must(not raw, "an equal block has no bytes")
    return [expected.element(i) for i in range(begin, begin + n)]


def exceptions(model, expected, first, begin, n, stream, raw):
    out = equal(model, expected, first, begin, n, stream, b"")
    read, at = Cursor(raw, "exceptions"), 0
    for _ in range(short(read)):
        at += short(read)
        must(at < n, "an exception lies inside its block")
        out[at] = read.number(model.width)
        at += 1
    read.end()
    return out


def short(read):
    """A varint of at most four bytes."""
    value = 0
    for shift in range(0, 28, 7):
        byte = read.number(1)
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    must(False, "a varint has at most four bytes")


def plain(model, expected, first, begin, n, stream, raw):
    must(len(raw) == n * model.width, "a plain block has its bytes")
    return [int.from_bytes(raw[i : i + model.width], "little") for i in range(0, len(raw), model.width)]


def constant(model, expected, first, begin, n, stream, raw):
    must(len(raw) == model.width, "a constant block has one element")
    return [int.from_bytes(raw, "little")] * n


MODES = [coded_block, equal, exceptions, plain, constant]


def difference(model, expected, first, begin, n, stream, raw):
    """R6.3 to R6.5."""
    m, top, width = model.mantissa, model.top, model.width
    wide = width == 4
    LO, h = (-4 * (model.bias + m) - 8, 2) if wide else (-4 * (model.bias + m) - 20, 1)
    coder, bits = Coder(stream, 1 if model.built_in else 32), Bits(raw)
    sign_bit, out = 8 * width - 1, []
    for i in range(begin, begin + n):
        sign, ip, fr = expected.parts(i)
        S = model.scale(first + i)
        zero = model.flags & ZEROS and ip == 0
        if zero:
            context = 128
        else:
            c0 = max(0, min(31, (S - 4 * (ip >> m) - LO) >> h))
            c1 = 0
            if model.flags & FRACTION:
                c1 = min(abs(fr) >> 13, 3)
            elif model.flags & HOT:
                c1 = ip >> (m - 2) & 3
            context = 4 * c0 + c1
        symbol = coder.symbol(model.tables[model.contexts[context]])
        kind, start, k, way = model.symbols[symbol]
        if kind == "escape":
            out.append(bits.take(k))
        elif zero:
            if symbol:
                v = bits.take(m + 1)
                sign = v >> m
                E = max(0, min(top >> m, (S >> 2) + model.bias))
                ip = ((E + symbol - 41) * (1 << m) + (v & (1 << m) - 1)) & top
            out.append(sign << sign_bit | ip)
        else:
            d = start + bits.take(k)
            if kind == "flip":
                out.append((1 - sign) << sign_bit | (ip + d) & top)
            else:
                d *= way * (-1 if fr < 0 else 1)
                out.append(sign << sign_bit | (ip + d) & top)
    coder.end()
    bits.end_of_byte()
    must(bits.bytes_used() == len(raw), "a bit string is used up")
    return out


def magnitude(model, expected, first, begin, n, stream, raw):
    """R7."""
    head_bytes = min(model.width, 2)
    tail_bytes = model.width - head_bytes
    octave = model.mantissa if model.width == 1 else 2
    low = model.mantissa - 8 * tail_bytes - octave
    read = Cursor(raw, "raw bytes")
    tails = [plane(read, n, table) for table in model.by_plane]
    coder, bits = Coder(stream, 32), Bits(read.data[read.at :])
    heads = []
    mask = (1 << 8 * head_bytes - 1) - 1
    for i in range(begin, begin + n):
        S = model.scale(first + i)
        near = max(0, min(7, (S >> 2) + 4))
        symbol = coder.symbol(model.tables[model.contexts[8 * (S & 3) + near]])
        if symbol in (0, 255):
            heads.append(None if symbol else 0)
        else:
            v = bits.take(low + 1)
            upper = (S >> 2 << octave) + model.lowest + symbol - 1
            value = ((upper << low) + (v & (1 << low) - 1)) & mask
            heads.append(v >> low << 8 * head_bytes - 1 | value)
    coder.end()
    bits.end_of_byte()
    read.take(bits.bytes_used())
    heads = [read.number(head_bytes) if head is None else head for head in heads]
    read.end()
    out = []
    for i, head in enumerate(heads):
        for at, tail in enumerate(tails):
            head = head | 0 if at else head << 8 * tail_bytes
            head |= tail[i] << 8 * at
        out.append(head)
    return out


def plane(read, n, table):
    """R8."""
    out = b""
    while len(out) < n:
        kind, run = read.number(1), read.number(3)
        must(kind <= 2, "a plane's kind is known")
        must(0 < run <= n - len(out), "the runs of a plane have its bytes")
        if kind == 0:
            out += read.take(run)
        elif kind == 1:
            out += read.take(1) * run
        else:
            must(table is not None, "a coded plane has a table")
            coder = Coder(read.take(read.number(3)), 32)
            out += bytes(coder.symbol(table) for _ in range(run))
            coder.end()
    return out


def planes(model, expected, first, begin, n, stream, raw):
    """R8: integers, and F64 with a prediction."""
    must(not stream, "planes have no stream")
    read, bits = Cursor(raw, "raw bytes"), 8 * model.width
    all_planes = [plane(read, n, table) for table in model.by_plane]
    read.end()
    mask, top = (1 << bits) - 1, 1 << bits - 1
    out = []
    for i in range(n):
        u = sum(one[i] << 8 * place for place, one in enumerate(all_planes))
        if model.predicted:
            change = u // 2 if u % 2 == 0 else -(u + 1) // 2
            base = expected.element(begin + i)
            if model.dtype == F64:
                base = base ^ mask if base & top else base | top
                u = base + change & mask
                u = u ^ top if u & top else u ^ mask
            else:
                u = base + change & mask
        out.append(u)
    return out


FAMILIES = {"difference": difference, "magnitude": magnitude, "planes": planes}
