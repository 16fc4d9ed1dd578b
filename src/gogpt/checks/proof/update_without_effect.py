"""MOD524: a step of the optimizer moves nothing, or changes nothing in what the model says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import GRADIENTS, PROOFS, UPDATE
from gogpt.facts import Facts, to_json
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

STILL = Text(
    en="a step of the optimizer at learning rate {learning_rate} moves none of {tensors} trainable tensors",
    zh="学习率为 {learning_rate} 的一个优化步没有移动 {tensors} 个可训练张量中的任何一个",
)
DEAF = Text(
    en="a step moves {moved} of {tensors} trainable tensors, but no token's loss changes, however large the step: they have no part in the output",
    zh="一个优化步移动了 {tensors} 个可训练张量中的 {moved} 个，但无论步子多大，没有任何 token 的损失发生变化：它们不参与输出",
)
BURST = Text(
    en="after a single step at learning rate {learning_rate} the loss is not finite (before: {loss_before})",
    zh="以学习率 {learning_rate} 走一步之后，损失就不是有限数（之前为 {loss_before}）",
)
FIX_STILL = Text(
    en="keep trained weights in float32 (model.dtype: auto), raise train.learning_rate, and see that the optimizer holds the trainable parameters",
    zh="被训练的权重保持 float32（model.dtype: auto），提高 train.learning_rate，并确认优化器持有可训练参数",
)
FIX_DEAF = Text(
    en="set method.alpha above 0, and see that the adapter is active and its modules are those that the model calls",
    zh="将 method.alpha 设为大于 0，并确认适配器处于启用状态、其模块正是模型所调用的模块",
)
FIX_BURST = Text(en="lower train.learning_rate, or method.alpha", zh="降低 train.learning_rate 或 method.alpha")


def run(facts: Facts) -> Iterator[Finding]:
    assert facts.proofs is not None
    proof = facts.proofs.adapter
    assert proof is not None
    flow = facts.proofs.gradients
    if not math.isfinite(proof.loss_before) or (flow is not None and flow.zero + flow.unreached.count >= flow.tensors):
        return  # MOD523 names what is not finite, and gradients that are 0
    if not (math.isfinite(proof.loss_after) and math.isfinite(proof.update_norm)):
        message, fix = BURST, FIX_BURST
    elif proof.moved == 0:
        message, fix = STILL, FIX_STILL
    elif proof.effect == 0.0 and proof.effect_enlarged == 0.0:
        message, fix = DEAF, FIX_DEAF
    else:
        return
    yield Finding(code="MOD524", severity=Severity.ERROR, message=message, evidence=to_json(proof), fix=fix)


CHECK = Check(
    code="MOD524",
    name="update_without_effect",
    stage=Stage.PROOF,
    severity=Severity.ERROR,
    needs=("proofs.adapter",),
    run=run,
    page=Page(
        title=Text(en="a step changes nothing", zh="优化步不起作用"),
        what=Text(
            en="Before the first step, one step of the run's own optimizer at the peak learning rate, over a few short rows; weights, "
            "optimizer and random numbers are put back bit for bit. Weights must move (under LoRA lora_B leaves 0), the loss must stay finite, "
            "and the loss of some token must change. Where it does not, the step is enlarged until a weight changes by 0.05: a learning rate "
            "that is merely small is CFG211's matter. Of large models a sample of about 34 million elements takes part.",
            zh="在第一步之前，用训练自己的优化器以峰值学习率在几个短行上走一步；权重、优化器和随机数随后逐位还原。权重必须移动（LoRA 下 lora_B 离开 0），"
            "损失必须仍是有限数，且必须有某个 token 的损失发生变化。若没有变化，就把这一步放大到有权重变化 0.05 为止：仅仅是学习率小，由 CFG211 负责。"
            "大模型只取约 3400 万个元素参与。",
        ),
        why=Text(
            en="A run can print a loss for days without learning: an adapter that is not called or scaled by 0, an optimizer that holds "
            "copies, half-precision weights in which small updates vanish (microsoft/LoRA#120, locuslab/open-unlearning#178, "
            "huggingface/transformers#33086). A rate that ruins the model in one step ends in NaN behind a filter "
            "(hiyouga/LLaMA-Factory#2810).",
            zh="训练可以连日打印损失却什么也没学到：适配器没有被调用或被乘以 0，优化器持有的是副本，半精度权重吞掉了小更新"
            "（microsoft/LoRA#120、locuslab/open-unlearning#178、huggingface/transformers#33086）。一步就毁掉模型的学习率，最后成为被过滤器藏起来的 NaN"
            "（hiyouga/LLaMA-Factory#2810）。",
        ),
        fix=Text(
            en="Nothing moves: keep the trained weights in float32 and look at train.trainer settings that replace the optimizer. No effect: "
            "look at method.alpha and method.targets. Not finite: lower the learning rate.",
            zh="没有移动：被训练的权重保持 float32，检查 train.trainer 中替换优化器的设置。没有影响：检查 method.alpha 与 method.targets。"
            "不是有限数：降低学习率。",
        ),
        example="""error MOD524: a step moves 210 of 420 trainable tensors, but no token's loss changes, however large the step: they have no part in the output
  fix: set method.alpha above 0, and see that the adapter is active and its modules are those that the model calls

method: {kind: lora, rank: 16, alpha: 32}""",
    ),
    fires=(
        Facts(proofs=replace(PROOFS, adapter=replace(UPDATE, effect=0.0, effect_enlarged=0.0, loss_after=UPDATE.loss_before))),
        Facts(proofs=replace(PROOFS, adapter=replace(UPDATE, moved=0, update_norm=0.0, effect=0.0, learning_rate=1e-12))),
        Facts(proofs=replace(PROOFS, adapter=replace(UPDATE, loss_after=float("nan"), effect=float("nan"), learning_rate=1e20))),
        Facts(proofs=replace(PROOFS, adapter=replace(UPDATE, update_norm=float("inf")))),
    ),
    silent=(
        Facts(proofs=PROOFS),
        Facts(proofs=replace(PROOFS, adapter=replace(UPDATE, effect=0.0, effect_enlarged=0.8))),
        Facts(proofs=replace(PROOFS, adapter=replace(UPDATE, loss_before=float("nan"), loss_after=float("nan")))),
        Facts(proofs=replace(PROOFS, gradients=replace(GRADIENTS, zero=GRADIENTS.tensors), adapter=replace(UPDATE, moved=0, effect=0.0))),
    ),
)
