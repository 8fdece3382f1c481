#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scripts/roofline.py: what it draws, what it refuses, and that the plots in docs/ are what it makes of bench/ today."""
import copy
import json
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

SVG = "{http://www.w3.org/2000/svg}"
ROOF = {"read_gbps": 10.0, "f32_gflops": 100.0, "f32_name": "avx512f", "i8_gops": 400.0, "i8_name": "avx512vnni", "threads": 2}


def row(kernel, m, gflops):
    return {"kernel": kernel, "N": 4096, "K": 4096, "M": m, "threads": 2, "us": 1.0, "gflops": gflops}


GOOD = {
    "machine": "arch x86_64\ncpu A & B\n",
    "roof": {"before": ROOF, "after": {**ROOF, "read_gbps": 12.0}},
    "results": [row("x_w4a4", 1, 30.0), row("x_w4a4", 512, 300.0), row("ref_w4a16", 1, 3.0),
                {"kernel": "tall_w4a4", "N": 4096, "K": 4096, "M": 1, "threads": 2, "reason": "serves M from 16"}],
}


def changed(change):
    value = copy.deepcopy(GOOD)
    change(value)
    return value


class Folder:
    def __init__(self, path):
        self.path = Path(path)

    def write(self, name, value):
        path = self.path / name
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return str(path)

    def run(self, *arguments):
        done = subprocess.run([sys.executable, "scripts/roofline.py", *arguments], capture_output=True, text=True)
        assert done.returncode in (0, 2) and "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stderr

    def refuses(self, phrase, *arguments):
        out = self.path / "refused.svg"
        code, told = self.run(str(out), *arguments)
        assert code == 2 and phrase in told, f"{arguments}: {code}, {told!r}; needs 2, {phrase!r}"
        assert not out.exists(), f"{arguments}: refused, but wrote a plot"

    def refuses_file(self, phrase, value):
        self.refuses(phrase, self.write("bad.json", value))


def check_plot(folder):
    out = folder.path / "plot.svg"
    code, told = folder.run(str(out), folder.write("good.json", GOOD))
    assert code == 0, told
    root = ElementTree.parse(out).getroot()
    words = [element.text for element in root.iter(SVG + "text")]
    for needed in ("A & B, 2 threads", "read 12 GB/s", "int8 avx512vnni 400", "fp32 avx512f 100", "x_w4a4", "ref_w4a16", "M = 1", "M = 512"):
        assert needed in words, f"{needed!r} is not in {words}"
    assert "tall_w4a4" not in words  # it has no time
    at = [float(circle.get("cy")) for circle in root.iter(SVG + "circle")]
    assert len(at) == 2 and at[0] > at[1], "M = 512, ten times faster, lies above M = 1"
    # What `nvfp4 bench --json` prints; a later file counts where both have a kernel and M.
    ours = {"schema": 1, **changed(lambda v: v.update(machine={"cpu": "A & B"}, results=[row("x_w4a4", 512, 30.0)]))}
    code, told = folder.run(str(out), folder.write("good.json", {"bench": GOOD, "schema": 1}), folder.write("ours.json", ours))
    at = [float(circle.get("cy")) for circle in ElementTree.parse(out).getroot().iter(SVG + "circle")]
    assert code == 0 and len(at) == 2 and at[0] == at[1], told


def check_refusals(folder):
    good = folder.write("good.json", GOOD)
    folder.refuses("cannot be read: No such file", str(folder.path / "none.json"))
    folder.refuses("cannot be read", str(folder.path))
    folder.refuses_file("JSONDecodeError", "{")
    folder.refuses_file("AttributeError", "[]")
    folder.refuses_file("KeyError: 'machine'", {})
    folder.refuses_file("KeyError: 'cpu'", changed(lambda v: v.update(machine="arch x86_64\n")))
    folder.refuses_file("KeyError: 'before'", changed(lambda v: v["roof"].pop("before")))
    folder.refuses_file("read_gbps is 0", changed(lambda v: v["roof"]["after"].update(read_gbps=0)))
    folder.refuses_file("gflops is None", changed(lambda v: v["results"][0].update(gflops=None)))
    folder.refuses_file("gflops is nan", json.dumps(changed(lambda v: v["results"][0].update(gflops=float("nan")))))
    folder.refuses_file("M is True", changed(lambda v: v["results"][0].update(M=True)))
    folder.refuses_file("it has none", changed(lambda v: v.update(results=[])))
    folder.refuses("it has 4096,4096", good, "--shape", "64,64")
    folder.refuses("needs N,K", good, "--shape", "64")
    folder.refuses("leaves no kernel", good, "--without", "*")
    other = folder.write("other.json", changed(lambda v: v["roof"]["before"].update(threads=1)))
    folder.refuses("is of A & B, 1 thread, ", good, other)
    # Files in the wrong order: the measurement stays as it is.
    before = Path(good).read_text()
    code, told = folder.run(good, good)
    assert code == 2 and "the output comes first" in told and Path(good).read_text() == before, told


def check_docs(folder):
    commands = re.findall(r"^scripts/roofline\.py (docs/\S+) (.*)$", Path("docs/performance.md").read_text(), re.M)
    assert {out for out, _ in commands} == {str(p) for p in Path("docs").glob("roofline-*.svg")}, commands
    for out, arguments in commands:
        made = folder.path / Path(out).name
        words = [quoted or word for quoted, word in re.findall(r'"([^"]*)"|(\S+)', arguments)]
        code, told = folder.run(str(made), *words)
        assert code == 0, told
        assert made.read_text() == Path(out).read_text(), f"{out} is not what its command makes: run it again"


with tempfile.TemporaryDirectory() as scratch:
    check_plot(Folder(scratch))
    check_refusals(Folder(scratch))
    check_docs(Folder(scratch))
