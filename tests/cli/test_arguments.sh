# SPDX-License-Identifier: Apache-2.0
# Wrong commands, options and values, one line each; and --json, which makes each of them an object.
. tests/cli/support.sh
model=$golden/modelopt_nvfp4
text=$scratch/text
echo "Some text." >"$text"
printf 'bad \xff byte' >"$scratch/latin1"

refuse "a command is missing" "$nvfp4"
refuse "did you mean explain?" "$nvfp4" explan
refuse "unknown command frobnicate" "$nvfp4" frobnicate
refuse "did you mean --json?" "$nvfp4" info --jsn
refuse "unknown option -x" "$nvfp4" info -x
refuse "one argument too many: more" "$nvfp4" info more
refuse "--json takes no value" "$nvfp4" info --json=1
refuse "--machine needs a value" "$nvfp4" info --machine
refuse "--machine needs a value" "$nvfp4" info --machine --record
refuse "the value is empty" "$nvfp4" info --machine ''
refuse "recorded are: " "$nvfp4" info --machine no-such-machine
refuse "did you mean h100" "$nvfp4" info --machine h10
refuse "--machine $text" "$nvfp4" info --machine "$text"
refuse "not UTF-8" "$nvfp4" info --machine "$scratch/latin1"
refuse "cannot be read" "$nvfp4" info --machine "$scratch"

refuse "nothing to explain" "$nvfp4" explain
refuse "both a checkpoint and --shape" "$nvfp4" explain $model --shape 32,32
refuse "--layer and --shape" "$nvfp4" explain --shape 32,32 --layer x
for shape in 32 32, ,32 32,0 0,32 -32,32 32,-32 32,32,32 32x32 '32, 32 ' a,b 99999999999999999999,16; do
  refuse "--shape $shape: needs N,K" "$nvfp4" explain --shape "$shape"
done
refuse "not a multiple of 16" "$nvfp4" explain --shape 32,17
for m in 0 -1 1.5 one '' 99999999999999999999 0x10; do
  refuse "--m" "$nvfp4" explain --shape 32,32 --m "$m"
done
refuse "needs one of w4a4|w4a16" "$nvfp4" explain --shape 32,32 --mode w4
refuse "--device" "$nvfp4" explain --shape 32,32 --device tpu
refuse "--device cuda:99" "$nvfp4" explain --shape 32,32 --device cuda:99
refuse "cuda:8: the machine has 8 GPUs" "$nvfp4" explain --shape 32,32 --machine h100 --device cuda:8
refuse "no layer has such a name" "$nvfp4" explain $model --layer no_such_layer
refuse "did you mean model.layers.0.mlp.down_proj" "$nvfp4" explain $model --layer down_proj
refuse "has no input scale" "$nvfp4" explain $golden/modelopt_w4a16 --mode w4a4
refuse "unknown word fast" "$nvfp4" explain --shape 32,32 --require canonical,fast
refuse "unknown word all" "$nvfp4" explain --shape 32,32 --allow all
refuse "--max-layouts 0" "$nvfp4" explain --shape 32,32 --max-layouts 0
refuse "no-such-file" "$nvfp4" explain "$scratch/no-such-file"
mkdir "$scratch/empty"
for command in explain inspect; do
  refuse "$scratch/empty" "$nvfp4" $command "$scratch/empty"
  refuse "" "$nvfp4" $command /dev/null
  refuse "" "$nvfp4" $command "$text"
done
refuse "0 of 1 arguments" "$nvfp4" inspect
refuse "one argument too many" "$nvfp4" inspect $model $model

