# SPDX-License-Identifier: Apache-2.0
# The commands on a GPU that the mock driver plays, beside the command in tests/mock; in a build without CUDA compiler: that they say so.
. tests/cli/support.sh
mock=$(dirname "$nvfp4")/tests/mock
layer=model.layers.1.self_attn.q_proj
on_mock() { expect "$1" LD_LIBRARY_PATH="$mock" "${@:2}"; }

on_mock 0 MOCK_CUDA=devices=2,sm=90 "$nvfp4" info --json
json '[g["sm"] for g in j["machine"]["gpus"]] == [90, 90] and j["machine"]["cuda_driver"] == 13000'
on_mock 0 MOCK_CUDA=driver=11080 "$nvfp4" info
out_has "needs 12.0 or newer"
refuse "--device cuda:1: this computer has 1 GPU" LD_LIBRARY_PATH="$mock" "$nvfp4" bench --device cuda:1
refuse "--device cuda:0: no CUDA driver" LD_LIBRARY_PATH=/nowhere "$nvfp4" bench --device cuda:0

expect 0 "$nvfp4" kernels --json
if python3 -c 'import json, sys; sys.exit(any(k["id"].startswith("cuda_") and k["stage"] != "not_built" for k in json.load(sys.stdin)["kernels"]))' <"$scratch/out"; then
  json 'all(k["reason"].startswith("not built: ") for k in j["kernels"] if k["id"].startswith("cuda_"))'
  exit 0
fi

python3 tests/cli/apply_check.py inputs "$scratch"
for device in cpu cuda:0; do
  on_mock 0 MOCK_CUDA=sm=80 "$nvfp4" apply $golden/modelopt_nvfp4 $layer --input "$scratch/good.safetensors" --output "$scratch/$device.safetensors" --device $device --json
done
json 'j["kernel"] == "cuda_emulation_w4a4"'
cmp "$scratch/cpu.safetensors" "$scratch/cuda:0.safetensors"
on_mock 0 MOCK_CUDA=sm=80 "$nvfp4" explain --shape 64,64 --device cuda:0 --json
json 'j["layers"][0]["chosen"] == "cuda_emulation_w4a4"'
on_mock 0 "$nvfp4" explain --shape 64,64 --device cuda:0 --json
json 'j["layers"][0]["chosen"] == "cuda_sm90_w4a4"'
on_mock 0 "$nvfp4" verify $golden/modelopt_nvfp4 --kernel 'cuda_*' --json
json 'j["failed"] == 0 and j["passed"] > 0'
on_mock 0 "$nvfp4" bench --device cuda:0 --kernel 'cuda_emulation_*' --shape 512,256 --m 1,5 --seconds 0.0001 --rotate 1 --json
json '[r["kernel"] for r in j["results"]] == ["cuda_emulation_w4a4", "cuda_emulation_w4a16", "cublas_bf16"] * 2' \
  'all(0 <= r["rel_err"] < 2**-8 and r["pack_gbps"] > 0 and r["us"] > 0 for r in j["results"] if r["kernel"] != "cublas_bf16")'
on_mock 0 "$nvfp4" bench --device cuda:0 --kernel cuda_emulation_w4a4 --shape 512,256 --m 1 --seconds 0.0001 --rotate 1
out_has "TFLOP/s"
out_has "packs GB/s"

# A tuning table of the GPU, beside one of the CPU; dense layers have no kernel there and are left out.
model=$golden/modelopt_nvfp4
gpu_table=$scratch/gpu.txt
on_mock 0 "$nvfp4" tune $model --device cuda:0 --disable 'cuda_sm*' --m 1,4 --seconds 0.0001 --rotate 1 --output "$gpu_table" --json
json 'j["device"] == "cuda:0" and all({t["kernel"] for t in s["times"]} == {"cuda_emulation_w4a4"} for s in j["shapes"])' \
  'all(s["decided_by"] == "tuning" and s["mode"] == "w4a4" for s in j["shapes"])'
grep -qx "gpu Mock GPU 0" "$gpu_table" || fail "the table does not name the GPU"
grep -q "^time device=cuda mode=w4a4 n=128 k=320 m=4 kernel=cuda_emulation_w4a4 ns=[1-9]" "$gpu_table" || fail "a time is missing"
expect 0 "$nvfp4" tune $model --kernel 'ref_*' --m 1 --seconds 0 --threads 1 --output "$scratch/cpu.txt"
for device in cpu cuda:0; do
  on_mock 0 NVFP4_THREADS=1 "$nvfp4" explain $model --device $device --layer '*.down_proj' --tuning "$scratch/cpu.txt,$gpu_table" --json
  json 'all(l["decided_by"] == "tuning" for l in j["layers"])'
done
refuse "measured with gpu \"Mock GPU 0\"; here it is \"none\"" LD_LIBRARY_PATH=/nowhere "$nvfp4" explain $model --tuning "$gpu_table"
refuse "measured with cuda_driver \"13000\"; here it is \"12000\"" LD_LIBRARY_PATH="$mock" MOCK_CUDA=driver=12000 "$nvfp4" explain $model --tuning "$gpu_table"

on_mock 1 MOCK_CUDA=fail=cuLibraryLoadData:200 "$nvfp4" explain --shape 64,64 --device cuda:0 --json
json '{k["stage"] for k in j["layers"][0]["kernels"] if k["id"] == "cuda_emulation_w4a4"} == {"failed_self_test"}'
