"""RUN653: the gradient norm has nearly gone while the loss has not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import RUN, STEP, VITALS
from gogpt.facts import Facts, RunVitals, to_json
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

STEPS = 16
"""in a row"""

MESSAGE = Text(
    en="the gradient norm has been {grad_now:.3g} for {vanishing_steps} steps (up to step {step}), less than a thousandth of the "
    "{grad_early:.3g} at the start, while the loss is still {loss:.4f}",
    zh="梯度范数已连续 {vanishing_steps} 步约为 {grad_now:.3g}（至第 {step} 步），不到起初 {grad_early:.3g} 的千分之一，而损失仍为 {loss:.4f}",
)
FIX = Text(
    en="see what cuts the gradient off: train.gradient_checkpointing, a loss that is scaled down, weights in half precision "
    "(model.dtype)",
    zh="查明梯度被何处截断：train.gradient_checkpointing、被缩小的损失、半精度的权重（model.dtype）",
)


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.run
    assert seen is not None
    vitals, last = seen.vitals, seen.last
    if last is None or vitals.vanishing_steps < STEPS:
        return
    evidence = to_json({
        "step": last.step, "grad_norm": last.grad_norm, "grad_now": vitals.grad_now, "grad_usual": vitals.grad_usual, "grad_early": vitals.grad_early,
        "vanishing_steps": vitals.vanishing_steps, "loss": last.loss, "lr": last.lr,
    })
    yield Finding(code="RUN653", severity=Severity.WARNING, message=MESSAGE, evidence=evidence, fix=FIX)


def _case(step: int = 200, /, **figures: object) -> Facts:
    return Facts(run=replace(RUN, last=replace(STEP, step=step), vitals=replace(VITALS, **figures)))  # type: ignore[arg-type]


CHECK = Check(
    code="RUN653",
    name="gradient_vanishes",
    stage=Stage.RUN,
    severity=Severity.WARNING,
    needs=("run",),
    run=run,
    page=Page(
        title=Text(en="the gradient norm vanishes", zh="梯度范数消失"),
        what=Text(
            en="Whether the gradient norm of 16 steps in a row is below a thousandth of the median of the first 16 steps, while the "
            "loss is above half of what it was then. A gradient that falls with the loss is what learning by heart looks like, and "
            "is no fault.",
            zh="检查梯度范数是否连续 16 步低于最初 16 步中位数的千分之一，而损失仍高于当初的一半。梯度随损失一起下降是记住数据的"
            "样子，不算故障。",
        ),
        why=Text(
            en="A gradient that is cut off or scaled away trains nothing, and an optimizer that divides by its own size (Adam) makes "
            "steps of pure rounding noise out of it (microsoft/LoRA#120; QwenLM/Qwen3#771, where the norm was 2e-5 and then 4e-6).",
            zh="被截断或被缩没的梯度训练不了任何东西，而会除以自身大小的优化器（Adam）会把舍入噪声放大成更新（microsoft/L"
            "oRA#120；QwenLM/Qwen3#771，范数先是 2e-5，后为 4e-6）。",
        ),
        fix=Text(
            en="Switch gradient_checkpointing off to see whether it is the cause; train in float32 or bf16; look at the step at which "
            "it began.",
            zh="先关闭 gradient_checkpointing 看是否为其所致；用 float32 或 bf16 训练；查看从哪一"
            "步开始。",
        ),
        example="""RUN653: the gradient norm has been 2.1e-06 for 16 steps (up to step 200), less than a thousandth of the 0.94 at the start, while the loss is still 1.8421
  fix:      see what cuts the gradient off: train.gradient_checkpointing, a loss that is scaled down, weights in half precision (model.dtype)

train:
  gradient_checkpointing: false
  precision: bf16""",
    ),
    fires=(
        _case(vanishing_steps=16, grad_now=2.1e-06),
    ),
    silent=(
        Facts(run=RUN),
        Facts(run=replace(RUN, last=None, planned_lr=None, vitals=RunVitals())),
        _case(vanishing_steps=15, grad_now=2.1e-06),
    ),
)
