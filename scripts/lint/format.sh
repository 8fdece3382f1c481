#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# clang-format changes nothing. Releases differ in details: 14 is the one that counts (Debian 12, Ubuntu 22.04), and another is only told of.
set -euo pipefail
tool=$(command -v clang-format-14 || command -v clang-format)
version=$("$tool" --version | sed 's/.*version \([0-9]*\).*/\1/')
files=$(git ls-files -co --exclude-standard '*.c' '*.cpp' '*.h')
if ! "$tool" --dry-run -Werror $files; then
  [ "$version" != 14 ] || exit 1
fi
