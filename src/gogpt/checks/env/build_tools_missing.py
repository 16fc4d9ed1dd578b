"""ENV122: What compiles an extension is missing, or does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import DOCTOR
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MISSING = Text(
    en="{needing} compiles extensions when it is used, and there is no {what}",
    zh="{needing} 在使用时会编译扩展，但缺少 {what}",
)
NEW_GCC = Text(
    en="{compiler} is GCC {gcc}; the nvcc of this toolkit takes GCC {nvcc_max_gcc} at most",
    zh="{compiler} 是 GCC {gcc}；该工具包的 nvcc 最高只接受 GCC {nvcc_max_gcc}",
)
OLD_NVCC = Text(
    en="{gpu} has compute capability {capability}, which nvcc knows from CUDA {since} on; the toolkit is {toolkit_version}",
    zh="{gpu} 的计算能力为 {capability}，nvcc 从 CUDA {since} 起才支持；当前工具包为 {toolkit_version}",
)
ARCHS = Text(
    en="TORCH_CUDA_ARCH_LIST={archs} leaves out compute capability {capability} of {gpu}",
    zh="TORCH_CUDA_ARCH_LIST={archs} 不包含 {gpu} 的计算能力 {capability}",
)
INCOMPLETE = Text(
    en="{needing} compiles extensions when it is used, and the CUDA toolkit {toolkit} holds nvcc but not {lacks}",
    zh="{needing} 在使用时会编译扩展，而 CUDA 工具包 {toolkit} 有 nvcc 却没有 {lacks}",
)
INSTALL = Text(en="{command}", zh="执行 {command}")
FIX_GCC = Text(
    en="sudo apt-get install g++-{nvcc_max_gcc}; export CC=gcc-{nvcc_max_gcc} CXX=g++-{nvcc_max_gcc}",
    zh="执行 sudo apt-get install g++-{nvcc_max_gcc}; export CC=gcc-{nvcc_max_gcc} CXX=g++-{nvcc_max_gcc}",
)
FIX_NVCC = Text(en="install a CUDA toolkit from {since} on, and name it in CUDA_HOME", zh="安装 CUDA {since} 或更新的工具包，并让 CUDA_HOME 指向它")
FIX_TOOLKIT = Text(
    en="name a whole toolkit: export CUDA_HOME=/usr/local/cuda-{torch_cuda} (NVIDIA's installer, or conda install -c nvidia cuda-toolkit={torch_cuda})",
    zh="使用完整的工具包：export CUDA_HOME=/usr/local/cuda-{torch_cuda}（NVIDIA 安装包，或 conda install -c nvidia cuda-toolkit={torch_cuda}）",
)
FIX_ARCHS = Text(en="export TORCH_CUDA_ARCH_LIST={capability} (or unset it)", zh="执行 export TORCH_CUDA_ARCH_LIST={capability}（或 unset）")

KNOWN_SINCE = ((8.0, (11, 0)), (8.6, (11, 1)), (8.9, (11, 8)), (9.0, (11, 8)), (10.0, (12, 8)), (12.0, (12, 8)))
"""Compute capability -> the first toolkit that compiles for it (CUDA's release notes)."""


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.doctor
    assert seen is not None
    needing = [name for name in ("deepspeed", "flash-attn") if name in seen.versions]
    if not needing or not seen.gpus:
        return
    toolkit = seen.named.get("CUDA_HOME") or seen.named.get("PATH") or ""
    version = seen.toolkits.get(toolkit, "")
    capability = max(seen.capabilities, default=0.0)
    since = max((s for c, s in KNOWN_SINCE if c <= capability), default=(0, 0))
    archs = seen.variables.get("TORCH_CUDA_ARCH_LIST", "")
    what = [text for there, text in ((seen.compiler, "C++ compiler"), (seen.ninja, "ninja")) if not there]
    commands = {"C++ compiler": "sudo apt-get install build-essential", "ninja": "pip install ninja"}
    evidence = {
        "needing": ", ".join(needing), "what": ", ".join(what) or "-", "command": "; ".join(commands[w] for w in what) or "-", "compiler": seen.compiler or "-",
        "gcc": seen.gcc, "nvcc_max_gcc": seen.nvcc_max_gcc, "gpu": seen.gpus[0], "capability": capability, "since": f"{since[0]}.{since[1]}",
        "toolkit": toolkit or "-", "lacks": ", ".join(seen.toolkit_lacks) or "-", "torch_cuda": seen.torch_cuda or "-",
        "toolkit_version": version or "-", "archs": archs or "-",
    }
    if what:
        yield Finding(code="ENV122", severity=Severity.WARNING, message=MISSING, evidence=evidence, fix=INSTALL)
    elif seen.toolkit_lacks:
        yield Finding(code="ENV122", severity=Severity.WARNING, message=INCOMPLETE, evidence=evidence, fix=FIX_TOOLKIT)
    elif seen.gcc and seen.nvcc_max_gcc and seen.gcc > seen.nvcc_max_gcc:
        yield Finding(code="ENV122", severity=Severity.WARNING, message=NEW_GCC, evidence=evidence, fix=FIX_GCC)
    elif version and tuple(int(n) for n in version.split(".")[:2]) < since:
        yield Finding(code="ENV122", severity=Severity.WARNING, message=OLD_NVCC, evidence=evidence, fix=FIX_NVCC)
    elif archs and not _covers(archs, capability):
        yield Finding(code="ENV122", severity=Severity.WARNING, message=ARCHS, evidence=evidence, fix=FIX_ARCHS)


def _covers(archs: str, capability: float) -> bool:
    """Whether code for one of the architectures runs there: the same major version and no newer, or PTX of an older one."""
    for word in archs.replace(",", ";").replace(" ", ";").split(";"):
        number = word.removesuffix("+PTX").rstrip("af")
        if not number.replace(".", "", 1).isdigit():
            if word:
                return True  # a name (Ampere): torch knows those
            continue
        if float(number) <= capability and (int(float(number)) == int(capability) or word.endswith("+PTX")):
            return True
    return False


CHECK = Check(
    code="ENV122",
    name="build_tools_missing",
    stage=Stage.ENV,
    severity=Severity.WARNING,
    needs=("doctor",),
    run=run,
    page=Page(
        title=Text(en="an extension cannot be built", zh="无法编译扩展"),
        what=Text(
            en="Where deepspeed or flash-attn is installed beside a GPU: a C++ compiler, ninja, a GCC that nvcc takes (read from the toolkit's crt/host_config.h), a toolkit that is whole (ptxas, cicc, headers, a libcudart.so to link) and knows the GPU's compute capability, and a TORCH_CUDA_ARCH_LIST that covers it.",
            zh="装有 deepspeed 或 flash-attn 且有 GPU 时，检查：C++ 编译器、ninja、nvcc 接受的 GCC 版本（读自工具包的 crt/host_config.h）、工具包是否完整（ptxas、cicc、头文件、可供链接的 libcudart.so）、是否支持 GPU 的计算能力，以及 TORCH_CUDA_ARCH_LIST 是否包含它。",
        ),
        why=Text(
            en="DeepSpeed compiles its optimizers at the first step, not when it is installed: the run fails after the model is loaded and the data prepared. bitsandbytes and most flash-attn wheels come compiled.",
            zh="DeepSpeed 不是在安装时而是在第一步才编译优化器：模型已加载、数据已准备好之后训练才失败。bitsandbytes 和多数 flash-attn 的 wheel 是编译好的。",
        ),
        fix=Text(
            en="Install what is missing; CC and CXX choose another compiler. ds_report tells what DeepSpeed can build.",
            zh="安装缺少的工具；用 CC 和 CXX 指定其他编译器。ds_report 会列出 DeepSpeed 能编译什么。",
        ),
        example="""warning ENV122: deepspeed, flash-attn compiles extensions when it is used, and there is no ninja
  fix: pip install ninja

pip install ninja
ds_report""",
    ),
    fires=(
        Facts(doctor=replace(DOCTOR, ninja=False)),
        Facts(doctor=replace(DOCTOR, compiler=None, gcc=None)),
        Facts(doctor=replace(DOCTOR, gcc=14)),
        Facts(doctor=replace(DOCTOR, gpus=("NVIDIA GeForce RTX 5090",), capabilities=(12.0,))),
        Facts(doctor=replace(DOCTOR, variables={"TORCH_CUDA_ARCH_LIST": "7.0;7.5"})),
        Facts(doctor=replace(DOCTOR, toolkit_lacks=("lib64/libcudart.so",))),
    ),
    silent=(
        Facts(doctor=DOCTOR),
        Facts(doctor=replace(DOCTOR, versions={"torch": "2.6.0"}, ninja=False)),
        Facts(doctor=replace(DOCTOR, gpus=(), capabilities=(), ninja=False, toolkit_lacks=("nvvm/bin/cicc",))),
        Facts(doctor=replace(DOCTOR, variables={"TORCH_CUDA_ARCH_LIST": "7.0+PTX"})),
        Facts(doctor=replace(DOCTOR, variables={"TORCH_CUDA_ARCH_LIST": "Ampere"})),
    ),
)
