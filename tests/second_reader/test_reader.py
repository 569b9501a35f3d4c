"""The second reader on the golden files: what is whole reads, what is damaged does not.

    python3 -m unittest discover tests/second_reader
"""

import hashlib
import itertools
import os
import shutil
import struct
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from blake3 import blake3

import objects
import packs
import predictors
import read
import recipes
import residual
from limits import OBJECT_BYTES_MAX, TABLE_BYTES_MAX, Damaged, plain_id
from store import Store, format_file, own_file

GOLDEN = os.path.join(os.path.dirname(__file__), "../../store-format/testdata/v1")
READERS = {
    "format": format_file,
    "pack": packs.pack,
    "index": packs.index,
    "record": lambda data: packs.record(data, 0, len(data)),
    "table": lambda data: own_file(data, b"SPARSERF", "references", TABLE_BYTES_MAX),
    "operation": lambda data: own_file(data, b"SPARSEOP", "operation", OBJECT_BYTES_MAX),
} | {
    what: lambda data, what=what: objects.parse(what, data)
    for what in ("manifest", "tree", "commit", "attachment")
}


def samples():
    for name in sorted(os.listdir(GOLDEN)):
        if "-" in name:
            with open(os.path.join(GOLDEN, name), "rb") as file:
                yield name, READERS[name.split("-")[0]], file.read()


