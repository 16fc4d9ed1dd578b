"""RUN601: the loss or the gradient norm is not finite."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import PAST, RUN, STEP
from gogpt.facts import Facts, to_json
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="{what} was not finite at step {step} (loss {loss}, gradient norm {grad_norm}, learning rate {lr})",
    zh="第 {step} 步的 {what} 不是有限数（损失 {loss}，梯度范数 {grad_norm}，学习率 {lr}）",
)
AFTER = Text(
    en="the weights are damaged: lower train.learning_rate, and start again or from an earlier checkpoint",
    zh="权重已损坏：降低 train.learning_rate，重新开始，或从更早的检查点继续",
)
AT_START = Text(
    en="{what} was not finite before the first step was recorded",
    zh="在记录第一步之前，{what} 就不是有限数",
)
LOGGED = Text(
    en="{what} is not finite in {count} records, from step {step} on",
    zh="{what} 从第 {step} 步起在 {count} 条记录中不是有限数",
)
SAVED = Text(
    en="look at the batch saved in {saved_batch}; lower train.learning_rate, and use bf16 or fp32 instead of fp16",
    zh="查看保存在 {saved_batch} 的批次；降低 train.learning_rate，用 bf16 或 fp32 代替 fp16",
)
FIX = Text(
    en="lower train.learning_rate, and use bf16 or fp32 instead of fp16; look for rows without a trained token (TOK403)",
    zh="降低 train.learning_rate，用 bf16 或 fp32 代替 fp16；检查是否有没有被训练 token 的行（TOK403）",
)


def run(facts: Facts) -> Iterator[Finding]:
    past = facts.history
    if facts.run is None and past is not None and past.non_finite is not None:
        evidence = {"what": past.non_finite, "step": past.non_finite_step, "count": past.non_finite_count, "precision": past.precision, "peak_lr": past.peak_lr}
        yield Finding(code="RUN601", severity=Severity.ERROR, message=LOGGED, evidence=to_json(evidence), fix=FIX, where=past.path)
    seen = facts.run
    if seen is None or seen.non_finite is None:
        return
    last = seen.last
    evidence = to_json({
        "what": seen.non_finite, "step": last.step if last else None, "loss": last.loss if last else None,
        "grad_norm": last.grad_norm if last else None, "lr": last.lr if last else None,
        "trained_tokens": last.trained_tokens if last else None, "saved_batch": seen.saved_batch,
    })
    fix = SAVED if seen.saved_batch else AFTER if seen.non_finite in DAMAGED else FIX
    message = MESSAGE if last else AT_START
    yield Finding(code="RUN601", severity=Severity.ERROR, message=message, evidence=evidence, fix=fix, where=seen.saved_batch)


DAMAGED = ("update_norm", "evaluation loss")
"""Seen after the update: the weights are damaged already."""

CHECK = Check(
    code="RUN601",
    name="non_finite",
    stage=Stage.RUN,
    severity=Severity.ERROR,
    needs=("run",),
    instead="history",
    run=run,
    page=Page(
        title=Text(en="the loss or the gradient is not finite", zh="损失或梯度不是有限数"),
        what=Text(
            en="Whether the raw loss and the gradient norm of the step are finite, read before any logging filter. A run stops "
            "before the update, so that the weights stay good, and the batch is saved. In the records of a finished run: a printed loss, evaluation loss, "
            "or gradient norm to the end.",
            zh="在任何日志过滤器之前读取每步的原始损失和梯度范数，检查是否为有限数。训练在更新之前停止，权重不受污染，并保存该批次。对已结束训练的记录："
            "检查打印出的损失、评估损失，以及直到最后的梯度范数。",
        ),
        why=Text(
            en="After one such update every weight is NaN. transformers replaces NaN in its log by default "
            "(logging_nan_inf_filter), and the printed loss is a calm 0 (hiyouga/LLaMA-Factory#2810, #8088, #2916, #4850): "
            "TRL 1.16 and LLaMA-Factory 0.9.5 go on to the end, save the NaN model, and exit with 0.",
            zh="一次这样的更新就会让所有权重变成 NaN。transformers 默认在日志中替换 NaN（logging_nan_inf_filter），打印的损失是平静的 0"
            "（hiyouga/LLaMA-Factory#2810、#8088、#2916、#4850）：TRL 1.16 和 LLaMA-Factory 0.9.5 会一直跑到底，保存 NaN 模型，退出码为 0。",
        ),
        fix=Text(
            en="In this order: lower the learning rate; use bf16 or fp32 instead of fp16; look at the saved batch for rows that are "
            "broken or have no trained token. Then resume from the last checkpoint.",
            zh="依次尝试：降低学习率；用 bf16 或 fp32 代替 fp16；在保存的批次中查找损坏或没有被训练 token 的行。然后从最近的检查点续训。",
        ),
        example="""RUN601 runs/a/bad-batch-41.json: loss was not finite at step 41 (loss nan, gradient norm nan, learning rate 0.05)
  fix:      look at the batch saved in runs/a/bad-batch-41.json; lower train.learning_rate, and use bf16 or fp32 instead of fp16

train:
  learning_rate: 2e-5
  precision: bf16""",
    ),
    fires=(
        Facts(run=replace(RUN, non_finite="loss", saved_batch="runs/a/bad-batch-41.json",
                          last=replace(STEP, step=41, loss=float("nan"), grad_norm=float("nan"), lr=5e-2))),
        Facts(run=replace(RUN, non_finite="grad_norm", last=replace(STEP, grad_norm=float("inf")))),
        Facts(run=replace(RUN, non_finite="loss", last=None, planned_lr=None)),
        Facts(run=replace(RUN, non_finite="update_norm", last=replace(STEP, update_norm=float("inf")))),
        Facts(run=replace(RUN, non_finite="evaluation loss")),
        Facts(history=replace(PAST, non_finite="loss", non_finite_step=41, non_finite_count=12)),
    ),
    silent=(Facts(history=PAST), Facts(run=RUN), Facts(run=replace(RUN, last=None, planned_lr=None))),
)
