# SPDX-License-Identifier: Apache-2.0
# inspect: every golden checkpoint is sound, every broken one is refused by name or has its trouble told.
. tests/cli/support.sh

for folder in modelopt_nvfp4 modelopt_nvfp4_bias modelopt_nvfp4_lmhead modelopt_nvfp4_sharded modelopt_nvfp4_split modelopt_w4a16 modelopt_mixed \
  ct_nvfp4 ct_nvfp4a16 ct_mixed_fp8 comfy/comfy-nvfp4.safetensors gguf_mlx/mlx-nvfp4.safetensors gguf_mlx/llama-modelopt-nvfp4.gguf \
  gguf_mlx/llama-quantize-nvfp4.gguf; do
  expect 0 "$nvfp4" inspect $golden/$folder
  out_has "no trouble found"
  expect 0 "$nvfp4" inspect $golden/$folder --json
  json 'set(j) == {"schema", "checkpoint", "tensors", "layers", "fused", "warnings", "trouble", "peak_anonymous_bytes"} and j["trouble"] == []' \
    'all(set(l) == {"name", "N", "K", "mode", "layout", "partitions", "bias", "scales", "weights", "note"} for l in j["layers"])' \
    'all(l["weights"]["suspicions"] == [] and 0 < l["weights"]["rms"] < l["weights"]["largest"] for l in j["layers"] if l["layout"])' \
    'any(l["layout"] for l in j["layers"])' \
    'all(l["scales"]["blocks"] == l["N"] * l["K"] // 16 and 0 < l["scales"]["min"] <= l["scales"]["max"] <= 448 for l in j["layers"] if l["layout"])'
done

expect 0 "$nvfp4" inspect $golden/ct_nvfp4 --json
json 'all(p["global"]["kind"] == p["input_global"]["kind"] == "divisor" for l in j["layers"] if l["layout"] for p in l["partitions"])'
expect 0 "$nvfp4" inspect $golden/modelopt_nvfp4 --json
json 'all(p["global"]["kind"] == p["input_global"]["kind"] == "multiplier" for l in j["layers"] if l["layout"] for p in l["partitions"])'
expect 0 "$nvfp4" inspect $golden/modelopt_w4a16 --json
json 'all(l["mode"] == "w4a16" and p["input_global"] is None for l in j["layers"] if l["layout"] for p in l["partitions"])'
expect 0 "$nvfp4" inspect $golden/modelopt_mixed --json
json 'sorted({l["mode"] for l in j["layers"]}) == ["fp8", "unquantised", "w4a4"] and sum(l["mode"] == "w4a4" for l in j["layers"]) == 6'
json 'all(len(l["partitions"]) == 1 and l["partitions"][0]["input_global"]["value"] > 0 for l in j["layers"] if l["mode"] == "fp8")'
# Parts that engines fuse: one global by the tool, or their own.
for folder in modelopt_nvfp4:0 ct_nvfp4a16:0 modelopt_nvfp4_split:4 ct_nvfp4:4; do
  expect 0 "$nvfp4" inspect $golden/${folder%:*} --json
  json "len(j['fused']) == ${folder#*:} and all(g['ratio'] > 1 for g in j['fused'])"
done
expect 0 "$nvfp4" inspect $golden/ct_nvfp4 --threads 1 --json
grep -v peak_anonymous "$scratch/out" >"$scratch/one.json"
expect 0 "$nvfp4" inspect $golden/ct_nvfp4 --threads 2 --json
grep -v peak_anonymous "$scratch/out" | cmp -s - "$scratch/one.json" || fail "the result depends on the number of threads"
expect 0 "$nvfp4" inspect $golden/modelopt_nvfp4_bias --json
json 'sum(l["bias"] is not None for l in j["layers"]) == 6'

# Counts against the bytes of the file itself.
expect 0 "$nvfp4" inspect $golden/broken/ok_modelopt.safetensors --json
python3 - "$scratch/out" $golden/broken/ok_modelopt.safetensors <<'PYTHON' || fail "the counts are not those of the file"
import json, struct, sys
scales = json.load(open(sys.argv[1]))["layers"][0]["scales"]
data = open(sys.argv[2], "rb").read()
length = struct.unpack("<Q", data[:8])[0]
header = json.loads(data[8:8 + length])
first, end = next(v["data_offsets"] for k, v in header.items() if k.endswith("weight_scale"))
codes = data[8 + length + first:8 + length + end]
def value(c): return c / 512 if c < 8 else (8 + c % 8) * 2.0 ** (c // 8 - 10)
want = {"blocks": len(codes), "min": min(value(c) for c in codes if c), "max": max(map(value, codes)), "zero": codes.count(0),
        "subnormal": sum(0 < c < 8 for c in codes), "saturated": codes.count(0x7E), "nan_or_negative": 0}
sys.exit(want != scales and not print(want, scales))
PYTHON

# A zero scale is legal and counted; NaN and negative ones are trouble, told by layer.
expect 0 "$nvfp4" inspect $golden/broken/val_scale_zero.safetensors --json
json 'j["layers"][0]["scales"]["zero"] > 0'
for file in val_scale_nan_7f val_scale_nan_ff val_scale_negative; do
  expect 1 "$nvfp4" inspect $golden/broken/$file.safetensors
  out_has "NaN or negative"
  expect 1 "$nvfp4" inspect $golden/broken/$file.safetensors --json
  json 'len(j["trouble"]) == 1 and j["layers"][0]["scales"]["nan_or_negative"] > 0'
done

# The other broken files cannot be opened: exit code 2 and one line that names the file.
while IFS="$(printf '\t')" read -r file kind _; do
  case $kind:$file in
    error:val_scale_*) ;;
    error:*)
      name=${file%/}
      refuse "" "$nvfp4" inspect "$golden/broken/$name"
      ;;
    ok:*) expect 0 "$nvfp4" inspect "$golden/broken/${file%/}" ;;
  esac
done <$golden/broken/EXPECT.tsv

# A name with an escape sequence must not reach the terminal.
python3 - "$scratch/escape.safetensors" <<'PYTHON'
import json, struct, sys
header = json.dumps({"a\u001b[2Jb.weight": {"dtype": "F32", "shape": [1, 16], "data_offsets": [0, 64]}}).encode()
open(sys.argv[1], "wb").write(struct.pack("<Q", len(header)) + header + bytes(64))
PYTHON
code=0
"$nvfp4" inspect "$scratch/escape.safetensors" >"$scratch/out" 2>&1 || code=$?
[ "$(tr -dc '\033' <"$scratch/out" | wc -c)" = 0 ] || fail "an escape character came through"
