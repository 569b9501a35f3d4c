"""What no static coder of one symbol at a time gets below, as parts of the plain bytes.

With a base: the change of the ordered number as sign, bit length and two bits below the highest
(the others as they are), its order-0 entropy over the whole model: alone, in the context of the
base's exponent and the tensor, and in that of the row's mean change against the base's step in 32
half octaves. Without a base: the entropy of the exponent, alone and with two mantissa bits; the
rest as it is. No tables and no scales are counted, so a coder that beats one of these knows more.
"""

import pathlib
import sys

import numpy as np

import rivals

MANTISSA = {"BF16": 7, "F16": 10, "F32": 23}
EXPONENT = {"BF16": 8, "F16": 5, "F32": 8}
BIAS = {"BF16": 127, "F16": 15, "F32": 127}


def entropy(counts):
    """Bits of all symbols; the last axis is the symbol, the others are contexts."""
    counts = counts.astype(np.float64)
    total = counts.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = counts * np.log2(total / counts)
    return np.nansum(np.where(counts > 0, bits, 0.0))


def joint(context, symbol, contexts, symbols):
    flat = np.bincount(context * symbols + symbol, minlength=contexts * symbols)
    return flat.reshape(contexts, symbols)


def tensors(folder):
    at = 0
    for line in (folder / "shapes").read_text().splitlines():
        kind, rows, columns = line.split()
        length = int(rows) * int(columns) * rivals.WIDTHS[kind]
        yield kind, int(rows), slice(at, at + length)
        at += length


def values(data, kind):
    """The numbers themselves, as f32; what is not finite counts as 0."""
    if kind == "BF16":
        numbers = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
    else:
        numbers = np.frombuffer(data, {"F16": np.float16, "F32": np.float32}[kind])
    return np.nan_to_num(numbers.astype(np.float32), posinf=0.0, neginf=0.0)


def exponents(data, kind):
    width, mantissa = rivals.WIDTHS[kind], MANTISSA[kind]
    bits = np.frombuffer(data, rivals.UNSIGNED[width])
    return ((bits >> mantissa) & ((1 << EXPONENT[kind]) - 1)).astype(np.int64)


def scale_context(new, old, exponent, rows, kind):
    """The row's mean change against the step of the base's exponent, in half octaves."""
    change = np.abs(values(new, kind) - values(old, kind)).reshape(rows, -1)
    mean = np.maximum(change.mean(axis=1), 1e-30)
    octaves = np.log2(mean)[:, None] - (exponent.reshape(rows, -1) - BIAS[kind] - MANTISSA[kind])
    return np.clip(np.floor(2 * octaves) + 16, 0, 31).astype(np.int64).reshape(-1)


def with_base(folder, target, base):
    alone, scaled, per_tensor, raw, symbols = 0, 0, 0.0, 0, 2 * 34 * 4
    for kind, rows, part in tensors(folder):
        new, old, width = target[part], base[part], rivals.WIDTHS[kind]
        change = rivals.ordered(new, width).astype(np.int64) - rivals.ordered(old, width)
        size = np.abs(change)
        length = np.frexp(size.astype(np.float64))[1].astype(np.int64)
        below = np.maximum(length - 3, 0)
        # Numbers under 8 are symbols of their own; of others three bits are.
        symbol = np.where(length < 3, size, (size >> below) + 4 * (length - 3)) * 2 + (change < 0)
        raw += int(below.sum())
        exponent = exponents(old, kind)
        counts = joint(exponent, symbol, 256, symbols)
        alone = alone + counts.sum(axis=0)
        per_tensor += entropy(counts)
        scaled = scaled + joint(scale_context(new, old, exponent, rows, kind), symbol, 32, symbols)
    plain = 8 * len(target)
    return {
        "order 0": (entropy(alone) + raw) / plain,
        "exponent and tensor": (per_tensor + raw) / plain,
        "row scale": (entropy(scaled) + raw) / plain,
    }


def without_base(folder, target):
    one, three, elements, kind = 0, 0, 0, None
    for kind, rows, part in tensors(folder):
        width, mantissa = rivals.WIDTHS[kind], MANTISSA[kind]
        bits = np.frombuffer(target[part], rivals.UNSIGNED[width])
        magnitude = (bits & ((1 << (8 * width - 1)) - 1)) >> (mantissa - 2)
        counts = np.bincount(magnitude.astype(np.int64), minlength=1 << (EXPONENT[kind] + 2))
        three = three + counts
        one = one + counts.reshape(-1, 4).sum(axis=1)
        elements += len(bits)
    width = 8 * rivals.WIDTHS[kind]
    left = elements * (1 + MANTISSA[kind])
    return {
        "exponent": (entropy(one) + left) / (elements * width),
        "exponent and 2 bits": (entropy(three) + left - 2 * elements) / (elements * width),
    }


def floors(folder):
    folder = pathlib.Path(folder)
    target = (folder / "target").read_bytes()
    if (folder / "base").exists():
        return with_base(folder, target, (folder / "base").read_bytes())
    return without_base(folder, target)


if __name__ == "__main__":
    print(floors(sys.argv[1]))
