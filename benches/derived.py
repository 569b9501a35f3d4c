#!/usr/bin/env python3
"""What each derived model costs beside the models that it was made from.

    python3 benches/derived.py --data $SPARSE_DATA [--sparse PATH]

Commits the base and every derivative of the small Llama, MiniLM and SmolLM2 into one store (others for
what must not know a relative), checks each out again and compares it, and prints the new bytes by
the plain bytes beside the bar. `fast` and `default` are the seconds of the same commit at both
levels. Writes its section of benches/RESULTS.md.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "rivals"))
import report  # noqa: E402

L, M, S = "llama-small", "minilm", "smollm"

# Store, path, base's path, bar: a part of the plain bytes. Those of a store are committed in order.
ROWS = [
    ("alone", f"{L}/base", None, 0.657),
    ("alone", f"{L}/full-ft", f"{L}/base", 0.138),
    ("alone", f"{L}/lora-merged", f"{L}/base", 0.068),
    ("alone", f"{M}/base-bf16", None, 0.659),
    ("alone", f"{M}/full-ft-bf16", f"{M}/base-bf16", 0.0845),
    ("alone", f"{S}/base", None, None),
    ("alone", f"{S}/lora-merged", f"{S}/base", 0.040),
    ("alone", f"{S}/full-ft", f"{S}/base", 0.0545),
    ("next", f"{S}/ckpt-mid", None, None),
    ("next", f"{S}/full-ft", f"{S}/ckpt-mid", 0.0120),
    ("all", f"{L}/base", None, None),
    ("all", f"{L}/ckpt-series/1", f"{L}/base", None),
    ("all", f"{L}/ckpt-series/2", f"{L}/ckpt-series/1", 0.070),
    ("all", f"{L}/full-ft", f"{L}/base", None),
    ("all", f"{L}/lora", None, None),
    ("all", f"{L}/lora-merged", f"{L}/base", 0.001),
    ("all", f"{L}/lora2-merged", f"{L}/base", 0.001),
    ("all", f"{L}/lora3-merged", f"{L}/base", 0.001),
    ("all", f"{L}/average", f"{L}/base", 0.001),
    ("all", f"{L}/task-arith", f"{L}/base", 0.001),
    ("all", f"{L}/slerp", f"{L}/base", 0.02),
    ("all", f"{L}/pruned-glu", f"{L}/base", 0.001),
    ("all", f"{L}/pruned-depth", f"{L}/base", 0.001),
    ("all", f"{L}/f16-cast", f"{L}/base", 0.001),
    ("all", f"{L}/f32-cast", f"{L}/base", 0.001),
    ("all", f"{L}/resharded", f"{L}/base", 0.001),
    ("all", f"{L}/pytorch-bin", f"{L}/base", 0.001),
    ("all", f"{L}/vocab-resized", f"{L}/base", 0.002),
    ("all", f"{L}/gguf-f16", f"{L}/base", 0.001),
    ("all", f"{L}/gguf-q8_0", f"{L}/base", 0.005),
    ("all", f"{L}/gguf-q4_0", f"{L}/base", 0.005),
    ("all", f"{L}/gguf-q4_k_m", f"{L}/base", 0.30),
    ("all", f"{L}/int8-perchannel", f"{L}/base", 0.005),
    ("all", f"{L}/optimizer/model.safetensors", f"{L}/full-ft", 0.505),
    ("all", f"{S}/base", None, None),
    ("all", f"{S}/lora", None, None),
    ("all", f"{S}/lora-merged", f"{S}/base", 0.001),
]


def branch(path):
    return path.replace("/", "-")


class Store:
    def __init__(self, program, place):
        self.here = [program, "--repo", str(place)]
        subprocess.run([program, "-q", "init", "--bare", place], check=True, stdout=subprocess.DEVNULL)

    def run(self, *words):
        return subprocess.run([*self.here, *map(str, words)], check=True, capture_output=True, text=True).stdout

    def commit(self, data, path, base, level):
        words = ["commit", data / path, "-b", branch(path), "--base", branch(base) if base else "none"]
        return json.loads(self.run(*words, "-m", path, "--level", level, "--json"))

    def compare(self, data, path, out):
        """Checks a version out; whether it is what was committed."""
        self.run("checkout", branch(path), out)
        wanted = data / path
        found = out if wanted.is_dir() else out / wanted.name
        subprocess.run(["diff", "-r", wanted, found], check=True)

    def svd(self, base, tuned, rank):
        words = ["svd", branch(base), branch(tuned), "--rank", rank, "-b", "svd", "--json"]
        return json.loads(self.run(*words))

    def codecs(self):
        return json.loads(self.run("stats", "--why", "--json"))["codecs"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sparse", default="target/release/sparse", help="the program")
    parser.add_argument("--data", default=os.environ.get("SPARSE_DATA"), help="the models' folder")
    arguments = parser.parse_args()
    program, data = str(pathlib.Path(arguments.sparse).resolve()), pathlib.Path(arguments.data).resolve()
    rows = []
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        stores = {}
        for place, path, base, bar in ROWS:
            if not (data / path).exists() or (base and not (data / base).exists()):
                print(f"{path}: not there", file=sys.stderr)
                continue
            if place not in stores:
                stores[place] = [Store(program, work / f"{place}-{level}") for level in ("fast", "default")]
            fast, default = stores[place]
            quick = fast.commit(data, path, base, "fast")["seconds"]
            done = default.commit(data, path, base, "default")
            default.compare(data, path, work / "out")
            subprocess.run(["rm", "-r", work / "out"], check=True)
            ratio = done["new_bytes"] / done["logical_bytes"]
            verdict = "" if bar is None else "met" if round(ratio, 5) <= bar else "missed"
            steps = done["steps"]
            share = ", ".join(f"{name.split()[0]} {1000 * s:.0f}" for name, s in steps.items() if s >= 0.01)
            known = "all above" if place == "all" else ""
            rows.append((
                path, base or "none", known, f"{ratio:.5f}", bar or "", verdict,
                f"{quick:.2f}", f"{done['seconds']:.2f}", share,
            ))
            print(*rows[-1], sep=" | ", file=sys.stderr, flush=True)
        default = stores["alone"][1]
        before = {(c["predictor"], c["coding"]): c["stored_bytes"] for c in default.codecs()}
        cut = default.svd(f"{L}/base", f"{L}/full-ft", 16)
        coded = sum(
            c["stored_bytes"] - before.get((c["predictor"], c["coding"]), 0)
            for c in default.codecs() if c["coding"] in ("planes", "weights")
        )
    head = ["version", "base", "also known", "new / plain", "bar", "", "fast s", "default s", "of it, ms"]
    table = report.table(head, rows)
    text = f"""## Derived models

    python3 benches/derived.py --data $SPARSE_DATA

{report.machine()}. New bytes of the packs by the plain bytes of the whole commit, all files and all side
information counted, at the default level; every version was checked out and compared. Seconds are wall
clock on all cores, files in the page cache, the packs synchronised.

{table}

`sparse svd` of rank 16 of the fine-tune: {cut["new_bytes"]} new bytes, {cut["new_bytes"] / coded:.4f} times those of its
coded factors ({coded}; bar 1.02); {100 * cut["relative_error"]:.1f} % of the change is left out.
"""
    print(text)
    report.replace_section(HERE / "RESULTS.md", "derived models", text)


if __name__ == "__main__":
    main()
