"""Predictor quantise: int8 and the block types of ggml (SPEC.md, section 7)."""

import math
import struct

import recipes
from floats import F32, bits_of, divide, f32, half, rounded_half, value_of, widen
from limits import must

I8 = 2
Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 = 32, 33, 34, 35, 36
Q2_K, Q3_K, Q4_K, Q5_K, Q6_K = 38, 39, 40, 41, 42


def predict(recipe, pieces, first, count):
    read = recipe.parameters
    rule = read.number(1)
    must(rule <= 1, "a rule of quantisation is known")
    if rule == 1:
        return int8(recipe, pieces, first, count)
    must(recipe.target.dtype in FILL, "the target's type has a rule")
    must(len(recipe.sources) == recipes.base_sources(recipe), "a recipe has no other sources")
    length, fill = FILL[recipe.target.dtype]
    x = values(recipe, pieces, first, count)
    return b"".join(fill(x[at : at + length]) for at in range(0, count, length))


def values(recipe, pieces, first, count):
    return [value_of(bits) for bits in widen(recipe.sources[0].dtype, recipes.base(recipe, pieces, first, count))]


def largest(x):
    """The largest magnitude; NaN is passed over."""
    most = 0.0
    for value in x:
        if abs(value) > most:
            most = abs(value)
    return most


def int8(recipe, pieces, first, count):
    read, target = recipe.parameters, recipe.target
    rounding, meeting, scale = read.take(3)
    must(rounding <= 1 and meeting <= 1 and scale <= 3, "a rule of quantisation is known")
    must(target.dtype == I8, "the target is I8")
    given = recipes.float32(read) if scale == 1 else None
    must(len(recipe.sources) == recipes.base_sources(recipe) + (scale >= 2), "a recipe has no other sources")
    row, end = first // target.cols, (first + count - 1) // target.cols + 1
    if scale == 0:
        whole = values(recipe, pieces, row * target.cols, (end - row) * target.cols)
        rows = [whole[at : at + target.cols] for at in range(0, len(whole), target.cols)]
        scales = [f32(largest(x) / 127) for x in rows]
        x = whole[first - row * target.cols :][:count]
    else:
        x = values(recipe, pieces, first, count)
    if scale >= 2:
        source = recipe.sources[-1]
        many = target.rows if scale == 2 else target.cols
        must(source.dtype == F32 and source.rows * source.cols == many, "scales fit the target")
        low, high = (row, end) if scale == 2 else (0, many)
        scales = [value_of(bits) for bits in widen(F32, pieces.elements(source, low, high - low))]
    out = bytearray()
    for element, value in enumerate(x, first):
        r, c = divmod(element, target.cols)
        s = given if scale == 1 else scales[c] if scale == 3 else scales[r - row]
        q = f32(value * f32(divide(1.0, s))) if meeting else f32(divide(value, s))
        out.append(whole_number(q, rounding) & 255)
    return bytes(out)


def whole_number(q, rounding):
    if q != q:
        return 0
    if abs(q) > 1000:
        return 127 if q > 0 else -127
    near = int(math.copysign(math.floor(abs(q) + 0.5), q)) if rounding else round(q)
    return max(-127, min(127, near))


def extreme(x):
    """The first element of the largest magnitude."""
    most, found = 0.0, 0.0
    for value in x:
        if abs(value) > most:
            most, found = abs(value), value
    return found


def inverse(d):
    return 0.0 if d == 0 else f32(divide(1.0, d))


def cut(value, low, high):
    """Towards zero, held between two; NaN is 0."""
    if value != value:
        return max(low, min(high, 0))
    if math.isinf(value):
        return high if value > 0 else low
    return max(low, min(high, int(value)))


def bounded(value, low, high):
    """R of the page, as a whole number."""
    value = f32(f32(value + 12582912.0) - 12582912.0)
    if not value > low:
        return low
    return int(value) if value < high else high


