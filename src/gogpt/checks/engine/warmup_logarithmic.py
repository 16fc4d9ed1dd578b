"""CFG265: a logarithmic warm-up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import ENGINE
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

DEFAULT = Text(
    en="{scheduler} has no warmup_type: it warms up logarithmically, not linearly, and is at half its peak after the square root of the warm-up steps",
    zh="{scheduler} 没有 warmup_type：预热按对数而不是线性上升，只需预热步数的平方根步就到峰值的一半",
)
ASKED = Text(
    en="{scheduler} warms up by {type}, which DeepSpeed takes as log: at half its peak after the square root of the warm-up steps",
    zh="{scheduler} 的 warmup_type 为 {type}，DeepSpeed 按 log 处理：只需预热步数的平方根步就到峰值的一半",
)
FIX = Text(
    en="take scheduler out of the file (gogpt check {path} --fix OUT), or write \"warmup_type\": \"linear\"",
    zh="从文件中去掉 scheduler（gogpt check {path} --fix OUT），或写明 \"warmup_type\": \"linear\"",
)


def run(facts: Facts) -> Iterator[Finding]:
    file = facts.engine
    assert file is not None
    if file.scheduler not in ("WarmupLR", "WarmupDecayLR", "WarmupCosineLR") or file.warmup_type == "linear":
        return
    yield Finding(code="CFG265", severity=Severity.WARNING, message=DEFAULT if file.warmup_type is None else ASKED, fix=FIX,
                  evidence={"path": file.path, "scheduler": file.scheduler, "type": file.warmup_type or "log"},
                  where=file.at("scheduler.params.warmup_type", "scheduler"))


CHECK = Check(
    code="CFG265",
    name="warmup_logarithmic",
    stage=Stage.ENGINE,
    severity=Severity.WARNING,
    needs=("engine",),
    run=run,
    page=Page(
        title=Text(en="a DeepSpeed warm-up that is logarithmic", zh="DeepSpeed 预热按对数上升"),
        what=Text(
            en="Whether DeepSpeed's warm-up schedulers warm up linearly, as the Trainer's do. Without warmup_type, or with any word but linear, they take log.",
            zh="检查 DeepSpeed 的预热调度器是否像 Trainer 那样线性预热。没有 warmup_type，或写的不是 linear，就按 log 处理。",
        ),
        why=Text(
            en="With 100 warm-up steps the rate is at half its peak after 10 of them, not 50: the steep start that a warm-up is there to avoid.",
            zh="预热 100 步时，第 10 步就到了峰值的一半，而不是第 50 步：这正是预热想要避免的陡升。",
        ),
        fix=Text(
            en="Leave the schedule to the Trainer, or write warmup_type: linear.",
            zh="把学习率计划交给 Trainer，或写明 warmup_type: linear。",
        ),
        example="""warning CFG265 ds.json:20: WarmupDecayLR has no warmup_type: it warms up logarithmically, not linearly, and is at half its peak after the square root of the warm-up steps
  fix: take scheduler out of the file (gogpt check ds.json --fix OUT), or write "warmup_type": "linear"

"params": {"warmup_type": "linear"}""",
    ),
    fires=(
        Facts(engine=replace(ENGINE, scheduler="WarmupDecayLR")),
        Facts(engine=replace(ENGINE, scheduler="WarmupLR", warmup_type="log")),
    ),
    silent=(
        Facts(engine=ENGINE),
        Facts(engine=replace(ENGINE, scheduler="WarmupLR", warmup_type="linear")),
        Facts(engine=replace(ENGINE, scheduler="OneCycle")),
    ),
)
