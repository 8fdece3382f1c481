# SPDX-License-Identifier: Apache-2.0
# vLLM's back ends on this computer, without a GPU, on Hopper and on every Blackwell GPU: `kernels` lists each with a state and a reason; each name chooses a kernel, or says what to do.
. tests/cli/support.sh
machines="h100 b200 b300 rtx-5090 dgx-spark thor"
seed="emulation marlin cutlass flashinfer-cutlass flashinfer-trtllm fbgemm"
grep -q vendor_cudnn_w4a4 src/kernels/kernels.def && seed="$seed flashinfer-cudnn cudnn"

for machine in "" no-driver x86-64 $machines; do
  expect 0 "$nvfp4" kernels ${machine:+--machine $machine} --json
  json "set('$seed'.split()) <= {b for k in j['kernels'] for b in k['backends'].split(', ')}" \
    'all((k["stage"] == "eligible") != bool(k["reason"]) for k in j["kernels"])' \
    '[k["id"] for k in j["kernels"] if k["stage"] == "plugin_missing"] == ["plugin_cutlass_w4a4", "plugin_flashinfer_cutlass_w4a4", "plugin_flashinfer_trtllm_w4a4", "plugin_fbgemm_w4a4"]' \
    'all("NVFP4_PLUGINS=.../nvfp4_plugin_" in k["reason"] or "take plugin_cutlass_w4a4" in k["reason"] for k in j["kernels"] if k["stage"] == "plugin_missing")'
  case $machine in
    "" | no-driver | x86-64) json 'not any(k["stage"] == "eligible" for k in j["kernels"] if k["id"].startswith(("cuda_", "vendor_")))' ;;
  esac
done
expect 0 "$nvfp4" kernels
out_has "vLLM's marlin, humming"

expect 0 "$nvfp4" kernels --machine h100 --json
if python3 -c 'import json, sys; sys.exit(any(k["id"].startswith("cuda_") and k["stage"] != "not_built" for k in json.load(sys.stdin)["kernels"]))' <"$scratch/out"; then
  expect 1 VLLM_NVFP4_GEMM_BACKEND=marlin "$nvfp4" explain --shape 64,64 --machine h100 --device cuda:0
  out_has "not built: " # without device code there is nothing to choose
  exit 0
fi

# chooses MACHINE NAME ID|ID: the back end stands for a kernel there. misses MACHINE NAME TEXT: it does not, and the reason says what is found or to do.
chooses() {
  expect 0 VLLM_NVFP4_GEMM_BACKEND="$2" "$nvfp4" explain --shape 4096,4096 --machine "$1" --device cuda:0 --json
  json "j['layers'][0]['chosen'] in '$3'.split('|') and j['layers'][0]['decided_by'] == 'VLLM_NVFP4_GEMM_BACKEND'"
}
misses() {
  expect 1 VLLM_NVFP4_GEMM_BACKEND="$2" "$nvfp4" explain --shape 4096,4096 --machine "$1" --device cuda:0 --json
  json "'VLLM_NVFP4_GEMM_BACKEND' in j['layers'][0]['reason'] and '$3' in j['layers'][0]['reason']"
}
for machine in $machines; do
  chooses $machine marlin 'cuda_sm80_w4a16|cuda_sm90_w4a16'
  chooses $machine Humming 'cuda_sm80_w4a16|cuda_sm90_w4a16'
  chooses $machine emulation cuda_emulation_w4a4
  misses $machine flashinfer_trtllm 'plugin_flashinfer_trtllm_w4a4: plug-in not given: NVFP4_PLUGINS=.../nvfp4_plugin_flashinfer.so'
  misses $machine flashinfer-cutlass 'plugin_flashinfer_cutlass_w4a4: plug-in not given: NVFP4_PLUGINS=.../nvfp4_plugin_flashinfer.so'
  misses $machine fbgemm 'take plugin_cutlass_w4a4'
  misses $machine flashinfer-b12x 'take cutlass'
  misses $machine machete 'take auto'
  expect 0 VLLM_NVFP4_GEMM_BACKEND=auto "$nvfp4" explain --shape 4096,4096 --machine $machine --device cuda:0 --json
  json 'j["layers"][0]["chosen"] and j["layers"][0]["decided_by"] == "order"'
  expect 0 NVFP4_KERNEL=cuda_sm80_w4a16 "$nvfp4" explain --shape 4096,4096 --machine $machine --device cuda:0 --json
  json 'j["layers"][0]["chosen"] == "cuda_sm80_w4a16"'
done
misses h100 cutlass 'plugin_cutlass_w4a4: plug-in not given: NVFP4_PLUGINS=.../nvfp4_plugin_cutlass.so'
refuse "needs one of: auto, emulation, marlin" VLLM_NVFP4_GEMM_BACKEND=cutlasss "$nvfp4" explain --shape 64,64 --machine b200
