#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every file of ours: SPDX line, no tabs (but in the Makefile), no blanks at line ends, under 800 lines, a newline at the end; no TODO."""
import re
import subprocess
import sys
from pathlib import Path

LONGEST = 800
SOURCE = re.compile(r"(\.(c|h|cpp|cu|cuh|def|py|sh|cmake)|CMakeLists\.txt|Makefile|scripts/[^.]*|\.ci/run)$")
OTHERS = ("tests/golden/", "tests/fuzz/corpus", "data/northanger_abbey.txt", "data/persuasion.txt", "LICENSE")


def problems(path):
    text = path.read_text()
    if SOURCE.search(str(path)):
        if "SPDX-License-Identifier: Apache-2.0" not in "".join(text.splitlines(True)[:2]):
            yield 1, "no SPDX line at the top"
        if text.count("\n") >= LONGEST:
            yield text.count("\n"), f"longer than {LONGEST} lines"
    if not text.endswith("\n"):
        yield text.count("\n") + 1, "no newline at the end"
    for number, line in enumerate(text.splitlines(), 1):
        if "\t" in line and path.name != "Makefile":
            yield number, "tab"
        if line != line.rstrip():
            yield number, "blank at the end of the line"
        if re.search(r"\b(TODO|FIXME|XXX)\b", line) and path.name != "files.py":
            yield number, "unfinished work: finish it, or open an issue"


def main():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True).stdout.splitlines()
    paths = [Path(name) for name in listed if not name.startswith(OTHERS) and Path(name).is_file()]
    errors = [f"{path}:{line}: {what}" for path in paths for line, what in problems(path)]
    sys.exit("\n".join(errors) if errors else 0)


main()
