"""CFG263: a warm-up without its length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import ENGINE
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="{scheduler} has no warmup_num_steps: it warms up for {default} steps, however short the run is",
    zh="{scheduler} 没有 warmup_num_steps：无论训练多短，都会预热 {default} 步",
)
FIX = Text(
    en="take scheduler out of the file (gogpt check {path} --fix OUT), or write warmup_num_steps",
    zh="从文件中去掉 scheduler（gogpt check {path} --fix OUT），或写明 warmup_num_steps",
)


def run(facts: Facts) -> Iterator[Finding]:
    file = facts.engine
    assert file is not None
    if file.scheduler not in ("WarmupLR", "WarmupDecayLR", "WarmupCosineLR") or "warmup_num_steps" in file.scheduler_keys:
        return
    yield Finding(code="CFG263", severity=Severity.WARNING, message=MESSAGE,
                  evidence={"path": file.path, "scheduler": file.scheduler, "default": 1000}, fix=FIX, where=file.at("scheduler"))


CHECK = Check(
    code="CFG263",
    name="warmup_steps_missing",
    stage=Stage.ENGINE,
    severity=Severity.WARNING,
    needs=("engine",),
    run=run,
    page=Page(
        title=Text(en="a DeepSpeed warm-up without warmup_num_steps", zh="DeepSpeed 预热缺少 warmup_num_steps"),
        what=Text(
            en="Whether DeepSpeed's warm-up schedulers say how long they warm up.",
            zh="检查 DeepSpeed 的预热调度器是否写明预热多少步。",
        ),
        why=Text(
            en="The default is 1,000 steps. Many fine-tunes are shorter: they end before the learning rate has reached its peak.",
            zh="默认是 1000 步。很多微调比这更短，学习率还没到峰值训练就结束了。",
        ),
        fix=Text(
            en="Leave the schedule to the Trainer, or write warmup_num_steps (auto: the Trainer's warm-up).",
            zh="把学习率计划交给 Trainer，或写明 warmup_num_steps（auto：Trainer 的预热步数）。",
        ),
        example="""warning CFG263 ds.json:20: WarmupLR has no warmup_num_steps: it warms up for 1000 steps, however short the run is
  fix: take scheduler out of the file (gogpt check ds.json --fix OUT), or write warmup_num_steps

"scheduler": {"type": "WarmupLR", "params": {"warmup_max_lr": "auto", "warmup_num_steps": "auto"}}""",
    ),
    fires=(
        Facts(engine=replace(ENGINE, scheduler="WarmupLR", scheduler_keys=("warmup_max_lr",))),
    ),
    silent=(
        Facts(engine=ENGINE),
        Facts(engine=replace(ENGINE, scheduler="WarmupLR", scheduler_keys=("warmup_num_steps",))),
        Facts(engine=replace(ENGINE, scheduler="OneCycle")),
    ),
)
