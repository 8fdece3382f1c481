/* SPDX-License-Identifier: Apache-2.0 */
#include <jansson.h>
#include <nvfp4/nvfp4.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

const char *nvfp4_version(void) { return NVFP4_VERSION; }

const char *nvfp4_build_info(void) {
  return "C " __VERSION__ ", " NVFP4_BUILD_TYPE ", jansson " JANSSON_VERSION
         ", PCRE2 " TEXT(PCRE2_MAJOR) "." TEXT(PCRE2_MINOR) ", CUDA: " NVFP4_CUDA_BUILD;
}
