# SPDX-License-Identifier: Apache-2.0
# nvfp4 verify: the golden checkpoints pass; a kernel that passes its self-test and is wrong for large K does not.
. tests/cli/support.sh
plugins=$(dirname "$nvfp4")/tests

for folder in modelopt_nvfp4 modelopt_w4a16 modelopt_mixed ct_nvfp4 comfy/comfy-nvfp4.safetensors gguf_mlx/mlx-nvfp4.safetensors; do
  expect 0 "$nvfp4" verify $golden/$folder --m 3 --json
  json 'set(j) == {"schema", "layers", "passed", "failed", "skipped"} and j["failed"] == 0 and j["passed"] > 0'
  json 'sum(len(l["results"]) for l in j["layers"]) == j["passed"] + j["skipped"]'
  json 'all(set(l) == {"name", "N", "K", "results"} for l in j["layers"])'
  json 'all(any(r["kernel"] == ("ref_w16a16" if r["mode"] in ("unquantised", "fp8") else "ref_w4a16") and r["result"] == "passed" for r in l["results"]) for l in j["layers"])'
done
expect 0 "$nvfp4" verify $golden/modelopt_nvfp4 --layer '*.0.mlp.down_proj' --kernel 'ref_*'
out_has "1 layers; kernels on layers: 2 passed, 0 failed, 0 skipped"

# Bounded kernels are held to the bound; order_by_k_w4a16 claims to be canonical, and is not from K = 320 on.
down='*.mlp.down_proj'
expect 0 "$nvfp4" verify $golden/modelopt_nvfp4 --plugins "$plugins/wrong_well_behaved.so" --kernel 'plugin_wrong_none_*' --json
json 'j["failed"] == 0 and j["skipped"] == 0 and j["passed"] == 4 * 14'
expect 1 "$nvfp4" verify $golden/modelopt_nvfp4 --plugins "$plugins/wrong_well_behaved.so" --kernel plugin_wrong_order_by_k_w4a16 --json
json 'all((l["K"] >= 320) == any(r["result"] == "failed" for r in l["results"]) for l in j["layers"]) and j["failed"] > 0'
expect 1 "$nvfp4" verify $golden/modelopt_nvfp4 --plugins "$plugins/wrong_well_behaved.so" --kernel plugin_wrong_order_by_k_w4a16 --layer "$down"
out_has "FAILED  plugin_wrong_order_by_k_w4a16, model.layers.0.mlp.down_proj"
out_has "values are wrong"
# A kernel that fails its self-test has failed.
expect 1 "$nvfp4" verify $golden/modelopt_nvfp4 --plugins "$plugins/faulty_5.so" --kernel 'plugin_faulty_*' --layer "$down"
out_has "self-test"

refuse "no layer and kernel to verify" "$nvfp4" verify $golden/modelopt_nvfp4 --layer no_such_layer
refuse "no layer and kernel to verify" "$nvfp4" verify $golden/modelopt_nvfp4 --kernel no_such_kernel
refuse "0 of 1 arguments" "$nvfp4" verify
refuse "--m 0" "$nvfp4" verify $golden/modelopt_nvfp4 --m 0
