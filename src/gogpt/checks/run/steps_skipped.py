"""RUN654: the fp16 loss scaler skips many steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import RUN, STEP, VITALS
from gogpt.facts import Facts, RunVitals, to_json
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

SHARE = 0.25
"""of the last 64 steps"""

IN_ROW = 8

MESSAGE = Text(
    en="the fp16 loss scaler skipped {skips_recent} of the last {skips_of} steps, {skips_in_row} in a row up to step {step} ({skips} "
    "in all): their rows are not learned, and the schedule falls behind",
    zh="fp16 损失缩放器跳过了最近 {skips_of} 步中的 {skips_recent} 步，至第 {step} 步连续 {skips_in_row} 步（共 {skips} 步）：这些数据没有学到，学习率计划也会落后",
)
FIX = Text(
    en="train.precision: bf16 or fp32; or lower train.learning_rate",
    zh="设为 train.precision: bf16 或 fp32；或降低 train.learning_rate",
)


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.run
    assert seen is not None
    vitals, last = seen.vitals, seen.last
    if last is None or not (vitals.skips_in_row >= IN_ROW or (vitals.skips_of == 64 and vitals.skips_recent >= SHARE * vitals.skips_of)):
        return
    evidence = to_json({
        "step": last.step, "skips": vitals.skips, "skips_recent": vitals.skips_recent, "skips_of": vitals.skips_of, "skips_in_row": vitals.skips_in_row,
        "share": SHARE, "in_row": IN_ROW, "grad_norm": last.grad_norm, "loss": last.loss,
    })
    yield Finding(code="RUN654", severity=Severity.WARNING, message=MESSAGE, evidence=evidence, fix=FIX)


def _case(step: int = 200, /, **figures: object) -> Facts:
    return Facts(run=replace(RUN, last=replace(STEP, step=step), vitals=replace(VITALS, **figures)))  # type: ignore[arg-type]


CHECK = Check(
    code="RUN654",
    name="steps_skipped",
    stage=Stage.RUN,
    severity=Severity.WARNING,
    needs=("run",),
    run=run,
    page=Page(
        title=Text(en="fp16 skips many steps", zh="fp16 跳过了许多步"),
        what=Text(
            en="Steps that the fp16 loss scaler left out because a gradient overflowed, the first 20 apart (the scale starts at 65,536"
            " and must find its value): a quarter of the last 64, or 8 in a row. 20 in a row stop the run (RUN604).",
            zh="fp16 损失缩放器因梯度溢出而跳过的步（前 20 步除外：缩放值从 65,536 开始，需要找到合适的大小）：最近 6"
            "4 步中的四分之一，或连续 8 步。连续 20 步会停止训练（RUN604）。",
        ),
        why=Text(
            en="A skipped step costs its time and teaches nothing, silently; the learning rate of the log stays at 0 or behind "
            "(huggingface/transformers#33086; QwenLM/Qwen3#670).",
            zh="被跳过的步花了时间却什么也没学，而且不作声；日志中的学习率停在 0 或落后（huggingface/transforme"
            "rs#33086；QwenLM/Qwen3#670）。",
        ),
        fix=Text(
            en="Use bf16 where the device computes it, else fp32. With fp16 keep trained weights in float32 (model.dtype: auto) and "
            "lower the learning rate.",
            zh="设备支持时用 bf16，否则用 fp32。必须用 fp16 时，被训练的权重保持 float32（model.dtype"
            ": auto），并降低学习率。",
        ),
        example="""RUN654: the fp16 loss scaler skipped 17 of the last 64 steps, 1 in a row up to step 200 (19 in all): their rows are not learned, and the schedule falls behind
  fix:      train.precision: bf16 or fp32; or lower train.learning_rate

train:
  precision: bf16""",
    ),
    fires=(
        _case(skips=19, skips_recent=17, skips_of=64, skips_in_row=1),
        _case(40, skips=8, skips_recent=8, skips_of=20, skips_in_row=8),
    ),
    silent=(
        Facts(run=RUN),
        Facts(run=replace(RUN, last=None, planned_lr=None, vitals=RunVitals())),
        _case(skips=3, skips_recent=2, skips_of=64),
        _case(30, skips=4, skips_recent=4, skips_of=10, skips_in_row=4),
    ),
)
