"""RUN667: the loss never moves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import PAST
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

SPREAD = 0.002
"""Of the mean loss: batches of different text differ by more even where nothing is learned."""
MIN_RECORDS = 20

MESSAGE = Text(
    en="the loss is {early} at the start and {late} at the end, and all {records} records lie within {percent}% of each other: nothing is learned",
    zh="损失开始时为 {early}，结束时为 {late}，全部 {records} 条记录相差不超过 {percent}%：什么也没有学到",
)
FIX = Text(
    en="see that the trained weights are in the optimizer and get a gradient (gradient_checkpointing with LoRA needs enable_input_require_grads), and that the learning rate is not "
    "a thousand times too low",
    zh="确认被训练的权重在优化器中且得到梯度（LoRA 与 gradient_checkpointing 同用需要 enable_input_require_grads），并确认学习率没有低一千倍",
)


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.history
    assert seen is not None
    if seen.num_losses < MIN_RECORDS or seen.loss_spread is None or not seen.early_loss or seen.late_loss is None or seen.loss_spread >= SPREAD:
        return
    evidence = {"early": seen.early_loss, "late": seen.late_loss, "records": seen.num_losses, "spread": seen.loss_spread, "percent": round(100 * seen.loss_spread, 3)}
    yield Finding(code="RUN667", severity=Severity.WARNING, message=MESSAGE, evidence=evidence, fix=FIX, where=seen.path)


CHECK = Check(
    code="RUN667",
    name="loss_flat",
    stage=Stage.HISTORY,
    severity=Severity.WARNING,
    needs=("history",),
    run=run,
    page=Page(
        title=Text(en="the loss never moves", zh="损失始终不变"),
        what=Text(
            en="Whether all logged losses (20 or more) lie within 0.2% of each other. A loss that is only noisy, or falls slowly, is no finding.",
            zh="检查全部记录的损失（至少 20 条）是否相差不超过 0.2%。仅仅有噪声或下降缓慢的不报。",
        ),
        why=Text(
            en="A run can compute a loss to its end without learning: LoRA with gradient checkpointing and no gradient (microsoft/LoRA#120), weights that are "
            "not in the optimizer, updates that bf16 rounds away.",
            zh="训练可以一直算着损失却什么也没学：LoRA 与梯度检查点同用而没有梯度（microsoft/LoRA#120）、权重不在优化器中、更新被 bf16 舍去。",
        ),
        fix=Text(en="Look at the logged gradient norms: 0 means that no gradient arrives (RUN668); above 0 the update does not.", zh="查看记录的梯度范数：为 0 说明梯度没有到达（RUN668）；大于 0 说明更新没有生效。"),
        example="""warning RUN667 out: the loss is 2.1034 at the start and 2.1031 at the end, and all 30 records lie within 0.06% of each other: nothing is learned
  fix: see that the trained weights are in the optimizer and get a gradient (gradient_checkpointing with LoRA needs enable_input_require_grads), and that the learning rate is not a thousand times too low

train:
  learning_rate: 2e-4""",
    ),
    fires=(Facts(history=replace(PAST, early_loss=2.1034, late_loss=2.1031, loss_spread=0.0006)),),
    silent=(Facts(history=PAST), Facts(history=replace(PAST, loss_spread=0.01)), Facts(history=replace(PAST, num_losses=12, loss_spread=0.0005))),
)
