"""CFG212: the batch of an optimizer step is not a whole number of micro-batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import PLAN
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="train.batch_size is {batch_size}, but micro_batch_size {micro_batch_size} x accumulation {accumulation} x "
    "processes {world_size} = {product}",
    zh="train.batch_size 为 {batch_size}，但 micro_batch_size {micro_batch_size} × 累积 {accumulation} × 进程数 {world_size} = {product}",
)
FIX = Text(
    en="train.batch_size: {nearest} (a multiple of micro_batch_size x processes = {unit}), or another micro_batch_size",
    zh="设为 train.batch_size: {nearest}（micro_batch_size × 进程数 = {unit} 的倍数），或改 micro_batch_size",
)
FIX_ACCUMULATION = Text(
    en="gradient accumulation has to be {wanted} for this batch_size",
    zh="该 batch_size 需要的梯度累积步数是 {wanted}",
)


def run(facts: Facts) -> Iterator[Finding]:
    plan = facts.plan
    assert plan is not None
    unit = plan.micro_batch_size * plan.world_size
    product = unit * plan.accumulation
    if plan.batch_size == product:
        return
    below = plan.batch_size // unit * unit
    evidence = {
        "batch_size": plan.batch_size, "micro_batch_size": plan.micro_batch_size, "accumulation": plan.accumulation,
        "world_size": plan.world_size, "product": product, "unit": unit, "wanted": plan.batch_size // unit,
        "nearest": " | ".join(str(n) for n in (below, below + unit) if n > 0),
    }
    fix = FIX_ACCUMULATION if plan.batch_size % unit == 0 else FIX
    yield Finding(code="CFG212", severity=Severity.ERROR, message=MESSAGE, evidence=evidence, fix=fix)


CHECK = Check(
    code="CFG212",
    name="batch_not_divisible",
    stage=Stage.CONFIG,
    severity=Severity.ERROR,
    needs=("plan",),
    run=run,
    page=Page(
        title=Text(en="the batch size does not divide into micro-batches", zh="批大小不能被微批整除"),
        what=Text(
            en="Whether train.batch_size (the sequences of one optimizer step over all processes) equals micro_batch_size x "
            "gradient accumulation x processes.",
            zh="检查 train.batch_size（一个优化步在所有进程上的序列数）是否等于 micro_batch_size × 梯度累积 × 进程数。",
        ),
        why=Text(
            en="Otherwise the batch would have to be rounded: the run would train with another batch size than the recipe says, "
            "take another number of steps, and follow another learning rate curve.",
            zh="否则只能对批大小取整：实际批大小、步数和学习率曲线都会与配方不符。",
        ),
        fix=Text(
            en="Choose a batch_size that is a multiple of micro_batch_size x parallel.processes; accumulation follows from it. "
            "When batch_size is smaller than that product, lower micro_batch_size.",
            zh="选择 micro_batch_size × parallel.processes 的倍数作为 batch_size，梯度累积由此得出。"
            "若 batch_size 比该乘积还小，请调小 micro_batch_size。",
        ),
        example="""error CFG212: train.batch_size is 10, but micro_batch_size 4 x accumulation 2 x processes 1 = 8
  fix: train.batch_size: 8 | 12 (a multiple of micro_batch_size x processes = 4), or another micro_batch_size

train:
  batch_size: 12
  micro_batch_size: 4""",
    ),
    fires=(
        Facts(plan=replace(PLAN, batch_size=10, accumulation=2)),
        Facts(plan=replace(PLAN, batch_size=2, accumulation=1)),
        Facts(plan=replace(PLAN, batch_size=16, world_size=3, accumulation=1)),
        Facts(plan=replace(PLAN, batch_size=16, accumulation=2)),
    ),
    silent=(
        Facts(plan=PLAN),
        Facts(plan=replace(PLAN, batch_size=64, world_size=8, accumulation=2)),
        Facts(plan=replace(PLAN, batch_size=4, accumulation=1)),
    ),
)
