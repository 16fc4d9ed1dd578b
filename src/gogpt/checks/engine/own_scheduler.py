"""CFG260: the file brings a scheduler of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import ENGINE
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

NEVER = Text(
    en="the file's scheduler {scheduler} replaces the run's {asked}, and it never decays: after the warm-up the learning rate stays at its peak, or rises",
    zh="文件中的调度器 {scheduler} 取代了训练的{asked}，而且从不衰减：预热之后学习率一直停在峰值，或继续上升",
)
REPLACES = Text(
    en="the file's scheduler {scheduler} replaces the run's {asked}, silently",
    zh="文件中的调度器 {scheduler} 会悄悄取代训练的{asked}",
)
FIX = Text(
    en="take scheduler out of the file, so that one place owns the schedule: gogpt check {path} --fix OUT",
    zh="从文件中去掉 scheduler，让学习率计划只由一处管理：gogpt check {path} --fix OUT",
)


def run(facts: Facts) -> Iterator[Finding]:
    file = facts.engine
    assert file is not None
    if file.scheduler is None:
        return
    asked = f"train.schedule ({file.asked_schedule})" if file.asked_schedule else "lr_scheduler_type"
    yield Finding(
        code="CFG260", severity=Severity.WARNING if file.scheduler_decays else Severity.ERROR,
        message=REPLACES if file.scheduler_decays else NEVER,
        evidence={"path": file.path, "scheduler": file.scheduler, "asked": asked}, fix=FIX, where=file.at("scheduler"),
    )


CHECK = Check(
    code="CFG260",
    name="own_scheduler",
    stage=Stage.ENGINE,
    severity=Severity.ERROR,
    needs=("engine",),
    run=run,
    page=Page(
        title=Text(en="the DeepSpeed file brings its own scheduler", zh="DeepSpeed 文件自带调度器"),
        what=Text(
            en="Whether the file has a scheduler. An error where it never decays (WarmupLR, LRRangeTest), a warning otherwise.",
            zh="检查文件中是否有 scheduler。若它从不衰减（WarmupLR、LRRangeTest）则为错误，否则为警告。",
        ),
        why=Text(
            en="DeepSpeed's own scheduler takes the place of the Trainer's, and nothing says so: cosine was asked, a constant rate was got (hiyouga/LLaMA-Factory#2495, haotian-liu/LLaVA#1433, deepspeedai/DeepSpeed#7303).",
            zh="DeepSpeed 自己的调度器会取代 Trainer 的调度器，而且没有任何提示：要的是余弦，得到的是常数（hiyouga/LLaMA-Factory#2495、haotian-liu/LLaVA#1433、deepspeedai/DeepSpeed#7303）。",
        ),
        fix=Text(
            en="Remove the scheduler block; the Trainer's schedule then reaches DeepSpeed as it is. gogpt check FILE draws what the block would have done.",
            zh="删除 scheduler 一节，Trainer 的计划就会原样交给 DeepSpeed。gogpt check FILE 会画出该节实际的学习率。",
        ),
        example="""error CFG260 ds.json:20: the file's scheduler WarmupLR replaces the run's lr_scheduler_type, and it never decays: after the warm-up the learning rate stays at its peak, or rises
  fix: take scheduler out of the file, so that one place owns the schedule: gogpt check ds.json --fix OUT

# no "scheduler" in the file
{"zero_optimization": {"stage": 2}}""",
    ),
    fires=(
        Facts(engine=replace(ENGINE, scheduler="WarmupLR", scheduler_decays=False)),
        Facts(engine=replace(ENGINE, scheduler="WarmupDecayLR")),
        Facts(engine=replace(ENGINE, scheduler="WarmupLR", scheduler_decays=False, asked_schedule="cosine")),
    ),
    silent=(
        Facts(engine=ENGINE),
    ),
)
