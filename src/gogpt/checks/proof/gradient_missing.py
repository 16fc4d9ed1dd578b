"""MOD523: a trainable tensor gets no gradient, or one that is not finite."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import GRADIENTS, PROOFS
from gogpt.facts import Facts, Tally
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

DETACHED = Text(
    en="the loss has no gradient: none of the {tensors} trainable tensors is connected to it",
    zh="损失没有梯度：{tensors} 个可训练张量无一与它相连",
)
LOSS = Text(
    en="the loss of a few rows of the data is not finite before the first step",
    zh="第一步之前，几行数据的损失就不是有限数",
)
NON_FINITE = Text(
    en="{count} of {tensors} trainable tensors get a gradient that is not finite: {names}",
    zh="{tensors} 个可训练张量中有 {count} 个的梯度不是有限数：{names}",
)
MISSING = Text(
    en="{count} of {tensors} trainable tensors get no gradient although their modules run: {names}",
    zh="{tensors} 个可训练张量中有 {count} 个得不到梯度，尽管其模块参与了计算：{names}",
)
ZERO = Text(
    en="the gradient of all {tensors} trainable tensors is exactly 0",
    zh="{tensors} 个可训练张量的梯度全部恰为 0",
)
UNREACHED = Text(
    en="{count} of {tensors} trainable tensors belong to modules that the data does not reach, and will not be trained: {names}",
    zh="{tensors} 个可训练张量中有 {count} 个属于数据到达不了的模块，不会被训练：{names}",
)
FIX_VALUES = Text(
    en="look for damaged weights in the base model (download it again), and use bf16 or fp32 instead of fp16",
    zh="检查基座模型的权重是否损坏（可重新下载），并用 bf16 或 fp32 代替 fp16",
)
FIX_PATH = Text(
    en="find what cuts the path: gradient_checkpointing with inputs that need no gradient, torch.no_grad or detach in the model's code",
    zh="找出切断路径之处：输入不需要梯度时的 gradient_checkpointing，或模型代码中的 torch.no_grad、detach",
)
FIX_UNREACHED = Text(
    en="leave those modules out: name the modules to train in method.targets",
    zh="去掉这些模块：在 method.targets 中写明要训练的模块",
)


def run(facts: Facts) -> Iterator[Finding]:
    assert facts.proofs is not None
    proof = facts.proofs.gradients
    assert proof is not None
    severity, told = Severity.ERROR, Tally()
    if not proof.attached:
        message, fix = DETACHED, FIX_PATH
    elif proof.non_finite.count:
        message, fix, told = NON_FINITE, FIX_VALUES, proof.non_finite
    elif not proof.loss_finite:
        message, fix = LOSS, FIX_VALUES
    elif proof.missing.count:
        message, fix, told = MISSING, FIX_PATH, proof.missing
    elif proof.zero >= proof.tensors - proof.unreached.count:
        message, fix = ZERO, FIX_PATH
    elif proof.unreached.count:
        message, fix, told, severity = UNREACHED, FIX_UNREACHED, proof.unreached, Severity.WARNING
    else:
        return
    evidence = {"tensors": proof.tensors, "count": told.count, "names": ", ".join(told.first) + (", ..." if told.count > len(told.first) else ""),
                "zero": proof.zero, "loss_finite": proof.loss_finite}
    yield Finding(code="MOD523", severity=severity, message=message, evidence=evidence, fix=fix)


CHECK = Check(
    code="MOD523",
    name="gradient_missing",
    stage=Stage.PROOF,
    severity=Severity.ERROR,
    needs=("proofs.gradients",),
    run=run,
    page=Page(
        title=Text(en="trainable weights get no gradient", zh="可训练权重得不到梯度"),
        what=Text(
            en="Before the first step, one backward pass over a few short rows, with gradient checkpointing where the run uses it. Every "
            "trainable tensor whose module ran must have a gradient, and a finite one; not all of them may be 0. Gradients that are 0 by "
            "design are fine: lora_A at the start, because lora_B is 0; embedding rows of tokens that do not occur; experts without a "
            "token. Tensors of modules that did not run are told as a warning.",
            zh="在第一步之前对几个短行做一次反向传播；训练若使用梯度检查点，这里也使用。每个可训练张量，只要其模块参与了计算，就必须有梯度，且是有限数；"
            "不能全部为 0。本来就该为 0 的不算：开始时 lora_B 为 0，因此 lora_A 的梯度为 0；未出现的 token 的嵌入行；没有分到 token 的专家。"
            "未参与计算的模块的张量以警告告知。",
        ),
        why=Text(
            en="LoRA together with gradient checkpointing gets no gradient when the inputs do not require one, and the loss goes on being "
            "printed (microsoft/LoRA#120, locuslab/open-unlearning#178). One broken weight makes every gradient NaN, which filters hide "
            "(hiyouga/LLaMA-Factory#2810, #8088).",
            zh="LoRA 与梯度检查点同用而输入不需要梯度时得不到梯度，而损失照常打印（microsoft/LoRA#120、locuslab/open-unlearning#178）。"
            "一个损坏的权重会让所有梯度变成 NaN，而日志过滤器会把它藏起来（hiyouga/LLaMA-Factory#2810、#8088）。",
        ),
        fix=Text(
            en="No gradient: switch train.gradient_checkpointing off to see whether it is the cause, and look at the model's own code for the "
            "modules named. Not finite: load the base model elsewhere and look for NaN in its weights.",
            zh="没有梯度：先关闭 train.gradient_checkpointing 看是否为其所致，再查看所列模块在模型代码中的用法。不是有限数：在别处加载基座模型，"
            "检查其权重中是否有 NaN。",
        ),
        example="""error MOD523: 2 of 60 trainable tensors get no gradient although their modules run: model.layers.0.mlp.up_proj.weight, model.layers.1.mlp.up_proj.weight
  fix: find what cuts the path: gradient_checkpointing with inputs that need no gradient, torch.no_grad or detach in the model's code

train:
  gradient_checkpointing: false""",
    ),
    fires=(
        Facts(proofs=replace(PROOFS, gradients=replace(GRADIENTS, tensors=60, missing=Tally(
            count=2, first=("model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"))))),
        Facts(proofs=replace(PROOFS, gradients=replace(GRADIENTS, attached=False, zero=0))),
        Facts(proofs=replace(PROOFS, gradients=replace(GRADIENTS, loss_finite=False))),
        Facts(proofs=replace(PROOFS, gradients=replace(GRADIENTS, loss_finite=False, non_finite=Tally(count=9, first=("a", "b", "c", "d", "e"))))),
        Facts(proofs=replace(PROOFS, gradients=replace(GRADIENTS, zero=GRADIENTS.tensors))),
        Facts(proofs=replace(PROOFS, gradients=replace(GRADIENTS, unreached=Tally(count=2, first=("vision.proj.weight", "vision.proj.bias"))))),
    ),
    silent=(Facts(proofs=PROOFS), Facts(proofs=replace(PROOFS, gradients=replace(GRADIENTS, zero=0)))),
)
