"""RUN604: the weights do not move although the learning rate is above 0."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import RUN, STEP
from gogpt.facts import Facts, to_json
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

LIMIT = 3
"""Steps in a row. One may be an overflow that fp16 skips; three are none."""

SKIPPED_LIMIT = 20
"""fp16 steps skipped in a row. The loss scale starts at 65,536 and halves with each: after 16 it is 1."""

SKIPPED = Text(
    en="the fp16 loss scaler skipped the last {skipped_steps} steps in a row: nothing is learned",
    zh="fp16 损失缩放器已连续跳过最近 {skipped_steps} 步：什么也没有学到",
)
FIX_SKIPPED = Text(
    en="train.precision: bf16 or fp32; this model overflows in fp16",
    zh="设为 train.precision: bf16 或 fp32；该模型在 fp16 下溢出",
)
MESSAGE = Text(
    en="no trainable weight moved in the last {still_steps} steps (up to step {step}; learning rate {lr}, gradient norm {grad_norm})",
    zh="最近 {still_steps} 步没有任何可训练权重发生变化（至第 {step} 步；学习率 {lr}，梯度范数 {grad_norm}）",
)
UNRECORDED = Text(
    en="no trainable weight moved in the last {still_steps} steps",
    zh="最近 {still_steps} 步没有任何可训练权重发生变化",
)
FIX = Text(
    en="see that the optimizer holds the trainable parameters and that gradients reach them; keep trained weights in float32 (model.dtype: auto)",
    zh="确认优化器持有可训练参数且梯度能到达；被训练的权重保持 float32（model.dtype: auto）",
)


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.run
    assert seen is not None
    if seen.skipped_steps >= SKIPPED_LIMIT:
        evidence = {"skipped_steps": seen.skipped_steps, "limit": SKIPPED_LIMIT, "step": seen.last.step if seen.last else None}
        yield Finding(code="RUN604", severity=Severity.ERROR, message=SKIPPED, evidence=evidence, fix=FIX_SKIPPED)
        return
    if seen.still_steps < LIMIT:
        return
    last = seen.last
    evidence = to_json({
        "still_steps": seen.still_steps, "limit": LIMIT, "step": last.step if last else None, "lr": last.lr if last else None,
        "grad_norm": last.grad_norm if last else None, "update_norm": last.update_norm if last else None,
        "loss": last.loss if last else None,
    })
    message = MESSAGE if last else UNRECORDED
    yield Finding(code="RUN604", severity=Severity.ERROR, message=message, evidence=evidence, fix=FIX)


CHECK = Check(
    code="RUN604",
    name="weights_still",
    stage=Stage.RUN,
    severity=Severity.ERROR,
    needs=("run",),
    run=run,
    page=Page(
        title=Text(en="the weights do not move", zh="权重没有变化"),
        what=Text(
            en="The norm of the change of the trainable parameters after each step. It fires when the change is exactly 0 in three "
            "steps in a row whose learning rate is above 0.",
            zh="检查每步之后可训练参数变化量的范数。学习率大于 0 而连续三步变化恰为 0 时报错。",
        ),
        why=Text(
            en="A run can compute a loss forever without learning: LoRA together with gradient checkpointing gets no gradient when "
            "the inputs do not require one (microsoft/LoRA#120, open-unlearning#178); updates that are too small vanish in "
            "bf16 or fp16 weights; fp16 skips every step that overflows (huggingface/transformers#33086).",
            zh="训练可以一直计算损失却什么也没学：LoRA 与梯度检查点同用而输入不需要梯度时，得不到梯度（microsoft/LoRA#120、open-unlearning#178）；"
            "过小的更新会在 bf16 或 fp16 权重中消失；fp16 会跳过每个溢出的步（huggingface/transformers#33086）。",
        ),
        fix=Text(
            en="Gradient norm 0: gradients do not arrive; switch gradient_checkpointing off to see whether it is the cause. Gradient "
            "norm above 0: keep the trained weights in float32 (model.dtype: auto or float32) and use bf16 instead of fp16.",
            zh="梯度范数为 0：梯度没有到达，可先关闭 gradient_checkpointing 以确认是否为其所致。梯度范数大于 0：被训练的权重保持 float32"
            "（model.dtype: auto 或 float32），并用 bf16 代替 fp16。",
        ),
        example="""RUN604: no trainable weight moved in the last 3 steps (up to step 3; learning rate 0.00019, gradient norm 0.0)
  fix:      see that the optimizer holds the trainable parameters and that gradients reach them; keep trained weights in float32 (model.dtype: auto)

model: {path: models/base, dtype: auto}
train:
  gradient_checkpointing: false""",
    ),
    fires=(
        Facts(run=replace(RUN, still_steps=3, last=replace(STEP, step=3, grad_norm=0.0, update_norm=0.0))),
        Facts(run=replace(RUN, still_steps=12, last=None, planned_lr=None)),
    ),
    silent=(Facts(run=RUN), Facts(run=replace(RUN, still_steps=2, last=replace(STEP, update_norm=0.0)))),
)
