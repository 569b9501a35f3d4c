"""Predictor blockwise: codes of 4 bits and the scales of their blocks, coded or not (SPEC.md, section 7)."""

import struct

import recipes
from floats import F32, divide, f32, value_of, widen
from limits import must

U8 = 1

# Bits of the borders, and the codes between them.
TABLES = [
    (
        "bf591cd9 bf1c5270 beeb8480 beadea76 be703cec be0d38bc bd3a7871 3d22faff"
        " 3df64863 3e5067e0 3e9582d4 3ec753f9 3f006d03 3f248daf 3f5c89d9",
        range(16),
    ),
    (
        "bf555556 bf155551 bed55557 be955556 be555556 bdb00001 bb2aaaba 80000001"
        " 3b2aaab9 3db00000 3e555555 3e955555 3ed55556 3f155550 3f555555",
        (11, 10, 13, 12, 15, 14, 9, 8, 0, 1, 6, 7, 4, 5, 2, 3),
    ),
    (
        "bf591cd8 bf1c5270 beeb8480 beadea76 be703cec be0d38bc bd3a7871 3d22faff"
        " 3df64862 3e5067e0 3e9582d4 3ec753f9 3f006d04 3f248daf 3f5c89da",
        range(16),
    ),
    (
        "bf555556 bf155556 bed55556 be955556 be555556 bdb00000 bb2aaaab 00000000"
        " 3b2aaaab 3db00000 3e555556 3e955556 3ed55556 3f155556 3f555556",
        (11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3),
    ),
]
# Bits of the numbers above 0 that codes of 8 bits stand for.
NUMBERS = """
3513a3b7 365a1a94 370205ff 37b24206 38378034 388aefb3 38ba1f4b 3923d70b 398ce705 39c7e283 3a016f01 3a1eecc1 3a3c6a80 3a59e83e 3a7765ff 3aa7ef9d
3af1a9fc 3b1db22d 3b428f5c 3b676c8a 3b8624dd 3b989374 3bab020d 3bbd70a4 3bcfdf3b 3be24dd3 3bf4bc6a 3c039581 3c0ccccd 3c160418 3c1f3b64 3c3ae148
3c68f5c3 3c8b851f 3ca28f5d 3cb9999a 3cd0a3d7 3ce7ae15 3cfeb852 3d0ae148 3d166667 3d21eb85 3d2d70a3 3d38f5c3 3d447ae1 3d500000 3d5b851f 3d670a3d
3d728f5d 3d7e147b 3d84cccd 3d8a8f5d 3d9051eb 3d96147b 3d9bd70a 3da1999a 3da75c2a 3dad1eb8 3db2e148 3db8a3d7 3dbe6667 3dc428f7 3dc9eb85 3ddb3334
3df80000 3e0a6666 3e18cccd 3e273333 3e35999a 3e440000 3e526666 3e60cccd 3e6f3333 3e7d9999 3e860000 3e8d3334 3e946666 3e9b999a 3ea2cccc 3eaa0000
3eb13333 3eb86666 3ebf999a 3ec6cccc 3ece0000 3ed53333 3edc6666 3ee3999a 3eeacccc 3ef20000 3ef93332 3f003333 3f03cccc 3f076666 3f0b0000 3f0e999a
3f123334 3f15cccd 3f196666 3f1d0000 3f20999a 3f243334 3f27cccd 3f2b6666 3f2f0000 3f32999a 3f363334 3f39cccd 3f3d6666 3f410000 3f44999a 3f483333
3f4bcccd 3f4f6666 3f530000 3f56999a 3f5a3333 3f5dcccd 3f616666 3f650000 3f68999a 3f6c3333 3f6fcccd 3f736666 3f770000 3f7a999a 3f7e3333 3f800000
"""
ABOVE = [value_of(int(word, 16)) for word in NUMBERS.split()]
ALL = [-value for value in reversed(ABOVE[:-1])] + [0.0] + ABOVE
BETWEEN = [f32(f32(a + b) * 0.5) for a, b in zip(ALL, ALL[1:])]
BORDERS = [[value_of(int(word, 16)) for word in words.split()] for words, _ in TABLES]
LEAST = value_of(0x006CE3EE)


def predict(recipe, pieces, first, count):
    read, target, source = recipe.parameters, recipe.target, recipe.sources[0]
    rule, bits = read.take(2)
    must(rule <= 2 and 5 <= bits <= 12, "a rule of blocks is known")
    must(len(recipe.sources) == 1, "a recipe has no other sources")
    block, elements = 1 << bits, source.rows * source.cols
    each = block if rule else 2
    must(target.dtype == (F32 if rule == 1 else U8), "the target is of the rule's type")
    must(target.rows * target.cols == -(-elements // each), "the target has what the blocks give")
    if not rule:
        table, meeting = read.take(2)
        must(table <= 3 and meeting <= 2, "a rule of codes is known")
    if rule == 2:
        search, offset = read.number(1), recipes.float32(read)
        must(search <= 1, "a search of codes is known")
    unit = 256 * block if rule == 2 else block
    low = first * each // unit * unit
    high = min(-(-(first + count) * each // unit) * unit, elements)
    must(high - low <= 1 << 26, "the blocks of a range are few")
    x = [value_of(bits) for bits in widen(source.dtype, pieces.elements(source, low, high - low))]
    blocks = [x[at : at + block] for at in range(0, len(x), block)]
    if rule == 2:
        scales = [f32(largest(x) - offset) for x in blocks]
        groups = [scales[at : at + 256] for at in range(0, len(scales), 256)]
        return b"".join(scale_codes(group, search) for group in groups)[first % 256 :][:count]
    if rule:
        return b"".join(struct.pack("<f", largest(x)) for x in blocks)
    out = b"".join(coded(x, table, meeting) for x in blocks)
    return out[first - low // 2 :][:count]


def largest(x):
    """The largest magnitude; NaN is passed over."""
    most = 0.0
    for value in x:
        if abs(value) > most:
            most = abs(value)
    return most


def scale_codes(scales, search):
    """The codes of up to 256 scales less their offset."""
    factor = f32(divide(1.0, largest(scales)))
    numbers = [f32(scale * factor) for scale in scales]
    if search:
        numbers = [stepped(q) for q in numbers]
    return bytes(sum(q > border for border in BETWEEN) for q in numbers)


def stepped(q):
    if q != q:
        return q
    q = max(-1.0, min(1.0, q))
    step = int(f32(f32(f32(f32(q + 1) * 0.5) * 65535) + 0.5))
    return f32(f32(f32(2.0 * step) / 65535) - 1)


def coded(x, table, meeting):
    """The codes of a block, two in a byte; an odd last element is followed by a 0."""
    most = largest(x)
    if meeting == 0:
        numbers = [f32(divide(value, most)) for value in x + [0.0]]
    else:
        factor = f32(divide(1.0, max(most, LEAST) if meeting == 2 else most))
        numbers = [f32(value * factor) for value in x + [0.0]]
    codes = [code(number, table) for number in numbers]
    return bytes(codes[at] << 4 | codes[at + 1] for at in range(0, len(x), 2))


def code(number, table):
    if number != number:
        return 0
    return TABLES[table][1][sum(number > border for border in BORDERS[table])]
