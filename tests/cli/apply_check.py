# SPDX-License-Identifier: Apache-2.0
"""Files for test_apply.sh, in the standard library's Python alone.

apply_check.py make EXPECTED LAYER FOLDER      writes x.safetensors and row.safetensors (row 3 of x) into FOLDER
apply_check.py list EXPECTED                   prints the layers that have x
apply_check.py outputs EXPECTED LAYER MODE Y   compares y (F32) of a file with the expected values; needs |y - y_exact| <= bound
apply_check.py row Y ROW                       y of ROW must be row 3 of Y, bit for bit
apply_check.py bad FOLDER                      writes inputs that apply must refuse, and an empty one
"""
import json
import struct
import sys


def read(path):
    data = open(path, "rb").read()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    start = 8 + length
    return {name: (t["dtype"], t["shape"], data[start + t["data_offsets"][0] : start + t["data_offsets"][1]]) for name, t in header.items()}


def write(path, name, dtype, shape, data):
    header = json.dumps({name: {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}}).encode()
    open(path, "wb").write(struct.pack("<Q", len(header)) + header + data)


def floats(tensor):
    assert tensor[0] == "F32", tensor[0]
    return struct.unpack("<%df" % (len(tensor[2]) // 4), tensor[2])


def row_of(tensor, row):
    size = len(tensor[2]) // tensor[1][0]
    return tensor[2][row * size : (row + 1) * size]


def outputs(expected, layer, mode, y):
    """The sum in fp32 of K terms, then alpha and the bias: (K + 8) u sum|terms|, plus the rounding to fp32 of expected and result."""
    expected = read(expected)
    got, want, magnitude = (floats(t) for t in (read(y)["y"], expected[f"{layer}.y_{mode}"], expected[f"{layer}.abs_{mode}"]))
    k = expected[f"{layer}.x"][1][1]
    assert len(got) == len(want) > 0, (len(got), len(want))
    unit = 2.0**-24
    for i, (a, b, m) in enumerate(zip(got, want, magnitude)):
        if not abs(a - b) <= (k + 8) * unit * m + 2 * unit * abs(b) + 2.0**-149:
            sys.exit(f"{layer} {mode}: element {i} is {a}, expected {b}")


def main(command, *arguments):
    if command == "list":
        print("\n".join(sorted(name[:-2] for name in read(arguments[0]) if name.endswith(".x"))))
    elif command == "make":
        x = read(arguments[0])[arguments[1] + ".x"]
        write(arguments[2] + "/x.safetensors", "x", *x)
        write(arguments[2] + "/row.safetensors", "x", x[0], [1, x[1][1]], row_of(x, 3))
    elif command == "outputs":
        outputs(*arguments)
    elif command == "row":
        if row_of(read(arguments[0])["y"], 3) != read(arguments[1])["y"][2]:
            sys.exit("row 3 alone has other bits than in the batch")
    elif command == "bad":
        folder = arguments[0]
        write(folder + "/name.safetensors", "z", "F32", [1, 128], bytes(512))
        write(folder + "/dtype.safetensors", "x", "I32", [1, 128], bytes(512))
        write(folder + "/rank.safetensors", "x", "F32", [128], bytes(512))
        write(folder + "/columns.safetensors", "x", "F32", [2, 64], bytes(512))
        write(folder + "/good.safetensors", "x", "F32", [1, 128], bytes(512))
        write(folder + "/empty.safetensors", "x", "F32", [0, 128], b"")


main(*sys.argv[1:])
