"""Numbers and checks that every part needs (SPEC.md, sections 2 and 13)."""

from blake3 import blake3

CHUNK_BYTES_MAX = 67108864
STORED_BYTES_MAX = 67174400
RECORD_HEADER_BYTES_MAX = 1048576
SOURCE_BYTES_MAX = 268435456
PACK_BYTES_MAX = 1073741824
PACK_RECORDS_MAX = 4194304
OBJECT_BYTES_MAX = 67108864
TABLE_BYTES_MAX = 16777216
DEPTH_MAX = 8
SIDE_MAX = 16
SOURCES_MAX = 256
TREE_DEPTH_MAX = 64
MESSAGE_BYTES_MAX = 1048576

CHUNK, MANIFEST, TREE, COMMIT, ATTACHMENT = 1, 2, 3, 4, 5
KINDS = {CHUNK: "chunk", MANIFEST: "manifest", TREE: "tree", COMMIT: "commit", ATTACHMENT: "attachment"}
ZEROS = bytes(32)


class Damaged(Exception):
    """Bytes are not what the format says."""


def must(holds, rule):
    """Refuses bytes for which a rule does not hold."""
    if not holds:
        raise Damaged(rule)


def plain_id(data):
    """The id of a chunk, file or pack."""
    return blake3(data).digest()


def object_id(what, data):
    """The id of an object: BLAKE3 in key-derivation mode."""
    return blake3(data, derive_key_context=f"sparse-store 2026-11 {what} v1").digest()


def record_id(kind, data):
    """The id of what a record of a kind holds."""
    return plain_id(data) if kind == CHUNK else object_id(KINDS[kind], data)


class Cursor:
    """A position in bytes that are not trusted; all numbers are little endian."""

    def __init__(self, data, what):
        self.data, self.at, self.what = data, 0, what

    def take(self, count):
        must(count <= len(self.data) - self.at, f"{self.what} is cut short")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, count):
        return int.from_bytes(self.take(count), "little")

    def varint(self):
        value, shift = 0, 0
        while True:
            byte = self.number(1)
            must(byte != 0 or shift == 0, "a varint is in its shortest form")
            value |= (byte & 0x7F) << shift
            must(value < 1 << 64, "a varint has at most 64 bits")
            if byte < 0x80:
                return value
            shift += 7

    def left(self):
        return len(self.data) - self.at

    def end(self):
        must(self.left() == 0, f"bytes are left after {self.what}")