refuse "1 of 2 arguments" "$nvfp4" quantize $golden/tiny
refuse "needs one of modelopt|compressed-tensors" "$nvfp4" quantize $golden/tiny "$scratch/q" --layout bfl
refuse "needs one of rtn|four-over-six|sweep" "$nvfp4" quantize $golden/tiny "$scratch/q" --scales best
refuse "needs --calibrate" "$nvfp4" quantize $golden/tiny "$scratch/q" --calibration-tokens 5
refuse "--calibration-tokens 0" "$nvfp4" quantize $golden/tiny "$scratch/q" --calibrate "$text" --calibration-tokens 0
refuse "cannot be opened" "$nvfp4" quantize $golden/tiny "$scratch/q" --calibrate "$scratch/none"
refuse "not UTF-8" "$nvfp4" quantize $golden/tiny "$scratch/q" --calibrate "$scratch/latin1"
refuse "both input and output" "$nvfp4" quantize $golden/tiny $golden/tiny/
refuse "--threads 0" "$nvfp4" quantize $golden/tiny "$scratch/q" --threads 0
refuse "no-such-file" "$nvfp4" quantize "$scratch/no-such-file" "$scratch/q"
refuse "" "$nvfp4" quantize $golden/tiny "$scratch/none/q"
[ ! -e "$scratch/q" ] || fail "a refused quantize left its output behind"

for command in generate perplexity; do
  refuse "1 of 2 arguments" "$nvfp4" $command $model
  refuse "tokenizer" "$nvfp4" $command $model "$text"
  refuse "cuda:0" "$nvfp4" $command $golden/tiny "$text" --device cuda:0
  refuse "no-such-file" "$nvfp4" $command "$scratch/no-such-file" "$text"
done
refuse "not UTF-8" "$nvfp4" generate $golden/tiny "$(printf 'a\xc3')"
refuse "offset 1" "$nvfp4" generate $golden/tiny "$(printf 'a\xed\xa0\x80')"
refuse "empty" "$nvfp4" generate $golden/tiny '' --no-chat
refuse "--tokens 0" "$nvfp4" generate $golden/tiny hello --tokens 0
refuse "--tokens -5" "$nvfp4" generate $golden/tiny hello --tokens -5
refuse "--temperature nan" "$nvfp4" generate $golden/tiny hello --temperature nan
refuse "--temperature -1" "$nvfp4" generate $golden/tiny hello --temperature -1
refuse "--top-p 1.5" "$nvfp4" generate $golden/tiny hello --top-p 1.5
refuse "--top-p 0" "$nvfp4" generate $golden/tiny hello --top-p 0
refuse "--top-k -1" "$nvfp4" generate $golden/tiny hello --top-k -1
refuse "do not go together" "$nvfp4" generate $golden/tiny hello --chat --no-chat
refuse "do not go together" "$nvfp4" generate $golden/tiny hello --system x --no-chat
refuse "cannot be opened" "$nvfp4" perplexity $golden/tiny "$scratch/none"
refuse "not UTF-8" "$nvfp4" perplexity $golden/tiny "$scratch/latin1"
refuse "--window 1" "$nvfp4" perplexity $golden/tiny "$text" --window 1
refuse "tokens; needs 512 for one window" "$nvfp4" perplexity $golden/tiny "$text"

# The environment's words are checked as well.
refuse "NVFP4_REQUIRE" NVFP4_REQUIRE=fast "$nvfp4" kernels
refuse "NVFP4_ALLOW" NVFP4_ALLOW=anything "$nvfp4" explain --shape 32,32
refuse "NVFP4_THREADS" NVFP4_THREADS=-1 "$nvfp4" explain --shape 32,32
refuse "VLLM_NVFP4_GEMM_BACKEND" VLLM_NVFP4_GEMM_BACKEND=warp "$nvfp4" explain --shape 32,32

# "--" ends the options; the last of two wins; --option=value.
refuse "cannot be opened" "$nvfp4" inspect -- --json
expect 0 "$nvfp4" explain --shape 16,16 --m 2 --shape=32,32 --m=7
out_has "N 32"
out_has "M = 7"

# Errors in JSON: on stdout the object, on stderr the same line.
expect 2 "$nvfp4" inspect "$scratch/no-such-file" --json
json 'j["schema"] == 1 and set(j["error"]) == {"status", "text"} and "no-such-file" in j["error"]["text"]'
err_has "nvfp4: inspect: "
