"""IEEE arithmetic and conversions, to the last bit (SPEC.md, 7.2 and 7.3).

A binary32 value is a Python float that was rounded by `f32`, or its 32 bits where NaN payloads
count. Sums, products, quotients and roots of binary32 values are rounded twice here (to
binary64, then to binary32), which gives the same as rounding once.
"""

import math
import struct

NAN = 0x7FC00000
# dtype number: (bytes, bits of mantissa, bias, top magnitude)
F16, BF16, F32, F64, E4M3, E5M2 = 9, 10, 11, 12, 13, 14
SMALL = {F16: (10, 15, 0x7C00), E4M3: (3, 7, 0x7F), E5M2: (2, 15, 0x7C)}
WIDTH = {F16: 2, BF16: 2, F32: 4, F64: 8, E4M3: 1, E5M2: 1}


def f32(value):
    """The nearest binary32; beyond the range infinite."""
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)


def value_of(bits):
    return struct.unpack("<f", struct.pack("<I", bits))[0]


def bits_of(value):
    """The bits of a binary32 value; every NaN is one."""
    return NAN if value != value else struct.unpack("<I", struct.pack("<f", value))[0]


def divide(a, b):
    """a / b as IEEE 754 has it; not rounded to binary32."""
    if b == 0:
        return math.nan if a == 0 or a != a else math.copysign(math.inf, a) * math.copysign(1, b)
    return a / b


def widen(dtype, data):
    """Elements of a computable type as the bits of binary32 values."""
    out = []
    for at in range(0, len(data), WIDTH[dtype]):
        raw = int.from_bytes(data[at : at + WIDTH[dtype]], "little")
        if dtype == F32:
            out.append(raw)
        elif dtype == BF16:
            out.append(raw << 16)
        elif dtype == F64:
            out.append(bits_of(f32(struct.unpack("<d", data[at : at + 8])[0])))
        else:
            out.append(widen_small(dtype, raw))
    return out


def widen_small(dtype, raw):
    if dtype == E5M2:
        dtype, raw = F16, raw << 8
    mantissa, bias, _ = SMALL[dtype]
    sign = raw >> (15 if dtype == F16 else 7) << 31
    exponent = raw >> mantissa & (31 if dtype == F16 else 15)
    fraction = raw & (1 << mantissa) - 1
    if dtype == F16 and exponent == 31:
        return sign | 0x7F800000 | fraction << 13
    if dtype == E4M3 and exponent == 15 and fraction == 7:
        return sign | NAN
    if exponent:
        return sign | (exponent - bias + 127) << 23 | fraction << (23 - mantissa)
    return sign | bits_of(fraction * 2.0 ** (1 - bias - mantissa))


def narrow(dtype, bits):
    """The element of a computable type nearest to a binary32 value, as bytes."""
    is_nan = bits & 0x7FFFFFFF > 0x7F800000
    sign, magnitude = bits >> 31, bits & 0x7FFFFFFF
    if dtype == F32:
        return bits.to_bytes(4, "little")
    if dtype == F64:
        return (b"\0\0\0\0\0\0\xf8\x7f") if is_nan else struct.pack("<d", value_of(bits))
    if dtype == BF16:
        raw = 0x7FC0 if is_nan else (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
        return raw.to_bytes(2, "little")
    mantissa, bias, top = SMALL[dtype]
    if is_nan:
        raw = {F16: 0x7E00, E4M3: 0x7F, E5M2: 0x7F}[dtype]
    else:
        exponent = magnitude >> 23
        if exponent + bias > 127:
            whole, drop = magnitude - (127 - bias << 23), 23 - mantissa
        else:
            whole = magnitude & 0x7FFFFF | (exponent > 0) << 23
            drop = 23 - mantissa + min(128 - bias - max(exponent, 1), 40)
        raw = whole >> drop
        rest, half = whole & (1 << drop) - 1, 1 << drop - 1
        raw = min(raw + (rest > half or (rest == half and raw & 1)), top)
    return (sign << (15 if dtype == F16 else 7) | raw).to_bytes(WIDTH[dtype], "little")


def half(value):
    """A binary32 value as a binary16 element; every NaN is 0x7E00."""
    return b"\0\x7e" if value != value else narrow(F16, bits_of(value))


def rounded_half(value):
    """A binary32 value rounded to binary16 and widened again."""
    return value_of(widen(F16, half(value))[0])


def pattern(dtype, bits):
    """Section 7.3: sign and magnitude in units of 2^-16 of the target's last place."""
    sign, magnitude = bits & 1 << 31, bits & 0x7FFFFFFF
    if dtype in (F32, BF16):
        return bits
    mantissa, bias, top = SMALL[dtype]
    exponent = magnitude >> 23
    if magnitude > 0x7F800000:
        return sign | {F16: 0x7E00, E4M3: 0x7F, E5M2: 0x7F}[dtype] << 16
    if exponent >= 128 - bias:
        scaled = (magnitude - (127 - bias << 23) << 16) >> (23 - mantissa)
    else:
        whole = magnitude & 0x7FFFFF | (exponent > 0) << 23
        scaled = (whole << 16) >> (23 - mantissa + min(128 - bias - max(exponent, 1), 40))
    # Magnitudes beyond the range would need more bits than there are.
    return sign | min(scaled, top << 16)
