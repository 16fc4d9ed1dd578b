"""ENV121: torch's CUDA does not fit the toolkit, the driver, or the GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import DOCTOR
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

CPU_BUILD = Text(
    en="torch {torch} is built without CUDA, and there are {num_gpus} GPUs ({gpu}): training would run on the CPU",
    zh="torch {torch} 不含 CUDA，而本机有 {num_gpus} 个 GPU（{gpu}）：训练会在 CPU 上进行",
)
OLD_DRIVER = Text(
    en="torch {torch} is built with CUDA {torch_cuda}; the driver {driver} runs CUDA {driver_cuda} at most",
    zh="torch {torch} 用 CUDA {torch_cuda} 编译；驱动 {driver} 最高只支持 CUDA {driver_cuda}",
)
TOOLKIT = Text(
    en="torch {torch} is built with CUDA {torch_cuda}; the toolkit that extensions would be built with is {toolkit_version} ({toolkit})",
    zh="torch {torch} 用 CUDA {torch_cuda} 编译；编译扩展所用的工具包是 {toolkit_version}（{toolkit}）",
)
FIX_CPU = Text(
    en="pip install torch --force-reinstall --index-url https://download.pytorch.org/whl/cu{index}",
    zh="执行 pip install torch --force-reinstall --index-url https://download.pytorch.org/whl/cu{index}",
)
FIX_DRIVER = Text(
    en="pip install a torch for CUDA {driver_cuda} or older (https://pytorch.org/get-started/previous-versions), or update the driver; nvidia-smi shows both",
    zh="用 pip 安装适用于 CUDA {driver_cuda} 或更早版本的 torch（https://pytorch.org/get-started/previous-versions），或升级驱动；nvidia-smi 会显示两者",
)
FIX_TOOLKIT = Text(
    en="install the CUDA {torch_cuda} toolkit and export CUDA_HOME=/usr/local/cuda-{torch_cuda}, or pip install a torch for CUDA {toolkit_version}",
    zh="安装 CUDA {torch_cuda} 工具包并 export CUDA_HOME=/usr/local/cuda-{torch_cuda}，或用 pip 安装适用于 CUDA {toolkit_version} 的 torch",
)


BUILDS = (118, 121, 124, 126, 128, 130)
"""CUDA versions that torch is published for."""


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.doctor
    assert seen is not None
    if seen.torch is None:
        return
    toolkit = seen.named.get("CUDA_HOME") or seen.named.get("PATH") or ""
    evidence = {
        "torch": seen.torch, "torch_cuda": seen.torch_cuda or "-", "driver": seen.driver or "-", "driver_cuda": seen.driver_cuda or "-",
        "toolkit": toolkit or "-", "toolkit_version": seen.toolkits.get(toolkit) or "-", "num_gpus": len(seen.gpus), "gpu": ", ".join(sorted(set(seen.gpus))) or "-",
        "index": max((i for i in BUILDS if (i // 10, i % 10) <= _numbers(seen.driver_cuda)), default=BUILDS[0]),
    }
    if seen.torch_cuda is None:
        if seen.gpus:
            yield Finding(code="ENV121", severity=Severity.ERROR, message=CPU_BUILD, evidence=evidence, fix=FIX_CPU)
        return
    if seen.driver_cuda and _major(seen.torch_cuda) > _major(seen.driver_cuda):
        yield Finding(code="ENV121", severity=Severity.ERROR, message=OLD_DRIVER, evidence=evidence, fix=FIX_DRIVER)
    elif _major(seen.toolkits.get(toolkit)) not in (0, _major(seen.torch_cuda)):
        yield Finding(code="ENV121", severity=Severity.WARNING, message=TOOLKIT, evidence=evidence, fix=FIX_TOOLKIT)


def _numbers(version: str | None) -> tuple[int, ...]:
    return tuple(int(n) for n in (version or "").split(".")[:2] if n.isdigit()) or (12, 4)


def _major(version: str | None) -> int:
    first = (version or "").split(".")[0]
    return int(first) if first.isdigit() else 0


OTHER_TOOLKIT = replace(DOCTOR, toolkits={"/usr/local/cuda-12.4": "11.8"})


CHECK = Check(
    code="ENV121",
    name="torch_cuda_mismatch",
    stage=Stage.ENV,
    severity=Severity.ERROR,
    needs=("doctor",),
    run=run,
    page=Page(
        title=Text(en="torch's CUDA fits neither toolkit nor driver", zh="torch 的 CUDA 与工具包或驱动不匹配"),
        what=Text(
            en="Whether torch is a CUDA build where there are GPUs, whether the driver runs the major version of CUDA that torch was built with, and whether the toolkit has that major version. torch is not imported: torch/version.py is read. The toolkit is a warning, since it matters only where an extension is built.",
            zh="检查有 GPU 时 torch 是否为 CUDA 版本、驱动能否运行 torch 所用 CUDA 的主版本，以及工具包的主版本是否相同。不导入 torch，只读取 torch/version.py。工具包不匹配为警告，因为只在编译扩展时有影响。",
        ),
        why=Text(
            en="A CPU build of torch trains on the CPU and says nothing. A driver that is too old makes torch.cuda.is_available() false, with a warning. With another major version of the toolkit torch refuses to build extensions: The detected CUDA version mismatches the version that was used to compile PyTorch (pytorch/pytorch#73047). Within a major version CUDA is compatible.",
            zh="CPU 版的 torch 会不声不响地在 CPU 上训练。驱动过旧时 torch.cuda.is_available() 为 false，只有一条警告。工具包主版本不同时 torch 拒绝编译扩展：The detected CUDA version mismatches the version that was used to compile PyTorch（pytorch/pytorch#73047）。同一主版本内 CUDA 互相兼容。",
        ),
        fix=Text(
            en="Choose the torch build by the driver (nvidia-smi shows the newest CUDA that it runs), then install a toolkit of torch's version only if something is to be compiled.",
            zh="按驱动选择 torch 版本（nvidia-smi 显示其支持的最高 CUDA），只有需要编译扩展时才安装与 torch 版本相同的工具包。",
        ),
        example="""error ENV121: torch 2.6.0+cpu is built without CUDA, and there are 2 GPUs (NVIDIA A100-SXM4-40GB): training would run on the CPU
  fix: pip install torch --force-reinstall --index-url https://download.pytorch.org/whl/cu124

nvidia-smi
pip install torch --force-reinstall --index-url https://download.pytorch.org/whl/cu124""",
    ),
    fires=(
        Facts(doctor=replace(DOCTOR, torch="2.6.0+cpu", torch_cuda=None)),
        Facts(doctor=replace(DOCTOR, driver="470.82.01", driver_cuda="11.4")),
        Facts(doctor=OTHER_TOOLKIT),
    ),
    silent=(
        Facts(doctor=DOCTOR),
        Facts(doctor=replace(DOCTOR, torch="2.6.0+cpu", torch_cuda=None, gpus=())),
        Facts(doctor=replace(DOCTOR, driver_cuda="12.2")),
        Facts(doctor=replace(DOCTOR, torch=None, torch_cuda=None)),
    ),
)