def q8_0(x):
    d = f32(abs(extreme(x)) / 127)
    scale = inverse(d)
    out = bytearray(half(d))
    for value in x:
        q = f32(value * scale)
        out.append(cut(math.copysign(math.floor(abs(q) + 0.5), q) if q - q == 0 else q, -128, 127) & 255)
    return bytes(out)


def halves(levels):
    """The bytes of low nibbles, and the fifth bits."""
    low, fifth = bytearray(), 0
    for j in range(16):
        a, b = levels[j], levels[j + 16]
        low.append(a & 15 | (b & 15) << 4)
        fifth |= (a >> 4) << j | (b >> 4) << j + 16
    return bytes(low), fifth.to_bytes(4, "little")


def signed(x, by, most):
    d = f32(extreme(x) / -by)
    scale = inverse(d)
    return half(d), [cut(f32(f32(value * scale) + (by + 0.5)), 0, most) for value in x]


def q4_0(x):
    head, levels = signed(x, 8.0, 15)
    return head + halves(levels)[0]


def q5_0(x):
    head, levels = signed(x, 16.0, 31)
    low, fifth = halves(levels)
    return head + fifth + low


def offset(x, most):
    least, top = value_of(0x7F7FFFFF), -value_of(0x7F7FFFFF)
    for value in x:
        if value < least:
            least = value
        if value > top:
            top = value
    d = f32(f32(top - least) / most)
    scale = inverse(d)
    levels = [cut(f32(f32(f32(value - least) * scale) + 0.5), 0, most) for value in x]
    return half(d) + half(least), levels


def q4_1(x):
    head, levels = offset(x, 15)
    return head + halves(levels)[0]


def q5_1(x):
    head, levels = offset(x, 31)
    low, fifth = halves(levels)
    return head + fifth + low


def search(x, w, n, start, step, steps, absolute):
    """Scale, minimum (negated) and levels of a group; every operation in binary32."""
    low = high = x[0]
    for value in x[1:]:
        low = value if value < low else low
        high = value if value > high else high
    sw, sx = w[0], f32(w[0] * x[0])
    for weight, value in zip(w[1:], x[1:]):
        sw, sx = f32(sw + weight), f32(sx + f32(weight * value))
    if low > 0:
        low = 0.0
    if high == low:
        return 0.0, -low, [0] * len(x)
    i = f32(divide(n, f32(high - low)))
    scale, best, levels = f32(divide(1.0, i)), 0.0, []

    def error_of(e):
        return abs(e) if absolute else f32(e * e)

    for weight, value in zip(w, x):
        level = bounded(f32(i * f32(value - low)), 0, n)
        levels.append(level)
        e = f32(f32(f32(scale * level) + low) - value)
        best = f32(best + f32(weight * error_of(e)))
    for s in range(steps + 1):
        i = f32(divide(f32(f32(start + f32(step * s)) + n), f32(high - low)))
        tried, sl, sl2, sxl = [], 0.0, 0.0, 0.0
        for weight, value in zip(w, x):
            level = bounded(f32(i * f32(value - low)), 0, n)
            tried.append(level)
            wl = f32(weight * level)
            sl, sl2, sxl = f32(sl + wl), f32(sl2 + f32(wl * level)), f32(sxl + f32(wl * value))
        below = f32(f32(sw * sl2) - f32(sl * sl))
        if not below > 0:
            continue
        ts = f32(divide(f32(f32(sw * sxl) - f32(sx * sl)), below))
        tm = f32(divide(f32(f32(sl2 * sx) - f32(sl * sxl)), below))
        if tm > 0:
            tm, ts = 0.0, f32(divide(sxl, sl2))
        error = 0.0
        for weight, value, level in zip(w, x, tried):
            e = f32(f32(f32(ts * level) + tm) - value)
            error = f32(error + f32(weight * error_of(e)))
        if error < best:
            levels, best, scale, low = tried, error, ts, tm
    return scale, -low, levels


def groups(x, length):
    return [x[at : at + length] for at in range(0, 256, length)]


