"""RUN657: the loss is nearly 0 before the data was seen twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import RUN, STEP, VITALS
from gogpt.facts import Facts, RunVitals, to_json
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

STEPS = 5
"""in a row"""

MESSAGE = Text(
    en="the loss of the last {tiny_steps} steps is below 0.01 ({loss:.3g} at step {step}, gradient norm {grad_norm}) while every row "
    "is still seen for the first time: the answers stand in their prompts, are all alike, or are known to the model already",
    zh="最近 {tiny_steps} 步的损失低于 0.01（第 {step} 步为 {loss:.3g}，梯度范数 {grad_norm}），而每一行都还是第一次见到：答案就在提示中、千篇一律，或模型早已见过",
)
FIX = Text(
    en="look at the painted tokens of a row (gogpt show FILE:ROW): is the answer in the prompt? gogpt data inspect shows answers that"
    " repeat",
    zh="用 gogpt show FILE:ROW 查看一行中被训练的 token：答案是否已在提示里？gogpt data inspect 会列出重复的答案",
)


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.run
    assert seen is not None
    vitals, last = seen.vitals, seen.last
    if last is None or vitals.tiny_steps < STEPS:
        return
    evidence = to_json({
        "step": last.step, "loss": last.loss, "grad_norm": last.grad_norm, "tiny_steps": vitals.tiny_steps, "epoch_steps": vitals.epoch_steps,
        "loss_start": vitals.loss_start, "trained_tokens": last.trained_tokens, "lr": last.lr,
    })
    yield Finding(code="RUN657", severity=Severity.WARNING, message=MESSAGE, evidence=evidence, fix=FIX)


def _case(step: int = 200, /, **figures: object) -> Facts:
    return Facts(run=replace(RUN, last=replace(STEP, step=step), vitals=replace(VITALS, **figures)))  # type: ignore[arg-type]


CHECK = Check(
    code="RUN657",
    name="loss_too_small",
    stage=Stage.RUN,
    severity=Severity.WARNING,
    needs=("run",),
    run=run,
    page=Page(
        title=Text(en="the loss is too small to be true", zh="损失小得不真实"),
        what=Text(
            en="Whether 5 steps in a row have a loss above 0 and below 0.01 with a gradient above 0, before the first epoch is over. "
            "Later a small data set is learned by heart, which is no surprise.",
            zh="检查在第一轮结束之前，是否连续 5 步损失大于 0 而低于 0.01，且梯度大于 0。此后小数据集被背下来并不奇怪。",
        ),
        why=Text(
            en="Text that was not seen before cannot be foretold that well. A tiny loss with a tiny gradient is what an answer looks "
            "like that stands in its own prompt, or a training set that the model was trained on before: the run looks wonderful "
            "and teaches nothing (shibing624/MedicalGPT#252; tloen/alpaca-lora#391).",
            zh="没见过的文本不可能预测得这么准。损失和梯度都极小，正是答案出现在自己提示里、或模型早已训练过这批数据的样子：训练看起来极"
            "好，却什么也没教（shibing624/MedicalGPT#252；tloen/alpaca-lora#391）。",
        ),
        fix=Text(
            en="Look at a few rows. If the answers are meant to be that regular (one word out of a few), there is little to train: "
            "stop early.",
            zh="看几行数据。如果答案本来就这么规整（几个词里选一个），那就没多少可训练的：尽早停止。",
        ),
        example="""RUN657: the loss of the last 5 steps is below 0.01 (0.0042 at step 120, gradient norm 0.013) while every row is still seen for the first time: the answers stand in their prompts, are all alike, or are known to the model already
  fix:      look at the painted tokens of a row (gogpt show FILE:ROW): is the answer in the prompt? gogpt data inspect shows answers that repeat

data:
  clean: {duplicates: near}""",
    ),
    fires=(
        Facts(run=replace(RUN, last=replace(STEP, step=120, loss=0.0042, grad_norm=0.013), vitals=replace(VITALS, tiny_steps=5))),
    ),
    silent=(
        Facts(run=RUN),
        Facts(run=replace(RUN, last=None, planned_lr=None, vitals=RunVitals())),
        _case(tiny_steps=4),
    ),
)
