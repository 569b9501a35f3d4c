"""Coded bytes to plain bytes (SPEC.md, section 8)."""

import zstandard

import residual
from limits import Cursor, must


def zstd_frame(frame, plain_bytes):
    """The bytes of exactly one frame."""
    try:
        said = zstandard.get_frame_parameters(frame)
        must(said.content_size == plain_bytes, "a zstd frame says the plain bytes")
        must(said.window_size <= 1 << 27 and said.dict_id == 0, "a zstd frame needs little")
        decoder = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
        plain = decoder.decompress(frame)
    except zstandard.ZstdError as error:
        must(False, f"a zstd frame is whole ({error})")
    must(decoder.eof and not decoder.unused_data, "a zstd frame stands alone")
    must(len(plain) == plain_bytes, "a zstd frame holds the plain bytes")
    return plain


def width(parameters):
    must(len(parameters) == 1 and parameters[0] in (1, 2, 4, 8), "an element has 1, 2, 4 or 8 bytes")
    return parameters[0]


def planes(coded, element_bytes, plain_bytes):
    """Coding 2."""
    count = plain_bytes // element_bytes
    read = Cursor(coded, "planes")
    out = bytearray(plain_bytes)
    for place in range(element_bytes if count else 0):
        mode = read.number(1)
        must(mode <= 2, "a plane's mode is known")
        if mode == 0:
            plane = read.take(count)
        elif mode == 1:
            plane = read.take(1) * count
        else:
            plane = zstd_frame(read.take(read.number(4)), count)
        out[place : count * element_bytes : element_bytes] = plane
    out[count * element_bytes :] = read.take(plain_bytes % element_bytes)
    read.end()
    return bytes(out)


def difference(coded, element_bytes, predicted):
    """Coding 3."""
    folded = planes(coded, element_bytes, len(predicted))
    whole = len(predicted) // element_bytes * element_bytes
    mask = (1 << 8 * element_bytes) - 1
    out = bytearray()
    for at in range(0, whole, element_bytes):
        z = int.from_bytes(folded[at : at + element_bytes], "little")
        q = int.from_bytes(predicted[at : at + element_bytes], "little")
        d = (z >> 1) ^ (mask if z & 1 else 0)
        out += (q + d & mask).to_bytes(element_bytes, "little")
    out += bytes(a + b & 255 for a, b in zip(folded[whole:], predicted[whole:]))
    return bytes(out)


def decode(record, predicted, side):
    """The plain bytes of a record, given its prediction and its side chunks; not yet checked."""
    parameters, coded, count = record.coding_parameters, record.coded, record.plain_bytes
    prediction, predicted = predicted, predicted.data if predicted else None
    must(predicted is None or len(predicted) == count, "a prediction is as long as the plain bytes")
    if record.coding in (0, 1, 4):
        must(not parameters, "this coding has no parameters")
    match record.coding:
        case 0:
            return coded
        case 1:
            return zstd_frame(coded, count)
        case 2:
            return planes(coded, width(parameters), count)
        case 3:
            return difference(coded, width(parameters), predicted)
        case 4:
            return predicted
        case _:
            return residual.decode(parameters, coded, prediction, side, count)
