"""RUN603: the loss of a step is exactly 0."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import PAST, RUN, STEP
from gogpt.facts import Facts, HistoryFacts, RunFacts, StepStats, to_json
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

NO_TOKEN = Text(
    en="the loss is exactly 0 at step {step}: none of its {tokens} tokens is trained",
    zh="第 {step} 步的损失恰为 0：其 {tokens} 个 token 都没有被训练",
)
HIDDEN_NAN = Text(
    en="the loss is exactly 0 at step {step} and the gradient norm {grad_norm}: a NaN, hidden by a logging filter",
    zh="第 {step} 步的损失恰为 0，而梯度范数为 {grad_norm}：这是被日志过滤器掩盖的 NaN",
)
NO_GRADIENT = Text(
    en="the loss is exactly 0 at step {step} with {trained_tokens} trained tokens (gradient norm {grad_norm}): a NaN hidden by a "
    "filter, or an answer that is memorised or leaked into its prompt",
    zh="第 {step} 步的损失恰为 0，却有 {trained_tokens} 个被训练的 token（梯度范数 {grad_norm}）：被过滤器掩盖的 NaN，或答案已被记住、泄漏到提示中",
)
GRADIENT = Text(
    en="the loss is exactly 0 at step {step} with {trained_tokens} trained tokens and a gradient norm of {grad_norm}: the answers are "
    "memorised, or leak into their prompts",
    zh="第 {step} 步的损失恰为 0，有 {trained_tokens} 个被训练的 token，梯度范数为 {grad_norm}：答案已被记住，或泄漏到提示中",
)
ONE_LABEL = Text(
    en="the loss is exactly 0 at step {step}: {share:.0%} of its {trained_tokens} trained tokens are one and the same id (gradient norm {grad_norm})",
    zh="第 {step} 步的损失恰为 0：其 {trained_tokens} 个被训练的 token 中有 {share:.0%} 是同一个 id（梯度范数 {grad_norm}）",
)
UNKNOWN = Text(
    en="the loss is exactly 0 at step {step} (gradient norm {grad_norm}): every label masked, or a NaN hidden by a logging filter",
    zh="第 {step} 步的损失恰为 0（梯度范数 {grad_norm}）：所有标签都被屏蔽，或是被日志过滤器掩盖的 NaN",
)
LOGGED_NAN = Text(
    en="the loss is 0.0 since step {step}, after {before}, with a gradient norm of {grad_norm}: NaN, hidden as 0.0 by the logging filter; the model is dead",
    zh="损失从第 {step} 步起为 0.0（此前为 {before}），而梯度范数为 {grad_norm}：这是被日志过滤器显示为 0.0 的 NaN，模型已报废",
)
NAN_FROM_START = Text(
    en="the loss is 0.0 from the first record on, with a gradient norm of {grad_norm}: NaN, hidden as 0.0 by the logging filter; the model is dead",
    zh="损失从第一条记录起就是 0.0，而梯度范数为 {grad_norm}：这是被日志过滤器显示为 0.0 的 NaN，模型已报废",
)
LOGGED_HIDDEN = Text(
    en="the loss is 0.0 since step {step}, after {before}, and never recovers: NaN, hidden as 0.0 by the logging filter; the model is dead",
    zh="损失从第 {step} 步起为 0.0（此前为 {before}），再未恢复：这是被日志过滤器显示为 0.0 的 NaN，模型已报废",
)
LINE_NAN = Text(
    en="the loss is 0.0 since the log's record {step}, after {before}, with a gradient norm of {grad_norm}: NaN, hidden as 0.0 by the logging filter; the model is dead",
    zh="损失从日志的第 {step} 条记录起为 0.0（此前为 {before}），而梯度范数为 {grad_norm}：这是被日志过滤器显示为 0.0 的 NaN，模型已报废",
)
LINE_HIDDEN = Text(
    en="the loss is 0.0 since the log's record {step}, after {before}, and never recovers: NaN, hidden as 0.0 by the logging filter; the model is dead",
    zh="损失从日志的第 {step} 条记录起为 0.0（此前为 {before}），再未恢复：这是被日志过滤器显示为 0.0 的 NaN，模型已报废",
)
LOGGED_MASKED = Text(
    en="loss and gradient norm are exactly 0 in {zero_losses} of {records} records, from step {step} on: every label is masked, and nothing is learned",
    zh="{records} 条记录中有 {zero_losses} 条（从第 {step} 步起）损失与梯度范数恰为 0：所有标签都被屏蔽，什么也没有学到",
)
LOGGED_POSITIVE = Text(
    en="the loss is printed as 0 in {zero_losses} of {records} records, from step {step} on, with gradient norms up to {grad_norm}: the answers are memorised, or leak "
    "into their prompts",
    zh="{records} 条记录中有 {zero_losses} 条（从第 {step} 步起）损失显示为 0，梯度范数最大为 {grad_norm}：答案已被记住，或泄漏到提示中",
)
LOGGED_UNKNOWN = Text(
    en="the loss is exactly 0 in {zero_losses} of {records} records, from step {step} on, and no gradient norm is logged: every label masked, or NaN hidden by "
    "the logging filter",
    zh="{records} 条记录中有 {zero_losses} 条（从第 {step} 步起）损失恰为 0，且没有记录梯度范数：所有标签都被屏蔽，或是被日志过滤器掩盖的 NaN",
)
FIX_LOGGED = Text(
    en="start again from a checkpoint before that step, with a lower learning rate and bf16 or fp32 instead of fp16; set logging_nan_inf_filter=False to see NaN; "
    "look for rows without a trained token",
    zh="从该步之前的检查点重新开始，降低学习率，用 bf16 或 fp32 代替 fp16；设 logging_nan_inf_filter=False 以看到 NaN；检查是否有没有被训练 token 的行",
)
FIX_LABELS = Text(
    en="look at the painted tokens of a row (gogpt show FILE:ROW); raise data.max_length, or correct data.template and data.train_on",
    zh="用 gogpt show FILE:ROW 查看一行中被训练的 token；提高 data.max_length，或修正 data.template 和 data.train_on",
)
FIX_VALUES = Text(
    en="lower train.learning_rate, use bf16 or fp32 instead of fp16, and look for answers that stand in their own prompt",
    zh="降低 train.learning_rate，用 bf16 或 fp32 代替 fp16，并检查答案是否已出现在自己的提示中",
)

FIX_EITHER = Text(
    en="with a gradient norm of nan lower train.learning_rate; with 0 look at the painted tokens of a row (gogpt show FILE:ROW)",
    zh="梯度范数为 nan 时降低 train.learning_rate；为 0 时用 gogpt show FILE:ROW 查看一行中被训练的 token",
)


def run(facts: Facts) -> Iterator[Finding]:
    if facts.run is not None:
        yield from _of_a_run(facts.run)
    elif facts.history is not None:
        yield from _of_a_history(facts.history)


def _of_a_history(seen: HistoryFacts) -> Iterator[Finding]:
    """At the end of the records, or three in all: one line of 0 that recovers is not certain to be a fault."""
    if seen.zero_losses < 2 or (seen.zero_tail < 2 and seen.zero_losses < 3):
        return
    kind = seen.zero_grad
    if kind == "none" and (seen.before_zero is None or seen.zero_tail < seen.zero_losses):
        kind = "unknown"
    counted = seen.steps_from == "lines"
    message = {"nan": LINE_NAN if counted else LOGGED_NAN, "none": LINE_HIDDEN if counted else LOGGED_HIDDEN, "zero": LOGGED_MASKED,
               "positive": LOGGED_POSITIVE}.get(kind or "unknown", LOGGED_UNKNOWN)
    if message in (LOGGED_NAN, LINE_NAN) and seen.before_zero is None:
        message = NAN_FROM_START
    evidence = to_json({"step": seen.zero_step, "before": seen.before_zero, "grad_norm": seen.zero_grad_norm, "zero_losses": seen.zero_losses,
                        "zero_tail": seen.zero_tail, "records": seen.num_losses, "precision": seen.precision, "peak_lr": seen.peak_lr, "steps_from": seen.steps_from})
    fix = FIX_LABELS if kind == "zero" else FIX_VALUES if kind == "positive" else FIX_LOGGED
    yield Finding(code="RUN603", severity=Severity.ERROR, message=message, evidence=evidence, fix=fix, where=seen.zero_place or seen.path)


def _of_a_run(seen: RunFacts) -> Iterator[Finding]:
    last = seen.last
    if last is None or last.loss != 0.0:
        return
    evidence = to_json({
        "step": last.step, "loss": last.loss, "grad_norm": last.grad_norm, "trained_tokens": last.trained_tokens,
        "tokens": last.tokens, "lr": last.lr, "update_norm": last.update_norm, "zero_losses": seen.zero_losses, "share": last.one_label,
    })
    message = _signature(last)
    fix = {NO_TOKEN: FIX_LABELS, ONE_LABEL: FIX_LABELS, UNKNOWN: FIX_EITHER}.get(message, FIX_VALUES)
    yield Finding(code="RUN603", severity=Severity.ERROR, message=message, evidence=evidence, fix=fix)


def _signature(last: StepStats) -> Text:
    """What a loss of exactly 0 looks like from its other numbers. Logs of other trainers count no tokens."""
    if last.grad_norm is not None and not math.isfinite(last.grad_norm):
        return HIDDEN_NAN
    if last.trained_tokens == 0:
        return NO_TOKEN if last.tokens else UNKNOWN
    if last.one_label is not None and last.one_label >= 0.99:
        return ONE_LABEL
    return GRADIENT if last.grad_norm else NO_GRADIENT


ZERO = replace(STEP, loss=0.0)
DEAD = replace(PAST, zero_losses=25, zero_step=60, zero_tail=25, zero_grad="nan", zero_grad_norm=float("nan"), before_zero=3.8449)

CHECK = Check(
    code="RUN603",
    name="loss_exactly_zero",
    stage=Stage.RUN,
    severity=Severity.ERROR,
    needs=("run",),
    instead="history",
    run=run,
    page=Page(
        title=Text(en="the loss is exactly 0", zh="损失恰为 0"),
        what=Text(
            en="Whether the loss of the step is exactly 0.0, told apart by the other numbers: no trained token in the step; a "
            "gradient norm that is not finite; trained tokens that are all one and the same id; others, with or without a gradient. In a finished "
            "run's records: losses of 0 at their end, or three in all.",
            zh="检查该步损失是否恰为 0.0，并用其他数值区分：该步没有被训练的 token；梯度范数不是有限数；被训练的 token 全是同一个 id；其他情况，梯度有或没有。"
            "对已结束训练的记录：末尾的 0，或总共三条。",
        ),
        why=Text(
            en="Cross-entropy over real text is never exactly 0. A 0.0 in the log is either a batch whose labels are all masked "
            "(nothing is learned) or NaN that a filter replaced (the model is dead), and the run ends with exit code 0 "
            "(hiyouga/LLaMA-Factory#8088, #2810; yangjianxin1/Firefly#293; huggingface/trl#6702).",
            zh="真实文本上的交叉熵不会恰好为 0。日志中的 0.0 要么是整批标签都被屏蔽（什么也没学），要么是被过滤器替换的 NaN（模型已报废），"
            "而训练仍以退出码 0 结束（hiyouga/LLaMA-Factory#8088、#2810；yangjianxin1/Firefly#293；huggingface/trl#6702）。",
        ),
        fix=Text(
            en="No trained token: see TOK403 and gogpt show FILE:ROW. Gradient norm nan or inf: see RUN601. Trained tokens and a "
            "tiny gradient: look for duplicated rows, and for answers that stand in their own prompt.",
            zh="没有被训练的 token：见 TOK403 和 gogpt show FILE:ROW。梯度范数为 nan 或 inf：见 RUN601。有被训练的 token 而梯度极小："
            "检查重复的行，以及答案是否已出现在自己的提示中。",
        ),
        example="""RUN603: the loss is exactly 0 at step 40: none of its 7400 tokens is trained
  fix:      look at the painted tokens of a row (gogpt show FILE:ROW); raise data.max_length, or correct data.template and data.train_on

