# SPDX-License-Identifier: Apache-2.0
# convert: what it tells and refuses, and what is left of it when it is interrupted or the disk is full.
. tests/cli/support.sh

# nothing_left FOLDER: it is not there, or holds no file of a final name.
nothing_left() { [ -z "$(find "$1" -type f ! -name '*.part' ! -name '*.tmp' 2>/dev/null)" ] || fail "left in $1: $(ls "$1")"; }

# Reports.
expect 0 "$nvfp4" convert $golden/ct_nvfp4 "$scratch/mo" --layout modelopt --json
json 'j["from"] == "compressed-tensors" and j["to"] == "modelopt" and j["layers"] == 14 and j["files"] == 1 and j["losses"] == []' \
  'j["globals"] == 28 and 0 <= j["inexact_globals"] <= 28 and len(j["remarks"]) == 1'
expect 0 "$nvfp4" inspect "$scratch/mo"
out_has "no trouble found"
expect 0 "$nvfp4" convert $golden/modelopt_mixed "$scratch/mlx" --layout mlx --dry-run
out_has "FP8 with a scale, which mlx cannot hold"
out_has "nothing is written"
nothing_left "$scratch/mlx"
expect 0 "$nvfp4" convert $golden/comfy/comfy-nvfp4.safetensors "$scratch/one.safetensors" --layout modelopt
[ -f "$scratch/one.safetensors" ] || fail "no file"

# Scales of an FP8 cache, as ModelOpt exports them: kept by safetensors, without a place in llama.cpp's models.
cp -r $golden/modelopt_nvfp4 "$scratch/cache"
python3 - "$scratch/cache/model.safetensors" <<'PYTHON'
import json, struct, sys
data = open(sys.argv[1], "rb").read()
end = 8 + struct.unpack("<Q", data[:8])[0]
header, data = json.loads(data[8:end]), data[end:]
for name in "kv":
    header[f"model.layers.0.self_attn.{name}_proj.{name}_scale"] = {"dtype": "F32", "shape": [], "data_offsets": [len(data), len(data) + 4]}
    data += struct.pack("<f", 0.02)
text = json.dumps(header).encode()
open(sys.argv[1], "wb").write(struct.pack("<Q", len(text)) + text + data)
PYTHON
refuse "2 things would be lost (model.layers.0.self_attn.k_proj.k_scale: llama.cpp has no such tensor" \
  "$nvfp4" convert "$scratch/cache" "$scratch/cache.gguf" --layout gguf
for layout in gguf mlx; do
  expect 0 "$nvfp4" convert "$scratch/cache" "$scratch/cache-$layout" --layout $layout --allow-lossy --json
  json 'len(j["losses"]) == 2 and j["copied_tensors"] == 7'
done
expect 0 "$nvfp4" convert "$scratch/cache" "$scratch/cache-ct" --layout compressed-tensors --json
json 'j["losses"] == [] and j["copied_tensors"] == 9'

# A config as Python writes it, kept as it is.
cp -r $golden/ct_nvfp4 "$scratch/python"
sed -i 's/^{/{\n  "time_step_limit": [0.0, Infinity],\n  "no_limit": 1000000000000000019884624838656,/' "$scratch/python/config.json"
expect 0 "$nvfp4" convert "$scratch/python" "$scratch/python-mo" --layout modelopt
grep -qF '"no_limit": 1000000000000000019884624838656' "$scratch/python-mo/config.json" || fail "a long integer is lost"
python3 -c 'import json, sys; assert json.load(open(sys.argv[1]))["time_step_limit"] == [0.0, float("inf")]' "$scratch/python-mo/config.json"
expect 0 "$nvfp4" inspect "$scratch/python-mo"

# Bad use.
refuse "--layout is missing" "$nvfp4" convert $golden/ct_nvfp4 "$scratch/x"
refuse "both input and output" "$nvfp4" convert "$scratch/mo" "$scratch/mo" --layout mlx
refuse "holds a checkpoint already" "$nvfp4" convert $golden/ct_nvfp4 "$scratch/mo" --layout modelopt
refuse "exists already" "$nvfp4" convert $golden/ct_nvfp4 "$scratch/one.safetensors" --layout modelopt
refuse "--allow-lossy" "$nvfp4" convert $golden/modelopt_mixed "$scratch/mlx" --layout mlx
refuse "no NVFP4 layer" "$nvfp4" convert $golden/tiny "$scratch/x" --layout mlx
refuse "one_level is for gguf and mlx" "$nvfp4" convert $golden/ct_nvfp4 "$scratch/x" --layout modelopt --one-level
refuse "GGUF is written as one file" "$nvfp4" convert $golden/ct_nvfp4 "$scratch/x.gguf" --layout gguf --max-shard-size 1
nothing_left "$scratch/x"

