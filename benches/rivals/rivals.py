"""The rivals that run in Python, each at the settings that served it best.

A rival has `encode(target, base, dtype)` to bytes or a list of bytes, and `decode(coded, base,
dtype, length)` back. Rivals that are programs have `command` instead. Plain bytes are never
changed: ZipNN works in place, so it gets a copy.
"""

import dataclasses
import lzma
from typing import Callable

import numpy as np

WIDTHS = {"BF16": 2, "F16": 2, "F32": 4}
UNSIGNED = {2: np.uint16, 4: np.uint32}
SIGNED = {2: np.int16, 4: np.int32}
PLANES = "exponent, sign and fraction apart"


@dataclasses.dataclass
class Rival:
    name: str
    # "pair", "alone" or "both".
    where: str
    settings: str
    encode: Callable = None
    decode: Callable = None
    # Measured on a slice unless all is asked for.
    slow: bool = False
    # (target, base, coded) to the words of a command, and of the way back.
    command: Callable = None
    back: Callable = None
    # ("native" or "bitx", words before DIR REPEAT) of a compiled rival.
    compiled: tuple = None


def xor(a, b):
    return np.bitwise_xor(np.frombuffer(a, np.uint8), np.frombuffer(b, np.uint8))


def ordered(data, width):
    """Floats as unsigned numbers that grow with them; few passes, since rivals pay for them."""
    return flipped(np.frombuffer(data, UNSIGNED[width]), width, 0)


def unordered(numbers, width):
    return flipped(numbers, width, -1)


def flipped(bits, width, turn):
    """All bits are turned where the sign bit says so, else the sign bit alone."""
    by = (bits.view(SIGNED[width]) ^ SIGNED[width](turn)) >> (8 * width - 1)
    by = by.view(UNSIGNED[width])
    by |= UNSIGNED[width](1 << (8 * width - 1))
    by ^= bits
    return by


def difference(target, base, width):
    numbers = ordered(target, width)
    numbers -= ordered(base, width)
    return numbers.view(SIGNED[width])


def restored(change, base, width):
    numbers = ordered(base, width)
    numbers += change.view(UNSIGNED[width])
    return unordered(numbers, width).tobytes()


# --- ZipNN


def zipnn_coder(dtype, delta):
    import zipnn

    name = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}[dtype]
    more = {"delta_compressed_type": "byte"} if delta else {}
    return zipnn.ZipNN(bytearray_dtype=name, input_format="byte", threads=1, **more)


def zipnn_encode(target, base, dtype):
    return bytes(zipnn_coder(dtype, False).compress(bytearray(target)))


def zipnn_decode(coded, base, dtype, length):
    return zipnn_coder(dtype, False).decompress(coded)


def zipnn_delta_encode(target, base, dtype):
    coder = zipnn_coder(dtype, True)
    return bytes(coder.compress(bytearray(target), delta_second_data=bytearray(base)))


def zipnn_delta_decode(coded, base, dtype, length):
    return zipnn_coder(dtype, True).decompress(coded, delta_second_data=bytearray(base))


# --- pcodec on the ordered difference, or on the ordered numbers where there is no base


def pco_encoder(level):
    def encode(target, base, dtype):
        from pcodec import ChunkConfig, DeltaSpec, ModeSpec, standalone

        width = WIDTHS[dtype]
        numbers = difference(target, base, width) if base else ordered(target, width)
        config = ChunkConfig(
            compression_level=level, mode_spec=ModeSpec.classic(), delta_spec=DeltaSpec.no_op()
        )
        return standalone.simple_compress(numbers, config)

    return encode


def pco_decode(coded, base, dtype, length):
    from pcodec import standalone

    numbers = standalone.simple_decompress(coded)
    width = WIDTHS[dtype]
    return restored(numbers, base, width) if base else unordered(numbers, width).tobytes()


# --- OpenZL: its float graph on the XOR or the weights; its numbers on the ordered difference


def openzl_coder(graph_of):
    import openzl.ext as zl

    compressor = zl.Compressor()
    compressor.set_parameter(zl.CParam.FormatVersion, zl.MAX_FORMAT_VERSION)
    compressor.select_starting_graph(graph_of(zl, compressor))
    context = zl.CCtx()
    context.ref_compressor(compressor)
    context.set_parameter(zl.CParam.FormatVersion, zl.MAX_FORMAT_VERSION)
    return zl, context


def openzl_floats(target, base, dtype):
    def graph(zl, compressor):
        node = {
            "BF16": zl.nodes.BFloat16Deconstruct,
            "F16": zl.nodes.Float16Deconstruct,
            "F32": zl.nodes.Float32Deconstruct,
        }[dtype]()
        entropy = zl.graphs.Compress()
        planes = zl.nodes.TransposeSplit()(compressor, entropy)
        return node(compressor, sign_frac=planes, exponent=entropy)

    zl, context = openzl_coder(graph)
    plain = xor(target, base) if base else np.frombuffer(target, np.uint8)
    numbers = plain.view(UNSIGNED[WIDTHS[dtype]])
    return context.compress([zl.Input(zl.Type.Numeric, numbers)])


def openzl_output(coded):
    import openzl.ext as zl

    return np.asarray(zl.DCtx().decompress(coded)[0].content.as_nparray())


