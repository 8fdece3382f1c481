#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""checkkern must fail each wrong kernel, in the words below, and pass those without a fault: check.py WRONG.so [EMULATOR...] CHECKKERN"""
import json
import re
import subprocess
import sys

VALUE = r"row \d+, column \d+: found "
EXPECTED = {  # kernel: a pattern that one of its failures must match; None: it passes
    "none_w4a4": None,
    "none_w4a16": None,
    "none_bounded_w4a4": None,
    "none_bounded_w4a16": None,
    "none_w16a16": None,
    "none_bounded_w16a16": None,
    "order_by_k_w16a16": VALUE,
    "odd_k": VALUE,
    "padded_k": VALUE + r"0x0p\+0, needs -0x0p\+0: the sign of zero",
    "weight_type": VALUE,
    "flushes_w16a16": VALUE,
    "dropped_block": VALUE,
    "swapped_nibble": VALUE + r".* \+- .*difference",
    "order_by_k_w4a4": VALUE,
    "order_by_k_w4a16": VALUE,
    "saturates": VALUE,
    "scale_layout": VALUE + r"|past the end of quantised_x->scales$",
    "reads_past_x": r"crashes: .* in apply_weights.*: touches memory 31 bytes past the end of x$",
    "reads_before_x": r"crashes: .*: touches memory 1 bytes before the start of x$",
    "reads_past_bias": r"crashes: .*: touches memory \d+ bytes past the end of bias$",
    "reads_past_weights": r"crashes: .*: touches memory 7 bytes past the end of packed weights$",
    "writes_past_workspace": r"crashes: .*: touches memory 0 bytes past the end of workspace$|writes before or past workspace",
    "small_workspace": r"crashes: .* past the end of workspace$|writes before or past workspace",
    "dirty_workspace": VALUE,
    "unwritten_x": VALUE + r"-?nan",
    "aligned_x": VALUE,
    "writes_x": r"crashes: .*: touches memory inside x, at byte 0, which is not to be written then$",
    "writes_past_n": r"writes between the rows of y: row 0, column \d+",
    "keeps_source": r"crashes: .*: touches memory inside source codes, at byte 0, which is not to be used then$",
    "nan_row": VALUE + r"-?nan",
    "nan_swallowed": VALUE + r".*, needs -?nan",
    "minus_zero": VALUE + r"-0x0p\+0, needs 0x0p\+0: the sign of zero",
    "forgotten_task": r"row \d+, column \d+: was not written",
    "task_order": VALUE + r".*0x0p\+0, needs|the tasks in descending order gives other bits",
    "batch": r"a batch of \d+ instead of \d+ rows gives other bits",
    "threads": r"threads = \d gives other bits",
    "counter": r"the same call again gives other bits",
    "bias_type": VALUE,
    "second_alpha": VALUE,
    "rounds_twice": VALUE,
    "flushes": VALUE,
    "keeps_environment": r"does not restore the caller's floating-point environment",
    "allocates": r"apply_weights allocates",
    "null_pointer": r"(crashes: signal 11, .*|ends the process with exit code 1) in apply_weights",
    "endless": r"hangs: no end after \d+ s in apply_weights, M = 64",
    "exits": r"ends the process with exit code 0 in apply_weights, M = 33",
    "unpacks_badly": r"unpack does not give back the codes that were packed",
    "leaks": r"free_packed leaves 1 allocations",
    "packed_bytes": r"and packed_bytes\(\) says \d+",
    "silent_refusal": r"can_implement\(.*\) refuses \(.*\) without a reason",
}


def checkkern(*arguments):
    done = subprocess.run([*sys.argv[2:], "--plugins", sys.argv[1], *arguments], capture_output=True, text=True)
    return done.returncode, done.stdout


def main():
    code, out = checkkern("-k", "plugin_wrong_*", "--timeout", "3", "--json")
    found = {k["kernel"].removeprefix("plugin_wrong_"): k for k in json.loads(out)["kernels"]}
    wrong = [] if code == 1 else [f"exit code {code} instead of 1"]
    wrong += [f"{name}: in one of the lists only" for name in sorted(found.keys() ^ EXPECTED.keys())]
    for name in sorted(found.keys() & EXPECTED.keys()):
        texts = [f["text"] for f in found[name]["failures"]]
        if EXPECTED[name] is None:
            if found[name]["result"] != "passed":
                wrong.append(f"{name}: must pass: {texts}")
        elif found[name]["result"] != "failed" or not any(re.search(EXPECTED[name], text) for text in texts):
            wrong.append(f"{name}: {found[name]['result']}: no failure says {EXPECTED[name]!r}: {texts}")
    # A replay of a failure fails again, in the same words.
    for name in ("dropped_block", "batch", "reads_past_x", "task_order"):
        first = next((f for f in found[name]["failures"] if f["replay"]), {"replay": "", "text": "a failure with a replay"})
        code, out = checkkern("-k", f"plugin_wrong_{name}", "--replay", first["replay"], "--json")
        again = [f["text"] for f in json.loads(out)["kernels"][0]["failures"]]
        if code != 1 or first["text"] not in again:
            wrong.append(f"{name}: the replay of {first['replay']} gives {again} instead of {first['text']}")
    sys.exit("\n".join(wrong) if wrong else 0)


main()
