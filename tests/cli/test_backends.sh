# SPDX-License-Identifier: Apache-2.0
# vLLM's back ends: tests/cli/backends_check.py.
. tests/cli/support.sh
python3 tests/cli/backends_check.py "$nvfp4"
refuse "needs one of: auto, emulation, marlin" VLLM_NVFP4_GEMM_BACKEND=cutlasss "$nvfp4" explain --shape 64,64 --machine b200
