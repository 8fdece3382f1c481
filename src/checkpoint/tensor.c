/* SPDX-License-Identifier: Apache-2.0 */
/* Element types: their sizes, and conversion to fp32. */
#include <string.h>

#include "base/alloc.h"
#include "base/reason.h"
#include "checkpoint/checkpoint.h"
#include "format/e2m1.h"
#include "format/e4m3.h"
#include "format/half.h"

/* Elements and bytes of a block; {0, 0} for types that have none. */
typedef struct block_size {
  uint8_t elements, bytes;
} block_size;

static block_size block_of(nvfp4_dtype dtype) {
  switch (dtype) {
    case NVFP4_DTYPE_F8_E4M3:
    case NVFP4_DTYPE_F8_E5M2:
    case NVFP4_DTYPE_F8_E8M0:
    case NVFP4_DTYPE_U8:
    case NVFP4_DTYPE_I8:
    case NVFP4_DTYPE_BOOL:
      return (block_size){1, 1};
    case NVFP4_DTYPE_F16:
    case NVFP4_DTYPE_BF16:
    case NVFP4_DTYPE_U16:
    case NVFP4_DTYPE_I16:
      return (block_size){1, 2};
    case NVFP4_DTYPE_F32:
    case NVFP4_DTYPE_U32:
    case NVFP4_DTYPE_I32:
      return (block_size){1, 4};
    case NVFP4_DTYPE_F64:
    case NVFP4_DTYPE_U64:
    case NVFP4_DTYPE_I64:
      return (block_size){1, 8};
    case NVFP4_DTYPE_Q4_0:
      return (block_size){32, 18};
    case NVFP4_DTYPE_Q4_1:
      return (block_size){32, 20};
    case NVFP4_DTYPE_Q8_0:
      return (block_size){32, 34};
    case NVFP4_DTYPE_GGUF_NVFP4:
      return (block_size){64, 36};
    case NVFP4_DTYPE_NONE:
    case NVFP4_DTYPE_OTHER:
      break;
  }
  return (block_size){0, 0};
}

bool nvfp4_dtype_bytes(nvfp4_dtype dtype, uint64_t elements, uint64_t *bytes) {
  block_size block = block_of(dtype);
  return block.elements != 0 && elements % block.elements == 0 && nvfp4_multiply(elements / block.elements, block.bytes, bytes);
}

/* Files are little-endian, and so are the machines this library runs on (base/fp_env.h). */
static uint16_t load_u16(const uint8_t *bytes) {
  uint16_t value;
  memcpy(&value, bytes, sizeof value);
  return value;
}

/* d; 16 bytes of codes: byte j holds element j in its low and j + 16 in its high nibble. value = d * (code - 8). */
static void q4_0_block(const uint8_t *block, float *out) {
  float d = nvfp4_f16_to_f32(load_u16(block));
  for (int j = 0; j < 16; j++) {
    out[j] = d * (float)((block[2 + j] & 15) - 8);
    out[j + 16] = d * (float)((block[2 + j] >> 4) - 8);
  }
}

/* d, m; codes as in Q4_0. value = d * code + m: the product is exact, the sum is rounded once. */
static void q4_1_block(const uint8_t *block, float *out) {
  float d = nvfp4_f16_to_f32(load_u16(block));
  float m = nvfp4_f16_to_f32(load_u16(block + 2));
  for (int j = 0; j < 16; j++) {
    out[j] = d * (float)(block[4 + j] & 15) + m;
    out[j + 16] = d * (float)(block[4 + j] >> 4) + m;
  }
}

/* d; 32 signed bytes. */
static void q8_0_block(const uint8_t *block, float *out) {
  float d = nvfp4_f16_to_f32(load_u16(block));
  for (int j = 0; j < 32; j++) {
    out[j] = d * (float)(int8_t)block[2 + j];
  }
}

/* 4 scale bytes, one per 16 elements (E4M3; the sign bit is ignored and 0x7F is 0, as ggml has it); then per 16 elements 8 bytes of codes:
 * byte j holds element j in its low and j + 8 in its high nibble. */
static void nvfp4_block(const uint8_t *block, float *out) {
  for (int group = 0; group < 4; group++) {
    uint8_t byte = block[group] & 0x7F;
    float scale = byte == 0x7F ? 0.0f : nvfp4_e4m3_to_f32(byte);
    const uint8_t *codes = block + 4 + 8 * group;
    for (int j = 0; j < 8; j++) {
      out[16 * group + j] = scale * nvfp4_e2m1_to_f32(codes[j] & 15);
      out[16 * group + j + 8] = scale * nvfp4_e2m1_to_f32(codes[j] >> 4);
    }
  }
}

