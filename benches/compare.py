#!/usr/bin/env python3
"""Compares a commit of TARGET over BASE with other ways to keep both, on the same files in one run.

    SPARSE_DATA=DIR python3 benches/compare.py [--sparse PATH] [BASE:TARGET ...]

Needs zstd, restic and GNU time (Debian: apt-get install zstd restic time). Prints a Markdown table:
bytes added by the target once the base is there, seconds to add it, seconds to get it back, and
peak memory. Throughput is of the target's plain bytes, wall clock, files in the page cache.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

PAIRS = [
    "llama-small/base:llama-small/full-ft",
    "llama-small/base:llama-small/light-ft",
    "llama-small/base:llama-small/resharded",
    "minilm/base-bf16:minilm/full-ft-bf16",
    "minilm/ckpt-a-bf16:minilm/ckpt-b-bf16",
    "minilm/base-f16:minilm/full-ft-f16",
    "minilm/base-f32:minilm/full-ft-f32",
]


def size(path):
    return sum(p.stat().st_size for p in pathlib.Path(path).rglob("*") if p.is_file())


def timed(command, **more):
    """Runs a command; seconds of wall clock and peak memory in MiB."""
    with tempfile.NamedTemporaryFile() as report:
        full = ["/usr/bin/time", "-f", "%e %M", "-o", report.name, *map(str, command)]
        subprocess.run(full, check=True, stdout=subprocess.DEVNULL, **more)
        seconds, kib = pathlib.Path(report.name).read_text().split()
    return float(seconds), int(kib) / 1024


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
            extra = ["--long=31", f"--patch-from={old}"] if extra else []
            seconds, memory = timed(["zstd", "-q", "-f", "-d", *extra, coded, "-o", again])
            got, peak = got + seconds, max(peak, memory)
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
    got, more = timed(["restic", "-q", "restore", "latest", "--target", work / "out"], **quiet)
    return added, put, got, max(peak, more)


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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sparse", default="target/release/sparse")
    parser.add_argument("pairs", nargs="*", default=PAIRS)
    arguments = parser.parse_args()
    program = str(pathlib.Path(arguments.sparse).resolve())
    data = pathlib.Path(os.environ["SPARSE_DATA"]).resolve()
    ways = {
        "sparse default": ours(program, "default"),
        "sparse fast": ours(program, "fast"),
        "zstd -3": zstd(3, False),
        "zstd -3 --long --patch-from": zstd(3, True),
        "restic (64 KiB to 8 MiB chunks, zstd)": restic,
    }
    print("| target over base | way | new / plain bytes | put MB/s | get MB/s | peak MiB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for pair in arguments.pairs:
        base, target = (data / part for part in pair.split(":"))
        plain = size(target)
        for name, measure in ways.items():
            work = pathlib.Path(tempfile.mkdtemp())
            try:
                added, put, got, peak = measure(base, target, work)
            finally:
                shutil.rmtree(work)
            short = re.sub(r"^[^/]*/", "", pair.split(":")[1])
            family = pair.split("/")[0]
            print(
                f"| {family} {short} | {name} | {added / plain:.4f} "
                f"| {plain / put / 1e6:.0f} | {plain / got / 1e6:.0f} | {peak:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
