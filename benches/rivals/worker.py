"""Measures one Python rival on one pair in a process of its own; prints a line of JSON.

    worker.py RIVAL DIR DTYPE REPEAT

Time is the processor time of the process (or of the program that it starts) on all threads, so
that other work of the machine and hidden threads do not show; the least of REPEAT. Memory is the
peak beyond what was in use before, which includes the result.
"""

import json
import os
import pathlib
import subprocess
import sys
import time

import rivals


def status_kib(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field))


def best(repeat, work):
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # sets the peak back
    before = status_kib("VmRSS")
    least, peak = float("inf"), 0
    for n in range(repeat):
        start = time.process_time()
        result = work()
        least = min(least, time.process_time() - start)
        peak = peak or status_kib("VmHWM")
    return result, least, (peak - before) / 1024


def run(words, repeat):
    """A program's least processor time and its peak memory."""
    least, peak = float("inf"), 0
    for n in range(repeat):
        child = subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            raise SystemExit(f"{words[0]} failed")
        least = min(least, usage.ru_utime + usage.ru_stime)
        peak = max(peak, usage.ru_maxrss / 1024)
    return least, peak


def program(rival, folder, repeat):
    target, base = folder / "target", folder / "base"
    coded, again = folder / "coded", folder / "again"
    encode_s, encode_mib = run(rival.command(target, base, coded), repeat)
    decode_s, decode_mib = run(rival.back(coded, base, again), repeat)
    if target.read_bytes() != again.read_bytes():
        raise SystemExit("decoded bytes differ")
    size = coded.stat().st_size
    coded.unlink()
    again.unlink()
    return size, encode_s, decode_s, encode_mib, decode_mib


def function(rival, folder, dtype, repeat):
    target = (folder / "target").read_bytes()
    base = (folder / "base").read_bytes() if (folder / "base").exists() else None
    # Imports and lazy tables are not the coder's.
    head, head_base = target[:4096], base and base[:4096]
    rival.decode(rival.encode(head, head_base, dtype), head_base, dtype, len(head))
    coded, encode_s, encode_mib = best(repeat, lambda: rival.encode(target, base, dtype))
    decode = lambda: rival.decode(coded, base, dtype, len(target))
    plain, decode_s, decode_mib = best(repeat, decode)
    if bytes(plain) != target:
        raise SystemExit("decoded bytes differ")
    parts = coded if isinstance(coded, list) else [coded]
    return sum(map(len, parts)), encode_s, decode_s, encode_mib, decode_mib


def main():
    name, folder, dtype, repeat = sys.argv[1:]
    rival = next(rival for rival in rivals.RIVALS if rival.name == name)
    folder, repeat = pathlib.Path(folder), int(repeat)
    if rival.command:
        figures = program(rival, folder, repeat)
    else:
        figures = function(rival, folder, dtype, repeat)
    fields = ["coded", "encode_s", "decode_s", "encode_mib", "decode_mib"]
    print(json.dumps(dict(zip(fields, figures))))


if __name__ == "__main__":
    main()
