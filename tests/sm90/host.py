#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Copies the device code of Hopper's kernels so that a C++ compiler takes it: each asm statement becomes a call of the simulator (simulate.h). And plants faults, one of which is there if `planted`
says its number; between @ in each stands the expression that it replaces.

host.py SOURCE_FOLDER OUT_FOLDER COUNT_OF_FAULTS"""
import re
import sys
from pathlib import Path

FILES = ["async.cuh", "few.cuh", "format.cuh", "mma.cuh", "mma_layout.cu", "quantise.cu", "sm90.cuh", "sm90_mid.cuh", "sm90_prefill.cuh", "sm90_slice.cuh", "sm90_split.cuh", "sm90_totals.cuh", "tiles.cuh"]

NOTHING = "void()"
FAULTS = [  # file, what is right, what stands instead
    # phases and arrivals
    ("sm90_mid.cuh", "barrier_wait(ring.empty(), @ring.phase ^ 1@)", "ring.phase"),
    ("sm90_slice.cuh", "barrier_wait(ring.full(), @ring.phase@)", "ring.phase ^ 1"),
    ("sm90_mid.cuh", "before = @ring.empty()@", "0u"),
    ("sm90_split.cuh", "barrier_init(ring.full() + 8 * i, @1@)", "2"),
    ("sm90_mid.cuh", "barrier_expect(ring.full, S::X_BYTES + @b.tiles@ *", "a.block_tiles"),
    ("sm90_prefill.cuh", "@turn.end()@; /* the first turn */", NOTHING),
    # what is not ordered
    ("async.cuh", '@ptx("fence.mbarrier_init.release.cluster;")@', NOTHING),
    ("sm90_split.cuh", "@join_named(0, S::CONSUMERS + 32 * S::PARTS)@; /* the rings are made */", NOTHING),
    ("sm90_slice.cuh", "@wgmma_fence(frag)@", NOTHING),
    ("sm90_slice.cuh", "@wgmma_wait<BUFFERS - 1>()@", "wgmma_wait<BUFFERS>()"),
    ("sm90_slice.cuh", "if (@block == BUFFERS - 1@)", "block == 0"),
    ("sm90_slice.cuh", "  @wgmma_wait<0>()@", NOTHING),
    ("sm90_split.cuh", "@wait_for_previous()@;\n", NOTHING),
    ("sm90_split.cuh", "@join_named(1 + S::PARTS, S::CONSUMERS)@", NOTHING),
    ("sm90_split.cuh", "@join_named(1 + part, 128)@", NOTHING),
    ("sm90_mid.cuh", "@join_named(1, 128 * min(b.tiles, S::WARPGROUPS))@", NOTHING),
    ("sm90_mid.cuh", "@cluster_sync()@;\n      switch", NOTHING),
    # what is in the wrong place
    ("sm90_slice.cuh", "codes_of_lane = tile * CUDA_MMA_TILE_BYTES + @warp@ * 1024", "(warp ^ 1)"),
    ("sm90_mid.cuh", "load_of_cluster(b.sums(row_tile, c) + lane * 16, @s@)", "SLICES - 1 - s"),
    ("sm90_split.cuh", "threadIdx.x % 32 * 16, @s / S::PARTS % BLOCKS@)", "0"),
    ("sm90_split.cuh", "@cluster_sync()@;\n  } else {", NOTHING),
    ("sm90_prefill.cuh", "tile = tiles + @past / 2@", "(past + 1) / 2"),
    ("sm90_prefill.cuh", "walk.column0 + @box * (S::COLUMNS / 2)@", "0"),
    ("sm90_mid.cuh", "weights += @width@ * CUDA_MMA_TILE_BYTES", "(int)CUDA_MMA_GROUP"),
    ("tiles.cuh", "if (@m < a.m && row < a.n@) {\n        store_f32", "m < a.m"),
    ("tiles.cuh", "if (@column0 + 8 * c + g < a.m@)", "column0 + 8 * c + g <= a.m"),
    ("sm90_slice.cuh", "b + step * @WGMMA_STEP@", "(2 * WGMMA_STEP)"),
    # of two rings, and of totals in shared memory
    ("sm90_totals.cuh", "before[part] = @rings.x.empty()@", "0u"),
    ("sm90_totals.cuh", "rings.totals + @(threadIdx.x - 128)@ * 16", "threadIdx.x % 128"),
    # of few.cuh
    ("few.cuh", "barrier_wait(full(buffer, @piece@), phase)", "0"),
    ("few.cuh", "phase = @fill >> 1 & 1@", "0"),
    ("few.cuh", "barrier_expect(barrier, @bytes@ * m)", "(int)sizeof(float4) + bytes"),
    ("few.cuh", "copy(first);\n    }\n    @join()@", NOTHING),
    ("few.cuh", "@wait_for_previous()@;\n      copy(first)", NOTHING),
    ("few.cuh", "if (@chunk_end * CUDA_MMA_PAIR > k@)", "false"),
    ("few.cuh", "@fence_async()@", NOTHING),
    ("few.cuh", "which + 1 : 0, @buffer ^ 1@)", "buffer"),
    ("few.cuh", "@x_comes.join()@", NOTHING),
    ("few.cuh", "@cluster_wait()@", NOTHING),
    ("few.cuh", "@cluster_sync()@", NOTHING),
    ("few.cuh", "load_shared_float(all + @s@ * COLUMN_TILES * 512)", "(slices - 1 - s)"),
    # the quantiser
    ("quantise.cu", "fabsf(rounded), @6.0f@", "8.0f"),
]

ASM = re.compile(r"\basm(\s+volatile)?\s*\(")
OPERAND = re.compile(r'"([=+]?)[rfln]"\s*\(')
STRING = re.compile(r'"(\\.|[^"\\])*"')


def sections(text, at):
    """The parts of an asm statement, which are separated by colons, and where it ends."""
    parts, depth, begin = [], 0, at
    while True:
        if text[at] == '"':
            at = STRING.match(text, at).end()
            continue
        depth += (text[at] == "(") - (text[at] == ")")
        if depth < 0 or (depth == 0 and text[at] == ":"):
            parts.append(text[begin:at].strip(" \n\\"))
            begin = at + 1
            if depth < 0:
                return parts, begin
        at += 1


def to_host(text):
    while asm := ASM.search(text):
        parts, end = sections(text, asm.end())
        text = text[: asm.start()] + "ptx(" + ", ".join(filter(None, parts[:3])) + ")" + text[end:]
    text = OPERAND.sub(lambda m: "ptx_out(" if m[1] else "ptx_in(", text)
    return re.sub(r"#include <cuda_.*>\n|#pragma unroll.*\n", "\n", text)


def main():
    source, out, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    if len(FAULTS) != count:
        sys.exit(f"{len(FAULTS)} faults; sm90.cmake says {count}")
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        text = to_host((source / name).read_text())
        for number, (file, where, wrong) in enumerate(FAULTS, 1):
            if file == name:
                before, right, after = where.split("@")
                if text.count(before + right + after) != 1:
                    sys.exit(f"{name} has {text.count(before + right + after)} times, needs once, what fault {number} replaces: {where}")
                text = text.replace(before + right + after, f"{before}(planted == {number} ? {wrong} : {right}){after}")
        (out / name).write_text(text)


main()
