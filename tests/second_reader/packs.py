"""Packs, indexes and the headers of records (SPEC.md, sections 5 and 6)."""

from dataclasses import dataclass

from limits import (
    CHUNK, CHUNK_BYTES_MAX, DEPTH_MAX, KINDS, PACK_BYTES_MAX, PACK_RECORDS_MAX,
    RECORD_HEADER_BYTES_MAX, SIDE_MAX, SOURCE_BYTES_MAX, SOURCES_MAX, STORED_BYTES_MAX, ZEROS,
    Cursor, must, plain_id,
)

DIFFERENCE, EXACT, RESIDUAL, WEIGHTS = 3, 4, 5, 6


@dataclass
class Record:
    """A record: its header's fields and its coded bytes."""

    kind: int
    predictor: int
    coding: int
    depth: int
    id: bytes
    plain_bytes: int
    predictor_parameters: bytes
    coding_parameters: bytes
    side: list
    sources: list  # of views: lists of (chunk, start, bytes)
    header_bytes: int
    coded: bytes

    def needs(self):
        """What the record cannot be rebuilt without."""
        chunks = {part[0] for view in self.sources for part in view} - {ZEROS}
        return sorted(chunks | set(self.side))


def record(data, offset, end):
    """The record at an offset; its rules hold and its stored bytes are undamaged."""
    length = Cursor(data[offset : min(offset + 8, end)], "record header")
    must(length.take(4) == b"SPRC", "a record starts with its magic")
    length = length.number(4)
    must(96 <= length <= RECORD_HEADER_BYTES_MAX, "a record's header is within its limits")
    must(length <= end - offset, "a record lies within its pack")
    header = data[offset : offset + length]
    must(plain_id(header[:-8])[:8] == header[-8:], "a record's header is undamaged")
    read = Cursor(header[8:-8], "record header")
    kind, predictor, coding, depth = read.take(4)
    must(kind in KINDS and predictor <= 9 and coding <= 6, "kind, predictor and coding are known")
    must(read.take(4) == bytes(4), "reserved bytes are zero")
    name = read.take(32)
    plain_bytes, stored_bytes = read.number(8), read.number(8)
    check = read.take(8)
    predictor_parameters = read.take(read.number(4))
    coding_parameters = read.take(read.number(4))
    count = read.number(4)
    must(count <= SIDE_MAX, "side chunks are few")
    side = [read.take(32) for _ in range(count)]
    count = read.number(4)
    must(count <= SOURCES_MAX, "sources are few")
    sources = []
    for _ in range(count):
        parts = read.number(4)
        must(parts * 48 <= read.left(), "a view lies within its header")
        sources.append([(read.take(32), read.number(8), read.number(8)) for _ in range(parts)])
    read.end()
    must(1 <= plain_bytes <= CHUNK_BYTES_MAX, "plain bytes are within their limits")
    must(stored_bytes <= STORED_BYTES_MAX, "stored bytes are within their limit")
    must(stored_bytes <= end - offset - length, "a record lies within its pack")
    coded = data[offset + length : offset + length + stored_bytes]
    must(plain_id(coded)[:8] == check, "a record's stored bytes are undamaged")
    found = Record(
        kind, predictor, coding, depth, name, plain_bytes, predictor_parameters,
        coding_parameters, side, sources, length, coded,
    )
    check_rules(found)
    return found


def check_rules(record):
    total = 0
    for chunk, start, count in (part for view in record.sources for part in view):
        must(count >= 1 and start + count <= CHUNK_BYTES_MAX, "a part lies within a chunk")
        must(chunk != ZEROS or start == 0, "zeros start at 0")
        total += count
    must(total <= SOURCE_BYTES_MAX, "sources are within their limit")
    predicted = record.predictor != 0
    must((record.depth > 0) == predicted == bool(record.sources), "depth, predictor and sources go together")
    must(record.depth <= DEPTH_MAX, "depth is within its limit")
    must(predicted == (record.coding in (DIFFERENCE, EXACT, RESIDUAL)), "a coding corrects a prediction or needs none")
    must(record.kind == CHUNK or (not predicted and record.coding <= 2), "only chunks are predicted")
    if record.coding == 0:
        must(len(record.coded) == record.plain_bytes, "stored bytes are the plain ones")
    if record.coding == EXACT:
        must(not record.coded, "an exact prediction has no coded bytes")
    must(ZEROS not in record.side, "no side chunk has the zero id")
    must(record.id not in record.needs(), "no record needs itself")


