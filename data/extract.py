#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the texts of this folder again: extract.py r-cran-janeaustenr_1.0.0-1_all.deb, needs dpkg-deb.

The package keeps each novel as an R vector of lines, serialised (XDR, version 3) and zlib-compressed, one after another in Rdata.rdb.
"""
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

EXCERPTS = {b"NORTHANGER ABBEY": ("northanger_abbey.txt", 190_000), b"Persuasion": ("persuasion.txt", 30_000)}
STRSXP = 16


def chunks(rdb):
    while rdb:
        stream = zlib.decompressobj()
        yield stream.decompress(rdb[4:])  # 4 bytes: the length when unpacked
        rdb = stream.unused_data


def lines(chunk):
    at = 18 + struct.unpack_from(">i", chunk, 14)[0]  # "X\n", three versions, the name of the encoding
    kind, count = struct.unpack_from(">ii", chunk, at)
    if kind & 255 != STRSXP:
        sys.exit("not a vector of strings")
    at += 8
    for _ in range(count):
        size = struct.unpack_from(">i", chunk, at + 4)[0]
        yield chunk[at + 8 : at + 8 + size]
        at += 8 + size


def main():
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["dpkg-deb", "-x", sys.argv[1], folder], check=True)
        rdb = Path(folder, "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb").read_bytes()
    for chunk in chunks(rdb):
        text = list(lines(chunk))
        if text[0] not in EXCERPTS:
            continue
        name, limit = EXCERPTS[text[0]]
        whole = b"".join(line + b"\n" for line in text)
        (here / name).write_bytes(whole[: whole.rfind(b"\n", 0, limit) + 1])  # whole lines, at most `limit` bytes


if __name__ == "__main__":
    main()
