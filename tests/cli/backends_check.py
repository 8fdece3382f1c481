# SPDX-License-Identifier: Apache-2.0
"""vLLM's back ends on this computer, without a GPU, on Hopper and on Blackwell GPUs: `kernels` lists each with a state and a reason, and each name chooses a kernel or says what to do."""
import json
import os
import subprocess
import sys

NVFP4 = sys.argv[1]
GPUS = ["h100", "b200", "b300", "rtx-5090", "dgx-spark", "thor"]
SEED = {"emulation", "marlin", "cutlass", "flashinfer-cutlass", "flashinfer-trtllm", "flashinfer-cudnn", "cudnn", "fbgemm"}
PLUGINS = ["plugin_cutlass_w4a4", "plugin_flashinfer_cutlass_w4a4", "plugin_flashinfer_trtllm_w4a4", "plugin_fbgemm_w4a4"]


def run(*arguments, **environment):
    result = subprocess.run([NVFP4, *arguments, "--json"], capture_output=True, env=os.environ | environment, check=False)
    return json.loads(result.stdout)


def check(condition, *what):
    if not condition:
        sys.exit(f"FAILED: {what}")


def explain(machine, *options, **environment):
    return run("explain", "--shape", "4096,4096", "--machine", machine, "--device", "cuda:0", *options, **environment)["layers"][0]


def registry():
    return {k["id"]: k for k in run("kernels")["kernels"]}


for machine in [None, "no-driver", "x86-64", *GPUS]:
    kernels = run("kernels", *(["--machine", machine] if machine else []))["kernels"]
    names = {name for k in kernels for name in k["backends"].split(", ")}
    seed = SEED if any(k["id"] == "vendor_cudnn_w4a4" for k in kernels) else SEED - {"cudnn", "flashinfer-cudnn"}
    check(seed <= names, machine, names)
    for k in kernels:
        check((k["stage"] == "eligible") != bool(k["reason"]), machine, k)
        if k["id"].startswith(("cuda_", "vendor_")) and machine in ("no-driver", "x86-64"):
            check(k["stage"] != "eligible", machine, k)
    check([k["id"] for k in kernels if k["stage"] == "plugin_missing"] == PLUGINS, machine)
    for k in kernels:
        if k["stage"] == "plugin_missing":
            check("NVFP4_PLUGINS=.../nvfp4_plugin_" in k["reason"] or "take plugin_cutlass_w4a4" in k["reason"], machine, k)

known = registry()
if known["cuda_emulation_w4a4"]["stage"] == "not_built":
    check("not built: " in explain("h100", VLLM_NVFP4_GEMM_BACKEND="marlin")["reason"])
    sys.exit(0)  # without device code there is nothing to choose

# What a name chooses on each machine: "id|id", or what the refusal has.
W4A16 = "=cuda_sm80_w4a16|cuda_sm90_w4a16"
NAMES = {
    "marlin": W4A16,
    "Humming": W4A16,
    "emulation": "=cuda_emulation_w4a4",
    "flashinfer_trtllm": "plugin_flashinfer_trtllm_w4a4: plug-in not given: NVFP4_PLUGINS=.../nvfp4_plugin_flashinfer.so",
    "flashinfer-cutlass": "plugin_flashinfer_cutlass_w4a4: plug-in not given: NVFP4_PLUGINS=.../nvfp4_plugin_flashinfer.so",
    "fbgemm": "take plugin_cutlass_w4a4",
    "flashinfer-cutedsl": "take cutlass",
    "flashinfer-b12x": "take cutlass",
    "b12x": "take cutlass",
    "machete": "take auto",
}
OWN_CUTLASS = {"b200": "cuda_sm100_w4a4", "b300": "cuda_sm100_w4a4", "thor": "cuda_sm100_w4a4", "rtx-5090": "cuda_sm120_w4a4", "dgx-spark": "cuda_sm120_w4a4"}


def check_name(machine, name, wanted):
    layer = explain(machine, VLLM_NVFP4_GEMM_BACKEND=name)
    if wanted.startswith("="):
        check(layer["chosen"] in wanted[1:].split("|") and layer["decided_by"] == "VLLM_NVFP4_GEMM_BACKEND", machine, name, layer)
    else:
        check(layer["chosen"] is None and "VLLM_NVFP4_GEMM_BACKEND" in layer["reason"] and wanted in layer["reason"], machine, name, layer)


for machine in GPUS:
    for name, wanted in NAMES.items():
        check_name(machine, name, wanted)
    # Names of kernels that a build may lack: that one, or why not.
    own = OWN_CUTLASS.get(machine)
    check_name(machine, "cutlass", f"={own}" if own in known else "plugin_cutlass_w4a4: plug-in not given: NVFP4_PLUGINS=.../nvfp4_plugin_cutlass.so")
    for name, kernel in {"cudnn": "vendor_cudnn_w4a4", "flashinfer-cudnn": "vendor_cudnn_w4a4", "torch": "vendor_cublaslt_w4a4"}.items():
        if kernel in known:
            layer = explain(machine, VLLM_NVFP4_GEMM_BACKEND=name)
            check(layer["chosen"] == kernel or kernel + ": " in layer["reason"], machine, name, layer)
    layer = explain(machine, VLLM_NVFP4_GEMM_BACKEND="auto")
    check(layer["chosen"] and layer["decided_by"] == "order", machine, layer)
    check(explain(machine, NVFP4_KERNEL="cuda_sm80_w4a16")["chosen"] == "cuda_sm80_w4a16", machine)

# The order on Blackwell. A W4A4 layer: FP4 tensor cores before emulation, for any M. A W4A16 layer: the tensor cores of any GPU from Ampere on. Both, if the policy has it: W4A16 for few rows.
for machine in GPUS[1:]:
    stages = {k["id"]: k["stage"] for k in explain(machine)["kernels"]}
    fp4 = [i for i in stages if i.startswith(("vendor_", "cuda_sm1")) and stages[i] in ("chosen", "eligible")]
    check(explain(machine)["chosen"] == (fp4[0] if fp4 else "cuda_emulation_w4a4"), machine, stages)
    check(explain(machine, "--m", "4096")["chosen"] == (fp4[0] if fp4 else "cuda_emulation_w4a4"), machine)
    check(explain(machine, "--mode", "w4a16")["chosen"] == "cuda_sm80_w4a16", machine)
    plan = explain(machine, "--allow", "w4a16", "--max-layouts", "2")["by_m"]
    wanted = [(1, 16, "cuda_sm80_w4a16"), (17, 2**63 - 1, fp4[0])] if fp4 else [(1, 2**63 - 1, "cuda_sm80_w4a16")]
    check([(r["m_first"], r["m_last"], r["chosen"]) for r in plan] == wanted, machine, plan)
