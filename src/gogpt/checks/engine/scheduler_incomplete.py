"""CFG264: a scheduler that DeepSpeed cannot build."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import ENGINE
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="{scheduler} cannot be built without {missing}: DeepSpeed ends in a TypeError",
    zh="缺少 {missing}，无法构建 {scheduler}：DeepSpeed 会以 TypeError 结束",
)
FIX = Text(
    en="take scheduler out of the file (gogpt check {path} --fix OUT), or write {missing}",
    zh="从文件中去掉 scheduler（gogpt check {path} --fix OUT），或写明 {missing}",
)


def run(facts: Facts) -> Iterator[Finding]:
    file = facts.engine
    assert file is not None
    if not file.scheduler_missing:
        return
    yield Finding(code="CFG264", severity=Severity.ERROR, message=MESSAGE, fix=FIX, where=file.at("scheduler"),
                  evidence={"path": file.path, "scheduler": file.scheduler, "missing": ", ".join(file.scheduler_missing)})


CHECK = Check(
    code="CFG264",
    name="scheduler_incomplete",
    stage=Stage.ENGINE,
    severity=Severity.ERROR,
    needs=("engine",),
    run=run,
    page=Page(
        title=Text(en="a DeepSpeed scheduler lacks what it needs", zh="DeepSpeed 调度器缺少必需的参数"),
        what=Text(
            en="Whether the scheduler has the parameters without a default: total_num_steps of WarmupDecayLR and WarmupCosineLR, cycle_min_lr and cycle_max_lr of OneCycle.",
            zh="检查调度器是否有没有默认值的参数：WarmupDecayLR 和 WarmupCosineLR 的 total_num_steps，OneCycle 的 cycle_min_lr 和 cycle_max_lr。",
        ),
        why=Text(
            en="The run ends in a TypeError when the engine starts, after the model was loaded on every process.",
            zh="在每个进程都加载完模型之后，引擎启动时会以 TypeError 结束。",
        ),
        fix=Text(
            en="Leave the schedule to the Trainer, or write the parameter (total_num_steps: auto is the steps of the run).",
            zh="把学习率计划交给 Trainer，或写明该参数（total_num_steps 取 auto 即为训练的总步数）。",
        ),
        example="""error CFG264 ds.json:20: WarmupDecayLR cannot be built without total_num_steps: DeepSpeed ends in a TypeError
  fix: take scheduler out of the file (gogpt check ds.json --fix OUT), or write total_num_steps

"scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": "auto", "warmup_max_lr": "auto", "warmup_num_steps": "auto"}}""",
    ),
    fires=(
        Facts(engine=replace(ENGINE, scheduler="WarmupDecayLR", scheduler_missing=("total_num_steps",))),
    ),
    silent=(
        Facts(engine=ENGINE),
        Facts(engine=replace(ENGINE, scheduler="WarmupDecayLR")),
    ),
)
