/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libnvfp4: linear layers with NVFP4 weights, on any checkpoint and any machine.
 *
 *   y[m,n] = alpha[n] * sum over blocks b of 16 k's ( sx[m,b] * sw[n,b] * sum over k in b ( x[m,k] * w[n,k] ) ) + bias[n]
 *
 * Dense layers, whose weights are bf16, f16 or f32 (an lm_head, say), go the same way: mode NVFP4_MODE_UNQUANTISED.
 *
 * The way through this header is the way of the data:
 *
 *   nvfp4_context       threads, allocator, plug-ins, policy, what this computer is
 *   nvfp4_checkpoint    a file or folder, opened and checked; its layers as borrowed views
 *   nvfp4_init_linear_kernel()   which kernel(s) a layer gets, and why: a plan and a report
 *   nvfp4_layer         weights packed for the plan's kernels
 *   nvfp4_layer_apply() y = x W^T (+ bias)
 *
 * Conventions of every function here
 *   Dimensions  M tokens (rows of x and y), N output features, K input features. Suffix _bytes, _elems: the unit.
 *   Matrices    row-major; ld*_elems is the distance between rows in elements.
 *   Errors      the return value is an nvfp4_status; `reason`, where a function takes one, may be NULL. On an error it holds the status and
 *               one sentence: what was found, what is needed, what to do. On success it is left untouched. On an error no output is changed,
 *               except that the contents of y are unspecified.
 *   Ownership   said at each function. What a function borrows must outlive what it returns.
 *   Structs     of options, arguments and descriptions begin with struct_size = sizeof(the struct): an older caller stays valid, and a newer one
 *               whose members that this library lacks are zero.
 *   Threads     a context and its layers may be used from several threads at once unless said otherwise; creating and destroying the same
 *               object at the same time may not.
 *   Never       the library never prints, exits, aborts, reads the environment (but see nvfp4_options_from_env) or changes global state.
 */
#ifndef NVFP4_NVFP4_H
#define NVFP4_NVFP4_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NVFP4_VERSION_MAJOR 0
#define NVFP4_VERSION_MINOR 1
#define NVFP4_VERSION_PATCH 0
#define NVFP4_VERSION "0.1.0"

#if defined(__GNUC__)
#define NVFP4_API __attribute__((visibility("default")))
#else
#define NVFP4_API
#endif

/* Elements that share one E4M3 scale, along K. */
#define NVFP4_BLOCK 16

/* ------------------------------------------------------------------------------------------------------------------ status */

/* Numbers are stable: they never change their meaning. */
typedef enum nvfp4_status {
  NVFP4_OK = 0,
  NVFP4_E_ARG = 1,          /* an argument is missing or out of its range */
  NVFP4_E_SHAPE = 2,        /* a dimension or stride does not fit */
  NVFP4_E_DTYPE = 3,        /* an element type does not fit */
  NVFP4_E_MACHINE = 4,      /* this computer lacks what is needed */
  NVFP4_E_NOT_BUILT = 5,    /* this build lacks what is needed */
  NVFP4_E_POLICY = 6,       /* the policy leaves no kernel, or names one that cannot serve */
  NVFP4_E_NOMEM = 7,        /* out of memory */
  NVFP4_E_IO = 8,           /* the operating system refused to open, read, map or write a file */
  NVFP4_E_FORMAT = 9,       /* a file is not what its format says */
  NVFP4_E_DEVICE = 10,      /* a device or its driver reported an error */
  NVFP4_E_UNSUPPORTED = 11, /* sound, but not something this library does */
  NVFP4_E_INTERNAL = 12     /* a defect of this library: please report it */
} nvfp4_status;

/* A refusal, owned by the caller. text is always terminated; a longer sentence is cut. */
typedef struct nvfp4_reason {
  nvfp4_status status;
  char text[512];
} nvfp4_reason;

/* "ok", "bad argument", ...: a static string for any value. */
NVFP4_API const char *nvfp4_status_name(nvfp4_status status);

/* The version of the library that runs, e.g. "0.1.0"; NVFP4_VERSION is the one compiled against. */
NVFP4_API const char *nvfp4_version(void);

/* How this library was built: compiler, libraries, "CUDA: not built: ...". One line, static. */
NVFP4_API const char *nvfp4_build_info(void);

/* ------------------------------------------------------------------------------------------------------------------- types */

typedef enum nvfp4_dtype {
  NVFP4_DTYPE_NONE = 0,
  /* activations, outputs, biases */
  NVFP4_DTYPE_F32,
  NVFP4_DTYPE_F16,
  NVFP4_DTYPE_BF16,
  /* what else a checkpoint's tensors may be */
  NVFP4_DTYPE_F64,
  NVFP4_DTYPE_F8_E4M3,
  NVFP4_DTYPE_F8_E5M2,
  NVFP4_DTYPE_F8_E8M0,
  NVFP4_DTYPE_U8,
  NVFP4_DTYPE_I8,
  NVFP4_DTYPE_U16,
  NVFP4_DTYPE_I16,
  NVFP4_DTYPE_U32,
  NVFP4_DTYPE_I32,
  NVFP4_DTYPE_U64,
  NVFP4_DTYPE_I64,
  NVFP4_DTYPE_BOOL,
  /* GGUF blocks */
  NVFP4_DTYPE_Q4_0,       /* 32 elements, 18 bytes */
  NVFP4_DTYPE_Q4_1,       /* 32 elements, 20 bytes */
  NVFP4_DTYPE_Q8_0,       /* 32 elements, 34 bytes */
  NVFP4_DTYPE_GGUF_NVFP4, /* 64 elements, 36 bytes */
  NVFP4_DTYPE_OTHER       /* known to the file format, not to this library: size and name only */
} nvfp4_dtype;