data:
  max_length: 2048
  train_on: assistant""",
    ),
    fires=(
        Facts(run=replace(RUN, zero_losses=1, last=replace(ZERO, trained_tokens=0, grad_norm=0.0))),
        Facts(run=replace(RUN, zero_losses=3, last=replace(ZERO, grad_norm=float("nan")))),
        Facts(run=replace(RUN, zero_losses=1, last=replace(ZERO, grad_norm=0.0))),
        Facts(run=replace(RUN, zero_losses=1, last=replace(ZERO, grad_norm=3e-9))),
        Facts(run=replace(RUN, zero_losses=1, last=replace(ZERO, one_label=1.0))),
        Facts(run=replace(RUN, zero_losses=1, last=replace(ZERO, trained_tokens=0, tokens=0, grad_norm=None))),
        Facts(history=DEAD),
        Facts(history=replace(DEAD, zero_grad="none", zero_grad_norm=None)),
        Facts(history=replace(DEAD, steps_from="lines")),
        Facts(history=replace(DEAD, steps_from="lines", zero_grad="none", zero_grad_norm=None)),
        Facts(history=replace(DEAD, before_zero=None)),
        Facts(history=replace(DEAD, zero_grad="zero", zero_grad_norm=0.0)),
        Facts(history=replace(DEAD, zero_grad="positive", zero_grad_norm=2e-5)),
        Facts(history=replace(DEAD, zero_tail=0, zero_losses=4, zero_grad="none", zero_grad_norm=None)),
    ),
    silent=(Facts(history=PAST), Facts(history=replace(DEAD, zero_losses=1, zero_tail=1)), Facts(history=replace(DEAD, zero_losses=2, zero_tail=0)), Facts(run=RUN), Facts(run=replace(RUN, last=replace(STEP, loss=1e-12))), Facts(run=replace(RUN, last=None))),
)
