#!/usr/bin/env python3
"""What `sparse` costs on large models and in large stores.

    python3 benches/scale.py [--sparse PATH] [--big] [--mib N] [--chunks N] [--only NAME]

`verbs`: log, status and stats in a store of 100,000 chunks (6.5 GB in `--cache`). `index`: look-ups
among 10,000,000 records. `plain`: commit and checkout of a model without a base beside zstd.
`big` (only with `--big`): peak memory with generated models of 8 GiB, or `--mib`, alone and on a
base (35 GB in `--cache`). Needs zstd, GNU time and cargo. Writes a section of benches/RESULTS.md
for each part.
"""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import compare
import report

HERE = pathlib.Path(__file__).resolve().parent
PEAK_BAR_MIB = 512
CHUNK_BYTES = 64 << 10
COMMITS = 100
ENTRIES = 10_000_000


def fastest(command, times=5, **more):
    """The shortest of some runs in seconds, and the peak memory in MiB."""
    runs = [compare.timed(command, **more) for _ in range(times)]
    return min(seconds for seconds, _ in runs), max(memory for _, memory in runs)


def big(program, native, work, options):
    base, tuned = work / "base", work / "tuned"
    for folder, verb in [(base, "generate"), (tuned, "generate-tuned")]:
        folder.mkdir()
        subprocess.run([native, verb, str(options.mib), "7", folder / "model.safetensors"], check=True)
    plain = compare.size(tuned)
    store = work / "store"
    compare.timed([program, "-q", "init", "--bare", store])
    here = [program, "-q", "--repo", store]
    rows = []

    def one(what, command, packs_before=None):
        seconds, peak = compare.timed(command)
        bar = "met" if peak <= PEAK_BAR_MIB else "MISSED"
        ratio = ""
        if packs_before is not None:
            ratio = f"{(compare.size(store / 'packs') - packs_before) / plain:.4f}"
        rows.append((what, f"{peak:.0f}", bar, f"{plain / seconds / 1e6:.0f}", ratio))
        print(*rows[-1], sep=" | ", flush=True)

    def checked(branch, folder):
        out = work / "out"
        one(f"checkout, {branch}", [*here, "checkout", branch, out])
        subprocess.run(["cmp", folder / "model.safetensors", out / "model.safetensors"], check=True)
        shutil.rmtree(out)

    one("commit without a base", [*here, "commit", base, "-b", "base", "-m", "base"], 0)
    checked("base", base)
    shutil.rmtree(base)
    before = compare.size(store / "packs")
    command = [*here, "commit", tuned, "-b", "tuned", "--base", "base", "-m", "tuned"]
    one("commit of a fine-tune", command, before)
    checked("tuned", tuned)
    head = ["verb", "peak MiB", f"bar {PEAK_BAR_MIB} MiB", "MB/s", "new / plain bytes"]
    words = (
        f"A generated bf16 model of {plain / 2**30:.1f} GiB (normal numbers, a scale for each row), and a "
        "second whose every weight is moved by normal numbers of 0.3 % of its row's scale. Wall clock."
    )
    return "Peak memory", f"--big --only big --mib {options.mib}", words, head, rows


def verbs(program, native, work, options):
    """Each commit has files of its own; what is measured is the store, not the tree."""
    tree = work / "tree"
    compare.timed([program, "-q", "init", tree])
    here = [program, "-C", tree]
    files = options.chunks // COMMITS // 50
    for n in range(COMMITS):
        for old in tree.glob("*.bin"):
            old.unlink()
        for k in range(files):
            (tree / f"part-{n}-{k}.bin").write_bytes(os.urandom(50 * CHUNK_BYTES))
        compare.timed([*here, "-q", "commit", "-m", f"step {n}", "--base", "none"])
    stats = json.loads(subprocess.check_output([*here, "stats", "--json"]))
    rows = []
    for name, words in [("log -20", ["log", "-20"]), ("status", ["status"]), ("stats", ["stats"])]:
        seconds, peak = fastest([*here, *words])
        rows.append((name, f"{seconds * 1000:.0f}", f"{peak:.0f}"))
        print(*rows[-1], sep=" | ", flush=True)
    words = (
        f"{COMMITS} commits of {files} random files each, {options.chunks:,} chunks of 64 KiB on average in all, "
        f"{stats.get('commits')} commits counted by `stats`; the shortest of 5 runs, wall clock."
    )
    head = ["verb", "ms", "peak MiB"]
    return "Verbs in a store of many chunks", f"--only verbs --chunks {options.chunks}", words, head, rows


