"""ENV120: CUDA_HOME, PATH and LD_LIBRARY_PATH do not name one toolkit that exists."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from gogpt.checks.cases import DOCTOR
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

NO_NVCC = Text(
    en="{name}={value} holds no bin/nvcc; toolkits found: {found}",
    zh="{name}={value} 中没有 bin/nvcc；找到的工具包：{found}",
)
STALE = Text(
    en="what names CUDA and does not exist: {missing}",
    zh="指向 CUDA 却不存在的路径：{missing}",
)
DIFFERENT = Text(
    en="the variables name different toolkits: {named}",
    zh="这些变量指向不同的工具包：{named}",
)
EXPORT = Text(
    en="export CUDA_HOME={home}; export PATH={home}/bin:$PATH; export LD_LIBRARY_PATH={home}/lib64:$LD_LIBRARY_PATH (and take the wrong entries "
    "out of your shell's start file)",
    zh="export CUDA_HOME={home}; export PATH={home}/bin:$PATH; export LD_LIBRARY_PATH={home}/lib64:$LD_LIBRARY_PATH（并从 shell 启动文件中删去错误的条目）",
)
UNSET = Text(
    en="unset CUDA_HOME CUDA_PATH (no toolkit is needed unless an extension is built), or install the toolkit of torch's CUDA {torch_cuda}",
    zh="unset CUDA_HOME CUDA_PATH（不编译扩展就不需要工具包），或安装 torch 所用 CUDA {torch_cuda} 的工具包",
)


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.doctor
    assert seen is not None
    name = "CUDA_HOME" if "CUDA_HOME" in seen.variables else "CUDA_PATH"
    home = _best(seen.cuda_home, seen.toolkits, seen.named, seen.torch_cuda)
    evidence = {
        "name": name, "value": seen.cuda_home or "-", "found": ", ".join(seen.toolkits) or "-", "missing": "; ".join(seen.missing_paths) or "-",
        "named": ", ".join(f"{k}: {v} ({seen.toolkits.get(v) or '?'})" for k, v in seen.named.items()) or "-", "home": home or "-", "torch_cuda": seen.torch_cuda or "-",
    }
    fix = EXPORT if home else UNSET
    if seen.cuda_home and not seen.cuda_home_nvcc:
        yield Finding(code="ENV120", severity=Severity.ERROR, message=NO_NVCC, evidence=evidence, fix=fix)
    elif len({seen.toolkits.get(path) or path for path in seen.named.values()}) > 1:  # the same version in two folders is no fault
        yield Finding(code="ENV120", severity=Severity.WARNING, message=DIFFERENT, evidence=evidence, fix=fix)
    elif seen.missing_paths and home:
        yield Finding(code="ENV120", severity=Severity.WARNING, message=STALE, evidence=evidence, fix=fix)


def _best(home: str | None, toolkits: Mapping[str, str], named: Mapping[str, str], torch_cuda: str | None) -> str | None:
    """The toolkit to name: the one that a CUDA_HOME with a doubled part means, else that of torch's version, else of its major
    version, else one that is named, else the newest. A folder that CUDA is not in the name of (a wrapper's, conda's) comes last."""
    meant = re.sub(r"^(/[^/]+)\1+(?=/)", r"\1", home or "")
    newest = sorted(toolkits, key=lambda path: ("cuda" in path, [int(n) for n in toolkits[path].split(".") if n.isdigit()]), reverse=True)
    same = [path for path in newest if torch_cuda and toolkits[path] == torch_cuda]
    near = [path for path in newest if torch_cuda and toolkits[path].split(".")[0] == torch_cuda.split(".")[0]]
    other = [path for path in newest if path in named.values() and "cuda" in path]
    return next(iter([*(path for path in newest if path == meant), *same, *near, *other, *newest]), None)


DOUBLED = replace(
    DOCTOR, cuda_home="/usr/usr/local/cuda-12.2", cuda_home_nvcc=False, variables={"CUDA_HOME": "/usr/usr/local/cuda-12.2"},
    missing_paths=("CUDA_HOME: /usr/usr/local/cuda-12.2",), named={"PATH": "/usr/local/cuda-12.2"}, toolkits={"/usr/local/cuda-12.2": "12.2"},
)


CHECK = Check(
    code="ENV120",
    name="cuda_paths_disagree",
    stage=Stage.ENV,
    severity=Severity.ERROR,
    needs=("doctor",),
    run=run,
    page=Page(
        title=Text(en="the CUDA variables do not name one toolkit", zh="CUDA 相关变量没有指向同一个工具包"),
        what=Text(
            en="Whether CUDA_HOME (or CUDA_PATH) holds bin/nvcc, and whether CUDA_HOME, PATH and LD_LIBRARY_PATH name the same version of the toolkit. A CUDA_HOME without nvcc is an error; different toolkits, and entries that do not exist, are warnings.",
            zh="检查 CUDA_HOME（或 CUDA_PATH）中是否有 bin/nvcc，以及 CUDA_HOME、PATH、LD_LIBRARY_PATH 是否指向同一版本的工具包。CUDA_HOME 中没有 nvcc 为错误；指向不同的工具包或不存在的路径为警告。",
        ),
        why=Text(
            en="Extensions (DeepSpeed's optimizers, flash-attn) are compiled with the nvcc of CUDA_HOME and loaded with the libraries of LD_LIBRARY_PATH. A doubled part, as in /usr/usr/local/cuda-12.2, or a list in CUDA_HOME, ends in FAILED: multi_tensor_adam.cuda.o, far below the line that says that nvcc was not found (deepspeedai/DeepSpeedExamples#594, deepspeedai/DeepSpeed#6912).",
            zh="扩展（DeepSpeed 的优化器、flash-attn）用 CUDA_HOME 中的 nvcc 编译，用 LD_LIBRARY_PATH 中的库加载。路径重复（如 /usr/usr/local/cuda-12.2）或在 CUDA_HOME 中写了列表，最后只会看到 FAILED: multi_tensor_adam.cuda.o，而说明找不到 nvcc 的那一行远在上方（deepspeedai/DeepSpeedExamples#594、deepspeedai/DeepSpeed#6912）。",
        ),
        fix=Text(
            en="Export the three lines that the finding gives, and take the wrong entries out of ~/.bashrc. CUDA_HOME is one folder, never a list. Remove ~/.cache/torch_extensions after a change, so that the extension is built anew.",
            zh="执行给出的三行 export，并从 ~/.bashrc 中删去错误的条目。CUDA_HOME 是一个目录，不能是列表。修改后删除 ~/.cache/torch_extensions，使扩展重新编译。",
        ),
        example="""error ENV120: CUDA_HOME=/usr/usr/local/cuda-12.2 holds no bin/nvcc; toolkits found: /usr/local/cuda-12.2
  fix: export CUDA_HOME=/usr/local/cuda-12.2; export PATH=/usr/local/cuda-12.2/bin:$PATH; export LD_LIBRARY_PATH=/usr/local/cuda-12.2/lib64:$LD_LIBRARY_PATH (and take the wrong entries out of your shell's start file)

echo $CUDA_HOME $PATH $LD_LIBRARY_PATH
gogpt doctor""",
    ),
    fires=(
        Facts(doctor=DOUBLED),
        Facts(doctor=replace(DOCTOR, missing_paths=("PATH: /usr/local/cuda-11.8/bin",))),
        Facts(doctor=replace(DOCTOR, named={**DOCTOR.named, "LD_LIBRARY_PATH": "/usr/local/cuda-11.8"}, toolkits={**DOCTOR.toolkits, "/usr/local/cuda-11.8": "11.8"})),
        Facts(doctor=replace(DOUBLED, toolkits={}, named={}, torch_cuda=None)),
    ),
    silent=(
        Facts(doctor=replace(DOCTOR, named={**DOCTOR.named, "PATH": "/usr/local"}, toolkits={**DOCTOR.toolkits, "/usr/local": "12.4"})),
        Facts(doctor=DOCTOR),
        Facts(doctor=replace(DOCTOR, cuda_home=None, cuda_home_nvcc=False, variables={}, named={}, toolkits={})),
    ),
)
