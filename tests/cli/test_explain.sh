# SPDX-License-Identifier: Apache-2.0
# explain: golden checkpoints, shapes, recorded machines, the environment's overrides.
. tests/cli/support.sh
keys='{"name", "N", "K", "mode", "partitions", "layout", "chosen", "decided_by", "by_m", "kernels"}'
is_nvfp4='l["mode"] in ("w4a4", "w4a16")'

for folder in modelopt_nvfp4 modelopt_nvfp4_bias modelopt_nvfp4_lmhead modelopt_nvfp4_sharded modelopt_nvfp4_split modelopt_w4a16 modelopt_mixed \
  ct_nvfp4 ct_nvfp4a16 ct_mixed_fp8 comfy/comfy-nvfp4.safetensors gguf_mlx/mlx-nvfp4.safetensors gguf_mlx/llama-modelopt-nvfp4.gguf \
  gguf_mlx/llama-quantize-nvfp4.gguf; do
  expect 0 "$nvfp4" explain $golden/$folder
  out_has "order of preference"
  expect 0 "$nvfp4" explain $golden/$folder --device cpu --json
  json 'set(j) == {"schema", "machine", "device", "layers"} and j["device"] == "cpu"' \
    "all(set(l) == $keys for l in j['layers'] if l['chosen'])" \
    "all(set(l) == $keys | {'reason'} and not ($is_nvfp4) and l['reason'] for l in j['layers'] if not l['chosen'])" \
    "any($is_nvfp4 for l in j['layers'])" \
    "all(l['decided_by'] == 'order' for l in j['layers'] if l['chosen'])" \
    "all(set(k) == {'id', 'stage', 'reason'} for l in j['layers'] for k in l['kernels'])" \
    "all([k['id'] for k in l['kernels'] if k['stage'] == 'chosen'] == [l['chosen']] for l in j['layers'] if l['chosen'])"
  # The plan covers every M, without gaps.
  json "all(l['by_m'][0]['m_first'] == 1 and l['by_m'][-1]['m_last'] == 2**63 - 1 for l in j['layers'] if l['chosen'])" \
    "all(a['m_last'] + 1 == b['m_first'] for l in j['layers'] for a, b in zip(l['by_m'], l['by_m'][1:]))"
done

# A processor that does not tell its name.
printf 'arch aarch64\nisa neon\n' >"$scratch/nameless"
expect 0 "$nvfp4" explain --machine "$scratch/nameless" --shape 64,64
out_has "machine   unknown processor; a dry run for "

