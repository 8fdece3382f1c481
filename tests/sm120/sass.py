#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The machine code of cuda_sm120_w4a4: that each kernel has the FP4 MMA with block scales, nothing else in its place, and no spilled registers.

sass.py CUOBJDUMP FATBIN"""
import re
import subprocess
import sys

# Row tiles x column tiles of a warp, two halves of a pair: what SM120_SHAPES of src/kernels/cuda/sm120_index.h comes to.
MMAS = {"split16": 8, "split32": 16, "split64": 32, "sequence64": 16, "sequence128": 32}
MMA = "OMMA.SF.16864.F32.E2M1.E2M1.UE4M3.4X"


def main():
    cuobjdump, fatbin = sys.argv[1:]
    text = subprocess.run([cuobjdump, "-sass", fatbin], check=True, capture_output=True, text=True).stdout
    seen = 0
    for part in text.split("Function : ")[1:]:
        name = part.split()[0].removeprefix("nvfp4_sm120_")
        code = re.findall(r"/\*[0-9a-f]{4,5}\*/ +(?:@!?U?P[0-9T]+ )?([A-Z0-9_.]+)", part)
        mmas = [i for i in code if "MMA" in i]
        if mmas != [MMA] * MMAS[name]:
            sys.exit(f"{name}: {len(mmas)} MMAs, {sorted(set(mmas))}; needs {MMAS[name]} of {MMA}")
        if spilled := [i for i in code if i.startswith(("STL", "LDL"))]:
            sys.exit(f"{name}: {len(spilled)} instructions for spilled registers")
        seen += 1
        print(f"{name}: {len(code)} instructions, {len(mmas)} {MMA}")
    if seen == 0 or seen % len(MMAS) != 0:
        sys.exit(f"{seen} kernels; needs {len(MMAS)} for each architecture")


main()
