#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/unit mirrors src: src/ROOM/FILE.c is tested by tests/unit/ROOM/test_FILE.c, and no test lacks its source."""
import sys
from pathlib import Path

UNTESTED = {  # source without a test of its own: why
    "bench/cublas": "a library opened at run time: test_bench_cuda runs with and without it",
    "bench/roof_arm": "one part of test_roof, on that processor",
    "bench/roof_x86": "one part of test_roof, on that processor",
    "checkpoint/rows": "test_weights reads whole layers of it, test_converter rows",
    "converter/emit": "test_converter converts every golden file through it",
    "converter/plan": "test_converter converts every golden file through it",
    "converter/rows": "test_converter converts every golden file through it",
    "converter/write": "test_converter converts every golden file through it",
    "kernels/cuda/emulation": "the host side that test_emulation_w4a4 and test_emulation_w4a16 test",
    "kernels/cuda/linear": "test_place packs it, checkkern unpacks it",
    "kernels/packing": "test_registry packs with every layout, checkkern without memory, too",
    "kernels/ref/n32": "test_registry unpacks what every layout has packed; test_w4a4 and test_w4a16 compute with it",
    "layer/build_info": "one constant line of text",
}
EXTRA = {  # test without a source of its own: what it tests
    "kernels/arm/neon": "what the Arm kernels share, in a header",
    "kernels/x86/amx_tile": "the tiles of AMX, in a header, against their emulation",
    "cuda/api": "declarations in a header, against cuda.h",
    "checkpoint/golden": "every golden and every broken file, through the whole room",
    "layer/golden_outputs": "layers of the golden checkpoints, from file to y",
}


def main():
    sources = {str(p.relative_to("src").with_suffix("")) for p in Path("src").rglob("*.c")}
    tests = {str((p.parent / p.stem.removeprefix("test_")).relative_to("tests/unit")) for p in Path("tests/unit").rglob("test_*.c")}
    errors = [f"src/{name}.c: no test" for name in sorted(sources - tests - UNTESTED.keys())]
    errors += [f"tests/unit: the test of {name} has no source src/{name}.c" for name in sorted(tests - sources - EXTRA.keys())]
    errors += [f"mirror.py: the exception {name} is not needed" for name in sorted((UNTESTED.keys() & tests) | (UNTESTED.keys() - sources))]
    errors += [f"mirror.py: the exception {name} is not needed" for name in sorted((EXTRA.keys() & sources) | (EXTRA.keys() - tests))]
    sys.exit("\n".join(errors) if errors else 0)


main()
