#!/usr/bin/env python3
"""Compares the coder with its rivals: same bytes, same run, one core, every result decoded.

    python3 benches/rivals/run.py --data $SPARSE_DATA [--only NAME] [--quick] [--whole]

`--only` keeps the rivals and pairs whose names contain one of its words and prints; a run without
it also writes its section of benches/RESULTS.md and docs/rivals.svg. `--quick` measures
slow rivals on 1 MiB instead of 16; `--whole` gives them all bytes. What must be installed goes into
`--cache` (about 6 GB, since ZipNN wants torch): a virtual environment and two Rust programs. Needs
Linux, python3 with venv, cargo and zstd.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PACKAGES = ["numpy", "zipnn==0.5.4", "pcodec==1.1.0", "openzl==0.3.0", "brotli==1.2.1", "zstandard==0.25.0"]
# Fast rivals are visited in turn so often, each time for about so long: a machine that slows down
# for a while slows all of them. One that takes longer than the last for one way in and out is not
# visited again.
ROUNDS = 5
VISIT_S = 0.5
LONGEST_S = 12
CHART_PAIR = "MiniLM fine-tune bf16"
CHART_PAIR_BETTER = "SmolLM2 fine-tune bf16"
DEFAULT_CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("SPARSE_DATA"), help="the models' folder")
    parser.add_argument("--cache", type=pathlib.Path, default=DEFAULT_CACHE / "sparse-rivals")
    parser.add_argument("--only", action="append", default=[], help="part of a rival's or pair's name")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--whole", action="store_true", help="all bytes for slow rivals too")
    parser.add_argument("--zipllm", help="a git directory to take ZipLLM from instead of GitHub")
    found = parser.parse_args()
    if not found.data:
        parser.error("--data or SPARSE_DATA names the models' folder")
    return found


def enter_environment(cache):
    """Goes on in the virtual environment, which is made where it is not there."""
    python = cache / "venv" / "bin" / "python"
    if pathlib.Path(sys.prefix) == cache / "venv":
        return
    if not (cache / "venv" / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", cache / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "-q", "install", *PACKAGES], check=True)
        (cache / "venv" / "ready").touch()
    os.execv(python, [str(python), str(HERE / "run.py"), *sys.argv[1:]])


def build(package, cache, zipllm=None):
    """The compiled program of a package, or nothing where it does not build."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or cache / "target")
    env = dict(os.environ, CARGO_TARGET_DIR=str(target))
    if zipllm:
        env |= {
            "CARGO_NET_GIT_FETCH_WITH_CLI": "true",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.file://{pathlib.Path(zipllm).resolve()}.insteadOf",
            "GIT_CONFIG_VALUE_0": "https://github.com/ds2-lab/ZipLLM",
        }
    words = ["cargo", "build", "--release", "--quiet", "--manifest-path", HERE / package / "Cargo.toml"]
    if subprocess.run(words, env=env).returncode:
        print(f"{package} was not built; its rivals are left out", file=sys.stderr)
        return None
    name = {"native": "sparse-store-rivals", "bitx": "sparse-store-rivals-bitx"}[package]
    return target / "release" / name


