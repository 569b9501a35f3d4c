"""Objects: one deterministic CBOR item each (SPEC.md, sections 9 and 10)."""

import json
import re

import cbor2

from limits import MESSAGE_BYTES_MAX, OBJECT_BYTES_MAX, TABLE_BYTES_MAX, Damaged, must, object_id

U64, I64 = range(0, 1 << 64), range(-(1 << 63), 1 << 63)

# number: (name, elements of a block, bytes of a block)
DTYPES = {
    0: ("BOOL", 1, 1), 1: ("U8", 1, 1), 2: ("I8", 1, 1), 3: ("U16", 1, 2), 4: ("I16", 1, 2),
    5: ("U32", 1, 4), 6: ("I32", 1, 4), 7: ("U64", 1, 8), 8: ("I64", 1, 8), 9: ("F16", 1, 2),
    10: ("BF16", 1, 2), 11: ("F32", 1, 4), 12: ("F64", 1, 8), 13: ("F8_E4M3", 1, 1),
    14: ("F8_E5M2", 1, 1), 15: ("F8_E8M0", 1, 1), 16: ("F8_E4M3FNUZ", 1, 1),
    17: ("F8_E5M2FNUZ", 1, 1), 18: ("F6_E2M3", 4, 3), 19: ("F6_E3M2", 4, 3), 20: ("F4", 2, 1),
    21: ("C64", 1, 8), 32: ("Q4_0", 32, 18), 33: ("Q4_1", 32, 20), 34: ("Q5_0", 32, 22),
    35: ("Q5_1", 32, 24), 36: ("Q8_0", 32, 34), 37: ("Q8_1", 32, 36), 38: ("Q2_K", 256, 84),
    39: ("Q3_K", 256, 110), 40: ("Q4_K", 256, 144), 41: ("Q5_K", 256, 176), 42: ("Q6_K", 256, 210),
    43: ("Q8_K", 256, 292), 44: ("IQ2_XXS", 256, 66), 45: ("IQ2_XS", 256, 74),
    46: ("IQ3_XXS", 256, 98), 47: ("IQ1_S", 256, 50), 48: ("IQ4_NL", 32, 18),
    49: ("IQ3_S", 256, 110), 50: ("IQ2_S", 256, 82), 51: ("IQ4_XS", 256, 136),
    52: ("IQ1_M", 256, 56), 53: ("TQ1_0", 256, 54), 54: ("TQ2_0", 256, 66), 55: ("MXFP4", 32, 17),
}
LAYOUTS = ["opaque", "text", "safetensors", "gguf", "torch-zip", "parquet", "arrow", "container"]


def number(value, allowed=U64):
    must(type(value) is int and value in allowed, "a number is an integer within its range")
    return value


def text(value, most=1 << 62):
    must(type(value) is str and len(value.encode()) <= most, "a text is a text within its limit")
    return value


def ident(value, length=32):
    must(type(value) is bytes and len(value) == length, f"an id has {length} bytes")
    return value


def array(value, length=None):
    must(type(value) is list and length in (None, len(value)), "an array has as many items as listed")
    return value


def fields(value, required, optional=()):
    must(type(value) is dict, "an object is a map")
    must(set(required) <= set(value) <= set(required) | set(optional), "an object has the keys listed")


def ascending(names, what):
    encoded = [name.encode() for name in names]
    must(all(a < b for a, b in zip(encoded, encoded[1:])), f"{what} ascend")


def attribute(value):
    namespace, document = array(value, 2)
    rule = re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]{0,63}", text(namespace))
    must(rule, "a namespace is a letter, then letters, digits, '-', '_', '.'")
    text(document, MESSAGE_BYTES_MAX)
    try:
        json.loads(document)
    except ValueError as error:
        raise Damaged("an attribute is a JSON document") from error
    return namespace


