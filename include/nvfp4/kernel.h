/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For authors of kernels, in this tree or in a plug-in. Users need nvfp4.h alone.
 *
 * A kernel is one constant nvfp4_kernel. It answers the four questions of the contract (the names are those of vLLM's NvFp4LinearKernel):
 *
 *   is_supported(machine)                     can this kernel run on that computer?                     pure
 *   can_implement(layer description)          can it do that layer?                                     pure
 *   layout->process_weights_after_loading()   once a layer: repack, swizzle, pad -> packed weights
 *   prepare()                                 optional, once a layer: a library's plans and algorithms
 *   apply_weights()                           y = x W^T (+ bias); allocates nothing
 *
 * Kernels that name the same layout (the same nvfp4_layout constant) read each other's packed weights: a layer is packed once, and a plan may use
 * one of them for M = 1 and another for M = 512.
 *
 * What the core does, so that a kernel need not:
 *   - It checks pointers, shapes, strides, types and workspace size before every call, and returns at once for m = 0.
 *   - It calls a kernel for rows that share ONE input global: a layer whose partitions have several is cut into runs, packed and applied one by one.
 *   - It computes alpha, one float per output row, from doubles, rounded once; and s_a, the factor of the activation quantiser.
 *   - parallel_for runs tasks with round-to-nearest and without flush-to-zero, and restores what it found.
 *   - It tests the kernel against the reference once per context and device before it may serve.
 *   - CUDA: it uploads weights and alpha, and makes the CUDA context of the layer current before every call. x, y, bias, alpha, workspace and packed.data are
 *     addresses of the device; pointers and strides have the alignment of an element and no more.
 */
#ifndef NVFP4_KERNEL_H
#define NVFP4_KERNEL_H

#include <nvfp4/nvfp4.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Same major: compatible. A minor adds fields at the ends of structs, never elsewhere. */
#define NVFP4_ABI_MAJOR 1
#define NVFP4_ABI_MINOR 2

/* The CUDA driver as the library uses it (src/cuda/cuda.h): opaque to plug-ins. */
struct nvfp4_cuda;
struct nvfp4_layout;
struct nvfp4_kernel_args;

/* What the core lends a kernel. A plug-in links nothing of ours: it calls through this table. Lives as long as the context. */
typedef struct nvfp4_host {
  uint32_t struct_size;
  void *cookie; /* first argument of every function here */
  /* Memory for packed weights; NULL when there is none. Not to be called from apply_weights. */
  void *(*alloc)(void *cookie, size_t bytes, size_t alignment);
  void (*free)(void *cookie, void *pointer, size_t bytes);
  /* Runs task(arg, i) for i in [0, count) on the context's threads; returns when all are done. Not to be nested. */
  void (*parallel_for)(void *cookie, size_t count, nvfp4_task_fn task, void *arg);
  /* Threads that parallel_for uses. */
  int (*threads)(void *cookie);
  /* Fills *reason (may be NULL) with status and the sentence; returns status. "what was found, what is needed, what to do". */
  nvfp4_status (*reject)(nvfp4_reason *reason, nvfp4_status status, const char *format, ...);
  /* Converts count elements of x (F32, F16, BF16) to fp32, exactly. */
  void (*to_f32)(const void *x, nvfp4_dtype dtype, float *out, int64_t count);
  /* Rounds count floats to dtype (F32, F16, BF16), to nearest even. */
  void (*from_f32)(const float *x, nvfp4_dtype dtype, void *out, int64_t count);
  /* The activation quantiser: one row of k floats -> k/2 bytes of codes, k/16 E4M3 scales (linear). docs/numerics.md. */
  void (*quantise_row)(const float *x, int64_t k, float s_a, uint8_t *codes, uint8_t *scales);
  /* E2M1 and E4M3 decoding tables: 16 and 256 floats. */
  const float *e2m1;
  const float *e4m3;
  /* Minor 1. For the CUDA kernels of this tree; NULL if there is no driver. Whenever the core calls a CUDA kernel or its layout, the CUDA context of the
   * layer is current. */
  struct nvfp4_cuda *cuda;
  /* Minor 2. For CUDA kernels of plug-ins; all but cuda_fp4 are for calls of the core to a kernel or its layout, which make the layer's CUDA context current. Errors of the driver come as
   * NVFP4_E_DEVICE or NVFP4_E_NOMEM with its words. Without a driver (`cuda` is NULL) they must not be called, and the core calls no CUDA kernel.
   *
   * The layout of FP4 tensor cores, "cuda_fp4_128x4". With np = n rounded up to 128 and kp = k rounded up to 64: codes [np, kp/2] at packed->data, the even k in the low nibble; behind them,
   * np * kp / 2 bytes further, scales [np, kp/16] in NVFP4_SCALES_128X4. What is beyond n and k is zero. packed->private_elems[0] is 1 if alpha is the same for all rows; [1] is that alpha, the
   * bits of an fp32. */
  const struct nvfp4_layout *cuda_fp4;
  /* Enqueues on args->stream the activation quantiser: x or quantised_x of args -> codes [m, k_padded/2] without gaps (address: a multiple of 8), and scales [m, k_padded/16] in `layout`,
   * whole tiles; what is beyond m and k becomes zero. k_padded: k, or a larger multiple of 16. It also repacks weights, as quantised_x of args without x. */
  nvfp4_status (*cuda_quantise)(void *cookie, const struct nvfp4_kernel_args *args, int64_t k_padded, nvfp4_scale_layout layout,
                                uint8_t *codes, uint8_t *scales, nvfp4_reason *reason);
  /* Enqueues on args->stream y[m,n] = alpha[n] * acc[m,n] (+ bias[n]) as docs/numerics.md has it. acc: fp32 on the device, rows ld_acc_elems apart. */
  nvfp4_status (*cuda_finish)(void *cookie, const struct nvfp4_kernel_args *args, const float *acc, int64_t ld_acc_elems,
                              nvfp4_reason *reason);
  /* Memory of the device, for packed weights; not from apply_weights. free takes NULL, too. */
  nvfp4_status (*cuda_alloc)(void *cookie, size_t bytes, void **out, nvfp4_reason *reason);
  void (*cuda_free)(void *cookie, void *memory);
  /* Enqueues a copy of `rows` rows of row_bytes each, between host and device memory in any direction; and waits for all that was enqueued on a stream (not from apply_weights). */
  nvfp4_status (*cuda_copy)(void *cookie, void *to, size_t to_stride, const void *from, size_t from_stride, size_t row_bytes, size_t rows,
                            void *stream, nvfp4_reason *reason);
  nvfp4_status (*cuda_wait)(void *cookie, void *stream, nvfp4_reason *reason);
  /* The device of the current CUDA context: its number, and its compute capability as 100 for 10.0. */
  nvfp4_status (*cuda_device)(void *cookie, int *ordinal, int *sm, nvfp4_reason *reason);
} nvfp4_host;

/* What process_weights_after_loading gets: rows that share one input global, k whole. For a CUDA kernel all of it lies in memory of the device (the core
 * uploads weights that do not), and what is enqueued on `stream` is complete before the layer is handed to anybody: a layout need not wait. There the
 * core looks for wrong block scales (NaN, negative) meanwhile: they are packed like any others, and the layer is refused afterwards. */
typedef struct nvfp4_process_args {
  uint32_t struct_size;
  const nvfp4_weights *weights; /* canonical form, or dense */
  const float *alpha_w4a4;      /* [n] or NULL if the layer has no input global */
  const float *alpha_w4a16;     /* [n]; a dense layer's, too */
  void *stream;                 /* minor 1: a CUstream for a CUDA kernel; NULL on the CPU */
} nvfp4_process_args;

/* Packed weights: what the bytes mean is the layout's affair. */
typedef struct nvfp4_packed {
  uint32_t struct_size;
  void *data;
  size_t data_bytes;
  bool borrows_source; /* still refers to the weights it was made of */
  int64_t n, k;
  int64_t private_elems[4]; /* the layout's own numbers: padded sizes and the like */
} nvfp4_packed;

/* A layout of packed weights; one constant, shared by all kernels that read it. */
typedef struct nvfp4_layout {
  uint32_t struct_size;
  const char *name; /* "ref_n32" */
  /* Bytes that a layer of that shape will take. weight_dtype: as in nvfp4_layer_desc, NONE for NVFP4 weights. */
  size_t (*packed_bytes)(int64_t n, int64_t k, nvfp4_dtype weight_dtype);
  /* Repacks. On success *out is freed by free_packed; on an error nothing is left behind. */
  nvfp4_status (*process_weights_after_loading)(const nvfp4_host *host, const nvfp4_process_args *args, nvfp4_packed *out,
                                                nvfp4_reason *reason);
  /* The inverse: canonical codes [n, k/2] and scales [n, k/16], without gaps; of dense weights, codes takes the values [n, k] of their type, and
   * scales is NULL. For tests and for saving. */
  nvfp4_status (*unpack)(const nvfp4_host *host, const nvfp4_packed *packed, uint8_t *codes, uint8_t *scales, nvfp4_reason *reason);
  void (*free_packed)(const nvfp4_host *host, nvfp4_packed *packed);
} nvfp4_layout;

/* The numerics card of a kernel: promises that checkkern holds it to. */
typedef struct nvfp4_numerics {
  nvfp4_mode mode; /* W4A4, W4A16 or UNQUANTISED (W16A16): what it computes */
  nvfp4_class numerics_class;
  uint32_t flags;    /* NVFP4_FLAG_* */
  const char *order; /* the exact order of additions; kernels of one batch-invariant plan have the same */
} nvfp4_numerics;

/* `order` of the canonical kernels: docs/numerics.md. */
#define NVFP4_ORDER_CANONICAL_W4A4 "w4a4: exact block dot, blocks ascending, fp32"
#define NVFP4_ORDER_CANONICAL_W4A16 "w4a16: fmaf over k ascending in a block, fmaf with the scale over blocks ascending, fp32"
#define NVFP4_ORDER_CANONICAL_W16A16 "w16a16: fmaf over k ascending, fp32"

/* On the CPU x, bias and y have no alignment that a kernel may rely on; alpha is aligned as floats are. */
typedef struct nvfp4_kernel_args {
  uint32_t struct_size;
  int64_t m, n, k; /* m >= 1 */
  const void *x;   /* [m, k] of x_dtype, or NULL if quantised_x is given */
  int64_t ldx_elems;
  nvfp4_dtype x_dtype;
  const nvfp4_quantised_x *quantised_x;
  float s_a;          /* W4A4: the quantiser's factor, docs/numerics.md; 0 otherwise */
  const float *alpha; /* [n] of the kernel's mode, on the layer's device */
  const void *bias;   /* [n] of bias_dtype, or NULL */
  nvfp4_dtype bias_dtype;
  void *y; /* [m, n] of y_dtype */
  int64_t ldy_elems;
  nvfp4_dtype y_dtype;
  void *workspace; /* workspace_bytes(desc, m) bytes at least, 64-byte aligned */
  size_t workspace_bytes;
  const float *row_alpha; /* reserved: NULL */
  void *stream;           /* CUDA: a CUstream; the kernel enqueues its work there, waits for nothing, and may be captured in a graph */
} nvfp4_kernel_args;

typedef struct nvfp4_kernel {
  uint32_t struct_size;
  const char *id;      /* path below src/kernels with '_' for '/': "x86_avx2_w4a4" */
  const char *summary; /* a line */
  const nvfp4_layout *layout;
  nvfp4_numerics numerics;
  nvfp4_device_kind device;
  int64_t m_first, m_last; /* rows it serves; 0, 0: any */
  const char *verified;    /* machine and date of the last proof, or "compiles; never executed by us" */
  nvfp4_status (*is_supported)(const nvfp4_machine *machine, nvfp4_reason *reason);
  nvfp4_status (*can_implement)(const nvfp4_layer_desc *desc, nvfp4_reason *reason);
  size_t (*workspace_bytes)(const nvfp4_layer_desc *desc, int64_t m);
  nvfp4_status (*apply_weights)(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason);
  /* Minor 2, optional: called when a layer is made, after its layout has packed the weights and before the first apply_weights, for each run of it and each kernel of its plan: what apply
   * needs and may not make, such as a library's choice of algorithms for desc's N, K, types and M from m_first to m_last. May be called again for shapes that it knows, and from several threads. A
   * kernel keeps what it makes for the whole process or, by host->cookie, for the context. */
  nvfp4_status (*prepare)(const nvfp4_host *host, const nvfp4_layer_desc *desc, const nvfp4_packed *packed, nvfp4_reason *reason);
} nvfp4_kernel;

/* ----------------------------------------------------------------------------------------------------------------- plug-ins */

typedef struct nvfp4_plugin {
  uint32_t struct_size;
  uint32_t abi_major, abi_minor; /* NVFP4_ABI_* it was compiled with */
  const char *name, *version;
  size_t kernel_count;
  const nvfp4_kernel *const *kernels; /* in order of preference; all strings and constants are the plug-in's and live until it is closed */
} nvfp4_plugin;

/* The one symbol of a plug-in: `const nvfp4_plugin *nvfp4_plugin_entry(const nvfp4_host *host, uint32_t abi_major, uint32_t abi_minor)`. The numbers are
 * the core's. NULL means: I cannot work with that core. Kernels of a plug-in are preferred to those of the registry in the order of the
 * paths, and are held to the same self-test. */
typedef const nvfp4_plugin *(*nvfp4_plugin_entry_fn)(const nvfp4_host *host, uint32_t abi_major, uint32_t abi_minor);
#define NVFP4_PLUGIN_ENTRY "nvfp4_plugin_entry"

#ifdef __cplusplus
}
#endif
#endif
