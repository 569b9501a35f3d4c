#!/usr/bin/env python3
"""Compares a commit of TARGET over BASE with other ways to keep both, on the same files in one run.

    python3 benches/compare.py --data $SPARSE_DATA [--sparse PATH] [BASE:TARGET ...]

Bytes added by the target once the base is there, throughput of adding it and of getting it back,
and peak memory; of the target's plain bytes, wall clock, files in the page cache, all cores. Needs
zstd, restic, GNU time and cargo (Debian: apt-get install zstd restic time). A run over all pairs
writes its section of benches/RESULTS.md. Chunks alone are what Xet and backup programs keep.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "rivals"))
import report  # noqa: E402
import run as rivals_run  # noqa: E402

PAIRS = [
    "llama-small/base:llama-small/full-ft",
    "llama-small/base:llama-small/light-ft",
    "llama-small/base:llama-small/resharded",
    "minilm/base-bf16:minilm/full-ft-bf16",
    "minilm/ckpt-a-bf16:minilm/ckpt-b-bf16",
    "minilm/base-f16:minilm/full-ft-f16",
    "minilm/base-f32:minilm/full-ft-f32",
    "smollm/base:smollm/full-ft",
    "smollm/ckpt-mid:smollm/full-ft",
]


def size(path):
    return sum(p.stat().st_size for p in pathlib.Path(path).rglob("*") if p.is_file())


def timed(command, **more):
    """Runs a command; seconds of wall clock and peak memory in MiB."""
    with tempfile.NamedTemporaryFile() as figures:
        full = ["/usr/bin/time", "-f", "%e %M", "-o", figures.name, *map(str, command)]
        subprocess.run(full, check=True, stdout=subprocess.DEVNULL, **more)
        seconds, kib = pathlib.Path(figures.name).read_text().split()
    return max(float(seconds), 0.01), int(kib) / 1024


def files(path):
    return sorted(p for p in pathlib.Path(path).rglob("*") if p.is_file())


def zstd(level, patch):
    def measure(base, target, work):
        added, put, got, peak = 0, 0.0, 0.0, 0.0
        for file in files(target):
            relative = file.relative_to(target)
            coded, again = work / "coded.zst", work / "again"
            old = base / relative
            extra = ["--long=31", f"--patch-from={old}"] if patch and old.is_file() else []
            seconds, memory = timed(["zstd", "-q", "-f", f"-{level}", *extra, file, "-o", coded])
            put, peak, added = put + seconds, max(peak, memory), added + coded.stat().st_size
            seconds, memory = timed(["zstd", "-q", "-f", "-d", *extra, coded, "-o", again])
            got, peak = got + seconds, max(peak, memory)
            subprocess.run(["cmp", file, again], check=True)
        return added, put, got, peak

    return measure


def restic(base, target, work):
    env = dict(os.environ, RESTIC_PASSWORD="x", RESTIC_REPOSITORY=str(work / "restic"))
    env["XDG_CACHE_HOME"] = str(work / "cache")
    quiet = {"env": env}
    timed(["restic", "-q", "init"], **quiet)
    timed(["restic", "-q", "backup", "."], cwd=base, **quiet)
    before = size(work / "restic")
    put, peak = timed(["restic", "-q", "backup", "."], cwd=target, **quiet)
    added = size(work / "restic") - before
    out = work / "out"
    got, more = timed(["restic", "-q", "restore", "latest", "--target", out], **quiet)
    subprocess.run(["diff", "-r", target, out], check=True)
    return added, put, got, max(peak, more)


def chunks(program):
    def measure(base, target, work):
        store, out = work / "store", work / "out"
        timed([program, "chunks", "put", store, "base", base])
        before = size(store)
        put, peak = timed([program, "chunks", "put", store, "target", target])
        added = size(store) - before
        got, more = timed([program, "chunks", "get", store, "target", out])
        subprocess.run(["diff", "-r", target, out], check=True)
        return added, put, got, max(peak, more)

    return measure


def ours(program, level):
    def measure(base, target, work):
        store = work / "store"
        timed([program, "-q", "init", "--bare", store])
        here = [program, "-q", "--repo", store]
        timed([*here, "commit", base, "-b", "base", "-m", "base"])
        before = size(store / "packs")
        command = [*here, "commit", target, "-b", "target", "--base", "base", "-m", "target"]
        put, peak = timed([*command, "--level", level])
        added = size(store / "packs") - before
        got, more = timed([*here, "checkout", "target", work / "out"])
        subprocess.run(["diff", "-r", target, work / "out"], check=True)
        return added, put, got, max(peak, more)

    return measure


def options(text):
    """What both benches of the whole program take."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sparse", default="target/release/sparse", help="the program")
    parser.add_argument("--cache", type=pathlib.Path, default=rivals_run.DEFAULT_CACHE / "sparse-rivals")
    return parser


def prepared(arguments):
    """The program, and the one that measures what has no program."""
    arguments.cache = arguments.cache.resolve()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    native = rivals_run.build("native", arguments.cache)
    if not native:
        sys.exit(1)
    return str(pathlib.Path(arguments.sparse).resolve()), native


def main():
    parser = options(__doc__)
    parser.add_argument("--data", default=os.environ.get("SPARSE_DATA"), help="the models' folder")
    parser.add_argument("pairs", nargs="*")
    arguments = parser.parse_args()
    program, native = prepared(arguments)
    data = pathlib.Path(arguments.data).resolve()
    ways = {
        "sparse default": ours(program, "default"),
        "sparse fast": ours(program, "fast"),
        "zstd -3": zstd(3, False),
        "zstd -3 --long --patch-from": zstd(3, True),
        "chunks of 64 KiB, zstd -3": chunks(native),
        "restic (512 KiB to 8 MiB chunks, zstd)": restic,
    }
    rows = []
    for pair in arguments.pairs or PAIRS:
        base, target = (data / part for part in pair.split(":"))
        if not base.is_dir() or not target.is_dir():
            continue
        plain = size(target)
        short = re.sub(r"^[^/]*/", "", pair.split(":")[1])
        family = pair.split("/")[0]
        old = re.sub(r"^[^/]*/", "", pair.split(":")[0])
        for name, measure in ways.items():
            with tempfile.TemporaryDirectory(dir=arguments.cache) as work:
                added, put, got, peak = measure(base, target, pathlib.Path(work))
            rows.append((
                f"{family} {short} on {old}", name, f"{added / plain:.4f}",
                f"{plain / put / 1e6:.0f}", f"{plain / got / 1e6:.0f}", f"{peak:.0f}",
            ))
            print(*rows[-1], sep=" | ", file=sys.stderr, flush=True)
    head = ["target over base", "way", "new / plain bytes", "put MB/s", "get MB/s", "peak MiB"]
    table = report.table(head, rows)
    print(table)
    if not arguments.pairs:
        text = (
            "## Whole programs\n\n    python3 benches/compare.py --data $SPARSE_DATA\n\n"
            f"{report.machine()}. Wall clock, all cores, files in the page cache; what came back was compared. "
            "`sparse` and the chunk store are on the disk and synchronised, restic as it comes, zstd's files are not "
            f"synchronised.\n\n{table}\n"
        )
        report.replace_section(HERE / "RESULTS.md", "whole programs", text)


if __name__ == "__main__":
    main()
