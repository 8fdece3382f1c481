# SPDX-License-Identifier: Apache-2.0
# apply: every golden layer in both modes against the expected values; the same bits for any threads and rows; wrong inputs.
. tests/cli/support.sh
check="python3 tests/cli/apply_check.py"

apply() { # apply CHECKPOINT LAYER INPUT OUTPUT [options]
  local checkpoint=$1 layer=$2 input=$3 output=$4
  shift 4
  expect 0 "$nvfp4" apply "$checkpoint" "$layer" --input "$scratch/$input" --output "$scratch/$output" "$@"
}

for folder in modelopt_nvfp4 modelopt_nvfp4_bias modelopt_nvfp4_lmhead modelopt_nvfp4_sharded modelopt_nvfp4_split modelopt_mixed ct_nvfp4 ct_mixed_fp8; do
  $check golden "$nvfp4" $golden/$folder $golden/$folder/expected.safetensors "$scratch" w4a16 w4a4
done
for folder in modelopt_w4a16 ct_nvfp4a16; do
  $check golden "$nvfp4" $golden/$folder $golden/$folder/expected.safetensors "$scratch" w4a16
done
for file in llama-modelopt-nvfp4.gguf llama-quantize-nvfp4.gguf mlx-nvfp4.safetensors; do
  $check golden "$nvfp4" $golden/gguf_mlx/$file $golden/gguf_mlx/${file%.*}.expected.safetensors "$scratch" w4a16
done
$check golden "$nvfp4" $golden/comfy/comfy-nvfp4.safetensors $golden/comfy/expected.safetensors "$scratch" w4a16

# What it says, and the types it writes.
checkpoint=$golden/modelopt_nvfp4
layer=model.layers.1.self_attn.q_proj
$check inputs "$scratch"
apply $checkpoint $layer good.safetensors y.safetensors --kernel 'ref_*' --json
json 'set(j) == {"schema", "layer", "M", "N", "K", "mode", "x_dtype", "y_dtype", "kernel", "decided_by", "reason", "output"}' \
  '(j["M"], j["N"], j["K"], j["mode"], j["y_dtype"], j["kernel"]) == (1, 128, 128, "w4a4", "F32", "ref_w4a4")'
for dtype in f32 f16 bf16; do
  apply $checkpoint $layer good.safetensors y.safetensors --out-dtype $dtype --json
  json "j['y_dtype'].lower() == '$dtype'"
done
apply $checkpoint $layer good.safetensors y.safetensors --kernel ref_w4a16 --json
json 'j["kernel"] == "ref_w4a16" and j["decided_by"] == "option" and "more precise than asked" in j["reason"]'
apply $checkpoint $layer empty.safetensors y.safetensors --json
json 'j["M"] == 0'
[ "$(find "$scratch" -name '*.part' | wc -l)" = 0 ] || fail "a temporary file is left"

refuse_apply() { # refuse_apply TEXT CHECKPOINT LAYER INPUT [options]
  local text=$1 checkpoint=$2 layer=$3 input=$4
  shift 4
  rm -f "$scratch/y.safetensors"
  refuse "$text" "$nvfp4" apply "$checkpoint" "$layer" --input "$scratch/$input" --output "$scratch/y.safetensors" "$@"
  [ ! -e "$scratch/y.safetensors" ] || fail "a refused apply wrote its output"
}
refuse_apply "did you mean model.layers.1.self_attn.q_proj" $checkpoint model.layers.1.self_attn.qproj good.safetensors
refuse_apply "did you mean model.layers.0.self_attn.q_proj or model.layers.1.self_attn.q_proj?" $checkpoint q_proj good.safetensors
refuse_apply "is an embedding" $checkpoint model.embed_tokens good.safetensors
refuse_apply "is for NVFP4 layers; layer $layer is fp8" $golden/modelopt_mixed $layer good.safetensors --mode w4a16
apply $checkpoint lm_head good.safetensors y.safetensors --kernel ref_w16a16 --json
json '(j["mode"], j["kernel"]) == ("unquantised", "ref_w16a16")'
apply $golden/modelopt_mixed $layer good.safetensors y.safetensors --json
json 'j["mode"] == "fp8" and j["kernel"].endswith("_w16a16")'
rm "$scratch/y.safetensors"
refuse_apply "has no input scale" $golden/modelopt_w4a16 $layer good.safetensors --mode w4a4
refuse_apply "has no tensor x (but z)" $checkpoint $layer name.safetensors
refuse_apply "x is I32; needs F32, F16 or BF16" $checkpoint $layer dtype.safetensors
refuse_apply "needs 2: [M, 128]" $checkpoint $layer rank.safetensors
refuse_apply "x is [2, 64]; layer $layer needs [M, 128]" $checkpoint $layer columns.safetensors
refuse_apply "cannot be opened" $checkpoint $layer none.safetensors
refuse_apply "no_such_kernel" $checkpoint $layer good.safetensors --kernel no_such_kernel
refuse_apply "cuda:0" $checkpoint $layer good.safetensors --device cuda:0
refuse_apply "needs one of f32|f16|bf16" $checkpoint $layer good.safetensors --out-dtype f8
refuse_apply "NaN" $golden/broken/val_scale_nan_7f.safetensors model.layers.0.mlp.down_proj columns.safetensors
refuse "--output FILE is missing" "$nvfp4" apply $checkpoint $layer --input "$scratch/good.safetensors"
refuse "--input FILE is missing" "$nvfp4" apply $checkpoint $layer --output "$scratch/y.safetensors"
refuse "none/y.safetensors" "$nvfp4" apply $checkpoint $layer --input "$scratch/good.safetensors" --output "$scratch/none/y.safetensors"
cp "$scratch/good.safetensors" "$scratch/kept.safetensors"
ln -s good.safetensors "$scratch/link.safetensors"
for output in good.safetensors link.safetensors; do
  refuse "same file as the input" "$nvfp4" apply $checkpoint $layer --input "$scratch/good.safetensors" --output "$scratch/$output"
done
cmp "$scratch/good.safetensors" "$scratch/kept.safetensors"
cp -r $checkpoint "$scratch/checkpoint"
ln -s checkpoint/model.safetensors "$scratch/weights"
for output in checkpoint/model.safetensors checkpoint/config.json weights; do
  refuse "a file of the checkpoint" "$nvfp4" apply "$scratch/checkpoint" $layer --input "$scratch/good.safetensors" --output "$scratch/$output"
done
cmp $checkpoint/model.safetensors "$scratch/checkpoint/model.safetensors"
