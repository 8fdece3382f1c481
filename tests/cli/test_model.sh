# SPDX-License-Identifier: Apache-2.0
# quantize, generate and perplexity on the small model: results, JSON, seeds, threads, and what is left after an error.
. tests/cli/support.sh
tiny=$golden/tiny
head -c 3000 data/persuasion.txt >"$scratch/text"

expect 0 "$nvfp4" quantize $tiny "$scratch/w4a4" --calibrate "$scratch/text" --calibration-tokens 256
for label in layers error size time memory; do
  grep -q "^$label " "$scratch/out" || fail "quantize has no line $label"
done
out_has "14 quantised to w4a4"
[ ! -s "$scratch/err" ] || fail "a progress bar without a terminal"
for scales in rtn sweep; do
  for layout in modelopt compressed-tensors; do
    expect 0 "$nvfp4" quantize $tiny "$scratch/$layout-$scales" --layout $layout --scales $scales --json
    json 'set(j) == {"schema", "output", "layout", "scales", "method", "importance", "mode", "layers", "copied_tensors", "weights", "input_bytes", "output_bytes", "bits_per_weight", "relative_squared_error", "relative_output_error", "worst", "per_layer", "seconds", "peak_rss_bytes", "peak_anonymous_bytes"}' \
      "(j['layers'], j['mode'], j['layout'], j['scales']) == (14, 'w4a16', '$layout', '$scales')"
    cp "$scratch/out" "$scratch/$layout-$scales.json"
    expect 0 "$nvfp4" inspect "$scratch/$layout-$scales" --json
    json "sum(l['layout'] == '$layout' and l['mode'] == 'w4a16' for l in j['layers']) == 14 and not j['trouble']"
  done
done
# Of all scales the best is no worse than the rounded one.
python3 - "$scratch" <<'PYTHON' || fail "sweep is not better than rtn"
import json, sys
rtn, sweep = (json.load(open(f"{sys.argv[1]}/modelopt-{s}.json"))["relative_squared_error"] for s in ("rtn", "sweep"))
sys.exit(not 0 < sweep < rtn)
PYTHON
expect 0 "$nvfp4" quantize $tiny "$scratch/lm_head" --lm-head --json
json 'j["layers"] == 15'

# Everything a calibration text is good for; without one, or without OpenBLAS, a reason.
calibrated=(--calibrate "$scratch/text" --calibration-tokens 256 --mode w4a16)
expect 0 "$nvfp4" quantize $tiny "$scratch/plain" "${calibrated[@]}" --json
json 'j["mode"] == "w4a16" and len(j["per_layer"]) == 14 and all(0 < l["relative_output_error"] < 0.1 for l in j["per_layer"])'
cp "$scratch/out" "$scratch/plain.json"
expect 0 "$nvfp4" quantize $tiny "$scratch/importance" "${calibrated[@]}" --importance --json
json "j['importance'] and j['relative_output_error'] < json.load(open('$scratch/plain.json'))['relative_output_error']"
expect 0 "$nvfp4" inspect "$scratch/plain" --json
json 'j["fused"] == []'
expect 0 "$nvfp4" quantize $tiny "$scratch/apart" "${calibrated[@]}" --global amax
expect 0 "$nvfp4" inspect "$scratch/apart" --json
json 'len(j["fused"]) > 0'
expect 0 "$nvfp4" quantize $tiny "$scratch/bpw" "${calibrated[@]}" --scales four-over-six --global search --input-scale mse --bpw 6
out_has "linear layers not quantised"
out_has "worst layers"
if "$nvfp4" quantize $tiny "$scratch/gptq" "${calibrated[@]}" --method gptq --json >"$scratch/out" 2>"$scratch/err"; then
  json "j['method'] == 'gptq' and j['relative_output_error'] < json.load(open('$scratch/plain.json'))['relative_output_error']"
else
  err_has "libopenblas0"
fi
refuse "no calibration text" "$nvfp4" quantize $tiny "$scratch/refused" --importance
refuse "no calibration text" "$nvfp4" quantize $tiny "$scratch/refused" --method gptq
refuse "no calibration text" "$nvfp4" quantize $tiny "$scratch/refused" --mode w4a4
[ ! -e "$scratch/refused" ] || fail "a refused quantize left its output behind"

