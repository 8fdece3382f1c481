#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scripts/hopper_table.py, as far as it goes without a GPU: its declarations of the C interface (against a CPU kernel of the built library), the table it prints, also that
docs/performance.md has the one of bench/, what it refuses. usage: test_hopper_table.py LIBRARY"""
import array
import contextlib
import importlib.util
import io
import random
import sys
import tempfile
from pathlib import Path

spec = importlib.util.spec_from_file_location("hopper_table", "scripts/hopper_table.py")
table = importlib.util.module_from_spec(spec)
spec.loader.exec_module(table)


def run(*arguments):
    """Exit code, stdout, stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = table.main(arguments)
        except SystemExit as e:
            code = e.code
    return code, out.getvalue(), err.getvalue()


def check_c_interface(path):
    """y of the reference kernel, through the structs that are declared here, against sums in double."""
    m, n, k, factor = 3, 5, 32, 0.25
    dice = random.Random(5)
    codes = array.array("B", (dice.randrange(256) for _ in range(n * k // 2)))
    scales = array.array("B", (dice.choice((0x30, 0x38, 0x40)) for _ in range(n * k // 16)))  # 0.5, 1, 2
    x = array.array("f", (dice.randrange(-8, 9) for _ in range(m * k)))
    y = array.array("f", [float("nan")] * (m * n))
    library = table.Library(path)
    plan = library.plan(n, k, table.W4A16, "ref_*", table.Device(table.CPU, 0), dtype=table.F32, globals_=(factor, 0.0))
    assert library.kernel(plan, m) == "ref_w4a16", library.kernel(plan, m)
    layer = library.layer(plan, n, k, codes.buffer_info()[0], scales.buffer_info()[0], table.HOST_MEMORY)
    bytes_ = library.workspace_bytes(layer, m)
    workspace = array.array("B", bytes(bytes_ + 64))
    begin = workspace.buffer_info()[0]
    library.apply(layer, m=m, x=x.buffer_info()[0], ldx_elems=k, y=y.buffer_info()[0], ldy_elems=n, workspace=begin + -begin % 64, workspace_bytes=bytes_)
    levels = table.LEVELS + tuple(-v for v in table.LEVELS)
    for i in range(m):
        for j in range(n):
            want = 0.0
            for e in range(k):
                byte = codes[(j * k + e) // 2]
                want += x[i * k + e] * levels[byte >> 4 if e % 2 else byte & 15] * 2.0 ** ((scales[j * k // 16 + e // 16] - 0x38) // 8) * factor
            assert y[i * n + j] == want, (i, j, y[i * n + j], want)  # few bits: nothing is rounded
    try:
        library.apply(layer, m=m, x=None, ldx_elems=k, y=y.buffer_info()[0], ldy_elems=n)
    except RuntimeError as e:
        assert "x is NULL" in str(e), e
    else:
        raise AssertionError("an x that is NULL was taken")
    library.c.nvfp4_layer_destroy(layer)
    library.c.nvfp4_plan_free(plan)
    library.c.nvfp4_context_destroy(library.context)


def check_markdown(folder):
    path = folder / "t.csv"
    path.write_text("N,K,M,ours_us,ours_bi_us,w4a4_us,cublas_us,humming_us,rel_err\n"
                    "64,32,1,2.00,2.00,4.00,8.00,4.00,1.70e-03\n"
                    "64,32,128,150.00,,,300.00,,1.70e-03\n"
                    "128,32,1,2.00,4.00,4.00,2.00,4.00,1.70e-03\n"
                    "128,32,128,,,,,,\n")
    code, out, err = run(str(path), "--markdown")
    assert (code, err) == (0, ""), (code, err)
    assert out.splitlines() == [
        "| M | 64, 32 | 128, 32 | cuBLAS | Humming | invariant | W4A4 |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| 1 | 2.00 (2.00) | 2.00 (1.00) | 2.00 | 2.00 | 0.71 | 0.50 |",
        "| 128 | 150 (2.00) | - | 2.00 | - | - | - |",
    ], out
    path.write_text("M,us\n1,x\n")
    code, out, err = run(str(path), "--markdown")
    assert code == 2 and "not a table of this script" in err, (code, err)
    code, out, err = run(str(folder / "none.csv"), "--markdown")
    assert code == 2 and "not a table of this script" in err, (code, err)


def check_docs():
    measured = Path("bench/hopper_h200.csv")
    if measured.exists():
        code, out, _ = run(str(measured), "--markdown")
        assert code == 0 and out in Path("docs/performance.md").read_text(), "docs/performance.md lacks what scripts/hopper_table.py bench/hopper_h200.csv --markdown prints"


def check_refusals(folder):
    path = str(folder / "out.csv")
    for arguments in (["--shapes", "4096"], ["--shapes", "4096,40"], ["--m", "0"], ["--m", "x"]):
        code, _, err = run(path, *arguments)
        assert code == 2 and "--shapes needs" in err, (code, err)
    try:
        table.Library(str(folder / "libnone.so"))
    except table.Stop as e:
        assert "no libnvfp4" in str(e) and "--library" in str(e), e
    else:
        raise AssertionError("a library that is not there was opened")
    if table.torch is None:
        code, _, err = run(path)
        assert code == 2 and "no PyTorch" in err, (code, err)
    assert not Path(path).exists()


def main():
    with tempfile.TemporaryDirectory() as folder:
        check_c_interface(sys.argv[1])
        check_markdown(Path(folder))
        check_refusals(Path(folder))
    check_docs()


main()