/* "F32", "BF16", "F8_E4M3", "Q4_1", ...: a static string for any value. */
NVFP4_API const char *nvfp4_dtype_name(nvfp4_dtype dtype);

typedef enum nvfp4_device_kind { NVFP4_DEVICE_CPU = 0, NVFP4_DEVICE_CUDA = 1 } nvfp4_device_kind;

/* Where x, y, bias and workspace of a layer lie. */
typedef struct nvfp4_device {
  nvfp4_device_kind kind;
  int ordinal; /* of a CUDA device; 0 for the CPU */
} nvfp4_device;

/* "cpu", "cuda:1" into text; returns text. */
NVFP4_API const char *nvfp4_device_name(nvfp4_device device, char text[16]);
/* Reads "cpu" or "cuda:N". */
NVFP4_API nvfp4_status nvfp4_device_parse(const char *text, nvfp4_device *out, nvfp4_reason *reason);

/* What a layer's activations become. */
typedef enum nvfp4_mode {
  NVFP4_MODE_UNQUANTISED = 0, /* a dense layer: weights are f32, f16 or bf16, activations stay what they are (W16A16) */
  NVFP4_MODE_W4A4 = 1,        /* activations are quantised to NVFP4, a block of 16 at a time, with the layer's input scale */
  NVFP4_MODE_W4A16 = 2,       /* activations stay f32, f16 or bf16 */
  NVFP4_MODE_FP8 =
      3 /* weights and activations are E4M3 (W8A8): both are exact in bf16, and a dense kernel adds them; no kernel's own mode */
} nvfp4_mode;

/* "unquantised", "w4a4", "w4a16", "fp8". */
NVFP4_API const char *nvfp4_mode_name(nvfp4_mode mode);

/* What the stored number of a second-level ("global") scale is. */
typedef enum nvfp4_global_kind {
  NVFP4_GLOBAL_MULTIPLIER = 0, /* the factor itself, amax/2688: ModelOpt, GGUF, Comfy */
  NVFP4_GLOBAL_DIVISOR = 1,    /* 2688/amax: the factor is 1/value: compressed-tensors */
  NVFP4_GLOBAL_AMAX = 2        /* amax: the factor is value/2688: MLX */
} nvfp4_global_kind;

/* "multiplier", "divisor", "amax". */
NVFP4_API const char *nvfp4_global_kind_name(nvfp4_global_kind kind);

/* A global scale, kept as its checkpoint stores it, since one fp32 value in six has no exact partner; only the layer turns it into alpha,
 * from doubles, rounded once. value == 0 means: there is none. */
typedef struct nvfp4_global {
  float value; /* finite and > 0, or 0 for none */
  nvfp4_global_kind kind;
} nvfp4_global;

/* A run of output rows that share their global scales: q, k and v of a fused layer are three partitions. */
typedef struct nvfp4_partition {
  int64_t n_first, n_rows;
  nvfp4_global weight; /* of a dense or FP8 layer: any factor of its weights */
  nvfp4_global input;  /* value 0: none was stored (W4A16, dense); of an FP8 layer: each row of x gets its own */
} nvfp4_partition;

/* ----------------------------------------------------------------------------------------------------------------- machine */

/* Instruction sets that kernels ask for. A bit is set only if the processor has it, the operating system saves its registers, and (AMX) the
 * process may use it. */
typedef enum nvfp4_isa {
  NVFP4_ISA_SSE2 = 1 << 0,
  NVFP4_ISA_AVX2 = 1 << 1,
  NVFP4_ISA_FMA = 1 << 2,
  NVFP4_ISA_F16C = 1 << 3,
  NVFP4_ISA_AVXVNNI = 1 << 4,
  NVFP4_ISA_AVX512F = 1 << 5,
  NVFP4_ISA_AVX512BW = 1 << 6,
  NVFP4_ISA_AVX512VL = 1 << 7,
  NVFP4_ISA_AVX512DQ = 1 << 8,
  NVFP4_ISA_AVX512VNNI = 1 << 9,
  NVFP4_ISA_AVX512BF16 = 1 << 10,
  NVFP4_ISA_AVX512VBMI = 1 << 11,
  NVFP4_ISA_AMX_TILE = 1 << 12,
  NVFP4_ISA_AMX_INT8 = 1 << 13,
  NVFP4_ISA_AMX_BF16 = 1 << 14,
  NVFP4_ISA_NEON = 1 << 16,
  NVFP4_ISA_DOTPROD = 1 << 17,
  NVFP4_ISA_I8MM = 1 << 18,
  NVFP4_ISA_ARM_BF16 = 1 << 19,
  NVFP4_ISA_SVE = 1 << 20
} nvfp4_isa;

typedef enum nvfp4_arch { NVFP4_ARCH_UNKNOWN = 0, NVFP4_ARCH_X86_64 = 1, NVFP4_ARCH_AARCH64 = 2 } nvfp4_arch;

