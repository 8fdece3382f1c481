#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times libnvfp4's linear layers on a Hopper GPU beside cuBLAS (bf16 weights) and Humming (NVFP4 weights, PyPI: humming-kernels), all in one process.

    scripts/hopper_table.py bench/hopper_h200.csv --json bench/hopper_h200.json
    scripts/hopper_table.py bench/hopper_h200.csv --markdown

  ours_us     W4A16 under the default policy
  ours_bi_us  the same, batch-invariant by policy
  w4a4_us     W4A4, quantising the activations included
  cublas_us   bf16 weights; the faster of cuBLAS and cuBLASLt as PyTorch calls them
  humming_us  NVFP4 weights, W4A16, with the kernels that Humming chooses for that M
  rel_err     |y - ref| / |ref| (Frobenius) of ours, the greater one: ref is the product in fp64 of the same dequantised weights

x and y are bf16 [M, K] and [M, N]. A time is that of a CUDA graph over its calls, which rotate over copies of the weights (512 MiB of them together, so that none is in
the L2 cache). The graphs of one shape and M take turns, in a new order each round; the median of at least nine rounds counts. Kernels overlap as far as
their own launch attributes let them (programmatic dependent launch). What each column's last graph left in y is checked; a wrong result is no time.

Needs PyTorch for CUDA, and libnvfp4.so (--library). Without Humming its column stays empty; it compiles its kernels when they are first wanted, which takes longer than the measuring
unless --compile did before. Exit codes: 0 done, 1 a result was wrong or missing, 2 bad use, or something is
missing here. The file is written anew after every M.
"""
import argparse
import csv
import ctypes
import json
import math
import random
import statistics
import subprocess
import sys
import time
from ctypes import POINTER, byref, c_char, c_char_p, c_float, c_int, c_int64, c_size_t, c_uint32, c_void_p
from pathlib import Path

try:
    import torch
except ImportError as missing:
    torch, no_torch = None, missing

SHAPES = "6144,4096;4096,4096;28672,4096;4096,14336;57344,8192;8192,28672"  # N,K of Llama 3: 8B, then 70B
MS = ",".join(str(1 << i) for i in range(14))
TIMES = ("ours_us", "ours_bi_us", "w4a4_us", "cublas_us", "humming_us")
HEAD = ("N", "K", "M", *TIMES, "rel_err")
ROTATE_BYTES = 512 << 20
LEAST_ROUNDS, MOST_ROUNDS = 9, 25
GRAPH_US = 1000  # a graph has calls for about as long, at the speed of the hardware
MOST_ERROR = 0.02  # bf16 y, bf16 weights: 3e-3; more is no rounding


class Stop(Exception):
    """Ends the run with exit code 2."""


# ------------------------------------------------------------------------------------------------------------- libnvfp4 through its C interface


class Reason(ctypes.Structure):
    _fields_ = [("status", c_int), ("text", c_char * 512)]


class Device(ctypes.Structure):
    _fields_ = [("kind", c_int), ("ordinal", c_int)]


class Global(ctypes.Structure):
    _fields_ = [("value", c_float), ("kind", c_int)]


class Partition(ctypes.Structure):
    _fields_ = [("n_first", c_int64), ("n_rows", c_int64), ("weight", Global), ("input", Global)]


class Sized(ctypes.Structure):
    """A struct of options, arguments or a description: it begins with its size."""

    def __init__(self, **fields):
        super().__init__(struct_size=ctypes.sizeof(self), **fields)


class Policy(Sized):
    _fields_ = [("struct_size", c_uint32), ("require", c_uint32), ("allow", c_uint32), ("max_layouts", c_int),
                *((name, c_char_p) for name in ("kernel", "env_kernel", "vllm_backend", "disable", "vllm_disable"))]


class LayerDesc(Sized):
    _fields_ = [("struct_size", c_uint32), ("name", c_char_p), ("n", c_int64), ("k", c_int64), ("m_first", c_int64), ("m_last", c_int64), ("mode", c_int),
                ("x_dtype", c_int), ("y_dtype", c_int), ("bias_dtype", c_int), ("device", Device), ("partitions", POINTER(Partition)),
                ("partition_count", c_int64), ("weight_dtype", c_int)]


class Weights(Sized):
    _fields_ = [("struct_size", c_uint32), ("memory", c_int), ("n", c_int64), ("k", c_int64), ("codes", c_void_p), ("codes_stride_bytes", c_int64),
                ("scales", c_void_p), ("scales_stride_bytes", c_int64), ("dtype", c_int), ("values", c_void_p), ("values_stride_bytes", c_int64)]


class ApplyArgs(Sized):
    _fields_ = [("struct_size", c_uint32), ("m", c_int64), ("x", c_void_p), ("ldx_elems", c_int64), ("quantised_x", c_void_p), ("bias", c_void_p),
                ("y", c_void_p), ("ldy_elems", c_int64), ("workspace", c_void_p), ("workspace_bytes", c_size_t), ("row_alpha", c_void_p), ("stream", c_void_p)]


W4A4, W4A16 = 1, 2
F32, BF16 = 1, 3
CPU, CUDA = 0, 1
HOST_MEMORY, CUDA_MEMORY = 0, 2
BATCH_INVARIANT = 2


class Library:
    """A context of the library. The functions named here raise RuntimeError with the library's own reason."""

    def __init__(self, path):
        try:
            self.c = ctypes.CDLL(path)
        except OSError as e:
            raise Stop(f"no libnvfp4: {e}; build it, or give its path with --library") from None
        for name in ("nvfp4_version", "nvfp4_build_info", "nvfp4_plan_kernel"):
            getattr(self.c, name).restype = c_char_p
        self.c.nvfp4_layer_workspace_bytes.restype = c_size_t
        self.c.nvfp4_layer_workspace_bytes.argtypes = [c_void_p, c_int64]
        self.c.nvfp4_plan_kernel.argtypes = [c_void_p, c_int64]
        self.c.nvfp4_layer_apply.argtypes = [c_void_p, c_void_p, c_void_p]
        for name in ("nvfp4_layer_destroy", "nvfp4_plan_free", "nvfp4_context_destroy"):
            getattr(self.c, name).argtypes = [c_void_p]
            getattr(self.c, name).restype = None
        self.context = self.make("nvfp4_context_create", None)

    def check(self, name, *arguments):
        reason = Reason()
        if getattr(self.c, name)(*arguments, byref(reason)) != 0:
            raise RuntimeError(f"{name}: {reason.text.decode()}")

    def make(self, name, *arguments):
        out = c_void_p()
        self.check(name, *arguments, byref(out))
        return out

    def plan(self, n, k, mode, kernel, device, dtype=BF16, globals_=(1.0, 1.0), require=0):
        whole = Partition(0, n, Global(globals_[0]), Global(globals_[1]))
        desc = LayerDesc(name=b"layer", n=n, k=k, mode=mode, x_dtype=dtype, y_dtype=dtype, device=device, partitions=ctypes.pointer(whole), partition_count=1)
        policy = Policy(kernel=kernel.encode() if kernel else None, require=require)
        out = c_void_p()
        self.check("nvfp4_init_linear_kernel", self.context, byref(desc), byref(policy), byref(out), None)
        return out

    def kernel(self, plan, m):
        return self.c.nvfp4_plan_kernel(plan, m).decode()

    def layer(self, plan, n, k, codes, scales, memory):
        weights = Weights(memory=memory, n=n, k=k, codes=codes, codes_stride_bytes=k // 2, scales=scales, scales_stride_bytes=k // 16)
        return self.make("nvfp4_layer_create", self.context, plan, byref(weights))

    def workspace_bytes(self, layer, m):
        return self.c.nvfp4_layer_workspace_bytes(layer, m)

    def apply(self, layer, **arguments):
        self.check("nvfp4_layer_apply", layer, byref(ApplyArgs(**arguments)))


# ----------------------------------------------------------------------------------------------------------------------------------- the problem

LEVELS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # E2M1


def quantise(x, s):
    """fp32 x [rows, k] to NVFP4, as docs/numerics.md has it: codes [rows, k/2], E4M3 scales [rows, k/16]; x is about code * scale / s."""
    blocks = x.view(x.shape[0], -1, 16)
    scales = (s * (blocks.abs().amax(-1) * torch.tensor(1 / 6, device=x.device))).clamp(max=448).to(torch.float8_e4m3fn)
    f = scales.float().unsqueeze(-1)
    scaled = blocks * torch.where(f != 0, 1 / (f * (1 / s)), 0)
    a, code = scaled.abs(), (scaled.view(torch.int32) < 0).to(torch.uint8) * 8
    for i, middle in enumerate((0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)):  # a tie goes to the even code
        code += a >= middle if i % 2 else a > middle
    pairs = code.view(x.shape[0], -1, 2)
    return pairs[..., 0] | pairs[..., 1] << 4, scales


def dequantise(codes, scales, dtype):
    """code * scale, exact in bf16 too."""
    levels = torch.tensor(LEVELS + tuple(-v for v in LEVELS), dtype=dtype, device=codes.device)
    values = torch.stack((levels[(codes & 15).int()], levels[(codes >> 4).int()]), -1).view(codes.shape[0], -1, 16)
    return (values * scales.to(dtype).unsqueeze(-1)).view(codes.shape[0], -1)


def by_rows(function, rows, each=4096):
    """The results of function(first, last) for runs of rows, one below the other."""
    parts = [function(i, min(i + each, rows)) for i in range(0, rows, each)]
    return tuple(torch.cat(column) for column in zip(*parts)) if isinstance(parts[0], tuple) else torch.cat(parts)


class Problem:
    """Random weights of one shape, the longest x, and what y must be; x of fewer rows is its first ones."""

    def __init__(self, n, k, m):
        self.n, self.k = n, k
        self.x = torch.randn(m, k, device="cuda", dtype=torch.bfloat16)
        self.weight_s, self.x_s = 2.0**14, 2.0**math.floor(math.log2(2688 / float(self.x.abs().amax())))  # powers of 2: their inverses are exact
        make = lambda first, last: quantise(torch.randn(last - first, k, device="cuda") * 0.02, self.weight_s)  # noqa: E731
        self.codes, self.scales = by_rows(make, n)
        self.w4a16 = self.product(self.x.double())
        self.w4a4 = self.product(dequantise(*quantise(self.x.float(), self.x_s), torch.float64) / self.x_s)

    def product(self, x):
        return by_rows(lambda i, j: dequantise(self.codes[i:j], self.scales[i:j], torch.float64) @ x.T, self.n).T / self.weight_s

    def error(self, y, reference):
        difference = norm = 0.0
        for i in range(0, len(y), 1024):
            part = reference[i:min(i + 1024, len(y))]
            difference += (y[i:i + 1024].double() - part).square().sum().item()
            norm += part.square().sum().item()
        return math.sqrt(difference / norm)


# ---------------------------------------------------------------- contenders: copies() makes the weights, enqueue() one product, nothing but enqueued


def copies_of(bytes_):
    return math.ceil(ROTATE_BYTES / bytes_)


class Ours:
    def __init__(self, column, library, kernel, mode, require):
        self.column, self.library, self.kernel, self.mode, self.require = column, library, kernel, mode, require
        self.reference = "w4a4" if mode == W4A4 else "w4a16"

    def copies(self, p):
        self.plan = self.library.plan(p.n, p.k, self.mode, self.kernel, Device(CUDA, torch.cuda.current_device()), globals_=(1 / p.weight_s, 1 / p.x_s), require=self.require)
        torch.cuda.synchronize()
        return [self.library.layer(self.plan, p.n, p.k, p.codes.data_ptr(), p.scales.data_ptr(), CUDA_MEMORY) for _ in range(copies_of(p.n * p.k * 9 // 16))]

    def about(self, m):
        return self.library.kernel(self.plan, m)

    def ready(self, copies, m):
        self.workspace = torch.empty(self.library.workspace_bytes(copies[0], m), dtype=torch.uint8, device="cuda")

    def enqueue(self, layer, x, y):
        self.library.apply(layer, m=len(x), x=x.data_ptr(), ldx_elems=x.stride(0), y=y.data_ptr(), ldy_elems=y.stride(0), workspace=self.workspace.data_ptr(),
                           workspace_bytes=self.workspace.nbytes, stream=torch.cuda.current_stream().cuda_stream)

    def free(self, copies):
        for layer in copies:
            self.library.c.nvfp4_layer_destroy(layer)
        self.library.c.nvfp4_plan_free(self.plan)


class Cublas:
    column, reference = "cublas_us", "w4a16"

    def __init__(self, backend):
        self.backend = backend

    def copies(self, p):
        first = by_rows(lambda i, j: (dequantise(p.codes[i:j], p.scales[i:j], torch.float32) / p.weight_s).bfloat16(), p.n)
        return [first] + [first.clone() for _ in range(copies_of(first.nbytes) - 1)]

    def about(self, m):
        return self.backend

    def ready(self, copies, m):
        pass

    def enqueue(self, w, x, y):
        torch.backends.cuda.preferred_blas_library(self.backend)
        torch.mm(x, w.T, out=y)

    def free(self, copies):
        pass


class Humming:
    column, reference = "humming_us", "w4a16"

    def __init__(self):
        import humming.kernel.humming
        import humming.layer
        import humming.tune
        self.package = humming

    def layer(self, p):
        layer = self.package.layer.HummingLayer(shape_n=p.n, shape_k=p.k, torch_dtype=torch.bfloat16,
                                                weight_config={"quant_method": "modelopt", "quant_algo": "nvfp4"}).cuda()
        for name, tensor in (("weight", p.codes), ("weight_scale", p.scales), ("weight_scale_2", torch.tensor(1 / p.weight_s))):
            parameter = getattr(layer, name).data
            parameter.copy_(tensor.view(parameter.dtype).view(parameter.shape))
        layer.transform()
        layer.locks = torch.zeros(1 << 14, dtype=torch.int32, device="cuda")  # enough for any M
        return layer

    def copies(self, p):
        return [self.layer(p) for _ in range(copies_of(p.n * p.k * 9 // 16))]

    def about(self, m):
        return json.loads(self.tuning)

    def ready(self, copies, m):
        config, tune = copies[0].humming_config, self.package.tune
        choice = tune.get_heuristics_config(config, shape_m=tune.get_heuristics_class().get_shape_m_sample(config, m))
        self.tuning = json.dumps(choice, default=str)

    def compile(self, copies, ms):
        """All kernels that will be wanted, at once, since Humming compiles them in parallel."""
        rows = []
        for m in ms:
            self.ready(copies, m)
            rows.append([0, 1 << 30, json.loads(self.tuning)])
        distinct = [row for i, row in enumerate(rows) if row not in rows[:i]]
        self.package.kernel.humming.HummingKernel.prepare_kernels(copies[0].humming_config.to_str(), None, json.dumps(distinct))

    def enqueue(self, layer, x, y):
        layer(x, outputs=y, tuning_config=self.tuning)

    def free(self, copies):
        pass


# ------------------------------------------------------------------------------------------------------------------------------------- measuring


class Entry:
    """A contender at one shape and M: its graph, its y, its times."""

    def __init__(self, contender, copies, p, x):
        self.contender, self.reference = contender, getattr(p, contender.reference)
        self.y = torch.full((len(x), p.n), math.nan, device="cuda", dtype=torch.bfloat16)
        contender.ready(copies, len(x))
        contender.enqueue(copies[0], x, self.y)  # loads and compiles what has to be
        self.check(p)
        guess = max(p.n * p.k * 0.5625 / 4e6, p.n * p.k * len(x) * 2 / 7e8)  # us: 4 TB/s, 700 TFLOP/s
        self.calls = len(copies) * math.ceil(max(GRAPH_US / guess, 2) / len(copies))
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            for i in range(self.calls):
                contender.enqueue(copies[i % len(copies)], x, self.y)
        self.y.fill_(math.nan)
        self.events = []
        self.replay()  # the first one uploads it
        self.replay()
        torch.cuda.synchronize()
        self.ms = self.times()[-1] * self.calls / 1000
        self.events = []

    def replay(self):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        self.graph.replay()
        end.record()
        self.events.append((begin, end))

    def times(self):
        """us a call, of each replay."""
        return [begin.elapsed_time(end) * 1000 / self.calls for begin, end in self.events]

    def check(self, p):
        torch.cuda.synchronize()
        self.error = p.error(self.y, self.reference)
        if not self.error <= MOST_ERROR:  # NaN too
            raise RuntimeError(f"wrong result: relative error {self.error:.2e}")


def clocks():
    """The SM's and the memory's clock, in MHz, now."""
    try:
        import pynvml
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(torch.cuda.current_device())
        return [pynvml.nvmlDeviceGetClockInfo(handle, kind) for kind in (pynvml.NVML_CLOCK_SM, pynvml.NVML_CLOCK_MEM)]
    except Exception:  # the package nvidia-ml-py is not there
        return [None, None]


def measure(entries, seconds):
    """Rounds in which every entry has one turn, in a random order; nothing waits until all is enqueued, so that no launch is timed."""
    if not entries:
        return None, None
    rounds = max(LEAST_ROUNDS, min(MOST_ROUNDS, int(seconds * 1000 / sum(e.ms for e in entries))))
    entries[0].graph.replay()
    for _ in range(rounds):
        for entry in random.sample(entries, len(entries)):  # the power that one draws slows the next
            entry.replay()
    mhz = clocks()
    torch.cuda.synchronize()
    return mhz


def quantile(times, q):
    return sorted(times)[round(q * (len(times) - 1))]


def run_m(p, m, contenders, copies, seconds, problems):
    """The CSV's row, and the JSON's cell."""
    entries = []
    x = p.x[:m]
    cell = {"N": p.n, "K": p.k, "M": m, "columns": {}}
    for contender in contenders:
        try:
            if contender in copies:
                entries.append(Entry(contender, copies[contender], p, x))
        except Exception as e:  # a kernel that fails loses its cell, not the run
            problems.append(f"N={p.n} K={p.k} M={m} {contender.column}: {e}")
    cell["sm_mhz"], cell["memory_mhz"] = measure(entries, seconds)
    row = dict.fromkeys(HEAD, "") | {"N": p.n, "K": p.k, "M": m}
    errors = [0.0]
    y = {}
    for entry in entries:
        column = entry.contender.column
        try:
            entry.check(p)
        except RuntimeError as e:
            problems.append(f"N={p.n} K={p.k} M={m} {column}: {e}")
            continue
        us = statistics.median(entry.times())
        if row[column] == "" or us < float(row[column]):
            row[column] = f"{us:.2f}"
            cell["columns"][column] = {"us": us, "p10": quantile(entry.times(), 0.1), "p90": quantile(entry.times(), 0.9), "rounds": len(entry.events),
                                       "calls": entry.calls, "rel_err": entry.error, "kernel": entry.contender.about(m)}
        y[column] = entry.y
        if isinstance(entry.contender, Ours):
            errors.append(entry.error)
    row["rel_err"] = f"{max(errors):.2e}" if len(errors) > 1 else ""
    return row, cell, y


def run(args, library, contenders, out):
    """Fills out["cells"], and writes both files as it goes."""
    rows, problems = [], out["problems"]
    begin = time.monotonic()
    for n, k in args.shapes:
        p, copies, last = Problem(n, k, max(args.ms)), {}, None
        for contender in contenders:
            try:
                copies[contender] = contender.copies(p)
                if isinstance(contender, Humming):
                    contender.compile(copies[contender], args.ms)
            except Exception as e:
                problems.append(f"N={n} K={k} {contender.column}: {type(e).__name__}: {e}")
        for m in args.ms:
            row, cell, y = run_m(p, m, contenders, copies, args.seconds, problems)
            rows.append(row)
            out["cells"].append(cell)
            bits = y.get("ours_bi_us")
            if bits is not None:
                cell["same_bits"] = last is None or torch.equal(bits[:len(last)], last)  # as the rows had with fewer beside them
                if not cell["same_bits"]:
                    problems.append(f"N={n} K={k} M={m} ours_bi_us: other bits than with a smaller M")
                last = bits
            print(f"{time.monotonic() - begin:6.1f} s " + " ".join(f"{name} {row[name]}" for name in HEAD), flush=True)
            save(args, rows, out)
        for contender in copies:
            contender.free(copies[contender])
        del p, copies, last, y, bits
        torch.cuda.empty_cache()
    out["seconds"] = time.monotonic() - begin
    save(args, rows, out)


def save(args, rows, out):
    with open(args.csv, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, HEAD, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    if args.json:
        Path(args.json).write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")


def machine(library, humming):
    try:
        driver = subprocess.run(["nvidia-smi", "--query-gpu=driver_version,clocks.max.sm,clocks.max.mem,power.limit", "--format=csv,noheader"], capture_output=True, text=True,
                                check=True).stdout.splitlines()[torch.cuda.current_device()]
    except (OSError, subprocess.CalledProcessError, IndexError):
        driver = "unknown"
    return {"gpu": torch.cuda.get_device_name(), "driver, max SM clock, max memory clock, power limit": driver, "cuda": torch.version.cuda, "torch": torch.__version__,
            "humming": getattr(humming.package, "__version__", "unknown") if humming else None, "nvfp4": library.c.nvfp4_version().decode(),
            "nvfp4_build": library.c.nvfp4_build_info().decode(), "date": time.strftime("%Y-%m-%d")}


# ---------------------------------------------------------------------------------------------------------------------------------- the table in docs


def markdown(path):
    """Rows M, columns N x K: us of ours, how many times as fast as the faster of cuBLAS and Humming; then geometric means over the shapes."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        cells = {(int(r["M"]), (int(r["N"]), int(r["K"]))): {name: float(r[name]) for name in TIMES if r[name]} for r in rows}
    except (OSError, KeyError, ValueError, TypeError) as e:
        raise Stop(f"{path}: not a table of this script: {type(e).__name__}: {e}") from None
    shapes = list(dict.fromkeys(shape for _, shape in cells))
    means = ("cuBLAS", "cublas_us", "ours_us"), ("Humming", "humming_us", "ours_us"), ("invariant", "ours_us", "ours_bi_us"), ("W4A4", "ours_us", "w4a4_us")
    yield "| M | " + " | ".join(f"{n}, {k}" for n, k in shapes) + " | " + " | ".join(name for name, *_ in means) + " |"
    yield "| --- |" + " --- |" * (len(shapes) + len(means))
    for m in sorted({m for m, _ in cells}):
        line = [str(m)]
        here = [cells.get((m, shape), {}) for shape in shapes]
        for cell in here:
            ours, peers = cell.get("ours_us"), [cell[name] for name in ("cublas_us", "humming_us") if name in cell]
            line.append("-" if ours is None else f"{ours:#.3g}".rstrip(".") + (f" ({min(peers) / ours:.2f})" if peers else ""))
        for _, above, below in means:
            ratios = [cell[above] / cell[below] for cell in here if above in cell and below in cell]
            line.append(f"{statistics.geometric_mean(ratios):.2f}" if ratios else "-")
        yield "| " + " | ".join(line) + " |"


# ------------------------------------------------------------------------------------------------------------------------------------------------ main


def numbers(text, least=1):
    values = [int(v) for v in text.split(",")]
    if min(values) < least:
        raise ValueError
    return values


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", metavar="FILE.csv")
    parser.add_argument("--shapes", default=SHAPES, help="N,K;N,K... (default: %(default)s)")
    parser.add_argument("--m", default=MS, help="rows of x (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE.json", help="everything, with machine, versions, clocks and spreads")
    parser.add_argument("--library", default="build/libnvfp4.so", help="default: %(default)s")
    parser.add_argument("--kernel", default="cuda_sm90_*", help="the policy's list of kernels; auto: the order of the registry (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.4, help="of replays for each shape and M, nine rounds at least (default: %(default)s)")
    parser.add_argument("--compile", action="store_true", help="measure nothing: have Humming compile what it will need, into its cache")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--markdown", action="store_true", help="measure nothing: print FILE.csv as a table for the documentation")
    args = parser.parse_args(arguments)
    try:
        args.shapes = [tuple(numbers(shape, 16)) for shape in args.shapes.split(";")]
        args.ms = sorted(set(numbers(args.m)))
        if any(len(shape) != 2 or shape[1] % 16 for shape in args.shapes):
            raise ValueError
    except ValueError:
        parser.error("--shapes needs N,K;N,K..., K multiples of 16; --m needs whole numbers from 1 on")
    return args


def table(args):
    if torch is None:
        raise Stop(f"no PyTorch: {no_torch}; install one for CUDA")
    if not torch.cuda.is_available():
        raise Stop("no GPU: PyTorch finds no CUDA device, or was built without CUDA")
    if torch.cuda.get_device_capability() != (9, 0):
        raise Stop(f"the GPU is {torch.cuda.get_device_name()}; this table is of Hopper GPUs (compute capability 9.0)")
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    torch.cuda.init()
    torch.zeros(1, device="cuda")  # PyTorch's context is the one that the library finds
    library = Library(args.library)
    out = {"problems": [], "cells": []}
    contenders = [Ours("ours_us", library, args.kernel, W4A16, 0), Ours("ours_bi_us", library, args.kernel, W4A16, BATCH_INVARIANT),
                  Ours("w4a4_us", library, args.kernel, W4A4, 0), Cublas("cublas"), Cublas("cublaslt")]
    humming = None
    try:
        humming = Humming()
        contenders.append(humming)
    except Exception as e:
        out["problems"].append(f"no Humming ({type(e).__name__}: {e}): install the wheel humming-kernels from PyPI")
        print(out["problems"][-1], file=sys.stderr)
    if args.compile:
        for n, k in args.shapes if humming else ():
            humming.compile([humming.layer(Problem(n, k, 1))], args.ms)
        return 1 if out["problems"] else 0
    out["machine"] = machine(library, humming)
    print(json.dumps(out["machine"]), flush=True)
    run(args, library, contenders, out)
    print(f"{out['seconds']:.0f} s")
    for problem in out["problems"]:
        print(problem, file=sys.stderr)
    return 1 if out["problems"] else 0


def main(arguments=None):
    args = parse(arguments)
    try:
        if args.markdown:
            print("\n".join(markdown(args.csv)))
            return 0
        return table(args)
    except Stop as e:
        print(f"hopper_table: {e}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