# Every broken file, into every layout: refused, by name, with nothing left.
tail -n +2 $golden/broken/EXPECT.tsv | while IFS=$'\t' read -r file kind _; do
  [ "$kind" = error ] || continue
  expect 2 "$nvfp4" convert "$golden/broken/$file" "$scratch/broken" --layout modelopt
  err_has "$(basename "$file" | sed 's/^dir_index_not_json$/index/; s/^dir_[a-z_0-9]*$//')"
  nothing_left "$scratch/broken"
done

# Their relatives: sound files of the other layouts with one number changed.
expect 0 "$nvfp4" convert $golden/modelopt_nvfp4 "$scratch/m.gguf" --layout gguf
for layout in mlx comfy compressed-tensors; do
  expect 0 "$nvfp4" convert $golden/modelopt_nvfp4 "$scratch/m-$layout.safetensors" --layout $layout
done
python3 - "$scratch" <<'PYTHON'
import json, struct, sys
from pathlib import Path
scratch = Path(sys.argv[1])
numbers = {"nan": struct.pack("<f", float("nan")), "inf": struct.pack("<f", float("inf")), "zero": bytes(4), "negative": struct.pack("<f", -1)}
def change(source, target, offset, data):
    content = bytearray(source.read_bytes())
    content[offset:offset + len(data)] = data
    target.write_bytes(content)
names = {"mlx": (".scales", ".global_scale"), "comfy": (".weight_scale", ".weight_scale_2"), "compressed-tensors": (".weight_scale", ".weight_global_scale")}
layer = "model.layers.1.mlp.down_proj"
for layout, (scale, number) in names.items():
    source = scratch / f"m-{layout}.safetensors"
    data = source.read_bytes()
    length, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    for name, byte in {"nan7f": 0x7F, "nanff": 0xFF, "minus": 0xB8}.items():
        change(source, scratch / f"bad-{layout}-{name}.safetensors", 8 + length + header[layer + scale]["data_offsets"][0], bytes([byte]))
    for name, value in numbers.items():
        change(source, scratch / f"bad-{layout}-{name}.safetensors", 8 + length + header[layer + number]["data_offsets"][0], value)
data = (scratch / "m.gguf").read_bytes()
last = b"token_embd.weight"
begin = data.rindex(last) + len(last) + 4 + 2 * 8 + 4 + 8  # the end of the last tensor's description
def tensor(name):  # where its data lie
    at = data.index(struct.pack("<Q", len(name)) + name.encode()) + 8 + len(name)
    dimensions, = struct.unpack("<I", data[at:at + 4])
    offset, = struct.unpack("<Q", data[at + 8 + 8 * dimensions:at + 16 + 8 * dimensions])
    return (begin + 31) // 32 * 32 + offset
for name, byte in {"nan7f": 0x7F, "nanff": 0xFF, "minus": 0xB8}.items():
    change(scratch / "m.gguf", scratch / f"bad-{name}.gguf", tensor("blk.1.ffn_down.weight"), bytes([byte]))
for name, value in numbers.items():
    change(scratch / "m.gguf", scratch / f"bad-{name}.gguf", tensor("blk.1.ffn_down.scale"), value)
PYTHON
for file in "$scratch"/bad-*; do
  refuse "$(basename "$file")" "$nvfp4" convert "$file" "$scratch/broken" --layout modelopt
  err_has "$(case $file in *.gguf) echo blk.1.ffn_down ;; *) echo model.layers.1.mlp.down_proj ;; esac)"
  nothing_left "$scratch/broken"
done

# A full disk, here a limit on the size of files: an error, and nothing left.
for layout in modelopt gguf; do
  out=$scratch/full.$([ $layout = gguf ] && echo gguf || echo folder)
  code=0
  (trap '' XFSZ && ulimit -f 64 && "$nvfp4" convert $golden/ct_nvfp4 "$out" --layout $layout) >"$scratch/out" 2>"$scratch/err" || code=$?
  [ $code = 2 ] || fail "exit code $code on a full disk"
  err_has "cannot be written"
  [ ! -e "$out" ] || fail "$out is left on a full disk"
done

# Killed in the middle: no file under its final name unless all of it is there.
python3 scripts/make_large_checkpoint.py "$scratch/large" --gigabytes 0.2 --hidden 1024 --intermediate 4096 >/dev/null
for delay in 0.01 0.05 0.1 0.2; do
  for layout in compressed-tensors gguf; do
    out=$scratch/killed-$delay-$layout.$([ $layout = gguf ] && echo gguf || echo folder)
    timeout -s KILL $delay "$nvfp4" convert "$scratch/large" "$out" --layout $layout >/dev/null 2>&1 || true
    if [ -f "$out" ] || [ -f "$out/config.json" ]; then
      expect 0 "$nvfp4" inspect "$out"
    else
      nothing_left "$out"
    fi
    rm -rf "$out"*
  done
done