#define NVFP4_MAX_GPUS 16

typedef struct nvfp4_gpu {
  char name[64];
  int sm; /* compute capability: 90 for 9.0, 120 for 12.0 */
  int multiprocessors;
  uint64_t memory_bytes;
  uint64_t l2_bytes;     /* 0 unknown */
  uint64_t shared_bytes; /* shared memory that a thread block may have at most; 0 unknown */
} nvfp4_gpu;

/* What a computer is: a plain value, so that it can be written to a file, read on another computer, and asked "what would run there?". */
typedef struct nvfp4_machine {
  uint32_t struct_size;
  nvfp4_arch arch;
  uint32_t isa;                           /* nvfp4_isa bits */
  char cpu[64];                           /* the processor's own name */
  int cores;                              /* processors this process may run on */
  uint64_t l1d_bytes, l2_bytes, l3_bytes; /* per core, per core, in all; 0 unknown */
  uint64_t memory_bytes;
  char cuda_missing[128]; /* why there is no usable CUDA driver; empty if there is one */
  int cuda_driver;        /* 13000 for 13.0; 0 without a driver */
  int gpu_count;
  nvfp4_gpu gpus[NVFP4_MAX_GPUS];
} nvfp4_machine;

/* Fills *out with this computer. Never fails: what cannot be found out is 0, and a missing driver is said in cuda_missing. Asks Linux to let this
 * process use AMX, once granted for good; starts the CUDA driver if there is one, but makes no context. */
NVFP4_API void nvfp4_machine_probe(nvfp4_machine *out);

/* Writes the machine as text ("key value" lines, as nvfp4_machine_parse reads them) into text, at most size bytes with the final NUL.
 * Returns the bytes a complete text needs, without the NUL. */
NVFP4_API size_t nvfp4_machine_print(const nvfp4_machine *machine, char *text, size_t size);

/* Reads such a text. Unknown keys are errors that name the line. */
NVFP4_API nvfp4_status nvfp4_machine_parse(const char *text, nvfp4_machine *out, nvfp4_reason *reason);

/* Names of isa bits: "avx512vnni" for NVFP4_ISA_AVX512VNNI; NULL if bit is none of them. */
NVFP4_API const char *nvfp4_isa_name(uint32_t bit);

/* Machines that come with the library ("amx", "h100", ...), for dry runs. Name `index` in alphabetical order; NULL past the end. */
NVFP4_API const char *nvfp4_recorded_machine_name(size_t index);
/* Its text, for nvfp4_machine_parse; NULL: there is none of that name. Static. */
NVFP4_API const char *nvfp4_recorded_machine(const char *name);

/* ----------------------------------------------------------------------------------------------------------------- policy */

enum {                                    /* nvfp4_policy.require */
       NVFP4_REQUIRE_CANONICAL = 1,       /* the bits of the reference, on any machine */
       NVFP4_REQUIRE_BATCH_INVARIANT = 2, /* row i of any batch = the same row alone, bit for bit, over the whole plan */
       NVFP4_REQUIRE_DETERMINISTIC = 4    /* the same call gives the same bits */
};

enum {                          /* nvfp4_policy.allow */
       NVFP4_ALLOW_BOUNDED = 1, /* kernels of class BOUNDED on the CPU too (on CUDA they are allowed anyway) */
       NVFP4_ALLOW_W4A16 = 2    /* a W4A16 kernel may serve a W4A4 layer: activations more precise than the checkpoint asks */
};

/* What the user wants of a selection. All zero is the default: on the CPU only CANONICAL kernels, on CUDA BOUNDED and DETERMINISTIC ones,
 * activations as the checkpoint says. Strings are borrowed for the call; a context keeps copies. Lists are kernel ids or globs ("x86_*"),
 * separated by commas, blanks ignored; one that ends in ",auto" falls back to the order of the registry, and "auto" alone is that order. The order
 * of a list is its preference. Of kernel, env_kernel and vllm_backend the first that is set (not NULL, not blank) counts. A list of which nothing
 * works is an error, never a silent fallback. A kernel named by its full id, not through a glob, is named: it needs no NVFP4_ALLOW_*, nor the
 * DETERMINISTIC that CUDA asks by default; what `require` asks it must have. NVFP4 and dense layers have kernels of their own: a list that names
 * kernels for the one kind of layer alone does not count for the other. */
typedef struct nvfp4_policy {
  uint32_t struct_size;
  uint32_t require, allow;
  int max_layouts;          /* packed layouts a plan may hold: 0 means 1; 2 allows, say, W4A16 decode with W4A4 prefill */
  const char *kernel;       /* the API option */
  const char *env_kernel;   /* NVFP4_KERNEL */
  const char *vllm_backend; /* VLLM_NVFP4_GEMM_BACKEND: vLLM's names (emulation, marlin, cutlass, flashinfer-cutlass, ...) */
  const char *disable;      /* NVFP4_DISABLE: ids or globs never to use */
  const char *vllm_disable; /* VLLM_DISABLED_KERNELS: vLLM's class names (MarlinNvFp4LinearKernel, ...); others are ignored, as vLLM does */
} nvfp4_policy;

/* ---------------------------------------------------------------------------------------------------------------- context */

typedef struct nvfp4_context nvfp4_context;

typedef void (*nvfp4_task_fn)(void *arg, size_t index);

