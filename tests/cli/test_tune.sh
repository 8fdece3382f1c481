# SPDX-License-Identifier: Apache-2.0
# tune: a table of a small checkpoint; what explain, apply, generate and perplexity make of it; who wins over it; tables of other computers.
. tests/cli/support.sh
model=$golden/modelopt_nvfp4
table=$scratch/table.txt

expect 0 "$nvfp4" tune $model --m 4,1,4 --seconds 0 --threads 1 --output "$table"
out_has "N 128  K 320  w4a4: 2 layers, as model.layers.0.mlp.down_proj"
out_has "in $table"
head -n 1 "$table" | grep -qx "nvfp4-tuning 1" || fail "the table's first line is $(head -n 1 "$table")"
grep -q "^time device=cpu mode=w4a4 n=128 k=320 m=4 kernel=ref_w4a4 ns=[1-9]" "$table" || fail "the reference's time is missing"
! grep -q w4a16 "$table" || fail "kernels were timed that the policy does not allow"
[ "$(ls "$scratch")" = "$(printf '%s\n' err out table.txt)" ] || fail "more files than the table: $(ls "$scratch")"

# A line for every shape, M and kernel; JSON tells the same, and the plan that explain then gives.
expect 0 "$nvfp4" tune $model --m 1,4 --seconds 0 --threads 1 --output "$table" --json
json 'len(j["shapes"]) == 5 and sum(s["layers"] for s in j["shapes"]) == 15 and j["threads"] == 1' \
  'all({t["M"] for t in s["times"]} == {1, 4} and all(t["us"] > 0 for t in s["times"]) for s in j["shapes"])' \
  "sum(len(s['times']) for s in j['shapes']) == open('$table').read().count('\ntime ')" \
  'all(s["decided_by"] == "tuning" and s["by_m"][0]["m_first"] == 1 and s["by_m"][-1]["m_last"] == 2**63 - 1 for s in j["shapes"])'
cp "$scratch/out" "$scratch/tuned.json"
NVFP4_TUNING="$table" expect 0 env NVFP4_THREADS=1 "$nvfp4" explain $model --device cpu --json
json "all(l['decided_by'] == 'tuning' for l in j['layers'] if l['chosen'])" \
  "all([s['by_m'] for s in json.load(open('$scratch/tuned.json'))['shapes'] if (s['N'], s['K']) == (l['N'], l['K'])] == [l['by_m']] for l in j['layers'] if l['chosen'])" \
  "all(k['reason'].startswith('tuning table $table: ') for l in j['layers'] for k in l['kernels'] if k['stage'] == 'chosen')"

# A table that says the reference is fast at M 1: it serves there, by option or environment, everywhere.
sed -i 's/kernel=ref_w4a4 ns=.*/kernel=ref_w4a4 ns=1/' "$table"
expect 0 NVFP4_THREADS=1 "$nvfp4" explain $model --device cpu --tuning "$table" --layer '*.down_proj'
out_has "2 layers w4a4 on cpu: ref_w4a4, by the tuning table"
tr -s '\n ' ' ' <"$scratch/out" | grep -qF "tuning table $table: 0.00 us at" || fail "the table's time is not the reason"
python3 tests/cli/apply_check.py inputs "$scratch"
apply() { expect 0 "$nvfp4" apply $model model.layers.1.self_attn.q_proj --input "$scratch/good.safetensors" --output "$scratch/$1" --threads 1 --json "${@:2}"; }
apply order.safetensors
apply tuned.safetensors --tuning "$table"
json 'j["kernel"] == "ref_w4a4" and j["decided_by"] == "tuning"'
cmp -s "$scratch/order.safetensors" "$scratch/tuned.safetensors" || fail "a tuned layer gives other bits"
expect 0 "$nvfp4" generate $golden/tiny hello --tokens 1 --tuning "$table" --threads 1
expect 0 NVFP4_TUNING="$table" "$nvfp4" generate $golden/tiny hello --tokens 1 --threads 1
expect 0 "$nvfp4" perplexity $golden/tiny data/persuasion.txt --windows 1 --window 8 --tuning "$table" --threads 1