def measure(rival, folder, dtype, repeat, programs):
    """One rival on one folder of plain bytes, with one thread; nothing where it fails."""
    if rival.compiled:
        package, words = rival.compiled
        if not programs[package]:
            return None
        command = [programs[package], *words, folder, repeat]
    else:
        command = [sys.executable, HERE / "worker.py", rival.name, folder, dtype, repeat]
    # Large blocks from the allocator are huge pages: else the first touch of fresh memory would
    # weigh as much as the coders, and no user of many buffers pays it each time.
    env = os.environ | {
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
        "RAYON_NUM_THREADS": "1",
    }
    done = subprocess.run([*map(str, command)], env=env, capture_output=True, text=True)
    if done.returncode:
        print(f"{rival.name} failed: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    plain = (folder / "target").stat().st_size
    return {
        "ratio": figures["coded"] / plain,
        "encode": plain / figures["encode_s"] / 1e9,
        "decode": plain / figures["decode_s"] / 1e9,
        "memory": f"{figures['encode_mib']:.0f} / {figures['decode_mib']:.0f}",
        "settings": rival.settings,
    }


def compare(pair, options, programs, work, wanted):
    """All rivals on one pair: rows of (name, figures), and the text for the report."""
    import data
    import floors
    import report
    import rivals

    target, base, title = pair
    folder = data.folder_of(work, target, base)
    slice_mib = 1 if options.quick else 16
    facts = data.lay_out(pathlib.Path(options.data), target, base, folder, slice_mib << 20)
    memcpy = json.loads(subprocess.check_output([programs["native"], "memcpy"]))["memcpy"]
    there = [r for r in rivals.RIVALS if r.where in ("both", "pair" if base else "alone") and wanted(r.name)]
    found = {}
    for rival in there:
        sliced = rival.slow and not options.whole
        figures = measure(rival, folder / "slice" if sliced else folder, facts["dtype"], 1, programs)
        if figures:
            found[f"{rival.name} (slice)" if sliced else rival.name] = figures
    seconds = lambda figures: facts["plain"] / 1e9 * (1 / figures["encode"] + 1 / figures["decode"])
    again = [r for r in there if not r.slow and r.name in found and seconds(found[r.name]) < LONGEST_S]
    for _ in range(ROUNDS - 1):
        for rival in again:
            best = found[rival.name]
            repeat = max(round(VISIT_S / seconds(best)), 1)
            figures = measure(rival, folder, facts["dtype"], repeat, programs) or best
            best |= {way: max(best[way], figures[way]) for way in ("encode", "decode")}
    rows = list(found.items())
    lowest = floors.floors(folder)
    head = ["coder", "ratio", "GB/s in", "GB/s out", "MiB in / out", "how"]
    cells = [
        (name, f"{f['ratio']:.4f}", *(f"{f[way]:.3g}" for way in ("encode", "decode")))
        + (f["memory"], f["settings"])
        for name, f in rows
    ]
    under = ", ".join(f"{name} {value:.4f}" for name, value in lowest.items())
    left = f"; {facts['left_out']} bytes of other tensors left out" if facts["left_out"] else ""
    text = (
        f"#### {title}\n\n{target}{' on ' + base if base else ''}, {facts['plain'] / 1e6:.1f} MB{left}. "
        f"memcpy {memcpy:.2f} GB/s. Static floors: {under}.\n\n{report.table(head, cells)}\n"
    )
    return rows, text


def main():
    options = arguments()
    options.cache = options.cache.resolve()
    options.cache.mkdir(parents=True, exist_ok=True)
    enter_environment(options.cache)
    import chart
    import data
    import report
    import rivals

    programs = {
        "native": build("native", options.cache),
        "bitx": build("bitx", options.cache, options.zipllm),
    }
    if not programs["native"]:
        sys.exit(1)
    pairs = list(data.available(pathlib.Path(options.data)))
    named = lambda name: any(word.lower() in name.lower() for word in options.only)
    some_pairs = [pair for pair in pairs if named(pair[2])]
    some_rivals = any(named(rival.name) for rival in rivals.RIVALS)
    wanted = (lambda name: named(name)) if some_rivals else (lambda name: True)
    texts, drawn = [], {}
    with tempfile.TemporaryDirectory(dir=options.cache) as work:
        for pair in some_pairs or pairs:
            rows, text = compare(pair, options, programs, work, wanted)
            texts.append(text)
            drawn[pair[2]] = rows
            print(text, flush=True)
    if options.only:
        return
    slices = "all bytes" if options.whole else f"{1 if options.quick else 16} MiB in 16 even parts"
    command = "python3 benches/rivals/run.py --data $SPARSE_DATA"
    command += "".join(f" --{name}" for name in ("quick", "whole") if getattr(options, name))
    head = (
        f"## Coders on one core\n\n    {command}\n\n{report.machine()}. Ratio is coded by plain bytes; speed is "
        "plain bytes by processor time of the process on all its threads, the best of five visits of half a "
        "second, all in turn (slow rivals, and what takes more than twelve seconds for a way in and out: once; "
        "programs: reading and writing files included), in fresh memory of huge pages; memory is the peak beyond "
        "the plain bytes in memory (programs: the whole peak) and "
        f"includes the result. Every result was decoded and compared. Slow rivals had {slices}. "
        "BitX, made for 16-bit elements, takes f32 as two of them. Floors count no tables and no scales; "
        "a coder below them uses more than one symbol's context.\n\n"
    )
    report.replace_section(ROOT / "benches" / "RESULTS.md", "rivals", head + "\n".join(texts))
    title = CHART_PAIR_BETTER if CHART_PAIR_BETTER in drawn else CHART_PAIR
    if title in drawn:
        (ROOT / "docs" / "rivals.svg").write_text(chart.chart(f"{title} over its base", drawn[title]))


if __name__ == "__main__":
    main()