def sub_scales(found, most):
    """Largest scale and minimum, and each group's part of them."""
    top, low = max([0.0] + [scale for scale, _, _ in found]), max([0.0] + [least for _, least, _ in found])
    ls = [bounded(f32(f32(divide(most, top)) * scale), 0, most) if top else 0 for scale, _, _ in found]
    lm = [bounded(f32(f32(divide(most, low)) * least), 0, most) if low else 0 for _, least, _ in found]
    return f32(top / most), f32(low / most), ls, lm


def levels_again(all_groups, found, d_all, m_all, ls, lm, n):
    out = []
    for group, (_, _, levels), a, b in zip(all_groups, found, ls, lm):
        d, m = f32(rounded_half(d_all) * a), f32(rounded_half(m_all) * b)
        if d != 0:
            levels = [bounded(f32(divide(f32(value + m), d)), 0, n) for value in group]
        out += levels
    return out


def k_weights(group):
    total = 0.0
    for value in group:
        total = f32(total + f32(value * value))
    average = f32(math.sqrt(f32(total / 32))) if total == total else total
    return [f32(average + abs(value)) for value in group]


def q45(x, n, start, steps):
    parts = groups(x, 32)
    found = [search(group, k_weights(group), n, f32(start), f32(0.1), steps, False) for group in parts]
    d_all, m_all, ls, lm = sub_scales(found, 63)
    levels = levels_again(parts, found, d_all, m_all, ls, lm, n)
    packed = bytearray(12)
    for j in range(8):
        if j < 4:
            packed[j], packed[j + 4] = ls[j], lm[j]
        else:
            packed[j + 4] = ls[j] & 15 | (lm[j] & 15) << 4
            packed[j - 4] |= ls[j] >> 4 << 6
            packed[j] |= lm[j] >> 4 << 6
    head = half(d_all) + half(m_all) + bytes(packed)
    low = bytearray()
    for at in range(0, 256, 64):
        low += bytes(levels[at + l] & 15 | (levels[at + l + 32] & 15) << 4 for l in range(32))
    return head, levels, bytes(low)


def q4_k(x):
    head, _, low = q45(x, 15, -1.0, 20)
    return head + low


def q5_k(x):
    head, levels, low = q45(x, 31, -0.5, 15)
    fifth = bytearray(32)
    for n in range(4):
        for l in range(32):
            fifth[l] |= (levels[64 * n + l] >> 4) << 2 * n | (levels[64 * n + l + 32] >> 4) << 2 * n + 1
    return head + bytes(fifth) + low


def pairs(levels):
    """Two bits a level, four levels a byte."""
    out = bytearray()
    for at in range(0, 256, 128):
        for l in range(32):
            out.append(sum(levels[at + l + 32 * k] << 2 * k for k in range(4)))
    return bytes(out)


def q2_k(x):
    parts = groups(x, 16)
    found = [search(group, [abs(v) for v in group], 3, -0.5, f32(0.1), 15, True) for group in parts]
    d_all, m_all, ls, lm = sub_scales(found, 15)
    levels = levels_again(parts, found, d_all, m_all, ls, lm, 3)
    scales = bytes(a | b << 4 for a, b in zip(ls, lm))
    return scales + pairs(levels) + half(d_all) + half(m_all)


TINY = f32(1e-15)


def try_scale(group, i, n):
    levels = [bounded(f32(i * value), -n, n - 1) for value in group]
    a = b = 0.0
    for value, level in zip(group, levels):
        w = f32(value * value)
        a, b = f32(a + f32(f32(w * value) * level)), f32(b + f32(f32(w * level) * level))
    return levels, a, b


