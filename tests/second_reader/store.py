"""A store's directory: what it is, its state, and every chunk and object in it."""

import os
import re

import codings
import objects
import packs
import predictors
from limits import (
    CHUNK, DEPTH_MAX, KINDS, TABLE_BYTES_MAX, OBJECT_BYTES_MAX, ZEROS, Cursor, Damaged, must,
    object_id, plain_id, record_id,
)

CACHE_BYTES = 256 << 20


def format_file(data):
    """Section 4: the lines of the format file, once this reader may go on."""
    must(len(data) <= 4096, "the format file is short")
    try:
        text = data.decode()
    except UnicodeError as error:
        raise Damaged("the format file is text") from error
    body, mark, check = text.rpartition("\ncheck ")
    must(mark, "the format file has a check")
    body += "\n"
    must(check == plain_id(body.encode()).hex() + "\n", "the format file is undamaged")
    lines = body.split("\n")
    must(lines[0] == "sparse store", "the format file says so")
    number = r"(0|[1-9][0-9]{0,9})"
    reader = re.fullmatch(f"reader {number}", lines[3] if len(lines) > 3 else "")
    must(reader, "the format file says who can read")
    if int(reader[1]) > 1:
        raise Damaged(f"too new: the store needs a reader of version {reader[1]}")
    rule = rf"sparse store\nid [0-9a-f]{{32}}\nversion {number}\nreader {number}\nwriter {number}\n"
    rule += r"hash blake3\nfeatures ([^ \n]+(?: [^ \n]+)*)?\n"
    found = re.fullmatch(rule, body)
    must(found, "the format file has the eight lines of its version")
    version, reader, writer = (int(text) for text in found.groups()[:3])
    must(1 <= reader <= min(writer, version), "versions are in order")
    must(max(writer, version) < 1 << 32, "versions are numbers of 32 bits")
    for word in (found[4] or "").split():
        must(word.startswith("write-"), f"too new: the store uses the feature {word!r}")
    return lines


def own_file(data, magic, what, most):
    """Section 10: the id and value of the object in a file of its own."""
    must(48 <= len(data) <= most + 48, f"a {what} file is within its limits")
    must(plain_id(data[:-32]) == data[-32:], f"a {what} file is undamaged")
    read = Cursor(data[:-32], what)
    must(read.take(8) == magic, "a file starts with its magic")
    must(read.number(4) == 1, "a file is of version 1")
    body = read.take(read.number(4))
    read.end()
    return object_id(what, body), objects.parse(what, body)


def read_file(path):
    with open(path, "rb") as file:
        return file.read()