def manifest(value):
    fields(value, range(6), [6])
    size, layout = number(value[0]), number(value[2], range(8))
    ident(value[1])
    filled = 0
    for region in array(value[3]):
        role, length = array(region, 2)
        number(role, range(4))
        filled += number(length, range(1, 1 << 64))
    must(filled == size, "the regions of a manifest fill its file")
    last = 0
    for tensor in array(value[4]):
        name, dtype, shape, start, length = array(tensor, 5)
        text(name)
        must(dtype in DTYPES and type(dtype) is int, "a dtype is known")
        elements = 1
        for side in array(shape):
            elements *= number(side)
        _, of, per = DTYPES[dtype]
        must(elements < 1 << 64 and elements % of == 0, "a tensor has whole blocks")
        must(number(length) == elements // of * per, "a tensor is as long as its shape says")
        must(last <= number(start) and start + length <= size, "tensors ascend within their file")
        last = start
    filled = 0
    for chunk in array(value[5]):
        name, length = array(chunk, 2)
        ident(name)
        filled += number(length, range(1, 67108865))
    must(filled == size, "the chunks of a manifest fill its file")
    if 6 in value:
        text(value[6])
    return layout


def is_name(name):
    """Whether a name may stand in a tree (section 9.2)."""
    if not 1 <= len(name.encode()) <= 255 or name in (".", "..") or name[0] == "~":
        return False
    if re.search(r"[/\\\0]", name) or re.match(r"[A-Za-z]:", name):
        return False
    kept = re.sub("[\u200c-\u200f\u202a-\u202e\u2060-\u206f\ufeff]", "", name)
    folded = "".join(c.lower() if "A" <= c <= "Z" else "s" if c == "\u017f" else c for c in kept)
    return folded.split(":")[0].rstrip(". ") not in (".sparse", ".git", "git~1", "sparse~1")


def tree(value):
    fields(value, [0])
    for entry in array(value[0]):
        must(len(array(entry)) >= 3, "an entry of a tree has three or four items")
        must(is_name(text(entry[0])), f"{entry[0]!r} may not stand in a tree")
        kind = number(entry[1], range(5))
        if kind in (0, 1):
            ident(array(entry, 4)[2])
            number(entry[3])
        elif kind == 3:
            target = text(array(entry, 3)[2], 4096)
            must(target and "\0" not in target, "a symbolic link has a target")
        else:
            ident(array(entry, 3)[2])
    ascending([entry[0] for entry in value[0]], "names of a tree")


def commit(value):
    fields(value, range(8))
    ident(value[0])
    must(len(array(value[1])) <= 64 and len(array(value[2])) <= 64, "parents and origins are few")
    for parent in value[1]:
        ident(parent)
    for origin in value[2]:
        kind, base, stated = array(origin, 3)
        number(kind, range(13))
        ident(base)
        must(type(stated) is bool, "stated is true or false")
    text(value[3], MESSAGE_BYTES_MAX)
    number(value[4], I64)
    number(value[5], range(-1440, 1441))
    text(value[6], MESSAGE_BYTES_MAX)
    ascending([attribute(item) for item in array(value[7])], "namespaces of a commit")


def attachment(value):
    fields(value, range(4))
    ident(value[0])
    attribute(value[1])
    text(value[2], MESSAGE_BYTES_MAX)
    number(value[3], I64)


def reference_name(name):
    part = r"(?![-.])[A-Za-z0-9._-]+"
    kinds = rf"notes|heads(/{part})+|tags(/{part})+|remotes/{part}(/{part})+"
    good = re.fullmatch(kinds, text(name, 255)) and ".." not in name and not name.endswith(".lock")
    must(good, f"{name!r} is no reference's name")
    return name


def references(value):
    fields(value, [0, 2, 3, 4, 5], [1])
    must((1 in value) == (number(value[0], range(10**16)) > 0), "every table but the first has a parent")
    if 1 in value:
        ident(value[1])
    ident(value[2])
    ident(value[3], 16)
    number(value[4])
    for reference in array(value[5]):
        ident(array(reference, 2)[1])
    ascending([reference_name(name) for name, _ in value[5]], "names of a reference table")


def operation(value):
    fields(value, [0, 1, 2, 4], [3, 5, 6])
    text(value[0], 64)
    text(value[1], MESSAGE_BYTES_MAX)
    number(value[2], I64)
    for key in (3, 6):
        if key in value:
            ident(value[key])
    for change in array(value[4]):
        _, old, new = array(change, 3)
        for target in (old, new):
            must(target is None or ident(target), "a change names commits")
    ascending([reference_name(change[0]) for change in value[4]], "names of an operation")
    if 5 in value:
        epoch, packs = array(value[5], 2)
        number(epoch)
        for pack in array(packs):
            ident(pack)


RULES = {
    "manifest": (manifest, OBJECT_BYTES_MAX), "tree": (tree, OBJECT_BYTES_MAX),
    "commit": (commit, OBJECT_BYTES_MAX), "attachment": (attachment, OBJECT_BYTES_MAX),
    "references": (references, TABLE_BYTES_MAX), "operation": (operation, OBJECT_BYTES_MAX),
}


def parse(what, data):
    """The object that these bytes are the one encoding of; its rules hold."""
    check, most = RULES[what]
    must(len(data) <= most, f"a {what} is within its limit")
    try:
        value = cbor2.loads(data)
        again = cbor2.dumps(value, canonical=True)
    except (cbor2.CBORDecodeError, cbor2.CBOREncodeError, UnicodeError, TypeError) as error:
        raise Damaged(f"a {what} is one CBOR item") from error
    check(value)
    must(again == data, f"a {what} is in its one encoding")
    return value


def parse_as(what, name, data):
    """The object with this id."""
    must(object_id(what, data) == name, f"a {what} has the id {name.hex()}")
    return parse(what, data)