/* The caller's own threads: runs task(arg, i) for every i in [0, count), in any order, and returns when all are done. A task needs up to 512 KiB of stack. */
typedef void (*nvfp4_parallel_for_fn)(void *cookie, size_t count, nvfp4_task_fn task, void *arg);

typedef enum nvfp4_log_level { NVFP4_LOG_WARNING = 1, NVFP4_LOG_INFO = 2 } nvfp4_log_level;
typedef void (*nvfp4_log_fn)(void *cookie, nvfp4_log_level level, const char *text);

/* Memory for packed weights: alignment is a power of two; free gets the size again. */
typedef struct nvfp4_allocator {
  void *(*alloc)(void *cookie, size_t bytes, size_t alignment);
  void (*free)(void *cookie, void *pointer, size_t bytes);
  void *cookie;
} nvfp4_allocator;

/* All zero but struct_size is the default. The context's own threads sleep between calls, except that they spin while calls follow each other within 0.2 ms and nobody else wants
 * the processors, and for at most some 30 ms after the last call. */
typedef struct nvfp4_options {
  uint32_t struct_size;
  int threads;                        /* of the context's own pool; 0: one for every processor the process may run on */
  nvfp4_parallel_for_fn parallel_for; /* NULL: the context's own pool. Otherwise no thread is made, and threads says how many run */
  void *parallel_for_cookie;
  nvfp4_log_fn log; /* NULL: silent */
  void *log_cookie;
  nvfp4_allocator allocator; /* alloc NULL: the C library's, with huge pages for large blocks where the system has them */
  const char *plugins;       /* paths of plug-ins to open, separated by commas; nothing else is searched */
  const char *tuning;        /* paths of tuning tables (see "tuning" below), one for each device, separated by commas; NULL: none */
  nvfp4_policy policy;       /* what a layer gets when its own policy is NULL */
} nvfp4_options;

/* Reads the environment into *out (the only function that does): NVFP4_KERNEL, NVFP4_DISABLE (and VLLM_DISABLED_KERNELS), NVFP4_REQUIRE
 * (canonical, batch_invariant, deterministic), NVFP4_ALLOW (bounded, w4a16), VLLM_BATCH_INVARIANT=1, VLLM_NVFP4_GEMM_BACKEND, NVFP4_PLUGINS,
 * NVFP4_TUNING, NVFP4_THREADS. Other fields of *out are set to the default. Strings point into the environment: make the context before changing it.
 * An unknown word is an error that names the variable. */
NVFP4_API nvfp4_status nvfp4_options_from_env(nvfp4_options *out, nvfp4_reason *reason);

/* Makes a context: probes this computer, starts the threads, opens the plug-ins, reads the tuning table. options may be NULL. On success *out is
 * the caller's and is freed by nvfp4_context_destroy. A plug-in that cannot be opened is no error: its kernels are listed as plugin_missing. A
 * tuning table that cannot be read, or is of another computer, version or number of threads, is an error; times in it of kernels that this
 * build lacks are left out with a warning in the log. */
NVFP4_API nvfp4_status nvfp4_context_create(const nvfp4_options *options, nvfp4_context **out, nvfp4_reason *reason);

/* NULL is allowed. Layers, plans and models of the context must be gone. */
NVFP4_API void nvfp4_context_destroy(nvfp4_context *context);

/* This computer, as probed; lives as long as the context. */
NVFP4_API const nvfp4_machine *nvfp4_context_machine(const nvfp4_context *context);

/* Threads that work on one call. */
NVFP4_API int nvfp4_context_threads(const nvfp4_context *context);

/* ------------------------------------------------------------------------------------------------------- layer description */

#define NVFP4_M_MAX INT64_MAX

/* What selection needs to know of a layer; no weights. Borrowed strings and arrays are copied by whoever keeps them. */
typedef struct nvfp4_layer_desc {
  uint32_t struct_size;
  const char *name;        /* for reports; may be NULL */
  int64_t n, k;            /* n > 0; k > 0 and, unless the layer is dense or FP8, a multiple of 16 */
  int64_t m_first, m_last; /* the M that the plan must serve; 0, 0 means 1 .. NVFP4_M_MAX. M = 0 is always allowed */
  nvfp4_mode mode;         /* W4A4, W4A16 or FP8, what the checkpoint says; UNQUANTISED: a dense layer */
  nvfp4_dtype x_dtype;     /* F32, F16 or BF16 */
  nvfp4_dtype y_dtype;     /* F32, F16 or BF16 */
  nvfp4_dtype bias_dtype;  /* F32, F16, BF16, or NONE: this layer has no bias */
  nvfp4_device device;
  const nvfp4_partition *partitions; /* ascending, without gaps, covering n rows */
  int64_t partition_count;           /* >= 1; of a dense layer also 0: its weights have no factor */
  nvfp4_dtype weight_dtype;          /* of a dense layer: F32, F16 or BF16; of an FP8 one F8_E4M3; otherwise NONE */
} nvfp4_layer_desc;

/* ------------------------------------------------------------------------------------------------------ selection, reports */

