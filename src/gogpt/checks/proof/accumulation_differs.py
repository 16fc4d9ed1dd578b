"""MOD521: the same rows in one micro-batch and in several do not give the same loss and gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import ACCUMULATION, PROOFS
from gogpt.facts import Facts, to_json
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

LOSS = Text(
    en="{rows} rows of {trained_tokens} trained tokens have a mean loss of {loss_expected:.5g}; the run computes {loss_together:.5g} from one "
    "micro-batch of them and {loss_apart:.5g} from {rows} micro-batches",
    zh="{rows} 行共 {trained_tokens} 个参与训练的 token，平均损失为 {loss_expected:.5g}；本次训练把它们放进一个微批得到 {loss_together:.5g}，"
    "分成 {rows} 个微批得到 {loss_apart:.5g}",
)
GRADIENT = Text(
    en="the gradient of {rows} rows differs by {gradient_difference} (relative) between one micro-batch and {rows} micro-batches, "
    "although their loss is the same ({loss_apart:.5g})",
    zh="{rows} 行放进一个微批与分成 {rows} 个微批，损失相同（{loss_apart:.5g}），梯度却相差 {gradient_difference}（相对）",
)
FIX = Text(
    en="divide the summed loss once, by the number of trained tokens of the whole optimizer step; until then train with "
    "train.micro_batch_size equal to train.batch_size",
    zh="把损失之和只除一次，除以整个优化步的参与训练 token 数；在此之前令 train.micro_batch_size 等于 train.batch_size",
)


def run(facts: Facts) -> Iterator[Finding]:
    assert facts.proofs is not None
    proof = facts.proofs.accumulation
    assert proof is not None
    losses = (proof.loss_expected, proof.loss_together, proof.loss_apart)
    if not all(math.isfinite(x) for x in losses):
        return  # MOD523 names what is not finite
    off = max(abs(x - proof.loss_expected) for x in losses) / max(abs(proof.loss_expected), 1e-6)
    message = LOSS if off > proof.tolerance else GRADIENT if proof.gradient_difference > proof.tolerance else None
    if message is not None:
        evidence = to_json({**to_json(proof), "loss_difference": off, "gradient_difference": float(f"{proof.gradient_difference:.3g}")})
        yield Finding(code="MOD521", severity=Severity.ERROR, message=message, evidence=evidence, fix=FIX)


CHECK = Check(
    code="MOD521",
    name="accumulation_differs",
    stage=Stage.PROOF,
    severity=Severity.ERROR,
    needs=("proofs.accumulation",),
    run=run,
    page=Page(
        title=Text(en="accumulation changes the loss or the gradient", zh="梯度累积改变了损失或梯度"),
        what=Text(
            en="Before the first step, up to 4 short rows of the run's own go through its loss and backward pass twice: as one "
            "micro-batch, and as one micro-batch each, with dropout off. Both losses must equal the mean over all trained tokens, computed "
            "aside, and both gradients each other, within a relative 0.001 in fp32 (0.05 in bf16, 0.02 in fp16). Measured on "
            "SmolLM2-135M in float32: 2e-7 for the loss, 2e-6 for the gradient; a mean of means is off by 48% and 92% there.",
            zh="在第一步之前，取本次训练自己的至多 4 个短行，两次走过训练所用的损失与反向传播：一次作为一个微批，一次每行一个微批，dropout 关闭。"
            "两个损失都必须等于另行算出的全部参与训练 token 的平均值，两个梯度必须彼此相等，fp32 下相对误差不超过 0.001（bf16 为 0.05，fp16 为 0.02）。"
            "在 SmolLM2-135M（float32）上实测：损失为 2e-7，梯度为 2e-6；而“平均值的平均值”在同样的行上分别相差 48% 和 92%。",
        ),
        why=Text(
            en="A mean of means weighs a token in a short micro-batch more than one in a long one, so that the loss depends on how the "
            "batch was cut; a loss that ignores the divisor is k times too large with accumulation k. Both look healthy "
            "(huggingface/transformers#34242, #37766, #39392; axolotl-ai-cloud/axolotl#2262, 8 times too large; pytorch/torchtune#1875; "
            "modelscope/ms-swift#2363, where the advice was to train again).",
            zh="“平均值的平均值”让短微批中的 token 比长微批中的更重，损失取决于批次怎么切；忽略除数的损失在累积 k 次时大 k 倍。两者看上去都很正常"
            "（huggingface/transformers#34242、#37766、#39392；axolotl-ai-cloud/axolotl#2262，大了 8 倍；pytorch/torchtune#1875；"
            "modelscope/ms-swift#2363，维护者建议重新训练）。",
        ),
        fix=Text(
            en="GoGPT's own loss divides once. If this fires, something replaced it: a patched model or Trainer, or a release of "
            "transformers that divides again. Compare with pip freeze of an environment where it holds.",
            zh="GoGPT 自己的损失只除一次。若报此错，说明有东西替换了它：被打补丁的模型或 Trainer，或某个会再除一次的 transformers 版本。"
            "可与正常环境的 pip freeze 对比。",
        ),
        example="""error MOD521: 4 rows of 61 trained tokens have a mean loss of 3.1; the run computes 3.1 from one micro-batch of them and 12.9 from 4 micro-batches
  fix: divide the summed loss once, by the number of trained tokens of the whole optimizer step; until then train with train.micro_batch_size equal to train.batch_size

train:
  batch_size: 4
  micro_batch_size: 4""",
    ),
    fires=(
        Facts(proofs=replace(PROOFS, accumulation=replace(ACCUMULATION, loss_expected=3.1, loss_together=3.1, loss_apart=12.9, gradient_difference=3.2))),
        Facts(proofs=replace(PROOFS, accumulation=replace(ACCUMULATION, loss_together=180.0, loss_apart=180.0))),
        Facts(proofs=replace(PROOFS, accumulation=replace(ACCUMULATION, gradient_difference=0.4))),
        Facts(proofs=replace(PROOFS, accumulation=replace(ACCUMULATION, gradient_difference=float("inf")))),
    ),
    silent=(
        Facts(proofs=PROOFS),
        Facts(proofs=replace(PROOFS, precision="bf16", accumulation=replace(ACCUMULATION, tolerance=0.05, loss_apart=3.11, gradient_difference=0.02))),
        Facts(proofs=replace(PROOFS, accumulation=replace(ACCUMULATION, loss_together=float("nan"), gradient_difference=float("nan")))),
    ),
)