refuse "holds a checkpoint already" "$nvfp4" quantize $tiny "$scratch/w4a4"
refuse "quantised already" "$nvfp4" quantize "$scratch/w4a4" "$scratch/again"
[ ! -e "$scratch/again" ] || fail "a refused quantize left its output behind"

# The text on stdout, what ran on stderr.
expect 0 "$nvfp4" generate "$scratch/w4a4" "Hello" --tokens 5 --no-chat --kernel 'ref_*'
[ -s "$scratch/out" ] || fail "no text"
for label in prompt decode kernels memory; do
  grep -q "^$label " "$scratch/err" || fail "generate has no line $label"
done
err_has "ref_w4a4 (14 layers)"
cp "$scratch/out" "$scratch/text.out"
expect 0 "$nvfp4" generate "$scratch/w4a4" "Hello" --tokens 5 --no-chat --kernel 'ref_*' --json
json 'set(j) == {"schema", "text", "tokens", "stopped", "timings", "kernels", "threads", "peak_rss_bytes", "peak_anonymous_bytes"}' \
  'j["kernels"] == [{"id": "ref_w4a4", "layers": 14}, {"id": "ref_w16a16", "layers": 1}] and 0 < len(j["tokens"]) <= 5' \
  "j['text'] + '\n' == open('$scratch/text.out', encoding='utf-8').read()"

same_tokens() { # same_tokens OPTIONS... -- OPTIONS...: both runs write the same tokens
  local first=() second=()
  while [ "$1" != -- ]; do
    first+=("$1")
    shift
  done
  shift
  second=("$@")
  expect 0 "$nvfp4" generate "$scratch/w4a4" "Hello" --tokens 12 --json "${first[@]}"
  cp "$scratch/out" "$scratch/first.json"
  expect 0 "$nvfp4" generate "$scratch/w4a4" "Hello" --tokens 12 --json "${second[@]}"
  json "j['tokens'] == json.load(open('$scratch/first.json'))['tokens']"
}
same_tokens --threads 1 -- --threads 2
same_tokens --temperature 1 --seed 7 --top-k 50 --top-p 0.9 -- --temperature 1 --seed 7 --top-k 50 --top-p 0.9
same_tokens --temperature 1 --seed 7 --top-k 1 -- --temperature 0
expect 0 "$nvfp4" generate "$scratch/w4a4" "Hello" --tokens 12 --json --temperature 1.5 --seed 1
cp "$scratch/out" "$scratch/first.json"
expect 0 "$nvfp4" generate "$scratch/w4a4" "Hello" --tokens 12 --json --temperature 1.5 --seed 2
json "j['tokens'] != json.load(open('$scratch/first.json'))['tokens']"

expect 0 "$nvfp4" generate "$scratch/w4a4" "Hello" --tokens 3 --mode w4a16 --kernel 'ref_*' --json
json 'j["kernels"] == [{"id": "ref_w4a16", "layers": 14}, {"id": "ref_w16a16", "layers": 1}]'
expect 0 NVFP4_KERNEL=ref_w4a16 "$nvfp4" generate "$scratch/w4a4" "Hello" --tokens 3 --json
json 'j["kernels"][0] == {"id": "ref_w4a16", "layers": 14} and j["kernels"][1]["id"].endswith("_w16a16") and len(j["kernels"]) == 2'
refuse "has no input scale" "$nvfp4" generate "$scratch/modelopt-rtn" "Hello" --mode w4a4
refuse "no_such_kernel" NVFP4_KERNEL=no_such_kernel "$nvfp4" generate "$scratch/w4a4" "Hello"
refuse "VLLM_NVFP4_GEMM_BACKEND=marlin" VLLM_NVFP4_GEMM_BACKEND=marlin "$nvfp4" generate "$scratch/w4a4" "Hello"
refuse "room for" "$nvfp4" generate "$scratch/w4a4" "Hello" --tokens 100000
# Random bytes as tokens: stdout stays UTF-8, and characters that several tokens make come out whole.
expect 0 "$nvfp4" generate "$scratch/w4a4" "Grüße, 世界" --tokens 900 --temperature 100 --seed 3
cp "$scratch/out" "$scratch/text.out"
expect 0 "$nvfp4" generate "$scratch/w4a4" "Grüße, 世界" --tokens 900 --temperature 100 --seed 3 --json
json "j['text'] + '\n' == open('$scratch/text.out', encoding='utf-8', newline='').read()" \
  "any(ord(c) >= 128 and c != '\ufffd' for c in j['text'])"

