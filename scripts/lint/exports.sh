#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The shared library exports what the public headers mark NVFP4_API, and nothing else.
set -euo pipefail
library=${1:-build}/libnvfp4.so
declared=$(cat include/nvfp4/*.h | grep -v '^#define' | tr '\n' ' ' | grep -oP 'NVFP4_API [^;]*?\bnvfp4_\w+(?=\()' | grep -oP '\w+$' | sort -u)
exported=$(nm -D --defined-only "$library" | awk '{print $NF}' | sed 's/@.*//' | sort -u)
diff <(echo "$declared") <(echo "$exported") | sed -n 's/^< \(.*\)/declared, not exported: \1/p; s/^> \(.*\)/exported, not declared: \1/p' | { ! grep .; }
