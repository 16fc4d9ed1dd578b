"""ENV129: A library is installed twice, or shadowed by a file of the same name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import DOCTOR
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

TWICE = Text(
    en="{name} is installed {count} times: {places}; which one is imported and which version is reported may differ",
    zh="{name} 安装了 {count} 次：{places}；实际导入的与报告的版本可能不同",
)
SHADOWED = Text(
    en="{places} stands before the installed {name} on sys.path and is imported in its place",
    zh="{places} 在 sys.path 上先于已安装的 {name}，会被当作它导入",
)
FIX_TWICE = Text(
    en="pip uninstall -y {name} (once for each), then pip install {name}; python -m pip show -f {name} tells where",
    zh="执行 pip uninstall -y {name}（有几份执行几次），再 pip install {name}；python -m pip show -f {name} 可查看位置",
)
FIX_SHADOWED = Text(en="mv {places} to another name, or start from another folder", zh="把 {places} 改名（mv），或换一个目录启动")


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.doctor
    assert seen is not None
    for name, places in seen.installs.items():
        evidence = {"name": name, "count": len(places), "places": "; ".join(places)}
        yield Finding(code="ENV129", severity=Severity.WARNING, message=TWICE, evidence=evidence, fix=FIX_TWICE)
    for name, place in seen.shadows.items():
        evidence = {"name": name, "count": 1, "places": place}
        yield Finding(code="ENV129", severity=Severity.WARNING, message=SHADOWED, evidence=evidence, fix=FIX_SHADOWED)


TWO = ("4.51.3 at /opt/old/lib/python3.11/site-packages", "5.2.0 at /opt/venv/lib/python3.11/site-packages")


CHECK = Check(
    code="ENV129",
    name="library_twice",
    stage=Stage.ENV,
    severity=Severity.WARNING,
    needs=("doctor",),
    run=run,
    page=Page(
        title=Text(en="a library is there twice", zh="同一个库有两份"),
        what=Text(
            en="Whether a library of the stack has two dist-infos on sys.path (a user install beside an environment's, or a broken upgrade), or a file or folder of its name in the current folder or on PYTHONPATH comes first.",
            zh="检查依赖库在 sys.path 上是否有两个 dist-info（用户目录与环境各一份，或升级未完成），或当前目录、PYTHONPATH 中是否有同名的文件或目录排在前面。",
        ),
        why=Text(
            en="The version that is reported and the code that runs are then not the same, and a fix that is installed does not arrive. A datasets/ folder of one's own beside a script is enough.",
            zh="报告的版本与实际运行的代码不一致，装上的修正也不生效。脚本旁边有一个自己的 datasets/ 目录就足以造成这种情况。",
        ),
        fix=Text(
            en="Uninstall every copy and install once, in a virtual environment; PYTHONNOUSERSITE=1 leaves ~/.local out. Rename what shadows.",
            zh="卸载所有副本，在虚拟环境中只装一次；PYTHONNOUSERSITE=1 可忽略 ~/.local。把造成遮蔽的文件改名。",
        ),
        example="""warning ENV129: transformers is installed 2 times: 4.51.3 at /opt/old/lib/python3.11/site-packages; 5.2.0 at /opt/venv/lib/python3.11/site-packages; which one is imported and which version is reported may differ
  fix: pip uninstall -y transformers (once for each), then pip install transformers; python -m pip show -f transformers tells where

python -m pip list -v | grep -i transformers""",
    ),
    fires=(
        Facts(doctor=replace(DOCTOR, installs={"transformers": TWO})),
        Facts(doctor=replace(DOCTOR, shadows={"datasets": "/data/project/datasets.py"})),
    ),
    silent=(
        Facts(doctor=DOCTOR),
    ),
)