# Canonical, batch-invariant results are what there is without a policy on any CPU: asking for them changes no kernel, and so costs nothing.
for machine in machines/*.txt; do
  for mode in w4a4 w4a16; do
    expect 0 "$nvfp4" explain --machine "$machine" --device cpu --shape 4096,4096 --mode $mode
    sed -n '/^  plan /,/^  kernels /p' "$scratch/out" >"$scratch/plan"
    expect 0 "$nvfp4" explain --machine "$machine" --device cpu --shape 4096,4096 --mode $mode --require canonical,batch_invariant
    sed -n '/^  plan /,/^  kernels /p' "$scratch/out" | cmp - "$scratch/plan" || fail "another plan on $machine: $(cat "$scratch/out")"
  done
done

# Layers alike are told once, with --all one by one.
expect 0 "$nvfp4" explain $golden/modelopt_nvfp4
out_has "14 layers w4a4 on cpu: "
out_has "2 x  N 128  K 320  model.layers.*.mlp.down_proj"
out_has "15 of 15 layers have a kernel."
out_has "lm_head"
[ -z "$(awk 'length > 100' "$scratch/out")" ] || fail "explain is wider than 100 columns"
lines=$(wc -l <"$scratch/out")
[ "$lines" -lt 85 ] || fail "explain of a 2-layer model takes $lines lines"
expect 0 "$nvfp4" explain $golden/modelopt_nvfp4 --all
[ "$(grep -c '^1 layer w4a4' "$scratch/out")" = 14 ] || fail "--all does not tell every layer"
expect 0 "$nvfp4" explain $golden/modelopt_nvfp4 --layer '*.0.mlp.*' --json
json '[l["name"] for l in j["layers"]] == ["model.layers.0.mlp." + p + "_proj" for p in ("down", "gate", "up")]'
expect 0 "$nvfp4" explain $golden/modelopt_nvfp4 --layer lm_head
out_has "1 layer unquantised on cpu: "
out_has "weights as dense_n16; 64 KiB packed"
grep -q 'w4a4' "$scratch/out" && fail "explain of a dense layer speaks of NVFP4 kernels"
expect 0 "$nvfp4" explain $golden/modelopt_nvfp4 --layer '*embed*'
out_has "No layer that a kernel could serve."
# Dense layers: their own kernels, which lists for NVFP4 layers leave alone, and the other way round.
expect 0 "$nvfp4" explain --shape 100,77 --mode w16a16 --device cpu --json
json 'j["layers"][0]["mode"] == "unquantised" and j["layers"][0]["chosen"].endswith("_w16a16")'
expect 0 NVFP4_KERNEL=ref_w16a16 "$nvfp4" explain $golden/modelopt_nvfp4 --device cpu --json
json 'all((l["chosen"] == "ref_w16a16") == (l["name"] == "lm_head") for l in j["layers"] if l["chosen"])'
expect 0 VLLM_NVFP4_GEMM_BACKEND=emulation "$nvfp4" explain $golden/modelopt_nvfp4 --device cpu --json
json 'all(l["decided_by"] == ("order" if l["name"] == "lm_head" else "VLLM_NVFP4_GEMM_BACKEND") for l in j["layers"] if l["chosen"])'

expect 0 "$nvfp4" explain --shape 4096,14336 --device cpu --json
json 'len(j["layers"]) == 1 and (j["layers"][0]["N"], j["layers"][0]["K"], j["layers"][0]["mode"]) == (4096, 14336, "w4a4")'
expect 0 "$nvfp4" explain --shape 4096,14336 --device cpu --mode w4a16 --json
json 'j["layers"][0]["mode"] == "w4a16" and "w4a16" in j["layers"][0]["chosen"]'
expect 0 "$nvfp4" explain $golden/modelopt_nvfp4 --mode w4a16 --device cpu --json
json "all(l['mode'] == ('unquantised' if l['name'] == 'lm_head' else 'w4a16') for l in j['layers'] if l['chosen'])"

# Overrides: the option before the environment, NVFP4_KERNEL before vLLM's variable.
expect 0 NVFP4_KERNEL=ref_w4a16 "$nvfp4" explain --shape 32,32 --device cpu --json
json 'j["layers"][0]["chosen"] == "ref_w4a16" and j["layers"][0]["decided_by"] == "NVFP4_KERNEL"' \
  '"more precise than asked" in [k["reason"] for k in j["layers"][0]["kernels"] if k["stage"] == "chosen"][0]'
expect 0 NVFP4_KERNEL=ref_w4a16 "$nvfp4" explain --shape 32,32 --device cpu --kernel ref_w4a4 --json
json 'j["layers"][0]["chosen"] == "ref_w4a4" and j["layers"][0]["decided_by"] == "option"'
expect 0 VLLM_NVFP4_GEMM_BACKEND=emulation "$nvfp4" explain --shape 32,32 --device cpu --json
json 'j["layers"][0]["chosen"] == "ref_w4a4" and j["layers"][0]["decided_by"] == "VLLM_NVFP4_GEMM_BACKEND"'
expect 0 VLLM_NVFP4_GEMM_BACKEND=marlin NVFP4_KERNEL='ref_*' "$nvfp4" explain --shape 32,32 --device cpu --json
json 'j["layers"][0]["decided_by"] == "NVFP4_KERNEL"'
expect 0 NVFP4_REQUIRE=canonical,batch_invariant,deterministic VLLM_BATCH_INVARIANT=1 "$nvfp4" explain --shape 32,32 --device cpu

# A wish that nothing can fulfil: exit code 1, the reason, and the ids that can.
expect 1 VLLM_NVFP4_GEMM_BACKEND=marlin "$nvfp4" explain --shape 32,32 --device cpu
out_has "NO KERNEL"
out_has "VLLM_NVFP4_GEMM_BACKEND=marlin"
out_has "ref_w4a4"
expect 1 VLLM_NVFP4_GEMM_BACKEND=marlin "$nvfp4" explain --shape 32,32 --device cpu --json
json 'j["layers"][0]["chosen"] is None and "ids that can: " in j["layers"][0]["reason"] and "ref_w4a4" in j["layers"][0]["reason"]'
expect 1 NVFP4_KERNEL=no_such_kernel "$nvfp4" explain --shape 32,32 --device cpu
out_has '"no_such_kernel", which is no kernel'
expect 1 "$nvfp4" explain --shape 32,32 --device cpu --kernel no_such_kernel --json
json '"no_such_kernel" in j["layers"][0]["reason"] and "ref_w4a4" in j["layers"][0]["reason"]'
expect 1 NVFP4_DISABLE='*' "$nvfp4" explain $golden/modelopt_nvfp4 --device cpu
out_has "0 of 15 layers have a kernel."
expect 0 NVFP4_DISABLE='*_w4a4' NVFP4_ALLOW=w4a16 "$nvfp4" explain --shape 32,32 --device cpu --json
json '"w4a16" in j["layers"][0]["chosen"]'

# Recorded machines: the answer is another computer's, and not tested here.
for machine in amx arm-dotprod arm-i8mm avx2 avx512-vnni b200 b300 dgx-spark h100 no-driver rtx-5090 thor x86-64; do
  expect 0 "$nvfp4" explain $golden/modelopt_nvfp4 --machine $machine
  out_has "a dry run for $machine"
  out_has "not tested here"
  expect 0 "$nvfp4" explain $golden/modelopt_nvfp4 --machine $machine --device cpu --json
  json 'all(l["chosen"] for l in j["layers"] if l["mode"] == "w4a4")'
done
expect 0 "$nvfp4" explain --shape 64,64 --machine h100 --json
json 'j["device"] == "cpu" and j["devices"] == ["cpu"] + ["cuda:%d" % i for i in range(len(j["machine"]["gpus"]))] and len(j["devices"]) > 1' \
  '[l["device"] for l in j["layers"]] == j["devices"]'
expect 0 "$nvfp4" explain --shape 64,64 --machine h100
out_has "(and 7 GPUs like it)"
