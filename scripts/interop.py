#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Do conversions load in the tools they are for, and are their values the golden ones? Run by hand, since it needs PyPI:

  pip install torch transformers compressed-tensors comfy-kitchen safetensors gguf 'mlx[cpu]' mlx-lm numpy llama-cpp-python
  scripts/interop.py build/nvfp4

What is not installed is left out, and said so. Each line: tool and version, checkpoint, what was compared, the result. Dequantised values are compared
with the exact ones of tests/golden (code * scale * global, rounded once to fp32); a tool that rounds scale * global first may be 1 ulp off."""
import importlib.metadata
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).resolve().parent.parent / "tests/golden"
LAYERS = ["model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj", "model.layers.0.self_attn.v_proj", "model.layers.1.mlp.down_proj"]
failed = False


def version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def tell(tool, checkpoint, what, good):
    global failed
    failed |= not good
    print(f"{'ok' if good else 'FAIL':4} {tool:32} {checkpoint:22} {what}")


def expected(name, key):
    data = (GOLDEN / name / "expected.safetensors").read_bytes()
    length, = struct.unpack("<Q", data[:8])
    entry = json.loads(data[8:8 + length]).get(key)
    if entry is None:
        return None
    begin, end = entry["data_offsets"]
    return np.frombuffer(data[8 + length + begin:8 + length + end], {"F32": "<f4", "I32": "<i4", "I64": "<i8"}[entry["dtype"]]).reshape(entry["shape"])


def convert(name, out, layout, *options):
    subprocess.run([sys.argv[1], "convert", GOLDEN / name, out, "--layout", layout, *options], check=True, stdout=subprocess.DEVNULL)


def ulps(a, b):
    a, b = (np.asarray(x, "<f4") + np.float32(0) for x in (a, b))  # -0 and 0 are one number
    return int(np.abs(a.view("<i4").astype(np.int64) - b.view("<i4").astype(np.int64)).max())


def check_gguf(folder, name):
    import gguf
    out = folder / f"{name}.gguf"
    convert(name, out, "gguf")
    tensors = {t.name: t for t in gguf.GGUFReader(out).tensors}
    down = tensors["blk.1.ffn_down.weight"]
    values = gguf.dequantize(down.data, down.tensor_type).astype(np.float64) * float(tensors["blk.1.ffn_down.scale"].data[0])
    tell(f"gguf {version('gguf')}", name, f"reads {len(tensors)} tensors; blk.1.ffn_down within {ulps(values, expected(name, LAYERS[3] + '.w'))} ulp",
         ulps(values, expected(name, LAYERS[3] + ".w")) <= 1)


def check_llama_cpp(folder, name, *options):
    from llama_cpp import Llama
    out = folder / f"{name}-llama{len(options)}.gguf"
    convert(name, out, "gguf", *options)
    tokens, logits = expected(name, "tokens").reshape(-1), expected(name, "logits_w4a16")
    model = Llama(str(out), n_ctx=64, logits_all=True, verbose=False)
    model.eval([int(t) for t in tokens])
    ours = np.array(model.scores[:len(tokens)])
    off = np.sqrt(((ours - logits.reshape(ours.shape)) ** 2).mean() / (logits ** 2).mean())
    # llama.cpp rounds activations to 8 bits; one-level files have other block scales besides
    tell(f"llama-cpp-python {version('llama-cpp-python')}", name, f"{' '.join(options)} logits {off:.1%} (rms) from W4A16's", off < (0.2 if options else 0.05))


def check_mlx(folder, name):
    import mlx.core as mx
    mx.set_default_device(mx.cpu)
    convert(name, folder / f"{name}-mlx", "mlx")
    weights = mx.load(str(folder / f"{name}-mlx" / "model.safetensors"))
    for layer in LAYERS:
        exact = expected(name, layer + ".w")
        if exact is not None:
            values = mx.dequantize(weights[layer + ".weight"], weights[layer + ".scales"], group_size=16, bits=4, mode="nvfp4", dtype=mx.float32,
                                   global_scale=weights[layer + ".global_scale"])
            tell(f"mlx {version('mlx')}", name, f"{layer} within {ulps(np.array(values), exact)} ulp", ulps(np.array(values), exact) <= 1)


def check_mlx_lm(folder, name):
    import mlx.core as mx
    from mlx_lm.utils import load_model
    mx.set_default_device(mx.cpu)
    convert(name, folder / f"{name}-mlx1", "mlx", "--one-level", "--allow-lossy")
    model, _ = load_model(folder / f"{name}-mlx1")
    logits = expected(name, "logits_w4a16")
    ours = np.array(model(mx.array(expected(name, "tokens").reshape(1, -1))).astype(mx.float32)).reshape(logits.shape)
    off = np.sqrt(((ours - logits) ** 2).mean() / (logits ** 2).mean())
    tell(f"mlx-lm {version('mlx-lm')}", name, f"--one-level: logits {off:.1%} (rms) from the two-level ones", off < 0.2)


def check_compressed_tensors(folder, name):
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.quantization_config import CompressedTensorsConfig
    convert(name, folder / f"{name}-ct", "compressed-tensors")
    model = AutoModelForCausalLM.from_pretrained(folder / f"{name}-ct", dtype=torch.bfloat16,
                                                 quantization_config=CompressedTensorsConfig(run_compressed=False))
    modules = dict(model.named_modules())
    for layer in LAYERS:
        exact = expected(name, layer + ".w")
        if exact is not None:
            values = modules[layer].weight.detach().float().numpy()
            want = torch.from_numpy(exact.copy()).to(torch.bfloat16).float().numpy()
            # A global scale without an exact divisor is 1 ulp off, and values that lie between two bf16 numbers fall to the other side.
            tell(f"compressed-tensors {version('compressed-tensors')}", name,
                 f"{layer}: {int((values != want).sum())} of {want.size} bf16 values differ, by at most 1 ulp", ulps(values, want) <= 1 << 16)


def check_comfy(folder, name):
    import comfy_kitchen
    import torch
    from safetensors import safe_open
    convert(name, folder / f"{name}-comfy.safetensors", "comfy")
    with safe_open(folder / f"{name}-comfy.safetensors", "pt") as file:
        for layer in LAYERS:
            exact = expected(name, layer + ".w")
            if exact is not None:
                values = comfy_kitchen.dequantize_nvfp4(*(file.get_tensor(layer + suffix) for suffix in (".weight", ".weight_scale_2", ".weight_scale")),
                                                        torch.float32).numpy()[:exact.shape[0]]
                tell(f"comfy-kitchen {version('comfy-kitchen')}", name, f"{layer} within {ulps(values, exact)} ulp", ulps(values, exact) <= 1)


CHECKS = [("gguf", check_gguf, ["modelopt_nvfp4", "ct_nvfp4", "modelopt_nvfp4_bias"]),
          ("llama-cpp-python", check_llama_cpp, ["modelopt_nvfp4", "modelopt_nvfp4_lmhead", "modelopt_mixed", "modelopt_w4a16", "ct_nvfp4", "ct_mixed_fp8"]),
          ("llama-cpp-python", lambda folder, name: check_llama_cpp(folder, name, "--one-level", "--allow-lossy"), ["modelopt_nvfp4_bias"]),
          ("mlx", check_mlx, ["modelopt_nvfp4", "ct_nvfp4"]),
          ("mlx-lm", check_mlx_lm, ["modelopt_nvfp4", "ct_nvfp4"]),
          ("comfy-kitchen", check_comfy, ["modelopt_nvfp4", "ct_nvfp4"]),
          ("compressed-tensors", check_compressed_tensors, ["modelopt_nvfp4", "modelopt_w4a16", "modelopt_nvfp4_split", "ct_nvfp4"])]

with tempfile.TemporaryDirectory() as scratch:
    for package, check, names in CHECKS:
        if version(package) is None:
            print(f"-    {package} is not installed")
            continue
        for golden in names:
            check(Path(scratch), golden)
sys.exit(failed)
