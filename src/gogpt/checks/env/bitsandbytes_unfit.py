"""ENV132: bitsandbytes has no native library for this torch and its CUDA."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import DOCTOR
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MISSING = Text(
    en="bitsandbytes {version} would load libbitsandbytes_{wanted} for torch {torch} (CUDA {torch_cuda}), and has {there}",
    zh="bitsandbytes {version} 会为 torch {torch}（CUDA {torch_cuda}）加载 libbitsandbytes_{wanted}，而包中只有 {there}",
)
FORCED = Text(
    en="{variable}={forced} makes bitsandbytes {version} load libbitsandbytes_{wanted}, and torch {torch} is built with CUDA {torch_cuda}",
    zh="{variable}={forced} 使 bitsandbytes {version} 加载 libbitsandbytes_{wanted}，而 torch {torch} 用 CUDA {torch_cuda} 编译",
)
FIX_MISSING = Text(
    en="pip install -U bitsandbytes, or a torch for a CUDA version that is there",
    zh="执行 pip install -U bitsandbytes，或安装与已有 CUDA 版本相符的 torch",
)
FIX_FORCED = Text(en="unset {variable}", zh="执行 unset {variable}")


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.doctor
    assert seen is not None
    wanted = seen.bitsandbytes_wanted
    if wanted is None or seen.torch is None:
        return
    variable = "BNB_ROCM_VERSION" if seen.torch_hip else "BNB_CUDA_VERSION"
    cuda = seen.torch_hip or seen.torch_cuda
    evidence = {
        "wanted": wanted, "libraries": list(seen.bitsandbytes_libraries), "there": ", ".join(seen.bitsandbytes_libraries) or "none",
        "version": seen.versions.get("bitsandbytes", "?"), "torch": seen.torch, "torch_cuda": cuda or "-",
        "variable": variable, "forced": seen.variables.get(variable, ""),
    }
    if wanted not in seen.bitsandbytes_libraries:
        yield Finding(code="ENV132", severity=Severity.ERROR, message=MISSING, evidence=evidence, fix=FIX_FORCED if evidence["forced"] else FIX_MISSING)
    elif evidence["forced"] and wanted != "cpu" and not _same_major(str(evidence["forced"]), cuda or ""):
        yield Finding(code="ENV132", severity=Severity.WARNING, message=FORCED, evidence=evidence, fix=FIX_FORCED)


def _same_major(forced: str, version: str) -> bool:
    """Whether 124 and 12.1 are of one major version."""
    major = version.split(".")[0]
    return forced.startswith(major)


CPU_ONLY = replace(DOCTOR, bitsandbytes_libraries=("cpu",), bitsandbytes_wanted="cuda124")

CHECK = Check(
    code="ENV132",
    name="bitsandbytes_unfit",
    stage=Stage.ENV,
    severity=Severity.ERROR,
    needs=("doctor",),
    run=run,
    page=Page(
        title=Text(en="bitsandbytes has no library for this CUDA", zh="bitsandbytes 没有适用于该 CUDA 的库"),
        what=Text(
            en="Which native library bitsandbytes would load (libbitsandbytes_cuda124.so for torch with CUDA 12.4; without an exact one the "
            "nearest of the same major version; the one for the CPU without a GPU), and whether the package holds it. Nothing is imported.",
            zh="检查 bitsandbytes 会加载哪个原生库（CUDA 12.4 的 torch 对应 libbitsandbytes_cuda124.so；没有完全一致的则取同一主版本中最近的；没有 GPU 时用 CPU 版），"
            "以及包中是否有它。检查不会导入任何库。",
        ),
        why=Text(
            en="bitsandbytes is imported without its library and only tells so: the first 4-bit layer fails after the model was loaded. "
            "With BNB_CUDA_VERSION left over from another machine it loads the wrong one and never looks for a better.",
            zh="缺少原生库时 bitsandbytes 仍能导入，只给一条提示：加载完模型后，第一个 4-bit 层才报错。若残留了其他机器上设置的 BNB_CUDA_VERSION，它会加载错误的库，且不再寻找更合适的。",
        ),
        fix=Text(
            en="Install a newer bitsandbytes, or a torch whose CUDA it has a library for; unset BNB_CUDA_VERSION.",
            zh="安装更新的 bitsandbytes，或安装与其库相符的 torch；unset BNB_CUDA_VERSION。",
        ),
        example="""error ENV132: bitsandbytes 0.45.3 would load libbitsandbytes_cuda124 for torch 2.6.0+cu124 (CUDA 12.4), and has cpu
  fix: pip install -U bitsandbytes, or a torch for a CUDA version that is there

pip install -U bitsandbytes""",
    ),
    fires=(
        Facts(doctor=CPU_ONLY),
        Facts(doctor=replace(DOCTOR, bitsandbytes_libraries=("cpu", "cuda118"), bitsandbytes_wanted="cuda118", variables={"BNB_CUDA_VERSION": "118"})),
        Facts(doctor=replace(DOCTOR, bitsandbytes_libraries=(), bitsandbytes_wanted="cpu")),
    ),
    silent=(
        Facts(doctor=DOCTOR),
        Facts(doctor=replace(CPU_ONLY, bitsandbytes_wanted="cpu")),
        Facts(doctor=replace(DOCTOR, bitsandbytes_libraries=("cpu", "cuda121", "cuda124"), bitsandbytes_wanted="cuda121", variables={"BNB_CUDA_VERSION": "121"})),
    ),
)
