"""Markdown tables, and one section of a file written anew."""

import os
import platform


HEAD = "# Measurements\n\nEach section is written by the command that stands above its tables.\n"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def machine():
    """The processor and what is there of it, in a line."""
    name = platform.processor() or "unknown processor"
    with open("/proc/cpuinfo") as info:
        names = [line.split(":", 1)[1].strip() for line in info if line.startswith("model name")]
    system = platform.release().split("-")[0]
    return f"{names[0] if names else name}, {os.cpu_count()} cores, Linux {system}"


def replace_section(path, marker, text):
    """Puts `text` between `<!-- begin MARKER -->` and its end, at the file's end where it is new."""
    begin, end = f"<!-- begin {marker} -->", f"<!-- end {marker} -->"
    section = f"{begin}\n{text.strip()}\n{end}\n"
    old = path.read_text() if path.exists() else HEAD
    if begin in old:
        before, rest = old.split(begin, 1)
        after = rest.split(end, 1)[1].lstrip("\n")
        after = "\n" + after if after else ""
        path.write_text(before + section + after)
    else:
        path.write_text(old.rstrip("\n") + "\n\n" + section)