@dataclass
class Row:
    """What a table says of a record."""

    id: bytes
    offset: int
    stored_bytes: int
    plain_bytes: int
    header_bytes: int
    kind: int
    predictor: int
    coding: int
    depth: int
    needs: list


def table(data, count, needs_count, table_offset):
    """The rows of a table that starts at an offset in its pack."""
    must(count <= PACK_RECORDS_MAX, "records of a pack are within their limit")
    must(len(data) == 1024 + 72 * count + 32 * needs_count, "a table is as long as its counts say")
    read = Cursor(data, "table")
    fanout = [read.number(4) for _ in range(256)]
    ids = [read.take(32) for _ in range(count)]
    must(all(a < b for a, b in zip(ids, ids[1:])), "ids of a table ascend")
    must(
        fanout == [sum(name[0] <= byte for name in ids) for byte in range(256)],
        "a fan-out counts the ids up to it",
    )
    rows, next_need, needs_at = [], 0, 1024 + 72 * count
    for name in ids:
        numbers = [read.number(8), read.number(8), read.number(8), read.number(4), *read.take(4)]
        first, many = read.number(4), read.number(4)
        must(first == next_need and first + many <= needs_count, "needs of a table follow each other")
        next_need = first + many
        spans = range(needs_at + 32 * first, needs_at + 32 * next_need, 32)
        needs = [data[at : at + 32] for at in spans]
        must(all(a < b for a, b in zip(needs, needs[1:])), "needs of a row ascend")
        row = Row(name, *numbers, needs)
        end = row.offset + row.header_bytes + row.stored_bytes
        must(row.offset % 8 == 0 and row.offset >= 32 and end <= table_offset, "a row lies in its pack")
        rows.append(row)
    must(next_need == needs_count, "needs of a table follow each other")
    return rows


def pack(data):
    """All records of a pack; every rule of packs is checked."""
    must(96 <= len(data) <= PACK_BYTES_MAX, "a pack is within its limits")
    header = Cursor(data[:32], "pack header")
    must(header.take(8) == b"SPARSEPK", "a pack starts with its magic")
    must(header.number(2) == 1, "a pack is of version 1")
    must(header.number(2) in (0, 1), "the kind of a pack is known")
    must(header.take(4) == bytes(4), "reserved bytes are zero")
    trailer = Cursor(data[-64:], "pack trailer")
    table_offset, count, needs_count = trailer.number(8), trailer.number(4), trailer.number(4)
    check = trailer.take(32)
    must(trailer.number(2) == 1, "a pack is of version 1")
    must(trailer.take(6) == bytes(6), "reserved bytes are zero")
    must(trailer.take(8) == b"SPARSEPT", "a pack ends with its magic")
    must(32 <= table_offset <= len(data) - 64 and table_offset % 8 == 0, "a table lies in its pack")
    rows_data = data[table_offset:-64]
    must(plain_id(rows_data) == check, "the table of a pack is undamaged")
    rows = table(rows_data, count, needs_count, table_offset)
    records, at = {}, 32
    for row in sorted(rows, key=lambda row: row.offset):
        must(row.offset == at, "records follow each other")
        found = record(data, at, table_offset)
        said = (row.id, row.plain_bytes, row.stored_bytes, row.header_bytes)
        said += (row.kind, row.predictor, row.coding, row.depth, row.needs)
        is_so = (found.id, found.plain_bytes, len(found.coded), found.header_bytes)
        is_so += (found.kind, found.predictor, found.coding, found.depth, found.needs())
        must(said == is_so, "a row repeats its record's header")
        records[row.id] = found
        end = at + found.header_bytes + len(found.coded)
        at = (end + 7) // 8 * 8
        must(data[end:at] == bytes(at - end), "bytes between records are zero")
    must(at == table_offset, "the table follows the records")
    return rows, records


def index(data):
    """The pack's id and length, and the rows, of an index file."""
    must(len(data) >= 96, "an index is not cut short")
    must(plain_id(data[:-32]) == data[-32:], "an index is undamaged")
    read = Cursor(data[:64], "index")
    must(read.take(8) == b"SPARSEIX", "an index starts with its magic")
    must(read.number(2) == 1, "an index is of version 1")
    must(read.take(2) == bytes(2), "reserved bytes are zero")
    count, needs_count = read.number(4), read.number(4)
    must(read.take(4) == bytes(4), "reserved bytes are zero")
    name, length = read.take(32), read.number(8)
    rows_data = data[64:-32]
    return name, length, table(rows_data, count, needs_count, length - 64 - len(rows_data))
