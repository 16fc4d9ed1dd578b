"""RUN666: the fp16 loss scaler skipped many steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import PAST
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

SHARE = 0.05
"""Of the steps, beside those in which the scale is found. A scale that doubles every 1,000 to 2,000 steps overflows once each time."""

MESSAGE = Text(
    en="the fp16 loss scaler skipped {skipped} of {steps} steps ({percent}%): their batches taught nothing, and the schedule is as far behind",
    zh="fp16 损失缩放器跳过了 {steps} 步中的 {skipped} 步（{percent}%）：这些批次什么也没有教会，学习率计划也落后同样多",
)
FIX = Text(en="train in bf16 or fp32 (bf16: true, fp16: false), or lower the learning rate", zh="用 bf16 或 fp32 训练（bf16: true，fp16: false），或降低学习率")


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.history
    assert seen is not None
    if seen.skipped_steps is None or not seen.steps_seen or seen.skipped_late <= SHARE * seen.steps_seen:
        return
    evidence = {"skipped": seen.skipped_steps, "late": seen.skipped_late, "steps": seen.steps_seen, "percent": round(100 * seen.skipped_steps / seen.steps_seen)}
    yield Finding(code="RUN666", severity=Severity.WARNING, message=MESSAGE, evidence=evidence, fix=FIX, where=seen.path)


CHECK = Check(
    code="RUN666",
    name="skipped_share",
    stage=Stage.HISTORY,
    severity=Severity.WARNING,
    needs=("history",),
    run=run,
    page=Page(
        title=Text(en="many steps were skipped", zh="跳过的步过多"),
        what=Text(
            en="Of DeepSpeed's log lines (skipped=N, OVERFLOW! ... Skipping step): whether more than 5% of the steps were skipped, beside 30 in which the loss scale is found.",
            zh="根据 DeepSpeed 的日志行（skipped=N、OVERFLOW! ... Skipping step）：除用于寻找损失缩放的 30 步外，被跳过的步是否超过 5%。",
        ),
        why=Text(
            en="A skipped step changes no weight, and the scheduler waits with it, or does not (huggingface/transformers#33086). Models made for bf16 "
            "overflow in fp16 again and again (QwenLM/Qwen3#670; hiyouga/LLaMA-Factory#4901).",
            zh="被跳过的步不改变任何权重，调度器有的会等，有的不会（huggingface/transformers#33086）。为 bf16 训练的模型在 fp16 下会反复溢出"
            "（QwenLM/Qwen3#670；hiyouga/LLaMA-Factory#4901）。",
        ),
        fix=Text(en="Use the precision that the base was trained in, bf16 as a rule.", zh="使用基座训练时的精度，通常是 bf16。"),
        example="""warning RUN666 out: the fp16 loss scaler skipped 90 of 300 steps (30%): their batches taught nothing, and the schedule is as far behind
  fix: train in bf16 or fp32 (bf16: true, fp16: false), or lower the learning rate

train:
  precision: bf16""",
    ),
    fires=(Facts(history=replace(PAST, skipped_steps=90, skipped_late=60)),),
    silent=(Facts(history=PAST), Facts(history=replace(PAST, skipped_steps=18, skipped_late=0)), Facts(history=replace(PAST, skipped_steps=None, steps_seen=None))),
)
