"""RUN652: the gradient norm is many times its usual one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import RUN, STEP, VITALS
from gogpt.facts import Facts, RunVitals, to_json
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

STEPS = 8
"""in a row"""

MESSAGE = Text(
    en="the gradient norm has been {grad_now:.4g} for {exploding_steps} steps (up to step {step}), where {grad_usual:.4g} was usual "
    "and {grad_early:.4g} at the start",
    zh="梯度范数已连续 {exploding_steps} 步约为 {grad_now:.4g}（至第 {step} 步），通常为 {grad_usual:.4g}，起初为 {grad_early:.4g}",
)
FIX = Text(
    en="lower train.learning_rate; keep train.max_grad_norm at 1; see whether loss or data changed at that step",
    zh="降低 train.learning_rate；train.max_grad_norm 保持为 1；检查那一步的损失或数据有无变化",
)


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.run
    assert seen is not None
    vitals, last = seen.vitals, seen.last
    if last is None or vitals.exploding_steps < STEPS:
        return
    evidence = to_json({
        "step": last.step, "grad_norm": last.grad_norm, "grad_now": vitals.grad_now, "grad_usual": vitals.grad_usual, "grad_early": vitals.grad_early,
        "exploding_steps": vitals.exploding_steps, "loss": last.loss, "lr": last.lr,
    })
    yield Finding(code="RUN652", severity=Severity.WARNING, message=MESSAGE, evidence=evidence, fix=FIX)


def _case(step: int = 200, /, **figures: object) -> Facts:
    return Facts(run=replace(RUN, last=replace(STEP, step=step), vitals=replace(VITALS, **figures)))  # type: ignore[arg-type]


CHECK = Check(
    code="RUN652",
    name="gradient_explodes",
    stage=Stage.RUN,
    severity=Severity.WARNING,
    needs=("run",),
    run=run,
    page=Page(
        title=Text(en="the gradient norm explodes", zh="梯度范数爆炸"),
        what=Text(
            en="Whether the gradient norm (before clipping) of 8 steps in a row is more than 30 times the median of the last 64 usual "
            "steps, and more than 5 times that of the first 16.",
            zh="检查（裁剪前的）梯度范数是否连续 8 步超过最近 64 个正常步中位数的 30 倍，且超过最初 16 步的 5 倍。",
        ),
        why=Text(
            en="Clipping hides it: every step then has the same length, in a direction that noise decides, and the loss follows later "
            "or becomes NaN (ironjr/grokfast#9; FoundationVision/Infinity#48; hustvl/LENS#18).",
            zh="梯度裁剪会掩盖它：每一步长度相同，方向却由噪声决定，随后损失上升或变成 NaN（ironjr/grokfast#9；Fo"
            "undationVision/Infinity#48；hustvl/LENS#18）。",
        ),
        fix=Text(
            en="Lower the learning rate, and clip. If it begins at one step and stays, something changed there: a loss that is scaled "
            "twice, another source of rows, a layer in half precision.",
            zh="降低学习率并启用裁剪。若从某一步起一直如此，那里必有变化：损失被重复缩放、换了数据源、某层成了半精度。",
        ),
        example="""RUN652: the gradient norm has been 61.3 for 8 steps (up to step 200), where 0.61 was usual and 0.94 at the start
  fix:      lower train.learning_rate; keep train.max_grad_norm at 1; see whether loss or data changed at that step

train:
  learning_rate: 2e-5
  max_grad_norm: 1.0""",
    ),
    fires=(
        _case(exploding_steps=8, grad_now=61.3),
    ),
    silent=(
        Facts(run=RUN),
        Facts(run=replace(RUN, last=None, planned_lr=None, vitals=RunVitals())),
        _case(exploding_steps=7, grad_now=61.3),
    ),
)