/* How far a kernel came. In the order in which they are tested. */
typedef enum nvfp4_stage {
  NVFP4_STAGE_NOT_BUILT = 0,
  NVFP4_STAGE_DISABLED,
  NVFP4_STAGE_PLUGIN_MISSING,
  NVFP4_STAGE_UNSUPPORTED_MACHINE,
  NVFP4_STAGE_CANNOT_IMPLEMENT,
  NVFP4_STAGE_NUMERICS_POLICY,
  NVFP4_STAGE_FAILED_SELF_TEST,
  NVFP4_STAGE_ELIGIBLE,
  NVFP4_STAGE_CHOSEN
} nvfp4_stage;

/* "not_built", ..., "chosen". */
NVFP4_API const char *nvfp4_stage_name(nvfp4_stage stage);

typedef enum nvfp4_class {
  NVFP4_CLASS_CANONICAL = 0, /* the bits of the reference */
  NVFP4_CLASS_BOUNDED = 1    /* within the bound that docs/numerics.md derives */
} nvfp4_class;

/* "canonical", "bounded". */
NVFP4_API const char *nvfp4_class_name(nvfp4_class numerics_class);

enum { /* promises of a kernel, beside its class */
       NVFP4_FLAG_BATCH_INVARIANT = 1,
       NVFP4_FLAG_DETERMINISTIC = 2
};

typedef struct nvfp4_report_row {
  const char *id;
  nvfp4_stage stage;
  const char *reason; /* why it got no further; of the chosen one, why it was chosen */
} nvfp4_report_row;

typedef struct nvfp4_plan_range {
  int64_t m_first, m_last; /* inclusive */
  const char *kernel;      /* id */
  const char *layout;      /* of its packed weights */
} nvfp4_plan_range;

/* The full answer of a selection: every known kernel in order of preference, and what serves which M. */
typedef struct nvfp4_report {
  nvfp4_status status;    /* NVFP4_OK, or why no plan could be made */
  const char *text;       /* the same as a sentence */
  int64_t m;              /* the M that rows speak of */
  const char *chosen;     /* id of the kernel for that M; NULL if none */
  const char *decided_by; /* "option", "NVFP4_KERNEL", "VLLM_NVFP4_GEMM_BACKEND", "tuning" or "order" */
  size_t row_count;
  const nvfp4_report_row *rows;
  size_t range_count;
  const nvfp4_plan_range *ranges;
  size_t layout_count;   /* packed layouts of the plan */
  uint64_t packed_bytes; /* of all of them */
} nvfp4_report;

NVFP4_API void nvfp4_report_free(nvfp4_report *report);

/* A kernel of the registry or a plug-in. */
typedef struct nvfp4_kernel_info {
  const char *id, *summary, *layout;
  nvfp4_mode mode;
  nvfp4_class numerics_class;
  uint32_t flags;    /* NVFP4_FLAG_* */
  const char *order; /* of the additions */
  nvfp4_device_kind device;
  nvfp4_stage stage;    /* NOT_BUILT, DISABLED, PLUGIN_MISSING, UNSUPPORTED_MACHINE or ELIGIBLE */
  const char *reason;   /* of the stage; empty if eligible */
  const char *verified; /* on which machine it was last proven, or "compiles; never executed by us" */
  const char *backends; /* vLLM's names of backends (VLLM_NVFP4_GEMM_BACKEND) for which it stands: "marlin, humming"; empty: none */
} nvfp4_kernel_info;

NVFP4_API size_t nvfp4_kernel_count(const nvfp4_context *context);
/* Kernel `index` in order of preference, on `machine` (NULL: this computer). Strings live as long as the context, but out->reason: it points into
 * *why_not, which may not be NULL. */
NVFP4_API nvfp4_status nvfp4_kernel_get(const nvfp4_context *context, size_t index, const nvfp4_machine *machine, nvfp4_kernel_info *out,
                                        nvfp4_reason *why_not);

/* Answers "which kernel would a layer get, and why" for `machine` (NULL: this computer), row by row for `m`. A dry run: nothing is packed, and a
 * kernel of another computer shows "not tested here". policy NULL: the context's. m is one of the description's; 0: its first. *out is there on
 * NVFP4_OK and NVFP4_E_POLICY, is the caller's, and is freed by nvfp4_report_free; the return value is that of report->status. Other statuses are of
 * a bad description or argument. */
NVFP4_API nvfp4_status nvfp4_explain(nvfp4_context *context, const nvfp4_machine *machine, const nvfp4_layer_desc *desc,
                                     const nvfp4_policy *policy, int64_t m, nvfp4_report **out, nvfp4_reason *reason);

typedef struct nvfp4_plan nvfp4_plan;

/* Chooses kernels for a layer: walks the registry in order of preference, as vLLM's init_nvfp4_linear_kernel does, and returns which kernel serves
 * which M (the plan) and the full report. The first call tests every kernel that could serve on a small problem (once per context and
 * device). policy NULL: the context's. *plan and *report are the caller's; report may be NULL if not wanted, and is set on an error too.
 * Errors: NVFP4_E_POLICY with the ids that could serve, if no kernel is left; NVFP4_E_SHAPE, _DTYPE, _ARG for a bad description. */
NVFP4_API nvfp4_status nvfp4_init_linear_kernel(nvfp4_context *context, const nvfp4_layer_desc *desc, const nvfp4_policy *policy,
                                                nvfp4_plan **plan, nvfp4_report **report, nvfp4_reason *reason);
