#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes a large NVFP4 checkpoint (ModelOpt's layout, Llama's shapes) as sparse files: codes and block scales are holes, which read as zeros, so
that 20 GB take no disk. For measuring `convert` and `inspect`: scripts/make_large_checkpoint.py OUT --gigabytes 20"""
import argparse
import json
import os
import struct
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("out", type=Path)
parser.add_argument("--gigabytes", type=float, default=20)
parser.add_argument("--hidden", type=int, default=8192)
parser.add_argument("--intermediate", type=int, default=28672)
args = parser.parse_args()

KV, VOCABULARY = args.hidden // 8, 1024
LINEARS = {"self_attn.q_proj": (args.hidden, args.hidden), "self_attn.k_proj": (KV, args.hidden), "self_attn.v_proj": (KV, args.hidden),
           "self_attn.o_proj": (args.hidden, args.hidden), "mlp.gate_proj": (args.intermediate, args.hidden),
           "mlp.up_proj": (args.intermediate, args.hidden), "mlp.down_proj": (args.hidden, args.intermediate)}
layers = max(1, round(args.gigabytes * 1e9 / sum(n * k * 9 // 16 for n, k in LINEARS.values())))

tensors, values = {"model.embed_tokens.weight": ("BF16", [VOCABULARY, args.hidden], 2), "model.norm.weight": ("BF16", [args.hidden], 2)}, {}
for layer in range(layers):
    base = f"model.layers.{layer}."
    for norm in ("input_layernorm", "post_attention_layernorm"):
        tensors[base + norm + ".weight"] = ("BF16", [args.hidden], 2)
    for name, (n, k) in LINEARS.items():
        tensors[f"{base}{name}.weight"] = ("U8", [n, k // 2], 1)
        tensors[f"{base}{name}.weight_scale"] = ("F8_E4M3", [n, k // 16], 1)
        for scalar in ("weight_scale_2", "input_scale"):
            tensors[f"{base}{name}.{scalar}"] = ("F32", [], 4)
            values[f"{base}{name}.{scalar}"] = struct.pack("<f", 0.001 + 1e-6 * len(values))

header, offset = {}, 0
for name in sorted(tensors, key=lambda name: (-tensors[name][2], tensors[name][0], name)):
    dtype, shape, size = tensors[name]
    for d in shape:
        size *= d
    header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
    offset += size
text = json.dumps(header, separators=(",", ":")).encode()
text += b" " * (-len(text) % 8)
args.out.mkdir()
with open(args.out / "model.safetensors", "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text)
    for name, value in values.items():
        file.seek(8 + len(text) + header[name]["data_offsets"][0])
        file.write(value)
    file.truncate(8 + len(text) + offset)
config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": args.hidden, "intermediate_size": args.intermediate,
          "num_hidden_layers": layers, "num_attention_heads": args.hidden // 128, "num_key_value_heads": KV // 128 or 1, "head_dim": 128,
          "vocab_size": VOCABULARY, "rms_norm_eps": 1e-5, "max_position_embeddings": 4096, "tie_word_embeddings": True,
          "quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head", "model.embed_tokens"]}}
(args.out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
print(f"{args.out}: {layers} layers, {offset / 1e9:.2f} GB of tensors, {os.stat(args.out / 'model.safetensors').st_blocks * 512 / 1e6:.1f} MB on disk")
