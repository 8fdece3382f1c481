/* SPDX-License-Identifier: Apache-2.0 */
#include <nvfp4/nvfp4.h>
#include <stdio.h>
#include <string.h>

int main(void) {
  printf("compiled against %s, running %s\n", NVFP4_VERSION, nvfp4_version());
  return strcmp(NVFP4_VERSION, nvfp4_version()) == 0 ? 0 : 1;
}