def openzl_floats_back(coded, base, dtype, length):
    plain = openzl_output(coded).view(np.uint8)
    return xor(plain, base).tobytes() if base else plain.tobytes()


def openzl_difference(target, base, dtype):
    width = WIDTHS[dtype]
    change = difference(target, base, width)
    zigzag = ((change << 1) ^ (change >> (8 * width - 1))).view(UNSIGNED[width])

    def graph(zl, compressor):
        planes = zl.nodes.TransposeSplit()(compressor, zl.graphs.Compress())
        return zl.nodes.ConvertNumToStructLE()(compressor, planes)

    zl, context = openzl_coder(graph)
    return context.compress([zl.Input(zl.Type.Numeric, zigzag)])


def openzl_difference_back(coded, base, dtype, length):
    width = WIDTHS[dtype]
    zigzag = openzl_output(coded).view(UNSIGNED[width])
    one = UNSIGNED[width](1)
    change = (zigzag >> one) ^ (~(zigzag & one) + one)
    return restored(change.view(SIGNED[width]), base, width)


# --- XOR, byte planes, zstd; zstd, xz and brotli as they are


def turned(plain, dtype, by):
    """Elements rotated left, so that the exponent of bf16 and f32 fills a byte."""
    width = WIDTHS[dtype]
    bits = plain.view(UNSIGNED[width])
    if dtype == "F16":
        return plain
    return ((bits << by) | (bits >> (8 * width - by))).view(np.uint8)


def planes_encoder(level):
    def encode(target, base, dtype):
        import zstandard

        planes = turned(xor(target, base), dtype, 1).reshape(-1, WIDTHS[dtype])
        coder = zstandard.ZstdCompressor(level=level)
        return [coder.compress(np.ascontiguousarray(plane)) for plane in planes.T]

    return encode


def planes_decode(coded, base, dtype, length):
    import zstandard

    out = np.empty((length // len(coded), len(coded)), np.uint8)
    for n, plane in enumerate(coded):
        out[:, n] = np.frombuffer(zstandard.ZstdDecompressor().decompress(plane), np.uint8)
    plain = turned(out.reshape(-1), dtype, 8 * len(coded) - 1)
    return xor(plain, base).tobytes()


def zstd_encoder(level):
    def encode(target, base, dtype):
        import zstandard

        return zstandard.ZstdCompressor(level=level).compress(target)

    return encode


def zstd_decode(coded, base, dtype, length):
    import zstandard

    return zstandard.ZstdDecompressor().decompress(coded)


def xz_encode(target, base, dtype):
    return lzma.compress(target, preset=6)


def xz_decode(coded, base, dtype, length):
    return lzma.decompress(coded)


def brotli_encode(target, base, dtype):
    import brotli

    return brotli.compress(target, quality=11, lgwin=24)


def brotli_decode(coded, base, dtype, length):
    import brotli

    return brotli.decompress(coded)


def patch_command(level):
    def command(target, base, coded):
        how = [f"-{level}", "--ultra", "--long=31", f"--patch-from={base}", "--single-thread"]
        return ["zstd", "-q", "-f", *how, target, "-o", coded]

    return command


def patch_back(coded, base, out):
    return ["zstd", "-q", "-f", "-d", "--long=31", f"--patch-from={base}", coded, "-o", out]


def ours(level):
    words = ("ours", level)
    return Rival(f"sparse {level}", "both", f"level {level}", compiled=("native", words))


RIVALS = [
    ours("fast"),
    ours("default"),
    ours("max"),
    Rival(
        "sparse low rank", "pair", "level default, its change of low rank before it",
        compiled=("native", ("ours", "low-rank")),
    ),
    Rival("BitX", "pair", "authors' code, AVX2 split, zstd -3", compiled=("bitx", ())),
    Rival("FM-Delta", "pair", "from the paper", compiled=("native", ("fm-delta",))),
    Rival("ZipNN", "both", "0.5.4, the file's type", zipnn_encode, zipnn_decode),
    Rival("ZipNN delta", "pair", "0.5.4, its XOR", zipnn_delta_encode, zipnn_delta_decode),
    Rival("pcodec 8", "both", "on ordered numbers", pco_encoder(8), pco_decode),
    Rival("pcodec 12", "both", "on ordered numbers", pco_encoder(12), pco_decode),
    Rival("OpenZL floats", "both", "float graph on the XOR", openzl_floats, openzl_floats_back),
    Rival(
        "OpenZL numbers", "pair", "planes of the zigzag difference",
        openzl_difference, openzl_difference_back,
    ),
    Rival("XOR planes zstd -3", "pair", PLANES, planes_encoder(3), planes_decode),
    Rival("XOR planes zstd -19", "pair", PLANES, planes_encoder(19), planes_decode, True),
    Rival("zstd -3", "both", "", zstd_encoder(3), zstd_decode),
    Rival("zstd -19", "both", "", zstd_encoder(19), zstd_decode, True),
    Rival(
        "zstd -19 --patch-from", "pair", "--long=31 --ultra",
        slow=True, command=patch_command(19), back=patch_back,
    ),
    Rival("xz -6", "both", "", xz_encode, xz_decode, True),
    Rival("brotli 11", "both", "window 24", brotli_encode, brotli_decode, True),
]
