"""CFG275: an adapter is merged into a quantised model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import FOREIGN
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="the adapter is merged into {model} in {bits} bits: the merged weights are rounded, and are not those that were trained",
    zh="适配器被合并进 {bits} 位的 {model}：合并后的权重经过舍入，不再是训练所得",
)
FIX = Text(
    en="take {key} out, and merge into the model in bfloat16 or float32",
    zh="去掉 {key}，合并到 bfloat16 或 float32 的模型",
)


def run(facts: Facts) -> Iterator[Finding]:
    file = facts.foreign
    assert file is not None
    if file.purpose == "merge" and file.quantised:
        yield Finding(code="CFG275", severity=Severity.ERROR, message=MESSAGE, evidence={"model": file.model, "bits": file.quantised, "key": file.key("quantised")}, fix=FIX,
                      where=file.at(file.key("quantised")))


CHECK = Check(
    code="CFG275",
    name="foreign_merge_quantised",
    stage=Stage.FOREIGN,
    severity=Severity.ERROR,
    needs=("foreign",),
    run=run,
    page=Page(
        title=Text(
            en="an adapter merged into a quantised model",
            zh="适配器合并进了量化模型",
        ),
        what=Text(
            en="Whether a configuration that merges an adapter (LLaMA-Factory's export, Axolotl's merge_lora) loads the model in 4 or 8 bits.",
            zh="检查合并适配器的配置（LLaMA-Factory 的 export、Axolotl 的 merge_lora）是否以 4 或 8 位加载模型。",
        ),
        why=Text(
            en="An adapter trained with QLoRA fits the dequantised weights in full precision; rounding the sum to 4 bits again takes away what is smaller than a step of the grid (unslothai/unsloth-zoo PR#810, huggingface/peft#2321, #1043).",
            zh="QLoRA 训练的适配器对应全精度的反量化权重；把两者之和再次舍入到 4 位，会丢掉小于网格间距的部分（unslothai/unsloth-zoo PR#810、huggingface/peft#2321、#1043）。",
        ),
        fix=Text(
            en="Merge without quantisation, then quantise the result if it must be small.",
            zh="不量化地合并；若需要小模型，再量化结果。",
        ),
        example="""error CFG275 lf.yaml:5: the adapter is merged into models/base in 4 bits: the merged weights are rounded, and are not those that were trained
  fix: take quantization_bit out, and merge into the model in bfloat16 or float32

model_name_or_path: models/base
adapter_name_or_path: out/lora
export_dir: out/merged""",
    ),
    fires=(
        Facts(foreign=replace(FOREIGN, purpose="merge", quantised=4, places={"quantization_bit": "lf.yaml:5"})),
    ),
    silent=(
        Facts(foreign=FOREIGN),
        Facts(foreign=replace(FOREIGN, purpose="merge")),
        Facts(foreign=replace(FOREIGN, method="qlora", quantised=4)),
    ),
)