# Lists win over it; dry runs take none; a disabled kernel stays disabled.
export NVFP4_THREADS=1 NVFP4_TUNING="$table"
expect 0 NVFP4_KERNEL='ref_*' "$nvfp4" explain $model --device cpu --json
json "all(l['decided_by'] == 'NVFP4_KERNEL' for l in j['layers'] if l['chosen'])"
expect 0 "$nvfp4" explain $model --device cpu --kernel ref_w4a4 --json
json "all(l['decided_by'] == ('tuning' if l['name'] == 'lm_head' else 'option') for l in j['layers'] if l['chosen'])"
expect 0 "$nvfp4" explain $model --machine x86-64 --device cpu --json
json "all(l['decided_by'] == 'order' for l in j['layers'] if l['chosen'])"
expect 0 "$nvfp4" explain --shape 48,48 --device cpu --json
json 'j["layers"][0]["decided_by"] == "order"'
refuse "--machine and --tuning" "$nvfp4" explain $model --machine x86-64 --tuning "$table"

# Tables that are not for here.
refuse "threads \"1\"; here it is \"2\"" "$nvfp4" apply $model model.layers.1.self_attn.q_proj --input "$scratch/good.safetensors" \
  --output "$scratch/y" --threads 2
sed 's/^cpu .*/cpu Z80/' "$table" >"$scratch/other.txt"
refuse "tuning table $scratch/other.txt: line 3: measured with cpu \"Z80\"; here it is " "$nvfp4" explain $model --tuning "$scratch/other.txt"
sed 's/^version .*/version 0.0.1/' "$table" >"$scratch/other.txt"
refuse "line 2: measured with version \"0.0.1\"" "$nvfp4" explain $model --tuning "$scratch/other.txt"
sed '8s/ns=/us=/' "$table" >"$scratch/other.txt"
refuse "$scratch/other.txt: line 8 is \"time device=cpu" "$nvfp4" explain $model --tuning "$scratch/other.txt"
refuse "$scratch/none: cannot be opened" NVFP4_TUNING="$scratch/none" "$nvfp4" explain $model
sed 's/ref_w4a4/x86_z80_w4a4/' "$table" >"$scratch/other.txt"
expect 0 "$nvfp4" explain $model --device cpu --tuning "$scratch/other.txt"
err_has "there is no kernel x86_z80_w4a4 here"

# tune itself: the environment's table does not matter; wrong arguments; nothing is left behind.
expect 0 NVFP4_TUNING="$scratch/none" "$nvfp4" tune $golden/modelopt_w4a16 --m 2 --seconds 0 --output "$scratch/w4a16.txt" --kernel 'ref_*'
grep -q "mode=w4a16 .* m=2 kernel=ref_w4a16" "$scratch/w4a16.txt" || fail "no time of ref_w4a16"
expect 0 "$nvfp4" tune $model --mode w4a16 --m 2 --seconds 0 --output "$scratch/w4a16.txt" --disable 'x86_*,arm_*'
! grep -q mode=w4a4 "$scratch/w4a16.txt" || fail "--mode w4a16 timed w4a4"
unset NVFP4_TUNING NVFP4_THREADS
for list in 0 -1 1, ,1 1,,2 a 1048577 1.5 "1 2"; do
  refuse "--m $list: needs at most" "$nvfp4" tune $model --m "$list" --output "$scratch/none"
done
refuse "unknown option --tuning" "$nvfp4" tune $model --tuning "$table"
refuse "has no NVFP4 or dense layer" "$nvfp4" tune $golden/modelopt_nvfp4/expected.safetensors --output "$scratch/none"
refuse "has no input scale" "$nvfp4" tune $golden/modelopt_w4a16 --mode w4a4 --output "$scratch/none"
refuse "names \"x86_nothing\", which is no kernel" "$nvfp4" tune $model --kernel x86_nothing --output "$scratch/none"
refuse "no kernel serves it" "$nvfp4" tune $model --disable '*' --output "$scratch/none"
refuse "a file of the checkpoint" "$nvfp4" tune "$scratch/tuned.json" --output "$scratch/tuned.json"
refuse "cannot be created" "$nvfp4" tune $model --m 1 --seconds 0 --output "$scratch/none/table"
[ ! -e "$scratch/none" ] || fail "a refused tune left a table"