static void convert_blocks(void (*block_to_f32)(const uint8_t *, float *), const uint8_t *data, block_size size, uint64_t blocks,
                           float *out) {
  for (uint64_t i = 0; i < blocks; i++) {
    block_to_f32(data + i * size.bytes, out + i * size.elements);
  }
}

static nvfp4_status check_range(const nvfp4_tensor *tensor, uint64_t first, uint64_t count, nvfp4_reason *reason) {
  uint64_t elements = 1, bytes = 0;
  bool sound = tensor->rank >= 0 && tensor->rank <= NVFP4_MAX_RANK;
  for (int i = 0; sound && i < tensor->rank; i++) {
    sound = tensor->shape[i] >= 0 && nvfp4_multiply(elements, (uint64_t)tensor->shape[i], &elements);
  }
  if (!sound || !nvfp4_dtype_bytes(tensor->dtype, elements, &bytes) || bytes != tensor->bytes) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "tensor \"%s\": its shape does not make its %llu bytes of %s", tensor->name,
                        (unsigned long long)tensor->bytes, nvfp4_dtype_name(tensor->dtype));
  }
  if (first > elements || count > elements - first) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "tensor \"%s\": elements %llu to %llu asked for, it has %llu", tensor->name,
                        (unsigned long long)first, (unsigned long long)(first + count), (unsigned long long)elements);
  }
  block_size block = block_of(tensor->dtype);
  if (first % block.elements != 0 || count % block.elements != 0) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "tensor \"%s\": first %llu and count %llu must be multiples of %d, the block of %s",
                        tensor->name, (unsigned long long)first, (unsigned long long)count, block.elements,
                        nvfp4_dtype_name(tensor->dtype));
  }
  return NVFP4_OK;
}

nvfp4_status nvfp4_tensor_to_f32(const nvfp4_tensor *tensor, uint64_t first, uint64_t count, float *out, nvfp4_reason *reason) {
  if (tensor == NULL || (out == NULL && count > 0)) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "%s is NULL", tensor == NULL ? "tensor" : "out");
  }
  block_size size = block_of(tensor->dtype);
  void (*block_to_f32)(const uint8_t *, float *) = NULL;
  switch (tensor->dtype) {
    case NVFP4_DTYPE_F32:
    case NVFP4_DTYPE_F16:
    case NVFP4_DTYPE_BF16:
    case NVFP4_DTYPE_F64:
    case NVFP4_DTYPE_F8_E4M3:
      break;
    case NVFP4_DTYPE_Q4_0:
      block_to_f32 = q4_0_block;
      break;
    case NVFP4_DTYPE_Q4_1:
      block_to_f32 = q4_1_block;
      break;
    case NVFP4_DTYPE_Q8_0:
      block_to_f32 = q8_0_block;
      break;
    case NVFP4_DTYPE_GGUF_NVFP4:
      block_to_f32 = nvfp4_block;
      break;
    default:
      return nvfp4_reject(reason, NVFP4_E_DTYPE,
                          "tensor \"%s\" is %s; F32, F16, BF16, F64, F8_E4M3, Q4_0, Q4_1, Q8_0 and NVFP4 can be converted to F32",
                          tensor->name, tensor->dtype_name != NULL ? tensor->dtype_name : nvfp4_dtype_name(tensor->dtype));
  }
  NVFP4_TRY(check_range(tensor, first, count, reason));
  if (count == 0) {
    return NVFP4_OK;
  }
  const uint8_t *data = (const uint8_t *)tensor->data + first / size.elements * size.bytes;
  if (block_to_f32 != NULL) {
    convert_blocks(block_to_f32, data, size, count / size.elements, out);
  } else if (tensor->dtype == NVFP4_DTYPE_F64) {
    for (uint64_t i = 0; i < count; i++) {
      double value;
      memcpy(&value, data + i * sizeof value, sizeof value);
      out[i] = (float)value;
    }
  } else if (tensor->dtype == NVFP4_DTYPE_F8_E4M3) {
    for (uint64_t i = 0; i < count; i++) {
      out[i] = nvfp4_e4m3_to_f32(data[i]);
    }
  } else {
    nvfp4_to_f32(data, tensor->dtype, out, (int64_t)count);
  }
  return NVFP4_OK;
}
