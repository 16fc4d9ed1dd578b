"""CFG273: the gradient clipping of the file is not the run's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import ENGINE
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MISSING = Text(
    en="the file has no gradient_clipping: DeepSpeed's default holds (0.19.8 clips at 1.0, older versions do not clip), and the run's max_grad_norm may not reach it",
    zh="文件没有 gradient_clipping：起作用的是 DeepSpeed 的默认值（0.19.8 按 1.0 裁剪，旧版本不裁剪），训练的 max_grad_norm 可能传不到",
)
DIFFERS = Text(
    en="gradient_clipping is {clipping}, the run asks for {asked}",
    zh="gradient_clipping 为 {clipping}，而训练要求 {asked}",
)
FIX = Text(
    en="\"gradient_clipping\": \"auto\", which is the run's max_grad_norm (gogpt check {path} --fix OUT)",
    zh="\"gradient_clipping\": \"auto\"，即训练的 max_grad_norm（gogpt check {path} --fix OUT）",
)


def run(facts: Facts) -> Iterator[Finding]:
    file = facts.engine
    assert file is not None
    differs = file.clipping is not None and file.asked_clipping is not None and file.clipping != file.asked_clipping
    if file.clipping_set and not differs:
        return
    yield Finding(
        code="CFG273", severity=Severity.ERROR if differs else Severity.WARNING, message=DIFFERS if differs else MISSING, fix=FIX,
        evidence={"path": file.path, "clipping": file.clipping, "asked": file.asked_clipping}, where=file.at("gradient_clipping"),
    )


CHECK = Check(
    code="CFG273",
    name="clipping_differs",
    stage=Stage.ENGINE,
    severity=Severity.ERROR,
    needs=("engine",),
    run=run,
    page=Page(
        title=Text(en="the gradient clipping of the DeepSpeed file is not the run's", zh="DeepSpeed 文件的梯度裁剪与训练不符"),
        what=Text(
            en="Whether the file sets gradient_clipping, and to the run's value where that is known (train.max_grad_norm=... on the command line). A missing one is a warning.",
            zh="检查文件是否设置了 gradient_clipping，以及在已知训练的值（命令行的 train.max_grad_norm=...）时两者是否相等。缺少时为警告。",
        ),
        why=Text(
            en="Under DeepSpeed the engine clips, not the Trainer. A file without the key clips as that version of DeepSpeed does by default, unless the launcher passes a value on; where it does not clip, one bad batch can undo a run.",
            zh="使用 DeepSpeed 时由引擎而不是 Trainer 裁剪。没有该键的文件按该版本 DeepSpeed 的默认值裁剪，除非启动器另行传值；若不裁剪，一个坏批次就能毁掉整次训练。",
        ),
        fix=Text(
            en="Write gradient_clipping: auto, or the number.",
            zh="写 gradient_clipping: auto，或写明数值。",
        ),
        example="""error CFG273 ds.json:10: gradient_clipping is 0.5, the run asks for 1.0
  fix: "gradient_clipping": "auto", which is the run's max_grad_norm (gogpt check ds.json --fix OUT)

{"gradient_clipping": "auto"}""",
    ),
    fires=(
        Facts(engine=replace(ENGINE, clipping=0.5, asked_clipping=1.0)),
        Facts(engine=replace(ENGINE, clipping_set=False, lines={})),
    ),
    silent=(
        Facts(engine=ENGINE),
        Facts(engine=replace(ENGINE, clipping=1.0, asked_clipping=1.0)),
        Facts(engine=replace(ENGINE, asked_clipping=1.0)),
    ),
)
