"""EXP720: an adapter without weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import ADAPTER
from gogpt.facts import Facts, Tally
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

UNREADABLE = Text(
    en="the adapter's weights cannot be used: {problem}",
    zh="无法使用适配器的权重：{problem}",
)
EMPTY = Text(
    en="{count} of {tensors} tensors of the adapter have no element (first {first})",
    zh="适配器的 {tensors} 个张量中有 {count} 个没有元素（首个：{first}）",
)
FIX = Text(
    en="save it again; under ZeRO-3 with stage3_gather_16bit_weights_on_model_save, and copy the whole file",
    zh="重新保存；在 ZeRO-3 下启用 stage3_gather_16bit_weights_on_model_save，并完整复制文件",
)


def run(facts: Facts) -> Iterator[Finding]:
    adapter = facts.adapter
    assert adapter is not None
    if adapter.problem:
        yield Finding(code="EXP720", severity=Severity.ERROR, message=UNREADABLE, evidence={"problem": adapter.problem}, fix=FIX, where=adapter.path)
    elif adapter.empty.count:
        yield Finding(code="EXP720", severity=Severity.ERROR, message=EMPTY, fix=FIX, where=adapter.path,
                      evidence={"count": adapter.empty.count, "tensors": adapter.tensors, "first": adapter.empty.first[0]})


CHECK = Check(
    code="EXP720",
    name="adapter_empty",
    stage=Stage.EXPORT,
    severity=Severity.ERROR,
    needs=("adapter",),
    run=run,
    page=Page(
        title=Text(
            en="an adapter without weights",
            zh="适配器没有权重",
        ),
        what=Text(
            en="Whether adapter_model.safetensors is there and whole, holds tensors, and each of them has elements.",
            zh="检查 adapter_model.safetensors 是否存在且完整、是否含有张量、每个张量是否有元素。",
        ),
        why=Text(
            en="An adapter that is saved under ZeRO-3 without gathering holds tensors of size 0; it loads, and the model behaves as its base (huggingface/trl#4416, huggingface/peft#2892, #2450, deepspeedai/DeepSpeed#7900).",
            zh="在 ZeRO-3 下未聚合就保存的适配器，张量大小为 0；它能加载，但模型表现与基座相同（huggingface/trl#4416、huggingface/peft#2892、#2450、deepspeedai/DeepSpeed#7900）。",
        ),
        fix=Text(
            en="Gather on saving, or convert the checkpoint with zero_to_fp32.py; then check the folder again.",
            zh="保存时聚合，或用 zero_to_fp32.py 转换检查点，然后重新检查该目录。",
        ),
        example="""error EXP720 runs/a/final: 120 of 120 tensors of the adapter have no element (first base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight)
  fix: save it again; under ZeRO-3 with stage3_gather_16bit_weights_on_model_save, and copy the whole file

{"zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": true}}""",
    ),
    fires=(
        Facts(adapter=replace(ADAPTER, empty=Tally(count=120, first=("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",)))),
        Facts(adapter=replace(ADAPTER, tensors=0, problem="adapter_model.safetensors is missing")),
    ),
    silent=(
        Facts(adapter=ADAPTER),
    ),
)