class Golden(unittest.TestCase):
    def test_every_golden_file_reads(self):
        for name, reader, data in samples():
            with self.subTest(name):
                reader(data)

    def test_bytes_cut_short_are_refused(self):
        for name, reader, data in samples():
            for length in range(0, len(data), 1 + len(data) // 300):
                with self.subTest(name, length=length), self.assertRaises(Damaged):
                    reader(data[:length])

    def test_a_flipped_bit_is_refused_where_there_is_a_check(self):
        for name, reader, data in samples():
            kind = name.split("-")[0]
            for at in range(0, len(data), 1 + len(data) // 300):
                damaged = bytearray(data)
                damaged[at] ^= 1 << at % 8
                # Objects are checked by their id, the start of a pack by the pack's.
                free = kind in objects.RULES or (kind == "pack" and at < 32)
                with self.subTest(name, at=at):
                    try:
                        reader(bytes(damaged))
                        self.assertTrue(free)
                    except Damaged:
                        pass


class GoldenStore(unittest.TestCase):
    def run_reader(self, path, *more):
        stdout, stderr, argv = sys.stdout, sys.stderr, sys.argv
        with open(os.devnull, "w") as sink:
            sys.stdout = sys.stderr = sink
            sys.argv = ["read.py", path, *more]
            try:
                return read.main()
            finally:
                sys.stdout, sys.stderr, sys.argv = stdout, stderr, argv

    def test_all_files_come_out(self):
        with tempfile.TemporaryDirectory() as out:
            self.assertEqual(self.run_reader(f"{GOLDEN}/store", "--every", "--out", out), 0)
            with open(f"{out}/tags/v1/README.md", "rb") as file:
                self.assertEqual(file.read(), b"A small model.\n")
            with open(f"{out}/heads/main/model.safetensors", "rb") as file:
                self.assertEqual(file.read()[-16:].hex(), "0000a03f000000c00000003f00006040")

    def test_any_damage_to_what_is_of_record_is_found(self):
        with tempfile.TemporaryDirectory() as folder:
            path = shutil.copytree(f"{GOLDEN}/store", f"{folder}/store")
            for root, _, names in os.walk(path):
                for name in names:
                    target = os.path.join(root, name)
                    with open(target, "rb") as file:
                        data = file.read()
                    for at in range(0, len(data), 1 + len(data) // 20):
                        with open(target, "wb") as file:
                            file.write(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
                        with self.subTest(name, at=at):
                            self.assertEqual(self.run_reader(path), 1)
                    with open(target, "wb") as file:
                        file.write(data)
            self.assertEqual(self.run_reader(path), 0)

    def test_a_chunk_that_only_deeper_records_hold_is_not_a_source(self):
        store = Store(f"{GOLDEN}/store")
        for found in store.records.values():
            for record in found:
                if record.predictor == 0 and any(record.id in other[0].needs() for other in store.records.values()):
                    record.depth = 1
        name = next(name for name, found in store.records.items() if found[0].coding == packs.DIFFERENCE)
        with self.assertRaises(Damaged):
            store.plain(1, name)


VECTORS = os.path.join(os.path.dirname(__file__), "../../store-format/testdata/vectors")


def vectors(name):
    """The lines of a file of cases: words, then bytes in hex (`-` for none)."""
    with open(os.path.join(VECTORS, name)) as file:
        for number, line in enumerate(file, 1):
            yield number, line.split()


def unhex(words):
    return [b"" if word == "-" else bytes.fromhex(word) for word in words]


class Vectors(unittest.TestCase):
    def test_golden_records_of_every_predictor_come_to_their_ids(self):
        source = struct.pack("<4f", 1, 2, 3, 4)
        for name in ("low-rank", "adapter", "gather", "cast", "linear", "quantise", "blockwise"):
            with self.subTest(name), open(os.path.join(GOLDEN, f"record-{name}.bin"), "rb") as file:
                record = packs.record(data := file.read(), 0, len(data))
                sources = [
                    b"".join(source[start : start + count] for _, start, count in view) for view in record.sources
                ]
                found = predictors.predict(record, sources, [])
                self.assertEqual(plain_id(found.data), record.id)

    def test_predictions_are_the_same_bits(self):
        cases = itertools.chain.from_iterable(map(vectors, ("predictors.txt", "blockwise.txt", "odd-values.txt")))
        for number, (first, *fields) in cases:
            with self.subTest(line=number, recipe=fields[0]):
                recipe, plain, sources, patterns = unhex(fields)
                found = predictors.by_recipe(recipes.parse(recipe), int(first), len(plain), sources)
                self.assertEqual(found.data, plain)
                if patterns:
                    self.assertEqual(numbers(patterns), found.patterns())

    def test_residuals_decode_to_the_same_bytes(self):
        for number, (dtype, first, rows, cols, kind, *fields) in vectors("residual.txt"):
            with self.subTest(line=number):
                side, coded, plain, predicted = unhex(fields)
                parameters = bytes([int(dtype)]) + b"".join(leb128(int(n)) for n in (first, rows, cols))
                prediction = None if kind == "none" else Given(kind, predicted)
                found = residual.decode(parameters, coded, prediction, [side], len(plain))
                self.assertEqual(found, plain)


    def test_cuts_are_those_of_the_page(self):
        gear = [int.from_bytes(hashlib.md5(bytes([v] * 64)).digest()[:8], "big") for v in range(256)]
        for number, words in vectors("cuts.txt"):
            with self.subTest(line=number):
                total, *lengths = map(int, words)
                data = blake3(b"cut by content").digest(length=total)
                at, found = 0, []
                while at < total:
                    found.append(piece(gear, data[at : at + 262144]))
                    at += found[-1]
                self.assertEqual(found, lengths)


def piece(gear, data):
    """The length of the first piece (SPEC.md, 11.1)."""
    n, h = len(data), 0
    for i in range(16384, n - n % 2):
        h = (h << 1) + gear[data[i]] & (1 << 64) - 1
        if h & (0x0000D90703537000 if i < 65536 else 0x0000D90F03530000) == 0:
            return i
    return n


class Given:
    """A prediction that a case gives."""

    dtype = None

    def __init__(self, kind, data):
        self.data = data if kind == "same" else None
        self.given = numbers(data) if kind == "patterns" else None

    def patterns(self):
        return self.given


def numbers(data):
    return [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4)]


def leb128(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


if __name__ == "__main__":
    unittest.main()
