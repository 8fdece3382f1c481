# SPDX-License-Identifier: Apache-2.0
# -DNVFP4_SANITIZE=address,undefined or =thread
if(NVFP4_SANITIZE)
  add_compile_options(-fsanitize=${NVFP4_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${NVFP4_SANITIZE})
endif()