def index(program, native, work, options):
    store = work / "store"
    compare.timed([program, "-q", "init", "--bare", store])
    subprocess.run([native, "index", "make", str(ENTRIES), store], check=True)
    look_up = [native, "index", "look-up", str(ENTRIES), store]
    fields = ["merged", "open_ms", "first_ms", "all_ms", "present_us", "absent_us", "anon_mib"]
    rows = []

    def one(what):
        found = json.loads(subprocess.check_output(look_up))
        rows.append((what, *(found[field] for field in fields)))
        print(*rows[-1], sep=" | ", flush=True)

    one("100 packs searched one by one")
    small = work / "small"
    small.mkdir()
    (small / "a").write_text("a\n")
    command = [program, "-q", "--repo", store, "commit", small, "-b", "main", "-m", "small"]
    seconds, peak = compare.timed(command)
    rows.append((f"(the commit that merges them: {seconds:.1f} s, {peak:.0f} MiB)", *[""] * 7))
    one("after the merge")
    (small / "a").write_text("b\n")
    seconds, peak = compare.timed(command)
    rows.append((f"(the commit after that: {seconds * 1000:.0f} ms, {peak:.0f} MiB)", *[""] * 7))
    head = ["10,000,000 records in 100 packs", "merged indexes", "open, ms", "first look-up, ms"]
    head += ["a look-up in each pack, ms", "present, µs", "absent, µs", "own MiB"]
    words = (
        "Through `store::index::View`; made-up records, 20,000 look-ups of each kind in random order on "
        "one core. An index file is checked whole when it is first used."
    )
    return "Look-ups among 10,000,000 records", "--only index", words, head, rows


def plain(program, native, work, options):
    model = work / "model"
    model.mkdir()
    file, coded, again = model / "model.safetensors", work / "coded.zst", work / "again"
    subprocess.run([native, "generate", "1024", "9", file], check=True)
    bytes_ = file.stat().st_size
    store, out = work / "store", work / "out"
    compare.timed([program, "-q", "init", "--bare", store])
    here = [program, "-q", "--repo", store]
    put, put_peak = compare.timed([*here, "commit", model, "-b", "main", "-m", "plain"])
    stored = compare.size(store / "packs")
    zput, zput_peak = compare.timed(["zstd", "-q", "-f", "-3", file, "-o", coded])

    def checkout():
        shutil.rmtree(out, ignore_errors=True)
        return compare.timed([*here, "checkout", "main", out])

    def unzip(also=""):
        again.unlink(missing_ok=True)
        return compare.timed(["sh", "-c", f"zstd -q -d {coded} -o {again} {also}"])

    # Turn and turn about, so that what disturbs disturbs all.
    runs = [(checkout(), unzip(), unzip(f"&& sync {again}")) for _ in range(3)]
    subprocess.run(["cmp", file, out / "model.safetensors"], check=True)
    rows = []
    zipped = coded.stat().st_size, zput, zput_peak
    ways = [("sparse", stored, put, put_peak), ("zstd -3", *zipped), ("zstd -3, then sync", *zipped)]
    for n, (name, size, seconds, peak) in enumerate(ways):
        got = min(run[n][0] for run in runs)
        peak = max(peak, *(run[n][1] for run in runs))
        speeds = [f"{bytes_ / taken / 1e6:.0f}" for taken in (seconds, got)]
        rows.append((name, f"{size / bytes_:.4f}", *speeds, f"{peak:.0f}"))
        print(*rows[-1], sep=" | ", flush=True)
    words = (
        "A generated bf16 model of 1 GiB, wall clock, files in the page cache; the shortest of 3 times out. "
        "sparse synchronises and verifies what it writes, on all cores; zstd does neither, so a third row waits "
        "for its file to reach the disk."
    )
    head = ["way", "stored / plain", "in MB/s", "out MB/s", "peak MiB"]
    return "A model without a base beside zstd", "--only plain", words, head, rows


PARTS = {"plain": plain, "index": index, "verbs": verbs, "big": big}


def main():
    parser = compare.options(__doc__)
    parser.add_argument("--big", action="store_true", help="measure `big` as well")
    parser.add_argument("--mib", type=int, default=8192, help="size of the big model")
    parser.add_argument("--chunks", type=int, default=100_000, help="chunks of the store of `verbs`")
    parser.add_argument("--only", choices=PARTS, action="append")
    arguments = parser.parse_args()
    program, native = compare.prepared(arguments)
    for name, part in PARTS.items():
        if (arguments.only and name not in arguments.only) or (name == "big" and not arguments.big):
            continue
        with tempfile.TemporaryDirectory(dir=arguments.cache) as work:
            title, how, words, head, rows = part(program, native, pathlib.Path(work), arguments)
        command = f"    python3 benches/scale.py {how}"
        table = report.table(head, rows)
        text = f"## {title}\n\n{command}\n\n{report.machine()}. {words}\n\n{table}\n"
        report.replace_section(HERE / "RESULTS.md", name, text)


if __name__ == "__main__":
    main()
