"""RUN658: all trained tokens are one and the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import RUN, STEP, VITALS
from gogpt.facts import Facts, RunVitals, to_json
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

STEPS = 3
"""in a row"""

MESSAGE = Text(
    en="{share:.0%} of the trained tokens of the last {one_label_steps} steps are one and the same id (up to step {step}, "
    "{trained_tokens} trained tokens): whatever the prompt, the model learns to say that one token",
    zh="最近 {one_label_steps} 步中 {share:.0%} 的被训练 token 是同一个 id（至第 {step} 步，{trained_tokens} 个被训练的 token）：无论提示是什么，模型只会学说这一个 token",
)
FIX = Text(
    en="look at the painted tokens of a row (gogpt show FILE:ROW): data.train_on, data.template and data.max_length decide what is "
    "trained",
    zh="用 gogpt show FILE:ROW 查看一行中被训练的 token：data.train_on、data.template 和 data.max_length 决定训练什么",
)


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.run
    assert seen is not None
    vitals, last = seen.vitals, seen.last
    if last is None or last.one_label is None or vitals.one_label_steps < STEPS:
        return
    evidence = to_json({
        "step": last.step, "share": last.one_label, "one_label_steps": vitals.one_label_steps, "trained_tokens": last.trained_tokens,
        "tokens": last.tokens, "loss": last.loss, "grad_norm": last.grad_norm,
    })
    yield Finding(code="RUN658", severity=Severity.ERROR, message=MESSAGE, evidence=evidence, fix=FIX)


def _case(step: int = 200, /, **figures: object) -> Facts:
    return Facts(run=replace(RUN, last=replace(STEP, step=step), vitals=replace(VITALS, **figures)))  # type: ignore[arg-type]


CHECK = Check(
    code="RUN658",
    name="one_label",
    stage=Stage.RUN,
    severity=Severity.ERROR,
    needs=("run",),
    run=run,
    page=Page(
        title=Text(en="all labels are one token", zh="所有标签都是同一个 token"),
        what=Text(
            en="Whether in 3 steps in a row, each with 8 trained tokens or more, at least 99% of the trained tokens are one and the "
            "same id. They are counted in the batches themselves, after the collator.",
            zh="检查是否连续 3 步（每步至少 8 个被训练的 token）中至少 99% 的被训练 token 是同一个 id。计数取"
            "自整理之后的批次本身。",
        ),
        why=Text(
            en="Labels that a cut, a mask or a wrong offset left with the stop token alone, or with padding, give a loss that falls "
            "beautifully to 0: LLaMA-Factory 0.9.5 with a cutoff of 16 trained one token a row without a word; offsets of another "
            "tokenizer do the same (lm-sys/FastChat#2389; axolotl-ai-cloud/axolotl#2089).",
            zh="截断、掩码或错误的偏移只留下停止符或填充符作标签时，损失会漂亮地降到 0：LLaMA-Factory 0.9.5 在长度"
            " 16 处截断时每行只训练 1 个 token 而不作声；别的分词器的偏移也会如此（lm-sys/FastChat#23"
            "89；axolotl-ai-cloud/axolotl#2089）。",
        ),
        fix=Text(
            en="See in gogpt show which tokens of a row are painted. Raise data.max_length where answers are cut, and correct the "
            "template where the wrong part is trained.",
            zh="用 gogpt show 查看一行中哪些 token 被着色。答案被截断时提高 data.max_length，训练错了"
            "部分时修正模板。",
        ),
        example="""RUN658: 100% of the trained tokens of the last 3 steps are one and the same id (up to step 3, 3100 trained tokens): whatever the prompt, the model learns to say that one token
  fix:      look at the painted tokens of a row (gogpt show FILE:ROW): data.train_on, data.template and data.max_length decide what is trained

data:
  max_length: 2048
  train_on: assistant""",
    ),
    fires=(
        Facts(run=replace(RUN, last=replace(STEP, step=3, one_label=1.0), vitals=replace(VITALS, one_label_steps=3))),
    ),
    silent=(
        Facts(run=RUN),
        Facts(run=replace(RUN, last=None, planned_lr=None, vitals=RunVitals())),
        Facts(run=replace(RUN, last=replace(STEP, step=2, one_label=1.0), vitals=replace(VITALS, one_label_steps=2))),
        _case(one_label_steps=0),
    ),
)
