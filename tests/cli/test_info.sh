# SPDX-License-Identifier: Apache-2.0
# info, kernels, --help, --version.
. tests/cli/support.sh

expect 0 "$nvfp4" --version
out_has "nvfp4 0."
expect 0 "$nvfp4" --help
for command in info kernels explain inspect quantize apply generate perplexity verify bench tune; do
  out_has "  $command "
done
for command in info kernels explain inspect quantize apply generate perplexity verify bench tune; do
  expect 0 "$nvfp4" $command --help
  for text in "usage: nvfp4 $command" "Examples" "Exit codes: 0 done, 1 the check failed, 2 bad use or bad input." "--json"; do
    out_has "$text"
  done
  [ -z "$(awk 'length > 100' "$scratch/out")" ] || fail "$command --help is wider than 100 columns"
  # Every command says its errors in JSON too.
  expect 2 "$nvfp4" $command --json --no-such-option
  json 'set(j) == {"schema", "error"} and j["schema"] == 1 and set(j["error"]) == {"status", "text"}' \
    '"--no-such-option" in j["error"]["text"] and j["error"]["status"] == "bad argument"'
done

expect 0 "$nvfp4" info
for label in nvfp4 build cpu isa gpu; do
  grep -q "^$label " "$scratch/out" || fail "info has no line $label"
done
expect 0 "$nvfp4" info --json
json 'set(j) == {"schema", "version", "build", "machine"}' \
  'set(j["machine"]) == {"cpu", "arch", "isa", "cores", "l1d_bytes", "l2_bytes", "l3_bytes", "memory_bytes", "cuda_driver", "cuda_missing", "gpus"}'

# A machine written on one computer and read on another is the same machine.
expect 0 "$nvfp4" info --record
cp "$scratch/out" "$scratch/here.txt"
expect 0 "$nvfp4" info --record --machine "$scratch/here.txt"
cmp "$scratch/out" "$scratch/here.txt"
expect 0 "$nvfp4" info --json
cp "$scratch/out" "$scratch/here.json"
expect 0 "$nvfp4" info --json --machine "$scratch/here.txt"
cmp "$scratch/out" "$scratch/here.json"

expect 0 "$nvfp4" info --machine h100
out_has "cuda:0"
out_has "sm_90"
expect 0 "$nvfp4" info --machine no-driver
out_has "none: "

expect 0 "$nvfp4" kernels
out_has "ref_w4a4"
expect 0 "$nvfp4" kernels --json
json 'set(j) == {"schema", "kernels"}' \
  'all(set(k) == {"id", "layout", "mode", "class", "flags", "stage", "reason", "verified", "backends"} for k in j["kernels"])' \
  '{"ref_w4a4", "ref_w4a16"} <= {k["id"] for k in j["kernels"] if k["stage"] == "eligible" and k["class"] == "canonical"}' \
  'all(k["flags"] == ["batch_invariant", "deterministic"] for k in j["kernels"] if k["id"].startswith("ref_"))'
expect 0 NVFP4_DISABLE='ref_*' "$nvfp4" kernels --json
json 'all(k["stage"] == "disabled" and k["reason"] for k in j["kernels"] if k["id"].startswith("ref_"))'
expect 0 "$nvfp4" kernels --disable ref_w4a4 --json
json '{k["id"] for k in j["kernels"] if k["stage"] == "disabled"} == {"ref_w4a4"}'
expect 0 "$nvfp4" kernels --plugins "$scratch/none.so" --json
json 'any(k["stage"] == "plugin_missing" and "none.so" in k["reason"] for k in j["kernels"])'
err_has "none.so"

# What the disk does not take is an error.
if [ -w /dev/full ]; then
  code=0
  "$nvfp4" info >/dev/full 2>"$scratch/err" || code=$?
  [ "$code" = 2 ] || fail "a full disk gives exit code $code"
fi
