#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The machine code of cuda_sm100_w4a4: that it has the FP4 MMA with a scale for each 16, copies to tensor memory and loads from it, and no spilled registers.

sass.py CUOBJDUMP FATBIN"""
import re
import subprocess
import sys

ARCHITECTURES = 2
NEEDED = {"UTCOMMA.4X", "UTCCP.T.S.4x32dp128bit", "LDTM.x16", "UTCBAR", "UTMALDG.2D"}


def main():
    cuobjdump, fatbin = sys.argv[1:]
    text = subprocess.run([cuobjdump, "-sass", fatbin], check=True, capture_output=True, text=True).stdout
    kernels = text.split("Function : ")[1:]
    if len(kernels) != ARCHITECTURES:
        sys.exit(f"{len(kernels)} kernels; needs {ARCHITECTURES}, one for each architecture")
    for kernel in kernels:
        code = re.findall(r"/\*[0-9a-f]{4,5}\*/ +(?:@!?U?P[0-9T]+ )?([A-Za-z0-9_.]+)", kernel)
        if missing := NEEDED - set(code):
            sys.exit(f"no {', '.join(sorted(missing))}")
        if others := {i for i in code if "MMA" in i} - NEEDED:
            sys.exit(f"other MMAs: {', '.join(sorted(others))}")
        if spilled := [i for i in code if i.startswith(("STL", "LDL"))]:
            sys.exit(f"{len(spilled)} instructions for spilled registers")
        print(f"{len(code)} instructions")


main()
