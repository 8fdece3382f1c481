#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Weight errors of other tools' NVFP4 quantisers and of `nvfp4 quantize`, layer by layer, on the same weights. Run by hand, since it needs PyPI:

  pip install numpy torch gguf safetensors nvidia-modelopt llmcompressor datasets accelerate
  scripts/peer_quantisers.py build/nvfp4 MODEL.gguf OUT.csv

MODEL.gguf is of llama's architecture. Each quantiser gets a layer's weights in fp32; the error is the sum of (w - q)^2 over the sum of w^2, in double, with q = code * block scale *
global as the tool dequantises it. ModelOpt: NVFP4QTensor, what its default
configuration exports; its searches (four-over-six, MSE) are Triton kernels, which need a GPU, and are left out. llm-compressor: its
observers, with compressed-tensors' arithmetic (minmax is what compressed-tensors does by itself). Exit code 1: on a layer, the sweep is worse than one of the others."""
import csv
import logging
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

SCALES = ("rtn", "four-over-six", "sweep")
OBSERVERS = {"llm-compressor minmax": "memoryless_minmax", "llm-compressor mse": "memoryless_mse", "llm-compressor expanded mse": "nvfp4_expanded_mse"}
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def error(w, q):
    w = w.astype(np.float64)
    return float(((w - q) ** 2).sum() / (w ** 2).sum())


def layers_of(path):
    """Name, weights [N, K]: every linear layer but the output, rows as the source has them (llama.cpp permutes those of q and k: no error depends on it)."""
    import gguf
    for tensor in gguf.GGUFReader(path).tensors:
        if tensor.name.startswith("blk.") and len(tensor.shape) == 2:
            yield tensor.name.removesuffix(".weight"), gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)


def ours(program, model, scales, folder):
    """What the program wrote as GGUF, read by the gguf package: name, dequantised weights."""
    import gguf
    out = Path(folder) / f"{scales}.gguf"
    subprocess.run([program, "quantize", model, out, "--layout", "gguf", "--scales", scales, "--global", "amax"], check=True, stdout=subprocess.DEVNULL)
    tensors = {t.name: t for t in gguf.GGUFReader(out).tensors}
    return {name.removesuffix(".weight"): gguf.dequantize(t.data, t.tensor_type).astype(np.float64) * float(tensors[name.removesuffix(".weight") + ".scale"].data[0])
            for name, t in tensors.items() if t.tensor_type == gguf.GGMLQuantizationType.NVFP4}


def modelopt(layers):
    """Name, dequantised weights: what its export writes for a layer that was calibrated by the largest weight."""
    import torch
    from modelopt.torch.quantization.qtensor import NVFP4QTensor
    result = {}
    for name, w in layers.items():
        codes, scales, multiplier = NVFP4QTensor.quantize(torch.from_numpy(w.copy()), 16)
        result[name] = codes.dequantize(scale=scales, double_scale=multiplier, block_sizes={-1: 16}).double().numpy()
    return result


def llm_compressor(observer, layers):
    import torch
    from compressed_tensors.quantization import preset_name_to_scheme
    from compressed_tensors.quantization.lifecycle.forward import fake_quantize
    from llmcompressor.observers import Observer
    result = {}
    for name, w in layers.items():
        linear = torch.nn.Linear(w.shape[1], w.shape[0], bias=False)
        linear.weight.data = torch.from_numpy(w.copy())
        args = preset_name_to_scheme("NVFP4A16", ["Linear"]).weights
        args.observer = observer
        observed = Observer.load_from_registry(observer, base_name="weight", args=args)
        observed(linear.weight)
        q = observed.get_qparams()
        result[name] = fake_quantize(linear.weight.data, q["scale"], q.get("zero_point"), args, global_scale=q["global_scale"]).double().numpy()
    return result


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    program, model, out = sys.argv[1:]
    layers = dict(layers_of(model))
    errors = {}
    with tempfile.TemporaryDirectory() as folder:
        for scales in SCALES:
            errors[f"nvfp4 {scales}"] = ours(program, model, scales, folder)
    errors["modelopt default"] = modelopt(layers)
    for title, observer in OBSERVERS.items():
        errors[title] = llm_compressor(observer, layers)
    table = {title: {name: error(layers[name], q) for name, q in values.items()} for title, values in errors.items()}
    names = list(table["nvfp4 sweep"])
    with open(out, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["layer", *table])
        writer.writerows([name, *(f"{column[name]:.8f}" for column in table.values())] for name in names)
    total = {name: float((layers[name].astype(np.float64) ** 2).sum()) for name in names}
    worse = 0
    weights = sum(layers[name].size for name in names)
    print(f"{len(names)} layers, {weights} weights\n{'':28} {'error':>9}  sweep's error over this one's  weights that differ from nvfp4 rtn's")
    for title, column in table.items():
        ratios = [table["nvfp4 sweep"][name] / column[name] for name in names]
        worse += sum(r > 1 for r in ratios)
        rtn = errors["nvfp4 rtn"]
        different = sum(int((np.abs(errors[title][name] - rtn[name]) > 2e-7 * np.abs(rtn[name])).sum()) for name in names)
        print(f"{title:28} {sum(column[n] * total[n] for n in names) / sum(total.values()):9.6f}  {min(ratios):.4f} to {max(ratios):.4f}{different:24}")
    print(f"layers on which the sweep is worse than another: {worse}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
