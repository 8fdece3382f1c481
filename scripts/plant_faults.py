#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plants faults in a sound NVFP4 checkpoint of ModelOpt's layout (one model.safetensors) and counts how many layers `nvfp4 inspect` suspects of what.

usage: scripts/plant_faults.py NVFP4 CHECKPOINT

Faults: nibbles swapped; nibbles in GGUF's order; block scales swizzled (128x4), in the layers where that needs no padding; the global scale inverted.
"""
import json
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path


def read(folder):
    data = bytearray((folder / "model.safetensors").read_bytes())
    length = struct.unpack("<Q", data[:8])[0]
    return data, json.loads(data[8:8 + length]), 8 + length


def swap(codes, shape):
    return codes.translate(bytes(b >> 4 | (b & 15) << 4 for b in range(256)))


def halves(codes, shape):
    """Byte t of a block gets elements t and t + 8 instead of 2t and 2t + 1."""
    out = bytearray(codes)
    low, high = bytes(b & 15 for b in range(256)), bytes(b >> 4 for b in range(256))
    for t in range(8):
        for element in (t, t + 8):
            nibbles = codes[element // 2::8].translate(high if element % 2 else low)
            column = int.from_bytes(nibbles, "little") << (4 if element >= 8 else 0)
            before = 0 if element < 8 else int.from_bytes(out[t::8], "little")
            out[t::8] = (before | column).to_bytes(len(nibbles), "little")
    return bytes(out)


def swizzle(scales, shape):
    """Row n, block b goes to its place in tiles of 128 x 4; None: such a layer would be padded."""
    rows, blocks = shape
    if rows % 128 or blocks % 4:
        return None
    out = bytearray(len(scales))
    for n in range(rows):
        for b in range(0, blocks, 4):
            at = (n // 128 * (blocks // 4) + b // 4) * 512 + n % 32 * 16 + n % 128 // 32 * 4
            out[at:at + 4] = scales[n * blocks + b:n * blocks + b + 4]
    return bytes(out)


def invert(value, shape):
    return struct.pack("<f", 1 / struct.unpack("<f", value)[0])


FAULTS = {"none": (None, None), "nibbles_swapped": (".weight", swap), "nibbles_halves": (".weight", halves), "swizzled": (".weight_scale", swizzle),
          "global_inverted": (".weight_scale_2", invert)}


def main():
    tool, source = sys.argv[1], Path(sys.argv[2])
    data, header, start = read(source)
    layers = [name.removesuffix(".weight_scale_2") for name in header if name.endswith(".weight_scale_2")]
    for fault, (suffix, change) in FAULTS.items():
        planted, changed = bytearray(data), 0
        for layer in layers if change else []:
            entry = header[layer + suffix]
            first, end = (start + offset for offset in entry["data_offsets"])
            new = change(bytes(data[first:end]), entry["shape"])
            if new is not None:
                planted[first:end] = new
                changed += 1
        with tempfile.TemporaryDirectory() as folder:
            for file in source.iterdir():
                (Path(folder) / file.name).write_bytes(planted if file.name == "model.safetensors" else file.read_bytes())
            done = subprocess.run([tool, "inspect", folder, "--json"], capture_output=True, check=False)
        found = Counter()
        for layer in json.loads(done.stdout)["layers"]:
            found.update(layer["weights"]["suspicions"] if layer["weights"] else [])
        print(f"{fault}: planted in {changed} of {len(layers)} layers; suspected: {dict(found)}; exit code {done.returncode}")


main()
