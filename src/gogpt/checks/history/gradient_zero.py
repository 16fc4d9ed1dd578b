"""RUN668: no gradient arrives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import PAST
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="the gradient norm is exactly 0 in all {records} records, and the loss stays at {late}: no gradient reaches the trained weights",
    zh="全部 {records} 条记录的梯度范数恰为 0，损失停在 {late}：没有梯度到达被训练的权重",
)
FIX = Text(
    en="switch gradient_checkpointing off, or call enable_input_require_grads() on the base before adding LoRA; see that trainable parameters are above 0",
    zh="关闭 gradient_checkpointing，或在加 LoRA 之前对基座调用 enable_input_require_grads()；确认可训练参数数量大于 0",
)


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.history
    assert seen is not None
    if seen.num_grad_norms < 3 or seen.zero_grad_norms < seen.num_grad_norms or not seen.early_loss or seen.late_loss is None or seen.zero_losses:
        return  # a loss of 0 as well is RUN603's
    if seen.late_loss < 0.98 * seen.early_loss:
        return  # it learns: the norm is not logged right (as older DeepSpeed integrations have it)
    evidence = {"records": seen.num_grad_norms, "late": seen.late_loss, "early": seen.early_loss}
    yield Finding(code="RUN668", severity=Severity.ERROR, message=MESSAGE, evidence=evidence, fix=FIX, where=seen.path)


STILL = replace(PAST, zero_grad_norms=30, early_loss=2.11, late_loss=2.1, lowest_loss=2.05, loss_spread=0.1)

CHECK = Check(
    code="RUN668",
    name="gradient_zero",
    stage=Stage.HISTORY,
    severity=Severity.ERROR,
    needs=("history",),
    run=run,
    page=Page(
        title=Text(en="the gradient norm is 0 throughout", zh="梯度范数始终为 0"),
        what=Text(
            en="Whether every logged gradient norm is exactly 0 while the loss is above 0 and does not fall.",
            zh="检查记录的梯度范数是否全部恰为 0，而损失大于 0 且不下降。",
        ),
        why=Text(
            en="With LoRA and gradient checkpointing the inputs of a checkpointed block need a gradient themselves; without it the adapter gets none, and the run "
            "goes on to its end (microsoft/LoRA#120).",
            zh="LoRA 与梯度检查点同用时，检查点块的输入本身需要梯度；否则适配器得不到梯度，训练却会一直跑到结束（microsoft/LoRA#120）。",
        ),
        fix=Text(en="GoGPT proves before the first step that gradients arrive (RUN604). Elsewhere: enable_input_require_grads().", zh="GoGPT 会检查权重是否变化（RUN604）。其他工具：enable_input_require_grads()。"),
        example="""error RUN668 out: the gradient norm is exactly 0 in all 30 records, and the loss stays at 2.1: no gradient reaches the trained weights
  fix: switch gradient_checkpointing off, or call enable_input_require_grads() on the base before adding LoRA; see that trainable parameters are above 0

train:
  gradient_checkpointing: false""",
    ),
    fires=(Facts(history=STILL),),
    silent=(Facts(history=PAST), Facts(history=replace(STILL, late_loss=1.2)), Facts(history=replace(STILL, zero_grad_norms=29))),
)
