"""Pairs of models as plain bytes: the float tensors of a file one after another, and of its base.

The files that every rival reads: `target`, `base` where there is one, and `shapes` with a line
`TYPE ROWS COLS` for each tensor.
"""

import json
import pathlib
import shutil

# Target, base or nothing, short name.
PAIRS = [
    ("minilm/full-ft-bf16", "minilm/base-bf16", "MiniLM fine-tune bf16"),
    ("minilm/full-ft-f16", "minilm/base-f16", "MiniLM fine-tune f16"),
    ("minilm/full-ft-f32", "minilm/base-f32", "MiniLM fine-tune f32"),
    ("minilm/ckpt-b-bf16", "minilm/ckpt-a-bf16", "MiniLM next checkpoint bf16"),
    ("minilm/ckpt-b-f16", "minilm/ckpt-a-f16", "MiniLM next checkpoint f16"),
    ("minilm/ckpt-b-f32", "minilm/ckpt-a-f32", "MiniLM next checkpoint f32"),
    ("smollm/full-ft", "smollm/base", "SmolLM2 fine-tune bf16"),
    ("smollm/full-ft", "smollm/ckpt-mid", "SmolLM2 next checkpoint bf16"),
    ("llama-small/full-ft", "llama-small/base", "Llama (small, young) fine-tune bf16"),
    ("llama-small/base", "", "Llama (small) alone bf16"),
    ("minilm/base-bf16", "", "MiniLM alone bf16"),
    ("minilm/base-f16", "", "MiniLM alone f16"),
    ("minilm/base-f32", "", "MiniLM alone f32"),
]

FLOATS = {"BF16": 2, "F16": 2, "F32": 4}
SLICE_PARTS = 16


def tensors(path):
    """Name to (type, shape, bytes) of a safetensors file."""
    file = path.read_bytes()
    length = int.from_bytes(file[:8], "little")
    header = json.loads(file[8 : 8 + length])
    start = 8 + length
    found = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        body = memoryview(file)[start + begin : start + end]
        found[name] = (entry["dtype"], entry["shape"], body)
    return found


def model(root, name):
    return root / name / "model.safetensors"


def available(root):
    """The pairs whose files are there."""
    for target, base, title in PAIRS:
        names = [target] + ([base] if base else [])
        if all(model(root, name).is_file() for name in names):
            yield target, base, title


def rows_and_columns(shape):
    rows = 1
    for length in shape[:-1]:
        rows *= length
    return rows, (shape[-1] if shape else 1)


def lay_out(root, target, base, folder, slice_bytes):
    """Writes the plain bytes of a pair; answers their type and number, and what was left out."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    new = tensors(model(root, target))
    old = tensors(model(root, base)) if base else new
    kinds = [kind for kind, _, _ in new.values() if kind in FLOATS]
    kind = max(set(kinds), key=kinds.count)
    kept, left_out = [], 0
    for name in sorted(new):
        fits = name in old and old[name][:2] == new[name][:2]
        if new[name][0] == kind and fits and len(new[name][2]):
            kept.append(name)
        else:
            left_out += len(new[name][2])
    with open(folder / "shapes", "w") as shapes:
        for name in kept:
            rows, columns = rows_and_columns(new[name][1])
            shapes.write(f"{kind} {rows} {columns}\n")
    plain = write(folder, "target", [new[name][2] for name in kept], slice_bytes)
    if base:
        write(folder, "base", [old[name][2] for name in kept], slice_bytes)
    return {"dtype": kind, "plain": plain, "left_out": left_out}


def write(folder, name, parts, slice_bytes):
    """The bytes, and as `slice/NAME` even parts of them for rivals that are slow."""
    whole = b"".join(parts)
    (folder / name).write_bytes(whole)
    (folder / "slice").mkdir(exist_ok=True)
    part = slice_bytes // SLICE_PARTS // 64 * 64
    if part * SLICE_PARTS < len(whole):
        step = len(whole) // SLICE_PARTS // 64 * 64
        starts = range(0, step * SLICE_PARTS, step)
        whole = b"".join(whole[start : start + part] for start in starts)
    (folder / "slice" / name).write_bytes(whole)
    return (folder / name).stat().st_size


def folder_of(work, target, base):
    return pathlib.Path(work) / f"{target} on {base or 'nothing'}".replace("/", "_").replace(" ", "-")
