#!/usr/bin/env python3
"""Reads a whole store by SPEC.md alone, and checks everything on the way.

    python3 tests/second_reader/read.py STORE [--out DIR] [--every]

Walks all references, the history of each, every tree, manifest and note, and rebuilds every
file; prints a summary. With --out, the files of each reference are written to DIR/NAME/. With
--every, records that no reference reaches are rebuilt as well. The exit status is 1 where
anything does not hold.
"""

import argparse
import os
import sys

from blake3 import blake3

from limits import ATTACHMENT, CHUNK, COMMIT, KINDS, MANIFEST, TREE, TREE_DEPTH_MAX, Damaged, must
from store import Store

PREDICTORS = "none base low-rank adapter gather cast linear quantise rows blockwise".split()
CODINGS = "stored zstd planes difference exact residual weights".split()


class Walk:
    """Everything that the references reach, each thing looked at once."""

    def __init__(self, store):
        self.store = store
        self.commits, self.trees, self.manifests, self.attachments = {}, {}, {}, {}
        self.plain_bytes = 0

    def history(self, name):
        """A commit and all its ancestors."""
        todo = [name]
        while todo:
            name = todo.pop()
            if name in self.commits:
                continue
            self.commits[name] = commit = self.store.object(COMMIT, name)
            self.tree(commit[0])
            todo += commit[1]

    def tree(self, name, depth=0):
        """A tree and everything in it, `depth` directories below the root; returns how many lie
        within each other in it."""
        must(depth <= TREE_DEPTH_MAX, "a path passes through at most 64 directories")
        if name not in self.trees:
            tree = self.store.object(TREE, name)
            deepest = 0
            for entry in tree[0]:
                if entry[1] in (0, 1):
                    must(self.file(entry[2])[0] == entry[3], "a tree repeats the length of a file")
                elif entry[1] == 2:
                    deepest = max(deepest, 1 + self.tree(entry[2], depth + 1))
                elif entry[1] == 4:
                    attachment = self.store.object(ATTACHMENT, entry[2])
                    must(entry[0] == entry[2].hex(), "an attachment is named by its id")
                    self.attachments[entry[2]] = attachment
            self.trees[name] = (tree, deepest)
        deepest = self.trees[name][1]
        must(depth + deepest <= TREE_DEPTH_MAX, "a path passes through at most 64 directories")
        return deepest

    def file(self, name, out=None):
        """A manifest; its file is rebuilt, checked and written to `out`."""
        if name in self.manifests and out is None:
            return self.manifests[name]
        manifest = self.store.object(MANIFEST, name)
        hasher = blake3()
        for chunk, length in manifest[5]:
            plain = self.store.plain(CHUNK, chunk)
            must(len(plain) == length, "a chunk is as long as its manifest says")
            hasher.update(plain)
            if out is not None:
                out.write(plain)
        must(hasher.digest() == manifest[1], "a file has its FileId")
        if name not in self.manifests:
            self.plain_bytes += manifest[0]
        self.manifests[name] = manifest
        return manifest

    def notes(self, name):
        """Section 9.4: the attachments hang where their commit's id leads."""
        for first, kind, middle in self.trees[self.commits[name][0]][0][0]:
            must(kind == 2 and len(first) == 2, "notes are sharded by two digits")
            for rest, kind, leaf in self.trees[middle][0][0]:
                must(kind == 2 and len(rest) == 62, "notes are sharded by commit")
                about = bytes.fromhex(first + rest)
                for _, kind, attachment in self.trees[leaf][0][0]:
                    must(kind == 4, "notes hold attachments")
                    must(self.attachments[attachment][0] == about, "a note is about its commit")

    def write(self, name, folder):
        """The files of a tree."""
        os.makedirs(folder, exist_ok=True)
        for entry in self.trees[name][0][0]:
            path = os.path.join(folder, entry[0])
            if entry[1] in (0, 1):
                with open(path, "xb") as out:
                    self.file(entry[2], out)
                os.chmod(path, 0o755 if entry[1] else 0o644)
            elif entry[1] == 2:
                self.write(entry[2], path)
            elif entry[1] == 3:
                os.symlink(entry[2], path)


def run(arguments):
    store = Store(arguments.store)
    walk = Walk(store)
    references = store.references()
    for name, commit in references.items():
        walk.history(commit)
        if name == "notes":
            walk.notes(commit)
    if arguments.every:
        for name, records in store.records.items():
            for record in records:
                store._cache.pop(name, None)
                store._rebuild(record)
    if arguments.out:
        for name, commit in references.items():
            if name != "notes":
                walk.write(walk.commits[commit][0], os.path.join(arguments.out, name))
    used = {}
    for record in (record for records in store.records.values() for record in records):
        key = f"{KINDS[record.kind]} {PREDICTORS[record.predictor]} {CODINGS[record.coding]}"
        count, coded, plain = used.get(key, (0, 0, 0))
        used[key] = (count + 1, coded + len(record.coded), plain + record.plain_bytes)
    print(f"table {store.table[0]}, {len(store.operations)} operations")
    print(f"{store.packs} packs, {store.indexes} indexes, {sum(v[0] for v in used.values())} records")
    for key, (count, coded, plain) in sorted(used.items()):
        print(f"  {key}: {count} records, {plain} bytes in {coded}")
    for name, commit in references.items():
        print(f"{name} {commit.hex()}")
    print(
        f"{len(walk.commits)} commits, {len(walk.trees)} trees, {len(walk.manifests)} files, "
        f"{len(walk.attachments)} attachments, {walk.plain_bytes} bytes rebuilt and verified"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("store", help="the store's directory (the one that holds `format`)")
    parser.add_argument("--out", help="write the files of every reference here")
    parser.add_argument("--every", action="store_true", help="rebuild every record, reached or not")
    try:
        run(parser.parse_args())
    except (Damaged, OSError, NotImplementedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
