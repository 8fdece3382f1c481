# SPDX-License-Identifier: Apache-2.0
"""What test_apply.sh leaves to Python (its standard library alone).

apply_check.py golden NVFP4 CHECKPOINT EXPECTED SCRATCH MODE...   every layer with x: |y - expected| within the bound, in each mode; for the first
                                                                  layer also the same bits for 1 and 2 threads, and for a row alone
apply_check.py inputs SCRATCH                                     writes inputs, some that apply must refuse
"""
import json
import struct
import subprocess
import sys


def read(path):
    """name -> (dtype, shape, bytes)"""
    data = open(path, "rb").read()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    start = 8 + length
    return {name: (t["dtype"], t["shape"], data[start + t["data_offsets"][0] : start + t["data_offsets"][1]]) for name, t in header.items()}


def write(path, name, dtype, shape, data):
    header = json.dumps({name: {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}}).encode()
    open(path, "wb").write(struct.pack("<Q", len(header)) + header + data)


def rows(tensor):
    dtype, (m, n), data = tensor
    assert dtype == "F32", dtype
    return [struct.unpack_from("<%df" % n, data, 4 * n * row) for row in range(m)]


def check_outputs(got, want, magnitude, k):
    """fp32 sum of K terms, then alpha and the bias: (K + 8) u sum|terms|, u = 2^-24; one more rounding each of the result and the expected value.
    Rows of W beyond the expected ones (padding of the file) give 0."""
    unit = 2.0**-24
    assert len(got) == len(want) > 0
    for g, w, magnitudes in zip(got, want, magnitude):
        for n, (a, b, terms) in enumerate(zip(g, w, magnitudes)):
            if not abs(a - b) <= (k + 8) * unit * terms + 2 * unit * abs(b) + 2.0**-149:
                return f"output {n} is {a}, expected {b}"
        if any(g[len(w) :]):
            return "padding is not 0"
    return None


def golden(nvfp4, checkpoint, expected, scratch, *modes):
    tensors = read(expected)

    def apply(layer, mode, source, target, threads):
        subprocess.run([nvfp4, "apply", checkpoint, layer, "--input", f"{scratch}/{source}", "--output", f"{scratch}/{target}", "--mode", mode,
                        "--out-dtype", "f32", "--threads", threads], check=True, stderr=subprocess.DEVNULL)
        return read(f"{scratch}/{target}")["y"]

    names = sorted(name[:-2] for name in tensors if name.endswith(".x"))
    assert names
    for name in names:
        layer = name.removesuffix(".weight")
        dtype, (m, k), data = tensors[name + ".x"]
        write(f"{scratch}/x", "x", dtype, [m, k], data)
        write(f"{scratch}/row", "x", dtype, [1, k], data[len(data) // m * 3 :][: len(data) // m])
        for mode in modes:
            y = apply(layer, mode, "x", "y", "1")
            wrong = check_outputs(rows(y), rows(tensors[f"{name}.y_{mode}"]), rows(tensors[f"{name}.abs_{mode}"]), k)
            if wrong:
                sys.exit(f"{checkpoint} {layer} {mode}: {wrong}")
            if name == names[0] and y != apply(layer, mode, "x", "y2", "2"):
                sys.exit(f"{checkpoint} {layer} {mode}: 2 threads give other bits than 1")
            if name == names[0] and rows(y)[3] != rows(apply(layer, mode, "row", "y_row", "1"))[0]:
                sys.exit(f"{checkpoint} {layer} {mode}: row 3 alone has other bits than in the batch")


def inputs(scratch):
    write(scratch + "/name.safetensors", "z", "F32", [1, 128], bytes(512))
    write(scratch + "/dtype.safetensors", "x", "I32", [1, 128], bytes(512))
    write(scratch + "/rank.safetensors", "x", "F32", [128], bytes(512))
    write(scratch + "/columns.safetensors", "x", "F32", [2, 64], bytes(512))
    write(scratch + "/good.safetensors", "x", "F32", [1, 128], bytes(512))
    write(scratch + "/empty.safetensors", "x", "F32", [0, 128], b"")


{"golden": golden, "inputs": inputs}[sys.argv[1]](*sys.argv[2:])
