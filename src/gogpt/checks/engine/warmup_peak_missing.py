"""CFG262: a warm-up without its peak."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import ENGINE
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="{scheduler} has no warmup_max_lr: it warms up to {default}, whatever the run asks for",
    zh="{scheduler} 没有 warmup_max_lr：无论训练要求多少，预热都会升到 {default}",
)
DEPENDS = Text(
    en="{scheduler} has no warmup_max_lr: it warms up to the optimizer's own rate in DeepSpeed 0.19.8, and to {default} in older versions",
    zh="{scheduler} 没有 warmup_max_lr：在 DeepSpeed 0.19.8 中预热到优化器自己的学习率，在旧版本中预热到 {default}",
)
FIX = Text(
    en="take scheduler out of the file (gogpt check {path} --fix OUT), or write warmup_max_lr",
    zh="从文件中去掉 scheduler（gogpt check {path} --fix OUT），或写明 warmup_max_lr",
)


def run(facts: Facts) -> Iterator[Finding]:
    file = facts.engine
    assert file is not None
    if file.scheduler not in ("WarmupLR", "WarmupDecayLR") or "warmup_max_lr" in file.scheduler_keys:
        return
    yield Finding(code="CFG262", severity=Severity.ERROR, message=DEPENDS if file.scheduler == "WarmupLR" else MESSAGE,
                  evidence={"path": file.path, "scheduler": file.scheduler, "default": 0.001}, fix=FIX, where=file.at("scheduler"))


CHECK = Check(
    code="CFG262",
    name="warmup_peak_missing",
    stage=Stage.ENGINE,
    severity=Severity.ERROR,
    needs=("engine",),
    run=run,
    page=Page(
        title=Text(en="a DeepSpeed warm-up without warmup_max_lr", zh="DeepSpeed 预热缺少 warmup_max_lr"),
        what=Text(
            en="Whether WarmupLR and WarmupDecayLR say to which learning rate they warm up.",
            zh="检查 WarmupLR 和 WarmupDecayLR 是否写明预热到多大的学习率。",
        ),
        why=Text(
            en="The default is 0.001, not the learning rate of the run or of the optimizer block (WarmupLR takes the latter from DeepSpeed 0.19.8 on at the latest; WarmupDecayLR does not).",
            zh="默认值是 0.001，而不是训练或 optimizer 一节的学习率（WarmupLR 最迟从 DeepSpeed 0.19.8 起取后者，WarmupDecayLR 则没有）。",
        ),
        fix=Text(
            en="Leave the schedule to the Trainer, or write warmup_max_lr (auto: the Trainer's learning rate).",
            zh="把学习率计划交给 Trainer，或写明 warmup_max_lr（auto：Trainer 的学习率）。",
        ),
        example="""error CFG262 ds.json:20: WarmupDecayLR has no warmup_max_lr: it warms up to 0.001, whatever the run asks for
  fix: take scheduler out of the file (gogpt check ds.json --fix OUT), or write warmup_max_lr

"scheduler": {"type": "WarmupDecayLR", "params": {"warmup_max_lr": "auto", "warmup_num_steps": "auto", "total_num_steps": "auto"}}""",
    ),
    fires=(
        Facts(engine=replace(ENGINE, scheduler="WarmupDecayLR", scheduler_keys=("warmup_min_lr",))),
        Facts(engine=replace(ENGINE, scheduler="WarmupLR")),
    ),
    silent=(
        Facts(engine=ENGINE),
        Facts(engine=replace(ENGINE, scheduler="WarmupLR", scheduler_keys=("warmup_max_lr",))),
        Facts(engine=replace(ENGINE, scheduler="WarmupCosineLR")),
    ),
)