NVFP4_API void nvfp4_plan_free(nvfp4_plan *plan);
/* Id of the kernel that serves m rows; NULL if the plan does not serve that M. */
NVFP4_API const char *nvfp4_plan_kernel(const nvfp4_plan *plan, int64_t m);

/* ------------------------------------------------------------------------------------------------------------------ tuning */

/* A tuning table holds times that were measured on this computer (`nvfp4 tune`). The library itself never measures. With a table, the kernels that
 * the policy leaves are preferred by their time, for every M, instead of by the order of the registry; a list in the policy (kernel, env_kernel,
 * vllm_backend) wins over it. A plan still has as many layouts as the policy says and, if required, one order of additions: among such plans it
 * is the one with the least sum, over the measured M, of its kernel's time over the fastest kernel's. A measured M speaks for the M up to the next
 * one, the first one for those below it too. A kernel without a time comes after those with one. Selections for another machine (dry runs) take no
 * table. A table is of layers on one device: on the CPU with a number of threads, or on GPUs of one name with one version of CUDA in the
 * driver. Types of x, y, bias and dense weights are not told apart. */
typedef struct nvfp4_tuned_time {
  nvfp4_mode mode; /* of the layer */
  int64_t n, k, m;
  const char *kernel; /* id */
  int64_t ns;         /* one call of nvfp4_layer_apply, > 0 */
} nvfp4_tuned_time;

/* Writes a table for `device` of this computer, this version and, of the CPU, the context's number of threads. The file has a temporary name until it is whole, then takes the
 * place of `path` at once; on an error nothing is left of it. Everything is borrowed for the call. */
NVFP4_API nvfp4_status nvfp4_tuning_save(const nvfp4_context *context, const char *path, nvfp4_device device, const nvfp4_tuned_time *times,
                                         size_t count, nvfp4_reason *reason);

/* ------------------------------------------------------------------------------------------------------------------ layers */

typedef enum nvfp4_memory { NVFP4_MEMORY_HOST = 0, NVFP4_MEMORY_MAPPED_FILE = 1, NVFP4_MEMORY_CUDA = 2 } nvfp4_memory;

/* NVFP4 weights in the canonical form, borrowed: w[n,k] = e2m1(code[n,k]) * e4m3(scale[n,k/16]) * (the partition's weight global).
 * Row n's codes begin at codes + n*codes_stride_bytes, two a byte, the even k in the low nibble; its scales at scales + n*scales_stride_bytes, one
 * E4M3 byte a block, linear. A shard or a padded row needs no copy: advance the pointers, keep the strides.
 * Of a dense or FP8 layer: w[n,k] = element k of the row that begins at values + n*values_stride_bytes, of any alignment. */
typedef struct nvfp4_weights {
  uint32_t struct_size;
  nvfp4_memory memory;
  int64_t n, k;
  const uint8_t *codes;
  int64_t codes_stride_bytes; /* >= k/2 */
  const uint8_t *scales;
  int64_t scales_stride_bytes; /* >= k/16 */
  /* A dense layer; otherwise NONE, NULL, 0. */
  nvfp4_dtype dtype; /* F32, F16 or BF16: the description's weight_dtype; codes and scales are NULL */
  const void *values;
  int64_t values_stride_bytes; /* >= k elements */
} nvfp4_weights;

/* Dequantises rows n_first .. n_first+n_rows of `weights` to fp32, out [n_rows, k] row-major: code * scale * global, exact, rounded once.
 * partitions as in nvfp4_layer_desc. */
NVFP4_API nvfp4_status nvfp4_weights_dequantise(const nvfp4_weights *weights, const nvfp4_partition *partitions, int64_t partition_count,
                                                int64_t n_first, int64_t n_rows, float *out, nvfp4_reason *reason);

typedef struct nvfp4_layer nvfp4_layer;

/* Packs the weights for every kernel of the plan (vLLM: process_weights_after_loading). `plan` is copied, `weights` is borrowed during the call;
 * it may lie in host memory or, for a CUDA layer, in memory of its device (NVFP4_MEMORY_CUDA), written completely: what has been enqueued on a stream must
 * be through. Host weights are uploaded, so that a layer's canonical and packed weights lie on the device together until the call returns; memory is
 * taken by cuMemAlloc. A CUDA layer lives in the CUDA context that is current now, if it is one of the layer's device, or else in the device's primary context, which the
 * CUDA runtime and frameworks use; it must be destroyed before that context. While layers live in a context, a stream and a page of pinned host memory are kept there for the next ones
 * (several, if several threads make layers at once). Packing is complete when the call returns.
 * If nvfp4_layer_borrows_weights() says so afterwards, the weights' bytes must outlive the layer. Block scales that are NaN or negative are an error
 * that names row and block; dense weights may be any numbers, infinities and NaNs. On success *out is the caller's and is freed by nvfp4_layer_destroy, before its context. */
NVFP4_API nvfp4_status nvfp4_layer_create(nvfp4_context *context, const nvfp4_plan *plan, const nvfp4_weights *weights, nvfp4_layer **out,
                                          nvfp4_reason *reason);
NVFP4_API void nvfp4_layer_destroy(nvfp4_layer *layer);
NVFP4_API bool nvfp4_layer_borrows_weights(const nvfp4_layer *layer);
NVFP4_API uint64_t nvfp4_layer_packed_bytes(const nvfp4_layer *layer);

