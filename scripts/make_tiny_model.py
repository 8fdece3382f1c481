#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/golden/tiny: a Llama of 107 k random weights with a byte-level BPE tokenizer, small enough to lie in the repository.

Everything that works on a real model works on it (quantize with calibration, explain, generate, perplexity), but the weights are
random: what it writes has no meaning. Needs numpy. The same bytes every time.

  scripts/make_tiny_model.py [FOLDER]
"""
import json
import re
import struct
import sys
from collections import Counter
from pathlib import Path

import numpy as np

TEXT = Path("data/persuasion.txt")
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VOCABULARY, HIDDEN, INTERMEDIATE, LAYERS, HEADS, KV_HEADS, HEAD = 320, 64, 160, 2, 4, 2, 16
CHAT_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_alphabet():
    """GPT-2's printable character for every byte."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(others)}


def learn_merges(text, count):
    """Byte-pair encoding of the words of a text: the most frequent pair first, ties in order of the pair."""
    alphabet = byte_alphabet()
    words = Counter(re.findall(r" ?[A-Za-z]+|[^A-Za-z]", text))
    parts = {word: [alphabet[b] for b in word.encode()] for word in words if len(word) > 1}
    merges = []
    while len(merges) < count:
        pairs = Counter()
        for word, pieces in parts.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += words[word]
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for pieces in parts.values():
            i = 0
            while i + 1 < len(pieces):
                if (pieces[i], pieces[i + 1]) == best:
                    pieces[i : i + 2] = ["".join(best)]
                i += 1
    return merges


def added(content):
    return {"content": content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}


def byte_level():
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def tokenizer():
    merges = learn_merges(TEXT.read_text(), VOCABULARY - 256 - len(SPECIALS))
    words = [*SPECIALS, *byte_alphabet().values(), *("".join(pair) for pair in merges)]
    assert len(set(words)) == VOCABULARY
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i} | added(content) for i, content in enumerate(SPECIALS)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level()]},
        "post_processor": None,
        "decoder": byte_level(),
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": {word: i for i, word in enumerate(words)}, "merges": [" ".join(pair) for pair in merges],
        },
    }


def tokenizer_config():
    return {
        "add_prefix_space": False,
        "added_tokens_decoder": {str(i): added(content) for i, content in enumerate(SPECIALS)},
        "bos_token": SPECIALS[1], "eos_token": SPECIALS[2], "unk_token": SPECIALS[0], "pad_token": SPECIALS[2],
        "chat_template": CHAT_TEMPLATE, "clean_up_tokenization_spaces": False, "tokenizer_class": "PreTrainedTokenizerFast",
    }


def config():
    return {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
        "head_dim": HEAD, "hidden_act": "silu", "hidden_size": HIDDEN, "initializer_range": 0.02, "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": 1024, "mlp_bias": False, "model_type": "llama", "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS, "num_key_value_heads": KV_HEADS, "pad_token_id": 2, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
        "rope_scaling": None, "rope_theta": 10000.0, "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_cache": True,
        "vocab_size": VOCABULARY,
    }


def tensors():
    """Name -> shape and standard deviation (None: a norm, about 1)."""
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN), 0.3
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", (HIDDEN,), None
        yield prefix + "mlp.down_proj.weight", (HIDDEN, INTERMEDIATE), INTERMEDIATE**-0.5
        yield prefix + "mlp.gate_proj.weight", (INTERMEDIATE, HIDDEN), HIDDEN**-0.5
        yield prefix + "mlp.up_proj.weight", (INTERMEDIATE, HIDDEN), HIDDEN**-0.5
        yield prefix + "post_attention_layernorm.weight", (HIDDEN,), None
        yield prefix + "self_attn.k_proj.weight", (KV_HEADS * HEAD, HIDDEN), HIDDEN**-0.5
        yield prefix + "self_attn.o_proj.weight", (HIDDEN, HEADS * HEAD), HIDDEN**-0.5
        yield prefix + "self_attn.q_proj.weight", (HEADS * HEAD, HIDDEN), HIDDEN**-0.5
        yield prefix + "self_attn.v_proj.weight", (KV_HEADS * HEAD, HIDDEN), HIDDEN**-0.5
    yield "model.norm.weight", (HIDDEN,), None


def bf16(values):
    """To nearest even; the values are finite."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


def safetensors():
    random = np.random.RandomState(20)  # its stream is frozen by numpy
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, shape, deviation in tensors():
        values = random.standard_normal(shape)
        values = 1 + values / 16 if deviation is None else values * deviation
        piece = bf16(values)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [len(data), len(data) + len(piece)]}
        data += piece
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "tests/golden/tiny")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(safetensors())
    for name, value in (("config", config()), ("tokenizer", tokenizer()), ("tokenizer_config", tokenizer_config()),
                        ("generation_config", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2})):
        (folder / f"{name}.json").write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


main()
