"""ENV123: flash-attn was built for another torch, is of the old generation, or does not run on this GPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import DOCTOR
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

ABI = Text(
    en="flash-attn {version} wants {count} symbols that torch {torch} does not have ({symbol}): it was built for another torch",
    zh="flash-attn {version} 需要 torch {torch} 中没有的 {count} 个符号（{symbol}）：它是为另一个 torch 编译的",
)
OLD_API = Text(
    en="flash-attn {version} is of the first generation; its flash_attn_unpadded_* functions are flash_attn_varlen_* from 2.0 on, which is what callers import",
    zh="flash-attn {version} 是第一代；其 flash_attn_unpadded_* 函数从 2.0 起改名为 flash_attn_varlen_*，调用者导入的是后者",
)
OLD_GPU = Text(
    en="flash-attn {version} runs from compute capability 8.0 on; {gpu} has {capability}",
    zh="flash-attn {version} 需要计算能力 8.0 以上；{gpu} 为 {capability}",
)
REINSTALL = Text(
    en="pip uninstall -y flash-attn; pip install flash-attn --no-build-isolation --no-cache-dir (or the wheel of this torch and Python from its releases page)",
    zh="执行 pip uninstall -y flash-attn; pip install flash-attn --no-build-isolation --no-cache-dir（或从其发布页选取与 torch、Python 相符的 wheel）",
)
UPGRADE = Text(en="pip install -U 'flash-attn>=2' --no-build-isolation", zh="执行 pip install -U 'flash-attn>=2' --no-build-isolation")
WITHOUT = Text(en="pip uninstall -y flash-attn, and set model.attention: sdpa", zh="执行 pip uninstall -y flash-attn，并设 model.attention: sdpa")


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.doctor
    assert seen is not None
    version = seen.versions.get("flash-attn")
    if version is None:
        return
    capability = min(seen.capabilities, default=8.0)
    missing = seen.flash_attn_missing
    evidence = {
        "version": version, "torch": seen.torch or "-", "count": len(missing), "symbol": missing[0] if missing else "-", "capability": capability,
        "gpu": seen.gpus[seen.capabilities.index(capability)] if seen.capabilities else "-",
    }
    if missing:
        yield Finding(code="ENV123", severity=Severity.ERROR, message=ABI, evidence=evidence, fix=REINSTALL)
    elif version.startswith(("0.", "1.")):
        yield Finding(code="ENV123", severity=Severity.WARNING, message=OLD_API, evidence=evidence, fix=UPGRADE)
    elif capability < 8.0:
        yield Finding(code="ENV123", severity=Severity.WARNING, message=OLD_GPU, evidence=evidence, fix=WITHOUT)


OTHER_ABI = replace(DOCTOR, flash_attn_missing=("_ZN3c105ErrorC2ENS_14SourceLocationESs",))


CHECK = Check(
    code="ENV123",
    name="flash_attn_unfit",
    stage=Stage.ENV,
    severity=Severity.ERROR,
    needs=("doctor",),
    run=run,
    page=Page(
        title=Text(en="flash-attn does not fit torch or the GPU", zh="flash-attn 与 torch 或 GPU 不匹配"),
        what=Text(
            en="Whether the c10 symbols that flash-attn's compiled extension wants stand in torch's c10 libraries (files are read, nothing is imported), whether it is of the second generation, and whether the GPU has compute capability 8.0.",
            zh="检查 flash-attn 编译扩展所需的 c10 符号是否在 torch 的 c10 库中（只读文件，不导入）、是否为第二代，以及 GPU 的计算能力是否达到 8.0。",
        ),
        why=Text(
            en="A flash-attn built for another torch fails at import with undefined symbol, often inside transformers (Dao-AILab/flash-attention#723, #975, #1832). Version 2 renamed flash_attn_unpadded_qkvpacked_func and its family to flash_attn_varlen_*.",
            zh="为另一个 torch 编译的 flash-attn 在导入时报 undefined symbol，常出现在 transformers 内部（Dao-AILab/flash-attention#723、#975、#1832）。第 2 版把 flash_attn_unpadded_qkvpacked_func 一族改名为 flash_attn_varlen_*。",
        ),
        fix=Text(
            en="Install flash-attn again after every change of torch, from a wheel whose name holds this torch, this Python and the right cxx11abi, or built without isolation.",
            zh="每次更换 torch 后重新安装 flash-attn：选取名称中含有相应 torch、Python 和 cxx11abi 的 wheel，或不用隔离环境编译。",
        ),
        example="""error ENV123: flash-attn 2.7.4.post1 wants 1 symbols that torch 2.6.0+cu124 does not have (_ZN3c105ErrorC2ENS_14SourceLocationESs): it was built for another torch
  fix: pip uninstall -y flash-attn; pip install flash-attn --no-build-isolation --no-cache-dir (or the wheel of this torch and Python from its releases page)

python -c 'import flash_attn'""",
    ),
    fires=(
        Facts(doctor=OTHER_ABI),
        Facts(doctor=replace(DOCTOR, versions={"flash-attn": "1.0.9"})),
        Facts(doctor=replace(DOCTOR, gpus=("Tesla T4",), capabilities=(7.5,))),
    ),
    silent=(
        Facts(doctor=DOCTOR),
        Facts(doctor=replace(OTHER_ABI, versions={"torch": "2.6.0"})),
        Facts(doctor=replace(DOCTOR, gpus=(), capabilities=())),
    ),
)