typedef enum nvfp4_scale_layout {
  NVFP4_SCALES_LINEAR = 0, /* [rows, K/16] */
  NVFP4_SCALES_128X4 = 1,  /* cuBLAS' and CUTLASS' tiles; docs/formats.md */
  NVFP4_SCALES_8X4 = 2     /* TensorRT-LLM's tiles for few rows */
} nvfp4_scale_layout;

/* Activations that a producer has quantised already (vLLM: QuantizedActivation). Codes and scales are those that the layer itself would make of
 * x; tiles beyond M and K are zero. */
typedef struct nvfp4_quantised_x {
  const uint8_t *codes; /* [M, K/2], low nibble = even k */
  int64_t codes_stride_bytes;
  const uint8_t *scales; /* E4M3 */
  nvfp4_scale_layout scale_layout;
  int64_t scales_stride_bytes; /* of NVFP4_SCALES_LINEAR; otherwise 0 */
  nvfp4_global input;          /* the global scale they were made with: must be the layer's, in value and direction */
} nvfp4_quantised_x;

/* On the CPU x, bias and y need no alignment. */
typedef struct nvfp4_apply_args {
  uint32_t struct_size;
  int64_t m;     /* 0 is allowed and does nothing */
  const void *x; /* [m, K] of the description's x_dtype; NULL if quantised_x is given */
  int64_t ldx_elems;
  const nvfp4_quantised_x *quantised_x; /* W4A4 only; NULL otherwise */
  const void *bias;                     /* [N] of bias_dtype; NULL if the description has none */
  void *y;                              /* [m, N] of y_dtype */
  int64_t ldy_elems;
  void *workspace; /* 64-byte aligned, nvfp4_layer_workspace_bytes(layer, m) bytes on the layer's device */
  size_t workspace_bytes;
  const float *row_alpha; /* [m] reserved for a row-wise scale: must be NULL */
  void *stream;           /* a CUstream for a CUDA layer; NULL on the CPU */
} nvfp4_apply_args;

/* Bytes of workspace that apply needs for m rows, in memory of the layer's device; grows with m. */
NVFP4_API size_t nvfp4_layer_workspace_bytes(const nvfp4_layer *layer, int64_t m);

/* y = x W^T (+ bias). Allocates nothing. Safe to call from several threads at once with different y and workspace (calls share the context's
 * pool and take turns on it). On the CPU it returns when y is there.
 *
 * CUDA: x (or the codes and scales of quantised_x), bias, y and workspace are addresses in memory of the layer's device, aligned as their elements are (the
 * workspace to 64 bytes); kernels are fastest where x, y and their rows begin at multiples of 16 bytes. The call enqueues on args->stream, a stream of the
 * layer's CUDA context (NULL: the default one), and returns; everything it was given may be reused by later work on that stream. It may be captured in a CUDA graph. Whatever
 * context the caller has current is current again afterwards. An error of work that runs later is reported by a later call, or by the caller's own synchronisation. */
NVFP4_API nvfp4_status nvfp4_layer_apply(const nvfp4_layer *layer, const nvfp4_apply_args *args, nvfp4_reason *reason);

/* The same with all of args in host memory wherever the layer lives; workspace and stream are not looked at. Takes the memory it needs, copies to the device
 * and back, and returns when y is there: for tools and tests, not for speed. */
NVFP4_API nvfp4_status nvfp4_layer_apply_host(const nvfp4_layer *layer, const nvfp4_apply_args *args, nvfp4_reason *reason);

/* -------------------------------------------------------------------------------------------------------------- checkpoints */

typedef struct nvfp4_checkpoint nvfp4_checkpoint;

typedef enum nvfp4_layout_kind { /* how NVFP4 weights lie in a file */
                                 NVFP4_LAYOUT_NONE = 0,
                                 NVFP4_LAYOUT_MODELOPT,
                                 NVFP4_LAYOUT_COMPRESSED_TENSORS,
                                 NVFP4_LAYOUT_GGUF,
                                 NVFP4_LAYOUT_MLX,
                                 NVFP4_LAYOUT_COMFY
} nvfp4_layout_kind;

/* "none", "modelopt", "compressed-tensors", "gguf", "mlx", "comfy". */
NVFP4_API const char *nvfp4_layout_kind_name(nvfp4_layout_kind kind);

enum { NVFP4_OPEN_SKIP_SCALES = 1 /* do not read every block scale in search of NaN and negative ones; nvfp4_layer_create still does */ };

/* Opens a folder (config.json and *.safetensors, with or without an index), one .safetensors file, an index .json, or a .gguf file. Files are mapped
 * read-only; nothing is copied. Everything is checked: lengths, overlaps, names, types, shapes, scales; an error names the file, the tensor, the
 * value found and the value needed. On success *out is the caller's and is freed by nvfp4_checkpoint_close. Views borrow from it. While it is open
 * the files must not be shortened: reading what is gone ends the process (SIGBUS), as with any mapping; replace them by renaming. */
NVFP4_API nvfp4_status nvfp4_checkpoint_open(const char *path, uint32_t flags, nvfp4_checkpoint **out, nvfp4_reason *reason);
NVFP4_API void nvfp4_checkpoint_close(nvfp4_checkpoint *checkpoint);

#define NVFP4_MAX_RANK 8