def group_6(group):
    n, t = 32, extreme(group)
    if abs(t) < TINY:
        return 0.0, [0] * 16
    kept, a, b = try_scale(group, f32(divide(-n, t)), n)
    scale = f32(divide(a, b)) if b else 0.0
    best = f32(scale * a)
    for s in range(-9, 10):
        if s == 0:
            continue
        i = f32(divide(-f32(n + f32(f32(0.1) * s)), t))
        levels, a, b = try_scale(group, i, n)
        if b > 0 and f32(a * a) > f32(best * b):
            kept, scale = levels, f32(divide(a, b))
            best = f32(scale * a)
    return scale, [level + n for level in kept]


def q6_k(x):
    parts = groups(x, 16)
    found = [group_6(group) for group in parts]
    top = extreme([scale for scale, _ in found])
    if abs(top) < TINY:
        return bytes(210)
    i = f32(divide(-128.0, top))
    c = [bounded(f32(i * scale), -128, 127) for scale, _ in found]
    d_all, levels = f32(divide(1.0, i)), []
    for group, (_, old), part in zip(parts, found, c):
        d = f32(rounded_half(d_all) * part)
        levels += [bounded(f32(divide(v, d)), -32, 31) + 32 for v in group] if d != 0 else old
    low, high = bytearray(), bytearray()
    for at in range(0, 256, 128):
        for first in (0, 32):
            low += bytes(
                levels[at + first + l] & 15 | (levels[at + first + l + 64] & 15) << 4 for l in range(32)
            )
        high += bytes(sum((levels[at + l + 32 * k] >> 4) << 2 * k for k in range(4)) for l in range(32))
    return bytes(low) + bytes(high) + bytes(part & 255 for part in c) + half(d_all)


def group_3(group):
    n, t = 4, extreme(group)
    if abs(t) < TINY:
        return 0.0, [0] * 16
    levels, a, b = try_scale(group, f32(divide(-n, t)), n)
    for _ in range(5):
        changed = False
        for at, value in enumerate(group):
            w, level = f32(value * value), levels[at]
            a2 = f32(a - f32(f32(w * value) * level))
            if not a2 > 0:
                continue
            b2 = f32(b - f32(f32(w * level) * level))
            l = bounded(f32(divide(f32(value * b2), a2)), -n, n - 1)
            if l == level:
                continue
            a2, b2 = f32(a2 + f32(f32(w * value) * l)), f32(b2 + f32(f32(w * l) * l))
            if b2 > 0 and f32(f32(a2 * a2) * b) > f32(f32(a * a) * b2):
                levels[at], a, b, changed = l, a2, b2, True
        if not changed:
            break
    scale = f32(divide(a, b)) if b > 0 else 0.0
    return scale, [level + n for level in levels]


def q3_k(x):
    parts = groups(x, 16)
    found = [group_3(group) for group in parts]
    top = extreme([scale for scale, _ in found])
    packed, d_all, c = bytearray(12), 0.0, [0] * 16
    if top != 0:
        i = f32(divide(-32.0, top))
        c = [bounded(f32(i * scale), -32, 31) for scale, _ in found]
        d_all = f32(divide(1.0, i))
        for j, part in enumerate(c):
            u = part + 32
            packed[j % 8] |= (u & 15) << (0 if j < 8 else 4)
            packed[8 + j % 4] |= (u >> 4) << 2 * (j // 4)
    levels = []
    for group, (_, old), part in zip(parts, found, c):
        d = f32(rounded_half(d_all) * part)
        levels += [bounded(f32(divide(v, d)), -4, 3) + 4 for v in group] if d != 0 else old
    high = bytearray(32)
    for j, level in enumerate(levels):
        if level > 3:
            high[j % 32] |= 1 << j // 32
            levels[j] -= 4
    return bytes(high) + pairs(levels) + bytes(packed) + half(d_all)


FILL = {
    Q4_0: (32, q4_0), Q4_1: (32, q4_1), Q5_0: (32, q5_0), Q5_1: (32, q5_1), Q8_0: (32, q8_0),
    Q2_K: (256, q2_k), Q3_K: (256, q3_k), Q4_K: (256, q4_k), Q5_K: (256, q5_k), Q6_K: (256, q6_k),
}