expect 0 "$nvfp4" perplexity "$scratch/w4a4" "$scratch/text" --window 64 --windows 4
out_has "perplexity "
out_has "4 windows of 64 tokens"
expect 0 "$nvfp4" perplexity "$scratch/w4a4" "$scratch/text" --window 64 --windows 4 --threads 1 --json
json 'set(j) == {"schema", "perplexity", "standard_error", "window", "windows", "scored_tokens", "text_tokens", "comparison", "seconds", "tokens_per_s", "kernels", "threads", "peak_rss_bytes", "peak_anonymous_bytes"}' \
  '(j["window"], j["windows"], j["threads"]) == (64, 4, 1) and j["perplexity"] > 1 and j["standard_error"] > 0'
cp "$scratch/out" "$scratch/first.json"
expect 0 "$nvfp4" perplexity "$scratch/w4a4" "$scratch/text" --window 64 --windows 4 --threads 2 --json
json "j['perplexity'] == json.load(open('$scratch/first.json'))['perplexity']"
expect 0 "$nvfp4" perplexity $tiny "$scratch/text" --window 64 --windows 1 --json
json 'len(j["kernels"]) == 1 and "w16a16" in j["kernels"][0]["id"] and j["kernels"][0]["layers"] == 15'

# The log-probabilities of one model, and another's distance from them.
base=$scratch/base.kld
expect 0 "$nvfp4" perplexity $tiny "$scratch/text" --window 64 --windows 4 --kl-divergence-base "$base"
expect 0 "$nvfp4" perplexity "$scratch/w4a4" --kl-divergence-base "$base" --kl-divergence
out_has "Mean    KLD:"
out_has "RMS Δp    :"
out_has "Same top p:"
out_has "4 windows of 64 tokens"
expect 0 "$nvfp4" perplexity "$scratch/w4a4" --kl-divergence-base "$base" --kl-divergence --json
json 'j["text_tokens"] is None and j["comparison"]["kl_divergence"]["value"] > 0 and 0 < j["comparison"]["same_top"]["value"] <= 1' \
  "abs(j['perplexity'] - json.load(open('$scratch/first.json'))['perplexity']) < 1e-9 * j['perplexity']" \
  'len(j["comparison"]["kl_divergence_quantiles"]) == 13 and j["comparison"]["probability_change_quantiles"][6]["share"] == 0.5'
refuse "neither TEXT nor --window" "$nvfp4" perplexity "$scratch/w4a4" "$scratch/text" --kl-divergence-base "$base" --kl-divergence
refuse "kl-divergence-base FILE" "$nvfp4" perplexity "$scratch/w4a4" --kl-divergence
refuse "same file as the input" "$nvfp4" perplexity "$scratch/w4a4" "$scratch/text" --kl-divergence-base "$scratch/text"
refuse "1 of 2 arguments" "$nvfp4" perplexity "$scratch/w4a4"
for file in model.safetensors config.json; do
  cp "$scratch/w4a4/$file" "$scratch/kept"
  refuse "a file of the checkpoint" "$nvfp4" perplexity "$scratch/w4a4" "$scratch/text" --kl-divergence-base "$scratch/w4a4/$file"
  cmp "$scratch/w4a4/$file" "$scratch/kept"
done
refuse "no plain file" "$nvfp4" perplexity $tiny "$scratch/text" --window 64 --windows 1 --kl-divergence-base "$scratch"
refuse "does not begin with" "$nvfp4" perplexity "$scratch/w4a4" --kl-divergence-base "$scratch/text" --kl-divergence

# On a terminal there is a progress bar, and it is wiped out at the end.
if script --version >/dev/null 2>&1; then
  rm -rf "$scratch/bar"
  script -qec "$nvfp4 quantize $tiny $scratch/bar" "$scratch/typescript" >/dev/null
  grep -q '100 %' "$scratch/typescript" || fail "no progress bar on a terminal"
fi
