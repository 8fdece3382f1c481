#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times whole `nvfp4 quantize` and `nvfp4 convert` commands, and in turns with them dd, which reads and writes the same files.

    scripts/checkpoint_speed.py NVFP4 FOLDER [--gigabytes 1] [--packed CHECKPOINT] [--rounds 3] [--cold] [--json FILE]

In FOLDER, whose file system is measured, it makes a bf16 checkpoint of random weights (Llama's shapes) and of it an NVFP4 one, and removes all
at the end. --packed: converts that NVFP4 checkpoint (ModelOpt's, one file) instead of one of its own, and quantises nothing. The sources are in
the page cache; with --cold (needs root) nothing is. Times include the fsync (dd: conv=fsync) and end with the process. Speeds are bytes of
weights read by elapsed time, medians of the rounds; memory is the largest RssAnon seen. --json appends to a list of runs."""
import argparse
import array
import json
import os
import random
import shutil
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path

HIDDEN, INTERMEDIATE, VOCABULARY = 4096, 12288, 1024
LINEARS = {"self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (1024, HIDDEN), "self_attn.v_proj": (1024, HIDDEN),
           "self_attn.o_proj": (HIDDEN, HIDDEN), "mlp.gate_proj": (INTERMEDIATE, HIDDEN), "mlp.up_proj": (INTERMEDIATE, HIDDEN),
           "mlp.down_proj": (HIDDEN, INTERMEDIATE)}


def make_checkpoint(folder, gigabytes):
    """Each tensor: pieces of one table of Gaussian numbers from random places, made as fast as the disk writes."""
    layers = max(1, round(gigabytes * 1e9 / sum(2 * n * k for n, k in LINEARS.values())))
    shapes = {"model.embed_tokens.weight": [VOCABULARY, HIDDEN], "model.norm.weight": [HIDDEN]}
    for base in (f"model.layers.{layer}." for layer in range(layers)):
        shapes.update({base + norm + ".weight": [HIDDEN] for norm in ("input_layernorm", "post_attention_layernorm")})
        shapes.update({f"{base}{name}.weight": list(shape) for name, shape in LINEARS.items()})
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    source = random.Random(1)
    gaussian = array.array("f", (source.gauss(0, 0.02) for _ in range(1 << 19))).tobytes()
    table = array.array("H", gaussian)[1::2].tobytes()  # the upper halves of fp32: bf16
    folder.mkdir()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        while end > 0:
            begin = 2 * source.randrange(len(table) // 4)
            end -= file.write(table[begin:begin + end])
        os.fsync(file.fileno())
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": INTERMEDIATE,
              "num_hidden_layers": layers, "num_attention_heads": HIDDEN // 128, "num_key_value_heads": 8, "head_dim": 128,
              "vocab_size": VOCABULARY, "rms_norm_eps": 1e-5, "max_position_embeddings": 4096, "tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(config))


def run(command):
    """Seconds elapsed, seconds of CPU time, largest RssAnon in bytes."""
    start, peak = time.monotonic(), 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid != 0:
            break
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():  # a process not waited for still has it
            if line.startswith("RssAnon:"):
                peak = max(peak, int(line.split()[1]) << 10)
        time.sleep(0.005)
    elapsed = time.monotonic() - start
    process.returncode = status
    if status != 0:
        sys.exit(f"{' '.join(map(str, command))}: {process.stderr.read().decode()}")
    process.stderr.close()
    return elapsed, usage.ru_utime + usage.ru_stime, peak


def remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()


def dd(source, out, *flags):
    return ["dd", f"if={source}", f"of={out}", "bs=8M", *flags]


def measure(args, scratch):
    """Rows by name: what was run, on how many bytes, and what each round took."""
    dense, packed, out = scratch / "dense", args.packed or scratch / "packed", scratch / "out"
    weights = packed / "model.safetensors"
    commands = {"dd, NVFP4": (weights, dd(weights, out, "conv=fsync")),
                "convert, compressed-tensors": (weights, [args.nvfp4, "convert", packed, out, "--layout", "compressed-tensors"]),
                "convert, gguf": (weights, [args.nvfp4, "convert", packed, out.with_suffix(".gguf"), "--layout", "gguf"])}
    if not args.packed:
        make_checkpoint(dense, args.gigabytes)
        run([args.nvfp4, "quantize", dense, packed])
        weights = dense / "model.safetensors"
        commands["dd, bf16"] = (weights, dd(weights, out, "conv=fsync"))
        commands["dd, bf16, to /dev/null"] = (weights, dd(weights, "/dev/null"))
        for scales in ("rtn", "sweep"):
            commands["quantize, " + scales] = (weights, [args.nvfp4, "quantize", dense, out, "--scales", scales])
    rows = {}
    for _ in range(args.rounds):
        for name, (source, command) in commands.items():
            if args.cold:
                os.sync()
                Path("/proc/sys/vm/drop_caches").write_text("3\n")
            else:
                run(dd(source, "/dev/null"))
            row = rows.setdefault(name, {"bytes": source.stat().st_size})
            for key, value in zip(("seconds", "cpu_seconds", "anonymous_bytes"), run(command)):
                row.setdefault(key, []).append(round(value, 3))
            remove(out)
            remove(out.with_suffix(".gguf"))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nvfp4", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, default=1)
    parser.add_argument("--packed", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    scratch = args.folder / f"checkpoint_speed.{os.getpid()}"
    scratch.mkdir(parents=True)
    try:
        system = subprocess.check_output(["df", "--output=fstype", scratch], text=True).split()[-1]
        rows = measure(args, scratch)
    finally:
        remove(scratch)
    for name, row in rows.items():
        row["mb_per_s"] = round(row["bytes"] / 1e6 / statistics.median(row["seconds"]))
        print(f"{name:28s} {row['mb_per_s']:6d} MB/s  {min(row['seconds']):7.2f} to {max(row['seconds']):7.2f} s  "
              f"cpu {statistics.median(row['cpu_seconds']):6.2f} s  anonymous {max(row['anonymous_bytes']) / 1e6:5.1f} MB")
    if args.json:
        runs = json.loads(args.json.read_text()) if args.json.exists() else []
        runs.append({"date": time.strftime("%Y-%m-%d"), "file_system": system, "cold": args.cold,
                     "processors": len(os.sched_getaffinity(0)), "rows": rows})
        args.json.write_text(json.dumps(runs, indent=1) + "\n")


if __name__ == "__main__":
    main()
