# SPDX-License-Identifier: Apache-2.0
# What the tests of the command share. A test gets the command's path as $1 and runs from the repository's root.
set -eu
nvfp4=$1
golden=tests/golden
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for name in NVFP4_KERNEL NVFP4_DISABLE NVFP4_REQUIRE NVFP4_ALLOW NVFP4_PLUGINS NVFP4_TUNING NVFP4_THREADS VLLM_NVFP4_GEMM_BACKEND VLLM_BATCH_INVARIANT \
  VLLM_DISABLED_KERNELS; do
  unset "$name"
done

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# expect CODE [NAME=VALUE...] COMMAND...: runs the command with $scratch/out and $scratch/err; its exit code must be CODE.
expect() {
  local wanted=$1 code=0
  shift
  env "$@" >"$scratch/out" 2>"$scratch/err" </dev/null || code=$?
  [ "$code" = "$wanted" ] || fail "exit code $code instead of $wanted: $* $(cat "$scratch/err")"
}

# refuse TEXT COMMAND...: bad use or bad input: exit code 2, nothing on stdout, and one line on stderr that has TEXT.
refuse() {
  local text=$1
  shift
  expect 2 "$@"
  [ ! -s "$scratch/out" ] || fail "something on stdout: $*"
  [ "$(wc -l <"$scratch/err")" = 1 ] || fail "not one line on stderr: $* $(cat "$scratch/err")"
  grep -q '^nvfp4: ' "$scratch/err" || fail "not the command's own message: $* $(cat "$scratch/err")"
  grep -qF -- "$text" "$scratch/err" || fail "no \"$text\" in: $(cat "$scratch/err")"
}

# out_has TEXT, err_has TEXT: the last command's output has it.
out_has() { grep -qF -- "$1" "$scratch/out" || fail "no \"$1\" on stdout: $(cat "$scratch/out")"; }
err_has() { grep -qF -- "$1" "$scratch/err" || fail "no \"$1\" on stderr: $(cat "$scratch/err")"; }

# json CONDITION...: Python expressions about j, the last command's JSON object, that must all be true.
json() {
  python3 - "$scratch/out" "$@" <<'PYTHON' || fail "the JSON object is not as it should be"
import json, sys
j = json.load(open(sys.argv[1]))
for condition in sys.argv[2:]:
    if not eval(condition):
        sys.exit(f"not so: {condition}\n{json.dumps(j)[:2000]}")
PYTHON
}