class Store:
    """A store, opened: all packs are read and checked."""

    def __init__(self, path):
        self.path = path
        self.format = format_file(read_file(os.path.join(path, "format")))
        self.records = {}  # id -> records, of least depth first
        self.packs = 0
        self.indexes = 0
        self._cache, self._cached = {}, 0
        for name in self._names("packs", r"([0-9a-f]{64})\.pack"):
            self._open_pack(name)
        for found in self.records.values():
            found.sort(key=lambda record: record.depth)
        self._open_state()

    def _names(self, folder, rule):
        root = os.path.join(self.path, folder)
        for short in sorted(os.listdir(root)) if os.path.isdir(root) else []:
            inner = os.path.join(root, short)
            if re.fullmatch("[0-9a-f]{2}", short) and os.path.isdir(inner):
                for name in sorted(os.listdir(inner)):
                    found = re.fullmatch(rule, name)
                    if found and found[1].startswith(short):
                        yield found[1]

    def _open_pack(self, name):
        base = os.path.join(self.path, "packs", name[:2], name)
        data = read_file(base + ".pack")
        must(plain_id(data).hex() == name, f"pack {name} has its name's bytes")
        rows, records = packs.pack(data)
        self.packs += 1
        for key, record in records.items():
            self.records.setdefault(key, []).append(record)
        if os.path.exists(base + ".idx"):
            index_name, length, index_rows = packs.index(read_file(base + ".idx"))
            must((index_name.hex(), length) == (name, len(data)), "an index names its pack")
            must(index_rows == rows, "an index repeats its pack's table")
            self.indexes += 1

    def _open_state(self):
        root = os.path.join(self.path, "refs")
        numbers = sorted(name for name in os.listdir(root) if re.fullmatch("[0-9]{16}", name))
        must(numbers, "a store has a reference table")
        self.tables = {}
        for name in numbers:
            data = read_file(os.path.join(root, name))
            table_id, table = own_file(data, b"SPARSERF", "references", TABLE_BYTES_MAX)
            must(table[0] == int(name), "a table's name repeats its number")
            if table[0] - 1 in self.tables:
                must(table[1] == self.tables[table[0] - 1][0], "a table names the one before")
            self.tables[table[0]] = (table_id, table)
        self.table = self.tables[int(numbers[-1])][1]
        self.operations = {}
        for name in self._names("ops", r"([0-9a-f]{64})"):
            data = read_file(os.path.join(self.path, "ops", name[:2], name))
            found, operation = own_file(data, b"SPARSEOP", "operation", OBJECT_BYTES_MAX)
            must(found.hex() == name, "an operation's name is its id")
            self.operations[found] = operation
        for _, table in self.tables.values():
            self._check_operation(table)

    def _check_operation(self, table):
        must(table[2] in self.operations, "a table's operation is there")
        operation = self.operations[table[2]]
        if 5 in operation:
            must(operation[5][0] == table[4], "a collection begins its table's epoch")
        before = self.tables.get(table[0] - 1)
        if before is None and table[0] > 0:
            return
        old = dict(before[1][5]) if before else {}
        new = dict(table[5])
        said = {name: targets for name, *targets in operation[4]}
        for name in said.keys() | old.keys() | new.keys():
            targets = [old.get(name), new.get(name)]
            stayed = name not in said and targets[0] == targets[1]
            must(stayed or said.get(name) == targets, "an operation holds the changes of its table")

    def references(self):
        """Names and commits of the present state."""
        return dict(self.table[5])

    def plain(self, kind, name, depth_below=DEPTH_MAX + 1, without_needs=False):
        """Section 6.3: the verified plain bytes of a chunk or an object."""
        if name in self._cache:
            return self._cache[name]
        errors = []
        for record in self.records.get(name, []):
            if record.kind != kind or record.depth >= depth_below:
                continue
            if without_needs and record.needs():
                continue
            try:
                return self._keep(name, self._rebuild(record))
            except Damaged as error:
                errors.append(str(error))
        why = "; ".join(errors) or "no record may be used"
        raise Damaged(f"{KINDS[kind]} {name.hex()} cannot be rebuilt: {why}")

    def _rebuild(self, record):
        sources = [self._view(view, record.depth) for view in record.sources]
        side = [self.plain(CHUNK, name, 1, without_needs=True) for name in record.side]
        predicted = predictors.predict(record, sources, side)
        plain = codings.decode(record, predicted, side)
        must(len(plain) == record.plain_bytes, "a record gives its plain bytes")
        must(record_id(record.kind, plain) == record.id, "plain bytes have their record's id")
        return plain

    def _view(self, view, depth):
        out = bytearray()
        for chunk, start, count in view:
            if chunk == ZEROS:
                out += bytes(count)
                continue
            source = self.plain(CHUNK, chunk, depth)
            must(start + count <= len(source), "a part lies within its chunk")
            out += source[start : start + count]
        return bytes(out)

    def _keep(self, name, plain):
        if self._cached + len(plain) > CACHE_BYTES:
            self._cache, self._cached = {}, 0
        self._cache[name] = plain
        self._cached += len(plain)
        return plain

    def object(self, kind, name):
        """The object with an id."""
        return objects.parse_as(KINDS[kind], name, self.plain(kind, name))
