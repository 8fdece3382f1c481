#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Do `nvfp4 perplexity` and llama-perplexity read each other's files of log-probabilities, and do they say the same? Run by hand:

  scripts/llama_perplexity.py LLAMA_PERPLEXITY build/nvfp4 BASE.gguf MODEL.gguf TEXT

llama-perplexity is built from llama.cpp (its source also lies in the source package of PyPI's llama-cpp-python, under vendor/; target llama-perplexity).
Both tools write BASE's log-probabilities, then both compare MODEL with both files. Held: header, size and tokens of the files; names and order of the
statistics; PPL(base), which comes from the file alone, to 2 in the last digit; all figures with a standard error to that error. They do not agree
further, since llama.cpp rounds activations to 8 bits and this library, in mode w4a16, does not."""
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

STATISTIC = re.compile(r"^(.+?)\s*:\s*([-\d.]+)\s*%?(?:\s*±\s*([\d.]+))?")


def head(path):
    """Magic, tokens of a window, size of the vocabulary, windows; the tokens; bytes in all."""
    with open(path, "rb") as file:
        magic, window, vocabulary, windows = struct.unpack("<8s3i", file.read(20))
        return magic, window, vocabulary, windows, file.read(4 * window * windows), path.stat().st_size


def statistics(text):
    """The lines from "Perplexity statistics" on: [(name, value, standard error or None)]."""
    lines = text[text.index("====== Perplexity statistics"):].splitlines()
    found = [(m[1], float(m[2]), float(m[3]) if m[3] else None) for m in map(STATISTIC.match, lines) if m]
    return found[:[name for name, _, _ in found].index("Same top p") + 1]


def main():
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    llama, ours, base, model, text = sys.argv[1:]

    def run(*command):
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    good = True
    with tempfile.TemporaryDirectory() as folder:
        files = {"llama-perplexity": Path(folder) / "llama.kld", "nvfp4": Path(folder) / "ours.kld"}
        run(llama, "-m", base, "-f", text, "-c", "512", "--kl-divergence-base", files["llama-perplexity"])
        run(ours, "perplexity", base, text, "--kl-divergence-base", files["nvfp4"])
        heads = [head(path) for path in files.values()]
        good &= heads[0] == heads[1]
        print(f"{'ok' if heads[0] == heads[1] else 'FAIL'}: both files have {heads[0][3]} windows of {heads[0][1]} tokens, the same ones, and {heads[0][5]} bytes")
        for writer, path in files.items():
            theirs = statistics(run(llama, "-m", model, "-c", "512", "--kl-divergence-base", path, "--kl-divergence"))
            own = statistics(run(ours, "perplexity", model, "--kl-divergence-base", path, "--kl-divergence", "--mode", "w4a16"))
            same = [s[0] for s in theirs] == [s[0] for s in own]
            good &= same
            print(f"{'ok' if same else 'FAIL'}: file of {writer}: {len(own)} statistics, the same names in the same order\n")
            print(f"{'':30} {'llama-perplexity':>20} {'nvfp4':>12}")
            for (name, a, error), (_, b, _) in zip(theirs, own):
                limit = 2e-6 if name == "Mean PPL(base)" else error
                bad = limit is not None and abs(a - b) > limit
                good &= not bad
                print(f"{name:30} {a:20.6f} {b:12.6f} {'FAIL' if bad else '' if limit is None else f'within {limit:g}'}")
            print()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
