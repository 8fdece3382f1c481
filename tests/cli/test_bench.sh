# SPDX-License-Identifier: Apache-2.0
# nvfp4 bench with tiny shapes: what it prints, not how fast anything is.
. tests/cli/support.sh

expect 0 "$nvfp4" bench --kernel 'ref_*' --shape '64,128;33,48' --m 1,5 --seconds 0.001 --threads 2 --json
json 'set(j) == {"schema", "machine", "device", "roof", "results"} and j["device"] == "cpu" and set(j["roof"]) == {"before", "after"}'
json 'all(r["read_gbps"] > 0 and r["threads"] == 2 for r in j["roof"].values())'
json '[(r["N"], r["K"], r["M"]) for r in j["results"][::3]] == [(64, 128, 1), (64, 128, 5), (33, 48, 1), (33, 48, 5)]'
json '[r["kernel"] for r in j["results"]] == ["ref_w4a4", "ref_w4a16", "ref_w16a16"] * 4'
json 'all(set(r) == {"kernel", "N", "K", "M", "threads", "us", "us_p10", "us_p90", "gbps", "gflops", "roof_share"} for r in j["results"])'
json 'all(0 < r["us_p10"] <= r["us"] <= r["us_p90"] and r["threads"] == 2 for r in j["results"])'
json 'all(abs(r["gbps"] * r["us"] - (2e-3 if r["kernel"] == "ref_w16a16" else 0.5625e-3) * r["N"] * r["K"]) < 1e-6 for r in j["results"])'
json 'all(abs(r["gflops"] * r["us"] - 2e-3 * r["M"] * r["N"] * r["K"]) < 1e-6 for r in j["results"])'
json 'all(r["roof_share"] > 0 for r in j["results"])'

expect 0 "$nvfp4" bench --kernel ref_w4a16 --shape 64,128 --m 1 --seconds 0.001
out_has "N 64, K 128, M 1"
out_has "of roof"
out_has "ref_w4a16"
expect 0 "$nvfp4" bench --kernel ref_w4a16 --l2 --m 1 --seconds 0.001
out_has "K 4096, M 1"

refuse "no kernel has such a name" "$nvfp4" bench --kernel no_such_kernel --shape 16,16
refuse "did you mean ref_w4a4" "$nvfp4" bench --kernel ref_w4a5 --shape 16,16
refuse "can run here: disabled by the policy" "$nvfp4" bench --kernel ref_w4a4 --disable ref_w4a4 --shape 16,16
for shape in 16 16, ,16 16,0 16x16 '16,16;' '16,16;32' 16,16,16 -1,16; do
  refuse "--shape $shape: needs N,K" "$nvfp4" bench --shape "$shape"
done
refuse "needs a K that is a multiple of 16" "$nvfp4" bench --shape 16,17
expect 0 "$nvfp4" bench --kernel ref_w16a16 --shape 16,17 --m 1 --seconds 0.001
for m in 0 1, ,1 x -1 '1;2' 99999999999; do
  refuse "--m $m: needs rows" "$nvfp4" bench --m "$m"
done
refuse "--device cuda:0: no CUDA driver" MOCK_CUDA=none LD_LIBRARY_PATH=/nowhere "$nvfp4" bench --device cuda:0
