"""EXP721: an adapter that changes nothing, or that is broken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import ADAPTER
from gogpt.facts import Facts, Tally
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

BROKEN = Text(
    en="{count} of {tensors} tensors of the adapter hold values that are not finite (first {first})",
    zh="适配器的 {tensors} 个张量中有 {count} 个含有非有限值（首个：{first}）",
)
ZERO = Text(
    en="{count} of {total} lora_B of the adapter are zero (first {first}): those modules behave as the base",
    zh="适配器的 {total} 个 lora_B 中有 {count} 个为零（首个：{first}）：这些模块的行为与基座相同",
)
FIX = Text(
    en="train again, and look at the gradient norm of the first steps: with gradient checkpointing the inputs must require gradients",
    zh="重新训练，并查看前几步的梯度范数：使用梯度检查点时输入必须需要梯度",
)


def run(facts: Facts) -> Iterator[Finding]:
    adapter = facts.adapter
    assert adapter is not None
    if adapter.non_finite.count:
        yield Finding(code="EXP721", severity=Severity.ERROR, message=BROKEN, fix=FIX, where=adapter.path,
                      evidence={"count": adapter.non_finite.count, "tensors": adapter.tensors, "first": adapter.non_finite.first[0]})
    elif adapter.zero_b.count:
        severity = Severity.ERROR if adapter.zero_b.count == adapter.lora_b else Severity.WARNING
        yield Finding(code="EXP721", severity=severity, message=ZERO, fix=FIX, where=adapter.path,
                      evidence={"count": adapter.zero_b.count, "total": adapter.lora_b, "first": adapter.zero_b.first[0]})


CHECK = Check(
    code="EXP721",
    name="adapter_untrained",
    stage=Stage.EXPORT,
    severity=Severity.ERROR,
    needs=("adapter",),
    run=run,
    page=Page(
        title=Text(
            en="the adapter changes nothing",
            zh="适配器没有任何作用",
        ),
        what=Text(
            en="Every value of an adapter: whether all are finite, and whether any lora_B is still the zero that it began as. An error where all of them are, a warning where some are.",
            zh="检查适配器的每个值：是否全部有限，是否有 lora_B 仍为初始的零。全部为零时为错误，部分为零时为警告。",
        ),
        why=Text(
            en="lora_B begins as zero, so that base + adapter = base: one that is zero at the end was never moved (microsoft/LoRA#120, locuslab/open-unlearning#178: LoRA with gradient checkpointing got no gradient), and NaN weights are saved without a word (huggingface/trl#6702).",
            zh="lora_B 从零开始，此时基座 + 适配器 = 基座：训练结束仍为零说明它从未更新（microsoft/LoRA#120、locuslab/open-unlearning#178：LoRA 加梯度检查点没有得到梯度）；NaN 权重也会被悄悄保存（huggingface/trl#6702）。",
        ),
        fix=Text(
            en="Train again with a guard: gogpt train refuses to go on when the weights stand still (RUN604) or are not finite (RUN601).",
            zh="带上守卫重新训练：权重不动（RUN604）或非有限（RUN601）时 gogpt train 会停止。",
        ),
        example="""error EXP721 runs/a/final: 60 of 60 lora_B of the adapter are zero (first base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight): those modules behave as the base
  fix: train again, and look at the gradient norm of the first steps: with gradient checkpointing the inputs must require gradients

gradient_checkpointing_kwargs: {use_reentrant: false}""",
    ),
    fires=(
        Facts(adapter=replace(ADAPTER, zero_b=Tally(count=60, first=("base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight",)))),
        Facts(adapter=replace(ADAPTER, zero_b=Tally(count=2, first=("x.lora_B.weight",)))),
        Facts(adapter=replace(ADAPTER, non_finite=Tally(count=3, first=("x.lora_A.weight",)))),
    ),
    silent=(
        Facts(adapter=ADAPTER),
    ),
)