typedef struct nvfp4_tensor {
  const char *name;
  nvfp4_dtype dtype;
  int rank;
  int64_t shape[NVFP4_MAX_RANK]; /* slowest dimension first, in every file format (GGUF stores them the other way round) */
  const void *data;              /* may be unaligned */
  uint64_t bytes;
  const char *file;       /* the file's name, for messages */
  const char *dtype_name; /* as the file says it */
} nvfp4_tensor;

NVFP4_API size_t nvfp4_checkpoint_tensor_count(const nvfp4_checkpoint *checkpoint);
/* Tensor `index` in order of names; NULL past the end. */
NVFP4_API const nvfp4_tensor *nvfp4_checkpoint_tensor(const nvfp4_checkpoint *checkpoint, size_t index);
/* The tensor of that name, or NULL. */
NVFP4_API const nvfp4_tensor *nvfp4_checkpoint_find(const nvfp4_checkpoint *checkpoint, const char *name);

/* Converts elements first .. first+count of a tensor (row-major) to fp32; F32, F16, BF16, F64, F8_E4M3, Q4_0, Q4_1, Q8_0, GGUF_NVFP4 (without its
 * separate global; as ggml has it, a scale's sign bit is ignored and the scale 0x7F is 0). For blocked types first and count are multiples of the
 * block. Exact, but for F64 and the sum d * code + m of Q4_1: these are rounded once. */
NVFP4_API nvfp4_status nvfp4_tensor_to_f32(const nvfp4_tensor *tensor, uint64_t first, uint64_t count, float *out, nvfp4_reason *reason);

/* Writes a safetensors file that holds one tensor (F32, F16, BF16, F64, F8_*, or an integer type; row-major, without gaps). It has a temporary name until it
 * is whole, then takes the place of `path` at once; on an error nothing is left of it. */
NVFP4_API nvfp4_status nvfp4_save_tensor(const char *path, const char *name, nvfp4_dtype dtype, int rank, const int64_t *shape,
                                         const void *data, nvfp4_reason *reason);

/* A linear layer of a checkpoint: every 2-D weight, NVFP4 or not, by its on-disk name ("model.layers.0.mlp.down_proj", "blk.0.attn_q"). */
typedef struct nvfp4_layer_info {
  const char *name;
  nvfp4_layout_kind layout;
  nvfp4_mode mode;
  int64_t n, k;
  const nvfp4_partition *partitions; /* NULL if neither NVFP4 nor FP8 (of an FP8 layer whose scales this library cannot use, too) */
  int64_t partition_count;
  const nvfp4_tensor *weight;
  const nvfp4_tensor *bias; /* NULL: none */
  bool lookup;              /* an embedding that is not the output projection too: no linear layer, rows of it are looked up */
  const char *note;         /* why it is not NVFP4 ("FP8 layer", "excluded by ..."), or a warning; empty if there is nothing to say */
} nvfp4_layer_info;

NVFP4_API size_t nvfp4_checkpoint_layer_count(const nvfp4_checkpoint *checkpoint);
/* Layer `index` in order of names; NULL past the end. */
NVFP4_API const nvfp4_layer_info *nvfp4_checkpoint_layer(const nvfp4_checkpoint *checkpoint, size_t index);
NVFP4_API const nvfp4_layer_info *nvfp4_checkpoint_find_layer(const nvfp4_checkpoint *checkpoint, const char *name);

/* The weights of a layer in the canonical form. ModelOpt, compressed-tensors and MLX files hold it as it is (*out borrows the mapping), and so are
 * FP8 and dense weights of type F32, F16 and BF16; GGUF and Comfy are re-ordered into memory that *owned then points to and the caller frees with
 * nvfp4_weights_free (NULL if nothing was copied). Other weights become dense ones in such memory: E4M3 of a layer that is not FP8 bf16, exact, without the layer's
 * weight_scale, which is in its partitions; F64 and GGUF's Q4_0, Q4_1 and Q8_0 f32, as nvfp4_tensor_to_f32 has them. NVFP4_E_UNSUPPORTED: of
 * another type, or not two-dimensional. */
NVFP4_API nvfp4_status nvfp4_checkpoint_weights(const nvfp4_checkpoint *checkpoint, const nvfp4_layer_info *layer, nvfp4_weights *out,
                                                void **owned, nvfp4_reason *reason);
NVFP4_API void nvfp4_weights_free(void *owned);

/* Warnings found while opening, in order; NULL past the end. */
NVFP4_API const char *nvfp4_checkpoint_warning(const nvfp4_checkpoint *checkpoint, size_t index);

/* config.json as text (from GGUF metadata: NULL), or NULL if there is none. */
NVFP4_API const char *nvfp4_checkpoint_config(const nvfp4_checkpoint *checkpoint);

/* Path as opened. */
NVFP4_API const char *nvfp4_checkpoint_path(const nvfp4_checkpoint *checkpoint);

/* Fills a description from a checkpoint's layer: shape, mode, partitions, bias, and of layers that are not NVFP4 the type of the dense weights that
 * nvfp4_checkpoint_weights makes of theirs, or its refusal. x_dtype and y_dtype are BF16 unless changed; the device is the CPU. `info` is borrowed. */
NVFP4_API nvfp4_status nvfp4_layer_desc_from_checkpoint(const nvfp4_layer_info *info, nvfp4_layer_desc *out, nvfp4_reason *reason);

#ifdef __cplusplus
}
#endif
#endif
